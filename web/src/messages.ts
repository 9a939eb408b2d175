/** The messages between the page and the worker. */
import type { FrameResult, ReadOptions, StreamOptions } from "./engine.js";
import type { ErrorCode } from "./errors.js";
import type { JsonObject } from "./spec.js";

/** A model file: its URL, or its bytes. */
export interface FileSource {
  readonly name: string; // name used in errors
  readonly url?: string; // absolute
  readonly bytes?: Uint8Array;
}

export interface LoadRequest {
  readonly model: FileSource;
  readonly finder: FileSource;
  readonly threads?: number;
  readonly runtime?: { readonly mjs: string; readonly wasm: string };
}

/** Information about an open model. */
export interface ModelInfo {
  readonly name: string;
  readonly finder: string;
  readonly precision: string; // fp32 or int8
  readonly bytes: number; // size of both files
  readonly threads: number;
  readonly task: { readonly name: string; readonly unit: string; readonly words: readonly string[]; readonly edges: readonly number[] };
  readonly gates: Readonly<Record<string, number>>; // thresholds, and the lowest error rate that each can guarantee
  readonly metrics: readonly JsonObject[];
  readonly parity: JsonObject;
  readonly licences: Readonly<Record<string, string>>;
  readonly side: number; // side of a crop, px
  readonly runtime: string; // version of onnxruntime-web
}

/** Pictures go to the worker as bitmaps, which are transferred, or as plain pixels. */
export type SentPicture = ImageBitmap | ImageData;

/** The worker's calls, with their arguments and results. */
export interface Calls {
  load: (request: LoadRequest) => ModelInfo;
  read: (picture: SentPicture, options: ReadOptions) => FrameResult;
  start: (stream: number, options: StreamOptions) => void;
  next: (stream: number, picture: SentPicture, timeS: number) => FrameResult;
  stop: (stream: number) => void;
  time: (crops: Uint8Array, faces: number, atMostMs: number, calls: number) => Timed;
  close: () => void;
}

/** Results of a benchmark. */
export interface Timed {
  readonly loadMs: number; // time to open the model from bytes in memory
  readonly firstCallMs: number;
  readonly samplesMs: number[]; // time of each call of the graph
  readonly graphSha256: string;
  readonly graphBytes: number; // size of the model's file
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
