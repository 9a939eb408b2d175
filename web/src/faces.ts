/** Detected faces, and how well each of them is visible. */
import { clamp } from "./numbers.js";
import type { Reading } from "./readings.js";

export type Box = [x0: number, y0: number, x1: number, y1: number]; // px
export type Point = [x: number, y: number]; // px
/** right eye, left eye, nose tip, right and left mouth corner */
export type Landmarks = [Point, Point, Point, Point, Point];
export type Reason = "waiting" | "small" | "profile" | "blurred" | "range";

export interface Detection {
  readonly box: Box;
  readonly score: number; // 0 to 1
  readonly landmarks: Landmarks;
}

export const KEEP_SCORE = 0.6; // score that continues a track; a new track needs a higher one (tracking.ts)

const FULL_SIDE_PX = 64; // above this size a face does not count as better visible
const BLURRED = -2.6; // log energy share (sharpness.ts): rejected below
const SHARP = -2; // full weight above
const FRONTAL = 0.15; // yaw: full weight below
const PROFILE = 0.5; // yaw: rejected above
const LEAST = 0.1; // weight of the worst look that is still accepted

/** The longer side of a box, px. */
export function sidePx(box: Box): number {
  return Math.max(Math.fround(box[2] - box[0]), Math.fround(box[3] - box[1]), 0);
}

/** The largest faces, at most `many` of them. */
export function largest(faces: readonly Detection[], many: number): Detection[] {
  return [...faces].sort((a, b) => sidePx(b.box) - sidePx(a.box)).slice(0, many);
}

/** The yaw of a head: distance of the nose tip from the midpoint of the eyes, along the eye line, in eye distances. */
export function yaw(landmarks: Landmarks): number {
  const [right, left, nose] = landmarks;
  const axis = [left[0] - right[0], left[1] - right[1]];
  const distance = Math.max(axis[0] ** 2 + axis[1] ** 2, 1e-9);
  const way = [nose[0] - (right[0] + left[0]) / 2, nose[1] - (right[1] + left[1]) / 2];
  return Math.abs(way[0] * axis[0] + way[1] * axis[1]) / distance;
}

/** The quality of a view by size and pose, 0.01 to 1, and the reason to reject it, or null if it is accepted. */
export function judge(face: Detection, minFacePx: number): { view: number; refused: Reason | null } {
  const side = sidePx(face.box);
  const turned = yaw(face.landmarks);
  const view = clamp(side / FULL_SIDE_PX, LEAST, 1) * ramp(turned, PROFILE, FRONTAL);
  return { view, refused: side < minFacePx ? "small" : turned > PROFILE ? "profile" : null };
}

/** The reason to reject a reading after the model has run, or null. */
export function disbelief(reading: Reading, sharpness: number): Reason | null {
  if (sharpness < BLURRED) return "blurred";
  const edges = reading.spec.task.binEdges;
  return edges[0] <= reading.value && reading.value <= edges[edges.length - 1] ? null : "range";
}

/** The weight of a look, from the quality of its view and its sharpness. */
export function quality(view: number, sharpness: number): number {
  return view * (LEAST + (1 - LEAST) * clamp((sharpness - BLURRED) / (SHARP - BLURRED), 0, 1));
}

/** LEAST at `worst`, 1 at `best`, linear in between. */
function ramp(x: number, worst: number, best: number): number {
  return LEAST + (1 - LEAST) * clamp((x - worst) / (best - worst), 0, 1);
}
