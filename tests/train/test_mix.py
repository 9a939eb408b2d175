"""Mixed checkpoints: the mean of their weights, measured like an epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra export")
from numclip.calibration.data.datasets import open_data  # noqa: E402
from numclip.cli.main import main  # noqa: E402
from numclip.errors import ModelError  # noqa: E402
from numclip.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from numclip.train.mix import mix  # noqa: E402
from numclip.train.options import TrainOptions  # noqa: E402
from numclip.train.recipes import SHIPPED  # noqa: E402

BEFORE = SHIPPED / "age-nano.safetensors"


@pytest.fixture
def faces(shared_data: Path, tmp_path: Path) -> str:
    """A table of 8 UTKFace chips for validation."""
    data = open_data(f"utkface:{shared_data / 'data' / 'utkface.tar'}").select("val")
    rows = ["file,label,split"]
    for sample in data.samples[:8]:
        name = Path(sample.file).name
        (tmp_path / name).write_bytes(data.read_bytes(sample.file))
        rows.append(f"{name},{sample.label:g},val")
    (tmp_path / "faces.csv").write_text("\n".join(rows) + "\n")
    return f"table:{tmp_path / 'faces.csv'}"


def test_a_mix_is_the_mean_of_the_weights(faces: str, tmp_path: Path) -> None:
    """Three parts of age-nano and one part of the same network with half as large weights in its first layer give 0.875 of these
    weights; the record says so and has the mix's own error, and an export finds its check faces in the cache."""
    network, record = load_checkpoint(BEFORE)
    name, first = next((n, p) for n, p in network.named_parameters() if n.startswith("image_tower"))
    whole = first.detach().clone()
    with torch.no_grad():
        first.mul_(0.5)
    (tmp_path / "after").mkdir()
    save_checkpoint(after := tmp_path / "after" / "best.safetensors", network, record)
    made = mix([(BEFORE, 0.75), (after, 0.25)], TrainOptions((faces,), tmp_path / "out"))
    mixed, said = load_checkpoint(tmp_path / "out" / "best.safetensors")
    torch.testing.assert_close(mixed.state_dict()[name], 0.875 * whole, rtol=2e-3, atol=1e-6)
    assert said.flags["mixed"] == {"checkpoints": 0.75, "after": 0.25}
    assert said.val_mae == {"table:faces.csv": made.figures["table:faces.csv"].mae} and 0 < made.mae < 40
    assert main(["export", str(tmp_path / "out" / "best.safetensors"), "--out", str(tmp_path / "mix.onnx")]) == 0


def test_only_one_network_mixes(tmp_path: Path) -> None:
    """age-nano and age-small do not mix: an error names both files and nothing is written."""
    small = SHIPPED / "age-small.safetensors"
    with pytest.raises(ModelError, match=r"expected checkpoints of one network to mix.*age-nano.*age-small"):
        mix([(BEFORE, 0.5), (small, 0.5)], TrainOptions(("table:x.csv",), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
