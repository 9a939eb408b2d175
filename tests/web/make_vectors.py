"""Write web/tests/vectors.json: Python's results, which the browser's library must reproduce.

    python tests/web/make_vectors.py

Inputs come from integer formulas that give the same numbers in both languages, so the file contains mainly results.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from numclip.runtime.contract.gate import TrackGate, open_gate
from numclip.runtime.contract.model_file import graph_sha256, message, write_spec
from numclip.runtime.contract.readings import Readings
from numclip.runtime.contract.sharpness import sharpness
from numclip.runtime.contract.spec import CropSpec, ModelSpec
from numclip.runtime.faces.crops import crop_faces
from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.following import follow, gray_of
from numclip.runtime.faces.quality import judged, quality
from numclip.runtime.faces.tracking import Tracker
from numclip.runtime.live.look_budget import LookBudget
from numclip.runtime.live.running_age import RunningAge

FILE = Path(__file__).resolve().parents[2] / "web" / "tests" / "vectors.json"
TEMPLATE = np.array([[0.3043, 0.2904], [0.6957, 0.2904], [0.5, 0.5011], [0.3364, 0.6823], [0.6636, 0.6823]])


FITTED = {"n": 1000, "data": [{"data": "made", "split": "calibration", "n": 1000}], "date": "2026-11-27"}


class Dice:
    """Numbers in [0, 1) from a linear congruential generator; web/tests/vectors.test.ts has the same."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def roll(self) -> float:
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return self.state / 2**32


def picture(width: int, height: int, dx: int = 0, dy: int = 0) -> np.ndarray:
    """Return a picture [H, W, 3] uint8 BGR: slow triangle waves with fine structure, shifted by (dx, dy) px."""
    y, x = np.mgrid[0:height, 0:width]
    x, y = x - dx + 512, y - dy + 512
    planes = []
    for channel in (2, 1, 0):  # blue is channel 2 of RGB
        wave = np.abs((3 * x + (channel + 1) * y) % 254 - 127) + np.abs((5 * y - x * (2 - channel)) % 128 - 64)
        planes.append((wave + ((x // 3) * 7 ^ (y // 5) * 13) % 48).clip(0, 255))
    return np.stack(planes, axis=2).astype(np.uint8)


def face_at(x: float, y: float, side: float, turn: float = 0.0) -> np.ndarray:
    """Return landmarks [5, 2] of a face of the given size around a place, rotated by an angle in radians."""
    away = (TEMPLATE - 0.5) * side
    cos, sin = np.cos(turn), np.sin(turn)
    return (away @ np.array([[cos, sin], [-sin, cos]]) + [x, y]).astype(np.float32)


def detections(faces: list[tuple[float, float, float, float]], scores: list[float] | None = None) -> Detections:
    """Return faces given as (x, y, side, angle)."""
    boxes = np.array([[x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s, _ in faces], np.float32).reshape(-1, 4)
    points = np.array([face_at(*face) for face in faces], np.float32).reshape(-1, 5, 2)
    return Detections(boxes, np.array(scores or [0.9] * len(faces), np.float32), points)


def looks(spec: ModelSpec, dice: Dice, many: int, center: float | None = None) -> Readings:
    """Return random graph outputs, corrected as by the model; around one age if a center is given."""
    bins, dim = spec.task.num_bins, 8
    value = np.array([120 * dice.roll() if center is None else center + 8 * dice.roll() - 4 for _ in range(many)])
    near = [1.0 if center is None else math.exp(-abs(c - center) / 5) for c in spec.task.bin_centers]
    raw = np.array([[near[k] * dice.roll() ** 2 for k in range(bins)] for _ in range(many)])
    old = center is not None and center > 50
    embedding = np.array(
        [[dice.roll() * (1.0 if (d % 2 == 1) == old else 0.1) for d in range(dim)] for _ in range(many)]
    )
    sharp = np.array([-3 + 1.5 * dice.roll() for _ in range(many)])
    table = Readings(value, raw, embedding, spec)._table  # pyright: ignore[reportPrivateUsage]
    v, p = table.correct(value, raw / raw.sum(axis=1, keepdims=True), spec.task)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    v, p, embedding = (x.astype(np.float32) for x in (v, p, embedding))
    return Readings(v, p, embedding, spec, sharpness=sharp)


def vectors() -> dict[str, Any]:
    """Return all vectors, rounded to 6 digits."""
    spec = made_spec()
    return {
        "model": model(spec),
        "readings": readings(spec),
        "gate": gates(spec),
        "gate_error": [open_gate(spec, threshold, **dial).error for threshold, dial, _ in GATES],
        "crops": crops(),
        "enlarged": enlarged(),
        "following": following(),
        "tracking": tracking(),
        "running": running(spec),
        "budget": budget(),
        "quality": qualities(),
    }


def made_spec() -> ModelSpec:
    """Return a calibrated spec with fixed numbers, with a site's layer."""
    levels = [0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995]
    calibration: dict[str, Any] = {
        "kind": "conformal",
        "knots": [2.0, 20.0, 50.0, 90.0],
        "levels": levels,
        "quantiles": [
            [-1.2, -0.5, -0.1, 0.0, 0.4, 1.1, 6.1],
            [-2.5, -1.5, -0.6, 0.04, 0.8, 2.4, 4.9],
            [-3.4, -2.1, -0.9, -0.2, 0.6, 2.1, 5.3],
            [-3.6, -2.1, -2.1, -0.2, 0.7, 2.9, 6.1],
        ],
        "base": 0.5,
        "slope": 0.67,
        "temperature": 1.06,
        "sharpness": [-2.74, -2.6, -2.4, -2.0],
        "widening": [2.9, 2.5, 1.4, 1.0],
        "direction": [0.9, -0.4, 0.2, 0.7, -0.6, 0.1, 0.5, -0.8],
        "unfamiliarity": [-0.2, 0.1, 0.6],
        "unfamiliar_widening": [1.0, 1.3, 2.2],
        "offset": 0.0,
        "look_correlation": 0.6,
        "graph_sha256": "",
        **FITTED,
        "coverage": {},
        "gates": {
            "13": gate_table(0.3, 2.2, -1.1),
            "18": gate_table(0.8, 4.2, -0.4),
            "25": gate_table(0.5, 2.5, -0.6),
        },
    }
    of_site = {name: calibration[name] for name in ("gates", "knots", "levels", "quantiles")}
    calibration["layers"] = [{"name": "site", "offset": 0.7, **of_site, **FITTED}]
    edges = (0.0, 3.0, 7.0, 13.0, 19.0, 25.0, 35.0, 45.0, 55.0, 65.0, 80.0, 100.0)
    words = ("baby", "young child", "child", "teenager", "young adult", "adult", "mature adult", "middle-aged adult",
             "older adult", "senior", "very old person")  # fmt: skip
    spec = {
        "schema_version": 1,
        "name": "made",
        "task": {"name": "age", "unit": "years", "low": 0.0, "high": 120.0, "bin_edges": edges, "words": words},
        "crop": {"side": 32, "landmarks": TEMPLATE.tolist(), "interpolation": "bilinear", "box_rules": {}},
        "graph": {name: name for name in ("value", "probabilities", "embedding")}
        | {"input": "crops", "embedding_dim": 8},
        "calibration": calibration,
        "parity": {},
        "metrics": [],
        "provenance": {},
        "licences": {"code": "Apache-2.0"},
    }
    return ModelSpec.from_json(json.dumps(spec))


def model(spec: ModelSpec) -> dict[str, Any]:
    """Return a model file without a real graph, and its parsed content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.onnx"
        path.write_bytes(
            message(2, b"numclip") + message(7, b"a graph") + message(14, message(1, b"k") + message(2, b"v"))
        )
        write_spec(path, spec)
        return {"file": base64.b64encode(path.read_bytes()).decode(), "graph_sha256": graph_sha256(path)}


def readings(spec: ModelSpec) -> list[dict[str, Any]]:
    rows = looks(spec, Dice(1), 40)
    return [
        {
            "value": r.value,
            "probabilities": r.probabilities.tolist(),
            "word": r.bin,
            "difficulty": float(rows.difficulty[r.index]),
            "interval_50": r.interval(0.5),
            "interval_90": r.interval(0.9),
            "at_least_18": r.at_least(18),
            "log_odds_18": float(rows.log_odds(18)[r.index]),
            "widening": float(rows.widening[r.index]),
        }
        for r in rows
    ]


def gate_table(center: float, yes: float, no: float) -> dict[str, Any]:
    """Return a gate table of three steps."""
    return {
        "below": 49,
        "above": 60,
        "center": center,
        "yes": [[0.06, yes, 0.7], [0.1, (yes + center) / 2, 0.4], [0.3, center, 0.1]],
        "no": [[0.05, no], [0.09, (no + center) / 2], [0.25, center]],
        "challenge": [[0.06, 31.0], [0.1, 24.5], [0.4, 17.9]],
    }


GATES: list[tuple[float, dict[str, float], float]] = [
    (18, {"error": 0.08}, 42.0),
    (18, {}, 30.0),
    (18, {"challenge": 25}, 30.0),
    (25, {"cost": 3}, 34.0),
    (13, {"error": 0.2}, 14.0),
]


def gates(spec: ModelSpec) -> list[list[str]]:
    """Return the answers of each of GATES along one track."""
    said: list[list[str]] = []
    for seed, (threshold, dial, center) in enumerate(GATES):
        gate = TrackGate(open_gate(spec, threshold, **dial))
        rows = looks(spec, Dice(10 + seed), 20, center)
        said.append([gate.look(reading, 1).answer for reading in rows])
    return said


def crops() -> list[dict[str, Any]]:
    spec = CropSpec(32, tuple((float(x), float(y)) for x, y in TEMPLATE))
    image = picture(320, 240)
    found = []
    for x, y, side, turn in [
        (160, 120, 40, 0),
        (100, 90, 30, 0.4),
        (20, 12, 60, -0.2),
        (170, 130, 150, 0.1),
        (300, 230, 90, 3),
    ]:
        cut = crop_faces(image, detections([(x, y, side, turn)]), spec, "yunet")
        found.append(
            {
                "landmarks": face_at(x, y, side, turn).tolist(),
                "crop": base64.b64encode(cut[0].tobytes()).decode(),
                "sharpness": float(sharpness(cut)[0]),
            }
        )
    return found


def enlarged() -> list[dict[str, Any]]:
    """Return parts (xyxy px) of a picture, the sizes that they are enlarged to, and the hashes of their RGB pixels."""
    found: list[dict[str, Any]] = []
    for part, size_wh in [((0, 0, 20, 10), (40, 20)), ((7, 3, 104, 90), (129, 116)), ((0, 0, 320, 240), (437, 328))]:
        x0, y0, x1, y1 = part
        large = cv2.resize(picture(320, 240)[y0:y1, x0:x1], size_wh, interpolation=cv2.INTER_LINEAR)
        rgb = np.ascontiguousarray(large[..., ::-1]).tobytes()
        found.append({"part": part, "size": size_wh, "sha256": hashlib.sha256(rgb).hexdigest()})
    return found


def following() -> list[dict[str, Any]]:
    """Return faces in a picture, and their places in the shifted picture."""
    faces = detections([(90, 80, 60, 0.1), (210, 150, 80, -0.3)])
    found = []
    for dx, dy in [(0, 0), (3, -2), (9, 5), (40, 30)]:
        moved = follow(faces, gray_of(picture(320, 240)), gray_of(picture(320, 240, dx, dy)))
        told = None if moved is None else {"boxes": moved.boxes_xyxy.tolist(), "landmarks": moved.landmarks.tolist()}  # pyright: ignore[reportOptionalMemberAccess]
        found.append({"dx": dx, "dy": dy, "moved": told})
    return found


def tracking() -> list[list[int]]:
    """Return track ids by detection for four people who walk, disappear and return, at 15 frames per second."""
    dice, tracker = Dice(5), Tracker()
    said: list[list[int]] = []
    for frame in range(90):
        faces, scores = walkers(dice, frame)
        owner = tracker.update(detections(faces, scores), frame / 15)
        said.append([0 if track is None else track.track_id for track in owner])
    return said


def walkers(dice: Dice, frame: int) -> tuple[list[tuple[float, float, float, float]], list[float]]:
    faces, scores = [], []
    for person in range(4):
        x = 100 + 120 * person + (60 if person % 2 else -60) * frame / 15 + 6 * dice.roll()
        y = 100 + 30 * person + 4 * dice.roll()
        side = 50 + 10 * person + 3 * dice.roll()
        score, seen = 0.5 + 0.5 * dice.roll(), dice.roll()
        if seen > 0.2 and not 30 + 5 * person < frame < 34 + 12 * person:
            faces.append((x, y, side, 0.0))
            scores.append(score)
    return faces, scores


def running(spec: ModelSpec) -> list[dict[str, Any]]:
    """Return the running age of one track: a person of about 30, then one of about 70."""
    dice, age = Dice(7), RunningAge(spec)
    rows = [*looks(spec, dice, 25, 30.0), *looks(spec, dice, 15, 70.0)]
    said = []
    for at, reading in enumerate(rows):
        shown = age.look(reading, 0.2 + 0.8 * dice.roll(), at * 0.1 + (5 if at > 10 else 0))
        said.append(
            {
                "value": shown.value,
                "interval": shown.interval(0.9),
                "looks": shown.looks,
                "people": age.people,
                "doubted": age.doubted,
            }
        )
    return said


def budget() -> list[list[int]]:
    """Return the faces chosen with a budget of 10 ms from five faces whose looks take 2 to 8 ms."""
    dice, purse, said = Dice(9), LookBudget(0.010), []
    for _ in range(60):
        wanted = [max(0.0, dice.roll() - 0.3) for _ in range(5)]
        bought = purse.choose([wanted])[0]
        purse.spent(len(bought), len(bought) * (0.002 + 0.006 * dice.roll()))
        said.append(bought)
    return said


def qualities() -> list[dict[str, Any]]:
    dice, said = Dice(11), []
    for _ in range(20):
        side, sharp = 10 + 120 * dice.roll(), -3 + 1.5 * dice.roll()
        faces = detections([(200, 150, side, 0.0)])
        assert faces.landmarks is not None
        faces.landmarks[0, 2, 0] += side * (dice.roll() - 0.5) * 0.6  # the nose's position gives the yaw
        views, reasons = judged(faces, 24)
        said.append({"view": float(views[0]), "refused": reasons[0], "quality": quality(float(views[0]), sharp)})
    return said


def rounded(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return round(float(value), 6)
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def text() -> str:
    """Return the file's text, with one line per group, so that a diff is readable."""
    groups = ",\n".join(f'"{name}": {json.dumps(rounded(group))}' for name, group in vectors().items())
    return "{\n" + groups + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
