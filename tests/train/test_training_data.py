"""What a training records of its data, and settings of a training that contradict each other or are out of range."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
from numclip.calibration.data.datasets import open_data
from numclip.cli.main import main
from numclip.train.tasks_file import load_task
from numclip.train.training_data import training_faces


def test_pictures_without_a_face_are_counted(hopper: np.ndarray, tmp_path: Path) -> None:
    """Of three training pictures two show a face. The record has 2 faces and 1 picture without one."""
    for i, picture in enumerate((hopper, cv2.flip(hopper, 1), np.full((200, 200, 3), 127, np.uint8), hopper[8:])):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture)
    rows = [f"{i}.png,20,{'val' if i == 3 else 'train'}" for i in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,split", *rows]) + "\n")
    faces, counts = training_faces([open_data(f"table:{tmp_path / 't.csv'}")], load_task("age").crop(64), smoke=False)
    assert len(faces) == 2 and [(one.n, one.skipped) for one in counts.values()] == [(2, 1)]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seed", "-1"], "expected --seed of at least 0, got -1"),
        (["--lr", "-1"], "expected --lr of at least 0, got -1"),
        (["--side", "0"], "expected --side of at least 16, got 0"),
        (["--small-side", "8", "--small-epochs", "1"], "expected --small-side of at least 16, got 8"),
        (["--shots", "0"], "expected --shots of at least 1, got 0"),
        (["--num-faces", "-3"], "expected --num-faces of at least 1, got -3"),
        (["--logit-scale", "0"], "expected --logit-scale above 0, got 0"),
        (["--small-side", "64"], "expected --small-side together with --small-epochs"),
        (["--as-released", "--method", "coop"], "expected --as-released with --method numclip, got coop"),
        (["--as-released", "--weighting", "none"], "--as-released sets --weighting and --distance itself"),
        (["--method", "coop", "--distance", "values"], "--method coop sets --weighting and --distance itself"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number out of range, or a setting without effect, is an error in one sentence; nothing is read or written."""
    assert main(["train", "--data", f"table:{tmp_path / 'absent.csv'}", "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [[], ["--recipe", "age-nano"]])
def test_data_of_one_name_are_refused(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two data sets whose files have one name would share one entry of the record, and one validation error: an error, before anything
    is read or written."""
    a, b = (f"table:{tmp_path / site / 'faces.csv'}" for site in ("a", "b"))
    assert main(["train", "--data", a, b, "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert f"got {a} and {b}, both recorded as table:faces.csv" in error and not (tmp_path / "out").exists()
