"""The four methods as switches of one network: zero-shot CLIP, CoOp, OrdinalCLIP, NumCLIP; and NumCLIP as released.

The methods differ in their bins (the task's words, or one rank per unit of the scale), in the trained parameters and in the losses.
Data, towers and evaluation are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..errors import UsageError
from .losses import Distance, Weighting

MethodName = Literal["zero-shot", "coop", "ordinalclip", "numclip"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)


@dataclass(frozen=True)
class Method:
    """The switches. The defaults are NumCLIP with its defects repaired; `as_released` is what the authors' code does."""

    weighting: Weighting = "outside"
    refinement_as_released: bool = False
    refinement_embedding: bool = True  # give the refinement the image embedding too, not only the K logits
    refinement_hidden: int = 64  # 0: no refinement; the value is the expectation over the bins
    adapter_ratio: float = 0.5
    adapter_hidden: int = 128  # 0: no adapter
    label_offset: float = 0.0  # subtracted from labels in training, added back to the value
    loss_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # weights of image to text, text to image, L1
    name: MethodName = "numclip"
    distance: Distance = "bins"  # distance behind the loss weights: number of bins, or units between bin centers
    ranks: bool = False  # one bin per unit of the scale, with its number as the word
    base_ranks: int = 0  # OrdinalCLIP: number of learned embeddings from which all ranks are interpolated; 0: words
    learns: tuple[str, ...] = ("image", "adapter", "refinement", "words", "context")  # parameter groups

    @staticmethod
    def named(name: str) -> Method:
        """Return the method of this name (METHODS) with its switches; raises UsageError for any other name.

        zero-shot: the task's words, nothing trained. coop (arXiv 2109.01134): a learned context before fixed numbers, one
        per unit, cross-entropy. ordinalclip (arXiv 2206.02338): rank embeddings interpolated from three learned ones,
        cross-entropy and KL. The value of each is the expectation over its bins; the image tower is fine-tuned as in NumCLIP.
        """
        plain = Method(None, refinement_embedding=False, refinement_hidden=0, adapter_hidden=0, adapter_ratio=0.0)
        match name:
            case "numclip":
                return Method()
            case "zero-shot":
                return replace(plain, name="zero-shot", learns=())
            case "coop":
                losses = (1.0, 0.0, 0.0)
                return replace(plain, name="coop", ranks=True, loss_weights=losses, learns=("image", "context"))
            case "ordinalclip":
                learns = ("image", "words", "context")
                losses = (1.0, 1.0, 0.0)
                return replace(plain, name="ordinalclip", ranks=True, base_ranks=3, loss_weights=losses, learns=learns)
            case _:
                raise UsageError(f"expected --method {', '.join(METHODS)}, got {name!r}; choose one of them")

    @staticmethod
    def as_released(label_offset: float = 1.0, *, learns_context: bool = False) -> Method:
        """Return NumCLIP as released: weights inside the exponent, lower edges, logits only, adapter ratio 0.8, label - 1."""
        learns = ("image", "adapter", "refinement", "words", *(("context",) if learns_context else ()))
        return Method("inside", True, False, 10, 0.8, 128, label_offset, learns=learns)
