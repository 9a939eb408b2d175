/**
 * Between two detections, faces are tracked by the optical flow of their landmarks, which is much cheaper.
 *
 * Lucas-Kanade on an image pyramid (Bouguet, "Pyramidal implementation of the affine Lucas Kanade feature tracker", 2001),
 * forward and backward: a point that does not return to its start is lost (Kalal et al., "Forward-backward error",
 * ICPR 2010). The similarity that fits the points best moves box and landmarks. The steps, and their fixed-point numbers,
 * are those of OpenCV's calcOpticalFlowPyrLK, so that the browser and Python give the same results.
 */
import type { Box, Detection, Landmarks, Point } from "./faces.js";
import { sidePx } from "./faces.js";
import { roundHalfEven } from "./numbers.js";
import { type Pixels, shrinkPlane } from "./pixels.js";

const WINDOW = 15; // px
const LEVELS = 3; // pyramid levels above the picture itself
const MAX_SIDE_PX = 960; // a larger picture is shrunk to this before the flow is computed
const ASTRAY = 0.06; // in box sides: maximum forward-backward error of a point, and maximum misfit
const STEPS = 30;
const STEP_PX = 0.01;
const MIN_EIGENVALUE = 1e-4;
const BITS = 14; // fractional bits of an interpolation weight

interface Layer {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** The data kept from a frame for the next one: its greyscale pyramid. */
export interface Gray {
  readonly layers: readonly Layer[];
  readonly scale: number; // its px per px of the frame
}

export function grayOf(picture: Pixels): Gray {
  let layer = luminance(picture);
  const shrink = Math.ceil(Math.max(layer.width, layer.height) / MAX_SIDE_PX);
  if (shrink > 1) {
    const size = { width: Math.max(1, Math.floor(layer.width / shrink)), height: Math.max(1, Math.floor(layer.height / shrink)) };
    const whole = { x0: 0, y0: 0, x1: layer.width, y1: layer.height };
    layer = { ...size, data: shrinkPlane(layer.data, layer.width, 1, whole, size.width, size.height) };
  }
  const layers = [layer];
  while (layers.length <= LEVELS) {
    const { width, height } = layers[layers.length - 1];
    if ((width + 1) >> 1 <= WINDOW || (height + 1) >> 1 <= WINDOW) break;
    layers.push(halved(layers[layers.length - 1]));
  }
  return { layers, scale: 1 / shrink };
}

/** The new places of the previous frame's faces, in the same order; null if any of them is lost. */
export function follow(faces: readonly Detection[], before: Gray, now: Gray): Detection[] | null {
  const moved: Detection[] = [];
  for (const face of faces) {
    const astray = ASTRAY * sidePx(face.box);
    const kept: [Point, Point][] = [];
    for (const point of face.landmarks) {
      const start: Point = [point[0] * before.scale, point[1] * before.scale];
      const there = flow(before, now, start);
      const back = there && flow(now, before, there);
      if (!there || !back) continue;
      const off = Math.hypot(back[0] - start[0], back[1] - start[1]) / before.scale;
      if (off <= astray) kept.push([point, [there[0] / before.scale, there[1] / before.scale]]);
    }
    if (kept.length < 3) return null;
    const fit = similarity(kept);
    if (fit.misfit > astray) return null;
    moved.push(moveFace(face, fit));
  }
  return moved;
}

interface Similarity {
  turn: Point; // as complex numbers z -> turn z + shift
  shift: Point;
  misfit: number; // rms, px
}

/** The similarity that fits pairs of points best. */
function similarity(pairs: readonly [Point, Point][]): Similarity {
  const n = pairs.length;
  const sum = (pick: (pair: [Point, Point]) => number) => pairs.reduce((s, pair) => s + pick(pair), 0) / n;
  const [zx, zy, wx, wy] = [sum(([z]) => z[0]), sum(([z]) => z[1]), sum(([, w]) => w[0]), sum(([, w]) => w[1])];
  const real = sum(([z, w]) => (z[0] - zx) * (w[0] - wx) + (z[1] - zy) * (w[1] - wy));
  const imaginary = sum(([z, w]) => (z[0] - zx) * (w[1] - wy) - (z[1] - zy) * (w[0] - wx));
  const norm = Math.max(sum(([z]) => (z[0] - zx) ** 2 + (z[1] - zy) ** 2), 1e-9);
  const turn: Point = [real / norm, imaginary / norm];
  const turned = times(turn, [zx, zy]);
  const misfit = sum(([z, w]) => {
    const place = times(turn, [z[0] - zx, z[1] - zy]);
    return (w[0] - wx - place[0]) ** 2 + (w[1] - wy - place[1]) ** 2;
  });
  return { turn, shift: [wx - turned[0], wy - turned[1]], misfit: Math.sqrt(misfit) };
}

/** A face moved by its similarity; the box stays upright and is scaled. */
function moveFace(face: Detection, { turn, shift }: Similarity): Detection {
  const place = (point: Point): Point => {
    const [x, y] = times(turn, point);
    return [Math.fround(x + shift[0]), Math.fround(y + shift[1])];
  };
  const [x0, y0, x1, y1] = face.box;
  const turned = times(turn, [(x0 + x1) / 2, (y0 + y1) / 2]);
  const [cx, cy] = [turned[0] + shift[0], turned[1] + shift[1]];
  const scale = Math.hypot(...turn);
  const [hx, hy] = [(scale * (x1 - x0)) / 2, (scale * (y1 - y0)) / 2];
  const box: Box = [Math.fround(cx - hx), Math.fround(cy - hy), Math.fround(cx + hx), Math.fround(cy + hy)];
  return { box, score: face.score, landmarks: face.landmarks.map(place) as Landmarks };
}

function times(a: Point, b: Point): Point {
  return [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
}

/** The new place of a point of the previous picture, in px of the pyramid's base; null if it left or has no texture. */
export function flow(before: Gray, now: Gray, point: Point): Point | null {
  let next: Point = [0, 0];
  for (let level = before.layers.length - 1; level >= 0; level--) {
    const scale = 1 / (1 << level);
    const start: Point = [Math.fround(point[0] * scale), Math.fround(point[1] * scale)];
    next = level === before.layers.length - 1 ? start : [next[0] * 2, next[1] * 2];
    const found = flowAtLevel(before.layers[level], now.layers[level], start, next);
    if (found.lost && level === 0) return null;
    next = found.point;
  }
  return next;
}

// One window's values (5 more bits than the picture's) and its derivatives. They are reused: this code never runs concurrently.
const values = new Int32Array(WINDOW * WINDOW);
const slopes = new Int32Array(WINDOW * WINDOW * 2);

function flowAtLevel(before: Layer, now: Layer, start: Point, guess: Point): { point: Point; lost: boolean } {
  const half = (WINDOW - 1) / 2;
  const from = weightsAt(start[0] - half, start[1] - half);
  if (isOutside(from, before)) return { point: guess, lost: true };
  const [ix, iy] = derivatives(before, from.x, from.y);
  let xx = 0;
  let xy = 0;
  let yy = 0;
  const span = WINDOW + 1;
  for (let y = 0; y < WINDOW; y++) {
    for (let x = 0; x < WINDOW; x++) {
      const at = y * span + x;
      const to = y * WINDOW + x;
      values[to] = descale(blend(before, from, x, y), BITS - 5);
      const dx = descale(ix[at] * from.a + ix[at + 1] * from.b + ix[at + span] * from.c + ix[at + span + 1] * from.d, BITS);
      const dy = descale(iy[at] * from.a + iy[at + 1] * from.b + iy[at + span] * from.c + iy[at + span + 1] * from.d, BITS);
      slopes[2 * to] = dx;
      slopes[2 * to + 1] = dy;
      xx += dx * dx;
      xy += dx * dy;
      yy += dy * dy;
    }
  }
  const unit = 1 / (1 << 20);
  [xx, xy, yy] = [Math.fround(xx * unit), Math.fround(xy * unit), Math.fround(yy * unit)];
  const determinant = xx * yy - xy * xy;
  const smallest = (yy + xx - Math.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / (2 * WINDOW * WINDOW);
  if (smallest < MIN_EIGENVALUE || determinant < 1.1920929e-7) return { point: guess, lost: true };
  let [px, py] = [guess[0] - half, guess[1] - half];
  let [lastX, lastY] = [0, 0];
  let lost = false;
  for (let step = 0; step < STEPS; step++) {
    const to = weightsAt(px, py);
    if (isOutside(to, now)) {
      lost = true;
      break;
    }
    let b1 = 0;
    let b2 = 0;
    for (let y = 0; y < WINDOW; y++) {
      for (let x = 0; x < WINDOW; x++) {
        const at = y * WINDOW + x;
        const difference = descale(blend(now, to, x, y), BITS - 5) - values[at];
        b1 += difference * slopes[2 * at];
        b2 += difference * slopes[2 * at + 1];
      }
    }
    b1 *= unit;
    b2 *= unit;
    const dx = Math.fround((xy * b2 - yy * b1) / determinant);
    const dy = Math.fround((xy * b1 - xx * b2) / determinant);
    px = Math.fround(px + dx);
    py = Math.fround(py + dy);
    if (dx * dx + dy * dy <= STEP_PX * STEP_PX) break;
    if (step > 0 && Math.abs(dx + lastX) < STEP_PX && Math.abs(dy + lastY) < STEP_PX) {
      px -= dx / 2;
      py -= dy / 2;
      break;
    }
    [lastX, lastY] = [dx, dy];
  }
  return { point: [px + half, py + half], lost };
}

interface Weights {
  x: number; // integer px to the left of and above the place
  y: number;
  a: number; // weights of the four px around it, in 1 / 2^BITS
  b: number;
  c: number;
  d: number;
}

function weightsAt(px: number, py: number): Weights {
  const x = Math.floor(px);
  const y = Math.floor(py);
  const fx = px - x;
  const fy = py - y;
  const one = 1 << BITS;
  const a = roundHalfEven((1 - fx) * (1 - fy) * one);
  const b = roundHalfEven(fx * (1 - fy) * one);
  const c = roundHalfEven((1 - fx) * fy * one);
  return { x, y, a, b, c, d: one - a - b - c };
}

function isOutside({ x, y }: Weights, layer: Layer): boolean {
  return x < -WINDOW || x >= layer.width || y < -WINDOW || y >= layer.height;
}

function blend(layer: Layer, at: Weights, x: number, y: number): number {
  const left = at.x + x;
  const top = at.y + y;
  const { width, height, data } = layer;
  if (left >= 0 && top >= 0 && left + 1 < width && top + 1 < height) {
    const i = top * width + left;
    return data[i] * at.a + data[i + 1] * at.b + data[i + width] * at.c + data[i + width + 1] * at.d;
  }
  return (
    pixel(layer, left, top) * at.a + pixel(layer, left + 1, top) * at.b +
    pixel(layer, left, top + 1) * at.c + pixel(layer, left + 1, top + 1) * at.d
  );
}

/** Scharr derivatives of the px under a window, plus one column and row; 0 outside the picture. */
function derivatives(layer: Layer, x0: number, y0: number): [Int32Array, Int32Array] {
  const span = WINDOW + 1;
  const [dx, dy] = [new Int32Array(span * span), new Int32Array(span * span)];
  for (let y = 0; y < span; y++) {
    for (let x = 0; x < span; x++) {
      const [px, py] = [x0 + x, y0 + y];
      if (px < 0 || py < 0 || px >= layer.width || py >= layer.height) continue;
      const [nw, n, ne] = [-1, 0, 1].map((d) => pixel(layer, px + d, py - 1));
      const [w, e] = [pixel(layer, px - 1, py), pixel(layer, px + 1, py)];
      const [sw, s, se] = [-1, 0, 1].map((d) => pixel(layer, px + d, py + 1));
      dx[y * span + x] = 3 * (ne + se) + 10 * e - 3 * (nw + sw) - 10 * w;
      dy[y * span + x] = 3 * (sw - nw + se - ne) + 10 * (s - n);
    }
  }
  return [dx, dy];
}

/** A pixel, mirrored at the border without repeating the border pixel. */
function pixel({ width, height, data }: Layer, x: number, y: number): number {
  return data[mirrored(y, height) * width + mirrored(x, width)];
}

function mirrored(i: number, size: number): number {
  if (size === 1) return 0;
  while (i < 0 || i >= size) i = i < 0 ? -i : 2 * size - 2 - i;
  return i;
}

function descale(value: number, bits: number): number {
  return (value + (1 << (bits - 1))) >> bits;
}

function luminance({ width, height, data }: Pixels): Layer {
  const out = new Uint8Array(width * height);
  for (let i = 0, at = 0; i < out.length; i++, at += 4) {
    out[i] = (data[at] * 9798 + data[at + 1] * 19235 + data[at + 2] * 3735 + 16384) >> 15;
  }
  return { width, height, data: out };
}

/** The picture at half size after a 5 x 5 Gaussian (1 4 6 4 1). */
function halved(layer: Layer): Layer {
  const { width, height, data } = layer;
  const [w, h] = [(width + 1) >> 1, (height + 1) >> 1];
  const rows = new Int32Array(w * height); // horizontally filtered
  for (let y = 0; y < height; y++) {
    const row = y * width;
    for (let x = 0; x < w; x++) {
      const at = 2 * x;
      if (at >= 2 && at + 2 < width) {
        const i = row + at;
        rows[y * w + x] = data[i - 2] + data[i + 2] + 4 * (data[i - 1] + data[i + 1]) + 6 * data[i];
      } else {
        const p = (d: number) => data[row + mirrored(at + d, width)];
        rows[y * w + x] = p(-2) + p(2) + 4 * (p(-1) + p(1)) + 6 * p(0);
      }
    }
  }
  const out = new Uint8Array(w * h);
  for (let y = 0; y < h; y++) {
    const [a, b, c, d, e] = [-2, -1, 0, 1, 2].map((offset) => mirrored(2 * y + offset, height) * w);
    for (let x = 0; x < w; x++) {
      out[y * w + x] = (rows[a + x] + rows[e + x] + 4 * (rows[b + x] + rows[d + x]) + 6 * rows[c + x] + 128) >> 8;
    }
  }
  return { width: w, height: h, data: out };
}
