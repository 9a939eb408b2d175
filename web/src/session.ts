/** Run the frozen graphs in onnxruntime-web: WebAssembly with SIMD, on one thread or, if the page is isolated, on several. */
import * as ort from "onnxruntime-web/wasm";

import { NumclipError } from "./errors.js";

const MOST_THREADS = 4; // more are slower for graphs this small
const CORES_PER_THREAD = 2; // leave cores for the page, the camera and other programs

export type Tensor = { readonly data: Uint8Array; readonly dims: readonly number[] };
export type Outputs = Readonly<Record<string, { readonly data: ArrayLike<number | bigint>; readonly dims: readonly number[] }>>;

/** An object that runs a graph. */
export interface Session {
  run(name: string, input: Tensor): Promise<Outputs>;
  release(): Promise<void>;
}

/** Set the location of the runtime's two files, if they are not in the script's folder; call before the first session. */
export function setRuntimeFiles(files: { mjs: string; wasm: string }): void {
  ort.env.wasm.wasmPaths = files;
}

/** The version of onnxruntime-web. */
export function runtimeVersion(): string {
  return ort.env.versions.web ?? ort.env.versions.common;
}

/** The number of threads: more than one needs SharedArrayBuffer, and so a cross-origin isolated page. */
export function threadsHere(asked?: number): number {
  if (!globalThis.crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  return Math.max(1, asked === undefined ? Math.min(MOST_THREADS, Math.floor(cores / CORES_PER_THREAD)) : Math.min(asked, cores));
}

/** Open a graph; throws NumclipError if that fails. */
export async function openSession(bytes: Uint8Array, name: string, threads: number): Promise<Session> {
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(bytes, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
      // This optimisation would use int8 weights in layers that an INT8 file keeps in float because int8 makes them inaccurate.
      extra: { optimization: { disable_specified_optimizers: "WeightBiasQuantization" } },
    });
  } catch (error) {
    const reason = String((error as Error)?.message ?? error).split("\n")[0].slice(0, 200);
    // "no available backend" means that the runtime itself did not start
    if (/backend|wasm|WebAssembly/i.test(reason)) {
      throw new NumclipError("runtime", `the WebAssembly runtime did not start (${reason}); use a browser from 2023 or newer`);
    }
    throw new NumclipError("model-graph", `${name}: ONNX Runtime cannot open the graph (${reason}); export it again`);
  }
  return {
    async run(input, { data, dims }) {
      const tensor = new ort.Tensor("uint8", data, dims);
      const outputs = await session.run({ [input]: tensor });
      return outputs as unknown as Outputs;
    },
    release: () => session.release(),
  };
}
