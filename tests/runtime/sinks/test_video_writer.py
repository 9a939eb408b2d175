"""Written videos are readable and complete, however the writing ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

from numclip.errors import OutputError
from numclip.runtime.sinks.video_writer import VideoWriter


def _count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_odd_sizes_and_other_sizes(tmp_path: Path) -> None:
    """Odd sides lose one px, later pictures of another size are scaled to fit, and times are kept."""
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 30)
    for i, (h, w) in enumerate([(65, 97), (65, 97), (200, 30), (10, 500)]):
        writer.write(np.full((h, w, 3), 200, np.uint8), i * 0.5)
    writer.close()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [(f.width, f.height) for f in frames] == [(96, 64)] * 4
    np.testing.assert_allclose([f.time for f in frames], [0, 0.5, 1.0, 1.5], atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (15, 400)])
def test_tiny_pictures(size: tuple[int, int], tmp_path: Path) -> None:
    """A picture of one pixel is written in the smallest frame that the codec supports."""
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, None)
    writer.write(np.zeros((*size, 3), np.uint8), 0.0)
    writer.close()
    assert _count(path) == 1


def test_nothing_written(tmp_path: Path) -> None:
    """Closing a writer without any frame raises no error."""
    VideoWriter(tmp_path / "a.mp4", 30).close()


def test_no_such_folder(tmp_path: Path) -> None:
    """A path that cannot be written is an error in one sentence."""
    with pytest.raises(OutputError, match=r"cannot write .*nowhere"):
        VideoWriter(tmp_path / "nowhere" / "a.mp4", 30)


CHILD = """
import sys, time, resource, signal
import numpy as np
from pathlib import Path
from numclip.runtime.sinks.video_writer import VideoWriter
if len(sys.argv) > 2:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
random = np.random.default_rng(0)
writer = VideoWriter(Path(sys.argv[1]), 20)
for i in range(100000):
    writer.write(random.integers(0, 255, (120, 160, 3), np.uint8), i / 20)
    if i == 100:
        print("far enough", flush=True)
"""


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """After SIGKILL at 100 frames the file is readable except for at most the last second."""
    path = tmp_path / "a.mp4"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "far enough\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert _count(path) >= 80


@pytest.mark.parametrize(("fps", "step_s"), [(30, 0.1), (30, 0.6), (30, 3.0), (None, 0.1), (0.5, 0.1)])
def test_killed_at_another_rate(fps: float | None, step_s: float, tmp_path: Path) -> None:
    """If frames come faster or slower than the nominal rate, a killed process loses at most the last second and one frame."""
    path, many = tmp_path / "a.mp4", 40
    code = (
        "import os, signal, sys, numpy as np\nfrom pathlib import Path\n"
        "from numclip.runtime.sinks.video_writer import VideoWriter\n"
        f"writer = VideoWriter(Path(sys.argv[1]), {fps})\n"
        f"for i in range({many}):\n"
        f"    writer.write(np.full((64, 96, 3), 5 * i, np.uint8), i * {step_s})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    with av.open(str(path)) as container:
        last_s = max(frame.time for frame in container.decode(video=0))
    assert last_s >= (many - 1) * step_s - 1 - step_s - 0.01


def test_without_x264(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An FFmpeg without libx264 writes MPEG-4 part 2, with the same times."""
    monkeypatch.setattr(av, "codecs_available", set(av.codecs_available) - {"libx264"})
    writer = VideoWriter(tmp_path / "a.mp4", 30)
    times_s = [i * 0.4 for i in range(12)]
    for i, time_s in enumerate(times_s):
        writer.write(np.full((64, 96, 3), 20 * i, np.uint8), time_s)
    writer.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(times_s, abs=0.001)


def test_a_full_disk(tmp_path: Path) -> None:
    """On a full disk, writing stops with one sentence, and the written part is playable."""
    path = tmp_path / "a.mp4"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), "2000000"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and os.path.getsize(path) <= 2_000_000
    last = textwrap.dedent(done.stderr).strip().splitlines()[-1]
    assert "OutputError: cannot write" in last and "The file plays up to here" in last
    assert _count(path) >= 20
