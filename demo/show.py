"""Make a short clip from two real portraits that ship with well-known packages, and run the main job on it."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import DeviceError
from ..runtime import OutputOptions, RunOptions, run
from ..runtime.contract.model_file import FINDER
from . import clip as demo_clip
from . import sheet as demo_sheet
from .sheet import FrameLine

log = logging.getLogger(__name__)

NEEDS = {"cv2": "opencv-python", "onnxruntime": "onnxruntime", "matplotlib": "matplotlib", "skimage": "scikit-image"}


@dataclass(frozen=True)
class DemoOptions:
    """What the demo runs with, and where its files go."""

    model: str = "age-nano"
    """Model name or file."""
    device: str = "auto"
    """Where the model runs."""
    detector: str = FINDER
    """The face detector."""
    out: Path = Path()
    """Folder for demo.mp4, demo.jsonl and demo.png; it is made if need be."""


@dataclass(frozen=True)
class Shown:
    """What the demo made."""

    video: Path
    lines: Path
    sheet: Path
    table: str
    """Ages per track, for a person."""


def demo(options: DemoOptions | None = None) -> Shown:
    """Make the clip, run on it, and show what came out; raises DeviceError naming the packages that are missing."""
    options = options or DemoOptions()
    demand_packages()
    options.out.mkdir(parents=True, exist_ok=True)
    video, lines, sheet = (options.out / f"demo.{suffix}" for suffix in ("mp4", "jsonl", "png"))
    with tempfile.TemporaryDirectory(prefix="numclip-demo-") as temporary:
        clip = Path(temporary) / "two_portraits.mp4"
        demo_clip.write_clip(clip)
        _run(clip, options, video, lines)
    demo_sheet.write_sheet(video, sheet)
    return Shown(video, lines, sheet, demo_sheet.table(read_lines(lines)))


def demand_packages() -> None:
    """Raise DeviceError naming the packages that the demo lacks, and the one line that brings them."""
    missing = [package for module, package in NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        words = " and ".join(missing)
        line = 'pip install "numclip[demo]"'
        if not {"opencv-python", "onnxruntime"} & set(missing):
            line += f" (beside numclip[gpu] or numclip[headless]: pip install {' '.join(missing)})"
        raise DeviceError(f"the demo needs {words}, not installed here: {line}")


def read_lines(path: Path) -> list[FrameLine]:
    """The frames of a JSONL file, events left out."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [cast("FrameLine", line) for line in lines if "faces" in line]


def _run(clip: Path, options: DemoOptions, video: Path, lines: Path) -> None:
    """`numclip run` on the clip."""
    summary = run(
        RunOptions(
            (str(clip),),
            model=options.model,
            device=options.device,
            detector=options.detector,
            outputs=OutputOptions(save=video, jsonl=str(lines)),
            progress=True,
        )
    )
    log.info(summary.sentence)
