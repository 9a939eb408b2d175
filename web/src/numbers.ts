/** Numeric helpers that give the same results as numpy's in Python. */

/** Piecewise linear interpolation at `x` over ascending `xs`; constant outside (numpy.interp). */
export function interp(x: number, xs: readonly number[], ys: readonly number[]): number {
  const last = xs.length - 1;
  if (x > xs[last]) return ys[last];
  if (x < xs[0]) return ys[0];
  let low = 0;
  let high = last + 1; // xs[low] <= x < xs[high]
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle;
    else high = middle;
  }
  if (low === last || xs[low] === x) return ys[low];
  return ((ys[low + 1] - ys[low]) / (xs[low + 1] - xs[low])) * (x - xs[low]) + ys[low];
}

export function clamp(x: number, low: number, high: number): number {
  return Math.min(Math.max(x, low), high);
}

/** Round to the nearest integer, halves to even, as Python and OpenCV do. */
export function roundHalfEven(x: number): number {
  const down = Math.floor(x);
  const part = x - down;
  if (part !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}
