"""Quantize a model file to static INT8, and check its accuracy on real faces.

Activation ranges come from faces of the calibration split; weights are int8 per channel. There are two flavours, because no
single form works on every runtime:

    cpu       unsigned activations: fast in ONNX Runtime on a CPU; TensorRT cannot parse it. The file is small: layers that
              stay float are stored in 8 or 16 bits too, and computed in float32
    tensorrt  symmetric signed activations, float biases: builds on TensorRT, fast in OpenVINO

The head (adapter, words, refinement) is always computed in float. The new file then runs on faces of the val split. For ages,
nothing is written if the values differ from MODEL's by more than 0.5 years in the mean, or if the mean absolute error grows by
more than 0.05 years; other tasks have limits in proportion to their range. --widen keeps layers in float, the most harmful first,
until the file is within these limits. The new file has no intervals and no gates: run numclip calibrate on it.
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
    add("model", metavar="MODEL", help="model: a shipped model's name or a float32 .onnx file")
    add_data(parser, " for the ranges, the check and the error")
    add("--out", type=Path, required=True, metavar="FILE.onnx", help="INT8 file to write")
    add("--flavour", choices=FLAVOURS, default=DEFAULTS.flavour, help="runtime that the file is for")
    add("--ranges", choices=list(RANGES), default=DEFAULTS.ranges, help="method that chooses each activation's range")
    add(
        "--num-faces",
        type=int,
        default=DEFAULTS.num_faces,
        metavar="N",
        help="number of faces for the ranges, from split calibration if every data set has one",
    )
    add(
        "--proof-faces",
        type=int,
        default=DEFAULTS.proof_faces,
        metavar="N",
        help="number of faces for the accuracy check, from split val if a data set has one",
    )
    add(
        "--widen",
        action="store_true",
        help="keep in float the layers that need it, and name them",
    )
    add_json(parser, "the differences from MODEL, the layers kept in float and each layer's error")


def run(args: argparse.Namespace) -> int:
    """Quantize, and print the next command."""
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
    if args.json != "-":
        print("\n".join(_summary(made)))
        print(f"next: numclip calibrate {args.out} --data {' '.join(args.data)}")
    if args.json:
        write_json(args.json, made.to_json())
    return 0


def _summary(made: Quantized) -> list[str]:
    spec, row, unit = made.spec, made.parity, made.spec.task.unit
    lines = [
        f"{made.out}: {made.out.stat().st_size / 1000000.0:.2f} MB, flavour {spec.graph.flavour}; on {row.n} faces "
        f"MAE {row.mae:.3f} ({row.mae_change:+.3f} {unit} from fp32), values differ by {row.mean:.3f} in the mean "
        f"and {row.p99:.2f} at p99"
    ]
    lines += [f"  kept in float: {name} (by itself {made.harm[name]:.2f} of the limit)" for name in made.kept]
    lines += [f"  {m.data} {m.split}: MAE {m.mae:.2f} {unit}, n {m.n}" for m in spec.metrics]
    return lines


@contextlib.contextmanager
def _quiet_quantizer() -> Generator[None]:
    """ONNX Runtime's quantizer prints on stdout and logs through the root logger; stdout is for our report."""
    root, null = logging.getLogger(), logging.NullHandler()
    root.addHandler(null)  # otherwise the root logger installs a permanent handler
    root.addFilter(_nothing)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        root.removeFilter(_nothing)
        root.removeHandler(null)


def _nothing(record: logging.LogRecord) -> bool:
    return False
