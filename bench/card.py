"""The bench card: this project's models beside their rivals, from one command, as a page, its figures and a picture.

The card is nothing but a list of ordinary `numclip bench` commands, printed above their tables, and what may be read from
them, computed from the same reports.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..demo.clip import write_clip
from ..runtime.contract.model_file import read_spec, resolve, shipped_models
from ..runtime.places import write_json, write_whole
from ..runtime.sessions.session import DEVICES
from .markdown import interval, markdown
from .plot import plot

VIT = "random:ViT-B-16 random-int8:ViT-B-16"
Measure = Callable[[list[str]], dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """One part of the card: what it asks, and the command that answers."""

    title: str
    argv: str


def sections(models: Sequence[str], cores: int) -> list[Section]:
    """The card's commands; a tower with over a billion multiply-adds stands with ViT-B/16, which gets few rounds."""
    large = [name for name in models if is_large(name)]
    small = [name for name in models if name not in large]
    towers = [tower for tower in ("nano", "small") if any(f"age-{tower}" in name for name in small)]
    in_torch = [f"{kind}:{tower}" for tower in towers for kind in ("eager", "compiled")]
    few = " ".join([*small, *in_torch, "clip:nano", "clip-cached:nano"])
    big = " ".join([VIT, *large, *(f"{kind}:ViT-B-16" for kind in ("eager", "compiled", "clip", "clip-cached"))])
    devices = ",".join([*(device for device in DEVICES if device != "auto"), "auto"])
    everywhere = f"--device {devices} --skip-absent --threads {cores}"
    # With more threads, where they lie differs from opening to opening by more than the head costs.
    here = "--device cpu --threads 1"
    return [
        Section("One face", f"{few} {everywhere} --seconds 3 --restarts 3"),
        Section("Eight faces", f"{few} {everywhere} --batch 8 --seconds 3 --restarts 3"),
        Section("ViT-B/16, one face", f"{big} {everywhere} --seconds 3 --restarts 1"),
        Section("ViT-B/16, eight faces", f"{big} {everywhere} --scenario offline --batch 8 --seconds 3 --restarts 1"),
        Section("The head", f"onnx-tower:nano onnx:nano {here} --batch 1,8 --seconds 10 --restarts 10"),
        Section("The head of ViT-B/16", f"onnx-tower:ViT-B-16 onnx:ViT-B-16 {here} --seconds 10 --restarts 3"),
        Section("The smallest class, one thread", f"mobilenet-025 {' '.join(small)} --device cpu --seconds 4"),
    ]


def is_large(name: str) -> bool:
    """Whether a model file says that a face takes it over a billion multiply-adds."""
    path = resolve(name)
    return path.suffix == ".onnx" and (read_spec(path).graph.multiply_adds or 0) > 1e9


def write_card(folder: Path, more: Sequence[str], clip: str | None, measure: Measure) -> list[Path]:
    """Measure every section and write bench_card.md, .json and .svg into `folder`; the clip defaults to the demo's."""
    cores, models = os.cpu_count() or 1, [*shipped_models(), *more]
    parts: list[tuple[Section, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as temporary:
        film = Path(clip) if clip else Path(temporary) / "demo.mp4"
        if not clip:
            write_clip(film)
        flags = f"{models[0]} --scenario pipeline --device cpu --threads {cores} --frames 60 --clip"
        plan = [(section, section.argv.split()) for section in sections(models, cores)]
        plan.append((Section("Capture to result", f"{flags} {film.name}"), [*flags.split(), str(film)]))
        for at, (section, argv) in enumerate(plan, 1):
            print(f"{at} of {len(plan)}: numclip bench {section.argv}", file=sys.stderr)
            parts.append((section, measure(argv)))
    folder.mkdir(parents=True, exist_ok=True)
    page, figures, picture = (folder / f"bench_card.{suffix}" for suffix in ("md", "json", "svg"))
    write_json(str(figures), {section.title: report for section, report in parts})
    plot([report for _, report in parts], picture, [section.title for section, _ in parts])
    write_whole(page, _page(parts).encode())
    return [page, figures, picture]


def _page(parts: Sequence[tuple[Section, dict[str, Any]]]) -> str:
    first = parts[0][1]
    machine = first["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Bench card",
        "Written by `numclip bench --card docs`, from real runs; nothing here is typed by hand. Contenders of one table took "
        "turns, so read the ratios: on a shared machine the times are what the neighbours left. Ranges are 95 % intervals. "
        "Random weights change no time. What every column means: [bench.md](bench.md).",
        f"{first['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}; "
        f"Python {machine['python']}, {versions}. {_silence(first)}",
        "![The same as a picture](bench_card.svg)",
        "## What may be read from it",
        "\n".join(f"- {line}" for line in findings({s.title: r for s, r in parts})),
    ]
    for section, report in parts:
        lines += [f"## {section.title}", f"```\nnumclip bench {section.argv}\n```", markdown(report)]
    return "\n\n".join(lines) + "\n"


def _silence(report: dict[str, Any]) -> str:
    """What this machine does not tell."""
    state = report["state"]["after"]
    silent = [name for name, key in (("clock", "cpu_mhz"), ("temperature", "temperature_c")) if not state[key]]
    silent += ["power"] if not any(row["energy"] for row in report["rows"]) else []
    silent += ["throttling"] if not state["throttle"] else []
    return f"This machine tells nothing of its {', '.join(silent)}." if silent else ""


def findings(reports: dict[str, dict[str, Any]]) -> list[str]:
    """Sentences computed from the reports."""
    said: list[str] = []
    for report in (reports[title] for title in reports if title.startswith("The head")):
        for tower, whole in zip(*_halves(report["rows"]), strict=True):
            work = whole["flop_per_call"] / tower["flop_per_call"] - 1
            said.append(
                f"NumCLIP's head over the bare image tower, {whole['model'].split()[0].partition(':')[2]} with "
                f"{whole['batch']} faces: {_percent(whole['ratio_to_first'])} in time, {work:.4%} in work."
            )
    for title, report in reports.items():
        p50_ms = {row["model"].partition(":")[0]: row["latency_ms"]["p50"] for row in report["rows"] if "batch" in row}
        every, cached, eager = (interval(p50_ms.get(kind)) for kind in ("clip", "clip-cached", "eager"))
        if "clip" in p50_ms:
            said.append(
                f"{title}: plain CLIP zero-shot takes {every} ms with its text tower run for every call and {cached} ms "
                f"with the text embeddings cached, NumCLIP in PyTorch too {eager} ms."
            )
        said += _sessions(title, report["rows"]) if "clip" in p50_ms else []
    for row in reports["The smallest class, one thread"]["rows"][1:]:
        said.append(
            f"{row['model']} takes {interval(row['ratio_to_first'])} times a MobileNet-0.25 at 112 px, one thread."
        )
    return said


def _sessions(title: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Of each network that model files hold: its fastest session in float32 and in INT8, what auto took, and PyTorch."""
    said: list[str] = []
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kind, _, tower = row["model"].split()[0].partition(":")
        if not tower or kind.startswith("random"):
            families.setdefault(tower or kind.partition(".")[0], []).append(row)
    for family, mine in families.items():
        exact = [row for row in mine if row["device"] not in ("auto", "openvino-bf16")]
        int8 = [row for row in exact if "int8" in row["model"]]
        whole = [row for row in exact if "int8" not in row["model"]]
        bf16 = [row for row in mine if row["device"] == "openvino-bf16" and "int8" not in row["model"]]
        auto = [row for row in mine if row["device"] == "auto"]
        if not whole:
            continue
        best, plain = min(whole, key=_p50), whole[0]
        parts = [f"{title}, {family}: float32 is fastest on {best['device']}, {_p50(best):.2f} ms"]
        if int8:
            quick = min(int8, key=_p50)
            parts.append(
                f"INT8 on {quick['device']}, {_p50(quick):.2f} ms, {_p50(best) / _p50(quick):.2f} times as fast"
            )
        parts += [f"bf16 on OpenVINO, {_p50(row):.2f} ms" for row in bf16]
        if auto:
            # A random file has no INT8 sibling that auto could take: nothing proves what that would answer.
            fastest = min(map(_p50, whole if "random" in auto[0]["model"] else [*whole, *int8]))
            name, where = auto[0]["model"].partition(" (random")[0], auto[0]["session"]["device"]
            parts.append(f"auto took {name} on {where}, {_p50(auto[0]) / fastest:.2f} times the fastest's time")
        for kind in ("eager", "compiled"):
            theirs = [row for row in rows if row["model"].split()[0] == f"{kind}:{family.removeprefix('age-')}"]
            parts += [f"PyTorch {kind} takes {_p50(r) / _p50(plain):.2f} times ONNX Runtime's float32" for r in theirs]
        said.append("; ".join(parts) + ".")
    return said


def _p50(row: dict[str, Any]) -> float:
    return float(row["latency_ms"]["p50"]["value"])


def _halves(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Towers and whole networks, in the same order."""
    return [r for r in rows if "-tower" in r["model"]], [r for r in rows if "-tower" not in r["model"]]


def _percent(ratio: dict[str, float]) -> str:
    value, low, high = (100 * (ratio[name] - 1) for name in ("value", "low", "high"))
    return f"{value:+.2f} % ({low:+.2f} to {high:+.2f})"
