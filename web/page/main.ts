/** The page: shows ages for a camera or a picture. Slow work happens in the worker. */
import {
  DEFAULT_ERROR, type ErrorCode, type FrameResult, type GateOptions, type Model, NumclipError, type StreamResult, cameras, load,
  openCamera,
} from "../src/index.js";
import { draw } from "./overlay.js";
import { showPeople, summary } from "./people.js";
import { setUpLanguage, setUpTheme } from "./visitor.js";
import { type Dictionary, LANGUAGES, fill } from "./words.js";

interface SiteFiles {
  model: string; // relative to the page
  finder: string;
}

const SPEAK_EVERY_MS = 4000;
const RATE_WINDOW_MS = 3000;
const EVERY_FRAME = new URLSearchParams(location.search).has("every-frame"); // for measurements: run the model on every face in every frame
const MIN_FACE_PX = 48; // smallest face in live video; detecting smaller faces takes too much time

const $ = <E extends HTMLElement = HTMLElement>(id: string): E => document.getElementById(id) as E;
const stage = $("stage");
const video = $<HTMLVideoElement>("video");
const still = $<HTMLCanvasElement>("still");
const overlay = $<HTMLCanvasElement>("overlay");
const cameraSelect = $<HTMLSelectElement>("camera");
const gateSelect = $<HTMLSelectElement>("gate");

let words: Dictionary = LANGUAGES.en;
const model: Promise<Model> = open();
let opened: Model | null = null;
let live: MediaStream | null = null;
let run = 0; // number of the current activity; older activities stop when it changes
let facing: "user" | "environment" = "user";
let shown: FrameResult | null = null;
let picture: ImageBitmap | null = null;
let retry: () => void = startCamera;
let spokenMs = -Infinity;
const recent: { atMs: number; looks: number }[] = [];

setUp();

function setUp(): void {
  setUpTheme();
  $("start").onclick = () => void startCamera();
  $("stop").onclick = () => stop();
  $("again").onclick = () => retry();
  for (const id of ["choose", "choose-instead", "picture"]) $(id).onclick = () => $("file").click();
  $<HTMLInputElement>("file").onchange = (event) => {
    const input = event.target as HTMLInputElement;
    if (input.files?.[0]) void readPicture(input.files[0]);
    input.value = "";
  };
  cameraSelect.onchange = () => void startCamera();
  $("flip").onclick = () => {
    facing = facing === "user" ? "environment" : "user";
    cameraSelect.value = "";
    setMirror(facing === "user");
    void startCamera();
  };
  $("mirror").onclick = () => setMirror($("mirror").getAttribute("aria-pressed") !== "true");
  gateSelect.onchange = () => {
    showGate();
    if (live) void follow();
    else if (picture) void readBitmap(picture);
  };
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
    if (file) void readPicture(file);
  });
  setUpDrop();
  new ResizeObserver(() => redraw()).observe(stage);
  navigator.mediaDevices?.addEventListener?.("devicechange", () => void listCameras());
  setUpLanguage(LANGUAGES, say);
  model.catch(() => undefined);
  if ("serviceWorker" in navigator) {
    // The host's Cache-Control header decides how often the browser checks for a new version of the site.
    void navigator.serviceWorker.register("sw.js", { updateViaCache: "all" }).catch(() => undefined);
    void navigator.serviceWorker.ready.then(() => (document.documentElement.dataset.offline = "ready"));
  }
}

function setUpDrop(): void {
  const drop = $("drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (file) void readPicture(file);
  });
}

/** Load the model while the visitor reads the page. */
async function open(): Promise<Model> {
  try {
    const site = (await (await fetch("site.json")).json()) as SiteFiles;
    opened = await load(site.model, {
      finder: site.finder,
      runtime: { mjs: "ort-wasm-simd-threaded.mjs", wasm: "ort-wasm-simd-threaded.wasm" },
      onProgress(loaded, total) {
        $("bar").style.transform = `scaleX(${loaded / total})`;
        const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
        const part = { part: megabytes(loaded), total: megabytes(total) };
        $("loading-text").textContent = loaded < total ? fill(words.loadingPart, part) : words.preparing;
      },
    });
    $("bar").parentElement!.hidden = true;
    document.documentElement.dataset.model = "ready";
    showModel();
    return opened;
  } catch (error) {
    const known = error instanceof NumclipError ? error : new NumclipError("model-fetch", `site.json: ${(error as Error).message}`);
    fail(known);
    throw known;
  }
}

async function startCamera(): Promise<void> {
  const mine = begin();
  retry = startCamera;
  release();
  try {
    const deviceId = cameraSelect.value || undefined;
    const stream = await openCamera(deviceId ? { deviceId } : { facing });
    if (mine !== run) return stopTracks(stream);
    live = stream;
    video.srcObject = stream;
    await video.play();
    if (mine !== run) return;
    const side = stream.getVideoTracks()[0].getSettings().facingMode;
    if (side === "environment") setMirror(false);
    enter("live");
    stage.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
    void listCameras();
    await model;
    if (mine !== run) return;
    await follow();
  } catch (error) {
    if (mine === run) fail(error);
  }
}

/** Read the camera's frames until another activity begins. */
async function follow(): Promise<void> {
  const mine = begin();
  recent.length = 0;
  try {
    for await (const result of (await model).stream(video, { gate: gateOf(), minFacePx: MIN_FACE_PX, everyFrame: EVERY_FRAME })) {
      if (mine !== run) return;
      show(result);
      showRates(result);
    }
  } catch (error) {
    if (mine === run) fail(error);
  }
}

async function readPicture(file: Blob): Promise<void> {
  const mine = begin();
  retry = () => $("file").click();
  release();
  try {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch((error: Error) => {
      throw new NumclipError("picture", `expected a picture that this browser can read, got an error: ${error.message}; choose another picture`);
    });
    if (mine !== run) return;
    picture = bitmap;
    await readBitmap(bitmap);
  } catch (error) {
    if (mine === run) fail(error);
  }
}

async function readBitmap(bitmap: ImageBitmap): Promise<void> {
  const mine = begin();
  [still.width, still.height] = [bitmap.width, bitmap.height];
  still.getContext("2d")?.drawImage(bitmap, 0, 0);
  enter("still");
  stage.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
  try {
    const started = performance.now();
    const result = await (await model).read(bitmap, { gate: gateOf() });
    if (mine !== run) return;
    show(result);
    $("fact-latency").textContent = milliseconds(performance.now() - started);
    for (const id of ["fact-looks", "fact-frames"]) $(id).textContent = "–";
  } catch (error) {
    if (mine === run) fail(error);
  }
}

function stop(): void {
  begin();
  release();
  enter("welcome");
  $("start").focus();
}

/** Begin a new activity, which ends the previous one. */
function begin(): number {
  return ++run;
}

/** Release the camera and the picture. */
function release(): void {
  if (live) stopTracks(live);
  live = null;
  video.srcObject = null;
  picture?.close();
  picture = null;
  shown = null;
  recent.length = 0;
}

function stopTracks(stream: MediaStream): void {
  for (const track of stream.getTracks()) track.stop();
}

type Mode = "welcome" | "live" | "still" | "problem";

function enter(mode: Mode): void {
  stage.classList.toggle("live", mode === "live");
  stage.classList.toggle("still", mode === "still");
  $("welcome").hidden = mode !== "welcome";
  $("problem").hidden = mode !== "problem";
  still.hidden = mode !== "still";
  video.hidden = mode !== "live";
  $("stop").hidden = mode !== "live" && mode !== "still";
  for (const id of ["camera-label", "flip", "mirror"]) $(id).hidden = mode !== "live";
  if (mode !== "live" && mode !== "still") {
    stage.style.aspectRatio = "";
    for (const id of ["fact-latency", "fact-looks", "fact-frames"]) $(id).textContent = "–";
  }
  document.documentElement.dataset.mode = mode;
  shown = null;
  refresh();
}

function fail(error: unknown): void {
  begin();
  release();
  const known = error instanceof NumclipError ? error : new NumclipError("usage", String((error as Error)?.message ?? error));
  const code: ErrorCode = known.code;
  if (code.startsWith("model") || code === "runtime") retry = () => location.reload();
  [$("problem-title").textContent, $("problem-text").textContent] = words.problems[code];
  $("problem-detail").textContent = known.message;
  $("problem").dataset.code = code;
  $("choose-instead").hidden = !code.startsWith("camera") && code !== "picture" && code !== "insecure";
  enter("problem");
}

function show(result: FrameResult): void {
  shown = result;
  refresh();
  document.dispatchEvent(new CustomEvent<FrameResult>("numclip", { detail: result }));
  const now = performance.now();
  if (now - spokenMs > SPEAK_EVERY_MS) {
    spokenMs = now;
    const said = summary(result.faces, words);
    if ($("spoken").textContent !== said) $("spoken").textContent = said;
  }
}

function refresh(): void {
  redraw();
  if (shown === null) {
    $("spoken").textContent = "";
    spokenMs = -Infinity;
  }
  const faces = shown?.faces ?? [];
  showPeople($("people"), faces, words, opened?.info.task.edges ?? [0, 100]);
  $("nobody").hidden = faces.length > 0;
  $("nobody").textContent = shown === null ? words.nobody : words.noFace;
}

function redraw(): void {
  const mirrored = live !== null && stage.classList.contains("mirrored");
  draw(overlay, shown, mirrored, words);
}

function showRates(result: StreamResult): void {
  const now = performance.now();
  recent.push({ atMs: now, looks: result.looks });
  while (recent.length > 2 && now - recent[0].atMs > RATE_WINDOW_MS) recent.shift();
  const seconds = (now - recent[0].atMs) / 1000;
  $("fact-latency").textContent = milliseconds(result.latencyMs);
  if (seconds < 0.5) return;
  const looks = recent.slice(1).reduce((sum, r) => sum + r.looks, 0);
  $("fact-looks").textContent = (looks / seconds).toFixed(1);
  $("fact-frames").textContent = ((recent.length - 1) / seconds).toFixed(1);
}

function milliseconds(ms: number): string {
  return `${Math.round(ms)} ms`;
}

function showModel(): void {
  if (opened === null) return;
  const { info } = opened;
  $("fact-model").textContent = info.name;
  $("fact-size").textContent = `${(info.bytes / 1e6).toFixed(1)} MB`;
  $("fact-threads").textContent = String(info.threads);
  $("one-thread").hidden = crossOriginIsolated;
  $("loading-text").textContent = words.ready;
  const metric = info.metrics.find((m) => typeof m.mae === "number");
  $("model-note").textContent = metric
    ? fill(words.modelNote, { name: info.name, mae: Number(metric.mae).toFixed(1), n: String(metric.n), licence: sentence(info.licences.weights) })
    : "";
  const chosen = gateSelect.value;
  gateSelect.replaceChildren(new Option(words.gateOff, ""));
  for (const at of Object.keys(info.gates)) gateSelect.append(new Option(fill(words.gateAt, { n: at }), at));
  gateSelect.value = chosen;
  showGate();
}

function sentence(text: string | undefined): string {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}

/** The chosen gate, with an error rate of 10 %, or the lowest rate above it that the model can guarantee. */
function gateOf(): GateOptions | undefined {
  const at = gateSelect.value;
  const lowest = opened?.info.gates[at];
  if (!at || lowest === undefined) return undefined;
  return { threshold: Number(at), error: Math.max(DEFAULT_ERROR, lowest) };
}

function showGate(): void {
  const gate = gateOf();
  $("legend").hidden = gate === undefined;
  $("gate-note").hidden = gate === undefined;
  if (gate) $("gate-note").textContent = fill(words.gateNote, { n: gate.threshold, share: 100 * (gate.error ?? 0) });
}

function setMirror(on: boolean): void {
  $("mirror").setAttribute("aria-pressed", String(on));
  stage.classList.toggle("mirrored", on);
  redraw();
}

async function listCameras(): Promise<void> {
  const found = await cameras();
  const used = live?.getVideoTracks()[0]?.getSettings().deviceId ?? "";
  cameraSelect.replaceChildren(
    ...found.map((camera, i) => new Option(camera.label || fill(words.cameraNumber, { n: i + 1 }), camera.deviceId)),
  );
  cameraSelect.value = used;
  $("camera-label").hidden = live === null || found.length < 2;
  $("flip").hidden = live === null || found.length < 2;
}

/** Update this page's own texts in the chosen language. */
function say(chosen: Dictionary): void {
  words = chosen;
  const code = $("problem").dataset.code as ErrorCode | undefined;
  if (code) [$("problem-title").textContent, $("problem-text").textContent] = words.problems[code];
  showModel();
  refresh();
}
