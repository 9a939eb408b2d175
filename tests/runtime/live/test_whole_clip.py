"""A CLIP with a language-trained text tower (here: random weights in a file) from its archive to the model file."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import torch

pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra export")
from numclip.cli.main import main
from numclip.export.frozen import Frozen
from numclip.train import fit as fit_module
from numclip.train.checkpoint import load_checkpoint
from numclip.train.towers import open_clip

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def faces(shared_data: Path, yunet_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of eight training and four validation chips of UTKFace."""
    folder = tmp_path_factory.mktemp("faces")
    rows = ["file,label,split"]
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        for i, member in enumerate([m for m in tar.getmembers() if m.isfile()][:: 21302 // 12][:12]):
            (folder / f"{i}.jpg").write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
            rows.append(f"{i}.jpg,{Path(member.name).name.split('_')[0]},{'val' if i % 3 == 0 else 'train'}")
    (folder / "faces.csv").write_text("\n".join(rows) + "\n")
    return f"table:{folder / 'faces.csv'}"


@pytest.mark.parametrize("name", ["tiny-whole", pytest.param("ViT-B-32", marks=pytest.mark.slow)])
def test_from_weights_to_model_file(
    name: str, faces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A CLIP is trained for two steps, interrupted and resumed, evaluated and exported; its text tower is unchanged and not in the
    file."""
    (tmp_path / "tiny-whole.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    weights = open_clip.create_model(name).state_dict()
    torch.save({n: t.half() for n, t in weights.items()}, tmp_path / "clip.pt")
    flags = ["train", "--data", faces, "--model", name, "--pretrained", str(tmp_path / "clip.pt"), "--batch", "8"]
    flags += ["--epochs", "2", "--lr", "1e-4", "--out", str(tmp_path / "run")]
    validate = fit_module.Fit._validate

    def interrupted(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return validate(self)

    monkeypatch.setattr(fit_module.Fit, "_validate", interrupted)
    assert main(flags) == 130
    monkeypatch.setattr(fit_module.Fit, "_validate", validate)
    assert main([*flags, "--resume"]) == 0
    checkpoint = tmp_path / "run" / "best.safetensors"
    network, _ = load_checkpoint(checkpoint)
    assert torch.equal(network.text_tower.get_parameter("text_projection"), weights["text_projection"].half().float())
    assert not torch.equal(
        network.image_tower.get_parameter("conv1.weight"), weights["visual.conv1.weight"].half().float()
    )

    frozen, side = Frozen(network), network.record.image_side
    crops = torch.randint(0, 255, (2, side, side, 3), dtype=torch.uint8)
    with torch.no_grad():
        scale = network.logit_scale.exp()
        torch.testing.assert_close(frozen.scaled_bins.T / scale, network.text_bins(), atol=1e-4, rtol=0)
        before, full = frozen(crops)[0], network(crops).value
        network.text_tower.text_projection.add_(torch.randn(network.text_tower.text_projection.shape))
        after, changed = frozen(crops)[0], network(crops).value
    torch.testing.assert_close(before, full.clamp(0, 120), atol=1e-3, rtol=0)
    assert torch.equal(before, after) and not torch.allclose(full, changed, atol=1e-2)

    capfd.readouterr()
    assert main(["evaluate", str(checkpoint), "--data", faces, "--split", "val", "--json", "-"]) == 0
    mae = json.loads(capfd.readouterr().out)["mae"]
    out = tmp_path / "whole.onnx"
    assert main(["export", str(checkpoint), "--out", str(out), "--data", faces]) == 0
    capfd.readouterr()
    assert main(["evaluate", str(out), "--data", faces, "--split", "val", "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["mae"] == pytest.approx(mae, abs=0.02)
