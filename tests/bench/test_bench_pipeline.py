"""Time per stage of a frame: the stages add up, faces cost model time, and the plain loop alternates with the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.bench.pipeline import FACE_COUNTS, OWN, STAGES, Seen, _likeness
from numclip.cli.main import main
from numclip.runtime.sinks.video_writer import VideoWriter


@pytest.fixture(scope="module")
def rows(hopper: np.ndarray, yunet_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The report of a short run on a still portrait."""
    folder = tmp_path_factory.mktemp("bench")
    writer = VideoWriter(folder / "clip.mp4", 20)
    for i in range(30):
        writer.write(np.asarray(cv2.resize(hopper, (256, 304)), np.uint8), i / 20)
    writer.close()
    flags = ["--scenario", "pipeline", "--clip", str(folder / "clip.mp4"), "--detector", "yunet", "--device", "cpu"]
    assert main(["bench", "age-nano", *flags, "--frames", "20", "--json", str(folder / "b.json")]) == 0
    return json.loads((folder / "b.json").read_text())["rows"]


def test_the_stages_add_up(rows: list[dict]) -> None:
    """For the clip and each number of faces, the means of all stages, including waiting, sum to the mean capture-to-result
    latency within 2 %."""
    assert [row["faces"] for row in rows] == ["clip", *FACE_COUNTS]
    for row in rows:
        assert list(row["stages"]) == list(STAGES)
        parts = sum(row["means_ms"][stage] for stage in STAGES[:-1])
        assert parts == pytest.approx(row["means_ms"]["total"], rel=0.02)
        assert all(row["means_ms"][stage] >= 0 for stage in STAGES)


def test_what_the_rows_say(rows: list[dict]) -> None:
    """The clip's row has all frames after the warm-up and the share of its own work. A crowd's row has the number of faces
    shown (none if a busy machine processed fewer than three of its frames)."""
    assert rows[0]["stages"]["total"]["n"] == 20 and 0 < rows[0]["own_share"] < 1 and set(OWN) < set(STAGES)
    assert rows[1]["shown"] == 0 and all(0 <= row["shown"] <= row["faces"] for row in rows[1:])
    assert all(row["stages"]["total"]["n"] >= 1 and row["dropped"] >= 0 for row in rows[1:])


def test_the_plain_loop_took_its_turns(rows: list[dict]) -> None:
    """The report has the frame rates of both loops and their ratio with its range. On a still picture both show the same age
    within two years: because of the codec, single predictions drift by 1.7 years over these 20 frames; the plain loop
    follows them at once and the pipeline, which averages looks, later."""
    rival = rows[0]["against_plain_loop"]
    assert rival["frames_per_s"] > 0 < rival["plain_frames_per_s"] and rival["times"]["rounds"] == 3
    assert rival["times"]["low"] <= rival["times"]["value"] <= rival["times"]["high"]
    assert rival["deviation"] < 1 and rival["plain_deviation"] < 1 and rival["median_difference"] < 2


def test_likeness_by_hand() -> None:
    """Hand-computed: a track shown as 30, 31, 30, and 28, 34, 30 in the plain loop: mean deviations from the common median of 1/3
    and 2."""
    box = np.array([[0, 0, 10, 10]], np.float32)
    far = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    ours = Seen(1.0, [box] * 3, [[30.0], [31.0], [30.0]], [[1]] * 3)
    plain = Seen(1.0, [far] * 3, [[28.0, 5.0], [34.0, 5.0], [30.0, 5.0]])
    got = _likeness(ours, plain)
    assert got == {"deviation": pytest.approx(1 / 3), "plain_deviation": pytest.approx(2), "median_difference": 0}
