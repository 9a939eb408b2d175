/**
 * The running estimate of a tracked person: it combines many looks into one value with an interval.
 *
 * It is a weighted mean of the looks (a look is one run of the model on the face). A look weighs more the better the face was
 * visible, and less the further it is from the estimate; old looks fade. The errors of looks at one face are correlated: a share
 * rho of their variance is common to all, so the mean of n looks has the variance rho + (1 - rho) / n of one look (Kish, "Survey
 * Sampling", 1965). One look never moves the estimate out of its interval. If CHANGE_LOOKS looks in a row all differ strongly
 * from the estimate, the track now shows another person.
 */
import { Reading } from "./readings.js";
import type { ModelSpec } from "./spec.js";
import { clamp } from "./numbers.js";

const FADE_S = 10; // time after which the weight of a look has fallen to 1 / e
const FASTEST = 0.95; // a new look lowers the weight of the earlier ones at most to this share
const MOVE_LEVEL = 0.9; // coverage of the interval that one look cannot leave
const CHANGE_LOOKS = 6;
const CHANGE_SCORE = 3; // distance in value / difficulty + distance of embeddings / EMBEDDING_UNIT
const EMBEDDING_UNIT = 0.15; // 1 - cosine

/** The estimate of a track's person so far. */
export interface TrackReading {
  readonly mean: Reading; // value, probabilities and embedding, averaged over the looks
  readonly looks: number; // effective number of looks
  readonly shrink: number; // the interval's width divided by that of one look
}

/** Low and high of the estimate, in the task's unit; the true value lies between them with probability `level`. */
export function shownInterval({ mean, shrink }: TrackReading, level: number): [number, number] {
  const [low, high] = mean.interval(level);
  return [mean.value - shrink * (mean.value - low), mean.value + shrink * (high - mean.value)];
}

interface Look {
  weight: number;
  numbers: Float64Array; // [1 + 1 + K + D]: value, sharpness, probabilities, embedding
}

/** The running estimate of one track. */
export class RunningAge {
  shown: TrackReading | null = null;
  people = 0; // number of people recognised as different so far
  doubted = false; // the last look differed strongly, so another look is due soon
  private readonly correlation: number;
  private recent: Look[] = [];
  private sum = new Float64Array(0); // sum of weight * numbers
  private weight = 0;
  private weightSquares = 0;
  private lookedS = 0;

  constructor(spec: ModelSpec) {
    const rho = spec.calibration?.look_correlation;
    this.correlation = typeof rho === "number" ? rho : 1;
  }

  /** Add a look at this time, with this quality (above 0, at most 1), and return the estimate. */
  look(reading: Reading, quality: number, timeS: number): TrackReading {
    const fade = Math.max(Math.exp(-Math.max(0, timeS - this.lookedS) / FADE_S), FASTEST);
    this.lookedS = timeS;
    const numbers = Float64Array.of(reading.value, reading.sharpness, ...reading.probabilities, ...reading.embedding);
    this.recent = [...this.recent, { weight: quality, numbers }].slice(-CHANGE_LOOKS);
    const before = this.shown;
    if (before === null || this.isAnother(before)) {
      this.people += 1;
      this.doubted = false;
      const looks = before === null ? this.recent.slice(-1) : this.recent;
      this.recent = [];
      this.sum = new Float64Array(numbers.length);
      this.weight = this.weightSquares = 0;
      for (const look of looks) this.add(look.weight, look.numbers, 1);
    } else {
      const away = (reading.value - before.mean.value) / before.mean.difficulty;
      this.doubted = Math.abs(away) > 1;
      this.add(quality / (1 + away ** 2), numbers, fade);
      this.stayInside(before);
    }
    this.shown = this.estimate(reading);
    return this.shown;
  }

  private add(weight: number, numbers: Float64Array, fade: number): void {
    for (let i = 0; i < numbers.length; i++) this.sum[i] = fade * this.sum[i] + weight * numbers[i];
    this.weight = fade * this.weight + weight;
    this.weightSquares = fade ** 2 * this.weightSquares + weight ** 2;
  }

  /** Clip the new mean to the interval of the previous estimate. */
  private stayInside(before: TrackReading): void {
    const { value, difficulty, table } = before.mean;
    const [low, high] = table === null ? [value - difficulty, value + difficulty] : shownInterval(before, MOVE_LEVEL);
    this.sum[0] = this.weight * clamp(this.sum[0] / this.weight, low, high);
  }

  /** Whether the last looks are all on one side of the estimate and, together, far from it in value and embedding. */
  private isAnother(before: TrackReading): boolean {
    if (this.recent.length < CHANGE_LOOKS) return false;
    const away = this.recent.map((look) => (look.numbers[0] - before.mean.value) / before.mean.difficulty);
    if (!(Math.min(...away) > 1 || Math.max(...away) < -1)) return false;
    const { embedding } = before.mean;
    const middle = away.reduce((s, a) => s + a, 0) / away.length;
    if (embedding.length === 0) return Math.abs(middle) > CHANGE_SCORE; // without an embedding only the value decides
    const start = this.sum.length - embedding.length;
    let along = 0;
    let norm = 0;
    for (let d = 0; d < embedding.length; d++) {
      const sum = this.recent.reduce((s, look) => s + look.numbers[start + d], 0);
      along += sum * embedding[d];
      norm += sum * sum;
    }
    const cosine = along / Math.max(Math.sqrt(norm), 1e-9);
    return Math.abs(middle) + (1 - cosine) / EMBEDDING_UNIT > CHANGE_SCORE;
  }

  /** The state as a reading. */
  private estimate(like: Reading): TrackReading {
    const mean = Float32Array.from(this.sum, (s) => s / this.weight);
    const bins = like.probabilities.length;
    const raw = mean.subarray(2 + bins);
    const norm = Math.max(Math.hypot(...raw), 1e-9);
    const reading = new Reading(
      mean[0], mean.slice(2, 2 + bins), raw.map((e) => e / norm), like.spec, like.table, mean[1],
    );
    const looks = this.weight ** 2 / this.weightSquares;
    return { mean: reading, looks, shrink: Math.sqrt(this.correlation + (1 - this.correlation) / looks) };
  }
}
