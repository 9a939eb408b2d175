"""Flags that several commands have, so that one name has one meaning."""

from __future__ import annotations

import argparse

from ..runtime.contract.model_file import FINDER
from ..runtime.faces.opening import HELP
from ..runtime.sessions.session import DEVICES


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The model, where it runs, and the face detector."""
    parser.add_argument("--model", default="age-nano", help="a model's name, .onnx, or hf://owner/name")
    parser.add_argument("--device", default="auto", choices=DEVICES, help="where the model runs")
    parser.add_argument("--detector", default=FINDER, metavar="NAME|FILE", help=HELP)


def add_data(
    parser: argparse.ArgumentParser, use: str = "", required: bool = True, many: bool = True, default: object = None
) -> None:
    """--data, labelled faces; use: what for, as in `: the proof on val`."""
    from ..calibration.data.datasets import DATA_FORMS

    parser.add_argument(
        "--data",
        nargs="+" if many else None,
        required=required,
        default=default,
        metavar="DATA",
        help=f"labelled faces{use}: {DATA_FORMS}",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """--json, the result as one JSON object."""
    parser.add_argument("--json", metavar="FILE|-", help=f"write {what} as one JSON object, to a file or to stdout")
