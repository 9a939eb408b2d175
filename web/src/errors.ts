/** What went wrong, as a word that a page can translate and a program can test. */
export type ErrorCode =
  | "model-fetch" // the file could not be had
  | "model-empty" // 0 bytes
  | "model-corrupt" // no ONNX file, or cut short
  | "model-foreign" // an ONNX file of another project
  | "model-schema" // a spec of another version
  | "model-spec" // a field of the spec is wrong
  | "model-graph" // the graph does not open, or is not the one the spec promises
  | "insecure" // neither https nor localhost
  | "runtime" // the WebAssembly runtime did not start
  | "picture" // not a picture that this browser reads
  | "camera-none"
  | "camera-refused"
  | "camera-busy"
  | "camera-lost"
  | "usage"; // the caller's mistake

/** Every error of this library. `message` is one sentence: what was expected, what came, what to do. */
export class NumclipError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = "NumclipError";
    this.code = code;
  }
}
