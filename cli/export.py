"""Freeze a checkpoint into one self-describing .onnx, proven on real faces in the task's unit.

The text bins are computed once and become constants; the file takes uint8 crops and answers value, probabilities and
embedding. PyTorch and the written file are then run on real faces: if they differ by more than --max-difference, nothing is
written.

--precision fp16 writes a typed graph: the trunk in half, norms, softmax and head in float32. Its proof is the half network
in PyTorch, which rounds at every operation; a CPU runtime would compute it in float32. --widen keeps in float32 the layers
that overflow or round too much in half, and names them. --storage fp16 halves the file of a float32 graph: weights are stored
in half and cast when the file is opened; arithmetic stays float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared_flags import add_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip export`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a .safetensors that numclip train wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the model file to write")
    without = "without: on faces of val that the training kept in the cache of this machine, and no error"
    add_data(parser, f" for the proof on val and the error on test ({without})", required=False)
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32", help="of the arithmetic")
    parser.add_argument("--storage", choices=["fp32", "fp16"], default="fp32", help="of the weights in a float32 file")
    parser.add_argument("--widen", action="store_true", help="with fp16: keep in float32 the layers that need it")
    parser.add_argument(
        "--max-difference",
        type=float,
        metavar="YEARS",
        help="largest difference allowed, in the task's unit; by default 0.02, and for fp16 0.1 in the mean and 0.5 at p99",
    )
    parser.add_argument(
        "--without-embedding",
        action="store_true",
        help="leave the embedding out of the outputs, so that nobody can compare faces by it",
    )
    parser.add_argument("--triton", type=Path, metavar="DIR", help="also write a Triton model repository there")
    parser.add_argument(
        "--backbone-licence", metavar="TEXT", help="licence of the start weights, if the checkpoint does not record it"
    )


def run(args: argparse.Namespace) -> int:
    """Export, and say how far the file is from PyTorch, its error, and what to type next."""
    from ..export import ExportOptions, export

    options = ExportOptions(
        args.checkpoint,
        args.out,
        tuple(args.data or ()),
        args.precision,
        args.storage,
        args.widen,
        args.max_difference,
        args.without_embedding,
        args.backbone_licence,
    )
    spec = export(options)
    row, kept = spec.parity[args.precision], spec.provenance.kept_float32
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, differs from PyTorch by {row.mean or 0:.5f} {row.unit} "
        f"in the mean, at most {row.max or 0:.5f}, on {row.n} faces"
    )
    if kept:
        print(f"  kept in float32: {', '.join(kept)}")
    for m in spec.metrics:
        print(f"  {m.data} {m.split}: MAE {m.mae:.2f} {spec.task.unit}, n {m.n}")
    if args.triton:
        from ..deploy.triton import write_repository

        write_repository(args.triton, args.out, spec)
        print(f"{args.triton}: a Triton model repository")
    print(f"next: numclip run 0 --model {args.out} --show")
    return 0
