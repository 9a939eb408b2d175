"""Fit intervals and age gates on labelled faces, and write a model file that contains them; the graph is not changed.

A gate answers yes, no or ask: is the person at least AGE?

Use faces that the model was neither trained nor selected on and that resemble those of your cameras. On such faces, a 90 %
interval then contains the true value of nine faces in ten. --layer adds a correction for one location (an offset and quantiles
of its own), fitted on 50 to 200 faces from there; --remove-layer takes it off again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration import Calibrated, CalibrateOptions, calibrate, remove_layer
from ..calibration.data.crop_cache import DEFAULT_DETECTOR
from ..errors import UsageError
from ..runtime.places import write_json
from .shared_flags import add_data, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip calibrate`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="model: a shipped model's name or an .onnx file")
    add_data(parser, " to fit on (unless --remove-layer is given)", required=False)
    add("--split", default="calibration", help="split to fit on; if the data has no splits, give --split all")
    add(
        "--detector",
        metavar="NAME|FILE",
        default=DEFAULT_DETECTOR,
        help="face detector that the model will be used with: a name or a file",
    )
    add(
        "--every-set",
        action="store_true",
        help="widen the intervals until they hold on each data set alone (default: they hold on all data sets taken "
        "together)",
    )
    add(
        "--layer",
        metavar="NAME",
        help="add a correction for one site under this name: its own offset and quantiles (default: fit the calibration "
        "itself)",
    )
    add("--remove-layer", metavar="NAME", help="remove the layer of this name, instead of fitting")
    add(
        "--out",
        type=Path,
        metavar="FILE.onnx",
        help="file to write; may be MODEL's own file (default: ./NAME.calibrated.onnx)",
    )
    add_json(parser, "the fitted calibration")


def run(args: argparse.Namespace) -> int:
    """Calibrate, or remove a layer, and print what was measured."""
    if (args.data is None) == (args.remove_layer is None):
        raise UsageError("expected either --data with labelled faces, or --remove-layer NAME; give one of them")
    if args.every_set and (args.layer or args.remove_layer):
        raise UsageError("--every-set fits the calibration itself, not a layer; leave out --layer and --remove-layer")
    if args.layer and args.remove_layer:
        raise UsageError("--layer and --remove-layer are two steps; first remove, then add")
    if args.remove_layer is not None:
        made, said = remove_layer(args.model, args.remove_layer, args.out), f"layer {args.remove_layer} removed"
    else:
        made = calibrate(
            CalibrateOptions(
                model=args.model,
                data=args.data,
                split=args.split,
                detector=args.detector,
                layer=args.layer,
                every_set=args.every_set,
                out=args.out,
            )
        )
        said = _said(made, args.layer)
    if args.json:
        apart = {name: part.to_json() for name, part in made.left_out.items()}
        write_json(args.json, made.calibration.to_json() | ({"left_out": apart} if apart else {}))
    if args.json != "-":
        print(f"{made.out}: {said}")
        for name, part in made.left_out.items():
            print(
                f"  fitted without {name}: 90 % intervals contain {part.coverage:.1%} of its true values, mean width {part.width:.1f}, "
                f"{part.width_of_others:.1f} on the others"
            )
        print(f"next: numclip evaluate {made.out} --data {(args.data or ['DATA'])[0]}")
    return 0


def _said(made: Calibrated, layer: str | None) -> str:
    calibration = made.calibration
    if layer is None:
        shares = ", ".join(f"{float(k):.0%}: {v:.1%}" for k, v in calibration.coverage.items()) or "too few faces"
        return f"calibrated on {made.n} faces; coverage in cross-validation: {shares}"
    held = ", ".join(f"{at} from {table.lowest_error:.1%}" for at, table in calibration.gates.items())
    held = held or "none (no faces near a threshold)"
    return (
        f"layer {layer} from {made.n} faces: offset {calibration.table.offset:+.2f} {made.spec.task.unit}; gates {held}"
    )
