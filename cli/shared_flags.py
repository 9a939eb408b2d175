"""Flags shared by several commands, so that one name has one meaning."""

from __future__ import annotations

import argparse

from ..runtime.contract.model_file import FINDER
from ..runtime.faces.opening import HELP
from ..runtime.sessions.session import DEVICES


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the model, its device and the face detector."""
    parser.add_argument(
        "--model",
        default="age-nano",
        help="model: a shipped model's name, an .onnx or .engine file, or hf://owner/name",
    )
    parser.add_argument(
        "--device",
        default="auto",
        choices=DEVICES,
        help="device that runs the model; auto takes CUDA if it is available, else the CPU (with OpenVINO, if it is "
        "installed, for models of at least a billion multiply-adds); openvino-bf16 computes in bfloat16",
    )
    parser.add_argument("--detector", default=FINDER, metavar="NAME|FILE", help=HELP)


def add_face_flags(parser: argparse.ArgumentParser, *, served: bool = False) -> None:
    """Add the flags of `FaceOptions`: the gate, the time budget, and which faces get a reading.

    served: for `numclip serve`, which reads every source live.
    """
    from ..runtime.live.face_options import FaceOptions

    add, default = parser.add_argument, FaceOptions
    add(
        "--gate",
        type=float,
        metavar="AGE",
        help="for each face, decide whether the person is at least AGE: yes, no, or ask (check ID) (default: no gate)",
    )
    add(
        "--gate-error",
        type=float,
        default=default.gate_error,
        metavar="SHARE",
        help="highest accepted error rate of the gate. Of the people up to 4 years below AGE, at most this share gets yes; of the "
        "people up to 4 years above, at most this share gets no. With --challenge or --cost only the second holds. A rate that "
        "the model's calibration cannot guarantee is an error",
    )
    add(
        "--challenge",
        type=float,
        metavar="AGE",
        help="answer yes only to people whose estimated age is at least this, such as 25 (default: chosen from --gate-error)",
    )
    add(
        "--cost",
        type=float,
        metavar="N",
        help="answer yes from the limit with the lowest total cost: a wrong yes costs N, and each person up to 10 years above AGE "
        "who is asked for ID costs 1; not together with --challenge (default: the limit is chosen from --gate-error)",
    )
    add(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="model time per frame of a source, in ms; inf removes the limit; uploaded pictures have none (default: 10)"
        if served
        else "model time per frame, in ms; inf removes the limit (default: 10 for live sources, no limit for files, "
        "so that their results do not depend on the machine's speed)",
    )
    add(
        "--max-faces",
        type=int,
        metavar="N",
        help="read at most N faces per frame, the largest first (default: 32 in video, no limit in pictures)",
    )
    add(
        "--min-face",
        type=int,
        default=default.min_face_px,
        metavar="PX",
        help="longer side of the smallest face that is read, in px; pictures, but not video, are enlarged up to twice "
        "to find such faces",
    )


def add_data(
    parser: argparse.ArgumentParser, use: str = "", required: bool = True, many: bool = True, default: object = None
) -> None:
    """Add --data, labelled faces; use: a note on the purpose, such as ` for the parity check`."""
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
    """Add --json, the result as one JSON object."""
    parser.add_argument(
        "--json", metavar="FILE|-", help=f"write {what} as one JSON object to FILE, or to stdout with -"
    )
