"""Static INT8 of a model file, from the ranges that faces of the calibration split show, proven in the task's unit.

Weights are int8 per channel. There are two flavours, because no one form is right everywhere:

    cpu       unsigned activations: fast on ONNX Runtime's CPU; TensorRT's parser refuses it. Small: what stays float is
              stored in 8 or 16 bits too, and computed in float32
    tensorrt  symmetric signed activations, float biases: builds on TensorRT, fast on OpenVINO

The head (adapter, text bins, refinement) is always computed in float. Then the file answers for faces of the val split. If it
differs by more than the limits for INT8, nothing is written. --widen keeps as many layers in float as are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Generator
from pathlib import Path

from ..calibration import Quantized, QuantizeOptions, quantize
from ..calibration.int8_graph import FLAVOURS, RANGES
from ..runtime.places import write_json
from .shared_flags import add_data, add_json

DEFAULTS = QuantizeOptions("", (), Path())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip quantize`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model's name or a float32 .onnx")
    add_data(parser, " for ranges, proof and error")
    add("--out", type=Path, required=True, metavar="FILE.onnx", help="the INT8 file to write")
    add("--flavour", choices=FLAVOURS, default=DEFAULTS.flavour, help="what will run the file")
    add("--ranges", choices=list(RANGES), default=DEFAULTS.ranges, help="how a tensor's range is chosen")
    add(
        "--num-faces",
        type=int,
        default=DEFAULTS.num_faces,
        metavar="N",
        help="faces for the ranges, of split calibration where every data set has it",
    )
    add(
        "--proof-faces",
        type=int,
        default=DEFAULTS.proof_faces,
        metavar="N",
        help="faces for the proof, of split val where a data set has it",
    )
    add("--widen", action="store_true", help="keep in float the layers that need it, and name them")
    add_json(parser, "parity, kept layers and each layer's harm")


def run(args: argparse.Namespace) -> int:
    """Quantize, and say what to type next."""
    options = QuantizeOptions(
        model=args.model,
        data=args.data,
        out=args.out,
        flavour=args.flavour,
        ranges=args.ranges,
        num_faces=args.num_faces,
        proof_faces=args.proof_faces,
        widen=args.widen,
    )
    with _quiet_quantizer():
        made = quantize(options)
    if args.json:
        write_json(args.json, made.to_json())
    if args.json != "-":
        print("\n".join(_summary(made)))
        print(f"next: numclip calibrate {args.out} --data {' '.join(args.data)}")
    return 0


def _summary(made: Quantized) -> list[str]:
    spec, row, unit = made.spec, made.parity, made.spec.task.unit
    lines = [
        f"{made.out}: {made.out.stat().st_size / 1e6:.2f} MB, flavour {spec.graph.flavour}; on {row.n} faces MAE {row.mae:.3f} "
        f"({row.mae_change:+.3f} {unit} against fp32), values apart by {row.mean:.3f} in the mean, {row.p99:.2f} at p99"
    ]
    lines += [f"  kept in float: {name} (alone {made.harm[name]:.2f} of the limit)" for name in made.kept]
    lines += [f"  {m.data} {m.split}: MAE {m.mae:.2f} {unit}, n {m.n}" for m in spec.metrics]
    return lines


@contextlib.contextmanager
def _quiet_quantizer() -> Generator[None]:
    """ONNX Runtime's quantizer prints on stdout and logs through the root logger; stdout is for our report."""
    root, null = logging.getLogger(), logging.NullHandler()
    root.addHandler(null)  # without a handler the root logger would set one up for good
    root.addFilter(_nothing)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        root.removeFilter(_nothing)
        root.removeHandler(null)


def _nothing(record: logging.LogRecord) -> bool:
    return False
