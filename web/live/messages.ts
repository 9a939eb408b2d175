/** The server's messages, and their conversion for the drawing code of the static page. */
import type { Answer, Face, FrameResult, Reason } from "../src/index.js";

/** Fields of the server's API; see /openapi.json. */
export interface FaceLine {
  readonly track: number | null;
  readonly box: [number, number, number, number];
  readonly score: number;
  readonly low: number | null;
  readonly high: number | null;
  readonly level: number | null;
  readonly bin: string | null;
  readonly probabilities: number[];
  readonly fresh: boolean;
  readonly gate?: Answer;
  readonly reason?: Reason;
}

export interface ResultLine {
  readonly source: string;
  readonly frame: number;
  readonly time_s: number;
  readonly latency_ms: number;
  readonly dropped: number;
  readonly faces: FaceLine[];
}

/** A result for a camera over WebRTC, with the picture size that the browser's encoder chose. */
export interface SizedLine extends ResultLine {
  readonly width: number;
  readonly height: number;
}

export interface EventLine {
  readonly event: string;
  readonly source: string;
  readonly time_s: number;
  readonly reason: string;
}

export interface SourceSummary {
  readonly id: string;
  readonly name: string;
  readonly kind: "source" | "camera";
  readonly state: string;
  readonly width: number | null;
  readonly height: number | null;
}

export interface SourceDetails extends SourceSummary {
  readonly events: EventLine[];
  readonly last_hour: Record<string, number[]>;
}

export interface SourcesAnswer {
  readonly sources: SourceSummary[];
  readonly webrtc: boolean; // cameras over WebRTC are accepted
}

export interface ModelSummary {
  readonly kind: string;
  readonly range: number[];
}

/** Convert a frame's line for the overlay and the list of people. task: the key of the value. */
export function resultOf(line: ResultLine, width: number, height: number, task: string): FrameResult {
  const faces = line.faces.map((face) => faceOf(face, task));
  return { timeS: line.time_s, width, height, faces, looks: 0, timesMs: { find: 0, crop: 0, model: 0 } };
}

function faceOf(face: FaceLine, task: string): Face {
  const value = (face as unknown as Record<string, number | null>)[task] ?? null;
  return {
    box: face.box, landmarks: [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0]], score: face.score, track: face.track, value,
    low: face.low, high: face.high, level: face.level, word: face.bin, probabilities: face.probabilities, fresh: face.fresh,
    reason: face.reason ?? null, gate: face.gate ?? null,
  };
}
