"""Build a TensorRT engine from a model file, on the device that will run it.

The engine keeps the precision of the model file: for FP16 use `numclip export --precision fp16`, for INT8 use `numclip quantize
--flavour tensorrt`. It runs any batch size from 1 to --max-batch. Without --version-compatible, --hardware-compatible or
--targets, an engine works only on the GPU and with the TensorRT version that it was built for. FILE.engine.json records what it was
built for, and numclip refuses to open it elsewhere. With TensorRT-RTX and --targets, it can be built on a machine without a GPU.
`numclip deploy triton` puts an engine into a Triton repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime import EngineOptions, build_engine
from ..runtime.sessions.engine_build import MAX_BATCH, MAX_PICTURES, MAX_SIDE_PX
from ..runtime.sessions.tensorrt_versions import PACKAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip engine`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="model or face detector: a shipped one's name, or an .onnx file")
    add("--out", type=Path, required=True, metavar="FILE.engine", help="engine file to write")
    add(
        "--max-batch",
        type=int,
        metavar="N",
        help=f"largest batch: faces, or pictures for a face detector (default: {MAX_BATCH} faces, {MAX_PICTURES} pictures)",
    )
    add(
        "--max-side",
        type=int,
        default=MAX_SIDE_PX,
        metavar="PX",
        help="for a face detector: longest side of a picture, in px",
    )
    add(
        "--workspace-mb",
        type=int,
        metavar="MB",
        help="GPU memory for the build, in MB (default: half of what is free, at most 4096)",
    )
    add(
        "--library",
        choices=PACKAGES,
        help="library that builds the engine (default: tensorrt if it is installed, else tensorrt_rtx)",
    )
    add(
        "--version-compatible",
        action="store_true",
        help="allow later TensorRT versions too; the engine is larger and slower",
    )
    add("--hardware-compatible", action="store_true", help="allow later GPU generations too (TensorRT only)")
    add(
        "--targets",
        type=_targets,
        default=(),
        metavar="86,89",
        help="with TensorRT-RTX: compute capabilities to build for, without such a GPU present (default: that of this "
        "machine's GPU)",
    )


def run(args: argparse.Namespace) -> int:
    """Build the engine, and print the next command."""
    made = build_engine(
        EngineOptions(
            model=args.model,
            out=args.out,
            max_batch=args.max_batch,
            max_side_px=args.max_side,
            workspace_mb=args.workspace_mb,
            library=args.library,
            version_compatible=args.version_compatible,
            hardware_compatible=args.hardware_compatible,
            targets=args.targets,
        )
    )
    built, cards = made.built, ", ".join(made.built.compute_capabilities)
    print(
        f"{made.out}: {made.out.stat().st_size / 1e6:.1f} MB, {built.library} {built.version}, for {built.gpu or 'compute capability'} "
        f"{cards}, up to {built.max_batch} {'pictures' if made.is_finder else 'faces'}"
    )
    if made.is_finder:
        print(f"next: numclip run 0 --detector {made.out} --device tensorrt")
    else:
        print(f"next: numclip verify {args.model} {made.out} --data DATA")
    return 0


def _targets(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected compute capabilities such as 86,89, got {text!r}") from None
