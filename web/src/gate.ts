/**
 * The age gate: is this person at least so old? yes, no, or ask for a document, at an error rate that was shown near the threshold.
 *
 * The evidence is the log odds that the words give to the threshold; the model file holds, for each threshold, how many people
 * within four years of it pass each limit. Over a track the mean of the looks' evidence decides, and the limits move towards the
 * center by the root of the variance that the mean keeps (the design effect; Kish, "Survey Sampling", 1965).
 */
import { NumclipError } from "./errors.js";
import type { Reading } from "./readings.js";
import { type JsonObject, type ModelSpec, list, number, numbers, object } from "./spec.js";

const TRACKS = 256; // remembered; the one not seen for longest is forgotten first
const NEAR = 4; // in the task's unit: errors are counted among people so near to the threshold
const CONFIDENCE = 0.95; // of the bound on an error rate
export const DEFAULT_ERROR = 0.1;

/** `yes` is set by the error, or in its place by a challenge age or a cost. */
export interface GateOptions {
  threshold: number; // in the task's unit
  error?: number; // highest share of people within four years, on either side, who may be answered wrongly; 0.1 when not given
  challenge?: number; // yes to those read as so old or older
  cost?: number; // one wrong yes is as bad as so many people up to ten years above who are asked
}

export interface Answer {
  threshold: number;
  error: number; // bound on the share of people within four years below who get yes
  p: number | null; // the probability to be at least the threshold, by this look alone; null: no look was believed
  answer: "yes" | "no" | "ask";
  looks: number; // that the answer rests on
}

/** One look at a face, or the mean of several. */
interface Evidence {
  yes: number; // log odds to be at least the threshold; under a challenge age the value
  no: number; // log odds to be at least the threshold
  widening: number;
}

export interface Gate {
  readonly threshold: number;
  readonly error: number;
  readonly yesAbove: number; // log odds above which the answer is yes
  readonly noBelow: number;
  readonly center: number; // that no limit moves across
  readonly lookCorrelation: number; // how much of the error's variance all looks at a face share
  readonly challenge: number | null;
}

/** One threshold. Rates rise from step to step; limits come nearer to the center. */
export interface GateTable {
  readonly below: number; // people within NEAR below the threshold
  readonly above: number;
  readonly center: number;
  readonly yes: readonly number[][]; // rate, limit, share of those up to ten years above who do not pass
  readonly no: readonly number[][]; // rate, limit
  readonly challenge: readonly number[][]; // rate, value
}

/** The tables of a model file by threshold; those of an earlier kind, over people of all ages, are left out. */
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

/** The lowest error rate that a table can show on both sides. */
export function lowestError(table: GateTable): number {
  return Math.max(table.yes[0][0], table.no[0][0]);
}

/** The gate that a model file holds; throws NumclipError where it cannot show what is asked. */
export function openGate(spec: ModelSpec, options: GateOptions): Gate {
  const { threshold, challenge, cost } = options;
  let error = options.error ?? DEFAULT_ERROR;
  if (spec.calibration === null) {
    throw new NumclipError(
      "usage",
      `model ${spec.name} is not calibrated, so it has no gate; run: numclip calibrate MODEL --data DATA`,
    );
  }
  if (challenge !== undefined && cost !== undefined) {
    throw new NumclipError("usage", "expected a challenge age or a cost, got both; give one of them");
  }
  if (!(error > 0 && error < 1)) {
    throw new NumclipError("usage", `expected an error between 0 and 1, such as ${DEFAULT_ERROR}, got ${error}`);
  }
  const gates = gatesOf(spec);
  const table = gates[String(threshold)];
  if (table === undefined) {
    throw new NumclipError(
      "usage",
      `expected a gate at a threshold that ${spec.name} holds (${Object.keys(gates).join(", ") || "none"}), got ${threshold}; ` +
        `choose one of these, or calibrate on faces within ${NEAR} ${spec.task.unit} of it on both sides`,
    );
  }
  const noBelow = last(spec, table, "no", error, threshold);
  let yesAbove = Infinity;
  if (challenge !== undefined) {
    if (!(challenge >= threshold && challenge < Infinity)) {
      throw new NumclipError("usage", `expected a challenge age of ${threshold}, the gate's age, or more, got ${challenge}`);
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

/** The limit of the last step that keeps the rate. */
function last(spec: ModelSpec, table: GateTable, kind: "yes" | "no", error: number, threshold: number): number {
  const [steps, people, side] = kind === "yes" ? [table.yes, table.below, "below"] : [table.no, table.above, "above"];
  const kept = steps.filter(([rate]) => rate <= error);
  if (kept.length === 0) {
    const needed = Math.ceil(Math.log(1 - CONFIDENCE) / Math.log1p(-error));
    throw new NumclipError(
      "usage",
      `expected an error rate that ${spec.name} can show at ${threshold} (${steps[0][0].toFixed(3)} or more with its ${people} ` +
        `people within ${NEAR} ${spec.task.unit} ${side}), got ${error}; that needs ${needed} of them: ` +
        "calibrate on more faces, or ask for a higher rate",
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

/** The answer where no look was believed. */
export function unseen(gate: Gate): Answer {
  return { threshold: gate.threshold, error: gate.error, p: null, answer: "ask", looks: 0 };
}

/** A gate that remembers the looks at each track. */
export class TrackGate {
  private readonly tracks = new Map<string, { looks: number; mean: Evidence }>();

  constructor(readonly gate: Gate) {}

  /** The answer after one more look at a track; null stands for a face that has no track. */
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
