/** Face detection: boxes, scores and five landmarks; the finder's graph decodes them and does non-maximum suppression. */
import { NumclipError } from "./errors.js";
import { type Detection, KEEP_SCORE, type Landmarks, sidePx } from "./faces.js";
import { readSpecText } from "./model-file.js";
import { roundHalfEven } from "./numbers.js";
import { type Pixels, enlarge, shrinkByArea } from "./pixels.js";
import { type Session, openSession } from "./session.js";
import { type Json, type JsonObject, number, object, string } from "./spec.js";

const SCHEMA_VERSION = 1;
const AS_IT_IS_PX = 640; // a picture whose longer side is at most this is never shrunk, because detection is cheap
const LARGEST_SCALE = 2; // a still picture is enlarged at most so far
const LOOKS_APART = 4; // each pass has a quarter of the scale of the one before
const LAST_LOOK_PX = 400; // the pass whose longer side is at most this is the last
const FROM_PX = 48; // smallest face of a pass, in its own px, from the second pass on
const UP_TO_PX = 240; // largest face of a pass, in its own px, in all but the last pass
const TILE_PX = 2048; // longest side of a tile
const SHARED_PX = 256; // overlap of two tiles
const EDGE_PX = 4; // a box this close to an inner tile edge is dropped: another tile shows the whole face
const HEAD = 0.5; // height of a hat above the face's box, as a share of the box's height
const EMBLEM_SHARE = 0.4; // a face on another head and smaller than this share of its side ...
const EMBLEM_SCORE = 0.95; // ... needs this score

/** The metadata of a finder's file. */
export interface FinderSpec {
  readonly name: string;
  readonly smallestFacePx: number; // longer side of the smallest face that it detects reliably
  readonly scoreThreshold: number; // the graph returns no face with a lower score
  readonly overlapThreshold: number; // of two boxes with a larger overlap (IoU), the one with the higher score stays
}

export class Finder {
  private constructor(
    readonly spec: FinderSpec,
    private readonly session: Session,
  ) {}

  /** Open a finder's file; throws NumclipError if it is not one. */
  static async open(bytes: Uint8Array, file: string, threads: number): Promise<Finder> {
    return new Finder(readFinderSpec(readSpecText(bytes, file), file), await openSession(bytes, file, threads));
  }

  /**
   * The faces in a picture, highest score first, in px of that picture, from several passes, as in runtime/faces/looks.py.
   *
   * The first pass shrinks the picture as far as the smallest face (longer side, px) allows. With `enlarging`, for pictures that
   * are read once, it enlarges the picture up to twice for small faces. The next pass has a quarter of the scale; it only runs if
   * a face may be too large for the passes so far.
   */
  async find(picture: Pixels, smallestFacePx: number, enlarging = false): Promise<Detection[]> {
    const longer = Math.max(picture.width, picture.height);
    const wanted = this.spec.smallestFacePx / smallestFacePx;
    const looks: Detection[][] = [];
    const largest = enlarging ? LARGEST_SCALE : 1;
    for (let scale = Math.min(Math.max(wanted, Math.min(1, AS_IT_IS_PX / longer)), largest); ; scale /= LOOKS_APART) {
      const last = scale * longer <= LAST_LOOK_PX;
      const fromPx = looks.length ? FROM_PX / scale : 0;
      const toPx = last ? Infinity : UP_TO_PX / scale;
      const seen = await this.look(picture, scale);
      looks.push(
        seen.filter(({ box, score }) => score >= Math.fround(KEEP_SCORE) && sidePx(box) >= fromPx && sidePx(box) < toPx),
      );
      if (last || !seen.some(({ box }) => sidePx(box) >= (LOOKS_APART * FROM_PX) / scale)) break;
    }
    const faces = joined(looks, this.spec.overlapThreshold);
    return faces.filter((face) => !isEmblem(face, faces));
  }

  release(): Promise<void> {
    return this.session.release();
  }

  /** The faces at this scale, tile by tile, in px of the picture. */
  private async look(picture: Pixels, scale: number): Promise<Detection[]> {
    const parts: Detection[][] = [];
    for (const [y0, y1] of tiles(picture.height, scale)) {
      for (const [x0, x1] of tiles(picture.width, scale)) {
        const seen = await this.see(picture, { x0, y0, x1, y1 }, scale);
        const edge = EDGE_PX / scale;
        parts.push(
          seen.filter(
            ({ box }) =>
              !(x0 > 0 && box[0] < x0 + edge) &&
              !(y0 > 0 && box[1] < y0 + edge) &&
              !(x1 < picture.width && box[2] > x1 - edge) &&
              !(y1 < picture.height && box[3] > y1 - edge),
          ),
        );
      }
    }
    return joined(parts, this.spec.overlapThreshold);
  }

  private async see(picture: Pixels, tile: Tile, scale: number): Promise<Detection[]> {
    const [wide, high] = [tile.x1 - tile.x0, tile.y1 - tile.y0];
    const [width, height] = [wide, high].map((side) => Math.max(1, roundHalfEven(side * scale)));
    const whole = wide === picture.width && high === picture.height;
    const resize = scale < 1 ? shrinkByArea : enlarge;
    const sized = whole && width === wide && height === high ? picture : resize(picture, tile, width, height);
    const outputs = await this.session.run("pictures", { data: bgrOf(sized), dims: [1, height, width, 3] });
    const boxes = outputs.boxes.data as Float32Array;
    const scores = outputs.scores.data as Float32Array;
    const landmarks = outputs.landmarks.data as Float32Array;
    const [rx, ry] = [Math.fround(wide / width), Math.fround(high / height)];
    const point = (array: Float32Array, i: number) => [
      Math.fround(Math.fround(array[i] * rx) + tile.x0),
      Math.fround(Math.fround(array[i + 1] * ry) + tile.y0),
    ];
    const faces: Detection[] = [];
    for (let f = 0; f < scores.length; f++) {
      const [x0, y0] = point(boxes, 4 * f);
      const [x1, y1] = point(boxes, 4 * f + 2);
      const points = [0, 1, 2, 3, 4].map((p) => point(landmarks, 10 * f + 2 * p));
      faces.push({ box: [x0, y0, x1, y1], score: scores[f], landmarks: points as Landmarks });
    }
    return faces;
  }
}

/** A part of a picture, px. */
interface Tile {
  readonly x0: number;
  readonly y0: number;
  readonly x1: number;
  readonly y1: number;
}

/** Start and end (px of the picture) of the tiles along one side, each at most TILE_PX at this scale. */
function tiles(length: number, scale: number): [number, number][] {
  if (length * scale <= TILE_PX) return [[0, length]];
  const [most, shared] = [TILE_PX / scale, SHARED_PX / scale];
  const count = Math.ceil((length - shared) / (most - shared));
  const side = (length + (count - 1) * shared) / count;
  return Array.from({ length: count }, (_, i) => {
    const start = roundHalfEven(i * (side - shared));
    return [start, Math.min(length, start + Math.ceil(side))];
  });
}

/** The faces of all parts, without those that overlap a higher-scoring one by more than the limit (IoU); highest score first. */
function joined(parts: Detection[][], overlap: number): Detection[] {
  if (parts.length === 1) return parts[0];
  const kept: Detection[] = [];
  for (const face of parts.flat().sort((a, b) => b.score - a.score)) {
    if (kept.every((better) => shared(face.box, better.box) <= overlap)) kept.push(face);
  }
  return kept;
}

/** Intersection over union of two boxes. */
function shared(a: Detection["box"], b: Detection["box"]): number {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = (box: Detection["box"]) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

/** Whether a face is probably a badge or pattern on the head of a much larger face with a higher score. */
function isEmblem(face: Detection, faces: Detection[]): boolean {
  const [x0, y0, x1, y1] = face.box;
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return (
    face.score < Math.fround(EMBLEM_SCORE) &&
    faces.some(({ box, score }) => {
      const top = box[1] - HEAD * (box[3] - box[1]);
      const onHead = x >= box[0] && x <= box[2] && y >= top && y <= box[3];
      return onHead && face.score <= score && sidePx(face.box) < EMBLEM_SHARE * sidePx(box);
    })
  );
}

/** Read and check a finder's spec; throws NumclipError that names the wrong field. */
function readFinderSpec(text: string, file: string): FinderSpec {
  let fields: JsonObject;
  try {
    fields = object(JSON.parse(text) as Json, "spec");
  } catch {
    throw new NumclipError("model-spec", `${file}: expected the finder's spec as JSON, got other text; export the finder again`);
  }
  if (fields.kind !== "faces") {
    throw new NumclipError("model-spec", `${file}: expected a face detector, got a model that reads crops; give another file`);
  }
  const version = number(fields.schema_version, "schema_version");
  if (version !== SCHEMA_VERSION) {
    const hint = version > SCHEMA_VERSION ? "update numclip" : "export it again";
    throw new NumclipError("model-schema", `${file}: spec field schema_version: expected ${SCHEMA_VERSION}, got ${version}; ${hint}`);
  }
  return {
    name: string(fields.name, "name"),
    smallestFacePx: number(fields.smallest_face_px, "smallest_face_px"),
    scoreThreshold: number(fields.score_threshold, "score_threshold"),
    overlapThreshold: number(fields.overlap_threshold, "overlap_threshold"),
  };
}

/** A picture as the graph takes it, uint8 [H, W, 3] BGR. */
function bgrOf({ width, height, data }: Pixels): Uint8Array {
  const bgr = new Uint8Array(width * height * 3);
  for (let to = 0, at = 0; to < bgr.length; to += 3, at += 4) {
    bgr[to] = data[at + 2];
    bgr[to + 1] = data[at + 1];
    bgr[to + 2] = data[at];
  }
  return bgr;
}
