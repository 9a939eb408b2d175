"""Work on labelled faces, without torch: measure a model, fit its intervals and gates, quantize it, compare its files.

    evaluate(EvaluateOptions(...)) -> Evaluation        calibrate(CalibrateOptions(...)) -> Calibrated
    verify(VerifyOptions(...)) -> Verification          quantize(QuantizeOptions(...)) -> Quantized
    remove_layer(model, name)                           write_card(CardOptions(...))
    assure(AssureOptions(...)) -> (Assurance, Faces)    write_assurance(folder, ...)

Importing this package is fast; each name is imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .fitting import Calibrated as Calibrated
    from .fitting import CalibrateOptions as CalibrateOptions
    from .fitting import calibrate as calibrate
    from .fitting import remove_layer as remove_layer
    from .int8 import Quantized as Quantized
    from .int8 import QuantizeOptions as QuantizeOptions
    from .int8 import quantize as quantize
    from .measure.assure import Assurance as Assurance
    from .measure.assure import AssureOptions as AssureOptions
    from .measure.assure import assure as assure
    from .measure.assure_page import write_assurance as write_assurance
    from .measure.card import CardOptions as CardOptions
    from .measure.card import write_card as write_card
    from .measure.evaluation import EvaluateOptions as EvaluateOptions
    from .measure.evaluation import evaluate as evaluate
    from .measure.summary import Evaluation as Evaluation
    from .measure.verification import Verification as Verification
    from .measure.verification import VerifyOptions as VerifyOptions
    from .measure.verification import verify as verify

__all__ = [
    "Assurance",
    "AssureOptions",
    "CalibrateOptions",
    "Calibrated",
    "CardOptions",
    "EvaluateOptions",
    "Evaluation",
    "QuantizeOptions",
    "Quantized",
    "Verification",
    "VerifyOptions",
    "assure",
    "calibrate",
    "evaluate",
    "quantize",
    "remove_layer",
    "verify",
    "write_assurance",
    "write_card",
]

__getattr__ = lazy(
    __name__,
    {
        "Assurance": ".measure.assure",
        "AssureOptions": ".measure.assure",
        "CalibrateOptions": ".fitting",
        "Calibrated": ".fitting",
        "CardOptions": ".measure.card",
        "EvaluateOptions": ".measure.evaluation",
        "Evaluation": ".measure.summary",
        "Quantized": ".int8",
        "QuantizeOptions": ".int8",
        "Verification": ".measure.verification",
        "VerifyOptions": ".measure.verification",
        "assure": ".measure.assure",
        "calibrate": ".fitting",
        "evaluate": ".measure.evaluation",
        "quantize": ".int8",
        "remove_layer": ".fitting",
        "verify": ".measure.verification",
        "write_assurance": ".measure.assure_page",
        "write_card": ".measure.card",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
