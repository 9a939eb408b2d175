/**
 * Tracking: assigns the faces of each frame to tracks by their predicted places.
 *
 * Detections are matched to tracks in order of decreasing overlap with the box that the track's last velocity predicts. The rest
 * is matched by distance, if the sizes agree. The numbers equal those of `tracking.py` in Python.
 */
import { type Box, type Detection, KEEP_SCORE, type Landmarks } from "./faces.js";

export const START_SCORE = 0.8; // score that starts a new track; KEEP_SCORE continues one
const MIN_OVERLAP = 0.2; // intersection over union
const NEAR = 1; // otherwise: maximum center distance, in sides
const LIKE = 0.6; // and minimum ratio of the sides
const MIN_HITS = 3; // a track is shown from its third detection on
const MAX_GAP_S = 1; // a track ends if it was not detected for longer than this ...
const MAX_MISSES = 3; // ... and in more detector runs than this
const COAST_S = 0.3; // a person who is not detected is assumed to slow down within about this time
const SMOOTH = 0.5; // weight of a new velocity

/** One person for as long as they are visible, with short gaps. */
export class Track {
  id = 0; // 0 until the track is first shown
  velocity: [number, number] = [0, 0]; // px/s of its center
  hits = 1; // number of detections
  misses = 0; // number of detector runs without it since the last detection
  asked = 0; // number of looks requested
  askedS = -Infinity; // time of the last requested look
  bestView = 0; // quality of the best view so far
  doubted = false; // the last look differed strongly from those before it

  constructor(
    public box: Box,
    public landmarks: Landmarks,
    public score: number,
    public seenS: number,
  ) {}

  /** The predicted box at a time. */
  expected(timeS: number): Box {
    const coastS = COAST_S * (1 - Math.exp(-Math.max(0, timeS - this.seenS) / COAST_S));
    const [dx, dy] = [this.velocity[0] * coastS, this.velocity[1] * coastS];
    return [this.box[0] + dx, this.box[1] + dy, this.box[2] + dx, this.box[3] + dy];
  }

  /** Update the track with a detection. */
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

/** Assigns detections to tracks. */
export class Tracker {
  tracks: Track[] = [];
  shown = 0; // number of tracks shown so far; ids count from 1 without gaps

  /** End all tracks, because the next frame is unrelated to the last. No id is used twice. */
  forget(): void {
    this.tracks = [];
  }

  /** Whether the next frame needs the detector: a track is new, or was not detected just now. */
  get unsure(): boolean {
    return this.tracks.some((track) => track.hits < MIN_HITS || track.misses > 0);
  }

  /** The track of each detection of the frame at `timeS`; null if it has none, or one that is not shown yet. */
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

  /** (detection, track) pairs, each used once: largest overlap first, then smallest distance. */
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

/** 1 for the same center, falling to 0 at a distance of NEAR sides; 0 if the sides differ by more than LIKE. */
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
