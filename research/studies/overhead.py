"""`overhead`: the cost of NumCLIP compared with plain CLIP zero-shot, by the number of pictures."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...train.build import from_towers
from ...train.method import Method
from ...train.network import NumCLIP
from ...train.tasks_file import load_task
from ...train.towers import build_towers, input_side
from .bench import Bench
from .frame import ONCE, Changes, Column, Measured, Results, Run, Study
from .plot import lines
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("nano", "ViT-B-32")
ROUNDS = {1: 9, 10: 5, 50: 3}  # number of pictures: number of rounds
BATCH = 25
FROZEN, CACHED = "NumCLIP, words frozen", "zero-shot, words cached"
TEXT_ONCE, EVERY = "zero-shot, text tower once", "NumCLIP as released, text tower for every batch"
CONTENDERS = (FROZEN, CACHED, TEXT_ONCE, EVERY)
STATM = Path("/proc/self/statm")
Answer = Callable[[Tensor], list[Tensor]]


def rows(base: Settings) -> Mapping[str, Changes]:
    """Return one row per tower; its measurement runs all contenders in turns."""
    return {model: {"model": model, ONCE: "rounds"} for model in dict.fromkeys((base.model, *MODELS))}


def measure(bench: Bench, run: Run) -> Measured:
    model, task = str(run.changes["model"]), bench.settings.task
    found: dict[str, dict[str, float | None]] = {f"{model}: {name}": {} for name in CONTENDERS}
    answers = contenders(model, task)
    side = input_side(model)
    times = {name: {size: [0.0] for size in ROUNDS} for name in CONTENDERS}
    for size, rounds in ROUNDS.items():
        pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (size, side, side, 3), np.uint8))
        for name, measured in take_turns(
            {n: functools.partial(a, pictures) for n, (a, _) in answers.items()}, rounds
        ).items():
            times[name][size] = measured
            found[f"{model}: {name}"][f"ms_{size}"] = round(1000 * median(measured) / size, 2)
    for name, (answer, weights) in answers.items():
        figures = found[f"{model}: {name}"]
        for size in ROUNDS:
            pairs = zip(times[name][size], times[FROZEN][size], strict=True)
            figures[f"ratio_{size}"] = round(median(mine / frozen for mine, frozen in pairs), 3)
        figures["gflops"] = round(flops(answer, side) / 1e9, 4)
        figures["weights_mb"] = round(weights / 1e6, 1)
        figures["memory_mb"] = memory_mb(model, task, name)
    return Measured(rows=found, threads=torch.get_num_threads(), sizes=tuple(ROUNDS), batch=BATCH)


def contenders(model: str, task_name: str) -> dict[str, tuple[Answer, int]]:
    """Return each contender as a function of crops uint8 [N, S, S, 3], and the bytes of its weights."""
    return {name: contender(model, task_name, name) for name in CONTENDERS}


def contender(model: str, task_name: str, name: str) -> tuple[Answer, int]:
    """Build one contender with random weights, which take the same time as trained ones."""
    torch.manual_seed(0)
    task = load_task(task_name)
    towers = build_towers(model, None, torch.empty(0))
    length, embedding = towers.text.positional_embedding.shape[0], towers.token_embedding
    method = Method.as_released() if name == EVERY else Method() if name == FROZEN else Method.named("zero-shot")
    network = from_towers(towers, task, method).eval()
    with torch.no_grad():
        fixed = network.text_bins()

    def text() -> Tensor:
        return plain_text_bins(network, length) if name in (TEXT_ONCE, EVERY) else fixed

    @torch.no_grad()
    def answer(crops: Tensor) -> list[Tensor]:
        bins = text()
        found: list[Tensor] = []
        for number, part in enumerate(crops.split(BATCH)):
            if number and name == EVERY:
                bins = text()
            found.append(network.read(network.embed(part), bins).value)
        return found

    parts: list[nn.Module] = [network.image_tower, network.adapter, network.refinement]
    size = sum(t.nbytes for part in parts for t in part.state_dict().values()) + fixed.nbytes
    if name in (TEXT_ONCE, EVERY):
        size += sum(t.nbytes for t in network.text_tower.state_dict().values()) + embedding.weight.nbytes
        answer.__dict__["holds"] = embedding  # a zero-shot CLIP keeps its vocabulary in memory
    else:
        del network.text_tower, network.prompt
    return answer, size


def plain_text_bins(network: NumCLIP, length: int) -> Tensor:
    """Return text bins [K, D] with sentences padded to CLIP's full context length; the numbers equal those of text_bins()."""
    embedded, end = network.prompt()
    pad = network.prompt.fixed[3].expand(len(embedded), length - embedded.shape[1], -1)
    return torch.nn.functional.normalize(network.text_tower(torch.cat([embedded, pad], dim=1), end), dim=1)


def take_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the processor time, s, of each call in each round, after one warm-up call.

    Processor time, not wall-clock time: on one thread it equals the duration of the call on an idle machine, and other load
    changes it little.
    """
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    names, random = list(calls), np.random.default_rng(0)
    for _ in range(rounds):
        for at in random.permutation(len(names)):
            started = time.process_time()
            calls[names[at]]()
            times[names[at]].append(time.process_time() - started)
    return times


def flops(answer: Answer, side: int) -> int:
    """Return the floating-point operations for one picture (a multiply-add counts as two), as counted by torch."""
    with FlopCounterMode(display=False) as counter:
        answer(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    return counter.get_total_flops()


def memory_mb(model: str, task: str, name: str) -> float | None:
    """Return the memory growth, MB, of a new process that opens one contender and runs a batch; None if it cannot be read."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_growth_mb, model, task, name).result()


def _growth_mb(model: str, task: str, name: str) -> float | None:
    if not STATM.is_file():
        return None
    torch.set_num_threads(1)
    side = input_side("nano")
    contender("nano", task, CACHED)[0](
        torch.zeros(1, side, side, 3, dtype=torch.uint8)
    )  # allocates the libraries' own memory first
    gc.collect()
    before = _resident_mb()
    answer, _ = contender(model, task, name)
    side = input_side(model)
    answer(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    gc.collect()
    return round(_resident_mb() - before, 1)


def _resident_mb() -> float:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def columns(base: Settings) -> tuple[Column, ...]:
    times = tuple(Column(f"ms_{n}", f"ms a picture, {n} picture{'s' if n > 1 else ''}") for n in ROUNDS)
    ratios = tuple(Column(f"ratio_{n}", f"x NumCLIP, {n}") for n in (min(ROUNDS), max(ROUNDS)))
    rest = (("gflops", "GFLOP, 1 picture", 3), ("weights_mb", "weights, MB", 1), ("memory_mb", "memory, MB", 0))
    return (*times, *ratios, *(Column(*r) for r in rest))


def draw(figure: Figure, results: Results) -> None:
    found = results.rows()
    models = list(dict.fromkeys(row.partition(": ")[0] for row in found))
    every = figure.subplots(1, len(models), squeeze=False)[0]
    for axes, model in zip(every, models, strict=True):
        mine = {row.partition(": ")[2]: records for row, records in found.items() if row.startswith(f"{model}: ")}
        series = {
            name: [(float(n), [{"ms": r[f"ms_{n}"]} for r in records]) for n in ROUNDS]
            for name, records in mine.items()
        }
        lines(axes, series, "ms", ("pictures", "ms a picture"))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(model, fontsize=8)


STUDY = Study(
    "overhead",
    "Cost in PyTorch on the CPU compared with plain CLIP zero-shot on the same tower, by the number of pictures (in batches of at "
    "most 25). Plain CLIP runs its text tower on the words, padded to 77 tokens, once for all pictures, or has them cached. The "
    "released code of NumCLIP runs it for every batch. NumCLIP frozen stores the words as constants and adds adapter and "
    "refinement. Times are processor times; the weights are random, which does not affect the time. `x NumCLIP`: median over "
    "rounds of the ratio of times in the same round. `memory`: memory growth of a new process that opens the network and runs it "
    "on one picture.",
    rows,
    measure,
    columns,
    draw,
    needs_data=False,
    set_up=lambda results: f"Set-up: task `{results.base.task}`, {results.runs[0].measured.threads} thread(s).",
)
