"""A recipe: the stages of a shipped model's training, from nothing to a model file that reads ages."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra export")
import numclip
from numclip.cli.main import main
from numclip.train import recipe
from numclip.train.checkpoint import read_record
from numclip.train.recipe import recipe_names
from numclip.train.train_verb import namespace


def test_every_shipped_model_has_a_recipe() -> None:
    """Each model file in the package, flavours aside, is named by a recipe."""
    shipped = {p.name.partition(".")[0] for p in (Path(numclip.__file__).parent / "runtime" / "models").glob("*.onnx")}
    assert shipped and shipped <= set(recipe_names())


def test_the_short_form_ends_in_a_model_that_reads(shared_data: Path, yunet_model: Path, tmp_path: Path) -> None:
    """train --recipe age-nano --smoke, export: every stage leaves its checkpoint, the last is copied up, the file answers ages."""
    data, out = shared_data / "data", tmp_path / "nano"
    faces = [f"utkface:{data / 'utkface.tar'}"]
    start = shared_data / "models" / "mobilenetv2_imagenet_int8.tflite"
    flags = [
        "train",
        "--recipe",
        "age-nano",
        "--data",
        *faces,
        "--pretrained",
        str(start),
        "--out",
        str(out),
        "--smoke",
    ]
    assert main(flags) == 0
    assert [p.parent.name for p in sorted(out.glob("*/best.safetensors"))] == ["faces", "first", "longer", "taught"]
    record = read_record(out / "best.safetensors")
    assert record["towers"]["name"] == "nano" and record["towers"]["pretrained"] == start.name
    model_file = tmp_path / "age-nano.onnx"
    assert main(["export", str(out / "best.safetensors"), "--out", str(model_file), "--data", *faces]) == 0
    model = numclip.load(model_file)
    readings = model(np.full((2, model.spec.crop.side, model.spec.crop.side, 3), 128, np.uint8))
    assert ((readings.value >= 0) & (readings.value <= 120)).all()
    assert main(flags) == 1 or main(flags) == 2, "a folder that holds a training is not begun again"
    assert main([*flags, "--resume"]) == 0


def test_stages_start_where_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage starts from the one before, or from those it names; a teacher is an earlier stage too."""
    three = [
        {"name": "a"},
        {"name": "b", "epochs": 3},
        {"name": "c", "start": "a", "teacher": ["a", "b"]},
        {"name": "d", "start": None},
    ]
    (tmp_path / "made-up.json").write_text(json.dumps({"pretrained": "x.tflite", "stages": three}))
    monkeypatch.setattr(recipe, "RECIPES", tmp_path)
    args = namespace(data=["table:x.csv"], out=tmp_path, pretrained="start.tflite")
    args.recipe = "made-up"
    first, second, third, fourth = islice(recipe.stages(args, vars(args)), 4)
    best = [tmp_path / name / "best.safetensors" for name in "abc"]
    assert [part.out.name for part in (first, second, third, fourth)] == ["a", "b", "c", "d"]
    assert [part.start for part in (first, second, third, fourth)] == [None, best[0], best[0], None]
    assert [part.teacher for part in (first, second, third)] == [[], [], best[:2]]
    assert (first.pretrained, second.pretrained, second.epochs) == ("start.tflite", None, 3)
    assert fourth.pretrained == "start.tflite"


@pytest.mark.parametrize(("name", "start"), [("age-nano", "MobileNetV2"), ("age-small", "faceres-deep.json")])
def test_a_recipe_asks_for_its_start_weights(name: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--recipe without --pretrained is refused at once, before hours of training, in a sentence that says which file."""
    assert main(["train", "--recipe", name, "--data", "table:x.csv", "--out", "x"]) == 2
    assert "with --pretrained" in (said := capsys.readouterr().err) and start in said


def test_a_recipe_fixes_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """--recipe with --lr is refused in a sentence that names the flag."""
    assert main(["train", "--recipe", "age-nano", "--data", "table:x.csv", "--out", "x", "--lr", "1"]) == 2
    assert "--lr" in capsys.readouterr().err
