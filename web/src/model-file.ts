/**
 * Read the spec of a model file and hash its graph, without an ONNX library.
 *
 * An .onnx file is one protobuf message; `metadata_props` is its field 14, repeated, each a (key, value) message.
 */
import { NumclipError } from "./errors.js";

export const KEY = "numclip";
const METADATA_FIELD = 14;
const GRAPH_FIELD = 7;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

interface Field {
  number: number;
  whole: number; // offset of the field
  start: number; // offset of its content
  end: number;
}

/** The JSON of the spec in a model file's metadata; errors use `name` for the file. */
export function readSpecText(bytes: Uint8Array, name: string): string {
  let spec: string | null = null;
  for (const field of fields(bytes, name)) {
    if (field.number !== METADATA_FIELD) continue;
    const [key, value] = entry(bytes.subarray(field.start, field.end), name);
    if (key === KEY) spec = value;
  }
  if (spec === null) {
    throw new NumclipError(
      "model-foreign",
      `${name}: expected a numclip model, but this .onnx file has no '${KEY}' metadata; export it with numclip export`,
    );
  }
  return spec;
}

/** The SHA-256, in hexadecimal, of a model file without its metadata; calibration does not change it. */
export async function graphSha256(bytes: Uint8Array, name: string): Promise<string> {
  const kept = [...fields(bytes, name)].filter((field) => field.number !== METADATA_FIELD);
  const graph = new Uint8Array(kept.reduce((sum, field) => sum + field.end - field.whole, 0));
  let at = 0;
  for (const field of kept) {
    graph.set(bytes.subarray(field.whole, field.end), at);
    at += field.end - field.whole;
  }
  if (globalThis.crypto?.subtle === undefined) {
    throw new NumclipError("insecure", "expected a page on https or localhost, because browsers can check models only there; open the page at such an address");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", graph));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function* fields(bytes: Uint8Array, name: string): Generator<Field> {
  if (bytes.length === 0) {
    throw new NumclipError("model-empty", `${name}: expected an .onnx model, got a file of 0 bytes; copy it again`);
  }
  let at = 0;
  let hasGraph = false;
  while (at < bytes.length) {
    const whole = at;
    let tag: number;
    [tag, at] = varint(bytes, at, name);
    const number = Math.floor(tag / 8);
    const wire = tag & 7;
    let start = at;
    if (wire === VARINT) {
      [, at] = varint(bytes, at, name);
    } else if (wire === BYTES) {
      let length: number;
      [length, start] = varint(bytes, at, name);
      at = start + length;
    } else if (wire === FIXED32 || wire === FIXED64) {
      at += wire === FIXED32 ? 4 : 8;
    } else {
      throw noOnnx(name);
    }
    if (number === 0 || at > bytes.length) throw noOnnx(name);
    hasGraph ||= number === GRAPH_FIELD;
    yield { number, whole, start, end: at };
  }
  if (!hasGraph) throw noOnnx(name);
}

/** Key and value of one metadata entry. */
function entry(bytes: Uint8Array, name: string): [string, string] {
  const found = new Map<number, Uint8Array>();
  let at = 0;
  while (at < bytes.length) {
    let tag: number;
    let length: number;
    [tag, at] = varint(bytes, at, name);
    [length, at] = varint(bytes, at, name);
    if ((tag & 7) !== BYTES || at + length > bytes.length) throw noOnnx(name);
    found.set(Math.floor(tag / 8), bytes.subarray(at, at + length));
    at += length;
  }
  const text = new TextDecoder("utf-8", { fatal: true });
  try {
    return [text.decode(found.get(1) ?? new Uint8Array()), text.decode(found.get(2) ?? new Uint8Array())];
  } catch {
    throw noOnnx(name);
  }
}

/** The varint at `at`, and its end. Numbers above 2^53 lose their last bits; only negative ones are that large. */
function varint(bytes: Uint8Array, at: number, name: string): [number, number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    if (at >= bytes.length || shift > 63) throw noOnnx(name);
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}

function noOnnx(name: string): NumclipError {
  return new NumclipError(
    "model-corrupt",
    `${name}: not a valid .onnx model (empty, truncated or another kind of file); export or copy it again`,
  );
}
