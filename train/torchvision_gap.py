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

try:
    importlib.import_module("torchvision")
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    declared = torch.library.Library("torchvision", "DEF")  # the declarations live as long as this object
    for operator in OPERATORS:
        declared.define(operator)
    importlib.import_module("torchvision")
