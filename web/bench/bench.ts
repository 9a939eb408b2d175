/**
 * Measure the latency of this site's model in this browser, as `numclip bench` does natively: MLPerf's single-stream scenario,
 * one call after another, with the 90th percentile as its result. `numclip compare` reads the report.
 */
import { type Model, load } from "../src/index.js";
import { median, overRestarts, samplesFor, summary } from "./statistics.js";

const SCENARIO_QUANTILE = 0.9;
const STABLE = 0.05; // warm-up ends when the medians of two windows differ by at most this share
const WINDOW_CALLS = 10;
const WINDOW_MS = 1000;
const WARM_UP_LIMIT_MS = 10_000;

interface Restart {
  loadMs: number;
  firstCallMs: number;
  warmUpCalls: number;
  stable: boolean;
  samplesMs: number[];
}

const asked = new URLSearchParams(location.search);
const seconds = Number(asked.get("seconds") ?? 5);
const restarts = Number(asked.get("restarts") ?? 6);
const threads = asked.has("threads") ? Number(asked.get("threads")) : 1;
const button = document.getElementById("measure") as HTMLButtonElement;
const state = document.getElementById("state") as HTMLElement;
const output = document.getElementById("report") as HTMLElement;

button.onclick = async () => {
  button.disabled = true;
  try {
    const report = await measure();
    output.textContent = JSON.stringify(report, null, 2);
    const link = document.getElementById("save") as HTMLAnchorElement;
    link.href = URL.createObjectURL(new Blob([output.textContent], { type: "application/json" }));
    link.hidden = false;
    const { p50, p90, p99, n } = report.rows[0].latency_ms as Record<string, { value: number } | null> & { n: number };
    const said = (at: { value: number } | null) => (at === null ? "–" : `${at.value.toFixed(1)} ms`);
    state.textContent = `${report.rows[0].model}, one face per call, ${n} calls: p50 ${said(p50)}, p90 ${said(p90)}, p99 ${said(p99)}`;
    document.documentElement.dataset.bench = "done";
  } catch (error) {
    state.textContent = (error as Error).message;
    document.documentElement.dataset.bench = "failed";
  }
  button.disabled = false;
};

async function measure() {
  const site = (await (await fetch("site.json")).json()) as { model: string; finder: string };
  const shown: Restart[] = [];
  let info: Model["info"] | null = null;
  let about = { graphSha256: "", graphBytes: 0 };
  for (let n = 0; n < restarts; n++) {
    state.textContent = `Measuring, ${n + 1} of ${restarts}…`;
    const model = await load(site.model, {
      finder: site.finder, threads,
      runtime: { mjs: "ort-wasm-simd-threaded.mjs", wasm: "ort-wasm-simd-threaded.wasm" },
    });
    info = model.info;
    const crop = made(info.side);
    const restart: Restart = { ...(await warmUp(model, crop)), samplesMs: [] };
    const enough = Math.ceil(samplesFor(SCENARIO_QUANTILE) / restarts);
    const begun = performance.now();
    while (restart.samplesMs.length < enough || performance.now() - begun < (1000 * seconds) / restarts) {
      const timed = await model.time(crop, 1, 100);
      restart.samplesMs.push(...timed.samplesMs);
      about = timed;
    }
    shown.push(restart);
    await model.close();
  }
  return reportOf(info as Model["info"], about, shown);
}

async function warmUp(model: Model, crop: Uint8Array): Promise<Omit<Restart, "samplesMs">> {
  const begun = performance.now();
  let before: number | null = null;
  let calls = 0;
  let stable = false;
  let opening = { loadMs: 0, firstCallMs: 0 };
  while (!stable && performance.now() - begun < WARM_UP_LIMIT_MS) {
    const timed = await model.time(crop, 1, WINDOW_MS, WINDOW_CALLS);
    opening = timed;
    const now = median(timed.samplesMs);
    calls += timed.samplesMs.length;
    stable = before !== null && Math.abs(now - before) <= STABLE * before;
    before = now;
  }
  return { loadMs: opening.loadMs, firstCallMs: opening.firstCallMs, warmUpCalls: calls, stable };
}

/** A synthetic picture: the time does not depend on the content. */
function made(side: number): Uint8Array {
  return Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 37 + (i >> 5) * 11) % 256);
}

function reportOf(info: Model["info"], about: { graphSha256: string; graphBytes: number }, shown: Restart[]) {
  const samples = shown.flatMap((restart) => restart.samplesMs);
  const versions = { "onnxruntime-web": info.runtime, browser: browserName() };
  const idle = {
    load_1min: null, cpu_mhz: null, gpu_mhz: null, temperature_c: {}, power_mode: null, throttle: {},
  };
  return {
    schema_version: 2,
    scenario: "single-stream",
    date: new Date().toISOString().slice(0, 10),
    environment: {
      cpu: "as the browser sees it", cores: navigator.hardwareConcurrency, board: null, jetpack: null, nvidia_driver: null,
      memory_gb: (navigator as { deviceMemory?: number }).deviceMemory ?? null, system: navigator.platform, python: "none", versions,
    },
    absent: [],
    energy_unreadable: [],
    crops: "a made picture",
    restarts: shown.length,
    seconds,
    peaks: [],
    rows: [
      {
        model: info.name, sha256: about.graphSha256, file_bytes: about.graphBytes, multiply_adds: null,
        mae: info.metrics.map(({ data, split, mae }) => ({ data: data ?? null, split: split ?? null, mae: mae ?? null })),
        parity: info.parity,
        session: { library: "onnxruntime-web", version: info.runtime, device: "wasm", threads: info.threads },
        device: "wasm", threads: info.threads, batch: 1, flop_per_call: null, bytes_per_call: about.graphBytes, gpu_mb: null,
        load_ms: median(shown.map((r) => r.loadMs)),
        first_call_ms: median(shown.map((r) => r.firstCallMs)),
        warm_up_calls: shown.reduce((sum, r) => sum + r.warmUpCalls, 0),
        stable: shown.every((r) => r.stable),
        rss_mb: null,
        latency_ms: summary(samples),
        faces_per_s: overRestarts(shown.map((r) => (1000 * r.samplesMs.length) / r.samplesMs.reduce((a, b) => a + b, 0))),
        interrupted: null, // browsers do not report this
        restarts: shown.map((r) => ({ p50_ms: median(r.samplesMs), undisturbed_p50_ms: null })),
        ratio_to_first: { value: 1, low: 1, high: 1, rounds: shown.length, undisturbed: false },
        gemm_share: null, copy_share: null, energy: [], readings_ms: null,
      },
    ],
    state: { before: idle, after: idle },
    valid: true,
    invalid_because: [] as string[],
  };
}

function browserName(): string {
  const found = /(Firefox|Edg|Chrome|Version)\/(\d+)/.exec(navigator.userAgent);
  return found ? `${found[1] === "Version" ? "Safari" : found[1]} ${found[2]}` : "unknown";
}
