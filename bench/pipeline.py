"""Time from capture to result by stage: on a clip, against a simple loop, and for 0 to 16 faces.

The clip is read in turns by this project's threads, by a plain loop (OpenCV's reader, YuNet on every frame, one ONNX Runtime call
per face, boxes drawn), and in one thread with a clock between the stages. The rows by number of faces use a crowd made of the
clip's largest face, 1280 x 720 at 30 frames/s, played in real time as from a camera.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt

from ..demo.crowd import write_crowd
from ..errors import SourceError
from ..runtime.faces.crops import crop_faces
from ..runtime.faces.detect import Detector
from ..runtime.faces.tracking import overlaps
from ..runtime.live.conveyor import Conveyor
from ..runtime.live.pipeline import Pipeline
from ..runtime.live.results import FrameResult
from ..runtime.live.sources import open_source
from ..runtime.sessions.model import Model
from ..runtime.sinks.sink import json_line
from .report import Likeness, PlainLoop, StageFigures, Summary
from .statistics import summary

logger = logging.getLogger(__name__)

FACE_COUNTS = (0, 1, 2, 4, 8, 16)
WARM_UP_FRAMES = 10
STAGES = ("decode", "detect", "track", "crop", "model", "age", "sinks", "waiting", "total")
OWN = ("track", "crop", "age", "sinks", "waiting")  # the stages that numclip adds to decoder, detector and model
ROUNDS = 3
CARD_SIDES = 2.2  # side of a card in the crowd, in sides of its face
CARD_PX = 240
SAME_FACE = 0.3  # overlap (IoU) of a face found by both loops


@dataclass(eq=False)
class Seen:
    """What a loop showed: per frame, boxes [F, 4] and values [F], and for numclip the tracks."""

    seconds: float
    boxes: list[npt.NDArray[np.float32]] = field(default_factory=lambda: [])
    numbers: list[list[float]] = field(default_factory=lambda: [])
    tracks: list[list[int]] = field(default_factory=lambda: [])


def bench_pipeline(model: Model, detector: Detector, clip: str, max_frames: int) -> list[StageFigures]:
    """Rows of stage percentiles in ms: the clip, then a crowd per number of faces; the first ten frames are a warm-up.

    Raises SourceError if the clip is too short or shows no face.
    """
    first, card = _stages_of_clip(model, detector, clip, max_frames), _card(detector, clip)
    first["against_plain_loop"] = rival = _contest(model, detector, clip, max_frames)
    logger.info(_sentence(rival, first.get("own_share", 0.0)))
    rows = [first]
    with tempfile.TemporaryDirectory(prefix="numclip-bench-") as folder:
        for count in FACE_COUNTS:
            crowd = write_crowd(Path(folder) / f"{count}.mp4", [card], count, max_frames + WARM_UP_FRAMES)
            rows.append(_stages_of_crowd(model, detector, crowd, count))
    return rows


def _sentence(rival: PlainLoop, own_share: float) -> str:
    times = rival["times"]
    return (
        f"{rival['frames_per_s']:.1f} frames/s end to end, against {rival['plain_frames_per_s']:.1f} for a plain "
        f"loop: {times['value']:.2f} times as many ({times['low']:.2f}-{times['high']:.2f} over {ROUNDS} rounds); "
        f"shown values vary by {rival['deviation']:.2f} around each face's median, those of the plain loop by {rival['plain_deviation']:.2f}, "
        f"and the two medians differ by {rival['median_difference']:.2f}; overhead of numclip itself {100 * own_share:.1f} "
        "% of a frame"
    )


def _stages_of_clip(model: Model, detector: Detector, clip: str, max_frames: int) -> StageFigures:
    """One thread, every frame, with a JSON line each: nothing waits, so all time belongs to a stage."""
    pipeline, times = Pipeline(model, detector), list[dict[str, float]]()
    with open_source(clip) as source:
        for frame in source:
            result = pipeline.read(frame)
            started_s = time.monotonic()
            json_line(result.to_dict(level=None))
            times.append(_with_sinks(result, time.monotonic() - started_s))
            if len(times) == max_frames + WARM_UP_FRAMES:
                break
    kept = times[WARM_UP_FRAMES:]
    if not kept:
        raise SourceError(f"{clip}: expected more than {WARM_UP_FRAMES} frames, got fewer; give a longer clip")
    own_s, total_s = (sum(t.get(stage, 0.0) for t in kept for stage in stages) for stages in (OWN, ("total",)))
    return {"faces": "clip", "stages": _summaries(kept), "means_ms": _means(kept), "own_share": own_s / total_s}


def _stages_of_crowd(model: Model, detector: Detector, crowd: Path, count: int) -> StageFigures:
    """As from a camera: with threads, only the newest frame, a JSON line each."""
    times, shown, dropped = list[dict[str, float]](), 0, 0
    source = open_source(str(crowd), realtime=True)
    with Conveyor([source], Pipeline(model, detector, live=True)) as conveyor:
        for item in conveyor:
            if isinstance(item, FrameResult):
                started_s = time.monotonic()
                json_line(item.to_dict(level=None))
                times.append(_with_sinks(item, time.monotonic() - started_s))
                shown, dropped = max(shown, len(item.faces)), item.dropped
    kept = times[min(WARM_UP_FRAMES, len(times) - 1) :]
    return {"faces": count, "stages": _summaries(kept), "means_ms": _means(kept), "shown": shown, "dropped": dropped}


def _with_sinks(result: FrameResult, sinks_s: float) -> dict[str, float]:
    return {**result.times_s, "sinks": sinks_s, "total": result.latency_s + sinks_s}


def _summaries(times: Sequence[dict[str, float]]) -> dict[str, Summary]:
    return {stage: summary([1000 * t.get(stage, 0.0) for t in times]) for stage in STAGES}


def _means(times: Sequence[dict[str, float]]) -> dict[str, float]:
    return {stage: 1000 * float(np.mean([t.get(stage, 0.0) for t in times])) for stage in STAGES}


def _card(detector: Detector, clip: str) -> npt.NDArray[np.uint8]:
    """The first face of the clip, the largest in its frame, as a square picture with some margin."""
    with open_source(clip) as source:
        for frame in source:
            faces = detector.detect(frame.image).largest()
            if len(faces):
                x1, y1, x2, y2 = (float(v) for v in faces.boxes_xyxy[0])
                side = CARD_SIDES * max(x2 - x1, y2 - y1)
                scale = CARD_PX / side
                left, top = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
                to_card = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float64)
                size = CARD_PX, CARD_PX
                card = cv2.warpAffine(frame.image, to_card, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
                return np.asarray(card, np.uint8)
    raise SourceError(f"{clip}: {detector.name} found no face in this clip; give another")


def _contest(model: Model, detector: Detector, clip: str, max_frames: int) -> PlainLoop:
    """Run both loops over the clip in turns, A B B A …: frames per second, and how stable and how similar their results are."""
    ours, plain = list[Seen](), list[Seen]()
    for number in range(ROUNDS):
        pair = [(ours, _read_with_threads), (plain, _read_by_hand)]
        for seen, loop in pair if number % 2 == 0 else pair[::-1]:
            seen.append(loop(model, detector, clip, max_frames))
    quotients = [b.seconds / a.seconds for a, b in zip(ours, plain, strict=True)]
    frames = len(ours[0].numbers)
    return {
        "frames_per_s": frames / median(s.seconds for s in ours),
        "plain_frames_per_s": frames / median(s.seconds for s in plain),
        "times": {"value": median(quotients), "low": min(quotients), "high": max(quotients), "rounds": ROUNDS},
        **_likeness(ours[-1], plain[-1]),
    }


def _read_with_threads(model: Model, detector: Detector, clip: str, max_frames: int) -> Seen:
    """Read as `numclip run CLIP --show --jsonl` does, without the window."""
    seen, started_s = Seen(0.0), time.perf_counter()
    with Conveyor([open_source(clip)], Pipeline(model, detector)) as conveyor:
        for item in conveyor:
            if not isinstance(item, FrameResult):
                continue
            json_line(item.to_dict(level=None))
            item.plot(level=None)
            known = [face for face in item.faces if face.reading is not None]
            seen.boxes.append(np.array([face.box_xyxy for face in known], np.float32).reshape(-1, 4))
            seen.numbers.append([face.reading.value for face in known if face.reading is not None])
            seen.tracks.append([face.track_id or 0 for face in known])
            if len(seen.numbers) == max_frames:
                break
        seen.seconds = time.perf_counter() - started_s
    return seen


def _read_by_hand(model: Model, detector: Detector, clip: str, max_frames: int) -> Seen:
    """A plain loop: everything in sequence, and each face of each frame by itself."""
    seen, started_s = Seen(0.0), time.perf_counter()
    capture = cv2.VideoCapture(clip)
    while len(seen.numbers) < max_frames:
        good, read = capture.read()
        if not good:
            break
        image = np.asarray(read, np.uint8)
        faces = detector.detect(image)
        crops = crop_faces(image, faces, model.spec.crop, detector.name)
        numbers = [float(model.session.run(crops[i : i + 1]).value[0]) for i in range(len(crops))]
        for box, number in zip(faces.boxes_xyxy, numbers, strict=True):
            x1, y1, x2, y2 = (round(float(v)) for v in box)
            cv2.rectangle(image, (x1, y1), (x2, y2), (0, 200, 0), 2)
            cv2.putText(image, f"{number:.0f}", (x1, y1), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 200, 0), 2)
        seen.boxes.append(faces.boxes_xyxy)
        seen.numbers.append(numbers)
    capture.release()
    seen.seconds = time.perf_counter() - started_s
    return seen


def _likeness(ours: Seen, plain: Seen) -> Likeness:
    """Over the tracks: the mean distance of the shown values from their median, for each loop, and between the two medians."""
    pairs: dict[int, list[tuple[float, float]]] = {}
    for boxes, numbers, tracks, others, alone in zip(
        ours.boxes, ours.numbers, ours.tracks, plain.boxes, plain.numbers, strict=False
    ):
        if not len(boxes) or not len(others):
            continue
        shared = overlaps(boxes, others)
        for i, (track, number) in enumerate(zip(tracks, numbers, strict=True)):
            if shared[i].max() >= SAME_FACE:
                pairs.setdefault(track, []).append((number, alone[int(shared[i].argmax())]))
    if not pairs:
        raise SourceError("no face in this clip was tracked for several frames; give another clip")
    rows = [np.array(both) for both in pairs.values()]  # [frames, 2] each
    weights = [len(row) for row in rows]
    middles = [np.median(row, axis=0) for row in rows]
    deviations = np.average(
        [np.abs(r - m).mean(axis=0) for r, m in zip(rows, middles, strict=True)], axis=0, weights=weights
    )
    apart = np.average([abs(float(m[0] - m[1])) for m in middles], weights=weights)
    return {
        "deviation": float(deviations[0]),
        "plain_deviation": float(deviations[1]),
        "median_difference": float(apart),
    }
