/**
 * Age estimates with calibrated intervals, in the browser. No picture leaves the device.
 *
 *     const model = await load("age-nano.int8.onnx");
 *     const { faces } = await model.read(document.querySelector("img"));
 *     for await (const { faces } of model.stream(await openCamera())) console.log(faces[0]?.value);
 */
import type { FrameResult, ReadOptions, StreamOptions } from "./engine.js";
import { NumclipError } from "./errors.js";
import type { Calls, FileSource, ModelInfo, Reply, SentPicture, Timed } from "./messages.js";

export { type CameraOptions, cameras, openCamera } from "./camera.js";
export type { Face, FrameResult, ReadOptions, StreamOptions } from "./engine.js";
export { type ErrorCode, NumclipError } from "./errors.js";
export type { Box, Landmarks, Point, Reason } from "./faces.js";
export { DEFAULT_ERROR, type Answer, type GateOptions } from "./gate.js";
export type { ModelInfo } from "./messages.js";

/** A model file: its URL, or its bytes. */
export type Source = string | URL | Blob | ArrayBuffer;

/** The types of a still picture. */
export type Picture = HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | ImageBitmap | ImageData | Blob;

export interface LoadOptions {
  finder?: Source; // the face finder; default: faces-nano.onnx in the model's folder
  threads?: number; // maximum; more than one only if the page is cross-origin isolated; default: half the cores, at most 4
  runtime?: { mjs: string | URL; wasm: string | URL }; // onnxruntime-web's files, if no bundler copies them
  onProgress?: (loaded: number, total: number) => void; // bytes, over both files
}

/** A picture with its time, for streams that are not cameras. */
export interface TimedPicture {
  picture: Picture;
  timeS: number;
}

/** One frame of a stream. */
export interface StreamResult extends FrameResult {
  readonly frame: number; // counts from 0, dropped frames included
  readonly dropped: number; // number of frames skipped so far because newer ones had arrived
  readonly latencyMs: number; // time from the frame's capture (or arrival, if the browser does not report the capture) to this result
}

/** Open a model in its own worker. Throws NumclipError. */
export async function load(model: Source, options: LoadOptions = {}): Promise<Model> {
  const remote = new Remote(new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "numclip" }));
  const finder = options.finder ?? beside(model);
  const { runtime } = options;
  try {
    const request = {
      model: await sourceOf(model, "model"),
      finder: await sourceOf(finder, "finder"),
      threads: options.threads,
      runtime: runtime && { mjs: absolute(runtime.mjs), wasm: absolute(runtime.wasm) },
    };
    return new Model(remote, await remote.call("load", [request], [], options.onProgress));
  } catch (error) {
    remote.end();
    throw error;
  }
}

/** An open model, which runs in its own worker. */
export class Model {
  private streams = 0;

  /** @internal use load() */
  constructor(
    private readonly remote: Remote,
    readonly info: ModelInfo,
  ) {}

  /** Read the faces in one picture; EXIF orientation is applied to files. */
  async read(picture: Picture, options: ReadOptions = {}): Promise<FrameResult> {
    const sent = await toSend(picture);
    return this.remote.call("read", [sent, options], transfers(sent));
  }

  /**
   * Follow the people in a camera's stream, a playing video, or pictures with times, frame by frame.
   *
   * From cameras and videos it reads the newest frame; it skips and counts older ones. It reads every picture of other streams.
   * To stop, leave the loop; the camera stays open. Throws NumclipError camera-lost if the camera is disconnected.
   */
  async *stream(
    source: MediaStream | HTMLVideoElement | AsyncIterable<TimedPicture>, options: StreamOptions = {},
  ): AsyncGenerator<StreamResult, void, void> {
    const id = this.streams++;
    await this.remote.call("start", [id, options]);
    try {
      let results = 0;
      for await (const { picture, timeS, frame, capturedMs } of framesOf(source)) {
        const sent = await toSend(picture);
        const result = await this.remote.call("next", [id, sent, timeS], transfers(sent));
        results += 1;
        yield { ...result, frame, dropped: frame + 1 - results, latencyMs: performance.now() - capturedMs };
      }
    } finally {
      await this.remote.call("stop", [id]).catch(() => undefined); // a closed model has no streams
    }
  }

  /** @internal for the benchmark: times of the graph for crops uint8 [faces, S, S, 3], call by call */
  time(crops: Uint8Array, faces: number, atMostMs: number, calls = Infinity): Promise<Timed> {
    return this.remote.call("time", [crops, faces, atMostMs, calls]);
  }

  /** End the worker. */
  async close(): Promise<void> {
    await this.remote.call("close", []);
    this.remote.end();
  }
}

/** Calls to the worker and their results. */
class Remote {
  private readonly waiting = new Map<
    number,
    { resolve: (result: never) => void; reject: (error: Error) => void; onProgress?: (loaded: number, total: number) => void }
  >();
  private last = 0;
  private ended: NumclipError | null = null;

  constructor(private readonly worker: Worker) {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      const waiting = this.waiting.get(data.id);
      if (waiting === undefined) return;
      if ("progress" in data) {
        waiting.onProgress?.(data.progress.loaded, data.progress.total);
        return;
      }
      this.waiting.delete(data.id);
      if ("error" in data) waiting.reject(new NumclipError(data.error.code, data.error.message));
      else waiting.resolve(data.result as never);
    };
    worker.onerror = (event) => {
      this.end(new NumclipError("runtime", `the worker stopped (${event.message || "its script did not load"}); load the page again`));
    };
  }

  call<Name extends keyof Calls>(
    call: Name, args: Parameters<Calls[Name]>, transfer: Transferable[] = [], onProgress?: (loaded: number, total: number) => void,
  ): Promise<ReturnType<Calls[Name]>> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onProgress });
      this.worker.postMessage({ id, call, args }, transfer);
    });
  }

  end(reason = new NumclipError("usage", "the model was closed; load it again")): void {
    this.ended = reason;
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }
}

interface Frame extends TimedPicture {
  frame: number;
  capturedMs: number; // performance.now() of its capture
}

async function* framesOf(source: MediaStream | HTMLVideoElement | AsyncIterable<TimedPicture>): AsyncGenerator<Frame> {
  if (source instanceof MediaStream) {
    const video = document.createElement("video");
    video.muted = video.playsInline = true;
    video.srcObject = source;
    await video.play();
    try {
      yield* framesOfVideo(video);
    } finally {
      video.srcObject = null;
    }
  } else if (source instanceof HTMLVideoElement) {
    yield* framesOfVideo(source);
  } else {
    let frame = 0;
    for await (const { picture, timeS } of source) yield { picture, timeS, frame: frame++, capturedMs: performance.now() };
  }
}

/** The newest frame of a video at each request; ends with the video, throws if its camera is disconnected. */
async function* framesOfVideo(video: HTMLVideoElement): AsyncGenerator<Frame> {
  const startMs = performance.now();
  const track = video.srcObject instanceof MediaStream ? video.srcObject.getVideoTracks()[0] : undefined;
  const over = new AbortController();
  let gone = false; // the event fires when a camera is unplugged, not when a program stops its track
  track?.addEventListener("ended", () => (gone = true), { signal: over.signal });
  let first: number | null = null;
  let seen = 0;
  try {
    for (;;) {
      const shown = await nextFrame(video, track);
      if (gone) throw new NumclipError("camera-lost", "the camera was disconnected; connect it again, or choose another");
      if (shown === null) return;
      first ??= shown.presentedFrames ?? 0;
      const frame = shown.presentedFrames === undefined ? seen : shown.presentedFrames - first;
      seen += 1;
      const timeS = track === undefined ? shown.mediaTime : (shown.capturedMs - startMs) / 1000;
      yield { picture: video, timeS: Math.max(0, timeS), frame, capturedMs: shown.capturedMs };
    }
  } finally {
    over.abort();
  }
}

interface ShownFrame {
  capturedMs: number;
  mediaTime: number;
  presentedFrames?: number;
}

/** The next frame of a video; null if the video or its camera has ended. */
function nextFrame(video: HTMLVideoElement, track?: MediaStreamTrack): Promise<ShownFrame | null> {
  return new Promise((resolve) => {
    const settled = new AbortController();
    const settle = (shown: ShownFrame | null) => {
      settled.abort();
      resolve(shown);
    };
    const { signal } = settled;
    if (video.ended || track?.readyState === "ended" || (video.srcObject === null && !video.currentSrc)) return settle(null);
    track?.addEventListener("ended", () => settle(null), { signal });
    for (const event of ["ended", "emptied"]) video.addEventListener(event, () => settle(null), { signal });
    const shown = (now: number, metadata?: VideoFrameCallbackMetadata) =>
      settle({
        capturedMs: metadata?.captureTime ?? now,
        mediaTime: metadata?.mediaTime ?? video.currentTime,
        presentedFrames: metadata?.presentedFrames,
      });
    if ("requestVideoFrameCallback" in video) {
      const handle = video.requestVideoFrameCallback(shown);
      signal.addEventListener("abort", () => video.cancelVideoFrameCallback(handle));
    } else {
      requestAnimationFrame((now) => shown(now));
    }
  });
}

async function toSend(picture: Picture): Promise<SentPicture> {
  if (picture instanceof ImageData) return picture;
  try {
    return await createImageBitmap(picture, { colorSpaceConversion: "none" });
  } catch (error) {
    throw new NumclipError("picture", `expected a picture that this browser can read, got an error: ${(error as Error).message}; choose another picture`);
  }
}

function transfers(picture: SentPicture): Transferable[] {
  return picture instanceof ImageBitmap ? [picture] : [];
}

async function sourceOf(source: Source, otherwise: string): Promise<FileSource> {
  if (source instanceof ArrayBuffer) return { name: otherwise, bytes: new Uint8Array(source) };
  if (source instanceof Blob) {
    const name = source instanceof File ? source.name : otherwise;
    return { name, bytes: new Uint8Array(await source.arrayBuffer()) };
  }
  const url = absolute(source);
  return { name: new URL(url).pathname.split("/").pop() || url, url };
}

function beside(model: Source): string {
  if (typeof model !== "string" && !(model instanceof URL)) {
    throw new NumclipError("usage", "expected the option finder, which is needed if the model is given as bytes; add the finder's URL or bytes");
  }
  return new URL("faces-nano.onnx", absolute(model)).href;
}

function absolute(url: string | URL): string {
  return new URL(url, document.baseURI).href;
}
