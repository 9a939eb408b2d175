/** The kind of an error, as a key that a page can translate and a program can test. */
export type ErrorCode =
  | "model-fetch" // the file could not be fetched
  | "model-empty" // 0 bytes
  | "model-corrupt" // truncated, or not an ONNX file
  | "model-foreign" // an ONNX file of another project
  | "model-schema" // a spec of another version
  | "model-spec" // a field of the spec is invalid
  | "model-graph" // the graph cannot be opened, or differs from its spec
  | "insecure" // neither https nor localhost
  | "runtime" // the WebAssembly runtime did not start
  | "picture" // not a picture that this browser reads
  | "camera-none"
  | "camera-refused"
  | "camera-busy"
  | "camera-lost"
  | "usage"; // wrong use of the library

/** The error type of this library. `message` is one sentence: what was expected, what was found, what to do. */
export class NumclipError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = "NumclipError";
    this.code = code;
  }
}
