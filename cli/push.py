"""Upload a model to the Hugging Face Hub, with a model card made from the metadata in the file.

`numclip push age.onnx age.int8.onnx hf://owner/name` creates the repository if it does not exist, and writes one commit. Log
in first, with `hf auth login` or the environment variable HF_TOKEN. Afterwards `numclip.load("hf://owner/name")` opens the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..deploy.hub import PushOptions, push_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip push`."""
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="files of one model, by name or as .onnx files, each of a different precision",
    )
    parser.add_argument("to", metavar="hf://OWNER/NAME", help="repository to upload to")
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE.md",
        help="model card (Markdown) to upload, as numclip card writes it (default: a short one made from the file's "
        "metadata)",
    )
    parser.add_argument(
        "--private",
        action="store_true",
        help="if the repository is new, make it private (default: the account's setting)",
    )


def run(args: argparse.Namespace) -> int:
    """Upload, and print the next command."""
    pushed = push_models(PushOptions(args.models, args.to, args.card, args.private))
    print(f"{pushed.url}: {', '.join(pushed.files)}")
    print(f"next: numclip run 0 --model {args.to} --show")
    return 0
