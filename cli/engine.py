"""Build a TensorRT engine from a model file, on the device that will run it.

The graph's types are taken as they are: build FP16 from `numclip export --precision fp16`, INT8 from `numclip quantize --flavour
tensorrt`. Batches of 1 to --max-batch run without building again. The engine is a cache for this card and this version: beside
it lies FILE.engine.json, which says what they are, and the engine is refused where they are not. With TensorRT-RTX and
--targets it is compiled on any machine, without a GPU. `numclip deploy triton` puts an engine into a Triton repository.
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
    add("model", metavar="MODEL", help="a model's name or .onnx, or a face finder's")
    add("--out", type=Path, required=True, metavar="FILE.engine", help="the engine to write")
    add(
        "--max-batch",
        type=int,
        metavar="N",
        help=f"the most faces in one call, or pictures for a face finder (default: {MAX_BATCH} faces, {MAX_PICTURES} pictures)",
    )
    add("--max-side", type=int, default=MAX_SIDE_PX, metavar="PX", help="longest side of a picture, for a face finder")
    add(
        "--workspace-mb",
        type=int,
        metavar="MB",
        help="memory of the card for building (default: half of what is free, at most 4096)",
    )
    add("--library", choices=PACKAGES, help="what builds it (default: tensorrt where it is installed)")
    add("--version-compatible", action="store_true", help="run with later versions too; larger, slower")
    add("--hardware-compatible", action="store_true", help="run on later cards too (TensorRT)")
    add(
        "--targets",
        type=_targets,
        default=(),
        metavar="86,89",
        help="cards to compile for, without one (TensorRT-RTX; default: the card that is here)",
    )


def run(args: argparse.Namespace) -> int:
    """Build, write, and say what to type next."""
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
        f"{made.out}: {made.out.stat().st_size / 1e6:.1f} MB, {built.library} {built.version}, for {built.gpu or 'cards of'} "
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
        raise argparse.ArgumentTypeError(f"expected compute capabilities as 86,89, got {text!r}") from None
