"""Make a short clip from two real portraits that ship with well-known packages, and run the main job on it.

Rear Admiral Grace Hopper (matplotlib's sample data) and astronaut Eileen Collins (scikit-image's) move and change size
over a plain background. `numclip run` then leaves demo.mp4, demo.jsonl and demo.png. No network, no YuNet needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import DeviceError
from . import clip as demo_clip
from . import sheet as demo_sheet

NEEDS = {"cv2": "opencv-python", "onnxruntime": "onnxruntime", "matplotlib": "matplotlib", "skimage": "scikit-image"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip demo`."""
    parser.add_argument("--model", default="age-nano", help="model name or file")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "tensorrt"], help="where it runs")
    parser.add_argument("--detector", default="auto", choices=["auto", "yunet", "haar"], help="face detector")
    parser.add_argument("--out", default=".", metavar="DIR", help="folder for demo.mp4, demo.jsonl and demo.png")


def run(args: argparse.Namespace) -> int:
    """Make the clip, run on it, and show what came out."""
    demand_packages()
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    video, lines, sheet = (folder / f"demo.{suffix}" for suffix in ("mp4", "jsonl", "png"))
    with tempfile.TemporaryDirectory(prefix="numclip-demo-") as temporary:
        clip = Path(temporary) / "two_portraits.mp4"
        demo_clip.write_clip(clip)
        complete = _run(clip, args, video, lines)
    if not complete:
        return 1
    results = read_lines(lines)
    demo_sheet.write_sheet(video, sheet)
    print(demo_sheet.table(results))
    print(f"\nwrote {video}, {lines}, {sheet}")
    print("next: numclip run 0 --show")
    return 0


def demand_packages() -> None:
    """Raise DeviceError naming the packages that the demo lacks, and the one line that brings them."""
    missing = [package for module, package in NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        words = " and ".join(missing)
        line = 'pip install "numclip[demo]"'
        if not {"opencv-python", "onnxruntime"} & set(missing):
            line += f" (beside numclip[gpu] or numclip[headless]: pip install {' '.join(missing)})"
        raise DeviceError(f"the demo needs {words}, not installed here: {line}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The frames of a JSONL file, events left out."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "faces" in line]


def _run(clip: Path, args: argparse.Namespace, video: Path, lines: Path) -> bool:
    """`numclip run` on the clip; whether all of it was read."""
    from ..runtime import OutputOptions, RunOptions, run

    outputs = OutputOptions(save=video, jsonl=str(lines))
    options = RunOptions(
        (str(clip),), model=args.model, device=args.device, detector=args.detector, outputs=outputs, progress=True
    )
    summary = run(options)
    print(summary.sentence, file=sys.stderr)
    return summary.complete
