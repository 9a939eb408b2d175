"""Damaged videos and pictures in every supported container, and a damaged recording: each gives results or an error sentence.

None crashes or hangs. Each batch runs in a separate process, so that a decoder crash fails the test without ending it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.cli.main import main
from numclip.runtime.sinks.video_writer import VideoWriter
from tests.video_maker import write_video

BATCH = """
import json, sys, time
import numpy as np
from pathlib import Path
from numclip.errors import NumclipError
from numclip.runtime.sinks.recording import Recording
from numclip.runtime.live.sources import open_source

folder, seeds = Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3]))
originals = [path for path in sorted(folder.iterdir()) if path.stem == "good"]

def spliced(data, random):
    data = bytearray(data)
    for _ in range(random.integers(1, 6)):
        at, many = int(random.integers(0, len(data))), int(random.integers(1, 60))
        kind = random.integers(0, 3)
        noise = random.bytes(many)
        if kind == 0:
            data[at : at + many] = noise
        elif kind == 1:
            data[at:at] = noise
        else:
            del data[at : at + many]
    return bytes(data)

for seed in seeds:
    random = np.random.default_rng(seed)
    original = originals[seed % len(originals)]
    bad = folder / f"bad{seed}{original.suffix}"
    bad.write_bytes(spliced(original.read_bytes(), random))
    started, seen, said = time.monotonic(), 0, ""
    try:
        if original.suffix == ".rec":
            for _ in Recording(bad).items():
                seen += 1
        else:
            with open_source(str(bad)) as source:
                for frame in source:
                    assert frame.image.dtype == np.uint8 and frame.image.ndim == 3
                    seen += 1
    except NumclipError as error:
        said = str(error)
    bad.unlink()
    print(json.dumps([seed, original.suffix, seen, said, time.monotonic() - started]), flush=True)
"""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, hopper: np.ndarray) -> Path:
    """Files good.* of one portrait, in every supported container."""
    folder = tmp_path_factory.mktemp("fuzz")
    small = np.asarray(cv2.resize(hopper, (128, 152), interpolation=cv2.INTER_AREA), np.uint8)
    cv2.imwrite(str(folder / "good.jpg"), small)
    writer = VideoWriter(folder / "good.mp4", 20)
    for i in range(12):
        writer.write(small, i / 20)
    writer.close()
    avi = cv2.VideoWriter(str(folder / "good.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (128, 152))
    for _ in range(12):
        avi.write(small)
    avi.release()
    for kind in (".png", ".webp", ".bmp", ".tiff", ".jp2", ".avif"):
        done, data = cv2.imencode(kind, small)
        if done:
            (folder / f"good{kind}").write_bytes(data.tobytes())
    for kind, codec in VIDEOS.items():
        write_video(folder / f"good{kind}", [small] * 12, codec)
    assert main(["run", str(folder / "good.mp4"), "--detector", "haar", "--record", str(folder / "good.rec")]) == 0
    return folder


VIDEOS = {
    ".mkv": "libx264", ".mov": "mpeg4", ".ts": "libx264", ".flv": "flv1", ".gif": "gif", ".apng": "apng",
    ".h264": "libx264", ".mjpeg": "mjpeg", ".mpg": "libx264", ".nut": "ffv1", ".webm": "libvpx",
}  # fmt: skip


def _fuzz(originals: Path, first: int, last: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BATCH, str(originals), str(first), str(last)],
        capture_output=True,
        text=True,
        timeout=550,
    )
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(cases) == last - first, done.stderr[-2000:]
    counts: dict[str, list[int]] = {}
    for seed, kind, seen, said, seconds in cases:
        assert seen or said, f"case {seed} ({kind}) gave nothing and said nothing"
        assert "\n" not in said and seconds < 20, (seed, said)
        counts.setdefault(kind, [0, 0])[bool(said)] += 1
    print({kind: f"{quiet} read through, {said} named" for kind, (quiet, said) in counts.items()})
    assert {".mp4", ".avi", ".jpg", ".rec", *VIDEOS} <= set(counts)


def test_forty_damaged_files(originals: Path) -> None:
    """Of 40 cases over all kinds none crashes or hangs; each is read completely or gives one error sentence."""
    _fuzz(originals, 0, 40)


@pytest.mark.slow
def test_two_thousand_damaged_files(originals: Path) -> None:
    """The same holds for 2,000 cases."""
    for first in range(1000, 3000, 500):
        _fuzz(originals, first, first + 500)
