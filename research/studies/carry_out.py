"""The experiments of the paper and of its open questions, each one command: numclip study NAME --data DATA --out DIR.

OUT gets NAME.json (one record per finished run), NAME.md (table and set-up; what you write around the generated part
stays) and NAME.png. Killed and started again, a study does the runs that are missing. Three seeds, mean and sample
standard deviation. By default the image tower is frozen and a run trains what follows it, in seconds on one core.

NAME: all, or one of coarse, loss, features, granularity, extrapolation, overhead, sensitivity, transfer, domains,
few-shot, shift.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch

from ...errors import UsageError
from ...runtime.places import write_json
from ...train.checkpoint import file_sha256, read_record
from .bench import Bench, Settings
from .frame import Results, Study, carry_out, open_results, plan, save
from .page import write_page
from .plot import write_plot

NAMES = ("coarse", "loss", "features", "granularity", "extrapolation", "overhead", "sensitivity", "transfer", "domains", "few-shot", "shift")  # fmt: skip
BUDGETS = {
    "small": {"faces": 6000, "steps": 200, "seeds": 3},
    "full": {"faces": None, "steps": 3000, "seeds": 5},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip study`."""
    parser.add_argument("name", metavar="NAME", help=f"{', '.join(NAMES)}, or all")
    parser.add_argument("--data", nargs="+", default=[], metavar="DATA", help="labelled faces; transfer needs two sets")
    parser.add_argument("--out", required=True, type=Path, help="the folder of NAME.json, NAME.md and NAME.png")
    parser.add_argument("--budget", choices=sorted(BUDGETS), default="small", help="faces, steps and seeds of a run")
    parser.add_argument("--faces", type=int, help="training pictures per data set at most; the budget's")
    parser.add_argument("--steps", type=int, help="steps of a training; the budget's")
    parser.add_argument("--seeds", type=int, help="runs of each row; the budget's")
    parser.add_argument("--batch", type=int, default=Settings.batch, help="pictures per step")
    parser.add_argument("--lr", type=float, default=Settings.lr, help="highest learning rate")
    parser.add_argument("--task", default=Settings.task, help="a task in train/tasks/ or a .json file")
    parser.add_argument("--model", default=Settings.model, help="nano, small, or any open_clip model name")
    parser.add_argument("--pretrained", help="an open_clip tag, a checkpoint file, or a MobileNetV2 .tflite")
    parser.add_argument("--tower", choices=["frozen", "trained"], default="frozen", help="the image tower")
    parser.add_argument("--checkpoint", metavar="FILE", help="features: a trained network to look at beside the others")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    parser.add_argument("--json", metavar="FILE", help="also write all results here; - for stdout")


def run(args: argparse.Namespace) -> int:
    """Do one study or all, and say where its page is."""
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
        content = [{"study": r.study, "base": dict(r.base), "runs": r.runs} for r in found]
        write_json(args.json, content if args.name == "all" else content[0])
    return 0


def settings_of(args: argparse.Namespace) -> tuple[Settings, int]:
    """What the flags say, over the budget's; raises UsageError."""
    budget: dict[str, Any] = dict(BUDGETS[args.budget])
    budget |= {name: getattr(args, name) for name in budget if getattr(args, name) is not None}
    numbers = {
        "faces": 1 if budget["faces"] is None else budget["faces"],
        "steps": budget["steps"],
        "seeds": budget["seeds"],
        "batch": args.batch,
    }
    for name, number in numbers.items():
        if number < (2 if name == "batch" else 1):
            raise UsageError(f"expected --{name} of at least {2 if name == 'batch' else 1}, got {number}")
    shared = {n: getattr(args, n) for n in ("task", "model", "pretrained", "tower", "batch", "lr", "checkpoint")}
    if args.checkpoint:
        read_record(Path(args.checkpoint))  # a sentence now rather than an hour from now
        shared["checkpoint_sha256"] = file_sha256(Path(args.checkpoint))
    return Settings(tuple(args.data), faces=budget["faces"], steps=budget["steps"], **shared), budget["seeds"]


def study_named(name: str) -> Study:
    """A study by its name; only its own module is imported. Raises UsageError."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"expected a study ({', '.join(NAMES)}, or all), got {name!r}{hint}")
    return importlib.import_module(f".{name.replace('-', '_')}", __package__).STUDY


def carry_out_and_write(study: Study, settings: Settings, seeds: int, out: Path) -> Results:
    """The missing runs, then page and plot."""
    settings = settings if study.needs_data else replace(settings, data=())
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{study.name}.json"
    results = open_results(path, study.name, settings.to_json())
    wanted = plan(study, settings, seeds)
    if results.missing(wanted):
        bench = Bench(settings)
        carry_out(study, bench, wanted, results, path, lambda line: print(line, file=sys.stderr, flush=True))
        save(results, path)
    write_plot(out / f"{study.name}.png", study, results)
    write_page(out / f"{study.name}.md", study, results)
    return results
