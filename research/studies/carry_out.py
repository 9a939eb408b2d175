"""Carry out a study by name: do the missing runs, then write table and plot."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

from ...errors import UsageError, did_you_mean
from .bench import Bench, without_folders
from .frame import Results, Study, carry_out, open_results, plan, save
from .page import write_page
from .plot import write_plot
from .settings import Settings

NAMES = ("coarse", "loss", "features", "granularity", "extrapolation", "overhead", "sensitivity", "transfer", "domains", "few-shot", "shift")  # fmt: skip


def study_named(name: str) -> Study:
    """Return a study by name; only its own module is imported. Raises UsageError."""
    if name not in NAMES:
        raise UsageError(f"expected a study ({', '.join(NAMES)}, or all), got {name!r}{did_you_mean(name, NAMES)}")
    return importlib.import_module(f".{name.replace('-', '_')}", __package__).STUDY


def carry_out_and_write(study: Study, settings: Settings, seeds: int, out: Path) -> Results:
    """Do the missing runs, then write page and plot."""
    settings = settings if study.needs_data else replace(settings, data=())
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{study.name}.json"
    results = open_results(path, study.name, without_folders(settings))
    wanted = plan(study, settings, seeds)
    if results.missing(wanted):
        bench = Bench(settings)
        carry_out(study, bench, wanted, results, path, lambda line: print(line, file=sys.stderr, flush=True))
        save(results, path)
    write_plot(out / f"{study.name}.png", study, results)
    write_page(out / f"{study.name}.md", study, results)
    return results
