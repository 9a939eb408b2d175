/** Finder and model together: turns a picture, or the frames of a stream, into results. Runs in the worker. */
import { LookBudget, urgency } from "./budget.js";
import { type ConformalTable, readTable } from "./conformal.js";
import { cropFace } from "./crops.js";
import { NumclipError } from "./errors.js";
import { type Box, type Detection, type Landmarks, type Reason, disbelief, judge, largest, quality } from "./faces.js";
import { Finder } from "./finder.js";
import { type Answer, type Gate, type GateOptions, TrackGate, openGate, unseen } from "./gate.js";
import { Memory } from "./memory.js";
import { graphSha256, readSpecText } from "./model-file.js";
import type { Pixels } from "./pixels.js";
import { type Reading, readingOf } from "./readings.js";
import { shownInterval } from "./running-age.js";
import { type Outputs, type Session, openSession } from "./session.js";
import { sharpness } from "./sharpness.js";
import { type ModelSpec, readSpec } from "./spec.js";
import { START_SCORE, type Track } from "./tracking.js";

/** Options for a stream or a still picture. */
export interface ReadOptions {
  level?: number; // coverage of the interval; default 0.9
  gate?: GateOptions; // decide for each face whether the person is at least this old
  maxFaces?: number; // maximum per frame, largest first; default 32 in video, no limit in a picture
  minFacePx?: number; // longer side of the smallest face to read; default 24; larger is faster
}

export interface StreamOptions extends ReadOptions {
  budgetMs?: number; // model time per frame; default: no limit
  everyFrame?: boolean; // run the model on every face in every frame, for measurements; default false
}

/** One face in a frame. */
export interface Face {
  readonly box: Box; // px of the frame
  readonly landmarks: Landmarks; // px
  readonly score: number; // the finder's score, 0 to 1, when it last detected this face
  readonly track: number | null; // null on still pictures
  readonly value: number | null; // in the task's unit; if null, `reason` says why
  readonly low: number | null; // lower end of the interval; null if the model is not calibrated
  readonly high: number | null;
  readonly level: number | null;
  readonly word: string | null; // of the bin that holds the value
  readonly probabilities: readonly number[]; // [K] over the words
  readonly fresh: boolean; // the model ran on this face in this frame
  readonly reason: Reason | null;
  readonly gate: Answer | null; // null without a gate
}

export interface FrameResult {
  readonly timeS: number; // time of the frame
  readonly width: number; // of the frame, px
  readonly height: number;
  readonly faces: readonly Face[];
  readonly looks: number; // number of faces that the model read in this frame
  readonly timesMs: { readonly find: number; readonly crop: number; readonly model: number };
}

const DEFAULTS = { level: 0.9, minFacePx: 24 };
const VIDEO_FACES = 32; // per frame

/** A model and a finder, ready to read faces. */
export class Engine {
  private readonly table: ConformalTable | null;
  private readonly streams = new Map<number, Stream>();
  openingMs = { load: 0, firstCall: 0 }; // only of the age model

  private constructor(
    readonly spec: ModelSpec,
    private readonly session: Session,
    readonly finder: Finder,
    readonly threads: number,
    readonly graphBytes: number,
    readonly sha256: string, // of the model's graph
  ) {
    this.table = spec.calibration && readTable(spec.calibration, spec.graph.embeddingDim);
  }

  /** Open both files; errors use their names. Throws NumclipError. */
  static async open(
    model: { bytes: Uint8Array; name: string }, finder: { bytes: Uint8Array; name: string }, threads: number,
  ): Promise<Engine> {
    const spec = readSpec(readSpecText(model.bytes, model.name), model.name);
    if ("whole" in spec.crop.boxRules) {
      throw new NumclipError("model-spec", `${model.name}: expected a model for faces, got one for whole pictures; use numclip run`);
    }
    const sha256 = await graphSha256(model.bytes, model.name);
    if (spec.calibration && spec.calibration.graph_sha256 !== sha256) {
      throw new NumclipError(
        "model-spec",
        `${model.name}: spec field calibration.graph_sha256: expected this graph's, got another's; calibrate again`,
      );
    }
    const found = await Finder.open(finder.bytes, finder.name, threads);
    const started = performance.now();
    const session = await openSession(model.bytes, model.name, threads);
    const engine = new Engine(spec, session, found, threads, model.bytes.length, sha256);
    const opened = performance.now();
    const side = spec.crop.side;
    await engine.look([new Uint8Array(side * side * 3)]); // the first call allocates memory and checks the tensors
    engine.openingMs = { load: opened - started, firstCall: performance.now() - opened };
    return engine;
  }

  /** The graph's outputs for crops uint8 [S, S, 3] RGB. */
  run(crops: readonly Uint8Array[]): Promise<Outputs> {
    const { side } = this.spec.crop;
    const size = side * side * 3;
    const together = new Uint8Array(crops.length * size);
    crops.forEach((crop, i) => together.set(crop, i * size));
    return this.session.run(this.spec.graph.input, { data: together, dims: [crops.length, side, side, 3] });
  }

  /** The model's readings of crops uint8 [S, S, 3] RGB that follow the crop contract. */
  async look(crops: readonly Uint8Array[]): Promise<Reading[]> {
    const { spec, table } = this;
    const { side } = spec.crop;
    const outputs = await this.run(crops);
    const [bins, dim] = [spec.task.words.length, spec.graph.embeddingDim];
    const names = [spec.graph.value, spec.graph.probabilities, ...(dim ? [spec.graph.embedding] : [])];
    const [value, probabilities, embedding = new Float32Array()] = names.map(
      (name) => {
        if (outputs[name] === undefined) {
          throw new NumclipError("model-graph", `expected the output ${name} of the spec, but the graph has none; export the model again`);
        }
        return outputs[name].data as Float32Array;
      },
    );
    return crops.map((crop, n) =>
      readingOf(
        spec, table, value[n], probabilities.slice(n * bins, (n + 1) * bins), embedding.slice(n * dim, (n + 1) * dim),
        sharpness(crop, side),
      ),
    );
  }

  /** Read one still picture: detect all faces and run the model once on each. */
  async read(picture: Pixels, options: ReadOptions = {}): Promise<FrameResult> {
    const { maxFaces, minFacePx } = { ...DEFAULTS, ...options };
    const gate = options.gate ? openGate(this.spec, options.gate) : null;
    const start = performance.now();
    const detected = await this.finder.find(picture, minFacePx, true);
    const sure = detected.filter((face) => face.score >= Math.fround(START_SCORE)); // a weaker detection would need another frame as confirmation
    const faces = largest(sure, maxFaces ?? sure.length);
    const found = performance.now();
    const judged = faces.map((face) => judge(face, minFacePx));
    const asked = faces.map((_, i) => i).filter((i) => judged[i].refused === null);
    const crops = asked.map((i) => cropFace(picture, faces[i].landmarks, this.spec.crop));
    const cut = performance.now();
    const looks = crops.length ? await this.look(crops) : [];
    const done = performance.now();
    const shown = faces.map((face, i) => {
      const look = asked.includes(i) ? looks[asked.indexOf(i)] : null;
      const reason = look === null ? judged[i].refused : disbelief(look, look.sharpness);
      const believed = reason === null ? look : null;
      const answer = gate && (believed ? new TrackGate(gate).look(believed, null) : unseen(gate));
      return faceOf(face, null, believed && { mean: believed, looks: 1, shrink: 1 }, options.level, look !== null, reason, answer);
    });
    return {
      timeS: 0, width: picture.width, height: picture.height, faces: shown, looks: looks.length,
      timesMs: { find: found - start, crop: cut - found, model: done - cut },
    };
  }

  /** Begin a stream with an id chosen by the caller. */
  start(id: number, options: StreamOptions): void {
    this.streams.set(id, new Stream(this, options));
  }

  /** Read the next frame of a stream, at its time in seconds. */
  next(id: number, picture: Pixels, timeS: number): Promise<FrameResult> {
    const stream = this.streams.get(id);
    if (stream === undefined) throw new NumclipError("usage", "expected a frame of a running stream, but this stream was not started or was stopped; start it first");
    return stream.next(picture, timeS);
  }

  stop(id: number): void {
    this.streams.delete(id);
  }

  async release(): Promise<void> {
    this.streams.clear();
    await this.session.release();
    await this.finder.release();
  }
}

/** One stream: frames in order, with people tracked from frame to frame. */
class Stream {
  private readonly memory: Memory;
  private readonly budget: LookBudget;
  private readonly minFacePx: number;

  constructor(
    private readonly engine: Engine,
    private readonly options: StreamOptions,
  ) {
    const gate: Gate | null = options.gate ? openGate(engine.spec, options.gate) : null;
    const minFacePx = (this.minFacePx = options.minFacePx ?? DEFAULTS.minFacePx);
    this.memory = new Memory(engine.spec, engine.finder, options.maxFaces ?? VIDEO_FACES, minFacePx, gate);
    this.budget = new LookBudget((options.budgetMs ?? Infinity) / 1000);
  }

  async next(picture: Pixels, timeS: number): Promise<FrameResult> {
    const { engine, memory } = this;
    const start = performance.now();
    const seen = await memory.see(picture, timeS);
    const found = performance.now();
    const judged = seen.map(({ face }) => judge(face, this.minFacePx));
    const asked = this.choose(seen.map(({ track }) => track), judged, timeS);
    const crops = asked.map((i) => cropFace(picture, seen[i].face.landmarks, engine.spec.crop));
    const cut = performance.now();
    const looks = crops.length ? await engine.look(crops) : [];
    const done = performance.now();
    this.budget.spent(looks.length, (done - cut) / 1000);
    const faces = seen.map(({ face, track }, i) => {
      const look = asked.includes(i) ? looks[asked.indexOf(i)] : null;
      return this.shown(face, track, look, judged[i], timeS);
    });
    return {
      timeS, width: picture.width, height: picture.height, faces, looks: looks.length,
      timesMs: { find: found - start, crop: cut - found, model: done - cut },
    };
  }

  private choose(tracks: Track[], judged: { view: number; refused: Reason | null }[], timeS: number): number[] {
    const wanted = tracks.map((track, i) => {
      if (judged[i].refused !== null) return 0;
      return this.options.everyFrame ? 1 : urgency(track, judged[i].view, timeS, this.memory.detected);
    });
    const asked = this.budget.choose(wanted).sort((a, b) => a - b);
    for (const i of asked) {
      tracks[i].asked += 1;
      tracks[i].askedS = timeS;
      tracks[i].bestView = Math.max(tracks[i].bestView, judged[i].view);
    }
    return asked;
  }

  private shown(
    face: Detection, track: Track, look: Reading | null, { view, refused }: { view: number; refused: Reason | null },
    timeS: number,
  ): Face {
    const reason = look === null ? refused : disbelief(look, look.sharpness);
    const person = this.memory.person(track);
    if (look !== null && reason === null) {
      person.age.look(look, quality(view, look.sharpness), timeS);
      this.memory.askGate(person, track, look);
      track.doubted = person.age.doubted;
    }
    if (look !== null || reason !== null) person.reason = reason;
    const said = person.age.shown === null ? (person.reason ?? "waiting") : null;
    return faceOf(face, track.id, person.age.shown, this.options.level, look !== null, said, person.answer);
  }
}

function faceOf(
  face: Detection, track: number | null, shown: { mean: Reading; looks: number; shrink: number } | null, level = DEFAULTS.level,
  fresh: boolean, reason: Reason | null, gate: Answer | null,
): Face {
  const ends = shown === null || shown.mean.table === null ? null : shownInterval(shown, level);
  return {
    box: face.box, landmarks: face.landmarks, score: face.score, track,
    value: shown === null ? null : shown.mean.value,
    low: ends && ends[0], high: ends && ends[1], level: ends && level,
    word: shown === null ? null : shown.mean.word,
    probabilities: shown === null ? [] : Array.from(shown.mean.probabilities),
    fresh, reason: shown === null ? reason : null, gate,
  };
}
