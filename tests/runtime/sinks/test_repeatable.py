"""A file's results are the same on every run, however busy the machine, from the command and from Python."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

import numclip
from numclip.runtime.live.sources import open_source

# The disturbance and the threads of each of the ten runs; "auto" chooses the library in all of them.
RUNS = (
    ("idle", 1),
    ("idle", 2),
    ("idle", None),
    ("nice", 1),
    ("nice", 2),
    ("nice", None),
    ("hog", 1),
    ("hog", 2),
    ("hog", None),
    ("idle", 1),
)


@contextmanager
def hogs(many: int) -> Generator[None]:
    """Processes that use all available CPU time."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(many)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def run(source: Path, out: Path, disturbed: str, threads: int | None, *flags: str) -> tuple[str, list[str]]:
    """Run the command; return (the message on the device, the JSON lines without latency_ms)."""
    words = [sys.executable, "-m", "numclip.cli.main", "run", str(source), "--jsonl", str(out), *flags]
    words += [] if threads is None else ["--threads", str(threads)]
    words = ["nice", *words] if disturbed == "nice" else words
    with hogs((os.cpu_count() or 1) if disturbed == "hog" else 0):
        done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    device = next(line for line in done.stderr.splitlines() if line.startswith("numclip: device"))
    return device, [without_latency(line) for line in out.read_text(encoding="utf-8").splitlines()]


def without_latency(line: str) -> str:
    """Return the line's exact characters without the value of latency_ms."""
    return re.sub(r'"latency_ms": [\d.]+', '"latency_ms": 0', line)


def numbers_apart(value: object, numbers: list[float]) -> object:
    """Return the record without its fractional numbers, which are moved into `numbers`, in order."""
    if isinstance(value, dict):
        return {key: numbers_apart(inner, numbers) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers_apart(inner, numbers) for inner in value]
    if isinstance(value, float):
        numbers.append(value)
        return "a number"
    return value


def alike(lines: list[str], others: list[str]) -> None:
    """Check that frames, faces, tracks, words and answers are the same, and numbers agree within 1e-3."""
    mine, theirs = list[float](), list[float]()
    assert numbers_apart([json.loads(a) for a in lines], mine) == numbers_apart([json.loads(b) for b in others], theirs)
    assert mine == pytest.approx(theirs, abs=1e-3, rel=0)


def ten_runs(clip: Path, folder: Path) -> None:
    by_threads: dict[int | None, list[str]] = {}
    devices = set[str]()
    for index, (disturbed, threads) in enumerate(RUNS):
        device, lines = run(clip, folder / f"{index}.jsonl", disturbed, threads, "--gate", "18")
        devices.add(device)
        assert lines == by_threads.setdefault(threads, lines), f"{disturbed}, {threads} threads: other bytes"
        alike(lines, by_threads[1])
    assert len(devices) == 1, devices
    assert any(json.loads(line)["faces"] for line in by_threads[1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_runs_of_the_demo_s_clip(tmp_path: Path) -> None:
    """Ten runs (idle, nice, busy, 1 and 2 threads) use one library and give identical lines per number of threads, otherwise within
    1e-3."""
    pytest.importorskip("skimage", reason="the clip is made from the demo extra's portraits")
    from numclip.demo.clip import write_clip

    write_clip(tmp_path / "clip.mp4")
    ten_runs(tmp_path / "clip.mp4", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_runs_of_a_clip_of_people(two_people: Path, tmp_path: Path) -> None:
    """The same holds for 300 frames of real video."""
    ten_runs(two_people, tmp_path)


def test_python_says_what_the_command_says(two_people: Path, tmp_path: Path) -> None:
    """numclip.stream on a busy machine, and a clip passed frame by frame, give exactly the command's lines."""
    clip = tmp_path / "short.mp4"
    with open_source(str(two_people)) as source:
        frames = [frame.image for frame, _ in zip(source, range(60))]
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 30, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    _, lines = run(clip, tmp_path / "a.jsonl", "idle", 1)
    model = numclip.load("age-nano", threads=1)
    with hogs(4):
        streamed = [without_latency(r.to_json()) for r in numclip.stream(clip, model)]
        with open_source(str(clip)) as source:
            own = numclip.stream(((frame.image, frame.time_s) for frame in source), model)
            handed = [without_latency(r.to_json()) for r in own]
    assert streamed == lines and len(lines) == 60
    assert [line.replace('"frames"', json.dumps(str(clip)), 1) for line in handed] == lines


def test_stills_are_read_alike(two_people: Path, tmp_path: Path) -> None:
    """map(numclip.read, frames), twice and once on a busy machine, a list, and a folder give the same faces and numbers."""
    with open_source(str(two_people)) as source:
        frames = [frame.image for frame, _ in zip(source, range(120)) if frame.index % 20 == 0]
    folder = tmp_path / "stills"
    folder.mkdir()
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    model = numclip.load("age-nano", threads=1)

    def faces(results: object) -> list[str]:
        return [json.dumps([face.to_dict() for face in result.faces]) for result in results]  # type: ignore[attr-defined]

    read = functools.partial(numclip.read, model=model)
    expected = faces(map(read, frames))
    with hogs(4):
        assert faces(map(read, frames)) == expected
        _, lines = run(folder, tmp_path / "a.jsonl", "hog", 1)
    assert [json.dumps(json.loads(line)["faces"]) for line in lines] == expected
    alike(faces(numclip.read(frames, model)), expected)
    assert faces(map(numclip.read, frames)) == faces(map(numclip.read, frames)), "with the default model"
