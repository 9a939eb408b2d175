"""Large collections at realistic sizes: rows, memory, kills and a full disk. Slow; the rates are printed.

NUMCLIP_BULK_PICTURES (default 20000) and NUMCLIP_BULK_MINUTES of video (default 120) set the sizes.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra bulk")
psutil = pytest.importorskip("psutil")

ARCHIVES, DAMAGED, ROUNDS = 20, 50, 5
COLUMNS = ["source", "index", "box", "value", "low", "high", "word", "reason"]
LOOP = """
import json, sys, tarfile, time
import numclip
from numclip.errors import NumclipError
model, rows, started = numclip.load("age-nano", device="cpu"), [], time.perf_counter()
for path in sys.argv[2:]:
    with tarfile.open(path) as tar:
        for member in tar:
            data = tar.extractfile(member).read()
            try:
                found = numclip.read(data, model=model).faces
            except NumclipError:
                continue
            rows += [[f"{path}::{member.name}", face.age] for face in found]
json.dump({"seconds": time.perf_counter() - started, "rows": rows}, open(sys.argv[1], "w"))
"""


class Memory(threading.Thread):
    """Samples the resident memory of a process and its children, MB, five times per second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root, self.mb, self._over = psutil.Process(pid), list[float](), threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            total = 0
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    total += process.memory_info().rss
            except psutil.Error:
                continue
            self.mb.append(total / 2**20)

    def stop(self) -> list[float]:
        self._over.set()
        self.join()
        return self.mb


def bulk_words(inputs: list[Path], out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "numclip.cli.main",
        "bulk",
        *map(str, inputs),
        "--out",
        str(out),
        "--device",
        "cpu",
        *more,
    ]


def rows_of(out: Path) -> list[dict[str, object]]:
    rows = pq.read_table(out / "faces", columns=COLUMNS).to_pylist()
    return sorted(rows, key=lambda row: (str(row["source"]), row["index"], row["box"]))


@pytest.fixture(scope="module")
def archives(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty archives of small pictures, fifty of which are damaged."""
    count = int(os.environ.get("NUMCLIP_BULK_PICTURES", "20000")) // ARCHIVES
    folder = tmp_path_factory.mktemp("archives")
    with tarfile.open(shared_data / "data" / "utkface.tar") as tar:
        members = (member for member in tar if member.isfile())
        paths: list[Path] = []
        for i in range(ARCHIVES):
            paths.append(folder / f"{i:02d}.tar")
            with tarfile.open(paths[-1], "w") as out:
                for k in range(count):
                    file = tar.extractfile(next(members))
                    assert file is not None
                    add(out, f"{k:04d}.jpg", file.read())
                for k in range(i, DAMAGED, ARCHIVES):
                    add(out, f"damaged-{k:02d}.jpg", (b"no picture", b"", b"\xff\xd8\xff\xe0 cut short")[k % 3])
    return paths


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def count_of(archive: Path) -> int:
    with tarfile.open(archive) as tar:
        return len(tar.getnames())


@pytest.fixture(scope="module")
def undisturbed(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an uninterrupted run, and its memory use."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run = subprocess.Popen(bulk_words(archives, out, "--workers", "2"), stderr=subprocess.DEVNULL)
    memory = Memory(run.pid)
    memory.start()
    assert run.wait() == 0
    (out.parent / "memory.json").write_text(json.dumps(memory.stop()))
    return out


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_rows_and_memory(archives: list[Path], undisturbed: Path) -> None:
    """A run gives fifty errors, uses less than 1.5 GB over all processes, and no more in its last third than in its second."""
    errors = pq.read_table(undisturbed / "errors.parquet").to_pylist()
    mb = json.loads((undisturbed.parent / "memory.json").read_text())
    third = len(mb) // 3
    summary = json.loads((undisturbed / "summary.json").read_text())
    print(json.dumps(summary["stage_seconds"]), summary["inputs"], summary["seconds"], f"at most {max(mb):.0f} MB")

    assert len(errors) == DAMAGED and all("damaged-" in row["source"] for row in errors)
    assert summary["inputs"] == sum(map(count_of, archives))
    assert max(mb) < 1500
    assert np.median(mb[-third:-5]) < 1.1 * np.median(mb[third : 2 * third])


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_rows_are_those_of_a_loop(archives: list[Path], undisturbed: Path, tmp_path: Path) -> None:
    """Two processes, one process with one thread, and a loop over numclip.read give the same faces and ages. They run in turns;
    their rates and the median ratio are printed."""
    rates: dict[str, list[float]] = {"two processes": [], "one process": [], "loop": []}
    pictures = [count_of(path) for path in archives]
    by_loop: list[tuple[str, float | None]] = []
    for at in range(ROUNDS):
        mine = archives[at::ROUNDS]
        count = sum(pictures[at::ROUNDS])
        for name, words in {
            "two processes": bulk_words(mine, tmp_path / f"two{at}", "--workers", "2"),
            "one process": bulk_words(mine, tmp_path / f"one{at}", "--workers", "1"),
            "loop": [sys.executable, "-c", LOOP, str(tmp_path / f"loop{at}.json"), *map(str, mine)],
        }.items():
            one = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"} if name == "one process" else {}
            started_s = time.perf_counter()
            subprocess.run(words, check=True, capture_output=True, env={**os.environ, **one})
            rates[name].append(count / (time.perf_counter() - started_s))
        by_loop += [tuple(row) for row in json.loads((tmp_path / f"loop{at}.json").read_text())["rows"]]
    two = np.array(rates["two processes"])
    for name, values in rates.items():
        print(f"{name}: {np.median(values):.1f} pictures/s; two processes / this: {np.median(two / values):.2f}")

    rows = [(str(row["source"]), row["value"]) for row in rows_of(undisturbed)]
    assert [source for source, _ in rows] == [source for source, _ in sorted(by_loop, key=lambda row: row[0])]
    by_source = sorted(rows, key=str), sorted(by_loop, key=str)
    for (source, ours), (_, theirs) in zip(*by_source, strict=True):
        assert (ours is None) == (theirs is None), source
        assert ours is None or theirs is None or abs(float(str(ours)) - theirs) < 1e-3, source


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_ray_at_one_and_two_workers(archives: list[Path], undisturbed: Path, tmp_path: Path) -> None:
    """Ray with one actor and with two writes the rows of the local engine for four archives; their pictures per second are printed."""
    pytest.importorskip("ray", reason="needs the extra ray")
    mine = archives[:4]
    count, names = sum(map(count_of, mine)), tuple(map(str, mine))
    expected = [row for row in rows_of(undisturbed) if str(row["source"]).startswith(names)]
    for engine, workers in (("local", 1), ("ray", 1), ("local", 2), ("ray", 2)):
        out = tmp_path / f"{engine}{workers}"
        words = bulk_words(mine, out, "--workers", str(workers), "--engine", engine)
        started_s = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        whole_s = time.perf_counter() - started_s
        print(f"{engine}, {workers}: {count / whole_s:.1f} pictures/s ({whole_s:.1f} s)")
        assert rows_of(out) == expected


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_twenty_kills(archives: list[Path], undisturbed: Path, tmp_path: Path) -> None:
    """After kill -9 of the whole process group at twenty random moments, the rows equal those of an uninterrupted run."""
    out, kills, moment = tmp_path / "out", 0, random.Random(7)
    whole_s = json.loads((undisturbed / "summary.json").read_text())["seconds"]
    words = bulk_words(archives, out, "--workers", "2", "--unit-size", "50")
    while kills < 20:
        run = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(timeout=moment.uniform(1, 6 + whole_s / 20))
            break
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            kills += 1
    print(f"{kills} kills")

    assert kills >= 15
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert [{**row, "value": 0, "low": 0, "high": 0} for row in rows_of(out)] == [
        {**row, "value": 0, "low": 0, "high": 0} for row in rows_of(undisturbed)
    ]
    ours, theirs = (np.array([row["value"] for row in rows_of(folder)], float) for folder in (out, undisturbed))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)  # with units of fifty, the pictures of a call differ


def test_a_full_disk_loses_nothing(hopper: np.ndarray, tmp_path: Path) -> None:
    """If a file cannot grow, as on a full disk, the run ends with one sentence and exit code 1; with space, the same command
    completes all rows."""
    import cv2

    (tmp_path / "in").mkdir()
    for i in range(8):
        cv2.imwrite(str(tmp_path / "in" / f"{i}.jpg"), hopper)
    words = bulk_words([tmp_path / "in"], tmp_path / "out", "--workers", "1", "--unit-size", "2")

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))

    full = subprocess.run(words, capture_output=True, text=True, preexec_fn=no_room)
    said = [line for line in full.stderr.splitlines() if "free space" in line]
    assert full.returncode == 1 and len(said) == 1 and "Traceback" not in full.stderr, full.stderr[-2000:]
    assert not list((tmp_path / "out").rglob("*.draft"))
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert len({row["source"] for row in rows_of(tmp_path / "out")}) == 8


def test_a_small_tmpfs_fills_up(hopper: np.ndarray, tmp_path: Path) -> None:
    """The same holds on a real file system of 60 kB, if mounting is allowed."""
    import cv2

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        (tmp_path / "in").mkdir()
        for i in range(12):
            cv2.imwrite(str(tmp_path / "in" / f"{i:02d}.jpg"), hopper)
        words = bulk_words([tmp_path / "in"], disk / "out", "--workers", "1", "--unit-size", "1")
        full = subprocess.run(words, capture_output=True, text=True)
        assert full.returncode == 1 and "free space" in full.stderr and "Traceback" not in full.stderr, full.stderr
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert subprocess.run(words, capture_output=True).returncode == 0
        assert len({row["source"] for row in rows_of(disk / "out")}) == 12
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def long_video(two_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A clip repeated to a video of the given minutes, and one of a quarter of that."""
    av = pytest.importorskip("av")
    minutes = float(os.environ.get("NUMCLIP_BULK_MINUTES", "120"))
    folder = tmp_path_factory.mktemp("long")
    with av.open(str(two_people)) as source:
        clip = [bytes(packet) for packet in source.demux(video=0) if packet.size]
    seconds = len(clip) / 30
    paths = (folder / "whole.h264", folder / "quarter.h264")
    for path, share in zip(paths, (1, 0.25), strict=True):
        with path.open("wb") as file:
            for _ in range(max(1, round(share * minutes * 60 / seconds))):
                file.writelines(clip)
    yield paths
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_long_video(long_video: tuple[Path, Path], tmp_path: Path) -> None:
    """One row per track: the whole video takes no more memory than its quarter, and two runs write the same bytes. The times of
    a quarter and of the whole are printed."""
    whole, quarter = long_video
    peak_mb: dict[str, float] = {}
    for name, path in (("quarter", quarter), ("whole", whole), ("again", whole)):
        run = subprocess.Popen(bulk_words([path], tmp_path / name, "--workers", "1"), stderr=subprocess.DEVNULL)
        memory = Memory(run.pid)
        memory.start()
        started_s = time.perf_counter()
        assert run.wait() == 0
        took_s, peak_mb[name] = time.perf_counter() - started_s, max(memory.stop())
        print(f"{name}: {took_s:.0f} s, at most {peak_mb[name]:.0f} MB")
    assert peak_mb["whole"] < 1.1 * peak_mb["quarter"]
    first, second = (tmp_path / name / "faces" / "part-00000.parquet" for name in ("whole", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_million_files_are_listed(tmp_path: Path) -> None:
    """A million empty files in one folder are listed as a million inputs, each once, in order."""
    from numclip.bulk.inputs import cut, list_inputs

    for i in range(1_000_000):
        (tmp_path / f"{i:06d}.jpg").touch()
    units = list(cut(list_inputs([str(tmp_path)]), 200))
    assert len(units) == 5000 and sum(len(unit.inputs) for unit in units) == 1_000_000
    assert units[0].inputs[0].source.endswith("000000.jpg") and units[-1].inputs[-1].source.endswith("999999.jpg")


def test_duckdb_and_pandas_read_the_result(hopper: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two examples of docs/bulk.md run on a result."""
    import re

    import cv2

    pytest.importorskip("duckdb", reason="needs duckdb")
    pytest.importorskip("pandas", reason="needs the extra pandas")
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.jpg"), hopper)
    subprocess.run(bulk_words([tmp_path / "in"], tmp_path / "ages", "--workers", "1"), check=True, capture_output=True)
    page = (Path(__file__).resolve().parents[2] / "docs" / "bulk.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(examples) == 2
    for example in examples:
        done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and "old person" in done.stdout, done.stderr + done.stdout
