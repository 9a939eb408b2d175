"""Upload a model to the Hugging Face Hub, with a card whose metadata come from what the model says about itself.

`numclip push age.onnx age.int8.onnx hf://owner/name` makes the repository where there is none and writes one commit. Log in
first: `hf auth login`, or the environment variable HF_TOKEN. Then `numclip.load("hf://owner/name")` reads it anywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..deploy.hub import PushOptions, push_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip push`."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="the forms of one model, by name or .onnx, each of another precision"
    )
    parser.add_argument("to", metavar="hf://OWNER/NAME", help="the repository")
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE.md",
        help="the page for people, as numclip card writes it (default: a short one from what the model says)",
    )
    parser.add_argument(
        "--private", action="store_true", help="make a new repository private (default: the owner's rule)"
    )


def run(args: argparse.Namespace) -> int:
    """Upload; the last line is the next command."""
    pushed = push_models(PushOptions(args.models, args.to, args.card, args.private))
    print(f"{pushed.url}: {', '.join(pushed.files)}")
    print(f"next: numclip run 0 --model {args.to} --show")
    return 0
