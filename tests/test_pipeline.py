"""numclip.read and numclip.stream: what a Python user gets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import numclip
from numclip.errors import SourceError
from numclip.runtime.detect import open_detector
from numclip.runtime.frames import Frame
from numclip.runtime.pipeline import Pipeline
from numclip.runtime.tracking import Tracker


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Grace Hopper, 606 x 512 BGR."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    with cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        return np.asarray(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR), np.uint8)


@pytest.fixture(scope="module")
def model() -> numclip.runtime.model.Model:  # type: ignore[name-defined]
    return numclip.load("age-nano", device="cpu", threads=1)


def test_a_photo_and_its_array_agree(portrait: np.ndarray, tmp_path: Path) -> None:
    """A path and the same picture as an array give the same reading, of one adult."""
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), portrait)
    one, two = numclip.read(path, detector="haar"), numclip.read(portrait, detector="haar")
    assert len(one.faces) == len(two.faces) == 1
    assert one.faces[0].reading is not None and two.faces[0].reading is not None
    assert one.faces[0].reading.value == pytest.approx(two.faces[0].reading.value, abs=1e-4)
    assert 20 < one.faces[0].reading.value < 95 and one.latency_s > 0


def test_wrong_arrays_are_refused(model) -> None:
    """A float picture, a grey one, an empty one and crops of another side are ValueErrors that show the shape."""
    for bad in (np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected a picture"):
            numclip.read(bad, model)
    with pytest.raises(ValueError, match=r"expected crops uint8 \[N, 112, 112, 3\]"):
        model(np.zeros((1, 96, 96, 3), np.uint8))


def test_no_crops(model) -> None:
    """No crops give readings of length 0 with the right widths."""
    readings = model(np.zeros((0, 112, 112, 3), np.uint8))
    assert len(readings) == 0 and readings.probabilities.shape == (0, model.spec.task.num_bins)


def test_a_batch_answers_as_one_by_one(model) -> None:
    """The model's answer for a crop does not depend on what else is in the batch, to 0.001 years."""
    crops = np.random.default_rng(0).integers(0, 255, (5, 112, 112, 3), np.uint8)
    together, alone = model(crops).value, np.concatenate([model(crops[i : i + 1]).value for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_one_call_of_the_model_per_frame(portrait: np.ndarray, model) -> None:
    """Three faces in a frame are one batch of three; what is too small, or beyond --max-faces, is not read."""
    calls: list[int] = []

    class Counting:
        spec = model.spec

        def __call__(self, crops: np.ndarray):
            calls.append(len(crops))
            return model(crops)

    row = np.hstack([portrait] * 3)
    frame = Frame(np.ascontiguousarray(row), 0, 0.0, 0.0, "test")
    haar = open_detector("haar")
    assert len(Pipeline(Counting(), haar, None).read(frame).faces) == 3  # type: ignore[arg-type]
    assert len(Pipeline(Counting(), haar, None, max_faces=2).read(frame).faces) == 2  # type: ignore[arg-type]
    assert len(Pipeline(Counting(), haar, None, min_face_px=1000).read(frame).faces) == 0  # type: ignore[arg-type]
    assert calls == [3, 2, 0]


def test_stream_of_a_folder(portrait: np.ndarray, tmp_path: Path) -> None:
    """A folder's pictures are read one by one, without tracks; a bad one raises after the good ones."""
    cv2.imwrite(str(tmp_path / "a.png"), portrait)
    (tmp_path / "b.png").write_text("no picture")
    results = []
    with pytest.raises(SourceError, match=r"b\.png"):
        results.extend(numclip.stream(tmp_path, detector="haar"))
    assert [r.frame.file for r in numclip.stream(str(tmp_path / "a*"), detector="haar")] == [None]


def test_a_track_costs_no_reading_before_it_is_shown(portrait: np.ndarray, model) -> None:
    """The first two sightings of a face show nothing and run nothing; the third shows track 1."""
    pipeline = Pipeline(model, open_detector("haar"), Tracker())
    frames = [Frame(portrait, i, i / 30, 0.0, "test") for i in range(3)]
    assert [[f.track_id for f in pipeline.read(frame).faces] for frame in frames] == [[], [], [1]]
