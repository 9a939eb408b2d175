/**
 * Which faces the model looks at in a frame, so that it takes no more time than it may.
 *
 * Ages change slowly: a face is due SPACING_S after its last look (RESTING_S when it has had SETTLED of them that agree),
 * or when it is seen better than ever. Those nobody has looked at come first. Each frame earns the budget of model time;
 * a model slower than it runs all the same, in debt, and then rests until that is paid.
 */
import type { Track } from "./tracking.js";

const SPACING_S = 0.1;
const SETTLED = 10;
const RESTING_S = 0.5;
const BETTER = 1.2; // a view so many times better than the best so far is worth a look at once
const GUESS_S = 0.004; // per face, before anything was timed
const LEARNING = 0.2; // share of the newest call in the estimate

/** How much a look at a track is wanted; 0: not now. detected: whether the detector saw it in this very frame. */
export function urgency(track: Track, view: number, timeS: number, detected: boolean): number {
  if (track.asked === 0) return 1e9 + view;
  if (!detected) return 0;
  const waited = (timeS - track.askedS) / (track.asked < SETTLED || track.doubted ? SPACING_S : RESTING_S);
  if (waited < 0.99 && view < BETTER * track.bestView) return 0;
  return Math.max(waited, 1) * (1 + 10 / track.asked) * (0.5 + view);
}

/** Model time that may be spent, and what a look costs. */
export class LookBudget {
  private creditS: number;
  private faceS = GUESS_S;

  /** budgetS: per frame; Infinity for no bound. */
  constructor(private readonly budgetS: number) {
    this.creditS = budgetS;
  }

  /** The faces to look at, for the urgency of each: the most urgent first. */
  choose(wanted: readonly number[]): number[] {
    const queue = wanted.map((_, i) => i).filter((i) => wanted[i] > 0).sort((a, b) => wanted[b] - wanted[a]);
    this.creditS = Math.min(this.budgetS, this.creditS + this.budgetS);
    let many = this.creditS < Infinity ? Math.trunc(this.creditS / this.faceS) : queue.length;
    if (many === 0 && this.creditS >= this.budgetS) many = 1;
    const bought = queue.slice(0, Math.max(0, many));
    if (this.creditS < Infinity) this.creditS -= bought.length * this.faceS;
    return bought;
  }

  /** A call for so many faces took so long. */
  spent(faces: number, seconds: number): void {
    if (!faces) return;
    if (this.creditS < Infinity) this.creditS += faces * this.faceS - seconds;
    this.faceS += LEARNING * (seconds / faces - this.faceS);
  }
}
