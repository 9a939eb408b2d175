"""Face finders as contenders: their names, their input, and that YuNet in ONNX Runtime equals YuNet in OpenCV."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.bench.finders import YuNetOnnx, open_finder, square
from numclip.cli.main import main
from numclip.errors import UsageError
from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.yunet import YuNetDetector


def test_one_picture_holds_the_portraits_four_to_a_square(hopper: np.ndarray) -> None:
    """One portrait fills the upper left quarter of a [91, 91, 3] picture at 46 px; without portraits the picture is grey."""
    picture = square([hopper], 91)
    assert picture.shape == (91, 91, 3)
    quarter = cv2.resize(hopper, (46, 46), interpolation=cv2.INTER_AREA)
    assert (picture[:46, :46] == quarter).all() and (picture[46:, 46:] == quarter[:45, :45]).all()
    assert (square([], 64) == 128).all()


def test_yunet_in_onnx_runtime_is_yunet(yunet_model: Path, hopper: np.ndarray) -> None:
    """On four portraits in 640 px it finds the same faces as in OpenCV, with boxes and landmarks within 1 px."""
    picture = square([hopper], 640)
    ours, theirs = YuNetOnnx(640, 1).detect(picture), YuNetDetector().detect(picture)
    assert len(ours) == len(theirs) == 4
    order, other = (np.lexsort((f.boxes_xyxy[:, 0].round(-1), f.boxes_xyxy[:, 1].round(-1))) for f in (ours, theirs))
    assert np.abs(ours.boxes_xyxy[order] - theirs.boxes_xyxy[other]).max() < 1
    assert ours.landmarks is not None and theirs.landmarks is not None
    assert np.abs(ours.landmarks[order] - theirs.landmarks[other]).max() < 1


def test_a_finder_and_a_model_are_one_row(hopper: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    """faces-nano alone and faces-nano with age-nano are timed in turns; both rows name the finder's file."""
    names = ["faces-nano@320", "faces-nano@320+age-nano"]
    assert main(["bench", *names, "--device", "cpu", "--seconds", "0.2", "--restarts", "1", "--json", "-"]) == 0
    alone, whole = json.loads(capfd.readouterr().out)["rows"]
    assert [alone["model"], whole["model"]] == names and len(alone["sha256"]) == 64
    assert whole["sha256"] == alone["sha256"] and min(row["latency_ms"]["n"] for row in (alone, whole)) > 5


def test_the_whole_finds_and_reads_four_faces(hopper: np.ndarray) -> None:
    """On the picture of four portraits, finder and model give four ages; the finder alone gives four faces."""
    faces = open_finder("faces-nano@640", "cpu", 1, [hopper]).open()()
    assert isinstance(faces, Detections) and len(faces) == 4
    readings = open_finder("faces-nano@640+age-nano", "cpu", 1, [hopper]).open()()
    assert len(readings.value) == 4  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["faces-nano@9", "yunet-onnx@320"])
def test_a_size_that_cannot_be_is_refused(name: str, yunet_model: Path) -> None:
    """A side below 32 px is an error, and so is YuNet's file in ONNX Runtime at a side other than its own."""
    with pytest.raises(UsageError, match=r"expected|runs only at side"):
        open_finder(name, "cpu", 1, [])
