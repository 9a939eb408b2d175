"""Make a short clip from two real portraits that ship with well-known packages, and run numclip on it."""

from __future__ import annotations

import importlib.util
import json
import logging
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
    """Options of the demo."""

    model: str = "age-nano"
    """Name of a model, or a model file."""
    device: str = "auto"
    """Device that runs the model."""
    detector: str = FINDER
    """The face detector."""
    out: Path = Path()
    """Folder for clip.mp4, demo.mp4, demo.jsonl and demo.png; it is created if necessary."""


@dataclass(frozen=True)
class Shown:
    """The demo's results."""

    clip: Path
    """The video that was made and read."""
    video: Path
    """The same video with boxes and ages."""
    lines: Path
    sheet: Path
    table: str
    """Table of ages per track, as text."""


def demo(options: DemoOptions | None = None) -> Shown:
    """Make the clip, run numclip on it and return the results; raises DeviceError that names missing packages."""
    options = options or DemoOptions()
    demand_packages()
    options.out.mkdir(parents=True, exist_ok=True)
    video, lines, sheet = (options.out / f"demo.{suffix}" for suffix in ("mp4", "jsonl", "png"))
    clip = options.out / "clip.mp4"
    demo_clip.write_clip(clip)
    _run(clip, options, video, lines)
    demo_sheet.write_sheet(video, sheet)
    return Shown(clip, video, lines, sheet, demo_sheet.table(read_lines(lines)))


def demand_packages() -> None:
    """Raise DeviceError with the missing packages and the command that installs them."""
    missing = [package for module, package in NEEDS.items() if importlib.util.find_spec(module) is None]
    if missing:
        words = " and ".join(missing)
        line = 'pip install "numclip[demo]"'
        if not {"opencv-python", "onnxruntime"} & set(missing):
            line += f" (if numclip[gpu] or numclip[headless] is installed: pip install {' '.join(missing)})"
        raise DeviceError(f"the demo needs packages that are not installed: {words}; run: {line}")


def read_lines(path: Path) -> list[FrameLine]:
    """Return the frames in a JSONL file, without events."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [cast("FrameLine", line) for line in lines if "faces" in line]


def _run(clip: Path, options: DemoOptions, video: Path, lines: Path) -> None:
    """Run `numclip run` on the clip."""
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
