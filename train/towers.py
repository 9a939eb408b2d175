"""The two towers, from open_clip: any of its models, a local checkpoint, or the project's own compact configs.

The compact towers are JSON files in open_clip's model-config format in `train/towers/`. `build_towers` makes them with
weights to start from; `rebuild_towers` makes the same architecture empty, from what a checkpoint recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from . import (
    face_resnet,  # noqa: F401  # pyright: ignore[reportUnusedImport]  (timm knows it from here on)
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
    """The parts of a CLIP that NumCLIP uses, and what is needed to build them again."""

    image: nn.Module
    """Pixels float [N, 3, S, S], normalised, to features [N, D]."""
    text: TextTower
    token_embedding: nn.Embedding
    """Its rows are copied into the prompt, then it is let go."""
    logit_scale: float
    """In log space."""
    record: TowersRecord


class TextTower(nn.Module):
    """open_clip's causal text transformer, fed with embeddings instead of token ids."""

    attn_mask: Tensor

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
        length = embedded.shape[1]
        x = embedded + self.positional_embedding[:length]
        x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        x = self.ln_final(x)[torch.arange(len(end), device=end.device), end]
        return x @ self.text_projection


def build_towers(name: str, pretrained: str | None, pictures: Tensor, *, side: int | None = None) -> Towers:
    """Build both towers by open_clip's model name (or one of ours), with weights from a tag or a file.

    pictures: uint8 [N, S, S, 3] RGB crops of the task, on which batch norms are measured where a file has none.
    side: of the crops, px, where it is not the model's own; a transformer's positions are then interpolated.
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
    """The architecture that a checkpoint recorded, without weights; needs no network."""
    config = model_config(record.name)
    # a checkpoint records the side of its crops by itself
    theirs: Mapping[str, Any] = record.config
    now, then = ({**c, "vision_cfg": {**c["vision_cfg"], "image_size": 0}} for c in (config, theirs))
    if now != then:
        raise ModelError(
            f"the checkpoint's tower {record.name!r} has another config than this installation's; use its versions"
        )
    own = config["vision_cfg"].get("image_size") == record.image_side
    clip = _create(record.name, None, quick_gelu=record.quick_gelu, side=None if own else record.image_side)
    embedding = getattr(clip, "text", clip).token_embedding
    return Towers(clip.visual, TextTower(clip), embedding, float(clip.logit_scale.detach()), record)


def model_config(name: str) -> dict[str, Any]:
    """A model's config in open_clip's format, ours included; raises UsageError for an unknown name."""
    if "nano" not in open_clip.list_models():
        open_clip.add_model_config(TOWERS)
    if name not in open_clip.list_models():
        ours = ", ".join(sorted(p.stem for p in TOWERS.glob("*.json")))
        raise UsageError(
            f"expected --model {ours} or an open_clip model name, got {name!r}{did_you_mean(name, open_clip.list_models())}"
        )
    return cast(dict[str, Any], open_clip.get_model_config(name))


def input_side(name: str) -> int:
    """The side in px of the crops that a model's image tower reads; raises UsageError for an unknown name."""
    size = model_config(name)["vision_cfg"].get("image_size", 224)
    return int(size[0] if isinstance(size, (tuple, list)) else size)


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
    try:
        return open_clip.create_model(
            name, pretrained=tag, force_quick_gelu=quick_gelu, force_image_size=side, weights_only=True
        )
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"--model {name} --pretrained {tag}: cannot be loaded ({reason})") from None
