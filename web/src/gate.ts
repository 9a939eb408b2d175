/**
 * The age gate: is this person at least so old? It answers yes, no, or ask (for a document), with a measured error rate.
 *
 * The evidence is the log odds, from the words' probabilities, that the person is at least as old as the threshold. The model
 * file holds, for each threshold, the share of people within four years of it who exceed each limit. For a track, the mean
 * evidence of its looks decides, and the limits move towards the center by the square root of the variance of that mean (the
 * design effect; Kish, "Survey Sampling", 1965).
 */
import { NumclipError } from "./errors.js";
import type { Reading } from "./readings.js";
import { type JsonObject, type ModelSpec, list, number, numbers, object } from "./spec.js";

const TRACKS = 256; // maximum number of remembered tracks; the one not seen for longest is forgotten first
const NEAR = 4; // in the task's unit: errors are counted among people this close to the threshold
const SMALLEST_ERROR = 1e-6; // to guarantee it takes 3 million people near the threshold
const CONFIDENCE = 0.95; // confidence of the upper bound on an error rate
export const DEFAULT_ERROR = 0.1;

/** The error rate sets the limit for `yes`, unless a challenge age or a cost does. */
export interface GateOptions {
  threshold: number; // in the task's unit
  error?: number; // highest share of people within four years, on either side, who get a wrong answer; default 0.1
  challenge?: number; // yes only to people whose estimated age is at least this
  cost?: number; // one wrong yes costs as much as this many people, up to ten years above, who are asked
}

export interface Answer {
  threshold: number;
  error: number; // upper bound on the share of people within four years below who get yes
  p: number | null; // the probability of being at least the threshold, from this look alone; null: no reading was accepted
  answer: "yes" | "no" | "ask";
  looks: number; // number of looks behind the answer
}

/** The evidence of one look at a face, or the mean of several looks. */
interface Evidence {
  yes: number; // log odds of being at least the threshold; with a challenge age, the estimated value
  no: number; // log odds of being at least the threshold
  widening: number;
}

export interface Gate {
  readonly threshold: number;
  readonly error: number;
  readonly yesAbove: number; // log odds above which the answer is yes
  readonly noBelow: number;
  readonly center: number; // no limit moves across it
  readonly lookCorrelation: number; // share of the error's variance that all looks at a face have in common
  readonly challenge: number | null;
}

/** One threshold. From step to step rates rise and limits move towards the center. */
export interface GateTable {
  readonly below: number; // number of people within NEAR below the threshold
  readonly above: number;
  readonly center: number;
  readonly yes: readonly number[][]; // rate, limit, share of people up to ten years above who do not get yes
  readonly no: readonly number[][]; // rate, limit
  readonly challenge: readonly number[][]; // rate, value
}

/** The tables of a model file by threshold, without those of an earlier kind (over people of all ages). */
export function gatesOf(spec: ModelSpec): Record<string, GateTable> {
  if (spec.calibration === null) return {};
  const layers = spec.calibration.layers === undefined ? [] : list(spec.calibration.layers, "calibration.layers");
  const top: JsonObject = layers.length ? object(layers[layers.length - 1], "calibration.layers[]") : spec.calibration;
  const held: Record<string, GateTable> = {};
  for (const [at, raw] of Object.entries(top.gates === undefined ? {} : object(top.gates, "calibration.gates"))) {
    const where = `calibration.gates.${at}`;
    const table = object(raw, where);
    if (Object.values(table).every((limits) => Array.isArray(limits) && limits.length === 2)) continue;
    const steps = (name: string) => list(table[name], `${where}.${name}`).map((row) => numbers(row, `${where}.${name}[]`));
    held[at] = {
      below: number(table.below, `${where}.below`),
      above: number(table.above, `${where}.above`),
      center: number(table.center, `${where}.center`),
      yes: steps("yes"), no: steps("no"), challenge: steps("challenge"),
    };
  }
  return held;
}

/** The lowest error rate that a table can guarantee on both sides. */
export function lowestError(table: GateTable): number {
  return Math.max(table.yes[0][0], table.no[0][0]);
}

/** The gate of a model file; throws NumclipError if the calibration cannot guarantee what is asked. */
export function openGate(spec: ModelSpec, options: GateOptions): Gate {
  const { threshold, challenge, cost } = options;
  let error = options.error ?? DEFAULT_ERROR;
  if (spec.calibration === null) {
    throw new NumclipError(
      "usage",
      `model ${spec.name} is not calibrated and so has no gate; run: numclip calibrate MODEL --data DATA`,
    );
  }
  if (challenge !== undefined && cost !== undefined) {
    throw new NumclipError("usage", "expected a challenge age or a cost, got both; give only one");
  }
  if (!(error >= SMALLEST_ERROR && error < 1)) {
    throw new NumclipError("usage", `expected an error of at least ${SMALLEST_ERROR} and below 1, such as ${DEFAULT_ERROR}, got ${error}`);
  }
  const gates = gatesOf(spec);
  const table = gates[String(threshold)];
  if (table === undefined) {
    throw new NumclipError(
      "usage",
      `expected a threshold that ${spec.name} is calibrated for (${Object.keys(gates).join(", ") || "none"}), got ${threshold}; ` +
        `choose one of these, or calibrate on faces within ${NEAR} ${spec.task.unit} of it on both sides`,
    );
  }
  const noBelow = last(spec, table, "no", error, threshold);
  let yesAbove = Infinity;
  if (challenge !== undefined) {
    if (!(challenge >= threshold && challenge < Infinity)) {
      throw new NumclipError("usage", `expected a challenge age of at least ${threshold}, the gate's age, got ${challenge}`);
    }
    error = (table.challenge.find(([, limit]) => limit < challenge) ?? [1])[0];
  } else if (cost !== undefined) {
    if (!(cost > 0 && cost < Infinity)) throw new NumclipError("usage", `expected a cost above 0, got ${cost}`);
    const least = (step: number[]) => cost * step[0] + step[2];
    [error, yesAbove] = table.yes.reduce((best, step) => (least(step) < least(best) ? step : best));
  } else {
    yesAbove = last(spec, table, "yes", error, threshold);
  }
  const rho = spec.calibration.look_correlation;
  return {
    threshold, error, yesAbove, noBelow, center: table.center, challenge: challenge ?? null,
    lookCorrelation: typeof rho === "number" ? rho : 1,
  };
}

/** The limit of the last step with at most this error rate. */
function last(spec: ModelSpec, table: GateTable, kind: "yes" | "no", error: number, threshold: number): number {
  const [steps, people, side] = kind === "yes" ? [table.yes, table.below, "below"] : [table.no, table.above, "above"];
  const kept = steps.filter(([rate]) => rate <= error);
  if (kept.length === 0) {
    const needed = Math.ceil(Math.log(1 - CONFIDENCE) / Math.log1p(-error));
    throw new NumclipError(
      "usage",
      `expected an error rate that the calibration of ${spec.name} can guarantee at ${threshold} (at least ${steps[0][0].toFixed(3)}, ` +
        `with its ${people} people within ${NEAR} ${spec.task.unit} ${side}), got ${error}, which needs ${needed} people; ` +
        "calibrate on more faces, or accept a higher rate",
    );
  }
  return kept[kept.length - 1][1];
}

function decide(gate: Gate, evidence: Evidence, looks: number): Answer["answer"] {
  const away = evidence.widening * Math.sqrt(gate.lookCorrelation + (1 - gate.lookCorrelation) / looks);
  const { threshold, center, challenge } = gate;
  const yes =
    challenge === null
      ? evidence.yes > center + Math.max(0, gate.yesAbove - center) * away
      : evidence.yes >= threshold + (challenge - threshold) * Math.max(1, evidence.widening);
  const no = evidence.no < center - Math.max(0, center - gate.noBelow) * away;
  return yes === no ? "ask" : yes ? "yes" : "no";
}

/** The answer for a face without an accepted reading. */
export function unseen(gate: Gate): Answer {
  return { threshold: gate.threshold, error: gate.error, p: null, answer: "ask", looks: 0 };
}

/** A gate that accumulates the looks at each track. */
export class TrackGate {
  private readonly tracks = new Map<string, { looks: number; mean: Evidence }>();

  constructor(readonly gate: Gate) {}

  /** The answer after one more look at a track; null: a face without a track. */
  look(reading: Reading, key: string | null): Answer {
    const { gate } = this;
    const no = reading.logOdds(gate.threshold);
    const yes = gate.challenge === null ? no : reading.value;
    let evidence: Evidence = { yes, no, widening: reading.widening };
    let looks = 1;
    if (key !== null) {
      const before = this.tracks.get(key) ?? { looks: 0, mean: evidence };
      this.tracks.delete(key);
      looks = before.looks + 1;
      const mean = (m: number, e: number) => m + (e - m) / looks;
      evidence = {
        yes: mean(before.mean.yes, yes),
        no: mean(before.mean.no, no),
        widening: mean(before.mean.widening, reading.widening),
      };
      this.tracks.set(key, { looks, mean: evidence });
      if (this.tracks.size > TRACKS) this.tracks.delete(this.tracks.keys().next().value as string);
    }
    return {
      threshold: gate.threshold, error: gate.error, p: reading.atLeast(gate.threshold),
      answer: decide(gate, evidence, looks), looks,
    };
  }
}
