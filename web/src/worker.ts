/** The worker: all slow work happens here, so that the page stays responsive. */
import { Engine } from "./engine.js";
import { NumclipError } from "./errors.js";
import { gatesOf, lowestError } from "./gate.js";
import type { Calls, FileSource, LoadRequest, ModelInfo, Reply, Request, SentPicture } from "./messages.js";
import type { Pixels } from "./pixels.js";
import { runtimeVersion, setRuntimeFiles, threadsHere } from "./session.js";

// If the runtime is bundled in, it starts its threads from this script too; those threads must not handle our messages.
if (!self.name.startsWith("em-pthread")) serve();

function serve(): void {
  let engine: Engine | null = null;
  let turn: Promise<unknown> = Promise.resolve();
  const opened = (): Engine => {
    if (engine === null) throw new NumclipError("usage", "expected a loaded model, got a call before load; call load first");
    return engine;
  };

  const calls: { [Name in keyof Calls]: (id: number, ...args: Parameters<Calls[Name]>) => Promise<ReturnType<Calls[Name]>> } = {
    async load(id, request) {
      const files = await fetchBoth(request, (loaded, total) => reply({ id, progress: { loaded, total } }));
      if (request.runtime) setRuntimeFiles(request.runtime);
      const next = await Engine.open(files[0], files[1], threadsHere(request.threads));
      await engine?.release();
      engine = next;
      return infoOf(engine, files[0].bytes.length + files[1].bytes.length);
    },
    read: async (_, picture, options) => opened().read(pixelsOf(picture), options),
    start: async (_, stream, options) => opened().start(stream, options),
    next: async (_, stream, picture, timeS) => opened().next(stream, pixelsOf(picture), timeS),
    stop: async (_, stream) => opened().stop(stream),
    async time(_, crops, faces, atMostMs, many) {
      const size = crops.length / faces;
      const split = Array.from({ length: faces }, (_, n) => crops.subarray(n * size, (n + 1) * size));
      const samplesMs: number[] = [];
      const begun = performance.now();
      while (samplesMs.length < many && performance.now() - begun < atMostMs) {
        const started = performance.now();
        await opened().run(split);
        samplesMs.push(performance.now() - started);
      }
      const { openingMs, sha256, graphBytes } = opened();
      return { loadMs: openingMs.load, firstCallMs: openingMs.firstCall, samplesMs, graphSha256: sha256, graphBytes };
    },
    async close() {
      await engine?.release();
      engine = null;
    },
  };

  self.onmessage = (event: MessageEvent<Request>) => {
    const { id, call, args } = event.data;
    // Calls run one after the other, because a graph cannot run twice at once.
    turn = turn.then(async () => {
      try {
        const answer = calls[call] as (id: number, ...args: unknown[]) => Promise<unknown>;
        reply({ id, result: await answer(id, ...args) });
      } catch (error) {
        const known = error instanceof NumclipError;
        reply({ id, error: { code: known ? error.code : "runtime", message: known ? error.message : String((error as Error)?.message ?? error) } });
      }
    });
  };
}

function reply(message: Reply): void {
  (self as unknown as { postMessage(message: unknown): void }).postMessage(message);
}

let canvas: OffscreenCanvas | null = null;

/** A picture's pixels; closes a bitmap. */
function pixelsOf(picture: SentPicture): Pixels {
  if (!("close" in picture)) return picture;
  const { width, height } = picture;
  if (canvas === null || canvas.width !== width || canvas.height !== height) canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  if (context === null) throw new NumclipError("picture", "expected a browser with a 2D canvas in workers, got one without; use a browser from 2023 or newer");
  context.drawImage(picture, 0, 0);
  picture.close();
  return context.getImageData(0, 0, width, height);
}

type Bytes = { bytes: Uint8Array; name: string };

/** Fetch both files in parallel and report the progress over both. */
async function fetchBoth(request: LoadRequest, tell: (loaded: number, total: number) => void): Promise<[Bytes, Bytes]> {
  const came = [0, 0];
  const expected = [0, 0];
  const fetchOne = async (source: FileSource, i: number): Promise<Bytes> => {
    if (source.bytes !== undefined) return { bytes: source.bytes, name: source.name };
    const bytes = await fetchBytes(source, (loaded, total) => {
      [came[i], expected[i]] = [loaded, total];
      tell(came[0] + came[1], expected[0] + expected[1]);
    });
    return { bytes, name: source.name };
  };
  return Promise.all([fetchOne(request.model, 0), fetchOne(request.finder, 1)]);
}

async function fetchBytes({ url, name }: FileSource, tell: (loaded: number, total: number) => void): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(url as string);
  } catch (error) {
    throw new NumclipError("model-fetch", `${name}: the file could not be fetched (${(error as Error).message}); check the connection`);
  }
  if (!response.ok || response.body === null) {
    throw new NumclipError("model-fetch", `${name}: expected a model file, got HTTP status ${response.status}; correct the address`);
  }
  const total = Number(response.headers.get("Content-Length") ?? 0);
  const parts: Uint8Array[] = [];
  let loaded = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((error: Error) => {
      throw new NumclipError("model-fetch", `${name}: the download was interrupted (${error.message}); check the connection`);
    });
    if (done) break;
    parts.push(value);
    loaded += value.length;
    tell(loaded, Math.max(total, loaded));
  }
  const bytes = new Uint8Array(loaded);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function infoOf(engine: Engine, bytes: number): ModelInfo {
  const { spec } = engine;
  return {
    name: spec.name,
    finder: engine.finder.spec.name,
    precision: spec.graph.precision,
    bytes,
    threads: engine.threads,
    task: { name: spec.task.name, unit: spec.task.unit, words: spec.task.words, edges: spec.task.binEdges },
    gates: Object.fromEntries(Object.entries(gatesOf(spec)).map(([at, table]) => [at, lowestError(table)])),
    metrics: spec.metrics,
    parity: spec.parity,
    licences: spec.licences,
    side: spec.crop.side,
    runtime: runtimeVersion(),
  };
}
