/** The server's page: sources with boxes and ages, people in the last hour, and the visitor's own camera. */
import { draw } from "../page/overlay.js";
import { showPeople } from "../page/people.js";
import { setUpLanguage, setUpTheme } from "../page/visitor.js";
import { openCamera } from "../src/camera.js";
import { NumclipError } from "../src/errors.js";
import type { FrameResult } from "../src/index.js";
import { CameraLink, type Sent } from "./camera.js";
import { showCrowd } from "./crowd.js";
import type { EventLine, ModelSummary, ResultLine, SizedLine, SourceDetails, SourceSummary, SourcesAnswer } from "./messages.js";
import { resultOf } from "./messages.js";
import { RtcLink } from "./rtc.js";
import { LANGUAGES, type LiveDictionary } from "./words.js";

const POLL_MS = 2000;
const RECONNECT_MS = 1000;
const RATE_WINDOW_MS = 3000;
const ANSWER_MS = 10_000; // the server counts as lost if it does not answer within this time

const $ = <E extends HTMLElement = HTMLElement>(id: string): E => document.getElementById(id) as E;
const stage = $("stage");
const preview = $<HTMLImageElement>("preview");
const video = $<HTMLVideoElement>("video");
const overlay = $<HTMLCanvasElement>("overlay");

let words: LiveDictionary = LANGUAGES.en;
let task = "age";
let edges: readonly number[] = [0, 100];
let opened = false; // the server has sent its list of sources
let lost = false; // the server no longer answers
let run = 0; // number of the current activity; older activities stop when it changes
let sources: SourceSummary[] = [];
let webrtc = false; // the server accepts cameras over WebRTC
let chosen: string | null = null; // id of the shown source; null: the own camera, or nothing
let ownName: string | null = null; // the server's name for the own camera
let results: WebSocket | null = null;
let own: { stream: MediaStream; link: CameraLink | RtcLink } | null = null;
let shown: FrameResult | null = null;
const recentMs: number[] = [];

class Refused extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  const answer = await fetch(path, { signal: AbortSignal.timeout(ANSWER_MS), ...init });
  if (answer.status === 204) return undefined as T;
  const body = (await answer.json()) as T & { detail?: string };
  if (!answer.ok) throw new Refused(answer.status, body.detail ?? answer.statusText);
  return body;
}

type Mode = "welcome" | "login" | "problem" | "source" | "camera";

function enter(mode: Mode): void {
  for (const id of ["welcome", "login", "problem"]) $(id).hidden = id !== mode;
  preview.hidden = mode !== "source";
  video.hidden = mode !== "camera";
  overlay.hidden = mode !== "camera";
  stage.classList.toggle("live", mode === "source" || mode === "camera");
  stage.classList.toggle("mirrored", mode === "camera");
  $("own").setAttribute("aria-pressed", String(mode === "camera"));
  document.documentElement.dataset.mode = mode;
  if (mode !== "source" && mode !== "camera") stage.style.aspectRatio = "";
  [shown, lost] = [null, false];
  recentMs.length = 0;
  for (const id of ["fact-latency", "fact-frames", "fact-dropped", "fact-state"]) $(id).textContent = "–";
  refresh();
}

function fail(error: unknown): void {
  letGo();
  if (error instanceof Refused && error.status === 401) return enter("login");
  const known = error instanceof NumclipError ? words.problems[error.code] : undefined;
  const [title, text] = known ?? [words.serverFault, String((error as Error)?.message ?? error)];
  [$("problem-title").textContent, $("problem-text").textContent] = [title, text];
  enter("problem");
}

async function begin(): Promise<void> {
  const mine = run;
  try {
    const { models } = await ask<{ models: ModelSummary[] }>("v1/models");
    const model = models.find(({ kind }) => kind !== "faces");
    if (model !== undefined) [task, edges] = [model.kind, model.range];
    await poll();
    opened = true;
    welcome();
    if (mine !== run) return;
    const first = sources.find(({ kind }) => kind === "source");
    if (first !== undefined) watch(first.id);
    else enter("welcome");
  } catch (error) {
    if (mine === run) fail(error);
  }
}

/** Show one of the server's sources. */
function watch(id: string): void {
  letGo();
  chosen = id;
  enter("source");
  preview.src = `v1/sources/${id}/preview`;
  listen(id);
  void update();
}

function listen(id: string): void {
  const socket = (results = new WebSocket(new URL(`v1/sources/${id}/results`, location.href.replace(/^http/, "ws"))));
  socket.onmessage = ({ data }) => {
    const line = JSON.parse(String(data)) as ResultLine | EventLine;
    if ("event" in line) return void update();
    const source = sources.find((each) => each.id === id);
    show(resultOf(line, source?.width ?? 1, source?.height ?? 1, task), line, line.latency_ms);
  };
  socket.onclose = () => {
    if (results !== socket) return;
    const ended = sources.find((each) => each.id === id)?.state;
    if (ended === "ended" || ended === "failed") return;
    setTimeout(() => {
      if (results !== socket) return;
      preview.src = `v1/sources/${id}/preview?again=${Date.now()}`;
      listen(id);
    }, RECONNECT_MS);
  };
}

async function startOwn(): Promise<void> {
  letGo();
  const mine = run;
  let stream: MediaStream | null = null;
  try {
    stream = await openCamera({ facing: "user" }); // it waits until the visitor allows it
    if (mine !== run) return stopTracks(stream);
    video.srcObject = stream;
    await video.play();
    if (mine !== run) return stopTracks(stream);
    enter("camera");
    stage.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
    const gone = new NumclipError("camera-lost", "the camera is gone");
    stream.getVideoTracks()[0].onended = () => fail(gone);
    own = { stream, link: webrtc ? overWebRtc(stream) : overWebSocket() };
  } catch (error) {
    stopTracks(stream);
    if (mine === run) fail(error);
  }
}

function stopTracks(stream: MediaStream | null): void {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}

function overWebSocket(): CameraLink {
  document.documentElement.dataset.link = "websocket";
  return new CameraLink(video, showOwn, ownEnded);
}

/** Send the camera over WebRTC, or over a WebSocket if its video does not arrive. */
function overWebRtc(stream: MediaStream): RtcLink {
  document.documentElement.dataset.link = "webrtc";
  return new RtcLink(stream, showOwnVideo, (reason, began) => {
    if (reason || began) ownEnded(reason);
    else if (own !== null) own.link = overWebSocket();
  });
}

function ownEnded(reason: string): void {
  if (!document.hidden) return fail(new Refused(0, reason || words.serverLost));
  letGo(); // a hidden page sends no pictures
  document.addEventListener("visibilitychange", () => void startOwn(), { once: true });
}

function showOwnVideo(line: SizedLine): void {
  ownName = line.source;
  const result = resultOf(line, line.width, line.height, task);
  show(result, line, line.latency_ms);
  document.dispatchEvent(new CustomEvent("numclip", { detail: { result, latencyMs: line.latency_ms } }));
}

function showOwn({ line, picture, latencyMs }: Sent): void {
  ownName = line.source;
  const result = resultOf(line, picture.width, picture.height, task);
  show(result, line, latencyMs);
  document.dispatchEvent(new CustomEvent("numclip", { detail: { result, picture, latencyMs } }));
}

/** Close everything that is shown, and end what is being opened. */
function letGo(): void {
  run += 1;
  const socket = results;
  results = null;
  socket?.close();
  preview.removeAttribute("src");
  own?.link.close();
  stopTracks(own?.stream ?? null);
  [own, ownName, chosen, video.srcObject] = [null, null, null, null];
}

function show(result: FrameResult, line: ResultLine, latencyMs: number): void {
  shown = result;
  const now = performance.now();
  recentMs.push(now);
  while (recentMs.length > 2 && now - recentMs[0] > RATE_WINDOW_MS) recentMs.shift();
  const seconds = (now - recentMs[0]) / 1000;
  $("fact-latency").textContent = `${Math.round(latencyMs)} ms`;
  $("fact-dropped").textContent = String(line.dropped);
  if (seconds > 0.5) $("fact-frames").textContent = ((recentMs.length - 1) / seconds).toFixed(1);
  refresh();
}

function refresh(): void {
  draw(overlay, own === null ? null : shown, true, words);
  const faces = shown?.faces ?? [];
  showPeople($("people"), faces, words, edges);
  $("nobody").hidden = faces.length > 0;
  $("nobody").textContent = lost ? words.connectionLost : shown === null ? words.nobody : words.noFace;
}

/** The same as `poll`. If the server does not answer, the page says so and shows nobody until it answers again. */
async function update(): Promise<void> {
  const mine = run;
  try {
    await poll();
    if (!lost || mine !== run) return;
    lost = false;
  } catch (error) {
    if (mine !== run) return;
    if (error instanceof Refused && (error.status === 401 || chosen !== null)) return fail(error);
    [lost, shown] = [true, null];
    $("fact-state").textContent = words.connectionLost;
  }
  refresh();
}

/** Update the list of sources, and the details of the shown one. */
async function poll(): Promise<void> {
  const mine = run;
  ({ sources, webrtc } = await ask<SourcesAnswer>("v1/sources"));
  const list = $("sources");
  const offered = sources.filter(({ kind }) => kind === "source");
  while (list.children.length > offered.length) list.lastElementChild?.remove();
  while (list.children.length < offered.length) list.append(newButton());
  offered.forEach((source, i) => {
    const button = list.children[i] as HTMLButtonElement;
    const [dot, name] = button.children as unknown as HTMLElement[];
    dot.className = `state ${source.state}`;
    name.textContent = source.name;
    button.title = stateOf(source.state);
    button.setAttribute("aria-pressed", String(source.id === chosen));
    button.onclick = () => watch(source.id);
  });
  const id = chosen ?? sources.find(({ name, kind }) => kind === "camera" && name === ownName)?.id;
  if (id === undefined) return;
  const details = await ask<SourceDetails>(`v1/sources/${id}`);
  if (mine !== run) return;
  $("fact-state").textContent = stateOf(details.state);
  if (details.width && details.height && own === null) stage.style.aspectRatio = `${details.width} / ${details.height}`;
  showCrowd($("crowd").querySelector("tbody") as HTMLElement, details.last_hour, words.words);
  const items = [...details.events].reverse().map((event) => {
    const [item, when] = [document.createElement("li"), document.createElement("small")];
    when.textContent = ` ${Math.round(event.time_s)} s`;
    item.append(stateOf(event.event) + (event.reason ? `: ${event.reason}` : ""), when);
    return item;
  });
  $("events").replaceChildren(...items);
  $("no-events").hidden = items.length > 0;
}

function stateOf(name: string): string {
  return words.states[name as keyof typeof words.states] ?? name;
}

/** Update this page's own texts in the chosen language. */
function write(chosen: LiveDictionary): void {
  words = chosen;
  welcome();
  $("login-text").textContent = words.tokenOwner;
  refresh();
  if (opened) void update();
}

function welcome(): void {
  $("welcome-title").textContent = opened ? words.noSource : words.opening;
  $("welcome-text").textContent = opened ? words.noSourceText : "";
}

function newButton(): HTMLElement {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("span"), document.createElement("span"));
  return button;
}

function setUp(): void {
  setUpTheme();
  setUpLanguage(LANGUAGES, write);
  $("own").onclick = () => void (own === null ? startOwn() : (letGo(), begin()));
  $("again").onclick = () => void begin();
  $<HTMLFormElement>("login").onsubmit = (event) => {
    event.preventDefault();
    const token = $<HTMLInputElement>("token").value;
    const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) };
    ask<undefined>("v1/login", init).then(begin, () => ($("login-text").textContent = words.tokenWrong));
  };
  new ResizeObserver(refresh).observe(stage);
  setInterval(() => {
    if (["source", "camera"].includes(document.documentElement.dataset.mode ?? "")) void update();
  }, POLL_MS);
  addEventListener("pagehide", letGo);
}

setUp();
void begin();
