/**
 * The crop contract: the part of a picture that the model reads for a face. The numbers equal those of `crops.py` in Python.
 *
 * A similarity transform (least squares over all five landmarks) maps the face to the template in the spec. The source is
 * shrunk by area until at most 2 px remain per crop px, then sampled bilinearly; pixels outside replicate the border.
 */
import type { Landmarks } from "./faces.js";
import { clamp, roundHalfEven } from "./numbers.js";
import { type Pixels, shrinkByArea } from "./pixels.js";
import type { CropSpec } from "./spec.js";

const MAX_SAMPLING_SCALE = 2; // maximum source px per crop px for bilinear sampling

/** Affine matrix [2, 3] from crop px to source px, row by row. */
export type Matrix = [number, number, number, number, number, number];

/** Crop one face: uint8 [S, S, 3] RGB. */
export function cropFace(picture: Pixels, landmarks: Landmarks, crop: CropSpec): Uint8Array {
  return cut(picture, alignment(landmarks, crop), crop.side);
}

/** The similarity that fits all five landmarks best; the landmarks' origin is the corner of the first pixel. */
export function alignment(landmarks: Landmarks, crop: CropSpec): Matrix {
  const target = crop.landmarks.map(([x, y]) => [x * crop.side - 0.5, y * crop.side - 0.5]);
  const source = landmarks.map(([x, y]) => [x - 0.5, y - 0.5]);
  const [tx, ty] = mean(target);
  const [sx, sy] = mean(source);
  let real = 0;
  let imaginary = 0;
  let norm = 0;
  for (let i = 0; i < 5; i++) {
    const [u, v] = [target[i][0] - tx, target[i][1] - ty];
    const [p, q] = [source[i][0] - sx, source[i][1] - sy];
    real += u * p + v * q;
    imaginary += u * q - v * p;
    norm += u * u + v * v;
  }
  const a = real / norm;
  const b = imaginary / norm;
  return [a, -b, sx - (a * tx - b * ty), b, a, sy - (b * tx + a * ty)];
}

/** Sample a [side, side, 3] RGB square through an affine matrix from crop px to source px. */
export function cut(picture: Pixels, toSource: Matrix, side: number): Uint8Array {
  const shrink = Math.hypot(toSource[0], toSource[3]) / MAX_SAMPLING_SCALE;
  const [source, matrix] = shrink > 1 ? shrunk(picture, toSource, side, shrink) : [picture, toSource];
  return sample(source, matrix, side);
}

/** The region of the picture that is needed, shrunk by area, and the matrix for this region. */
function shrunk(picture: Pixels, m: Matrix, side: number, shrink: number): [Pixels, Matrix] {
  const last = side - 1;
  const corners = [[0, 0], [last, 0], [0, last], [last, last]];
  const xs = corners.map(([x, y]) => m[0] * x + m[1] * y + m[2]);
  const ys = corners.map(([x, y]) => m[3] * x + m[4] * y + m[5]);
  const margin = Math.ceil(2 * shrink);
  const { width, height } = picture;
  const x0 = clamp(Math.floor(Math.min(...xs)) - margin, 0, width - 1);
  const y0 = clamp(Math.floor(Math.min(...ys)) - margin, 0, height - 1);
  const x1 = clamp(Math.ceil(Math.max(...xs)) + margin + 1, x0 + 1, width);
  const y1 = clamp(Math.ceil(Math.max(...ys)) + margin + 1, y0 + 1, height);
  const newWidth = Math.max(1, roundHalfEven((x1 - x0) / shrink));
  const newHeight = Math.max(1, roundHalfEven((y1 - y0) / shrink));
  const [rx, ry] = [newWidth / (x1 - x0), newHeight / (y1 - y0)];
  return [
    shrinkByArea(picture, { x0, y0, x1, y1 }, newWidth, newHeight),
    [m[0] * rx, m[1] * rx, (m[2] + 0.5 - x0) * rx - 0.5, m[3] * ry, m[4] * ry, (m[5] + 0.5 - y0) * ry - 0.5],
  ];
}

/** Bilinear sampling in OpenCV's fixed point (positions in 1 / 32 px), so that every pixel rounds as in OpenCV. */
function sample(picture: Pixels, m: Matrix, side: number): Uint8Array {
  const { data, width, height } = picture;
  const out = new Uint8Array(side * side * 3);
  const columnX = Array.from({ length: side }, (_, x) => roundHalfEven(m[0] * x * 1024));
  const columnY = Array.from({ length: side }, (_, x) => roundHalfEven(m[3] * x * 1024));
  for (let y = 0, to = 0; y < side; y++) {
    const rowX = roundHalfEven((m[1] * y + m[2]) * 1024) + 16;
    const rowY = roundHalfEven((m[4] * y + m[5]) * 1024) + 16;
    for (let x = 0; x < side; x++) {
      const placeX = (rowX + columnX[x]) >> 5;
      const placeY = (rowY + columnY[x]) >> 5;
      const right = placeX & 31;
      const down = placeY & 31;
      const x0 = clamp(placeX >> 5, 0, width - 1);
      const x1 = clamp((placeX >> 5) + 1, 0, width - 1);
      const r0 = clamp(placeY >> 5, 0, height - 1) * width;
      const r1 = clamp((placeY >> 5) + 1, 0, height - 1) * width;
      const [a, b, c, d] = [(r0 + x0) * 4, (r0 + x1) * 4, (r1 + x0) * 4, (r1 + x1) * 4];
      const [wa, wb, wc, wd] = [(32 - right) * (32 - down), right * (32 - down), (32 - right) * down, right * down];
      for (let channel = 0; channel < 3; channel++) {
        const sum = data[a + channel] * wa + data[b + channel] * wb + data[c + channel] * wc + data[d + channel] * wd;
        out[to++] = (sum + 512) >> 10;
      }
    }
  }
  return out;
}

function mean(points: number[][]): [number, number] {
  const sum = points.reduce(([a, b], [x, y]) => [a + x, b + y], [0, 0]);
  return [sum[0] / points.length, sum[1] / points.length];
}
