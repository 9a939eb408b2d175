"""The two towers, from open_clip: any of its models, a local checkpoint, or the project's own compact configs.

The compact towers are JSON files in open_clip's model-config format in `train/towers/`. `build_towers` makes them with
weights to start from; `rebuild_towers` makes the same architecture empty, from what a checkpoint recorded.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import (
    face_resnet,  # noqa: F401  # pyright: ignore[reportUnusedImport]  (timm knows it from here on)
    torchvision_gap,  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before open_clip)
)

import open_clip  # isort: skip
import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError
from .start_weights import DLIB, dlib_file, is_layers, load_layers
from .tower_weights import fill, read_weights

TOWERS = Path(__file__).parent / "towers"
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Towers:
    """The parts of a CLIP that NumCLIP uses, and what is needed to build them again."""

    image: nn.Module  # float [N, 3, S, S] normalised -> features [N, D]
    text: TextTower
    token_embedding: nn.Embedding  # rows are copied into the prompt, then it is let go
    logit_scale: float  # log space
    record: dict[str, Any]  # name, config, pretrained, language_pretrained, image_side, image_mean, image_std


class TextTower(nn.Module):
    """open_clip's causal text transformer, fed with embeddings instead of token ids."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        parts: Any = getattr(clip, "text", clip)
        missing = [p for p in ("transformer", "positional_embedding", "ln_final", "attn_mask") if not hasattr(parts, p)]
        if missing:
            raise ModelError(
                f"expected a text tower with CLIP's own transformer, this one has no {missing[0]}; choose a CLIP model"
            )
        self.transformer = parts.transformer
        self.positional_embedding = parts.positional_embedding
        self.ln_final = parts.ln_final
        projection = parts.text_projection
        self.text_projection = (
            nn.Parameter(projection.weight.T.contiguous()) if isinstance(projection, nn.Linear) else projection
        )
        self.register_buffer("attn_mask", parts.attn_mask, persistent=False)

    def forward(self, embedded: Tensor, end: Tensor) -> Tensor:
        """embedded: float [K, L, W] token embeddings; end: int64 [K] the slot of EOT. Returns features [K, D].

        Attention is causal, so slots after the last EOT change nothing and L may be shorter than the context.
        """
        mask: Any = self.attn_mask
        length = embedded.shape[1]
        x = embedded + self.positional_embedding[:length]
        x = self.transformer(x, attn_mask=mask[:length, :length])
        x = self.ln_final(x)[torch.arange(len(end), device=end.device), end]
        return x @ self.text_projection


def build_towers(name: str, pretrained: str | None, pictures: Tensor, *, side: int | None = None) -> Towers:
    """Build both towers by open_clip's model name (or one of ours), with weights from a tag or a file.

    pictures: uint8 [N, S, S, 3] RGB crops of the task, on which batch norms are measured where a file has none.
    side: of the crops, px, where it is not the model's own; a transformer's positions are then interpolated.
    Raises UsageError for an unknown name or tag, ModelError for a file that does not fit.
    """
    _check_name(name)
    layers = layers_file(pretrained)
    clip = _with_weights(name, None if layers else pretrained, side)
    visual = clip.visual
    mean, std = _normalisation(visual, own=(TOWERS / f"{name}.json").is_file())
    if layers:
        pixels = (pictures.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(
            1, 3, 1, 1
        )
        load_layers(visual.trunk, layers, pixels)
    record = {
        "name": name,
        "config": open_clip.get_model_config(name),
        "pretrained": layers.name if layers else pretrained and Path(pretrained).name,
        "language_pretrained": pretrained is not None and layers is None,
        "image_side": side or _side(visual),
        "image_mean": list(mean),
        "image_std": list(std),
        "quick_gelu": any(type(m).__name__ == "QuickGELU" for m in clip.modules()),
    }
    return _towers(clip, record)


def layers_file(pretrained: str | None) -> Path | None:
    """The file of convolutions that --pretrained means: a .tflite, a .json, or dlib's; None where it is a CLIP's or nothing."""
    if pretrained is None or not is_layers(pretrained):
        return None
    return dlib_file() if pretrained == DLIB else Path(pretrained)


def rebuild_towers(record: dict[str, Any]) -> Towers:
    """The architecture that a checkpoint recorded, without weights; needs no network."""
    _register()
    name = str(record["name"])
    side = int(record["image_side"])
    if _without_side(open_clip.get_model_config(name)) != _without_side(record["config"]):
        raise ModelError(
            f"the checkpoint's tower {name!r} has another config than this installation's; use its versions"
        )
    clip = _create(name, None, quick_gelu=bool(record["quick_gelu"]), side=None if side == input_side(name) else side)
    return _towers(clip, record)


def _without_side(config: Any) -> Any:
    """A model's config but for the side of its crops, which a checkpoint records by itself."""
    return config | {"vision_cfg": {k: v for k, v in config["vision_cfg"].items() if k != "image_size"}}


def _register() -> None:
    if "nano" not in open_clip.list_models():
        open_clip.add_model_config(TOWERS)


def _with_weights(name: str, pretrained: str | None, side: int | None) -> Any:
    """A model with the weights of a tag or a file, and with the activation that they were trained with."""
    if pretrained is None:
        return _create(name, None, side=side)
    path = Path(pretrained)
    if path.is_file():
        weights = read_weights(path)
        clip = _create(name, None, quick_gelu=weights.openai, side=side)
        fill(clip, weights, path, name)
        return clip
    tags = [tag for model, tag in open_clip.list_pretrained() if model == name]
    if pretrained not in tags:
        known = ", ".join(tags) or "no tags"
        raise UsageError(f"expected --pretrained a file or a tag of {name} ({known}), got {pretrained!r}")
    facts = open_clip.get_pretrained_cfg(name, pretrained)
    return _create(name, pretrained, quick_gelu=bool(facts.get("quick_gelu")), side=side)


def _create(name: str, tag: str | None, *, quick_gelu: bool = False, side: int | None = None) -> Any:
    with _quiet():
        try:
            return open_clip.create_model(
                name, pretrained=tag, force_quick_gelu=quick_gelu, force_image_size=side, weights_only=True
            )
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"--model {name} --pretrained {tag}: cannot be loaded ({reason})") from None


@contextlib.contextmanager
def _quiet():
    """open_clip warns that a model without weights is random; that is what was asked for."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _towers(clip: Any, record: dict[str, Any]) -> Towers:
    text = TextTower(clip)
    embedding = getattr(clip, "text", clip).token_embedding
    return Towers(clip.visual, text, embedding, float(clip.logit_scale.detach()), record)


def _side(visual: Any) -> int:
    size = visual.image_size
    return int(size[0] if isinstance(size, (tuple, list)) else size)


def _normalisation(visual: Any, *, own: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The backbone's own mean and std in [0, 1]; our compact towers use 0.5, as MobileNet's published weights do."""
    return (HALF, HALF) if own else (tuple(visual.image_mean), tuple(visual.image_std))


def input_side(name: str) -> int:
    """The side in px of the crops that a model's image tower reads; raises UsageError for an unknown name."""
    _check_name(name)
    config: Any = open_clip.get_model_config(name)
    size = config["vision_cfg"].get("image_size", 224)
    return int(size[0] if isinstance(size, (tuple, list)) else size)


def _check_name(name: str) -> None:
    _register()
    if name not in open_clip.list_models():
        ours = ", ".join(sorted(p.stem for p in TOWERS.glob("*.json")))
        raise UsageError(
            f"expected --model {ours} or an open_clip model name, got {name!r}; see open_clip.list_models()"
        )
