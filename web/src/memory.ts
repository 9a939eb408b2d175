/** The state of a stream: its tracks, and the running estimate of each person. */
import { type Detection, largest } from "./faces.js";
import type { Finder } from "./finder.js";
import { type Gray, follow, grayOf } from "./following.js";
import { type Answer, type Gate, TrackGate, unseen } from "./gate.js";
import type { Pixels } from "./pixels.js";
import type { Reading } from "./readings.js";
import { RunningAge } from "./running-age.js";
import type { Reason } from "./faces.js";
import type { ModelSpec } from "./spec.js";
import { type Track, Tracker } from "./tracking.js";

const DETECT_EVERY_S = 0.1; // interval of the finder; in between, optical flow tracks the faces
const DETECT_EVERY_FRAMES = 6; // and at least this often, whatever the frames' times
const GAP_S = 2; // after a longer pause all tracks end, as when a live source stalls in Python
const JITTER_S = 0.2; // a larger step back ends them too; a smaller one is jitter

/** The state of one track's person. */
export interface Person {
  readonly age: RunningAge;
  reason: Reason | null; // why the last reading was rejected
  answer: Answer | null; // the gate's last answer; null without a gate
}

export interface Seen {
  readonly face: Detection;
  readonly track: Track;
}

/** One stream's tracks and people; a gap in the frames' times or a change of the frame size ends all of them. */
export class Memory {
  private readonly tracker = new Tracker();
  private readonly people = new Map<number, Person>();
  private readonly gate: TrackGate | null;
  private gray: Gray | null = null;
  private size = "";
  private lastS = 0; // time of the last frame
  private detectedS = 0;
  private followed = 0;

  constructor(
    private readonly spec: ModelSpec,
    private readonly finder: Finder,
    private readonly maxFaces: number,
    private readonly minFacePx: number,
    gate: Gate | null,
  ) {
    this.gate = gate && new TrackGate(gate);
  }

  /** Whether the finder ran in the last frame. */
  get detected(): boolean {
    return this.followed === 0;
  }

  /** The faces of the next frame that have a visible track, by track: detected, or tracked from the previous frame. */
  async see(picture: Pixels, timeS: number): Promise<Seen[]> {
    const size = `${picture.width}x${picture.height}`;
    const stepS = timeS - this.lastS;
    this.lastS = timeS;
    if (size !== this.size || stepS > GAP_S || stepS < -JITTER_S) {
      this.tracker.forget();
      [this.size, this.gray] = [size, null];
    }
    const gray = grayOf(picture);
    const { tracks } = this.tracker;
    const moved =
      this.gray === null || this.isDue(timeS)
        ? null
        : follow(tracks.map(({ box, score, landmarks }) => ({ box, score, landmarks })), this.gray, gray);
    this.gray = gray;
    if (moved !== null) {
      this.followed += 1;
      moved.forEach((face, i) => tracks[i].move(face.box, face.landmarks, timeS));
      return byTrack(moved, tracks);
    }
    [this.detectedS, this.followed] = [timeS, 0];
    const faces = largest(await this.finder.find(picture, this.minFacePx), this.maxFaces);
    return byTrack(faces, this.tracker.update(faces, timeS));
  }

  /** The person of a track; people whose track has ended are forgotten. */
  person(track: Track): Person {
    let person = this.people.get(track.id);
    if (person === undefined) {
      const alive = new Set(this.tracker.tracks.map(({ id }) => id));
      for (const id of this.people.keys()) if (!alive.has(id)) this.people.delete(id);
      person = { age: new RunningAge(this.spec), reason: null, answer: this.gate && unseen(this.gate.gate) };
      this.people.set(track.id, person);
    }
    return person;
  }

  /** Add one look to the gate; a different person on the same track starts anew. */
  askGate(person: Person, track: Track, look: Reading): void {
    if (this.gate !== null) person.answer = this.gate.look(look, `${track.id}/${person.age.people}`);
  }

  /** Whether this frame needs the finder. */
  private isDue(timeS: number): boolean {
    const waitedS = timeS - this.detectedS;
    const early = waitedS >= 0 && waitedS < 0.99 * DETECT_EVERY_S && this.followed < DETECT_EVERY_FRAMES;
    return this.tracker.unsure || !early;
  }
}

function byTrack(faces: readonly Detection[], tracks: readonly (Track | null)[]): Seen[] {
  const seen: Seen[] = [];
  faces.forEach((face, i) => {
    const track = tracks[i];
    if (track !== null && track.id > 0) seen.push({ face, track });
  });
  return seen.sort((a, b) => a.track.id - b.track.id);
}
