/** What goes between the page and the worker. */
import type { FrameResult, ReadOptions, StreamOptions } from "./engine.js";
import type { ErrorCode } from "./errors.js";
import type { JsonObject } from "./spec.js";

/** A model file: where it is, or what it holds. */
export interface FileSource {
  readonly name: string; // how errors call it
  readonly url?: string; // absolute
  readonly bytes?: Uint8Array;
}

export interface LoadRequest {
  readonly model: FileSource;
  readonly finder: FileSource;
  readonly threads?: number;
  readonly runtime?: { readonly mjs: string; readonly wasm: string };
}

/** What is known about a model once it is open. */
export interface ModelInfo {
  readonly name: string;
  readonly finder: string;
  readonly precision: string; // fp32 or int8
  readonly bytes: number; // of both files
  readonly threads: number;
  readonly task: { readonly name: string; readonly unit: string; readonly words: readonly string[]; readonly edges: readonly number[] };
  readonly gates: Readonly<Record<string, number>>; // thresholds, and the lowest error rate that each can show
  readonly metrics: readonly JsonObject[];
  readonly parity: JsonObject;
  readonly licences: Readonly<Record<string, string>>;
  readonly side: number; // px, of a crop
  readonly runtime: string; // version of onnxruntime-web
}

/** Pictures go to the worker as bitmaps, which are handed over, or as plain pixels. */
export type SentPicture = ImageBitmap | ImageData;

/** The calls that the worker answers, with their arguments and answers. */
export interface Calls {
  load: (request: LoadRequest) => ModelInfo;
  read: (picture: SentPicture, options: ReadOptions) => FrameResult;
  start: (stream: number, options: StreamOptions) => void;
  next: (stream: number, picture: SentPicture, timeS: number) => FrameResult;
  stop: (stream: number) => void;
  time: (crops: Uint8Array, faces: number, atMostMs: number, calls: number) => Timed;
  close: () => void;
}

/** What a benchmark wants to know. */
export interface Timed {
  readonly loadMs: number; // of the model, its file at hand
  readonly firstCallMs: number;
  readonly samplesMs: number[]; // one call of the graph each
  readonly graphSha256: string;
  readonly graphBytes: number; // of the model's file
}

export interface Request<Name extends keyof Calls = keyof Calls> {
  readonly id: number;
  readonly call: Name;
  readonly args: Parameters<Calls[Name]>;
}

export type Reply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: { readonly code: ErrorCode; readonly message: string } }
  | { readonly id: number; readonly progress: { readonly loaded: number; readonly total: number } };
