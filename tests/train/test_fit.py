"""Training on two dozen real faces: checkpoint, model file, and exact resumption."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.calibration.data.datasets import open_data  # noqa: E402
from numclip.cli.main import main  # noqa: E402
from numclip.errors import ModelError  # noqa: E402
from numclip.runtime.contract.model_file import read_spec  # noqa: E402
from numclip.train import fit as fit_module  # noqa: E402
from numclip.train.checkpoint import load_checkpoint  # noqa: E402
from numclip.train.recipes import SHIPPED  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402
from numclip.train.teacher import Teachers, word_divergence  # noqa: E402
from numclip.train.training_data import training_faces  # noqa: E402


@pytest.fixture(scope="module")
def faces(shared_data: Path, yunet_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24 training and 8 validation chips of UTKFace."""
    folder = tmp_path_factory.mktemp("faces")
    rows = ["file,label,split"]
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        members = [m for m in tar.getmembers() if m.isfile()][:: 21302 // 32][:32]
        for i, member in enumerate(members):
            (folder / f"{i}.jpg").write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
            label = Path(member.name).name.split("_")[0]
            rows.append(f"{i}.jpg,{label},{'val' if i % 4 == 0 else 'train'}")
    (folder / "faces.csv").write_text("\n".join(rows) + "\n")
    return folder / "faces.csv"


def _flags(faces: Path, out: Path) -> list[str]:
    return ["train", "--data", f"table:{faces}", "--out", str(out), "--epochs", "2", "--batch", "8"]


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two epochs from random weights."""
    out = tmp_path_factory.mktemp("run") / "whole"
    assert main(_flags(faces, out)) == 0
    return out


def test_a_training_leaves_a_checkpoint_and_a_log(trained: Path) -> None:
    """The log has one line per epoch with the three losses and the val error; the checkpoint records its origin."""
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2] and all(
        np.isfinite(list(line["loss"].values())).all() for line in log
    )
    _, record = load_checkpoint(trained / "best.safetensors")
    assert record.data["table:faces.csv"].n == 24
    assert not any("/" in str(v) for v in record.flags.values()), "a record must not contain local folders"


def test_a_small_data_set_counts_as_much(faces: Path) -> None:
    """With 24 and 9 training faces, balance repeats the 9 three times."""
    rows = faces.read_text().splitlines()
    few = faces.with_name("few.csv")  # every fourth face is for validation
    few.write_text("\n".join(rows[: 1 + 12]) + "\n")
    data, crop = [open_data(f"table:{path}") for path in (faces, few)], load_task("age").crop(32)
    plain, _ = training_faces(data, crop, smoke=False)
    row, counts = training_faces(data, crop, smoke=False, balance=True)
    assert (len(plain), len(row), counts["table:few.csv"].n) == (24 + 9, 24 + 3 * 9, 9)
    for again in (1, 2):
        np.testing.assert_array_equal(row.labels[24 + 9 * again : 33 + 9 * again], plain.labels[24:])
        np.testing.assert_array_equal(row.crop(24 + 9 * again), plain.crop(24))


@pytest.mark.parametrize(("flag", "value"), [("--epochs", "0"), ("--batch", "1"), ("--coverage", "0")])
def test_numbers_that_train_nothing_are_refused(flag: str, value: str, faces: Path, tmp_path: Path, capsys) -> None:
    """Zero epochs, a batch of one, and a coverage of 0 are errors in one sentence that names the flag, without a folder."""
    assert main([*_flags(faces, tmp_path / "none"), flag, value]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and flag in said
    assert not (tmp_path / "none").exists()


def test_a_teacher_is_asked_of_the_very_crops(faces: Path, trained: Path, tmp_path: Path) -> None:
    """A teacher gives its normal output on crops of its own side, about the same on larger ones, and sees the center of wider crops. A
    network's divergence from its own words is 0. Resuming with another teacher is an error."""
    path = trained / "best.safetensors"
    network, _ = load_checkpoint(path)
    side = network.record.image_side
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, side, side, 3), np.uint8))
    teachers = Teachers([path, path], network.task, torch.device("cpu"))
    values, words = teachers.read(crops)
    with torch.no_grad():
        said = network(crops)
    torch.testing.assert_close(values, said.value)
    assert word_divergence(said.logits, words).item() == pytest.approx(0, abs=1e-5)
    assert word_divergence(said.logits.flip(1), words).item() > 0
    large = crops.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(teachers.read(large)[0], values, atol=0.5, rtol=0)
    around = np.pad(crops, ((0, 0), (side // 4, side // 4), (side // 4, side // 4), (0, 0)))
    wider = Teachers([path], network.task.covering(1.5), torch.device("cpu"))
    torch.testing.assert_close(wider.read(torch.from_numpy(around))[0], values)
    with pytest.raises(ModelError, match=r"not wider than the student's, got one that is 1\.25 times"):
        Teachers([path], network.task.covering(0.8), torch.device("cpu"))
    flags = [*_flags(faces, tmp_path / "taught"), "--teacher", str(path)]
    assert main(flags) == 0
    assert main([*flags[:-2], "--resume"]) == 2


def test_a_start_is_taken_over_whole(faces: Path, trained: Path, tmp_path: Path) -> None:
    """A training from a checkpoint, at another side and with nothing to train, ends with that checkpoint's weights."""
    start = trained / "best.safetensors"
    flags = [*_flags(faces, tmp_path / "same"), "--start", str(start), "--side", "128", "--lr", "0"]
    assert main(flags) == 0
    mine, theirs = (load_checkpoint(p)[0] for p in (tmp_path / "same" / "best.safetensors", start))
    assert mine.record.image_side == 128 != theirs.record.image_side
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], tensor, rtol=0, atol=0)


def test_another_network_is_no_start(faces: Path, trained: Path, tmp_path: Path, capsys) -> None:
    """A start checkpoint with other tensor shapes is an error in one sentence that names a tensor."""
    start = str(trained / "best.safetensors")
    assert main([*_flags(faces, tmp_path / "other"), "--as-released", "--select", "val", "--start", start]) == 1
    assert "expected the same network" in capsys.readouterr().err


def test_resume_continues_exactly(faces: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is interrupted after its first epoch and resumed ends with bit-identical weights."""
    whole = fit_module.Fit._validate
    calls = []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self)

    out = tmp_path / "broken"
    monkeypatch.setattr(fit_module.Fit, "_validate", interrupted)
    assert main(_flags(faces, out)) == 130
    monkeypatch.setattr(fit_module.Fit, "_validate", whole)
    assert main([*_flags(faces, out), "--resume"]) == 0
    one, two = (torch.load(folder / "last.pt", weights_only=True) for folder in (trained, out))
    for name, tensor in one["network"].items():
        assert torch.equal(tensor, two["network"][name]), name
    assert main([*_flags(faces, out), "--resume", "--lr", "0.5"]) == 2, "another lr cannot be resumed"
    assert main(_flags(faces, out)) == 2, "a finished training is not overwritten"


@pytest.mark.parametrize("damage", ["text", "cut", "other"])
def test_a_damaged_state_is_one_sentence(
    damage: str, faces: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--resume with a last.pt that is no state, is cut short or holds something else is an error that names the file, which stays."""
    out = tmp_path / "out"
    out.mkdir()
    whole = (trained / "last.pt").read_bytes()
    if damage == "other":
        torch.save({"epoch": 3}, out / "last.pt")
    else:
        (out / "last.pt").write_bytes(b"no state" if damage == "text" else whole[: len(whole) // 2])
    before = (out / "last.pt").read_bytes()
    assert main([*_flags(faces, out), "--resume"]) == 1
    said = capsys.readouterr().err
    assert f"{out / 'last.pt'}: expected the state of a training" in said and "Traceback" not in said
    assert (out / "last.pt").read_bytes() == before


def test_slim_starts_from_small(faces: Path, tmp_path: Path) -> None:
    """--model slim starts from a checkpoint of small: every weight but those of the last two blocks is unchanged, and of the 1,024
    channels of these, 640 stay, in order."""
    shipped = SHIPPED / "age-small.safetensors"
    flags = [
        *_flags(faces, tmp_path / "slim"),
        "--model",
        "slim",
        "--start",
        str(shipped),
        "--side",
        "144",
        "--lr",
        "0",
    ]
    assert main(flags) == 0
    mine, theirs = (load_checkpoint(p)[0].state_dict() for p in (tmp_path / "slim" / "best.safetensors", shipped))
    cut = {name for name, tensor in mine.items() if tensor.shape != theirs[name].shape}
    assert all(name.startswith(("image_tower.trunk.blocks.4.", "image_tower.head.proj")) for name in cut)
    for name in set(mine) - cut:
        torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=0)
    last, whole = (x["image_tower.trunk.blocks.4.1.bn2.weight"].tolist() for x in (mine, theirs))
    assert (len(last), len(whole)) == (640, 1024)
    rest = iter(whole)
    assert all(weight in rest for weight in last), "the channels that stay are in the order they had"


def test_export_proves_itself(trained: Path, faces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The exported file agrees with PyTorch within 0.02 years, its spec records that, and it runs in the runtime."""
    import numclip

    out = tmp_path / "tiny.onnx"
    assert main(["export", str(trained / "best.safetensors"), "--out", str(out), "--data", f"table:{faces}"]) == 0
    spec = numclip.load(out).spec
    side = spec.crop.side
    assert (spec.parity["fp32"].max or 0) <= 0.02 and spec.provenance.checkpoint_sha256
    assert len(numclip.load(out)(np.zeros((3, side, side, 3), np.uint8))) == 3
    assert main(["evaluate", str(out), "--data", f"table:{faces}", "--split", "val", "--json", "-"]) == 0
    by_onnx = json.loads(capfd.readouterr().out.partition("next")[2].partition("\n")[2])
    checkpoint = str(trained / "best.safetensors")
    assert main(["evaluate", checkpoint, "--data", f"table:{faces}", "--split", "val", "--json", "-"]) == 0
    by_torch = json.loads(capfd.readouterr().out)
    assert by_onnx["mae"] == pytest.approx(by_torch["mae"], abs=0.01)


def test_export_into_a_folder_that_is_not_there(repo: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An --out in a folder that does not exist is an error before the data is read."""
    out, checkpoint = tmp_path / "none" / "age.onnx", repo / "train" / "checkpoints" / "age-nano.safetensors"
    assert main(["export", str(checkpoint), "--data", "table:absent.csv", "--out", str(out)]) == 1
    assert f"cannot write {out}: {out.parent} is not a folder that exists" in capfd.readouterr().err


def test_export_needs_no_data_where_it_was_trained(trained: Path, tmp_path: Path, capfd) -> None:
    """The validation faces that a training stored in the cache are enough to check an export of its checkpoint, under any file name.

    On another machine the error asks for --data. The training's folder contains no pictures.
    """
    assert {p.name for p in trained.iterdir()} == {"best.safetensors", "last.pt", "log.jsonl"}
    checkpoint = tmp_path / "renamed.safetensors"
    checkpoint.write_bytes((trained / "best.safetensors").read_bytes())
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "tiny.onnx")]) == 0
    spec = read_spec(tmp_path / "tiny.onnx")
    row = spec.parity["fp32"]
    assert (row.faces, row.n) == ("val of table:faces.csv", 8) and (row.max or 0) <= 0.02
    assert spec.provenance.command == "numclip export renamed.safetensors --out tiny.onnx" and spec.metrics == ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMCLIP_CACHE", str(tmp_path / "another machine"))
        assert main(["export", str(checkpoint), "--out", str(tmp_path / "no.onnx")]) == 1
    said = capfd.readouterr().err
    assert (
        "found none in this machine's cache; give labelled faces with --data" in said
        and not (tmp_path / "no.onnx").exists()
    )


def test_export_refuses_what_misses_its_limit(trained: Path, faces: Path, tmp_path: Path, capfd) -> None:
    """With a limit that no file can meet, nothing is written and the error gives the difference."""
    out = tmp_path / "tiny.onnx"
    flags = ["--out", str(out), "--data", f"table:{faces}", "--max-difference", "-1"]
    assert main(["export", str(trained / "best.safetensors"), *flags]) == 1
    said = capfd.readouterr().err
    assert "fp32 differs from PyTorch" in said and "years (at most -1)" in said and "raise --max-difference" in said
    assert not out.exists()


def test_changing_the_text_tower_after_freezing_changes_nothing(trained: Path) -> None:
    """The frozen graph has the words as constants: changing the text tower changes the network but not the frozen graph."""
    from numclip.export.frozen import Frozen

    network, _ = load_checkpoint(trained / "best.safetensors")
    crops = torch.randint(0, 255, (4, 112, 112, 3), dtype=torch.uint8)
    frozen = Frozen(network).eval()
    with torch.no_grad():
        before, reference = frozen(crops)[0], network(crops)
        assert torch.allclose(before, reference.value.clamp(0, 120), atol=1e-3)
        for parameter in network.text_tower.parameters():
            parameter.normal_()
        assert torch.equal(frozen(crops)[0], before)
        assert not torch.allclose(network(crops).probabilities, reference.probabilities, atol=0.01)


@pytest.mark.parametrize("name", ["nothing.safetensors", "text.safetensors", "last.pt"])
def test_bad_checkpoints(name: str, trained: Path, tmp_path: Path, capfd) -> None:
    """A missing file, a text file and a training state are errors in one sentence."""
    (tmp_path / "text.safetensors").write_text("words")
    path = trained / name if name == "last.pt" else tmp_path / name
    assert main(["export", str(path), "--out", str(tmp_path / "x.onnx"), "--data", "table:x.csv"]) == 1
    err = capfd.readouterr().err
    assert "expected a numclip checkpoint" in err and "Traceback" not in err


@pytest.mark.parametrize("name", ["age-nano", "age-small", "age-open"])
def test_the_shipped_model_is_the_committed_checkpoint(repo: Path, name: str) -> None:
    """Each shipped file names its committed checkpoint by hash, gives the same results, and is under 12 MB; the checkpoint, which
    includes the text tower, is under 12.5 MB."""
    import numclip
    from numclip.train.checkpoint import file_sha256
    from numclip.train.checkpoint_model import open_checkpoint

    checkpoint, shipped = repo / f"train/checkpoints/{name}.safetensors", repo / f"runtime/models/{name}.onnx"
    model = numclip.load(name, device="cpu")
    assert model.spec.provenance.checkpoint_sha256 == file_sha256(checkpoint)
    side = model.spec.crop.side
    crops = np.random.default_rng(0).integers(0, 255, (4, side, side, 3), np.uint8)
    readings = open_checkpoint(checkpoint)(crops)
    numbers = model.session.run(crops).value  # before the calibration's correction
    np.testing.assert_allclose(numbers, readings.value, atol=0.02)
    assert shipped.stat().st_size <= 12_000_000 and checkpoint.stat().st_size <= 12_500_000
