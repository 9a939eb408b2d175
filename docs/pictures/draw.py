"""Draw the pictures of the documentation: python docs/pictures/draw.py [FOLDER].

The two ways are boxes and arrows. The interval is read off a portrait that scikit-image ships, with age-nano as it is. The
latency plot shows the first table of docs/bench_card.json. Nothing in them is typed by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import skimage.data

import numclip

matplotlib.use("svg")
# The same picture gives the same file: no date, ids from a fixed salt, text kept as text.
plt.rcParams.update(
    {
        "svg.hashsalt": "numclip",
        "svg.fonttype": "none",
        "font.size": 10,
        "font.family": "sans-serif",
        "savefig.facecolor": "white",
    }
)
HERE = Path(__file__).parent
BLUE, LIGHT, GREY = "#3f51b5", "#e8eaf6", "#757575"
FRAME_WAY = [
    ("source", "camera, file,\nstream"),
    ("faces", "faces-nano:\nboxes, landmarks"),
    ("track", "who is who;\nwho is due"),
    ("crops", "aligned,\nuint8 RGB"),
    ("model", "value,\nprobabilities"),
    ("running age", "looks become\none number"),
    ("outputs", "window, video,\nJSON lines"),
]
WEIGHT_WAY = [
    ("data", "labelled\npictures"),
    ("train", "words, towers,\nlosses"),
    ("export", "text becomes\nconstants"),
    ("quantize", "INT8 (if\nyou want it)"),
    ("calibrate", "intervals\nand gates"),
    ("verify", "differences\nin years"),
    ("run", "one .onnx\nfile"),
]


def save(name: str, folder: Path) -> None:
    plt.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
    plt.close()


def way(steps: list[tuple[str, str]], name: str, folder: Path) -> None:
    """Boxes in a row, with arrows between them."""
    _, axes = plt.subplots(figsize=(len(steps) * 1.65, 1.4))
    for at, (title, text) in enumerate(steps):
        axes.add_patch(plt.Rectangle((at, 0), 0.84, 1, facecolor=LIGHT, edgecolor=BLUE))
        axes.text(at + 0.42, 0.74, title, ha="center", va="center", weight="bold", color=BLUE)
        axes.text(at + 0.42, 0.34, text, ha="center", va="center", fontsize=8)
        if at:
            axes.annotate("", (at, 0.5), (at - 0.16, 0.5), arrowprops={"arrowstyle": "->", "color": GREY})
    axes.set(xlim=(-0.05, len(steps)), ylim=(-0.05, 1.05))
    axes.axis("off")
    save(name, folder)


def interval(folder: Path) -> None:
    """The words' probabilities for one portrait, the value, and its intervals at three levels."""
    model = numclip.load("age-nano", device="cpu")
    picture = np.ascontiguousarray(skimage.data.astronaut()[:, :, ::-1])
    face = max(numclip.read(picture, model=model).faces, key=lambda face: face.score)
    assert face.look is not None
    task = model.spec.task
    edges = np.array(task.bin_edges)
    _, axes = plt.subplots(figsize=(8, 3))
    density = face.look.probabilities / np.diff(edges)
    axes.bar(edges[:-1], density, np.diff(edges), align="edge", facecolor=LIGHT, edgecolor=BLUE)
    top = float(density.max())
    for level, height in ((0.5, 1.12), (0.8, 1.24), (0.9, 1.36)):
        low, high = face.look.interval(level)
        axes.plot([low, high], [height * top] * 2, color=BLUE, linewidth=4 * (1.2 - level) + 1.5)
        axes.text(high + 1, height * top, f"{level:.0%}: {low:.0f} to {high:.0f}", va="center", fontsize=9)
    axes.axvline(face.look.value, color="#c62828")
    axes.text(face.look.value, 1.5 * top, f" {face.look.value:.1f} years", color="#c62828", va="center")
    axes.set(xlabel="age in years", ylabel="probability per year", xlim=(0, 100), ylim=(0, 1.6 * top))
    axes.spines[["top", "right"]].set_visible(False)
    save("interval.svg", folder)


def latency(folder: Path) -> None:
    """Median and 90th percentile of one face, per model and device, from the benchmark card."""
    report = json.loads((HERE.parent / "bench_card.json").read_text(encoding="utf-8"))["One face"]
    rows = [row for row in report["rows"] if "random" not in row["model"] and row["device"] != "auto"]
    rows.sort(key=lambda row: row["latency_ms"]["p50"]["value"])
    names = [f"{row['model']}, {row['device']}" for row in rows]
    middle = np.array([row["latency_ms"]["p50"]["value"] for row in rows])
    slow = np.array([row["latency_ms"]["p90"]["value"] for row in rows])
    _, axes = plt.subplots(figsize=(8, 0.36 * len(rows) + 0.9))
    axes.barh(names, middle, color=BLUE, label="median")
    axes.barh(names, slow - middle, left=middle, color=LIGHT, edgecolor=BLUE, label="to the 90th percentile")
    axes.invert_yaxis()
    axes.set(xlabel=f"ms for one face ({report['environment']['cpu']}, {report['environment']['cores']} shared cores)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save("latency.svg", folder)


def draw(folder: Path) -> None:
    """All pictures, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    way(FRAME_WAY, "way-of-a-frame.svg", folder)
    way(WEIGHT_WAY, "way-of-a-weight.svg", folder)
    interval(folder)
    latency(folder)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
