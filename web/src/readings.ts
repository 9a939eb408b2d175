/** What the model says about one face: a refined number, the word it came through, and how sure it may be. */
import { type ConformalTable, atLeast, correct, difficulty, interval, logOdds, spread, widened } from "./conformal.js";
import { NumclipError } from "./errors.js";
import { type ModelSpec, binOf } from "./spec.js";

export class Reading {
  private difficulty_: number | null = null;

  constructor(
    readonly value: number, // in the task's unit; float32, as all numbers of the graph
    readonly probabilities: Float32Array, // [K] over the text bins
    readonly embedding: Float32Array, // [D], L2-normalised
    readonly spec: ModelSpec,
    readonly table: ConformalTable | null,
    readonly sharpness: number, // of the crop; NaN where it was not measured
  ) {}

  /** The word of the bin that holds the value. */
  get word(): string {
    return this.spec.task.words[binOf(this.spec.task, this.value)];
  }

  /** Low and high in the task's unit, holding the true value with probability `level`; needs a calibrated model. */
  interval(level = 0.9): [number, number] {
    return interval(this.demandTable(), this.value, this.difficulty, level, this.spec.task);
  }

  /** The probability that the true value is at least `threshold`; needs a calibrated model. */
  atLeast(threshold: number): number {
    return Math.fround(atLeast(this.demandTable(), this.value, this.difficulty, threshold));
  }

  /** Log odds, by the words alone, that the true value is at least `threshold`. */
  logOdds(threshold: number): number {
    return logOdds(this.probabilities, threshold, this.spec.task);
  }

  /** How many times wider than usual the intervals are, for lost detail. */
  get widening(): number {
    return Math.fround(widened(this.demandTable(), this.known));
  }

  /** The expected size of the error, in the task's unit; the words' spread where nothing is calibrated. */
  get difficulty(): number {
    this.difficulty_ ??=
      this.table === null
        ? spread(this.value, this.probabilities, this.spec.task)
        : difficulty(this.table, this.value, this.probabilities, this.known, this.spec.task);
    return this.difficulty_;
  }

  private get known(): number {
    return Number.isNaN(this.sharpness) ? Infinity : this.sharpness;
  }

  private demandTable(): ConformalTable {
    if (this.table === null) {
      throw new NumclipError(
        "usage",
        `model ${this.spec.name} has no calibrated intervals; run: numclip calibrate MODEL --data DATA`,
      );
    }
    return this.table;
  }
}

/** One reading from what the graph put out for one crop. */
export function readingOf(
  spec: ModelSpec, table: ConformalTable | null, value: number, probabilities: Float32Array, embedding: Float32Array,
  sharpness: number,
): Reading {
  const said = table === null ? { value, probabilities } : correct(table, value, probabilities, spec.task);
  return new Reading(said.value, said.probabilities, embedding, spec, table, sharpness);
}
