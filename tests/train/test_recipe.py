"""A recipe: the stages of a shipped model's training, from nothing to a model file that reads ages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra export")
import numclip
from numclip.cli.main import main
from numclip.errors import UsageError
from numclip.research.start_weights import convert
from numclip.runtime.contract.model_file import FINDER
from numclip.train.checkpoint import read_record
from numclip.train.options import TrainOptions
from numclip.train.recipes import RECIPES, stages


def test_every_shipped_model_has_a_recipe() -> None:
    """Each model file in the package, flavours and the face finder aside, is named by a recipe."""
    shipped = {p.name.partition(".")[0] for p in (Path(numclip.__file__).parent / "runtime" / "models").glob("*.onnx")}
    assert shipped - {FINDER} and shipped - {FINDER} <= set(RECIPES)


def test_the_short_form_ends_in_a_model_that_reads(shared_data: Path, yunet_model: Path, tmp_path: Path) -> None:
    """train --recipe age-nano --smoke, export: every stage leaves its checkpoint, the last is copied up, the file answers ages."""
    data, out = shared_data / "data", tmp_path / "nano"
    faces = [f"utkface:{data / 'utkface.tar'}"]
    start = shared_data / "models" / "mobilenetv2_imagenet_int8.tflite"
    convert("mobilenetv2", start, tmp_path / "nano.safetensors")
    convert("dlib", None, tmp_path / "face-resnet.safetensors")
    flags = [
        "train",
        "--recipe",
        "age-nano",
        "--data",
        *faces,
        "--pretrained",
        str(tmp_path / "nano.safetensors"),
        str(tmp_path / "face-resnet.safetensors"),
        "--out",
        str(out),
        "--smoke",
    ]
    assert main(flags) == 0
    assert [p.parent.name for p in sorted(out.glob("*/best.safetensors"))] == ["faces", "first", "longer", "taught"]
    record = read_record(out / "best.safetensors")
    assert record.towers.name == "nano" and record.towers.pretrained == start.name
    assert {source.licence.spdx for source in record.training.sources or ()} >= {"Apache-2.0", "CC0-1.0"}
    model_file = tmp_path / "age-nano.onnx"
    assert main(["export", str(out / "best.safetensors"), "--out", str(model_file), "--data", *faces]) == 0
    model = numclip.load(model_file)
    readings = model(np.full((2, model.spec.crop.side, model.spec.crop.side, 3), 128, np.uint8))
    assert ((readings.value >= 0) & (readings.value <= 120)).all()
    assert main(flags) == 1 or main(flags) == 2, "a folder that holds a training is not begun again"
    assert main([*flags, "--resume"]) == 0


def test_stages_start_where_they_say(tmp_path: Path) -> None:
    """Each stage of age-nano starts from start weights or from the stage it names; a teacher is an earlier stage."""
    options = TrainOptions(("table:x.csv",), tmp_path, smoke=True)
    faces, first, longer, taught = stages("age-nano", options, [])
    best = {name: tmp_path / name / "best.safetensors" for name in ("faces", "first", "longer")}
    assert [one.out.name for one in (faces, first, longer, taught)] == ["faces", "first", "longer", "taught"]
    assert [one.start for one in (faces, first, longer, taught)] == [None, None, best["first"], best["longer"]]
    assert [one.teachers for one in (first, longer, taught)] == [(), (), (best["faces"],)]
    assert (longer.lr, taught.seed, longer.data, longer.epochs) == (7e-4, 21, ("table:x.csv",), 1), "smoke: one epoch"
    with pytest.raises(UsageError, match="without another lr"):
        stages("age-nano", replace(options, lr=1.0), [])


@pytest.mark.parametrize(
    ("name", "start"), [("age-nano", "mobilenetv2 MOBILENET.tflite"), ("age-small", "faceres faceres-deep.json")]
)
def test_a_recipe_asks_for_its_start_weights(name: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--recipe without --pretrained is refused at once, before hours of training, in a sentence that says which file."""
    assert main(["train", "--recipe", name, "--data", "table:x.csv", "--out", "x"]) == 2
    assert "with --pretrained" in (said := capsys.readouterr().err) and start in said


def test_a_recipe_fixes_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """--recipe with --lr is refused in a sentence that names the flag."""
    assert main(["train", "--recipe", "age-nano", "--data", "table:x.csv", "--out", "x", "--lr", "1"]) == 2
    assert "without another lr" in capsys.readouterr().err
