"""Let open_clip and timm import where torchvision's compiled operators do not fit the installed torch.

The registry's torchvision is compiled against a CUDA torch. Beside a CPU build its operators do not load, and importing
it fails because it registers a meta kernel for an operator that nobody defined. Nothing here runs those operators, so
declaring them is enough. Where torchvision is whole, this does nothing. Import it before open_clip or timm.
"""

from __future__ import annotations

import importlib
import sys

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # the declarations live as long as this object


def close_gap() -> bool:
    """Import torchvision; declare its missing operators if that is what keeps it from importing. True if it was."""
    global _library
    try:
        importlib.import_module("torchvision")
        return False
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _library is not None:
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        _library.define(operator)
    importlib.import_module("torchvision")
    return True


close_gap()
