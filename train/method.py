"""The four methods as switches of one network: zero-shot CLIP, CoOp, OrdinalCLIP, NumCLIP; and NumCLIP as released.

They differ in what a bin is (the task's words, or one rank per unit of the scale), in what is learned, and in the losses.
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
    """The switches; the defaults are NumCLIP's repaired form, `as_released` is what the authors' code does."""

    weighting: Weighting = "outside"
    refinement_as_released: bool = False
    refinement_embedding: bool = True  # the refinement also sees the image embedding, not only the K logits
    refinement_hidden: int = 64  # 0: no refinement, the value is the expectation over the bins
    adapter_ratio: float = 0.5
    adapter_hidden: int = 128  # 0: no adapter
    label_offset: float = 0.0  # subtracted from labels in training, added back to the value
    loss_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)  # image to text, text to image, L1
    name: MethodName = "numclip"
    distance: Distance = "bins"  # what the weights of the losses grow with: bins apart, or units between their centers
    ranks: bool = False  # one bin per unit of the scale, named by its number, instead of the task's words
    base_ranks: int = 0  # OrdinalCLIP: so many learned embeddings, from which all ranks are interpolated; 0: words
    learns: tuple[str, ...] = ("image", "adapter", "refinement", "words", "context")  # groups of parameters

    @staticmethod
    def named(name: str) -> Method:
        """One of METHODS with its own switches; raises UsageError for another name.

        zero-shot: the task's words, nothing learned. coop (arXiv 2109.01134): a learned context before fixed numbers, one
        per unit, cross-entropy. ordinalclip (arXiv 2206.02338): rank embeddings interpolated from three learned ones,
        cross-entropy and KL. Each answers the expectation over its bins; the image tower is fine-tuned as NumCLIP's is.
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
        """Weights inside the exponent, lower edges, logits only, adapter ratio 0.8, label - 1; the context by task."""
        learns = ("image", "adapter", "refinement", "words", *(("context",) if learns_context else ()))
        return Method("inside", True, False, 10, 0.8, 128, label_offset, learns=learns)
