"""Export a checkpoint to one self-describing .onnx file, and check on real faces that both give the same values.

The vectors of the words are computed once and stored as constants. The file takes uint8 crops and returns value, probabilities
and embedding. PyTorch and the new file then run on the same faces; if they differ by more than --max-difference, nothing is
written.

--precision fp16 computes the trunk (the layers of the image tower) in float16, and normalisation layers, softmax and the head
(adapter, words, refinement) in float32. For the comparison, the float16 network runs in PyTorch, because ONNX Runtime on a CPU would
compute the file in float32. --widen keeps in float32 the layers that overflow or lose too much precision in float16, and names them.
--storage fp16 halves the size of a float32 file: weights are stored in float16 and converted when the file is opened; the
arithmetic stays float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared_flags import add_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip export`."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="checkpoint: a .safetensors file that numclip train wrote"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="model file to write")
    without = "default: val faces that the training kept in this machine's cache; then no error is measured"
    add_data(parser, f" for the comparison (split val) and the error (split test) ({without})", required=False)
    parser.add_argument("--precision", choices=["fp32", "fp16"], default="fp32", help="precision of the arithmetic")
    parser.add_argument(
        "--storage",
        choices=["fp32", "fp16"],
        default="fp32",
        help="precision of the stored weights, with --precision fp32",
    )
    parser.add_argument(
        "--widen",
        action="store_true",
        help="with --precision fp16: keep in float32 the layers that need it, and name them",
    )
    parser.add_argument(
        "--max-difference",
        type=float,
        metavar="LIMIT",
        help="largest difference allowed, in the task's unit (default for ages: 0.02 in any value; with fp16, 0.1 in the mean and "
        "0.5 in the 99th percentile; for other tasks in proportion to their range)",
    )
    parser.add_argument(
        "--without-embedding",
        action="store_true",
        help="leave the embedding out of the outputs, so that nobody can match faces with it",
    )
    parser.add_argument(
        "--triton", type=Path, metavar="DIR", help="also write a Triton model repository into this folder"
    )
    parser.add_argument(
        "--backbone-licence",
        metavar="TEXT",
        help="licence of the start weights (default: the one in the checkpoint)",
    )


def run(args: argparse.Namespace) -> int:
    """Export, and print the difference from PyTorch, the error, and the next command."""
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
        f"{args.out}: {args.out.stat().st_size / 1000000.0:.1f} MB; differs from PyTorch by {row.mean or 0:.5f} "
        f"{row.unit} in the mean and by {row.max or 0:.5f} at most, on {row.n} faces"
    )
    if kept:
        print(f"  kept in float32: {', '.join(kept)}")
    for m in spec.metrics:
        print(f"  {m.data} {m.split}: MAE {m.mae:.2f} {spec.task.unit}, n {m.n}")
    if args.triton:
        from ..deploy.triton import write_repository

        write_repository(args.triton, args.out, spec)
        print(f"{args.triton}: Triton model repository written")
    print(f"next: numclip run 0 --model {args.out} --show")
    return 0
