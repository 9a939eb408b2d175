/** Percentiles of timings with confidence intervals; the same numbers as `bench/statistics.py` in Python. */

const TAIL = 0.025; // on either side of a 95 % interval
const PERCENTILES = [0.5, 0.9, 0.95, 0.99, 0.999];
// 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; the normal's beyond the table.
const STUDENT_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131];
const NORMAL = 1.96;

export interface Interval {
  value: number;
  low: number | null;
  high: number | null;
}

/** The number of samples for which the largest lies above the q-quantile with 97.5 % probability. */
export function samplesFor(q: number): number {
  return Math.ceil(Math.log(TAIL) / Math.log(q));
}

/** The q-quantile (one of the samples) and its distribution-free 95 % interval; null if n is too small for an upper end. */
export function percentile(samples: readonly number[], q: number): Interval | null {
  const n = samples.length;
  if (n < samplesFor(q)) return null;
  const rising = Float64Array.from(samples).sort();
  const atMost = binomialCdf(n, q); // [n + 1]
  const low = Math.max(atMost.findIndex((p) => p > TAIL) - 1, 0);
  const above = atMost.findIndex((p) => p >= 1 - TAIL);
  const high = Math.min(above < 0 ? n - 1 : above, n - 1);
  const rank = Math.max(Math.ceil(Number((n * q).toFixed(9))) - 1, 0);
  return { value: rising[rank], low: rising[low], high: rising[high] };
}

/** n and the percentiles by name: p50, p90, p95, p99, p99.9. */
export function summary(samples: readonly number[]): Record<string, number | Interval | null> {
  const found = PERCENTILES.map((q) => [`p${Number((100 * q).toFixed(1))}`, percentile(samples, q)] as const);
  return { n: samples.length, ...Object.fromEntries(found) };
}

export function median(samples: readonly number[]): number {
  const rising = Float64Array.from(samples).sort();
  const middle = rising.length >> 1;
  return rising.length % 2 ? rising[middle] : (rising[middle - 1] + rising[middle]) / 2;
}

/** The geometric mean over restarts with a 95 % interval by Student's t; no interval for one or two restarts. */
export function overRestarts(values: readonly number[]): Interval {
  const logs = values.map(Math.log);
  const n = logs.length;
  const middle = logs.reduce((a, b) => a + b, 0) / n;
  if (n < 3) return { value: Math.exp(middle), low: null, high: null };
  const variance = logs.reduce((sum, log) => sum + (log - middle) ** 2, 0) / (n - 1);
  const t = STUDENT_T[n - 2] ?? NORMAL + 2.5 / (n - 1);
  const factor = Math.exp(t * Math.sqrt(variance / n));
  const value = Math.exp(middle);
  return { value, low: value / factor, high: value * factor };
}

/** The probability of at most k successes in n tries, for k = 0..n, [n + 1]. */
function binomialCdf(n: number, p: number): number[] {
  const out: number[] = [];
  let logChoose = 0;
  let sum = 0;
  for (let k = 0; k <= n; k++) {
    if (k > 0) logChoose += Math.log(n - k + 1) - Math.log(k);
    sum += Math.exp(logChoose + k * Math.log(p) + (n - k) * Math.log1p(-p));
    out.push(sum);
  }
  return out;
}
