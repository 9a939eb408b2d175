"""Run experiments from the paper and on its open questions: python -m numclip.research NAME --data DATA --out DIR.

DIR gets NAME.json (one record per finished run), NAME.md (question, set-up and table; text that you write around the generated
part is kept) and NAME.png. A study that was interrupted continues with the missing runs. Results are the mean and sample
standard deviation over seeds. By default the image tower is frozen and a run trains only the part after it, which takes seconds
on one core.

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
from .exit_code import complain
from .studies.bench import Settings
from .studies.carry_out import NAMES, carry_out_and_write, study_named
from .studies.frame import Results

BUDGETS: dict[str, tuple[int | None, int, int]] = {  # per budget: faces per data set, steps and seeds
    "small": (6000, 200, 3),
    "full": (None, 3000, 5),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a study."""
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(NAMES)}, or all")
    parser.add_argument(
        "--data", nargs="+", default=[], metavar="DATA", help="labelled faces; the study transfer needs two sets"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for NAME.json, NAME.md and NAME.png")
    parser.add_argument(
        "--budget", choices=sorted(BUDGETS), default="small", help="preset of faces, steps and seeds (default: small)"
    )
    parser.add_argument(
        "--num-faces", type=int, metavar="N", help="maximum training pictures per data set (default: the budget's)"
    )
    parser.add_argument("--steps", type=int, help="training steps per run (default: the budget's)")
    parser.add_argument("--seeds", type=int, help="number of seeds per row (default: the budget's)")
    parser.add_argument("--batch", type=int, default=Settings.batch, help="pictures per step (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=Settings.lr, help="peak learning rate (default: %(default)g)")
    parser.add_argument(
        "--task", default=Settings.task, help="name of a task in train/tasks/, or a .json file (default: %(default)s)"
    )
    parser.add_argument(
        "--model", default=Settings.model, help="nano, small, or any open_clip model name (default: %(default)s)"
    )
    parser.add_argument(
        "--pretrained",
        help="initial weights: an open_clip tag, a file of CLIP weights, or converted start weights (default: random)",
    )
    parser.add_argument(
        "--tower",
        choices=["frozen", "trained"],
        default="frozen",
        help="freeze or train the image tower (default: frozen)",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="for the study features: a trained network to include in the comparison"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all cores (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="also write all results to this file, or to stdout with -")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one study or all and print the path of each page; returns 0, or 1 or 2 after one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m numclip.research", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except NumclipError as error:
        return complain(error)


def run(args: argparse.Namespace) -> int:
    """Run the studies that the flags name."""
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    names = NAMES if args.name == "all" else (args.name,)
    settings, seeds = settings_of(args)
    studies = [study_named(name) for name in names]
    for study in studies:  # check all studies before hours of work begin
        if study.needs_data and not settings.data:
            raise UsageError(
                f"expected --data for the study {study.name}, got none; add for example --data utkface:utkface.tar"
            )
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
    """Return the settings from the flags and, for flags not given, from the budget; raises UsageError."""
    faces, steps, seeds = BUDGETS[args.budget]
    faces = faces if args.num_faces is None else args.num_faces
    steps, seeds = (args.steps if args.steps is not None else steps), (args.seeds if args.seeds is not None else seeds)
    numbers = {"num-faces": 1 if faces is None else faces, "steps": steps, "seeds": seeds, "batch": args.batch}
    for name, number in numbers.items():
        if number < (2 if name == "batch" else 1):
            raise UsageError(f"expected --{name} to be at least {2 if name == 'batch' else 1}, got {number}")
    sha256 = None
    if args.checkpoint:
        read_record(Path(args.checkpoint))  # report a bad file now, not after an hour
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
