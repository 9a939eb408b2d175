/** Pictures from the browser, shrunk by area or enlarged bilinearly, with the same numbers as OpenCV's INTER_AREA and INTER_LINEAR. */
import { roundHalfEven } from "./numbers.js";

/** RGBA pixels, 4 bytes each, row by row, such as an ImageData. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray | Uint8Array;
}

/** A region of a plane of pixels. */
export interface Part {
  readonly x0: number;
  readonly y0: number;
  readonly x1: number; // exclusive
  readonly y1: number;
}

const ONE = 2048; // 1 as a weight of the enlargement

/** Enlarge a region of a picture bilinearly to `width` x `height`. Weights and sums are integers, as in OpenCV. */
export function enlarge(picture: Pixels, part: Part, width: number, height: number): Pixels {
  const columns = linearTaps(part.x1 - part.x0, width);
  const rows = linearTaps(part.y1 - part.y0, height);
  const out = new Uint8Array(width * height * 4).fill(255);
  const lines = [new Int32Array(width * 3), new Int32Array(width * 3)]; // two rows of the region, enlarged horizontally
  const lineRow = [-1, -1];
  for (let y = 0; y < height; y++) {
    const [above, below] = [rows.first[y], rows.second[y]].map((row) => {
      const at = row & 1; // neighbouring rows take turns
      if (lineRow[at] !== row) {
        lineRow[at] = row;
        enlargeLine(picture.data, ((part.y0 + row) * picture.width + part.x0) * 4, columns, lines[at]);
      }
      return lines[at];
    });
    const weight = rows.weight[y];
    for (let i = 0, to = y * width * 4; i < above.length; i += 3, to += 4) {
      for (let c = 0; c < 3; c++) {
        const first = ((ONE - weight) * (above[i + c] >> 4)) >> 16;
        const second = (weight * (below[i + c] >> 4)) >> 16;
        out[to + c] = (first + second + 2) >> 2;
      }
    }
  }
  return { width, height, data: out };
}

function enlargeLine(data: Uint8ClampedArray | Uint8Array, start: number, columns: LinearTaps, line: Int32Array): void {
  const { first, second, weight } = columns;
  for (let x = 0, i = 0; x < first.length; x++, i += 3) {
    const left = start + 4 * first[x];
    const right = start + 4 * second[x];
    for (let c = 0; c < 3; c++) line[i + c] = data[left + c] * (ONE - weight[x]) + data[right + c] * weight[x];
  }
}

/** The two source pixels of each new pixel of a line, and the weight of the second; the first has the rest of ONE. */
interface LinearTaps {
  first: Int32Array;
  second: Int32Array;
  weight: Int32Array;
}

function linearTaps(before: number, after: number): LinearTaps {
  const scale = 1 / (after / before);
  const taps = { first: new Int32Array(after), second: new Int32Array(after), weight: new Int32Array(after) };
  for (let i = 0; i < after; i++) {
    const at = Math.fround((i + 0.5) * scale - 0.5);
    const whole = Math.floor(at);
    taps.first[i] = Math.min(Math.max(whole, 0), before - 1);
    taps.second[i] = Math.min(Math.max(whole + 1, 0), before - 1);
    taps.weight[i] = roundHalfEven(Math.fround(at - whole) * ONE);
  }
  return taps;
}

/** Shrink a region of a picture by area to `width` x `height`, which must not exceed the region's. */
export function shrinkByArea(picture: Pixels, part: Part, width: number, height: number): Pixels {
  return { width, height, data: shrinkPlane(picture.data, picture.width, 4, part, width, height) };
}

/**
 * The same for `step` bytes per pixel and `stride` px per row; with 4 bytes, the last (alpha) becomes 255.
 *
 * Sums are float32, in OpenCV's order, so that every pixel rounds as in OpenCV.
 */
export function shrinkPlane(
  data: Uint8ClampedArray | Uint8Array, stride: number, step: 1 | 4, part: Part, width: number, height: number,
): Uint8Array {
  const [partWidth, partHeight] = [part.x1 - part.x0, part.y1 - part.y0];
  const channels = step === 4 ? 3 : 1;
  const out = new Uint8Array(width * height * step).fill(step === 4 ? 255 : 0);
  if (partWidth % width === 0 && partHeight % height === 0) {
    const [across, down] = [partWidth / width, partHeight / height];
    const share = Math.fround(1 / (across * down));
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let row = 0; row < down; row++) {
            const from = ((part.y0 + y * down + row) * stride + part.x0 + x * across) * step + c;
            for (let i = 0; i < across; i++) sum += data[from + i * step];
          }
          const to = (y * width + x) * step + c;
          out[to] = across === 2 && down === 2 ? (sum + 2) >> 2 : roundHalfEven(Math.fround(sum * share));
        }
      }
    }
    return out;
  }
  const columns = areaTaps(partWidth, width);
  const rows = areaTaps(partHeight, height);
  const line = new Float32Array(width * channels); // one row of the region, shrunk horizontally
  const sums = new Float32Array(width * channels);
  let lineRow = -1;
  for (let y = 0; y < height; y++) {
    for (let r = rows.first[y]; r < rows.first[y + 1]; r++) {
      const row = rows.from[r];
      if (row !== lineRow) {
        lineRow = row;
        shrinkLine(data, ((part.y0 + row) * stride + part.x0) * step, step, columns, line);
      }
      const weight = rows.weight[r];
      if (r === rows.first[y]) for (let i = 0; i < sums.length; i++) sums[i] = weight * line[i];
      else for (let i = 0; i < sums.length; i++) sums[i] += Math.fround(weight * line[i]);
    }
    for (let x = 0, i = 0; x < width; x++) {
      for (let c = 0; c < channels; c++, i++) out[(y * width + x) * step + c] = roundHalfEven(sums[i]);
    }
  }
  return out;
}

function shrinkLine(
  data: Uint8ClampedArray | Uint8Array, start: number, step: number, columns: Taps, line: Float32Array,
): void {
  const { first, from, weight } = columns;
  const round = Math.fround;
  let i = 0;
  for (let x = 0; x < first.length - 1; x++) {
    let [r, g, b] = [0, 0, 0];
    for (let t = first[x]; t < first[x + 1]; t++) {
      const at = start + from[t] * step;
      const w = weight[t];
      r = round(r + round(data[at] * w));
      if (step === 1) continue;
      g = round(g + round(data[at + 1] * w));
      b = round(b + round(data[at + 2] * w));
    }
    line[i++] = r;
    if (step === 1) continue;
    line[i++] = g;
    line[i++] = b;
  }
}

/** The source pixels of each new pixel of a line: those of pixel i are at first[i] to first[i + 1]. */
interface Taps {
  first: Int32Array;
  from: Int32Array;
  weight: Float32Array; // the weights of a pixel sum to 1
}

function areaTaps(before: number, after: number): Taps {
  const scale = before / after;
  const tiny = 1e-3;
  const first = new Int32Array(after + 1);
  const from: number[] = [];
  const weight: number[] = [];
  const tap = (at: number, share: number) => {
    from.push(at);
    weight.push(share);
  };
  for (let i = 0; i < after; i++) {
    const start = i * scale;
    const end = start + scale;
    const cell = Math.min(scale, before - start);
    const last = Math.min(Math.floor(end), before - 1);
    const whole = Math.min(Math.ceil(start), last);
    if (whole - start > tiny) tap(whole - 1, (whole - start) / cell);
    for (let at = whole; at < last; at++) tap(at, 1 / cell);
    if (end - last > tiny) tap(last, Math.min(end - last, 1, cell) / cell);
    first[i + 1] = from.length;
  }
  return { first, from: Int32Array.from(from), weight: Float32Array.from(weight) };
}
