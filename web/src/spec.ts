/** The model file's spec, as Python writes it: task, crop, graph names, calibration, parity, licences. */
import { NumclipError } from "./errors.js";

export const SCHEMA_VERSION = 1;
const GRAPH = ["input", "value", "probabilities", "embedding"] as const;

/** An ordinal task: the number that a model estimates, and the K words (text bins) that cover its scale. */
export interface TaskSpec {
  readonly name: string; // "age"
  readonly unit: string; // "years"
  readonly low: number; // smallest value that the model may return, in the unit
  readonly high: number;
  readonly binEdges: readonly number[]; // [K + 1] ascending; bin k is [edge k, edge k+1)
  readonly binCenters: readonly number[]; // [K]
  readonly words: readonly string[]; // [K]
}

/** The rule that makes a square crop of a detector's box if there are no landmarks, in units of the box. */
export interface BoxRule {
  readonly scale: number;
  readonly shiftX: number;
  readonly shiftY: number;
}

/** The crop contract: how to crop a face to the [S, S, 3] square that the model reads. */
export interface CropSpec {
  readonly side: number; // S, px
  readonly landmarks: readonly (readonly [number, number])[]; // five (x, y) in [0, 1] of the side, in YuNet's order
  readonly boxRules: Readonly<Record<string, BoxRule>>;
}

export interface GraphSpec {
  readonly input: string;
  readonly value: string;
  readonly probabilities: string;
  readonly embedding: string;
  readonly embeddingDim: number; // D
  readonly precision: string; // fp32 or int8
}

export interface Metric {
  readonly data: string;
  readonly split: string;
  readonly mae: number;
  readonly n: number;
}

export interface ModelSpec {
  readonly name: string;
  readonly task: TaskSpec;
  readonly crop: CropSpec;
  readonly graph: GraphSpec;
  readonly calibration: JsonObject | null;
  readonly parity: JsonObject;
  readonly metrics: readonly JsonObject[];
  readonly licences: Readonly<Record<string, string>>;
}

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** Read and check the spec of a file; throws NumclipError with the file and the field that is wrong, missing or newer. */
export function readSpec(text: string, file: string): ModelSpec {
  try {
    return checked(text);
  } catch (error) {
    throw error instanceof NumclipError ? new NumclipError(error.code, `${file}: ${error.message}`) : error;
  }
}

function checked(text: string): ModelSpec {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw wrong(`the model's spec is not JSON (${(error as Error).message}); export the model again`);
  }
  const fields = object(raw as Json, "spec");
  const version = number(fields.schema_version, "schema_version");
  if (version !== SCHEMA_VERSION) {
    const hint = version > SCHEMA_VERSION ? "update numclip" : "export the model again";
    throw new NumclipError("model-schema", `spec field schema_version: expected ${SCHEMA_VERSION}, got ${version}; ${hint}`);
  }
  return {
    name: string(fields.name, "name"),
    task: readTask(object(fields.task, "task")),
    crop: readCrop(object(fields.crop, "crop")),
    graph: readGraph(object(fields.graph, "graph")),
    calibration: fields.calibration == null ? null : object(fields.calibration, "calibration"),
    parity: object(fields.parity, "parity"),
    metrics: list(fields.metrics, "metrics").map((metric) => object(metric, "metrics[]")),
    licences: Object.fromEntries(Object.entries(object(fields.licences, "licences")).map(([k, v]) => [k, licence(v)])),
  };
}

/** The licence of one part: an SPDX expression, a sentence for people, or both. */
function licence(value: Json): string {
  if (typeof value === "string") return value;
  const { spdx, note } = object(value, "licences");
  return note ? `${String(note)} (${String(spdx)})` : String(spdx);
}

/** The index of the bin that contains `value`; a value outside the scale belongs to the first or last bin. */
export function binOf(task: TaskSpec, value: number): number {
  let bin = 0;
  for (let k = 1; k < task.words.length; k++) if (value >= task.binEdges[k]) bin = k;
  return bin;
}

function readTask(fields: JsonObject): TaskSpec {
  const words = list(fields.words, "task.words").map(String);
  const edges = numbers(fields.bin_edges, "task.bin_edges");
  const task = {
    name: string(fields.name, "task.name"),
    unit: string(fields.unit, "task.unit"),
    low: number(fields.low, "task.low"),
    high: number(fields.high, "task.high"),
    binEdges: edges,
    binCenters: edges.slice(1).map((edge, k) => (edges[k] + edge) / 2),
    words,
  };
  if (words.length < 2) {
    throw wrong(`spec field task.words: expected at least 2 words, got ${words.length}; export the model again`);
  }
  if (edges.length !== words.length + 1) {
    throw wrong(
      `spec field task.bin_edges: expected ${words.length + 1} edges for ${words.length} words, got ${edges.length}; ` +
        "export the model again",
    );
  }
  if (edges.slice(1).some((edge, k) => edge <= edges[k])) {
    throw wrong(`spec field task.bin_edges: expected rising edges, got ${JSON.stringify(edges)}; export the model again`);
  }
  if (!(task.low < task.high)) {
    throw wrong(`spec field task.high: expected a number above low = ${task.low}, got ${task.high}; export the model again`);
  }
  return task;
}

function readCrop(fields: JsonObject): CropSpec {
  const side = number(fields.side, "crop.side");
  if (!Number.isInteger(side) || side < 16 || side > 1024) {
    throw wrong(`spec field crop.side: expected 16 to 1024 px, got ${side}; export the model again`);
  }
  const points = list(fields.landmarks, "crop.landmarks").map((p) => numbers(p, "crop.landmarks"));
  if (points.length !== 5 || points.some((p) => p.length !== 2)) {
    throw wrong(`spec field crop.landmarks: expected five (x, y) points, got ${short(fields.landmarks)}`);
  }
  const interpolation = string(fields.interpolation, "crop.interpolation");
  if (interpolation !== "bilinear") {
    throw wrong(`spec field crop.interpolation: expected bilinear, got ${interpolation}; update numclip`);
  }
  const boxRules: Record<string, BoxRule> = {};
  for (const [name, value] of Object.entries(object(fields.box_rules, "crop.box_rules"))) {
    const where = `crop.box_rules.${name}`;
    const rule = object(value, where);
    boxRules[name] = {
      scale: number(rule.scale, `${where}.scale`),
      shiftX: number(rule.shift_x, `${where}.shift_x`),
      shiftY: number(rule.shift_y, `${where}.shift_y`),
    };
  }
  return { side, landmarks: points.map((p) => [p[0], p[1]] as const), boxRules };
}

function readGraph(fields: JsonObject): GraphSpec {
  const names = Object.fromEntries(GRAPH.map((key) => [key, string(fields[key], `graph.${key}`)]));
  return {
    input: names.input,
    value: names.value,
    probabilities: names.probabilities,
    embedding: names.embedding,
    embeddingDim: number(fields.embedding_dim, "graph.embedding_dim"),
    precision: typeof fields.precision === "string" ? fields.precision : "fp32",
  };
}

export function object(value: Json | undefined, where: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw expected(where, "an object", value);
  return value;
}

export function list(value: Json | undefined, where: string): Json[] {
  if (!Array.isArray(value)) throw expected(where, "a list", value);
  return value;
}

export function numbers(value: Json | undefined, where: string): number[] {
  if (!Array.isArray(value) || value.some((v) => typeof v !== "number")) throw expected(where, "a list of numbers", value);
  return value as number[];
}

export function number(value: Json | undefined, where: string): number {
  if (typeof value !== "number") throw expected(where, "a number", value);
  return value;
}

export function string(value: Json | undefined, where: string): string {
  if (typeof value !== "string") throw expected(where, "a string", value);
  return value;
}

function expected(where: string, what: string, value: Json | undefined): NumclipError {
  return wrong(`spec field ${where}: expected ${what}, got ${short(value)}; export the model again`);
}

function wrong(message: string): NumclipError {
  return new NumclipError("model-spec", message);
}

function short(value: Json | undefined): string {
  return value == null ? "nothing" : JSON.stringify(value).slice(0, 60);
}
