"""New words and bins for a trained checkpoint: the towers are unchanged, and the errors are reported."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.cli.main import main  # noqa: E402
from numclip.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from numclip.train.towers import open_clip  # noqa: E402
from numclip.train.training_data import split_faces  # noqa: E402

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
BINS = {
    "bins": [{"from": 0, "word": "baby"}, {"from": 3, "word": "schoolchild"}, {"from": 18, "word": "adult"}],
    "to": 100,
}


@pytest.fixture(scope="module")
def place(shared_data: Path, yunet_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 32 faces, weights of a small CLIP, and checkpoints trained from both kinds of text tower."""
    folder = tmp_path_factory.mktemp("place")
    rows = ["file,label,split"]
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        for i, member in enumerate([m for m in tar.getmembers() if m.isfile()][:: 21302 // 32][:32]):
            (folder / f"{i}.jpg").write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
            rows.append(f"{i}.jpg,{Path(member.name).name.split('_')[0]},{'val' if i % 4 == 0 else 'train'}")
    (folder / "faces.csv").write_text("\n".join(rows) + "\n")
    (folder / "bins.json").write_text(json.dumps(BINS))
    (folder / "tiny-rebin.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-rebin.json")
    torch.manual_seed(1)
    torch.save(open_clip.create_model("tiny-rebin").state_dict(), folder / "clip.pt")
    flags = [
        "train",
        "--data",
        f"table:{folder / 'faces.csv'}",
        "--model",
        "tiny-rebin",
        "--batch",
        "8",
        "--epochs",
        "2",
    ]
    assert main([*flags, "--out", str(folder / "mute")]) == 0
    assert main([*flags, "--out", str(folder / "spoken"), "--pretrained", str(folder / "clip.pt")]) == 0
    return folder


def rebin(place: Path, which: str, *more: str) -> tuple[int, Path]:
    out = place / f"{which}-rebinned.safetensors"
    flags = ["rebin", str(place / which / "best.safetensors"), "--bins", str(place / "bins.json"), "--out", str(out)]
    return main([*flags, *more]), out


def test_words_of_a_tower_that_knows_language(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """New words get the tower's own embeddings, known words keep their trained ones, and the image tower is unchanged."""
    data = f"table:{place / 'faces.csv'}"
    code, out = rebin(place, "spoken", "--pretrained", str(place / "clip.pt"), "--data", data)
    assert code == 0
    said = capfd.readouterr().out
    assert "faces.csv val: MAE" in said and "of 11 -> " in said and "of 3" in said and "numclip export" in said
    (old, _), (new, record) = load_checkpoint(place / "spoken" / "best.safetensors"), load_checkpoint(out)
    assert (
        new.task.spec.words == ("baby", "schoolchild", "adult")
        and record.rebin is not None
        and record.rebin["bins"] == "bins.json"
    )
    for name, tensor in old.image_tower.state_dict().items():
        assert torch.equal(tensor, new.image_tower.state_dict()[name]), name
    assert torch.equal(new.prompt.words[0], old.prompt.words[0]), "baby keeps its trained embedding"
    tokens = torch.load(place / "clip.pt", weights_only=True)["token_embedding.weight"]
    ids = open_clip.get_tokenizer("tiny-rebin")("schoolchild")[0]
    torch.testing.assert_close(new.prompt.words[1], tokens[ids[1]].half().float(), atol=1e-3, rtol=0)
    assert torch.equal(new.prompt.context, old.prompt.context)


def test_a_tower_without_language_is_told(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without language pre-training the command warns about the words; without data it says that nothing was measured."""
    code, out = rebin(place, "mute")
    told = capfd.readouterr()
    said = told.out + told.err
    assert code == 0 and "no language pre-training" in said and "nothing was measured" in said
    network, _ = load_checkpoint(out)
    assert network(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).probabilities.shape == (2, 3)


def test_the_splits_are_those_of_the_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that was trained on fold 0 of 2 is refitted and measured on that training's splits of the same data: 15 and 1 of the
    16 pictures that are not tested, instead of the table's own 24 and 8."""
    network, record = load_checkpoint(place / "mute" / "best.safetensors")
    (place / "folded").mkdir()
    flags = {**record.flags, "split_by": "random", "fold": [0, 2]}
    save_checkpoint(place / "folded" / "best.safetensors", network, replace(record, flags=flags))
    used: dict[str, int] = {}

    def counted(dataset, split, *more, **named):
        faces = split_faces(dataset, split, *more, **named)
        used[split] = len(faces.crops)
        return faces

    monkeypatch.setattr("numclip.train.new_words.split_faces", counted)
    assert rebin(place, "folded", "--data", f"table:{place / 'faces.csv'}")[0] == 0
    assert used == {"train": 15, "val": 1}


def test_what_is_refused(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Missing weights for the words, a task with another unit, bins without words or with falling edges, and an output folder that
    does not exist are errors in one sentence."""
    assert rebin(place, "spoken")[0] == 2
    assert "expected --pretrained with the weights of tiny-rebin (clip.pt)" in capfd.readouterr().err
    checkpoint = str(place / "mute" / "best.safetensors")
    task = Path(__file__).resolve().parents[2] / "train" / "tasks" / "historical.json"
    assert main(["rebin", checkpoint, "--bins", str(task), "--out", str(place / "x.safetensors")]) == 2
    assert "expected a task of age in years, got decade" in capfd.readouterr().err
    (place / "bad.json").write_text('{"bins": [{"from": 0}], "to": 9}')
    assert main(["rebin", checkpoint, "--bins", str(place / "bad.json"), "--out", str(place / "x.safetensors")]) == 1
    assert "bins[0]" in capfd.readouterr().err and not (place / "x.safetensors").exists()
    (place / "bad.json").write_text('{"bins": [{"from": 5, "word": "a"}, {"from": 2, "word": "b"}], "to": 9}')
    assert main(["rebin", checkpoint, "--bins", str(place / "bad.json"), "--out", str(place / "x.safetensors")]) == 1
    assert "bins: expected rising edges" in capfd.readouterr().err
    nowhere = str(place / "nowhere" / "x.safetensors")
    assert main(["rebin", checkpoint, "--bins", str(place / "bins.json"), "--out", nowhere]) == 1
    assert "free space or give another --out, then start again" in capfd.readouterr().err
