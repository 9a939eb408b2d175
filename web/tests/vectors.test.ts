/** The library gives the same results as Python; tests/web/make_vectors.py writes the expected ones. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { LookBudget } from "../src/budget.js";
import { readTable } from "../src/conformal.js";
import { cropFace } from "../src/crops.js";
import { type Box, type Detection, type Landmarks, type Point, judge, quality } from "../src/faces.js";
import { follow, grayOf } from "../src/following.js";
import { type GateOptions, TrackGate, openGate } from "../src/gate.js";
import { graphSha256, readSpecText } from "../src/model-file.js";
import { type Pixels, enlarge } from "../src/pixels.js";
import { type Reading, readingOf } from "../src/readings.js";
import { RunningAge, shownInterval } from "../src/running-age.js";
import { sharpness } from "../src/sharpness.js";
import { type CropSpec, readSpec } from "../src/spec.js";
import { Tracker } from "../src/tracking.js";

const vectors = JSON.parse(readFileSync(new URL("vectors.json", import.meta.url), "utf-8"));
const TEMPLATE: Point[] = [[0.3043, 0.2904], [0.6957, 0.2904], [0.5, 0.5011], [0.3364, 0.6823], [0.6636, 0.6823]];
const file = bytesOf(vectors.model.file);
const spec = readSpec(readSpecText(file, "made.onnx"), "made.onnx");

/** Numbers in [0, 1) from a linear congruential generator; Python has the same. */
class Dice {
  constructor(private state: number) {}

  roll(): number {
    this.state = Number((BigInt(this.state) * 1664525n + 1013904223n) % 4294967296n);
    return this.state / 4294967296;
  }
}

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

/** Slow triangle waves with fine structure, shifted by (dx, dy) px. */
function picture(width: number, height: number, dx = 0, dy = 0): Pixels {
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  const mod = (a: number, n: number) => ((a % n) + n) % n;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [x, y] = [column - dx + 512, row - dy + 512];
      const structure = ((Math.floor(x / 3) * 7) ^ (Math.floor(y / 5) * 13)) % 48;
      for (let c = 0; c < 3; c++) {
        const wave = Math.abs(mod(3 * x + (c + 1) * y, 254) - 127) + Math.abs(mod(5 * y - x * (2 - c), 128) - 64);
        data[(row * width + column) * 4 + c] = wave + structure;
      }
    }
  }
  return { width, height, data };
}

function faceAt(x: number, y: number, side: number, turn: number, score = 0.9): Detection {
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const landmarks = TEMPLATE.map(([u, v]) => {
    const [a, b] = [(u - 0.5) * side, (v - 0.5) * side];
    return [Math.fround(a * cos - b * sin + x), Math.fround(a * sin + b * cos + y)];
  });
  const box = [x - side / 2, y - side / 2, x + side / 2, y + side / 2].map(Math.fround);
  return { box: box as Box, score, landmarks: landmarks as Landmarks };
}

/** Random graph outputs, corrected as by the model; around one age if a center is given. */
function looks(dice: Dice, many: number, center?: number): Reading[] {
  const rows = <T>(make: () => T): T[] => Array.from({ length: many }, make);
  const values = rows(() => (center === undefined ? 120 * dice.roll() : center + 8 * dice.roll() - 4));
  const close = spec.task.binCenters.map((c) => (center === undefined ? 1 : Math.exp(-Math.abs(c - center) / 5)));
  const raw = rows(() => close.map((c) => c * dice.roll() ** 2));
  const old = center !== undefined && center > 50;
  const embeddings = rows(() => Array.from({ length: 8 }, (_, d) => dice.roll() * ((d % 2 === 1) === old ? 1 : 0.1)));
  const sharp = rows(() => -3 + 1.5 * dice.roll());
  const table = readTable(spec.calibration!, spec.graph.embeddingDim);
  return values.map((value, n) => {
    const sum = raw[n].reduce((a, b) => a + b, 0);
    const probabilities = raw[n].map((p) => p / sum) as unknown as Float32Array;
    const norm = Math.hypot(...embeddings[n]);
    return readingOf(spec, table, value, probabilities, Float32Array.from(embeddings[n], (e) => e / norm), sharp[n]);
  });
}

function near(got: number, expected: number, within = 2e-5): void {
  expect(Math.abs(got - expected), `got ${got}, expected ${expected}`).toBeLessThanOrEqual(within * Math.max(1, Math.abs(expected)));
}

describe("as Python answers", () => {
  test("the hash of a graph leaves the metadata out", async () => {
    expect(await graphSha256(file, "made.onnx")).toBe(vectors.model.graph_sha256);
    expect(spec.name).toBe("made");
  });

  test("readings: value, words, intervals, probabilities, log odds, widening", () => {
    const rows = looks(new Dice(1), 40);
    vectors.readings.forEach((expected: Record<string, never>, n: number) => {
      const reading = rows[n];
      near(reading.value, expected.value);
      reading.probabilities.forEach((p, k) => near(p, expected.probabilities[k]));
      expect(reading.word).toBe(expected.word);
      near(reading.difficulty, expected.difficulty);
      reading.interval(0.5).forEach((end, i) => near(end, expected.interval_50[i]));
      reading.interval(0.9).forEach((end, i) => near(end, expected.interval_90[i]));
      near(reading.atLeast(18), expected.at_least_18);
      near(reading.logOdds(18), expected.log_odds_18);
      near(reading.widening, expected.widening);
    });
  });

  test("a level above the highest of the calibration is refused, as in Python", () => {
    const [reading] = looks(new Dice(1), 1);
    expect(reading.interval(0.99)[0]).toBeLessThanOrEqual(reading.interval(0.9)[0]);
    expect(() => reading.interval(0.9999)).toThrow("at most 0.99");
  });

  test("gates along a track", () => {
    const gates: [GateOptions, number][] = [
      [{ threshold: 18, error: 0.08 }, 42], [{ threshold: 18 }, 30], [{ threshold: 18, challenge: 25 }, 30],
      [{ threshold: 25, cost: 3 }, 34], [{ threshold: 13, error: 0.2 }, 14],
    ];
    gates.forEach(([options, center], seed) => {
      const gate = new TrackGate(openGate(spec, options));
      expect(gate.gate.error).toBe(vectors.gate_error[seed]);
      const said = looks(new Dice(10 + seed), 20, center).map((reading) => gate.look(reading, "1").answer);
      expect(said).toEqual(vectors.gate[seed]);
    });
  });

  test("crops are OpenCV's, to a grey level where a landmark's last bit rounds elsewhere", () => {
    const crop: CropSpec = { side: 32, landmarks: TEMPLATE, boxRules: {} };
    for (const { landmarks, crop: base64, sharpness: sharp } of vectors.crops) {
      const expected = bytesOf(base64);
      const got = cropFace(picture(320, 240), landmarks, crop);
      const off = got.map((v, i) => Math.abs(v - expected[i]));
      expect(off.reduce((sum, v) => sum + v, 0) / off.length).toBeLessThan(0.01);
      near(sharpness(expected, 32), sharp, 1e-4);
    }
  });

  test("a picture is enlarged with OpenCV's pixels, part by part", () => {
    for (const { part: [x0, y0, x1, y1], size: [width, height], sha256 } of vectors.enlarged) {
      const { data } = enlarge(picture(320, 240), { x0, y0, x1, y1 }, width, height);
      const rgb = data.filter((_, i) => i % 4 !== 3);
      expect(createHash("sha256").update(rgb).digest("hex"), `${width} x ${height}`).toBe(sha256);
    }
  });

  test("faces are followed to the same place, and lost alike", () => {
    const faces = [faceAt(90, 80, 60, 0.1), faceAt(210, 150, 80, -0.3)];
    const before = grayOf(picture(320, 240));
    for (const { dx, dy, moved } of vectors.following) {
      const got = follow(faces, before, grayOf(picture(320, 240, dx, dy)));
      if (moved === null) {
        expect(got).toBeNull();
        continue;
      }
      got!.forEach((face, f) => {
        face.box.forEach((v, i) => expect(Math.abs(v - moved.boxes[f][i])).toBeLessThan(0.05));
        face.landmarks.forEach((p, i) => p.forEach((v, j) => expect(Math.abs(v - moved.landmarks[f][i][j])).toBeLessThan(0.05)));
      });
    }
  });

  test("tracks get the same ids", () => {
    const dice = new Dice(5);
    const tracker = new Tracker();
    const said = vectors.tracking.map((_: unknown, frame: number) => {
      const owner = tracker.update(walkers(dice, frame), frame / 15);
      return owner.map((track) => track?.id ?? 0);
    });
    expect(said).toEqual(vectors.tracking);
  });

  test("a running age settles alike, and sees another person alike", () => {
    const dice = new Dice(7);
    const age = new RunningAge(spec);
    const rows = [...looks(dice, 25, 30), ...looks(dice, 15, 70)];
    vectors.running.forEach((expected: Record<string, never>, at: number) => {
      const shown = age.look(rows[at], 0.2 + 0.8 * dice.roll(), at * 0.1 + (at > 10 ? 5 : 0));
      near(shown.mean.value, expected.value);
      shownInterval(shown, 0.9).forEach((end, i) => near(end, expected.interval[i]));
      near(shown.looks, expected.looks, 1e-5);
      expect(age.people).toBe(expected.people);
      expect(age.doubted).toBe(expected.doubted);
    });
  });

  test("a budget buys the same looks", () => {
    const dice = new Dice(9);
    const purse = new LookBudget(0.01);
    const said = vectors.budget.map(() => {
      const bought = purse.choose(Array.from({ length: 5 }, () => Math.max(0, dice.roll() - 0.3)));
      purse.spent(bought.length, bought.length * (0.002 + 0.006 * dice.roll()));
      return bought;
    });
    expect(said).toEqual(vectors.budget);
  });

  test("faces are judged alike", () => {
    const dice = new Dice(11);
    for (const expected of vectors.quality) {
      const [side, sharp] = [10 + 120 * dice.roll(), -3 + 1.5 * dice.roll()];
      const face = faceAt(200, 150, side, 0);
      face.landmarks[2][0] = Math.fround(face.landmarks[2][0] + side * (dice.roll() - 0.5) * 0.6);
      const { view, refused } = judge(face, 24);
      near(view, expected.view, 1e-4);
      expect(refused).toBe(expected.refused);
      near(quality(view, sharp), expected.quality, 1e-4);
    }
  });
});

function walkers(dice: Dice, frame: number): Detection[] {
  const faces: Detection[] = [];
  for (let person = 0; person < 4; person++) {
    const x = 100 + 120 * person + ((person % 2 ? 60 : -60) * frame) / 15 + 6 * dice.roll();
    const y = 100 + 30 * person + 4 * dice.roll();
    const side = 50 + 10 * person + 3 * dice.roll();
    const score = 0.5 + 0.5 * dice.roll();
    const hidden = 30 + 5 * person < frame && frame < 34 + 12 * person;
    if (dice.roll() > 0.2 && !hidden) faces.push(faceAt(x, y, side, 0, score));
  }
  return faces;
}
