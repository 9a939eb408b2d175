"""A training gives the same result in one process or two, killed or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.errors import UsageError
from numclip.train.augment import Augmentation
from numclip.train.batches import Epoch, TrainingFaces, batches
from numclip.train.processes import Waiting, open_fabric

TINY = {  # only layer norms: no statistics over a process's share of a batch
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
SCRIPT = """
import sys
from numclip.train.towers import open_clip
open_clip.add_model_config(sys.argv[1])
from numclip.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def place(shared_data: Path, yunet_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of 64 training and 16 validation faces, a tower's config, and a script that registers it."""
    folder = tmp_path_factory.mktemp("place")
    rows = ["file,label,split"]
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        for i, member in enumerate([m for m in tar.getmembers() if m.isfile()][:: 21302 // 80][:80]):
            (folder / f"{i}.jpg").write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
            rows.append(f"{i}.jpg,{Path(member.name).name.split('_')[0]},{'val' if i % 5 == 0 else 'train'}")
    (folder / "faces.csv").write_text("\n".join(rows) + "\n")
    (folder / "tiny-processes.json").write_text(json.dumps(TINY))
    (folder / "train.py").write_text(SCRIPT)
    return folder


def command(place: Path, out: str, model: str, epochs: int, *more: str, processes: int = 1) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    flags = ["train", "--data", f"table:{place / 'faces.csv'}", "--out", str(place / out), "--model", model]
    flags += ["--batch", "16", "--epochs", str(epochs), "--lr", "5e-4", "--threads", "1", *more]
    return [*start, str(place / "train.py"), str(place / "tiny-processes.json"), *flags]


def log(place: Path, out: str) -> list[dict]:
    return [json.loads(line) for line in (place / out / "log.jsonl").read_text().splitlines()]


def losses(place: Path, out: str) -> np.ndarray:
    """[epochs, 3]"""
    return np.array([list(line["loss"].values()) for line in log(place, out)])


def two_like_one(place: Path, name: str, model: str, noise: float, *more: str) -> None:
    """Train four epochs in one process and in two; check that the losses differ by at most the share `noise`."""
    subprocess.run(command(place, f"one-{name}", model, 4, *more), check=True, capture_output=True)
    two = command(place, f"two-{name}", model, 4, *more, processes=2)
    subprocess.run(two, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, both = losses(place, f"one-{name}"), losses(place, f"two-{name}")
    assert both.shape == (4, 3)
    np.testing.assert_allclose(both, one, rtol=noise, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "noise"), [("tiny-processes", 1e-3), ("nano", 0.1)])
def test_two_processes_give_the_curve_of_one(place: Path, model: str, noise: float) -> None:
    """The losses of every epoch agree to 0.1 % without batch norms, and to 10 % if each process has its own batch norms."""
    two_like_one(place, model, model, noise)


@pytest.mark.slow
def test_two_processes_are_taught_like_one(place: Path) -> None:
    """With a teacher, too, the losses of every epoch agree to 0.1 %: its weight does not depend on the number of processes."""
    subprocess.run(command(place, "teacher", "tiny-processes", 2), check=True, capture_output=True)
    more = ("--teacher", str(place / "teacher" / "best.safetensors"))
    two_like_one(place, "taught", "tiny-processes", 1e-3, *more)


@pytest.mark.slow
def test_killed_and_resumed_ends_the_same(place: Path) -> None:
    """After SIGKILL within an epoch and --resume, losses and errors equal those of an uninterrupted run to 1e-4."""
    subprocess.run(command(place, "whole", "nano", 4), check=True, capture_output=True)
    broken = command(place, "broken", "nano", 4)
    process = subprocess.Popen(broken, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = place / "broken" / "log.jsonl"
    while process.poll() is None and (not path.exists() or path.read_text().count("\n") < 2):
        time.sleep(0.01)
    time.sleep(0.5 * log(place, "whole")[2]["train_s"])
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and len(log(place, "broken")) < 4
    subprocess.run([*broken, "--resume"], check=True, capture_output=True)
    assert [line["epoch"] for line in log(place, "broken")] == [1, 2, 3, 4]
    np.testing.assert_allclose(losses(place, "broken"), losses(place, "whole"), atol=1e-4, rtol=0)
    for mine, theirs in zip(log(place, "broken"), log(place, "whole"), strict=True):
        assert mine["val_mae"] == theirs["val_mae"]


def test_shares_are_the_batch() -> None:
    """The processes' shares together are exactly the batch of a single process, pixel by pixel."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 36, 36, 3), np.uint8)
    faces = TrainingFaces((pixels,), np.arange(48.0).reshape(24, 2), 28)
    whole, *shares = (list(batches(Epoch(faces, 1, 8, 28, 0, Augmentation(), s))) for s in ((0, 1), (0, 2), (1, 2)))
    for at, (crops, labels) in enumerate(whole):
        parts = [share[at] for share in shares]
        order = np.argsort(np.concatenate([np.arange(8)[0::2], np.arange(8)[1::2]]))
        assert torch.equal(torch.cat([p[1] for p in parts])[order], labels)
        assert torch.equal(torch.cat([p[0] for p in parts])[order], crops)


def test_a_batch_that_cannot_be_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes with a batch of 32 are an error that says what is expected."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UsageError, match="to be a multiple of the 3 processes, got 32"):
        open_fabric("off", 32)


def test_waiting_is_counted() -> None:
    """Waiting is measured for a source with 20 ms per item, and is 0 for a ready source, however slow its reader."""

    def source(wait_s: float):
        for i in range(5):
            time.sleep(wait_s)
            yield i

    slow, ready = Waiting(source(0.02)), Waiting(iter(range(5)))
    assert list(slow) == [0, 1, 2, 3, 4] and slow.waited_s >= 0.1
    for _ in ready:
        time.sleep(0.2)
    assert ready.waited_s < 1.0
