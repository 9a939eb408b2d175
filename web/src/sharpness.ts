/** The amount of detail in a crop; few pixels, blur and strong compression lower it. */

const COARSE_PX = 16; // structure finer than this counts; structure finer than a quarter of it is detail
const FLOOR = 1e-6;

/**
 * The log of the share of variation finer than 16 px that is finer than 4 px, for one crop uint8 [S, S, 3], S >= 16.
 *
 * It does not depend on contrast and brightness. A face with many pixels has about -1.7, an enlarged face of 16 pixels -2.5.
 */
export function sharpness(crop: Uint8Array, side: number): number {
  const kept = Math.floor(side / COARSE_PX) * COARSE_PX;
  const picture = new Float32Array(kept * kept);
  for (let y = 0; y < kept; y++) {
    for (let x = 0; x < kept; x++) picture[y * kept + x] = crop[(y * side + x) * 3 + 1] - 128; // green
  }
  const withoutDetail = means(picture, kept);
  const coarse = means(withoutDetail, kept / 4);
  const [all, left, rest] = [picture, withoutDetail, coarse].map(energy);
  const share = Math.max(all - left, 0) / (Math.max(all - rest, 0) + FLOOR);
  return Math.log(share + FLOOR);
}

function means(picture: Float32Array, side: number): Float32Array {
  const small = side / 4;
  const rows = new Float32Array(small * side);
  for (let y = 0; y < small; y++) {
    for (let x = 0; x < side; x++) {
      const at = 4 * y * side + x;
      rows[y * side + x] = (picture[at] + picture[at + side] + picture[at + 2 * side] + picture[at + 3 * side]) / 4;
    }
  }
  const out = new Float32Array(small * small);
  for (let y = 0; y < small; y++) {
    for (let x = 0; x < small; x++) {
      const at = y * side + 4 * x;
      out[y * small + x] = (rows[at] + rows[at + 1] + rows[at + 2] + rows[at + 3]) / 4;
    }
  }
  return out;
}

function energy(picture: Float32Array): number {
  let sum = 0;
  for (const p of picture) sum += p * p;
  return sum / picture.length;
}
