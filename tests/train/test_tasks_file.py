"""Tasks as data: shipped tasks, new tasks, and errors in task files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import numclip

pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.calibration.data.crop_cache import face_crops
from numclip.calibration.data.datasets import open_data
from numclip.cli.main import main
from numclip.errors import ModelError, UsageError
from numclip.train.checkpoint import load_checkpoint
from numclip.train.tasks_file import TASKS, load_task
from numclip.train.towers import open_clip

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
STRIPES = {
    "name": "stripes",
    "unit": "stripes",
    "low": 1,
    "high": 6,
    "context": "a picture with",
    "bins": [{"from": 0.5, "word": "few stripes"}, {"from": 2.5, "word": "some"}, {"from": 4.5, "word": "many"}],
    "to": 6.5,
    "words_by": "ours",
    "crop": {"whole_picture": 1.0},
    "about": "A task added by a file alone.",
}


@pytest.mark.parametrize("name", sorted(p.stem for p in TASKS.glob("*.json")))
def test_tasks_that_ship(name: str) -> None:
    """Each shipped task is complete: unique words, bins that cover the middle of the range, and a named source."""
    task = load_task(name)
    assert task.spec.num_bins >= 2 and task.context and task.words_by
    assert task.spec.bin_edges[0] <= task.spec.low + 0.5 and task.spec.bin_edges[-1] >= min(task.spec.high, 100) - 0.5


def test_the_papers_tasks() -> None:
    """Decades and grades count from 0 with their numbers as bin centers, as in the released regressor."""
    for name, first in {"historical": "1930s", "aesthetics": "unacceptable"}.items():
        task = load_task(name)
        assert task.spec.words[0] == first and task.spec.bin_centers == (0, 1, 2, 3, 4)
        assert task.released.values == (0, 1, 2, 3, 4) and task.released.label_offset == 0
    assert load_task("age-morph").released.values == (0, 13, 19, 35, 65)
    assert load_task("historical").words_by == "ours" and load_task("age-morph").words_by == "released code"


def test_ranks_of_a_task() -> None:
    """with_ranks gives one bin per whole age, named by it; a task with unit bins keeps its words."""
    ranks = load_task("age").with_ranks().spec
    assert ranks.words[0] == "0" and ranks.words[-1] == "100" and ranks.num_bins == 101
    assert ranks.bin_centers == tuple(range(101))
    assert load_task("historical").with_ranks().spec.words[4] == "1970s"


def stripes(folder: Path) -> str:
    """A table of three splits with non-square pictures of 1 to 6 white stripes."""
    rows = ["file,label,split"]
    for i in range(36):
        picture = np.random.default_rng(i).integers(0, 60, (60, 90, 3), np.uint8)
        n = i % 6 + 1
        for k in range(n):
            x = int(90 * (k + 0.5) / n)
            picture[:, x - 3 : x + 3] = 250
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        rows.append(f"{i}.png,{n},{('train', 'train', 'val', 'test')[i // 6 % 4]}")
    (folder / "stripes.csv").write_text("\n".join(rows) + "\n")
    return f"table:{folder / 'stripes.csv'}"


def test_a_new_task_is_a_new_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A task file and pictures without faces are enough to train, test, evaluate and export; no face detector runs."""
    (tmp_path / "stripes.json").write_text(json.dumps(STRIPES))
    (tmp_path / "tiny-task.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-task.json")
    data = stripes(tmp_path)
    flags = ["train", "--task", str(tmp_path / "stripes.json"), "--data", data, "--model", "tiny-task", "--batch", "9"]
    assert main([*flags, "--out", str(tmp_path / "run"), "--epochs", "2", "--test"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 < result["test"]["table:stripes.csv"]["mae"] < 5 and result["leaks"] == {}
    network, _ = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert network.task.spec.words == ("few stripes", "some", "many")
    capfd.readouterr()
    model = str(tmp_path / "stripes.onnx")
    assert main(["export", str(tmp_path / "run" / "best.safetensors"), "--out", model, "--data", data]) == 0
    capfd.readouterr()
    assert main(["evaluate", model, "--data", data, "--json", "-"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["n"] == 6 and answer["mae"] == pytest.approx(result["test"]["table:stripes.csv"]["mae"], abs=0.02)
    (seen,) = numclip.read(str(tmp_path / "5.png"), model=numclip.load(model, device="cpu")).faces
    assert seen.box_xyxy == (0, 0, 90, 60), "a live run also uses the whole picture"
    assert seen.reading is not None and 1 <= seen.reading.value <= 6
    (tmp_path / "ages.csv").write_text("file,label,split\n0.png,40,train\n1.png,50,val\n")
    ages = [*flags[:4], f"table:{tmp_path / 'ages.csv'}", *flags[5:], "--out", str(tmp_path / "ages")]
    assert main(ages) == 1
    assert "expected labels from 1 to 6 stripes, got 40 for 0.png" in capfd.readouterr().err


def test_the_whole_picture_is_squeezed(tmp_path: Path) -> None:
    """A whole 90 x 60 picture fills the crop, corner to corner; at 0.875 a sixteenth is cut off on each side."""
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[:15, :22], picture[45:, 68:] = 255, 255
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (tmp_path / "t.csv").write_text("file,label\na.png,1\n")
    data = open_data(f"table:{tmp_path / 't.csv'}")
    for share, corner in ((1.0, 8), (0.875, 7)):
        crop = task_with(tmp_path, crop={"whole_picture": share}).crop(32)
        cut = face_crops(data, crop).crops[0]
        bright = cut[..., 0] > 127
        assert bright[0, 0] and bright[-1, -1] and not bright[0, -1] and not bright[-1, 0]
        assert abs(int(bright[0].sum()) - corner) <= 1 and abs(int(bright[:, 0].sum()) - corner) <= 1


def task_with(folder: Path, **changes):
    raw = {**STRIPES, **changes}
    path = folder / "changed.json"
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    return load_task(str(path))


BAD = {
    "a missing field": ({"unit": None}, "unit: expected a string, the unit of the value, got nothing"),
    "an unknown field": ({"contxt": "a"}, "contxt: unknown field; did you mean context?"),
    "a string as number": ({"low": "1"}, "low: expected a number, the smallest possible value, got '1'"),
    "a bin without a word": ({"bins": [{"from": 0}, {"from": 2, "word": "b"}]}, "bins[0]"),
    "a word twice": ({"bins": [{"from": 0, "word": "a"}, {"from": 2, "word": "a"}]}, "expected each word only once"),
    "edges that fall": ({"bins": [{"from": 3, "word": "a"}, {"from": 2, "word": "b"}]}, "bins: expected rising edges"),
    "one bin": ({"bins": [{"from": 0, "word": "a"}]}, "at least 2 words"),
    "an unknown source of the words": ({"words_by": "me"}, "words_by: expected paper, released code, data set, ours"),
    "a crop of neither kind": ({"crop": {"square": 1}}, "crop: "),
    "released values of other bins": ({"released": {"values": [1, 2]}}, "released: "),
    "a range that falls": ({"low": 9, "high": 6}, "high: expected a number above low = 9, got 6"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tasks(name: str, tmp_path: Path) -> None:
    """Each wrong task is an error in one sentence that names the file and the field, and says what to do."""
    changes, sentence = BAD[name]
    with pytest.raises(ModelError) as caught:
        task_with(tmp_path, **changes)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'changed.json'}: ") and said.endswith("; correct the file")
    assert sentence in said and "spec field" not in said and "\n" not in said


def test_a_task_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing .json file is an error that names the file; an unknown name lists the known names."""
    with pytest.raises(UsageError, match=r"blurr\.json: there is no such task file; correct the path"):
        load_task(str(tmp_path / "blurr.json"))
    with pytest.raises(UsageError, match=r"expected a task \(.*age.*\) or a \.json file, got 'height'"):
        load_task("height")


def test_what_is_no_task_at_all(tmp_path: Path) -> None:
    """A list, a number, or text that is not JSON is an error in one sentence."""
    for text in ("[1]", "{", "3"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ModelError, match=r"expected a task file in JSON|not a valid task: expected a JSON object"):
            load_task(str(tmp_path / "x.json"))


@pytest.mark.parametrize("kind", ["hci", "aesthetics"])
def test_the_papers_commands_on_whole_pictures(kind: str, tmp_path: Path) -> None:
    """The paper's command on whole pictures (owners' layout, --as-released) trains, selects on test as released, and says so."""
    (tmp_path / "tiny-paper.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-paper.json")
    root = tmp_path / kind
    lines: dict[str, str] = {"urban_train.txt": "", "urban_test.txt": ""}
    for i in range(30):
        name = f"19{3 + i % 5}0s/{i}.png" if kind == "hci" else f"{i}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), np.random.default_rng(i).integers(0, 255, (40, 50, 3), np.uint8))
        lines["urban_test.txt" if i % 3 == 0 else "urban_train.txt"] += f"{i}.png\t{i % 5 + 1}.0\n"
    if kind == "aesthetics":
        for name, text in lines.items():
            (root / name).write_text(text)
    task = {"hci": "historical", "aesthetics": "aesthetics"}[kind]
    flags = ["train", "--task", task, "--data", f"{kind}:{root}", "--model", "tiny-paper", "--as-released", "--test"]
    assert main([*flags, "--epochs", "1", "--batch", "6", "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["selected_on"] == "test" and 0 <= result["test"][f"{kind}:{kind}"]["mae"] <= 4
    network, record = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert record.selected_on == "test" and network.method.weighting == "inside"
