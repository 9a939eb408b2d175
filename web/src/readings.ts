/** The model's output for one face: an estimated value, the probabilities of the text bins, and calibrated intervals. */
import { type ConformalTable, atLeast, correct, difficulty, interval, logOdds, spread, widened } from "./conformal.js";
import { NumclipError } from "./errors.js";
import { type ModelSpec, binOf } from "./spec.js";

export class Reading {
  private difficulty_: number | null = null;

  constructor(
    readonly value: number, // in the task's unit; float32, like all numbers of the graph
    readonly probabilities: Float32Array, // [K] over the text bins
    readonly embedding: Float32Array, // [D], L2-normalised
    readonly spec: ModelSpec,
    readonly table: ConformalTable | null,
    readonly sharpness: number, // of the crop; NaN if it was not measured
  ) {}

  /** The word of the bin that contains the value. */
  get word(): string {
    return this.spec.task.words[binOf(this.spec.task, this.value)];
  }

  /** Low and high in the task's unit; the true value lies between them with probability `level`. Needs a calibrated model. */
  interval(level = 0.9): [number, number] {
    return interval(this.demandTable(), this.value, this.difficulty, level, this.spec.task);
  }

  /** The probability that the true value is at least `threshold`; needs a calibrated model. */
  atLeast(threshold: number): number {
    return Math.fround(atLeast(this.demandTable(), this.value, this.difficulty, threshold));
  }

  /** The log odds, from the words' probabilities alone, that the true value is at least `threshold`. */
  logOdds(threshold: number): number {
    return logOdds(this.probabilities, threshold, this.spec.task);
  }

  /** The factor by which intervals are widened for lost detail and for an unfamiliar face; 1 for a clear, familiar face. */
  get widening(): number {
    return Math.fround(widened(this.demandTable(), this.known, this.embedding));
  }

  /** The expected size of the error, in the task's unit; the words' spread if the model is not calibrated. */
  get difficulty(): number {
    this.difficulty_ ??=
      this.table === null
        ? spread(this.value, this.probabilities, this.spec.task)
        : difficulty(this.table, this.value, this.probabilities, this.known, this.embedding, this.spec.task);
    return this.difficulty_;
  }

  private get known(): number {
    return Number.isNaN(this.sharpness) ? Infinity : this.sharpness;
  }

  private demandTable(): ConformalTable {
    if (this.table === null) {
      throw new NumclipError(
        "usage",
        `model ${this.spec.name} is not calibrated and so has no intervals; run: numclip calibrate MODEL --data DATA`,
      );
    }
    return this.table;
  }
}

/** Make a reading from the graph's outputs for one crop. */
export function readingOf(
  spec: ModelSpec, table: ConformalTable | null, value: number, probabilities: Float32Array, embedding: Float32Array,
  sharpness: number,
): Reading {
  const said = table === null ? { value, probabilities } : correct(table, value, probabilities, spec.task);
  return new Reading(said.value, said.probabilities, embedding, spec, table, sharpness);
}
