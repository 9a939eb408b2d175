"""`Face` and `FrameResult`: values, text and conversions, on real faces and without any."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import numclip
from numclip.errors import OutputError
from numclip.runtime.faces.detect import Detections
from numclip.runtime.live.frames import Frame
from numclip.runtime.live.pipeline import Pipeline, Rules
from numclip.runtime.live.results import FrameResult, columns_of


class Boxes:
    """A detector that finds one face, and one that is too small."""

    name = "haar"

    def detect(self, image: np.ndarray) -> Detections:
        boxes = np.array([[180, 100, 340, 260], [10, 10, 20, 20]], np.float32)
        return Detections(boxes, np.array([0.9, 0.8], np.float32), None)


@pytest.fixture(scope="module")
def result(hopper: np.ndarray) -> FrameResult:
    """A result with one adult and one face that is too small to read."""
    return numclip.read(hopper, numclip.load("age-nano", device="cpu", threads=1), detector=Boxes())


def test_an_age_or_a_reason(result: FrameResult) -> None:
    """The adult has an age, an interval around it and a word; the small face has a reason instead."""
    adult, small = result.faces
    assert adult.age is not None and adult.interval is not None and adult.reason is None
    assert adult.interval[0] <= adult.age <= adult.interval[1] and adult.word in result.task.words
    half = adult.interval_at(0.5)
    assert half is not None and half[1] - half[0] < adult.interval[1] - adult.interval[0]
    assert (small.age, small.interval, small.word, small.reason) == (None, None, None, "small")
    assert adult.reading is not None and adult.reading.value == adult.age


def test_a_face_that_waits_says_so(hopper: np.ndarray) -> None:
    """With one look per frame, one of two new faces waits for its first look and has the reason `waiting`."""

    class Two(Boxes):
        def detect(self, image: np.ndarray) -> Detections:
            boxes = np.array([[180, 100, 340, 260], [20, 300, 120, 400]], np.float32)
            return Detections(boxes, np.ones(2, np.float32), None)

    pipeline = Pipeline(numclip.load("age-nano", device="cpu", threads=1), Two(), Rules(budget_ms=1e-6))
    faces = [pipeline.read(Frame(hopper, i, i / 30, 0.0, "test")).faces for i in range(3)][-1]
    waiting = [face for face in faces if face.age is None]
    assert len(faces) == 2 and len(waiting) == 1 and waiting[0].reason == "waiting"
    assert waiting[0].to_dict()["reason"] == "waiting" and "waiting" in repr(waiting[0])


def test_it_prints_readably(result: FrameResult) -> None:
    """A face prints its age, word and box, a result its source, without arrays and object addresses."""
    adult = result.faces[0]
    assert repr(adult).startswith(f"Face({adult.age:.0f} (") and str(adult.word) in repr(adult)
    assert repr(result).startswith("FrameResult(array, frame 0 at 0.00 s: ") and "? (small)" in repr(result)
    assert "array(" not in repr(result) and " object at " not in repr(result)


def test_json_is_the_line_of_a_run(result: FrameResult) -> None:
    """to_json is to_dict as text, with the keys of a JSON line."""
    line = json.loads(result.to_json())
    assert line == json.loads(json.dumps(result.to_dict())) and list(line)[:3] == ["source", "frame", "time_s"]
    adult, small = line["faces"]
    assert adult["low"] < adult["age"] < adult["high"] and adult["level"] == 0.9 and "reason" not in adult
    assert small["age"] is None and small["reason"] == "small" and small["probabilities"] == []
    assert result.to_dict(level=None)["faces"][0]["low"] is None  # type: ignore[index]
    assert json.loads(result.faces[0].to_json()) == adult


def test_a_picture_of_it(result: FrameResult, hopper: np.ndarray, tmp_path: Path) -> None:
    """plot draws on a copy; save writes the picture, and a name without a picture suffix is an error; notebooks get PNG and HTML."""
    drawn = result.plot()
    assert drawn.shape == hopper.shape and (drawn != hopper).any() and (result.frame.image == hopper).all()
    saved = cv2.imread(str(result.save(tmp_path / "r.png")))
    assert saved is not None and (saved == drawn).all()
    with pytest.raises(OutputError, match=r"end it in \.jpg or \.png"):
        result.save(tmp_path / "r.words")
    assert [p.name for p in tmp_path.iterdir()] == ["r.png"]
    assert result._repr_png_().startswith(b"\x89PNG")
    page = result._repr_html_()
    assert page.count("<tr>") == 3 and "? (small)" in page and "data:image/jpeg;base64," in page


def test_supervision_draws_it(result: FrameResult, hopper: np.ndarray) -> None:
    """supervision's annotators draw a converted result, with and without faces."""
    supervision = pytest.importorskip("supervision", reason="needs the extra supervision")
    detections = result.to_supervision()
    assert len(detections) == 2 and detections.tracker_id is None
    assert detections.data["age"][0] == result.faces[0].age and np.isnan(detections.data["age"][1])
    assert tuple(detections.data["interval"][0]) == result.faces[0].interval
    assert list(detections.data["reason"]) == ["", "small"] and list(detections.data["track_id"]) == [-1, -1]
    labels = [f"{age:.0f}" for age in detections.data["age"]]
    drawn = supervision.BoxAnnotator().annotate(hopper.copy(), detections)
    drawn = supervision.LabelAnnotator().annotate(drawn, detections, labels=labels)
    assert (drawn != hopper).any()
    adults = detections[np.asarray(detections.data["age"]) > 18]
    assert adults is not None and len(adults) == 1
    nobody = numclip.read(np.zeros((50, 50, 3), np.uint8), detector="haar").to_supervision()
    assert len(nobody) == 0 and supervision.BoxAnnotator().annotate(hopper.copy(), nobody).shape == hopper.shape


def test_a_table_of_it(two_people: Path, yunet_model: Path) -> None:
    """A clip's frames give a table with one row per face and frame and the columns of --csv."""
    pandas = pytest.importorskip("pandas", reason="needs the extra pandas")
    model = numclip.load("age-nano", device="cpu", threads=1)
    results = []
    with numclip.open_stream(two_people, model, "yunet") as stream:
        for result in stream:
            results.append(result)
            if len(results) == 30:
                break
    table = pandas.concat([r.to_pandas() for r in results], ignore_index=True)
    assert list(table.columns) == list(columns_of(model.spec.task)) and len(table) == sum(len(r.faces) for r in results)
    assert set(table["track"]) == {1, 2} and table["age"].notna().all() and table["frame"].max() == 29
    assert (table["low"] <= table["age"]).all() and (table["age"] <= table["high"]).all()
