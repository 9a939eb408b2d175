"""Measure a model's mean absolute error, bias and interval coverage on labelled faces: overall, by range of true values, and by group.

If the labels are bands (`fairface:`, or a table with age_low and age_high), the report gives the share of values inside the
band, the share inside it or a neighbouring band, the distance to the band, and how often the interval overlaps or contains it.

Each face is detected and cropped as in a live run. Pictures in which no face is detected are reported as `skipped`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..calibration import EvaluateOptions, Evaluation, evaluate
from ..calibration.data.crop_cache import DEFAULT_DETECTOR, DETECTOR_HELP
from ..calibration.measure.band_measures import BandEvaluation
from ..calibration.measure.identity import FAR, Identity
from ..calibration.measure.measures import CLEARLY, GATE, SMALL, Figures, GateRow
from ..runtime.contract.gate_table import NEAR
from ..runtime.places import write_json
from .checkpoints import opened_checkpoint
from .shared_flags import add_data, add_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip evaluate`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="model: a shipped model's name, an .onnx or .engine file, or a checkpoint")
    add_data(parser, many=False)
    add(
        "--split",
        help="split to measure on: train, val, calibration, test or all (default: test if the data has splits, else "
        "all; if data without splits trained the model, the test pictures of that training)",
    )
    add("--detector", metavar="NAME|FILE", default=DEFAULT_DETECTOR, help=DETECTOR_HELP)
    add(
        "--device",
        default="auto",
        help="device that runs the model: auto, cpu, openvino, openvino-bf16, cuda or tensorrt",
    )
    add("--threads", type=int, metavar="N", help="CPU threads (default: chosen by the inference library)")
    add(
        "--stress",
        action="store_true",
        help="also measure on degraded copies of the pictures: blurred, dark, small, compressed, occluded",
    )
    add(
        "--looks",
        type=int,
        default=1,
        metavar="N",
        help="also measure the gates after N simulated looks; a look is one model call on one picture of the face",
    )
    add(
        "--identity",
        action="store_true",
        help="measure how well the outputs identify people; the data must name the person of each picture (column subject)",
    )
    add("--report", type=Path, metavar="DIR", help="write report.md, report.json and plots into this folder")
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print a table or write JSON."""
    checkpoint = opened_checkpoint(args.model)
    result = evaluate(
        EvaluateOptions(
            model=checkpoint or args.model,
            data=args.data,
            split=args.split,
            detector=args.detector,
            device=args.device,
            threads=args.threads,
            stress=args.stress,
            looks=args.looks,
            identity=args.identity,
            report_dir=args.report,
            model_name=args.model,
        )
    )
    if args.json != "-":
        print("\n".join(_band_table(result) if isinstance(result, BandEvaluation) else _table(result)))
        export = f"numclip export {args.model} --out FILE.onnx --data {args.data}"
        print(f"\nnext: {export if checkpoint else f'numclip info {args.model}'}")
    if args.json:
        write_json(args.json, result.to_json())
    return 0


def _band_table(result: BandEvaluation) -> list[str]:
    lines = [
        f"{result.model} on {result.data} ({result.split}), labels are bands: n {result.n}, skipped {result.skipped}",
        "",
        f"{'band or group':<26}{'n':>6}{'inside':>8}{'or next':>9}{'95 %':>14}{'older':>8}{'distance':>10}{'90 % meets':>12}",
    ]
    for name, row in result.named_rows():
        inside, near, above = (0.0 if r.share is None else r.share.value for r in (row.within, row.near, row.above))
        ends = "" if row.near.share is None else f"{row.near.share.low:.1%}-{row.near.share.high:.1%}"
        meets = "" if row.meets is None or row.meets.share is None else f"{row.meets.share.value:.1%}"
        lines.append(
            f"{name[:25]:<26}{row.n:>6}{inside:>8.1%}{near:>9.1%}{ends:>14}{above:>8.1%}{row.distance.value:>10.2f}{meets:>12}"
        )
    return lines


def _table(result: Evaluation) -> list[str]:
    lines = [
        f"{result.model} on {result.data} ({result.split}): MAE {result.mae:.2f} {result.unit}, "
        f"within 5: {result.cs5:.1%}, bias {result.bias:+.2f}, n {result.n}, skipped {result.skipped}",
        "",
        f"{'true value or group':<24}{'n':>7}{'MAE':>8}{'95 %':>14}{'bias':>8}{'inside 90 %':>13}",
    ]
    rows = result.named_rows() + [(row.name, row.figures) for row in result.stress]
    lines += [_line(name, row) for name, row in rows]
    lines += [_gate_line(row) for row in result.gates if (row.threshold, row.error) == GATE]
    lines += [] if result.identity is None else _identity_lines(result.identity)
    small = sum(row.few for _, row in rows)
    return [*lines, *([f"{small} rows have fewer than {SMALL} faces: their figures are rough"] if small else [])]


def _identity_lines(found: Identity) -> list[str]:
    lines = [
        f"telling {found.persons} persons apart (AUC, and genuine pairs accepted at false accept rates of {FAR[0]:g} and {FAR[1]:g}):"
    ]
    for s in found.separations:
        tar = ", ".join("too few pairs" if share is None else f"{share:.1%}" for share in s.tar)
        name = f"{s.output}{', like age' if s.like_age else ''}"
        lines.append(f"  {name:<24}{s.auc:.3f} ({s.auc_low:.3f} to {s.auc_high:.3f})  {tar}")
    said = f"leaks: {', '.join(found.leaks)}; persons of like age are told apart better than by their age"
    return [*lines, said if found.leaks else "no output tells persons of like age apart better than their age does"]


def _line(name: str, row: Figures) -> str:
    covered = "" if row.coverage is None else f"{row.coverage.value:.1%}"
    ends = f"{row.mae.low:.2f}-{row.mae.high:.2f}"
    return f"{name[:23]:<24}{row.n:>7}{row.mae.value:>8.2f}{ends:>14}{row.bias.value:>+8.2f}{covered:>13}"


def _gate_line(row: GateRow) -> str:
    said = f"gate {row.threshold:g} at {row.error:.0%}, {row.looks} look{'s' * (row.looks > 1)}: yes to "
    below, clear = row.rates.false_accept, row.rates.accept
    said += "" if below.share is None else f"{below.share.value:.1%} of {below.n} within {NEAR:g} below, "
    return said + (
        "" if clear.share is None else f"{clear.share.value:.1%} of {clear.n} from {row.threshold + CLEARLY:g}"
    )
