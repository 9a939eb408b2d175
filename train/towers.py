"""The image and text tower, built with open_clip: any of its models, a local checkpoint, or the project's compact configs.

The compact towers are JSON files in open_clip's model-config format in `train/towers/`. `build_towers` builds the towers with
their start weights; `rebuild_towers` builds the architecture that a checkpoint recorded, without weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from . import (
    face_resnet,  # noqa: F401  # pyright: ignore[reportUnusedImport]  (registers the tower with timm)
    slim_mobilenet,  # noqa: F401  # pyright: ignore[reportUnusedImport]  (the same)
    torchvision_gap,  # noqa: F401  # pyright: ignore[reportUnusedImport]  (before open_clip)
)

import open_clip  # isort: skip
import torch
from torch import Tensor, nn

from ..errors import ModelError, UsageError, did_you_mean
from .records import TowersRecord
from .tower_weights import fill, fill_trunk, read_start, read_weights, refuse_unconverted

TOWERS = Path(__file__).parent / "towers"
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Towers:
    """The parts of a CLIP model that NumCLIP uses, and the record to rebuild them."""

    image: nn.Module
    """Maps normalised pixels, float [N, 3, S, S], to features [N, D]."""
    text: TextTower
    token_embedding: nn.Embedding
    """The token embedding; the prompt copies some of its rows, and the rest is discarded."""
    logit_scale: float
    """CLIP's logit scale, in log space."""
    record: TowersRecord


class TextTower(nn.Module):
    """open_clip's causal text transformer, with embeddings instead of token ids as input."""

    attn_mask: Tensor

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        parts: Any = getattr(clip, "text", clip)
        missing = [p for p in ("transformer", "positional_embedding", "ln_final", "attn_mask") if not hasattr(parts, p)]
        if missing:
            raise ModelError(
                f"expected a text tower with CLIP's own transformer, got one without {missing[0]}; choose another --model"
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

        Attention is causal: slots after the last EOT have no effect, so L may be shorter than the context length.
        """
        length = embedded.shape[1]
        x = embedded + self.positional_embedding[:length]
        x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        x = self.ln_final(x)[torch.arange(len(end), device=end.device), end]
        return x @ self.text_projection


def build_towers(name: str, pretrained: str | None, pictures: Tensor, *, side: int | None = None) -> Towers:
    """Build both towers of an open_clip model (or one of ours) with weights from a tag or a file.

    pictures: uint8 [N, S, S, 3] RGB crops of the task; they give the batch-norm statistics that start weights lack.
    side: crop side in px if it is not the model's own; a transformer's position embeddings are then interpolated.
    Raises UsageError for an unknown name or tag, ModelError for a file that does not fit.
    """
    config = model_config(name)
    if pretrained is not None:
        refuse_unconverted(pretrained)
    start = None if pretrained is None else read_start(Path(pretrained))
    clip = _with_weights(name, None if start else pretrained, side)
    visual = clip.visual
    mean, std = (HALF, HALF) if (TOWERS / f"{name}.json").is_file() else (visual.image_mean, visual.image_std)
    if start is not None:
        shift, scale = (torch.tensor(x).view(1, 3, 1, 1) for x in (mean, std))
        fill_trunk(
            visual.trunk, Path(str(pretrained)), start, name, (pictures.permute(0, 3, 1, 2) / 255 - shift) / scale
        )
    size = visual.image_size
    record = TowersRecord(
        name=name,
        config=config,
        pretrained=start.name if start else pretrained and Path(pretrained).name,
        language_pretrained=pretrained is not None and start is None,
        image_side=side or int(size[0] if isinstance(size, (tuple, list)) else size),
        image_mean=tuple(mean),
        image_std=tuple(std),
        quick_gelu=any(type(m).__name__ == "QuickGELU" for m in clip.modules()),
    )
    embedding = getattr(clip, "text", clip).token_embedding
    return Towers(visual, TextTower(clip), embedding, float(clip.logit_scale.detach()), record)


def rebuild_towers(record: TowersRecord) -> Towers:
    """Build the architecture that a checkpoint recorded, without weights; needs no internet access."""
    config = model_config(record.name)
    # the crop side is a field of its own in the checkpoint, so it is not compared
    theirs: Mapping[str, Any] = record.config
    now, then = ({**c, "vision_cfg": {**c["vision_cfg"], "image_size": 0}} for c in (config, theirs))
    if now != then:
        raise ModelError(
            f"expected the tower config {record.name!r} that the checkpoint recorded, got a different one from this "
            "installation; install the versions that the checkpoint records"
        )
    own = config["vision_cfg"].get("image_size") == record.image_side
    clip = _create(record.name, None, quick_gelu=record.quick_gelu, side=None if own else record.image_side)
    embedding = getattr(clip, "text", clip).token_embedding
    return Towers(clip.visual, TextTower(clip), embedding, float(clip.logit_scale.detach()), record)


def model_config(name: str) -> dict[str, Any]:
    """Return a model's config in open_clip's format, including our compact towers; raises UsageError for an unknown name."""
    if "nano" not in open_clip.list_models():
        open_clip.add_model_config(TOWERS)
    if name not in open_clip.list_models():
        ours = ", ".join(sorted(p.stem for p in TOWERS.glob("*.json")))
        raise UsageError(
            f"expected --model {ours} or an open_clip model name, got {name!r}{did_you_mean(name, open_clip.list_models())}"
        )
    return cast(dict[str, Any], open_clip.get_model_config(name))


def input_side(name: str) -> int:
    """Return the crop side, px, of a model's image tower; raises UsageError for an unknown name."""
    size = model_config(name)["vision_cfg"].get("image_size", 224)
    return int(size[0] if isinstance(size, (tuple, list)) else size)


def _with_weights(name: str, pretrained: str | None, side: int | None) -> Any:
    """Create a model with the weights of a tag or a file, and with the activation function that they were trained with."""
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
        raise UsageError(f"expected --pretrained with a file or a tag of {name} ({known}), got {pretrained!r}")
    facts = open_clip.get_pretrained_cfg(name, pretrained)
    return _create(name, pretrained, quick_gelu=bool(facts.get("quick_gelu")), side=side)


def _create(name: str, tag: str | None, *, quick_gelu: bool = False, side: int | None = None) -> Any:
    try:
        return open_clip.create_model(
            name, pretrained=tag, force_quick_gelu=quick_gelu, force_image_size=side, weights_only=True
        )
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if tag is None:
            raise ModelError(f"--model {name}: open_clip cannot build it ({reason}); choose another --model") from None
        raise ModelError(
            f"--model {name} --pretrained {tag}: open_clip cannot load these weights ({reason}); choose other weights, or give "
            "a file of CLIP weights"
        ) from None
