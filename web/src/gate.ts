/**
 * The age gate: is this person at least so old? yes, no, or ask for a document, at an error rate that was measured.
 *
 * The evidence is the log odds that the words give to the threshold; the model file holds two limits for each threshold
 * and error rate. Over a track the mean of the looks' evidence decides, and the limits move together by the root of the
 * variance that the mean keeps (the design effect; Kish, "Survey Sampling", 1965).
 */
import { NumclipError } from "./errors.js";
import type { Reading } from "./readings.js";
import { type JsonObject, type ModelSpec, list, numbers, object } from "./spec.js";

const TRACKS = 256; // remembered; the one not seen for longest is forgotten first

export interface GateOptions {
  threshold: number; // in the task's unit
  error?: number; // share that may be answered wrongly; 0.01 when not given
  buffer?: number; // `yes` asks for so much more than the threshold; 0 when not given
}

export interface Answer {
  threshold: number;
  error: number;
  p: number; // the probability to be at least the threshold, by this look alone
  answer: "yes" | "no" | "ask";
  looks: number; // that the answer rests on
}

/** One look at a face, or the mean of several. */
interface Evidence {
  yes: number; // log odds to be at least the threshold plus the buffer
  no: number; // log odds to be at least the threshold
  widening: number;
}

export interface Gate {
  readonly threshold: number;
  readonly error: number;
  readonly yesAbove: number; // log odds above which the answer is yes
  readonly noBelow: number;
  readonly lookCorrelation: number; // how much of the error's variance all looks at a face share
  readonly buffer: number;
}

/** The thresholds and error rates that a model file holds. */
export function gatesOf(spec: ModelSpec): Record<string, Record<string, [number, number]>> {
  if (spec.calibration === null) return {};
  const layers = spec.calibration.layers === undefined ? [] : list(spec.calibration.layers, "calibration.layers");
  const top: JsonObject = layers.length ? object(layers[layers.length - 1], "calibration.layers[]") : spec.calibration;
  const held: Record<string, Record<string, [number, number]>> = {};
  for (const [at, rates] of Object.entries(top.gates === undefined ? {} : object(top.gates, "calibration.gates"))) {
    held[at] = {};
    for (const [rate, limits] of Object.entries(object(rates, `calibration.gates.${at}`))) {
      const [yes, no] = numbers(limits, `calibration.gates.${at}.${rate}`);
      held[at][rate] = [yes, no];
    }
  }
  return held;
}

/** The gate that a model file holds; throws NumclipError naming what it holds. */
export function openGate(spec: ModelSpec, options: GateOptions): Gate {
  const { threshold, error = 0.01, buffer = 0 } = options;
  if (spec.calibration === null) {
    throw new NumclipError(
      "usage",
      `model ${spec.name} is not calibrated, so it has no gate; run: numclip calibrate MODEL --data DATA`,
    );
  }
  if (!(buffer >= 0 && buffer < Infinity)) {
    throw new NumclipError("usage", `expected a buffer of 0 or more ${spec.task.unit}, got ${buffer}`);
  }
  const gates = gatesOf(spec);
  const limits = gates[String(threshold)]?.[String(error)];
  if (limits === undefined) {
    const held = Object.entries(gates).map(([at, rates]) => `${at} at ${Object.keys(rates).join(", ")}`);
    throw new NumclipError(
      "usage",
      `expected a gate and an error that ${spec.name} holds (${held.join("; ") || "none"}), got ${threshold} at ${error}; ` +
        "choose one of these, or calibrate on more faces on both sides of the threshold",
    );
  }
  const rho = spec.calibration.look_correlation;
  return {
    threshold, error, buffer, yesAbove: limits[0], noBelow: limits[1],
    lookCorrelation: typeof rho === "number" ? rho : 1,
  };
}

function decide(gate: Gate, evidence: Evidence, looks: number): Answer["answer"] {
  const middle = (gate.yesAbove + gate.noBelow) / 2;
  let half = Math.max(0, gate.yesAbove - gate.noBelow) / 2;
  half *= evidence.widening * Math.sqrt(gate.lookCorrelation + (1 - gate.lookCorrelation) / looks);
  return evidence.yes > middle + half ? "yes" : evidence.no < middle - half ? "no" : "ask";
}

/** A gate that remembers the looks at each track. */
export class TrackGate {
  private readonly tracks = new Map<string, { looks: number; mean: Evidence }>();

  constructor(readonly gate: Gate) {}

  /** The answer after one more look at a track; null stands for a face that has no track. */
  look(reading: Reading, key: string | null): Answer {
    const { gate } = this;
    const no = reading.logOdds(gate.threshold);
    const yes = gate.buffer ? reading.logOdds(gate.threshold + gate.buffer) : no;
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
