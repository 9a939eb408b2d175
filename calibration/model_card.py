"""Write a model's card from measurements: what it is, on what it was measured, for whom it is wrong, what it must not do.

    python -m numclip.calibration.model_card MODEL --data utkface:PATH aaf:PATH --out docs/age-nano.md

Every figure is computed by this command on the `test` splits; nothing is typed in.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runtime.info import commercial_use
from ..runtime.model import Model, load
from ..runtime.spec import ModelSpec
from .datasets import open_data
from .evaluate import named_rows, predict_dataset, report, stress
from .measures import SMALL
from .report import table

USES = """\
## For what, and for what not

Meant for: research, demonstrations, measuring how fast and how well small models read apparent age, counting visitors
by coarse age group where no decision about a person follows.

Not for: deciding whether a person may buy, enter, work or be believed; identifying or tracking a person; judging a child. The value is
an estimate of how old a face looks in one picture. It knows nothing of the person, and it is less sure for some groups
than for others, as the tables show.
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.md")
    args = parser.parse_args()
    args.out.write_text(card(load(args.model), args.data), encoding="utf-8")
    print(f"wrote {args.out}")


def card(model: Model, data: Sequence[str]) -> str:
    """The card as Markdown."""
    spec = model.spec
    sections = [_head(spec), _errors(model, data), _training(spec), USES, _licences(spec)]
    return "\n".join(sections)


def _head(spec: ModelSpec) -> str:
    bins = ", ".join(
        f"{w} ({a:g}-{b:g})"
        for w, a, b in zip(spec.task.words, spec.task.bin_edges, spec.task.bin_edges[1:], strict=False)
    )
    size = spec.graph
    fp32: dict[str, Any] = spec.parity.get("fp32", {})
    text = "with" if spec.provenance.get("language_pretrained") else "without"
    return f"""# {spec.name}

Reads {spec.task.name} in {spec.task.unit} off a face crop of {spec.crop.side} x {spec.crop.side} px. This page is written by
`python -m numclip.calibration.model_card` from measurements.

| | |
|---|---|
| method | NumCLIP (arXiv 2408.03574): {spec.task.num_bins} text bins, ranking losses, refinement; text tower {text} language pre-training |
| image tower | {spec.provenance.get("backbone")}, started from {spec.provenance.get("pretrained") or "random weights"} |
| size | {size.get("parameters", 0) / 1e6:.2f} million parameters, {size.get("multiply_adds", 0) / 1e6:.0f} million multiply-adds per face |
| parity | at most {fp32.get("max", float("nan")):.5f} {spec.task.unit} from PyTorch on {fp32.get("n", 0)} faces |
| bins | {bins} |
"""


def _errors(model: Model, data: Sequence[str]) -> str:
    lines = ["## How wrong it is", "", f"In brackets: 95 % bootstrap intervals. (few): under {SMALL} faces.", ""]
    for text in data:
        dataset = open_data(text).select(None)
        predictions = predict_dataset(model, dataset)
        full = report(predictions, {"stress": stress(model, predictions.faces)})
        low, high = full["all"]["mae_95"]
        skipped = f", {full['skipped']} without a detected face" if full["skipped"] else ""
        lines += [
            f"### {dataset.kind}, test split ({full['n']} faces{skipped})",
            "",
            f"MAE **{full['mae']:.2f}** {model.spec.task.unit} (95 % bootstrap {low:.2f}-{high:.2f}), within 5: {full['cs5']:.1%}, "
            f"bias {full['bias']:+.2f}. {_coverage(full)}",
            "",
            *table(named_rows(full), "true value, group or kind of picture"),
            "",
        ]
    return "\n".join(lines)


def _coverage(full: dict[str, Any]) -> str:
    shares = [(level, full["coverage"][level], full["width"][level]) for level in full["coverage"]]
    if shares[0][1] is None:
        return "Not calibrated: no intervals."
    said = "Intervals: " + "; ".join(f"{float(k):.0%} hold {c:.1%}, width {w:.1f}" for k, c, w in shares) + "."
    width = full["width_at_equal_coverage"]
    return (
        f"{said} At equal coverage one quantile for everybody is {width['global']:.1f} wide, the words' probabilities "
        f"alone {width['words']:.1f}, these {width['ours']:.1f}."
    )


def _training(spec: ModelSpec) -> str:
    training: dict[str, Any] = spec.provenance.get("training", {})
    lines = ["## What it was made from", ""]
    for name, counts in training.get("data", {}).items():
        lines.append(
            f"- {name}, train split: {counts['n']} faces ({counts['conflicting']} exact copies with conflicting labels and "
            f"{counts['copies']} other copies dropped, {counts['skipped']} without a detected face); chosen on its val split."
        )
    if spec.calibration is not None:
        sets = ", ".join(f"{d['n']} faces of {d['data']} ({d['split']})" for d in spec.calibration["data"])
        lines.append(f"- Intervals: {sets}; split conformal, held out of training and selection.")
    flags: dict[str, Any] = training.get("flags", {})
    shown = ", ".join(
        f"{k} {v}" for k, v in flags.items() if k in ("epochs", "batch", "lr", "small_side", "small_epochs", "seed")
    )
    return "\n".join([*lines, f"- Flags: {shown}; best epoch {training.get('epoch')}.", ""])


def _licences(spec: ModelSpec) -> str:
    allowed, why = commercial_use(spec.licences)
    lines = ["## Licences", "", *(f"- {part}: {text}" for part, text in spec.licences.items())]
    return "\n".join([*lines, f"- commercial use: {'yes' if allowed else 'no'} ({why})", ""])


if __name__ == "__main__":
    main()
