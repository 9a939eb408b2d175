"""The bench card: this project's models beside their rivals, from one command, as a page, its figures and a picture.

The card is nothing but a list of ordinary `numclip bench` commands, printed above their tables, and what may be read from
them, computed from the same reports.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bench_markdown import interval, markdown
from .bench_plot import plot
from .demo_clip import write_clip
from .json_report import write_json
from .model_file import shipped_models, write_whole

DEVICES = "auto,cpu,openvino,cuda,tensorrt"
Measure = Callable[[list[str]], dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """One part of the card: what it asks, and the command that answers."""

    title: str
    argv: str


def sections(models: Sequence[str], cores: int) -> list[Section]:
    """The card's commands; shared machines have two cores at best, so slow towers get few rounds."""
    ours, vit = " ".join(models), "random:ViT-B-16"
    for_all = f"--device {DEVICES} --threads {cores} --skip-absent"
    towers = [tower for tower in ("nano", "small") if any(tower in model for model in models)]
    rivals = " ".join(f"{kind}:{tower}" for tower in towers for kind in ("eager", "compiled"))
    clips = "clip:{0} clip-cached:{0}"
    big = f"{vit} eager:ViT-B-16 compiled:ViT-B-16 {clips.format('ViT-B-16')}"
    own_pace = f"--device cpu --threads {cores}"
    return [
        Section("One face", f"{ours} {rivals} {clips.format('nano')} {for_all} --seconds 3 --restarts 3"),
        Section("Eight faces", f"{ours} {rivals} {clips.format('nano')} {for_all} --seconds 3 --restarts 3 --batch 8"),
        Section("ViT-B/16, one face", f"{big} {for_all} --seconds 3 --restarts 2"),
        Section("ViT-B/16, eight faces", f"{big} {for_all} --scenario offline --seconds 3 --restarts 1 --batch 8"),
        Section("The head", f"onnx-tower:nano onnx:nano {own_pace} --batch 1,8 --seconds 10 --restarts 10"),
        Section("The head of ViT-B/16", f"onnx-tower:ViT-B-16 onnx:ViT-B-16 {own_pace} --seconds 10 --restarts 3"),
        Section("The smallest class, one thread", f"mobilenet-025 {ours} --device cpu --seconds 4"),
    ]


def write_card(folder: Path, more: Sequence[str], clip: str | None, measure: Measure) -> list[Path]:
    """Measure every section and write bench_card.md, .json and .svg into `folder`; the clip defaults to the demo's."""
    models = [*shipped_models(), *more]
    parts = [(s, measure(s.argv.split())) for s in sections(models, os.cpu_count() or 1)]
    with tempfile.TemporaryDirectory() as temporary:
        film = Path(clip) if clip else Path(temporary) / "demo.mp4"
        if not clip:
            write_clip(film)
        flags = f"{shipped_models()[0]} --scenario pipeline --device cpu --threads {os.cpu_count()} --frames 60 --clip "
        parts.append((Section("Capture to result", flags + film.name), measure([*flags.split(), str(film)])))
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
    for title in ("The head", "The head of ViT-B/16"):
        for tower, whole in zip(*_halves(reports[title]["rows"]), strict=True):
            work = whole["flop_per_call"] / tower["flop_per_call"] - 1
            said.append(
                f"NumCLIP's head over the bare image tower, {whole['model'].split()[0].partition(':')[2]} with "
                f"{whole['batch']} faces: {_percent(whole['ratio_to_first'])} in time, {work:.4%} in work."
            )
    for title in ("One face", "ViT-B/16, one face"):
        rows = {row["model"].split()[0].partition(":")[0]: row for row in reports[title]["rows"]}
        if {"clip", "clip-cached"} <= set(rows):
            every, cached = (rows[kind]["latency_ms"]["p50"]["value"] for kind in ("clip", "clip-cached"))
            said.append(
                f"{title}: plain CLIP zero-shot takes {every:.1f} ms with its text tower run for every call and "
                f"{cached:.1f} ms with the text embeddings cached; PyTorch eager NumCLIP "
                f"{rows['eager']['latency_ms']['p50']['value']:.1f} ms."
            )
    for row in reports["The smallest class, one thread"]["rows"][1:]:
        said.append(
            f"{row['model']} takes {interval(row['ratio_to_first'])} times a MobileNet-0.25 at 112 px, one thread."
        )
    return said


def _halves(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Towers and whole networks, in the same order."""
    return [r for r in rows if "-tower" in r["model"]], [r for r in rows if "-tower" not in r["model"]]


def _percent(ratio: dict[str, float]) -> str:
    value, low, high = (100 * (ratio[name] - 1) for name in ("value", "low", "high"))
    return f"{value:+.2f} % ({low:+.2f} to {high:+.2f})"
