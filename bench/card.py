"""The bench card: this project's models beside other implementations, measured by one command; a page, its figures and a plot.

The card is the results of a list of ordinary `numclip bench` commands, as sentences computed from their reports. A second page
has each command and its full tables.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..demo.clip import write_clip
from ..runtime.contract.model_file import FINDER, read_spec, resolve, shipped_models
from ..runtime.places import PACKAGE, write_json, write_whole
from ..runtime.sessions.session import DEVICES
from .benchmark import bench
from .markdown import interval, markdown
from .options import BenchOptions, command
from .plot import plot
from .report import Interval, Report, Row

FINDERS = "Finding faces"  # how the sections of face detectors begin
VIT = ("random:ViT-B-16", "random-int8:ViT-B-16")
Measure = Callable[[BenchOptions], Report]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """One part of the card: its question, and the benchmark that answers it."""

    title: str
    options: BenchOptions

    @property
    def command(self) -> str:
        """The command as typed; only the file name of a clip."""
        clip = self.options.clip
        return command(replace(self.options, clip=clip and Path(clip).name))


def sections(models: Sequence[str], cores: int) -> list[Section]:
    """The card's commands; towers with over a billion multiply-adds are timed with ViT-B/16, in few rounds."""
    large = [name for name in models if is_large(name)]
    small = [name for name in models if name not in large]
    towers = list(dict.fromkeys(tower for tower in map(tower_of, small) if tower is not None))
    first = towers[0]
    in_torch = [f"{kind}:{tower}" for tower in towers for kind in ("eager", "compiled")]
    few = (*small, *in_torch, f"clip:{first}", f"clip-cached:{first}")
    big = (*VIT, *large, *(f"{kind}:ViT-B-16" for kind in ("eager", "compiled", "clip", "clip-cached")))
    devices = (*(device for device in DEVICES if device != "auto"), "auto")
    one = BenchOptions(few, devices=devices, threads=(cores,), skip_absent=True, seconds=3, restarts=3)
    vit = replace(one, models=big, restarts=1)
    # With more threads, their placement varies between openings by more than the head costs.
    head = BenchOptions(
        (f"onnx-tower:{first}", f"onnx:{first}"), devices=("cpu",), batches=(1, 8), seconds=10, restarts=10
    )
    head_of_vit = replace(head, models=("onnx-tower:ViT-B-16", "onnx:ViT-B-16"), batches=None, restarts=3)
    large_picture = ("yunet@640", f"{FINDER}@640", "yunet-onnx@640", f"{FINDER}@640+{models[0]}")
    find = BenchOptions(large_picture, devices=("cpu",), skip_absent=True, seconds=4)
    find_small = replace(find, models=("yunet@320", f"{FINDER}@320"))
    return [
        Section("One face", one),
        Section("Eight faces", replace(one, batches=(8,))),
        Section("ViT-B/16, one face", vit),
        Section("ViT-B/16, eight faces", replace(vit, scenario="offline", batches=(8,))),
        Section("The head", head),
        Section("The head of ViT-B/16", head_of_vit),
        Section("The smallest class, one thread", BenchOptions(("mobilenet-025", *small), devices=("cpu",), seconds=4)),
        Section(f"{FINDERS}, 640 x 640 px, one thread", find),
        Section(f"{FINDERS}, 320 x 320 px, one thread", find_small),
    ]


def tower_of(name: str) -> str | None:
    """The compact tower (`numclip train --model`) that a shipped model was trained with; None for another file."""
    if name not in shipped_models():
        return None
    backbone = read_spec(resolve(name)).provenance.backbone
    configs = (PACKAGE / "train" / "towers").glob("*.json")
    found = {json.loads(path.read_text())["vision_cfg"]["timm_model_name"]: path.stem for path in configs}
    return found.get(backbone)


def is_large(name: str) -> bool:
    """Whether a model needs over a billion multiply-adds per face, by its metadata."""
    path = resolve(name)
    return path.suffix == ".onnx" and (read_spec(path).graph.multiply_adds or 0) > 1e9


def write_card(folder: Path, more: Sequence[str], clip: str | None, measure: Measure = bench) -> list[Path]:
    """Measure every section and write bench_card.md, .json, .svg and bench_card_tables.md into `folder`; the clip defaults to the demo's."""
    shipped = shipped_models()
    twins = same_network(shipped)
    cores, models = os.cpu_count() or 1, [*(name for name in shipped if name not in twins), *more]
    parts: list[tuple[Section, Report]] = []
    with tempfile.TemporaryDirectory() as temporary:
        film = Path(clip) if clip else Path(temporary) / "demo.mp4"
        if not clip:
            write_clip(film)
        whole = BenchOptions((models[0],), "pipeline", devices=("cpu",), threads=(cores,), frames=60, clip=str(film))
        plan = [*sections(models, cores), Section("Capture to result", whole)]
        for at, section in enumerate(plan, 1):
            logger.info("%d of %d: %s", at, len(plan), section.command)
            parts.append((section, measure(section.options)))
    folder.mkdir(parents=True, exist_ok=True)
    page, figures, picture = (folder / f"bench_card.{suffix}" for suffix in ("md", "json", "svg"))
    tables = folder / "bench_card_tables.md"
    write_json(str(figures), {section.title: report for section, report in parts})
    plot([report for _, report in parts], picture, [section.title for section, _ in parts])
    write_whole(page, _page(parts, twins).encode())
    write_whole(tables, _tables(parts).encode())
    return [page, figures, picture, tables]


def same_network(names: Sequence[str]) -> dict[str, str]:
    """Models that have the network of an earlier one and other weights; maps each to that one, whose time is theirs."""
    first: dict[tuple[object, ...], str] = {}
    found: dict[str, str] = {}
    for name in names:
        spec = read_spec(resolve(name))
        graph = spec.graph
        other = first.setdefault((spec.crop.side, graph.parameters, graph.multiply_adds, graph.precision), name)
        if other != name:
            found[name] = other
    return found


def _page(parts: Sequence[tuple[Section, Report]], twins: Mapping[str, str]) -> str:
    """The results on one page."""
    first = parts[0][1]
    machine = first["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Benchmark card",
        "`numclip bench --card docs` wrote this page from real runs. No figure is typed by hand. The contenders of one table "
        "took turns, so compare the ratios: on a shared machine the times also depend on other processes. Ranges in brackets "
        "are 95 % intervals. Random weights do not change the time. [All tables](bench_card_tables.md) · "
        "[How the benchmark measures](bench.md)",
        f"{first['date']}: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}; "
        f"Python {machine['python']}, {versions}. {_silence(first)}",
        "![The latencies as a plot](bench_card.svg)",
        "## Results",
        "\n".join(f"- {line}" for line in findings({s.title: r for s, r in parts})),
        *(
            f"{name} has {other}'s network and other weights, so its times are {other}'s."
            for name, other in twins.items()
        ),
    ]
    return "\n\n".join(lines) + "\n"


def _tables(parts: Sequence[tuple[Section, Report]]) -> str:
    """Each command with its tables."""
    lines = [
        "# Benchmark tables",
        "The tables behind the [benchmark card](bench_card.md). [How the benchmark measures](bench.md) explains the columns.",
    ]
    for section, report in parts:
        lines += [f"## {section.title}", f"```\n{section.command}\n```", markdown(report)]
    return "\n\n".join(lines) + "\n"


def _silence(report: Report) -> str:
    """Which sensors this machine lacks."""
    state = report["state"]["after"]
    silent = [name for name, told in (("clock", state["cpu_mhz"]), ("temperature", state["temperature_c"])) if not told]
    silent += ["power"] if not any(row["energy"] for row in contest_rows(report)) else []
    silent += ["throttling"] if not state["throttle"] else []
    return f"This machine does not report: {', '.join(silent)}." if silent else ""


def contest_rows(report: Report) -> list[Row]:
    """The rows of a benchmark of models; none for a pipeline."""
    return [] if report["scenario"] == "pipeline" else report["rows"]


def findings(reports: Mapping[str, Report]) -> list[str]:
    """Sentences computed from the reports."""
    said: list[str] = []
    rows_of = {title: contest_rows(report) for title, report in reports.items()}
    for rows in (rows_of[title] for title in rows_of if title.startswith("The head")):
        for tower, whole in zip(*_halves(rows), strict=True):
            work = (whole["flop_per_call"] or 0) / (tower["flop_per_call"] or 1) - 1
            faces = "1 face" if whole["batch"] == 1 else f"{whole['batch']} faces"
            said.append(
                f"The head of NumCLIP changes the time of the image tower {_tower(whole)} by {_percent(whole['ratio_to_first'])} "
                f"with {faces}, and adds {work:.4%} to its work."
            )
    for title, rows in rows_of.items():
        plain = [row for row in rows if row["model"].startswith("clip:")]
        for row in plain:
            tower = _tower(row)
            p50_ms = {each["model"].split()[0]: each["latency_ms"]["p50"] for each in rows}
            every, cached, eager = (
                interval(p50_ms.get(f"{kind}:{tower}")) for kind in ("clip", "clip-cached", "eager")
            )
            said.append(
                f"{title}, {tower} in PyTorch: plain CLIP zero-shot takes {every} ms if its text tower runs in every call, "
                f"and {cached} ms with stored text embeddings. NumCLIP takes {eager} ms."
            )
        said += _sessions(title, rows) if plain else []
    for row in rows_of["The smallest class, one thread"][1:]:
        said.append(
            f"{row['model']} takes {interval(row['ratio_to_first'])} times as long as MobileNet-0.25 at 112 px, on one thread."
        )
    for rows in (rows_of[title] for title in rows_of if title.startswith(FINDERS)):
        if rows and rows[0]["model"].startswith("yunet@"):  # absent until `numclip fetch yunet`
            said += [
                f"{_finder(row)} takes {interval(row['ratio_to_first'])} times as long as {_finder(rows[0])}."
                for row in rows[1:]
            ]
    return said


def _sessions(title: str, rows: Sequence[Row]) -> list[str]:
    """For each network of the model files: its fastest session in float32 and in INT8, the library that auto runs float32 in, and PyTorch."""
    said: list[str] = []
    families: dict[str, list[Row]] = {}
    for row in rows:
        kind, _, tower = row["model"].split()[0].partition(":")
        if not tower or kind.startswith("random"):
            families.setdefault(tower or kind.partition(".")[0], []).append(row)
    for family, mine in families.items():
        tower = tower_of(family) or family
        exact = [row for row in mine if row["device"] not in ("auto", "openvino-bf16")]
        int8 = [row for row in exact if "int8" in row["model"]]
        whole = [row for row in exact if "int8" not in row["model"]]
        bf16 = [row for row in mine if row["device"] == "openvino-bf16" and "int8" not in row["model"]]
        auto = [row for row in mine if row["device"] == "auto" and "int8" not in row["model"]]
        if not whole:
            continue
        best, plain = min(whole, key=_p50), whole[0]
        parts = [f"{title}, {family}: float32 is fastest on {best['device']} ({_p50(best):.2f} ms)"]
        if int8:
            quick = min(int8, key=_p50)
            parts.append(
                f"INT8 is fastest on {quick['device']} ({_p50(quick):.2f} ms, {_p50(best) / _p50(quick):.2f} times as fast)"
            )
        parts += [f"bf16 on OpenVINO takes {_p50(row):.2f} ms" for row in bf16]
        if auto:
            fastest = min(map(_p50, whole))
            name, where = auto[0]["model"].partition(" (random")[0], auto[0]["session"]["device"]
            parts.append(f"`auto` runs {name} on {where} ({_p50(auto[0]) / fastest:.2f} times the fastest time)")
        for kind in ("eager", "compiled"):
            theirs = [row for row in rows if row["model"].split()[0] == f"{kind}:{tower}"]
            parts += [
                f"PyTorch {kind} takes {_p50(r) / _p50(plain):.2f} times as long as ONNX Runtime in float32"
                for r in theirs
            ]
        said.append(". ".join(parts) + ".")
    return said


def _finder(row: Row) -> str:
    """`YuNet in OpenCV at 640 px` of the row `yunet@640`, `faces-nano at 640 px with age-nano` of `faces-nano@640+age-nano`."""
    name, _, size = row["model"].partition("@")
    side, _, model = size.partition("+")
    known = {"yunet": "YuNet in OpenCV", "yunet-onnx": "YuNet in ONNX Runtime"}
    return f"{known.get(name, name)} at {side} px" + (f" with {model}" if model else "")


def _tower(row: Row) -> str:
    """`nano` of the row `clip:nano (random weights)`."""
    return row["model"].split()[0].partition(":")[2]


def _p50(row: Row) -> float:
    found = row["latency_ms"]["p50"]
    assert found is not None  # a run has at least as many calls as its percentile needs
    return found["value"]


def _halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Towers and complete networks, in the same order."""
    return [r for r in rows if "-tower" in r["model"]], [r for r in rows if "-tower" not in r["model"]]


def _percent(ratio: Interval) -> str:
    value, low, high = (100 * (end - 1) for end in (ratio["value"], ratio["low"], ratio["high"]))
    return f"{value:+.2f} % ({low:+.2f} to {high:+.2f})"
