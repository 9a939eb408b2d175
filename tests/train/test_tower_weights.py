"""CLIP weights from files: all supported forms, and errors for wrong, truncated or damaged files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from safetensors.torch import save_file

from numclip.errors import ModelError, UsageError
from numclip.train.tower_weights import OPENAI_FACTS, read_weights
from numclip.train.towers import build_towers, open_clip, rebuild_towers

VISION = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}
TINY = {
    "embed_dim": 48,
    "vision_cfg": VISION,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
PICTURES = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory):
    """A small complete CLIP with OpenAI's architecture and random weights, and one with larger patches."""
    folder = tmp_path_factory.mktemp("configs")
    for name, patch in {"tiny-vit": 16, "tiny-vit-32": 32}.items():
        config = {**TINY, "vision_cfg": {**VISION, "patch_size": patch}}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    return open_clip.create_model("tiny-vit").eval()


def as_module(state: dict[str, torch.Tensor]) -> nn.Module:
    """Build nested modules with this state dict."""
    root = nn.Module()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, nn.Module())
            module = getattr(module, parent)
        module.register_buffer(leaf, tensor)
    return root


def write(form: str, state: dict[str, torch.Tensor], folder: Path) -> Path:
    """Write the weights in one of the supported forms."""
    path = folder / ("clip.safetensors" if form == "safetensors" else "clip.pt")
    if form == "safetensors":
        save_file({n: t.contiguous().clone() for n, t in state.items()}, path)
    elif form == "OpenAI archive":  # TorchScript, half precision, and three numbers besides the weights
        facts = {name: torch.tensor(value) for name, value in zip(OPENAI_FACTS, (64, 77, 49408))}
        halves = {n: t.half() if t.ndim > 1 else t for n, t in state.items()}
        torch.jit.script(as_module({**halves, **facts})).save(str(path))
    elif form == "training's checkpoint":
        torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in state.items()}}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "OpenAI archive", "training's checkpoint", "state dict"])
def test_every_form_fills_both_towers(form: str, clip, tmp_path: Path) -> None:
    """Every form fills image and text tower with the file's weights (half precision: to 1e-3); OpenAI's archive implies QuickGELU."""
    towers = build_towers("tiny-vit", str(write(form, clip.state_dict(), tmp_path)), PICTURES)
    limit = 1e-3 if form == "OpenAI archive" else 0
    torch.testing.assert_close(towers.image.get_parameter("conv1.weight"), clip.visual.conv1.weight, atol=limit, rtol=0)
    torch.testing.assert_close(towers.text.text_projection, clip.text_projection, atol=limit, rtol=0)
    assert towers.record.language_pretrained and towers.record.quick_gelu == (form == "OpenAI archive")
    gelus = {type(m).__name__ for m in rebuild_towers(towers.record).text.modules() if "GELU" in type(m).__name__}
    assert gelus == {"QuickGELU" if form == "OpenAI archive" else "GELU"}


def test_another_side_interpolates_positions(clip, tmp_path: Path) -> None:
    """For larger crops position embeddings are interpolated: 6 x 6 patches and the class token instead of 4 x 4."""
    towers = build_towers("tiny-vit", str(write("state dict", clip.state_dict(), tmp_path)), PICTURES, side=96)
    assert towers.image.positional_embedding.shape == (37, 64) and towers.record.image_side == 96
    assert rebuild_towers(towers.record).image.positional_embedding.shape == (37, 64)


def test_another_architecture_names_the_tensor(clip, tmp_path: Path) -> None:
    """Other patches, a missing tensor and an extra tensor are errors that name the tensor, its shapes and what to do."""
    path = write("state dict", clip.state_dict(), tmp_path)
    wide = r"tensor visual.conv1.weight: expected shape \[64, 3, 32, 32\] as in tiny-vit-32, got \[64, 3, 16, 16\]"
    with pytest.raises(ModelError, match=wide):
        build_towers("tiny-vit-32", str(path), PICTURES)
    state = dict(clip.state_dict())
    del state["ln_final.weight"]
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"has no tensor ln_final.weight; choose the --model"):
        build_towers("tiny-vit", str(path), PICTURES)
    torch.save({**clip.state_dict(), "surplus": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="got a tensor surplus, which tiny-vit does not have"):
        build_towers("tiny-vit", str(path), PICTURES)


@pytest.mark.parametrize("form", ["safetensors", "OpenAI archive", "state dict"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_file_names_the_byte(form: str, kept: float, clip, tmp_path: Path) -> None:
    """A file truncated anywhere is an error in one sentence with file and byte; for a .safetensors also with the first lost tensor."""
    path = write(form, clip.state_dict(), tmp_path)
    data = path.read_bytes()
    size = int(kept * len(data))
    path.write_bytes(data[:size])
    with pytest.raises(ModelError) as caught:
        read_weights(path)
    sentence = str(caught.value)
    assert str(path) in sentence and str(size) in sentence and "byte" in sentence and "\n" not in sentence
    if form == "safetensors" and kept >= 0.3:
        assert "tensor " in sentence


def test_a_damaged_archive_names_the_record(clip, tmp_path: Path) -> None:
    """A flipped byte in the middle is found, and the error names its record."""
    path = write("OpenAI archive", clip.state_dict(), tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"the record .*data/\d+ at byte \d+ has a wrong checksum"):
        read_weights(path)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    """Text, a pickled object and a list of tensors are errors in one sentence; no code in a pickle runs."""
    for name, content in {"a.pt": b"weights, surely", "b.safetensors": b"weights, surely weights"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="expected"):
            read_weights(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "c.pt")
    torch.save({"run": Path}, tmp_path / "d.pt")
    with pytest.raises(ModelError, match=r"c\.pt: expected a state dict of tensors, got list; give a file"):
        read_weights(tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"d\.pt: expected weights .*; download the file again"):
        read_weights(tmp_path / "d.pt")


def test_a_tag_brings_its_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    """ViT-B-16 with OpenAI's tag is built with QuickGELU; open_clip itself would only warn."""
    asked = {}
    monkeypatch.setattr(open_clip, "create_model", lambda name, **how: asked.update(how) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_towers("ViT-B-16", "openai", PICTURES)
    assert asked["force_quick_gelu"] is True and asked["pretrained"] == "openai"
    with pytest.raises(UsageError, match=r"a tag of ViT-B-16 .*openai"):
        build_towers("ViT-B-16", "opneai", PICTURES)
