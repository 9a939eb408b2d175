"""Measure an age gate as age-assurance evaluations do, and write a report: HTML, JSON, a table of faces, a draft practice statement.

The report gives the rates of a wrong yes and of a wrong no by year of age and by group, for every limit from which the gate answers
yes and for every challenge age; the ratios of these rates between groups; how often a second picture of the same face gets the
same answer; and who is asked for ID at each setting. Every rate comes with its exact 95 % interval. The draft practice statement,
which says how the gate is used and how well it works, follows the order of the sections of ISO/IEC 27566-1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration import AssureOptions, assure, write_assurance
from ..calibration.data.crop_cache import DEFAULT_DETECTOR, DETECTOR_HELP
from ..runtime.contract.gate_table import AROUND, NEAR
from ..runtime.places import check_folder, write_json
from .shared_flags import add_data, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip assure`."""
    add, default = parser.add_argument, AssureOptions
    add("model", metavar="MODEL", help="model: a shipped model's name, an .onnx or an .engine file")
    add_data(parser)
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write the report into")
    add(
        "--threshold",
        type=float,
        default=default.threshold,
        metavar="AGE",
        help="age that the gate asks about, as --gate of numclip run: is the person at least this old?",
    )
    add(
        "--challenge",
        type=float,
        default=default.challenge,
        metavar="AGE",
        help="challenge age to measure: answer yes only to people whose estimated age is at least this",
    )
    add(
        "--gate-error",
        type=float,
        default=default.error,
        metavar="SHARE",
        help="error rate of the gate to measure beside the challenge age, between 0 and 1",
    )
    add(
        "--split",
        help="split to measure on: train, val, calibration, test or all (default: test if the data has splits, else "
        "all)",
    )
    add("--detector", metavar="NAME|FILE", default=DEFAULT_DETECTOR, help=DETECTOR_HELP)
    add(
        "--device",
        default=default.device,
        help="device that runs the model: auto, cpu, openvino, openvino-bf16, cuda or tensorrt",
    )
    add("--threads", type=int, metavar="N", help="CPU threads (default: chosen by the inference library)")
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    """Measure, write the report, and print the main figures."""
    check_folder(args.out)
    found, faces = assure(
        AssureOptions(
            model=args.model,
            data=args.data,
            threshold=args.threshold,
            challenge=args.challenge,
            error=args.gate_error,
            split=args.split,
            detector=args.detector,
            device=args.device,
            threads=args.threads,
        )
    )
    written = write_assurance(args.out, found, faces)
    if args.json:
        write_json(args.json, found.to_json())
    if args.json != "-":
        print(f"{args.model} at {found.threshold:g}: {found.n} faces, {found.near_below} within {NEAR:g} years below")
        for s in found.settings:
            if (s.dial, s.at) in (("error", found.error), ("challenge", found.challenge)) and s.below and s.clear:
                below, clear = s.below.yes, s.clear.yes
                print(
                    f"  {s.dial} {s.at:g}: yes to {below.hits} of {below.n} within {NEAR:g} below "
                    f"({100 * (below.low or 0):.1f} to {100 * (below.high or 0):.1f} %), to {100 * (clear.share or 0):.1f} % of {clear.n} "
                    f"from {found.threshold + AROUND:g} on"
                )
        print(f"next: open {written[0]}")
    return 0
