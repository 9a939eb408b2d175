/** The frozen graphs in onnxruntime-web: WebAssembly with SIMD, on one thread or, where the page is isolated, on several. */
import * as ort from "onnxruntime-web/wasm";

import { NumclipError } from "./errors.js";

const MOST_THREADS = 4; // more are slower for graphs this small
const CORES_PER_THREAD = 2; // the page, the camera and other programs want theirs

export type Tensor = { readonly data: Uint8Array; readonly dims: readonly number[] };
export type Outputs = Readonly<Record<string, { readonly data: ArrayLike<number | bigint>; readonly dims: readonly number[] }>>;

/** Something that runs a graph. */
export interface Session {
  run(name: string, input: Tensor): Promise<Outputs>;
  release(): Promise<void>;
}

/** Where the runtime's two files are, where they are not beside the script; call before the first session. */
export function setRuntimeFiles(files: { mjs: string; wasm: string }): void {
  ort.env.wasm.wasmPaths = files;
}

/** The version of onnxruntime-web. */
export function runtimeVersion(): string {
  return ort.env.versions.web ?? ort.env.versions.common;
}

/** How many threads are to be had: several need SharedArrayBuffer, so a page that is cross-origin isolated. */
export function threadsHere(asked?: number): number {
  if (!globalThis.crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  return Math.max(1, asked === undefined ? Math.min(MOST_THREADS, Math.floor(cores / CORES_PER_THREAD)) : Math.min(asked, cores));
}

/** Make a graph ready; throws NumclipError where it does not open. */
export async function openSession(bytes: Uint8Array, name: string, threads: number): Promise<Session> {
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(bytes, {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
      // It puts int8 weights where an INT8 file keeps a layer in float because int8 costs it years.
      extra: { optimization: { disable_specified_optimizers: "WeightBiasQuantization" } },
    });
  } catch (error) {
    const reason = String((error as Error)?.message ?? error).split("\n")[0].slice(0, 200);
    // no available backend: the runtime itself did not start
    if (/backend|wasm|WebAssembly/i.test(reason)) {
      throw new NumclipError("runtime", `the WebAssembly runtime did not start (${reason}); use a browser of 2023 or newer`);
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
