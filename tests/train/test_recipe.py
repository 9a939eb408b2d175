"""Recipes: the stages of a shipped model's training, up to a model file that estimates ages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra export")
import numclip
from numclip.calibration.data.datasets import open_data
from numclip.cli.main import main
from numclip.errors import UsageError
from numclip.research.start_weights import convert
from numclip.runtime.contract.licences import Licence, commercial_use
from numclip.runtime.contract.model_file import FINDER
from numclip.runtime.places import write_json
from numclip.train.checkpoint import load_checkpoint, read_record
from numclip.train.options import TrainOptions
from numclip.train.recipes import RECIPES, SHIPPED, Recipe, stages
from numclip.train.records import Predictions, to_json
from numclip.train.tasks_file import load_task


def test_every_shipped_model_has_a_recipe() -> None:
    """Each model file in the package, except other precisions and the face finder, has a recipe."""
    shipped = {p.name.partition(".")[0] for p in (Path(numclip.__file__).parent / "runtime" / "models").glob("*.onnx")}
    assert shipped - {FINDER} and shipped - {FINDER} <= set(RECIPES)
    untrained = {name for name, recipe in RECIPES.items() if recipe.about.startswith("Not trained yet.")}
    assert untrained == set(RECIPES) - shipped, "a recipe without a model says so"


@pytest.mark.slow
def test_the_short_form_ends_in_a_model_that_reads(shared_data: Path, tmp_path: Path) -> None:
    """After train --recipe age-nano --smoke and export, every stage has a checkpoint, the last is copied up, and the file gives ages."""
    data, out = shared_data / "data", tmp_path / "nano"
    faces = [f"utkface:{data / 'utkface.tar'}"]
    flags = ["train", "--recipe", "age-nano", "--data", *faces, "--out", str(out), "--smoke"]
    assert main(flags) == 0
    assert [p.parent.name for p in sorted(out.glob("*/best.safetensors"))] == ["slim"]
    record = read_record(out / "best.safetensors")
    assert record.towers.name == "slim" and record.towers.image_side == 80
    # FairFace comes with age-small, from which it starts
    assert {source.licence.spdx for source in record.training.sources or ()} >= {
        "LicenseRef-UTKFace-research",
        "CC-BY-4.0",
    }
    model_file = tmp_path / "age-nano.onnx"
    assert main(["export", str(out / "best.safetensors"), "--out", str(model_file), "--data", *faces]) == 0
    model = numclip.load(model_file)
    readings = model(np.full((2, model.spec.crop.side, model.spec.crop.side, 3), 128, np.uint8))
    assert ((readings.value >= 0) & (readings.value <= 120)).all()
    assert main(flags) == 1 or main(flags) == 2, "a folder with a training is not overwritten"
    assert main([*flags, "--resume"]) == 0


@pytest.fixture
def bands(shared_data: Path, tmp_path: Path) -> str:
    """160 FairFace faces in the layout of our CSV, 32 of them for validation."""
    data = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}").select("val")
    folder, rows = tmp_path / "faces", ["file,age_low,age_high,split"]
    folder.mkdir()
    for i, sample in enumerate(data.samples[:192]):
        (folder / sample.file).write_bytes(data.read_bytes(sample.file))
        low, high = sample.ends
        rows.append(f"{sample.file},{low:g},{high if math.isfinite(high) else ''},{'val' if i % 6 == 0 else 'train'}")
    (tmp_path / "faces.csv").write_text("\n".join(rows) + "\n")
    return f"fairface:{folder}"


def test_a_recipe_that_mixes(bands: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two stages, FairFace joins the second one; the model is 0.7 times the first stage's weights plus 0.3 times the second's, its
    record says so, and --resume of the finished training writes the same file."""
    stages_ = (
        TrainOptions((), Path("before"), side_px=32, epochs=1),
        TrainOptions((), Path("after"), side_px=32, epochs=1, start=Path("before")),
    )
    small = Recipe("", {}, stages_, mixed=(("before", 0.7), ("after", 0.3)), joins={"fairface": "after"})
    monkeypatch.setitem(RECIPES, "age-small", small)
    exact = tmp_path / "exact.csv"
    rows = (tmp_path / "faces.csv").read_text().splitlines()[1:97]
    lines = [f"faces/{name},{low},{split}" for name, low, _, split in (row.split(",") for row in rows)]
    exact.write_text("\n".join(["file,label,split", *lines]) + "\n")
    out = tmp_path / "out"
    flags = ["train", "--recipe", "age-small", "--data", f"table:{exact}", bands, "--out", str(out), "--smoke"]
    assert main(flags) == 0
    weights = [load_checkpoint(out / name / "best.safetensors")[0].state_dict() for name in ("before", "after", ".")]
    for name, mixed in weights[2].items():
        if mixed.is_floating_point():
            expected = 0.7 * weights[0][name] + 0.3 * weights[1][name]
            assert (mixed - expected).abs().max() <= 2e-3 * expected.abs().max() + 1e-6, name
    record = read_record(out / "best.safetensors").training
    assert record.flags["mixed"] == {"before": 0.7, "after": 0.3}
    assert len(record.data) == 2 and len(read_record(out / "before" / "best.safetensors").training.data) == 1
    before = (out / "best.safetensors").read_bytes()
    assert main([*flags, "--resume"]) == 0 and (out / "best.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["age-open", "age-base"])
def test_the_short_form_of_those_with_bands(name: str, bands: str, shared_data: Path, tmp_path: Path) -> None:
    """train --recipe NAME --smoke on bands and export give a model file of the recipe's size that estimates ages. All parts of
    age-open allow commercial use; recipes with start weights or teachers from research data do not."""
    convert("mobilenetv2", shared_data / "models" / "mobilenetv2_imagenet_int8.tflite", tmp_path / "nano.safetensors")
    starts = {"nano": tmp_path / "nano.safetensors"}
    for kind, tower in (("dlib", "face-resnet"), ("dlib-base", "base")):
        starts[tower] = tmp_path / f"{tower}.safetensors"
        convert(kind, None, starts[tower])
    starts["predictions"] = tmp_path / "ages.json"
    faces, words = open_data(bands).samples, load_task("age").spec.words
    uniform = {s.file: (s.label, *[1 / len(words)] * len(words)) for s in faces}
    write_json(starts["predictions"], to_json(Predictions("faces.json", Licence("MIT"), words, uniform)))
    given = [str(starts[part]) for part in RECIPES[name].weights if part in starts]
    out = tmp_path / "out"
    flags = ["train", "--recipe", name, "--data", bands, "--out", str(out), "--smoke"]
    assert main([*flags, *(["--pretrained", *given] if given else [])]) == 0
    model_file = tmp_path / f"{name}.onnx"
    assert (
        main(["export", str(out / "best.safetensors"), "--out", str(model_file), "--data", bands, "--storage", "fp16"])
        == 0
    )
    model = numclip.load(model_file)
    assert model.spec.metrics[0].bands and model.spec.metrics[0].n + model.spec.metrics[0].skipped == 32, "val"
    assert commercial_use(model.spec.licences).allowed == (name == "age-open"), model.spec.licences
    millions = (model.spec.graph.parameters or 0) / 1e6
    assert 8 <= millions <= 14 if name == "age-base" else millions < 4
    assert name != "age-base" or model_file.stat().st_size <= 30e6


def test_age_open_takes_fairface_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--recipe age-open with another data set is an error, because of the licence."""
    data = ["fairface:x.tar", "utkface:y.tar"]
    assert main(["train", "--recipe", "age-open", "--data", *data, "--out", str(tmp_path / "x"), "--smoke"]) == 2
    assert "expected only fairface: data" in (said := capsys.readouterr().err) and "utkface:y.tar" in said


def test_stages_start_where_they_say(tmp_path: Path) -> None:
    """Each stage starts from start weights, from a named stage or from a shipped checkpoint; its teachers are of the same kinds."""
    options = TrainOptions(("table:x.csv",), tmp_path, smoke=True)
    faces, strong, light, distilled, *_ = stages("age-small", options, [])
    best = {name: tmp_path / name / "best.safetensors" for name in ("faces", "strong", "light", "distilled")}
    assert [one.out.name for one in (faces, strong, light, distilled)] == list(best)
    assert [one.start for one in (faces, strong, light, distilled)] == [
        None,
        best["faces"],
        best["faces"],
        best["strong"],
    ]
    assert [one.teachers for one in (faces, distilled)] == [(), (best["strong"], best["light"])]
    assert (strong.lr, light.seed, light.data, light.epochs) == (6e-4, 35, ("table:x.csv",), 1), "smoke: one epoch"
    (slim,) = stages("age-nano", options, [])
    assert slim.start == SHIPPED / "age-small.safetensors" and slim.teachers == (slim.start,)
    again = stages("age-base", options, [])[-1]
    assert again.teachers == (tmp_path / "base" / "best.safetensors", SHIPPED / "age-small.safetensors")
    with pytest.raises(UsageError, match="sets --lr itself"):
        stages("age-nano", replace(options, lr=1.0), [])


def test_fairface_joins_the_last_stage_of_age_small(tmp_path: Path) -> None:
    """The earlier stages of age-small learn from the data sets with exact ages alone, the last one from all three; FairFace
    without any other data set is refused."""
    exact, bands = ("utkface:u.tar", "aaf:a.tar"), "fairface:f.tar"
    *earlier, last = stages("age-small", TrainOptions((*exact, bands), tmp_path, smoke=True), [])
    assert [one.data for one in earlier] == [exact] * len(earlier)
    assert last.data == (*exact, bands) and last.start == tmp_path / "balanced" / "best.safetensors"
    with pytest.raises(UsageError, match="expected further --data for the stage faces"):
        stages("age-small", TrainOptions((bands,), tmp_path, smoke=True), [])


def test_a_recipe_asks_for_the_data_that_joins(tmp_path: Path) -> None:
    """age-small without FairFace would give another model than the shipped one, so it is an error that names the missing data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "age-small", replace(RECIPES["age-small"], weights={}))
        with pytest.raises(
            UsageError, match=r"expected also fairface: data with --recipe age-small.*got only utkface:"
        ):
            stages("age-small", TrainOptions(("utkface:u.tar",), tmp_path), [])


@pytest.mark.parametrize(
    ("name", "data", "start"),
    [
        ("age-open", "fairface:x.tar", "mobilenetv2 MOBILENET.tflite"),
        ("age-small", "table:x.csv", "faceres faceres-deep.json"),
    ],
)
def test_a_recipe_asks_for_its_start_weights(
    name: str, data: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--recipe without --pretrained is an error at once, before any training, that says which file is needed."""
    assert main(["train", "--recipe", name, "--data", data, "--out", "x"]) == 2
    assert "expected --pretrained" in (said := capsys.readouterr().err) and start in said


def test_a_recipe_refuses_start_weights_that_it_does_not_use(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """age-nano starts from a shipped checkpoint: --pretrained with weights of the tower nano is an error that names the file."""
    start = tmp_path / "nano.safetensors"
    convert("mobilenetv2", shared_data / "models" / "mobilenetv2_imagenet_int8.tflite", start)
    flags = ["--data", "fairface:x.tar", "utkface:y.tar", "--out", str(tmp_path / "out"), "--pretrained", str(start)]
    assert main(["train", "--recipe", "age-nano", *flags]) == 2
    assert f"leave {start} out of --pretrained" in capsys.readouterr().err


def test_a_recipe_fixes_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """--recipe with --lr is an error that names the flag."""
    assert main(["train", "--recipe", "age-nano", "--data", "table:x.csv", "--out", "x", "--lr", "1"]) == 2
    assert "sets --lr itself" in capsys.readouterr().err
