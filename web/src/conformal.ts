/**
 * Calibrated intervals from the table of residual quantiles in the model file, computed as in Python.
 *
 * The table contains quantiles of (true value - predicted value) / difficulty, at many levels and for several predicted values.
 * A face's difficulty is the expected size of its error. It grows with the disagreement between the words, with lost detail, and
 * with unfamiliar faces (behind a mask or dark glasses, say).
 */
import { NumclipError } from "./errors.js";
import { clamp, interp } from "./numbers.js";
import { type JsonObject, type Json, type TaskSpec, list, number, numbers, object } from "./spec.js";

export interface ConformalTable {
  readonly knots: readonly number[]; // [M] ascending predicted values, in the task's unit
  readonly levels: readonly number[]; // [L] ascending, in (0, 1)
  readonly quantiles: readonly (readonly number[])[]; // [M][L] of (true value - predicted value) / difficulty
  readonly base: number; // difficulty = (base + slope * spread) * the larger widening
  readonly slope: number;
  readonly temperature: number;
  readonly offset: number; // added to the model's value
  readonly sharpness: readonly number[]; // [W] ascending, log energy share
  readonly widening: readonly number[]; // [W] >= 1, descending
  readonly direction: readonly number[]; // [D] unfamiliarity = embedding . direction; empty: none
  readonly unfamiliarity: readonly number[]; // [U] ascending
  readonly unfamiliarWidening: readonly number[]; // [U] >= 1, ascending
}

/** The table in a spec's calibration, with its last layer applied; throws NumclipError that names the wrong field. embeddingDim: D. */
export function readTable(raw: JsonObject, embeddingDim: number): ConformalTable {
  if (raw.kind !== "conformal") {
    throw wrong(`spec field calibration.kind: expected conformal, got ${JSON.stringify(raw.kind)}; calibrate again`);
  }
  const layers = raw.layers === undefined ? [] : list(raw.layers, "calibration.layers");
  const site = layers.length ? object(layers[layers.length - 1], "calibration.layers[]") : {};
  const merged: JsonObject = { ...raw, ...site };
  const optional = <T>(key: string, read: (value: Json, where: string) => T, otherwise: T): T =>
    merged[key] === undefined ? otherwise : read(merged[key], `calibration.${key}`);
  const table: ConformalTable = {
    knots: numbers(merged.knots, "calibration.knots"),
    levels: numbers(merged.levels, "calibration.levels"),
    quantiles: list(merged.quantiles, "calibration.quantiles").map((row) => numbers(row, "calibration.quantiles")),
    base: number(merged.base, "calibration.base"),
    slope: number(merged.slope, "calibration.slope"),
    temperature: optional("temperature", number, 1),
    offset: optional("offset", number, 0),
    sharpness: optional("sharpness", numbers, [0]),
    widening: optional("widening", numbers, [1]),
    direction: optional("direction", numbers, []),
    unfamiliarity: optional("unfamiliarity", numbers, [0]),
    unfamiliarWidening: optional("unfamiliar_widening", numbers, [1]),
  };
  check(table);
  if (table.direction.length !== 0 && table.direction.length !== embeddingDim) {
    throw wrong(
      `spec field calibration.direction: expected ${embeddingDim} numbers, the size of the graph's embedding, ` +
        `got ${table.direction.length}; calibrate again`,
    );
  }
  return table;
}

function check(table: ConformalTable): void {
  const { knots, levels, quantiles, sharpness, widening, unfamiliarity, unfamiliarWidening } = table;
  const holds: Record<string, boolean> = {
    knots: knots.length > 0 && rises(knots),
    levels: levels.length > 0 && rises([0, ...levels, 1]),
    quantiles:
      quantiles.length === knots.length &&
      quantiles.every((row) => row.length === levels.length && row.slice(1).every((q, i) => q >= row[i])),
    sharpness: sharpness.length > 0 && rises(sharpness),
    widening:
      widening.length === sharpness.length && widening.every((w, i) => w >= 1 && (i === 0 || w <= widening[i - 1])),
    direction: table.direction.every(Number.isFinite),
    unfamiliarity: unfamiliarity.length > 0 && rises(unfamiliarity),
    unfamiliar_widening:
      unfamiliarWidening.length === unfamiliarity.length &&
      unfamiliarWidening.every((w, i) => w >= 1 && (i === 0 || w >= unfamiliarWidening[i - 1])),
    base: table.base > 0,
    slope: table.slope >= 0,
    temperature: table.temperature > 0,
  };
  for (const [name, holding] of Object.entries(holds)) {
    if (!holding) throw wrong(`spec field calibration.${name}: expected what a fit makes; calibrate again`);
  }
}

/** Apply the site's offset and the temperature to the graph's value and probabilities [K] of one face. */
export function correct(table: ConformalTable, value: number, probabilities: ArrayLike<number>, task: TaskSpec) {
  return {
    value: Math.fround(table.offset ? clamp(value + table.offset, task.low, task.high) : value),
    probabilities: Float32Array.from(tempered(probabilities, table.temperature)),
  };
}

/** The expected size of the error, (base + slope * spread) * the larger widening, for corrected values. */
export function difficulty(
  table: ConformalTable, value: number, probabilities: ArrayLike<number>, sharpness: number, embedding: ArrayLike<number>,
  task: TaskSpec,
): number {
  return (table.base + table.slope * spread(value, probabilities, task)) * widened(table, sharpness, embedding);
}

/** The factor by which intervals are widened: the larger of those for lost detail and an unfamiliar face. embedding: [D]. */
export function widened(table: ConformalTable, sharpness: number, embedding: ArrayLike<number>): number {
  const factor = interp(sharpness, table.sharpness, table.widening);
  if (table.direction.length === 0) return factor;
  const along = table.direction.reduce((sum, d, i) => sum + d * embedding[i], 0);
  return Math.max(factor, interp(along, table.unfamiliarity, table.unfamiliarWidening));
}

/** The central interval that contains the true value with probability `level`, clipped to the task's range. */
export function interval(
  table: ConformalTable, value: number, difficulty: number, level: number, task: TaskSpec,
): [number, number] {
  if (!(level > 0 && level < 1)) {
    throw new NumclipError("usage", `expected a level between 0 and 1, got ${level}`);
  }
  const most = Math.min(1 - 2 * table.levels[0], 2 * table.levels[table.levels.length - 1] - 1);
  if (level > most + 1e-9) {
    throw new NumclipError("usage", `expected a level of at most ${Number(most.toPrecision(6))}, the highest that this model is calibrated for, got ${level}; give a lower one`);
  }
  const end = (at: number) => {
    const atKnots = table.quantiles.map((row) => interp(at, table.levels, row)); // [M]
    return Math.fround(clamp(value + difficulty * interp(value, table.knots, atKnots), task.low, task.high));
  };
  return [end((1 - level) / 2), end((1 + level) / 2)];
}

/** The probability that the true value is at least `threshold`, limited to the table's outermost levels. */
export function atLeast(table: ConformalTable, value: number, difficulty: number, threshold: number): number {
  const z = (threshold - value) / difficulty;
  const below = table.quantiles.map((row) => interp(z, row, table.levels)); // [M] P(truth < threshold)
  const last = table.knots.length - 1;
  const place = interp(value, table.knots, table.knots.map((_, i) => i));
  const low = Math.min(Math.trunc(place), last);
  const high = Math.min(low + 1, last);
  const part = place - low;
  return 1 - ((1 - part) * below[low] + part * below[high]);
}

/** The softmax [K] of the same logits divided by a temperature. */
export function tempered(probabilities: ArrayLike<number>, temperature: number): number[] {
  const given = Array.from(probabilities);
  if (temperature === 1) return given;
  const logits = given.map((p) => Math.log(Math.max(p, 1e-12)) / temperature);
  const top = Math.max(...logits);
  const raised = logits.map((logit) => Math.exp(logit - top));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((r) => r / sum);
}

/** The log odds, from the words' probabilities [K] alone, that the true value is at least `threshold`; at most a million to one. */
export function logOdds(probabilities: ArrayLike<number>, threshold: number, task: TaskSpec): number {
  let below = 0;
  for (let k = 0; k < task.words.length; k++) {
    const inside = (threshold - task.binEdges[k]) / (task.binEdges[k + 1] - task.binEdges[k]);
    below += probabilities[k] * clamp(inside, 0, 1);
  }
  below = clamp(below, 1e-6, 1 - 1e-6);
  return Math.fround(Math.log1p(-below) - Math.log(below));
}

/** The root mean square distance of the bin centers from the value, weighted by the probabilities [K]. */
export function spread(value: number, probabilities: ArrayLike<number>, task: TaskSpec): number {
  let sum = 0;
  for (let k = 0; k < task.words.length; k++) sum += probabilities[k] * (task.binCenters[k] - value) ** 2;
  return Math.sqrt(sum);
}

function rises(row: readonly number[]): boolean {
  return row.every((x, i) => Number.isFinite(x) && (i === 0 || x > row[i - 1]));
}

function wrong(message: string): NumclipError {
  return new NumclipError("model-spec", message);
}
