"""A recipe: the trainings that made a shipped model, one after the other, each started from the one before.

`train/recipes/NAME.json` names the stages and the flags in which each differs from the defaults; a stage's `start` and
`teacher`s are earlier stages by name, the start by default the one before; with `start` null it begins from --pretrained, and
`pretrained` says which file that is. What a recipe leaves to the user is where things lie: the faces, those weights, the folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..runtime.places import write_whole

RECIPES = Path(__file__).parent / "recipes"
BEST = "best.safetensors"
LEFT_TO_THE_USER = ("data", "pretrained", "out", "threads", "resume", "smoke")


def recipe_names() -> list[str]:
    """The recipes that ship, by name."""
    return sorted(path.stem for path in RECIPES.glob("*.json"))


def stages(args: argparse.Namespace, defaults: dict[str, Any]) -> Iterator[argparse.Namespace]:
    """The flags of each stage, in order; each stage must have ended before the next one is asked for.

    defaults: every flag of `numclip train` by name. Raises UsageError where the user set a flag that the recipe fixes.
    """
    fixed = [n for n, v in defaults.items() if n not in (*LEFT_TO_THE_USER, "recipe") and getattr(args, n) != v]
    if fixed:
        flag = f"--{fixed[0].replace('_', '-')}"
        raise UsageError(f"expected --recipe {args.recipe} without {flag}, which the recipe fixes; leave it out")
    recipe = json.loads((RECIPES / f"{args.recipe}.json").read_text())
    if args.pretrained is None and not args.smoke:  # which would start at random, and show after hours
        raise UsageError(f"expected --recipe {args.recipe} with --pretrained {recipe['pretrained']}, got none; give it")
    start: Path | None = None
    for stage in recipe["stages"]:
        flags = {**vars(args), "start": start, **stage, "recipe": None}
        if "start" in stage:
            flags["start"] = stage["start"] and args.out / stage["start"] / BEST
        flags["teacher"] = [args.out / name / BEST for name in stage.get("teacher", [])]
        out: Path = args.out / flags.pop("name")
        if args.smoke:
            flags |= {"epochs": 1, "small_epochs": 0}
        if flags["start"] is not None:
            flags["pretrained"] = None
        yield argparse.Namespace(**{**flags, "out": out, "resume": args.resume and (out / "last.pt").exists()})
        start = out / BEST
    if start is not None:
        write_whole(args.out / BEST, start.read_bytes())
