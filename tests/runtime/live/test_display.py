"""Frames look as in a player: square pixels, upright, not mirrored, SDR, deinterlaced; from files and over HTTP."""

from __future__ import annotations

import functools
import gc
import http.server
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from numclip.runtime.live.display import Display
from numclip.runtime.live.sources import open_source
from tests.video_maker import CORNERS, corners, grays, seen_corners, set_matrix, write_video

# a b c d of the track's matrix -> new place of each corner, by QuickTime's formula
MATRICES = {
    "as it is": (1, 0, 0, 1),
    "a quarter right": (0, 1, -1, 0),
    "a half": (-1, 0, 0, -1),
    "a quarter left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down and mirrored": (1, 0, 0, -1),
    "mirrored, a quarter right": (0, -1, -1, 0),
    "mirrored, a quarter left": (0, 1, 1, 0),
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL at which tmp_path is served."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _frames(source: str) -> list[np.ndarray]:
    with open_source(source) as opened:
        return [frame.image for frame in opened]


@pytest.mark.parametrize("name", MATRICES)
def test_a_display_matrix(name: str, tmp_path: Path, served: str) -> None:
    """For each of the eight rotations and reflections, every corner is where the matrix puts it, in a file and over HTTP."""
    a, b, c, d = MATRICES[name]
    video = write_video(tmp_path / "turned.mp4", [corners()] * 4)
    set_matrix(video, a, b, c, d)
    expected = {}
    for place in CORNERS:
        x, y = (1 if "right" in place else -1), (1 if "bottom" in place else -1)
        to_x, to_y = a * x + c * y, b * x + d * y
        expected[f"{'bottom' if to_y > 0 else 'top'} {'right' if to_x > 0 else 'left'}"] = place
    for source in (str(video), f"{served}/turned.mp4"):
        images = _frames(source)
        assert len(images) == 4 and all(seen_corners(image) == expected for image in images)
        assert images[0].shape == ((64, 96, 3) if a else (96, 64, 3))


@pytest.mark.parametrize(("aspect", "shape"), [(Fraction(4, 3), (64, 128, 3)), (Fraction(1, 2), (128, 96, 3))])
def test_pixels_that_are_not_square(aspect: Fraction, shape: tuple[int, ...], tmp_path: Path, served: str) -> None:
    """96 x 64 pixels with aspect 4:3 become 128 x 64, with 1:2 they become 96 x 128, in a file and over HTTP."""
    video = write_video(tmp_path / "wide.mp4", [corners()] * 4, sample_aspect_ratio=aspect)
    for source in (str(video), f"{served}/wide.mp4"):
        assert {image.shape for image in _frames(source)} == {shape}


def _hdr(code: int, transfer: int) -> av.VideoFrame:
    """Write a grey with this 10-bit code in BT.2020."""
    frame = av.VideoFrame(64, 64, "yuv420p10le")
    for number, plane in enumerate(frame.planes):
        plane.update(np.full(plane.buffer_size // 2, 512 if number else code, np.uint16).tobytes())
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = transfer, 9, 9, 1
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame


# Hand-computed for code 300 (signal 0.269): PQ is 6.7 cd/m2, HLG on a display of 1000 cd/m2 is 11.4 cd/m2; with white at 203
# cd/m2 and a gamma of 2.4 these are 62 and 77 of 255. Interpreted as SDR the value is 68.
@pytest.mark.parametrize(("transfer", "level"), [(16, 62), (18, 77)], ids=["PQ", "HLG"])
def test_hdr_is_tone_mapped(transfer: int, level: int) -> None:
    """Black and white stay the same; a dark grey is within 4 levels of its look on a display of 203 cd/m2."""
    shown = {}
    for code in (64, 300, 940):
        ((image, _),) = Display().images(_hdr(code, transfer), None)
        shown[code] = float(image.mean())
    assert shown[64] < 3 and shown[940] > 250 and abs(shown[300] - level) < 4


def test_combs_are_taken_out() -> None:
    """With a bar that moves between the two fields of each picture, there are no comb artefacts, and no picture is lost."""
    graph = Graph()
    first = graph.add_buffer(width=128, height=96, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25))
    mark, sink = graph.add("setfield", "tff"), graph.add("buffersink")
    first.link_to(mark)
    mark.link_to(sink)
    graph.configure()
    display, combed, clean = Display(), [], []
    for i in range(12):
        image = np.zeros((96, 128, 3), np.uint8)
        image[0::2, 4 * i : 4 * i + 20] = 255
        image[1::2, 4 * i + 8 : 4 * i + 28] = 255
        frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(format="yuv420p")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        graph.push(frame)
        marked = graph.pull()
        assert isinstance(marked, av.VideoFrame) and marked.interlaced_frame
        combed.append(image)
        clean += [image for image, _ in display.images(marked, None)]
    clean += [image for image, _ in display.images(None, None)]
    if display.notes:
        pytest.skip(display.notes[0])

    def comb(images: list[np.ndarray]) -> float:
        rows = np.stack(images)[..., 1].astype(float)
        return float(np.abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).mean())

    assert len(clean) == 12 and comb(clean) < 0.35 * comb(combed)


def test_the_size_may_change_within_a_stream(tmp_path: Path) -> None:
    """In a stream with alternating picture sizes, each frame has its own size."""
    small, large = (write_video(tmp_path / f"{side}.ts", grays(6, side=side)) for side in (32, 64))
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    sizes = [image.shape[0] for image in _frames(str(tmp_path / "both.ts"))]
    assert sizes == [32] * 6 + [64] * 6


def test_pictures_are_let_go_as_they_are_read(two_people: Path) -> None:
    """After 300 frames without Python's cyclic garbage collection, at most the key frames, whose display matrix was read, are still
    in memory."""
    with av.open(str(two_people)) as container:
        keys = sum(packet.is_keyframe for packet in container.demux(video=0))
    gc.collect()
    gc.disable()
    try:
        with open_source(str(two_people)) as source:
            frames = sum(1 for _ in source)
        held = sum(isinstance(each, av.VideoFrame) for each in gc.get_objects())
    finally:
        gc.enable()
    assert frames == 300 and keys < 30 and held <= keys + 1
