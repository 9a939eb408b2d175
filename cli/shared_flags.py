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


def add_face_flags(parser: argparse.ArgumentParser) -> None:
    """The gate, the bound of model time, and which faces are read: the flags of `FaceOptions`."""
    from ..runtime.live.face_options import FaceOptions

    add, default = parser.add_argument, FaceOptions
    add("--gate", type=float, metavar="AGE", help="answer for each face: at least so old? yes, no, ask")
    add(
        "--gate-error",
        type=float,
        default=default.gate_error,
        metavar="SHARE",
        help="highest share of people within 4 years of the age, on either side, who may be answered wrongly; refused where "
        "the model's calibration cannot show it",
    )
    add(
        "--challenge",
        type=float,
        metavar="AGE",
        help="yes to those read as so old or older, such as 25 (default: --gate-error)",
    )
    add(
        "--cost",
        type=float,
        metavar="N",
        help="one wrong yes is as bad as N people up to 10 years above the age who are asked (default: --gate-error)",
    )
    add(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="model time per frame; inf: no bound (default: 10 for live sources; no bound for files, whose results would "
        "otherwise depend on the machine's speed)",
    )
    add(
        "--max-faces",
        type=int,
        metavar="N",
        help="at most so many faces per frame, the largest (default: 32 in video, all in a picture)",
    )
    add(
        "--min-face",
        type=int,
        default=default.min_face_px,
        metavar="PX",
        help="longer side of the smallest face that is read; pictures, but not video, are enlarged for it, at most twice",
    )


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
