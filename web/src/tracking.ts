/**
 * Who is who from frame to frame: faces that are where a track was heading belong to it.
 *
 * Detections are paired with tracks by falling overlap with the place where the track's last velocity leads; what is left
 * is paired by distance, if the sizes agree. The same numbers as the Python side's `tracking.py`.
 */
import { type Box, type Detection, KEEP_SCORE, type Landmarks } from "./faces.js";

export const START_SCORE = 0.8; // a new track needs a sure detection; a known one is kept at KEEP_SCORE
const MIN_OVERLAP = 0.2; // intersection over union
const NEAR = 1; // or: center distance in sides at most
const LIKE = 0.6; // and ratio of sides at least
const MIN_HITS = 3; // a track is shown from its third sighting on
const MAX_GAP_S = 1; // and forgotten when it was not seen for longer
const MAX_MISSES = 3; // and in more detections
const COAST_S = 0.3; // someone who is not seen is taken to slow down within about this time
const SMOOTH = 0.5; // of a new velocity in the kept one

/** One person as long as they are seen, with little gaps. */
export class Track {
  id = 0; // 0 until it is shown for the first time
  velocity: [number, number] = [0, 0]; // px/s of its center
  hits = 1; // detections of it
  misses = 0; // detections without it since
  asked = 0; // looks that the model was asked for
  askedS = -Infinity; // when it was asked last
  bestView = 0; // the best view so far
  doubted = false; // the last look said something else than those before it

  constructor(
    public box: Box,
    public landmarks: Landmarks,
    public score: number,
    public seenS: number,
  ) {}

  /** The box it should have at a time. */
  expected(timeS: number): Box {
    const coastS = COAST_S * (1 - Math.exp(-Math.max(0, timeS - this.seenS) / COAST_S));
    const [dx, dy] = [this.velocity[0] * coastS, this.velocity[1] * coastS];
    return [this.box[0] + dx, this.box[1] + dy, this.box[2] + dx, this.box[3] + dy];
  }

  /** It is here now. */
  move(box: Box, landmarks: Landmarks, timeS: number): void {
    const passedS = timeS - this.seenS;
    if (passedS > 0) {
      for (const axis of [0, 1]) {
        const way = (box[axis] + box[axis + 2] - this.box[axis] - this.box[axis + 2]) / 2;
        this.velocity[axis] += SMOOTH * (way / passedS - this.velocity[axis]);
      }
    }
    this.box = box;
    this.landmarks = landmarks;
    this.seenS = timeS;
  }
}

/** Gives each detection the track it belongs to. */
export class Tracker {
  tracks: Track[] = [];
  shown = 0; // tracks ever shown; ids count from 1 without gaps

  /** Drop all tracks: what comes next has nothing to do with what was. No id comes twice. */
  forget(): void {
    this.tracks = [];
  }

  /** Whether the next frames must be looked at to know who is there: someone is new, or was not found just now. */
  get unsure(): boolean {
    return this.tracks.some((track) => track.hits < MIN_HITS || track.misses > 0);
  }

  /** The track of each detection of the frame at `timeS`; null where it belongs to none, or to none shown yet. */
  update(detections: readonly Detection[], timeS: number): (Track | null)[] {
    const owner: (Track | null)[] = detections.map(() => null);
    for (const [at, track] of this.pairs(detections, timeS)) {
      track.move(detections[at].box, detections[at].landmarks, timeS);
      track.score = detections[at].score;
      track.hits += 1;
      track.misses = 0;
      owner[at] = track;
    }
    const seen = new Set(owner);
    for (const track of this.tracks) if (!seen.has(track)) track.misses += 1;
    this.tracks = this.tracks.filter((track) => !isGone(track, timeS));
    detections.forEach((face, at) => {
      if (owner[at] === null && face.score >= START_SCORE) {
        const track = new Track(face.box, face.landmarks, face.score, timeS);
        owner[at] = track;
        this.tracks.push(track);
      }
    });
    return owner.map((track) => this.visible(track));
  }

  private visible(track: Track | null): Track | null {
    if (track === null || track.hits < MIN_HITS) return null;
    if (track.id === 0) track.id = ++this.shown;
    return track;
  }

  /** (detection, track) pairs, each used once: greatest overlap first, then least distance. */
  private pairs(detections: readonly Detection[], timeS: number): [number, Track][] {
    const kept = detections.map((_, i) => i).filter((i) => detections[i].score >= KEEP_SCORE);
    const places = this.tracks.map((track) => track.expected(timeS));
    const close = kept.map((i) =>
      places.map((place) => {
        const over = overlap(detections[i].box, place);
        return over >= MIN_OVERLAP ? 1 + over : closeness(detections[i].box, place);
      }),
    );
    const pairs: [number, Track][] = [];
    for (;;) {
      let best = 0;
      let face = -1;
      let track = -1;
      close.forEach((row, f) =>
        row.forEach((value, t) => {
          if (value > best) [best, face, track] = [value, f, t];
        }),
      );
      if (face < 0) return pairs;
      pairs.push([kept[face], this.tracks[track]]);
      close[face].fill(-1);
      for (const row of close) row[track] = -1;
    }
  }
}

function isGone(track: Track, timeS: number): boolean {
  if (track.hits < MIN_HITS) return track.misses > 0;
  return track.misses > MAX_MISSES && timeS - track.seenS > MAX_GAP_S;
}

/** Intersection over union. */
export function overlap(a: Box, b: Box): number {
  const inside =
    Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0) * Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const union = area(a) + area(b) - inside;
  return union > 0 ? inside / Math.max(union, 1e-9) : 0;
}

/** From 1 for the same center down to 0 for NEAR sides apart; 0 where the sides differ by more than LIKE. */
export function closeness(a: Box, b: Box): number {
  const [side, other] = [meanSide(a), meanSide(b)];
  if (Math.min(side, other) / Math.max(side, other) < LIKE) return 0;
  const far = Math.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]) / 2;
  return Math.max(1 - far / ((NEAR * (side + other)) / 2), 0);
}

function area(box: Box): number {
  return Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);
}

function meanSide(box: Box): number {
  return Math.max((box[2] - box[0] + box[3] - box[1]) / 2, 1e-3);
}
