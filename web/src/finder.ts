/** Finds faces: boxes, scores and five landmarks, decoded and non-maximum-suppressed inside the finder's graph. */
import { NumclipError } from "./errors.js";
import { type Detection, KEEP_SCORE, type Landmarks, sidePx } from "./faces.js";
import { readSpecText } from "./model-file.js";
import { roundHalfEven } from "./numbers.js";
import { type Pixels, shrinkByArea } from "./pixels.js";
import { type Session, openSession } from "./session.js";
import { type Json, type JsonObject, number, object, string } from "./spec.js";

const SCHEMA_VERSION = 1;
const AS_IT_IS_PX = 640; // a picture with no longer side is never shrunk: it costs little
const GLANCE_PX = 320; // the longer side of the second, small look
const LARGE_SHARE = 0.4; // of a picture's longer side: a face from this size on is believed to the second look
const HEAD = 0.5; // of a face's height: so far above its box a hat reaches
const EMBLEM_SHARE = 0.4; // on a head, a face of less than this share of its side ...
const EMBLEM_SCORE = 0.95; // ... must be this sure
const PART_OF_A_FACE = 0.3; // the share of a smaller box inside a large face from which it is taken for a part of it

/** What a finder's file says about itself. */
export interface FinderSpec {
  readonly name: string;
  readonly smallestFacePx: number; // the longer side of the smallest face that it finds reliably
  readonly scoreThreshold: number; // no face with a lower score leaves the graph
}

export class Finder {
  private constructor(
    readonly spec: FinderSpec,
    private readonly session: Session,
  ) {}

  /** Open a finder's file; throws NumclipError where it is none. */
  static async open(bytes: Uint8Array, file: string, threads: number): Promise<Finder> {
    return new Finder(readFinderSpec(readSpecText(bytes, file), file), await openSession(bytes, file, threads));
  }

  /**
   * The faces in a picture, best score first, px of that picture.
   *
   * It is shrunk as far as the smallest face that is asked for allows (px, of its longer side); a picture that stays
   * large is looked at once more, small, for the faces that nearly fill it.
   */
  async find(picture: Pixels, smallestFacePx: number): Promise<Detection[]> {
    const longer = Math.max(picture.width, picture.height);
    const allowed = Math.min(1, this.spec.smallestFacePx / smallestFacePx);
    const ratio = Math.min(1, Math.max(allowed, AS_IT_IS_PX / longer));
    const faces = await this.findAt(picture, ratio);
    if (roundHalfEven(longer * ratio) <= AS_IT_IS_PX) return faces;
    const glance = await this.findAt(picture, GLANCE_PX / longer);
    return withLarge(faces, glance.filter((face) => sidePx(face.box) >= LARGE_SHARE * longer));
  }

  release(): Promise<void> {
    return this.session.release();
  }

  private async findAt(picture: Pixels, ratio: number): Promise<Detection[]> {
    const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, roundHalfEven(side * ratio)));
    const whole = { x0: 0, y0: 0, x1: picture.width, y1: picture.height };
    const small = ratio < 1 ? shrinkByArea(picture, whole, width, height) : picture;
    const outputs = await this.session.run("pictures", { data: bgrOf(small), dims: [1, height, width, 3] });
    const boxes = outputs.boxes.data as Float32Array;
    const scores = outputs.scores.data as Float32Array;
    const landmarks = outputs.landmarks.data as Float32Array;
    const [rx, ry] = [Math.fround(picture.width / width), Math.fround(picture.height / height)];
    const point = (array: Float32Array, i: number) => [Math.fround(array[i] * rx), Math.fround(array[i + 1] * ry)];
    const faces: Detection[] = [];
    for (let f = 0; f < scores.length; f++) {
      if (scores[f] < Math.fround(KEEP_SCORE)) continue;
      const [x0, y0] = point(boxes, 4 * f);
      const [x1, y1] = point(boxes, 4 * f + 2);
      const points = [0, 1, 2, 3, 4].map((p) => point(landmarks, 10 * f + 2 * p));
      faces.push({ box: [x0, y0, x1, y1], score: scores[f], landmarks: points as Landmarks });
    }
    return faces.filter((face) => !isEmblem(face, faces));
  }
}

/** Whether a face is rather a badge or a pattern on the head of a much larger face. */
function isEmblem(face: Detection, faces: Detection[]): boolean {
  const [x0, y0, x1, y1] = face.box;
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return (
    face.score < Math.fround(EMBLEM_SCORE) &&
    faces.some(({ box }) => {
      const top = box[1] - HEAD * (box[3] - box[1]);
      const onHead = x >= box[0] && x <= box[2] && y >= top && y <= box[3];
      return onHead && sidePx(face.box) < EMBLEM_SHARE * sidePx(box);
    })
  );
}

/** The share of a box that lies in another. */
function inside(a: Detection["box"], b: Detection["box"]): number {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return (width * height) / Math.max((a[2] - a[0]) * (a[3] - a[1]), 1e-9);
}

/** Read and check a finder's spec; throws NumclipError naming the field that is wrong. */
function readFinderSpec(text: string, file: string): FinderSpec {
  let fields: JsonObject;
  try {
    fields = object(JSON.parse(text) as Json, "spec");
  } catch {
    throw new NumclipError("model-spec", `${file}: the finder's spec is not JSON; export it again`);
  }
  if (fields.kind !== "faces") {
    throw new NumclipError("model-spec", `${file}: expected a face finder, this is a model that reads crops; name another file`);
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
  };
}

/** The faces of the thorough look, and of the small one the large faces, in whose place nothing smaller stays. */
function withLarge(faces: Detection[], large: Detection[]): Detection[] {
  if (!large.length) return faces;
  const others = faces.filter((face) => large.every((one) => inside(face.box, one.box) <= PART_OF_A_FACE));
  return [...large, ...others].sort((a, b) => b.score - a.score);
}

/** uint8 [H, W, 3] BGR, as the graph takes a picture. */
function bgrOf({ width, height, data }: Pixels): Uint8Array {
  const bgr = new Uint8Array(width * height * 3);
  for (let to = 0, at = 0; to < bgr.length; to += 3, at += 4) {
    bgr[to] = data[at + 2];
    bgr[to + 1] = data[at + 1];
    bgr[to + 2] = data[at];
  }
  return bgr;
}
