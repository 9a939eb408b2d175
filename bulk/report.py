"""An HTML report of a finished collection: ages, folders, months, contact sheets, errors by kind."""

from __future__ import annotations

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import NumclipError, UsageError
from ..runtime.live.pictures import pictures_in
from ..runtime.places import write_whole
from .inputs import MEMBER, READ_FAULTS, Input
from .reading import content_of
from .schema import FACES
from .store import missing_shards

SHEET = 24  # faces on a contact sheet
TILE_PX = 112
ROWS = 12  # maximum number of folders, months and kinds of error in a table
AROUND = 0.35  # margin around a face, as a share of the box's side

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --line: #e4e7ec; --bar: #2f6fde; --page: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --soft: #98a2b3; --line: #2b3442; --bar: #6ea0ff; --page: #11161d } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem } p, small { color: var(--soft) }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.facts { display: flex; flex-wrap: wrap; gap: 1.5rem; margin: 1rem 0 } .facts b { display: block; font-size: 1.5rem }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: .6rem } figure { margin: 0 }
figure img { width: 100%; border-radius: 6px; display: block } figcaption { font-size: .75rem; color: var(--soft); overflow-wrap: anywhere }
rect { fill: var(--bar) } text { fill: var(--soft); font: 11px system-ui, sans-serif } line { stroke: var(--line) }
@media print { body { max-width: none } h2 { break-after: avoid } figure { break-inside: avoid } }
"""


@dataclass(frozen=True)
class Shown:
    """One face on a contact sheet."""

    source: str
    caption: str
    tile: npt.NDArray[np.uint8]  # [TILE_PX, TILE_PX, 3] BGR


def write_report(folder: Path, show_faces: bool = False) -> Path:
    """Write report.html into a finished result folder, or one that holds all shards, and return its path.

    The page is one self-contained file. Faces are blurred beyond recognition unless `show_faces` is set. Raises UsageError if
    the folder holds no finished result, or not every shard of one.
    """
    paths = sorted([*folder.glob("summary.json"), *folder.glob("summary-*-of-*.json")])
    summaries = [json.loads(path.read_text()) for path in paths]
    if not summaries:
        raise UsageError(
            f"{folder}: expected the folder of a finished numclip bulk run, found no summary.json in it; finish the run first"
        )
    splits = {summary["settings"]["shard"][1] for summary in summaries}
    if len(splits) > 1:
        raise UsageError(
            f"{folder}: expected one run, found runs split into {' and '.join(map(str, sorted(splits)))} shards; give each run "
            "its own --out"
        )
    if missing := missing_shards(folder, splits.pop()):
        raise UsageError(
            f"{folder}: expected all shards of the run, found no result of {', '.join(missing)}; run the same command with "
            f"--shard {missing[0]} and the same --out"
        )
    faces = pq.read_table(folder / "faces", schema=FACES)
    errors = pa.concat_tables(
        [pq.read_table(folder / f"{path.stem.replace('summary', 'errors')}.parquet") for path in paths]
    )
    aged = faces.filter(faces["value"].is_valid())
    low, high = _floats(aged, "low"), _floats(aged, "high")
    order = np.argsort(np.nan_to_num(high - low, nan=np.inf), kind="stable")
    surest, least = aged.take(order[:SHEET]), aged.take(order[::-1][:SHEET])
    refused = faces.filter(faces["value"].is_null())[:SHEET]
    parts = [
        _facts(summaries, faces, aged),
        "<h2>Ages</h2>" + _histogram(aged),
        "<h2>By folder</h2>" + _folders(aged),
        "<h2>By month</h2>" + _months(aged),
        "<h2>Narrowest intervals</h2>" + _sheet(surest, show_faces),
        "<h2>Widest intervals</h2>" + _sheet(least, show_faces),
        "<h2>Faces without a value</h2>" + _reasons(faces) + _sheet(refused, show_faces),
        "<h2>Inputs that could not be read</h2>" + _errors(errors),
    ]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(folder.name)}: numclip</title><style>{STYLE}</style><h1>{html.escape(folder.name)}</h1>"
        f"<p>An estimated age describes how old a face looks; it is not a proof of age. {'Faces are shown.' if show_faces else 'Faces are blurred; --show-faces shows them.'}</p>"
        f"{''.join(parts)}</html>"
    )
    out = folder / "report.html"
    write_whole(out, page.encode())
    return out


def _floats(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers; null becomes nan."""
    return np.asarray(table[column].to_numpy(zero_copy_only=False), np.float64)


def _facts(summaries: Sequence[dict[str, int]], faces: pa.Table, aged: pa.Table) -> str:
    values = _floats(aged, "value")
    facts = {
        "inputs": sum(summary["inputs"] for summary in summaries),
        "faces": len(faces),
        "median": f"{np.median(values):.0f}" if len(values) else "none",
        "without a face": sum(summary["without_faces"] for summary in summaries),
        "errors": sum(summary["errors"] for summary in summaries),
    }
    return (
        '<div class="facts">' + "".join(f"<div><b>{value}</b>{name}</div>" for name, value in facts.items()) + "</div>"
    )


def _histogram(aged: pa.Table) -> str:
    """Plot the number of faces in steps of five units; the thin line spreads each face evenly over its interval."""
    if not len(aged):
        return "<p>No face has a value.</p>"
    values, low, high = (_floats(aged, name) for name in ("value", "low", "high"))
    top = max(5.0, 5 * np.ceil((values.max() + 1e-6) / 5))
    edges = np.arange(0, top + 1, 5)
    counts = np.histogram(values, edges)[0].astype(float)
    spread = np.zeros(len(counts))
    known = np.isfinite(low) & np.isfinite(high) & (high > low)
    for i in range(len(counts)):
        inside = np.clip(np.minimum(high[known], edges[i + 1]) - np.maximum(low[known], edges[i]), 0, None)
        spread[i] = (inside / (high[known] - low[known])).sum()
    tallest = max(counts.max(), spread.max(), 1)
    step, height = 800 / len(counts), 180
    bars = "".join(
        f'<rect x="{i * step + 2:.1f}" y="{height - n / tallest * height:.1f}" width="{step - 4:.1f}" height="{n / tallest * height:.1f}" rx="2">'
        f"<title>{edges[i]:.0f} to {edges[i + 1]:.0f}: {n:.0f} faces</title></rect>"
        f'<text x="{i * step + 2:.1f}" y="{height + 14}">{edges[i]:.0f}</text>'
        for i, n in enumerate(counts)
    )
    points = " ".join(f"{(i + 0.5) * step:.1f},{height - n / tallest * height:.1f}" for i, n in enumerate(spread))
    line = f'<polyline points="{points}" fill="none" stroke="#e0812f" stroke-width="2"/>' if known.any() else ""
    return (
        f'<svg viewBox="0 0 800 {height + 20}" role="img" aria-label="faces by value">{bars}{line}</svg>'
        "<p>Bars: faces by value. Line: the same faces, each spread evenly over its interval.</p>"
    )


def _folders(aged: pa.Table) -> str:
    return _grouped([_folder(str(source)) for source in aged["source"].to_pylist()], aged, "folder")


def _folder(source: str) -> str:
    archive, _, member = source.partition(MEMBER)
    return archive if member else str(Path(source).parent)


def _months(aged: pa.Table) -> str:
    months = [when.strftime("%Y-%m") if when is not None else "" for when in aged["taken"].to_pylist()]
    if not any(months):
        return "<p>No picture has a date in its EXIF data.</p>"
    return _grouped([month or "unknown" for month in months], aged, "month")


def _grouped(names: list[str], aged: pa.Table, title: str) -> str:
    values = _floats(aged, "value")
    counted = Counter(names)
    shown = sorted(counted, key=lambda name: (-counted[name], name))[:ROWS]
    where = np.array(names)
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{counted[name]}</td>'
        + "".join(f'<td class="n">{v:.0f}</td>' for v in np.quantile(values[where == name], (0.1, 0.5, 0.9)))
        + "</tr>"
        for name in (sorted(shown) if title == "month" else shown)
    )
    more = f"<p>and {len(counted) - ROWS} more</p>" if len(counted) > ROWS else ""
    head = f'<tr><th>{title}</th><th class="n">faces</th><th class="n">10 %</th><th class="n">median</th><th class="n">90 %</th></tr>'
    return f"<table>{head}{rows}</table>{more}"


def _reasons(faces: pa.Table) -> str:
    counted = Counter(reason for reason in faces["reason"].to_pylist() if reason is not None)
    if not counted:
        return "<p>None.</p>"
    return "<p>" + ", ".join(f"{html.escape(reason)}: {n}" for reason, n in counted.most_common()) + "</p>"


def _errors(errors: pa.Table) -> str:
    if not len(errors):
        return "<p>None.</p>"
    kinds = Counter(_kind(row["error"], row["source"]) for row in errors.to_pylist())
    rows = "".join(
        f'<tr><td>{html.escape(kind)}</td><td class="n">{n}</td></tr>' for kind, n in kinds.most_common(ROWS)
    )
    return f'<table><tr><th>error</th><th class="n">inputs</th></tr>{rows}</table>'


def _kind(error: str, source: str) -> str:
    """Return an error without its file and numbers, so that the same error of many files counts as one kind."""
    return re.sub(r"\d+(\.\d+)?", "N", error.replace(f"{source}: ", ""))


def _sheet(rows: pa.Table, show_faces: bool) -> str:
    tiles = [shown for row in rows.to_pylist() if (shown := _tile(row, show_faces)) is not None]
    return (
        '<div class="sheet">'
        + "".join(
            f'<figure><img src="data:image/jpeg;base64,{_jpeg(shown.tile)}" alt=""><figcaption>{html.escape(shown.caption)}</figcaption></figure>'
            for shown in tiles
        )
        + "</div>"
    )


def _tile(row: dict[str, object], show_faces: bool) -> Shown | None:
    """Crop the face from its picture; None if the picture no longer exists or the source is a video."""
    source = str(row["source"])
    if row["time_s"] is not None or row["track"] is not None:
        return None
    try:
        pictures = list(pictures_in(content_of(_input(source)), source))
    except (NumclipError, *READ_FAULTS):
        return None
    index, box = row["index"], row["box"]
    if not isinstance(index, int) or not isinstance(box, list) or index >= len(pictures):
        return None
    image = pictures[index]
    x1, y1, x2, y2 = (float(v) for v in box)
    half = max(x2 - x1, y2 - y1) * (0.5 + AROUND)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    scale = TILE_PX / (2 * half)
    matrix = np.array([[scale, 0, TILE_PX / 2 - scale * x], [0, scale, TILE_PX / 2 - scale * y]], np.float32)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = np.asarray(
        cv2.warpAffine(image, matrix, (TILE_PX, TILE_PX), flags=interpolation, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
    if not show_faces:
        tile = np.asarray(
            cv2.resize(cv2.resize(tile, (7, 7), interpolation=cv2.INTER_AREA), (TILE_PX, TILE_PX)), np.uint8
        )
    value, low, high = row["value"], row["low"], row["high"]
    if value is None:
        caption = str(row["reason"])
    else:
        caption = f"{value:.0f}" + (f" ({low:.0f} to {high:.0f})" if low is not None else "")
    name = Path(source.rpartition(MEMBER)[2]).name
    return Shown(source, f"{caption} · {name}" if show_faces else caption, tile)


def _input(source: str) -> Input:
    """Return the input of a row, to read its picture again."""
    archive, _, member = source.partition(MEMBER)
    if not member:
        return Input(source, "file", source)
    if archive.lower().endswith(".zip"):
        return Input(source, "zip", archive, member)
    import tarfile

    with tarfile.open(archive) as tar:
        info = tar.getmember(member)
        if archive.lower().endswith(".tar"):
            return Input(source, "tar", archive, member, info.offset_data, info.size)
    raise KeyError(member)


def _jpeg(tile: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()).decode()
