/**
 * Choose the faces that the model reads in a frame, within the budget of model time.
 *
 * A look is one run of the model on one face. Ages change slowly: a face is due SPACING_S after its last look (RESTING_S after
 * SETTLED looks that agree), or when it is seen better than ever before. New faces come first. Each frame adds its budget of
 * model time. A look that exceeds the budget still runs; the debt is paid by later frames without looks.
 */
import type { Track } from "./tracking.js";

const SPACING_S = 0.1;
const SETTLED = 10;
const RESTING_S = 0.5;
const BETTER = 1.2; // a view this many times better than the best so far gets a look at once
const GUESS_S = 0.004; // per face, before the first measurement
const LEARNING = 0.2; // weight of the newest call in the estimate

/** The urgency of a look at a track; 0: not now. detected: whether the detector found it in this frame. */
export function urgency(track: Track, view: number, timeS: number, detected: boolean): number {
  if (track.asked === 0) return 1e9 + view;
  if (!detected) return 0;
  const waited = (timeS - track.askedS) / (track.asked < SETTLED || track.doubted ? SPACING_S : RESTING_S);
  if (waited < 0.99 && view < BETTER * track.bestView) return 0;
  return Math.max(waited, 1) * (1 + 10 / track.asked) * (0.5 + view);
}

/** The available model time, and the estimated time of a look. */
export class LookBudget {
  private creditS: number;
  private faceS = GUESS_S;

  /** budgetS: model time per frame, s; Infinity for no limit. */
  constructor(private readonly budgetS: number) {
    this.creditS = budgetS;
  }

  /** The faces to look at, most urgent first, given the urgency of each. */
  choose(wanted: readonly number[]): number[] {
    const queue = wanted.map((_, i) => i).filter((i) => wanted[i] > 0).sort((a, b) => wanted[b] - wanted[a]);
    this.creditS = Math.min(this.budgetS, this.creditS + this.budgetS);
    let many = this.creditS < Infinity ? Math.trunc(this.creditS / this.faceS) : queue.length;
    if (many === 0 && this.creditS >= this.budgetS) many = 1;
    const bought = queue.slice(0, Math.max(0, many));
    if (this.creditS < Infinity) this.creditS -= bought.length * this.faceS;
    return bought;
  }

  /** Record the time of one model call. */
  spent(faces: number, seconds: number): void {
    if (!faces) return;
    if (this.creditS < Infinity) this.creditS += faces * this.faceS - seconds;
    this.faceS += LEARNING * (seconds / faces - this.faceS);
  }
}
