"""Write what another machine needs to run a model: a setup kit for a Jetson, or a model repository for NVIDIA Triton.

`numclip deploy jetson --out DIR` writes container files, a systemd unit, and scripts that build, verify and update the
TensorRT engine. Copy the folder to the board and run install.sh there (docs/jetson.md).

`numclip deploy triton MODEL --out DIR` writes MODEL with its config into the Triton model repository DIR.

`numclip deploy jetson --help` and `numclip deploy triton --help` list the flags.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..deploy.kit import SOURCE, JetsonKitOptions, jetson_kit
from ..deploy.triton import MAX_BATCH, triton_repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip deploy`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="jetson|triton")
    jetson = kinds.add_parser("jetson", help="write the setup kit for a Jetson board", allow_abbrev=False)
    jetson.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; must be new or empty")
    jetson.add_argument(
        "--source",
        default=SOURCE,
        help="video source on the board: a camera, csi://0, rtsp://… (default: %(default)s)",
    )
    jetson.add_argument(
        "--wheel",
        type=Path,
        metavar="FILE.whl",
        help="numclip wheel to put into the kit (default: built from this checkout)",
    )
    triton = kinds.add_parser("triton", help="write a model repository for NVIDIA Triton", allow_abbrev=False)
    triton.add_argument("model", metavar="MODEL", help="model: a shipped model's name, an .onnx or an .engine file")
    triton.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="repository folder; other models in it are kept"
    )
    triton.add_argument(
        "--max-batch",
        type=int,
        metavar="N",
        help=f"largest batch, in faces (default: {MAX_BATCH}; for an engine, the batch it was built for)",
    )


def run(args: argparse.Namespace) -> int:
    """Write it, and print the next command."""
    if args.kind == "triton":
        print(f"{triton_repository(args.model, args.out, args.max_batch)}: Triton model written")
        print(f"next: tritonserver --model-repository {args.out}")
        return 0
    out = jetson_kit(JetsonKitOptions(args.out, args.source, args.wheel))
    print(f"{out}: {', '.join(sorted(p.name for p in out.iterdir()))}")
    print(f"next: scp -r {out} BOARD: && ssh -t BOARD sudo ./{out.name}/install.sh")
    return 0
