"""Make open_clip and timm importable if torchvision's compiled operators do not match the installed torch.

The torchvision wheel of the default index is compiled for a CUDA build of torch. With a CPU build its operators do not load,
and its import fails because it registers a meta kernel for an undefined operator. numclip never runs those operators, so it
is enough to declare them. If torchvision is intact, this module does nothing. Import it before open_clip or timm.
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
    declared = torch.library.Library("torchvision", "DEF")  # the declarations last as long as this object
    for operator in OPERATORS:
        declared.define(operator)
    importlib.import_module("torchvision")
