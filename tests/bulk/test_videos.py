"""Videos in a collection: no face that was read is lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra bulk")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra bulk")
pytest.importorskip("av", reason="needs PyAV")
from numclip.bulk import BulkOptions, bulk  # noqa: E402
from tests.video_maker import write_video  # noqa: E402


def read(inputs: Path, out: Path, video: str = "track") -> tuple[list[dict[str, object]], list[str]]:
    """Return the rows of the faces, and the errors."""
    bulk(BulkOptions((str(inputs),), out, device="cpu", workers=1, video=video))
    errors = pq.read_table(out / "errors.parquet")["error"].to_pylist()
    return pq.read_table(out / "faces").to_pylist(), errors


@pytest.mark.parametrize(
    ("name", "times_s"),
    [("slow.mp4", [0, 1, 2, 3]), ("slides.gif", [0, 1, 2, 3]), ("one.mp4", [0]), ("two.mp4", [0, 0.1])],
)
def test_slides_have_a_row_per_face_and_frame(
    name: str, times_s: list[float], hopper: np.ndarray, tmp_path: Path
) -> None:
    """A video of at most 2 fps, a GIF of slides, and a video of one or two frames have no tracks: every face of every frame is
    a row with its index and time, and the rows are those of --video frame."""
    codec = "gif" if name.endswith(".gif") else "libx264"
    write_video(tmp_path / name, [hopper[:, :512]] * len(times_s), codec, times_s)
    rows, errors = read(tmp_path / name, tmp_path / "out")

    assert errors == []
    assert [row["index"] for row in rows] == list(range(len(times_s)))
    assert [row["time_s"] for row in rows] == pytest.approx(times_s, abs=0.05)
    assert all(row["track"] is None and row["value"] is not None for row in rows)
    assert rows == read(tmp_path / name, tmp_path / "frames", "frame")[0]


@pytest.mark.parametrize("video", ["track", "frame"])
def test_a_truncated_video_keeps_its_rows(video: str, hopper: np.ndarray, tmp_path: Path) -> None:
    """Of an mp4 that lacks its second half, the frames that can be read have rows, and the video is an error that says so."""
    frames = [cv2.warpAffine(hopper, np.array([[1, 0, i], [0, 1, 0]], np.float32), (512, 512)) for i in range(40)]
    path = write_video(tmp_path / "cut.mp4", frames, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows, (error,) = read(path, tmp_path / "out", video)

    assert "the video is damaged or truncated" in error and "the results contain the frames that were read" in error
    assert rows and all(row["source"] == str(path) for row in rows)
    if video == "track":
        assert len(rows) == 1 and 10 < int(str(rows[0]["frames"])) < 40 and rows[0]["value"] is not None
