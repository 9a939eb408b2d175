"""The experiments of the paper and of its open questions: python -m numclip.research NAME --data DATA --out DIR.

OUT gets NAME.json (one record per finished run), NAME.md (table and set-up; what you write around the generated part
stays) and NAME.png. Killed and started again, a study does the runs that are missing. Three seeds, mean and sample
standard deviation. By default the image tower is frozen and a run trains what follows it, in seconds on one core.

NAME: all, or one of coarse, loss, features, granularity, extrapolation, overhead, sensitivity, transfer, domains,
few-shot, shift.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import torch

from ..errors import NumclipError, UsageError
from ..runtime.places import write_json
from ..train.checkpoint import file_sha256, read_record
from .studies.bench import Settings
from .studies.carry_out import NAMES, carry_out_and_write, study_named
from .studies.frame import Results

BUDGETS: dict[str, tuple[int | None, int, int]] = {  # faces of a data set, steps and seeds of a run
    "small": (6000, 200, 3),
    "full": (None, 3000, 5),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a study."""
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(NAMES)}, or all")
    parser.add_argument("--data", nargs="+", default=[], metavar="DATA", help="labelled faces; transfer needs two sets")
    parser.add_argument("--out", required=True, type=Path, help="the folder of NAME.json, NAME.md and NAME.png")
    parser.add_argument("--budget", choices=sorted(BUDGETS), default="small", help="faces, steps and seeds of a run")
    parser.add_argument(
        "--num-faces", type=int, metavar="N", help="training pictures per data set at most; the budget's"
    )
    parser.add_argument("--steps", type=int, help="steps of a training; the budget's")
    parser.add_argument("--seeds", type=int, help="runs of each row; the budget's")
    parser.add_argument("--batch", type=int, default=Settings.batch, help="pictures per step")
    parser.add_argument("--lr", type=float, default=Settings.lr, help="highest learning rate")
    parser.add_argument("--task", default=Settings.task, help="a task in train/tasks/ or a .json file")
    parser.add_argument("--model", default=Settings.model, help="nano, small, or any open_clip model name")
    parser.add_argument("--pretrained", help="an open_clip tag, a CLIP's weights, or converted start weights")
    parser.add_argument("--tower", choices=["frozen", "trained"], default="frozen", help="the image tower")
    parser.add_argument("--checkpoint", metavar="FILE", help="features: a trained network to look at beside the others")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    parser.add_argument("--json", metavar="FILE", help="also write all results here; - for stdout")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one study or all, and say where its page is; 0, or 1 or 2 after one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m numclip.research", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except NumclipError as error:
        print(f"numclip: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def run(args: argparse.Namespace) -> int:
    """Do the studies that the flags name."""
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    names = NAMES if args.name == "all" else (args.name,)
    settings, seeds = settings_of(args)
    studies = [study_named(name) for name in names]
    for study in studies:  # before hours of work, not in the midst of them
        if study.needs_data and not settings.data:
            raise UsageError(f"expected --data for the study {study.name}, got none; as --data utkface:utkface.tar")
        study.rows(settings)
    found: list[Results] = []
    for name, study in zip(names, studies, strict=True):
        found.append(carry_out_and_write(study, settings, seeds, args.out))
        where = sys.stderr if args.json == "-" else sys.stdout
        print(f"{name}: {len(found[-1].runs)} runs, {args.out / f'{name}.md'}", file=where)
    if args.json:
        content = [{"study": r.study, "base": asdict(r.base), "runs": [run.to_json() for run in r.runs]} for r in found]
        write_json(args.json, content if args.name == "all" else content[0])
    return 0


def settings_of(args: argparse.Namespace) -> tuple[Settings, int]:
    """What the flags say, over the budget's; raises UsageError."""
    faces, steps, seeds = BUDGETS[args.budget]
    faces = faces if args.num_faces is None else args.num_faces
    steps, seeds = (args.steps if args.steps is not None else steps), (args.seeds if args.seeds is not None else seeds)
    numbers = {"num-faces": 1 if faces is None else faces, "steps": steps, "seeds": seeds, "batch": args.batch}
    for name, number in numbers.items():
        if number < (2 if name == "batch" else 1):
            raise UsageError(f"expected --{name} of at least {2 if name == 'batch' else 1}, got {number}")
    sha256 = None
    if args.checkpoint:
        read_record(Path(args.checkpoint))  # a sentence now rather than an hour from now
        sha256 = file_sha256(Path(args.checkpoint))
    settings = Settings(
        tuple(args.data),
        args.task,
        args.model,
        args.pretrained,
        args.tower,
        faces,
        steps,
        args.batch,
        args.lr,
        checkpoint=args.checkpoint,
        checkpoint_sha256=sha256,
    )
    return settings, seeds


if __name__ == "__main__":
    sys.exit(main())
