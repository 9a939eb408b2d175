"""A file's type comes from its content; names of any form work; damage is reported only where it is."""

from __future__ import annotations

import http.server
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from numclip.errors import SourceError
from numclip.runtime.live.addresses import hide_in, shown
from numclip.runtime.live.capture import Captures
from numclip.runtime.live.connections import Connection
from numclip.runtime.live.frames import Arrival, Frame, Source, SourceEvent, SourceInfo
from numclip.runtime.live.live_sources import LiveSource
from numclip.runtime.live.sources import open_source, open_sources
from tests.video_maker import corners, grays, seen_corners, write_video


def _read(source: str) -> tuple[list[Frame], SourceInfo, str]:
    """Return (frames, notes, error sentence at the end)."""
    with open_source(source) as opened:
        frames: list[Frame] = []
        try:
            frames.extend(opened)
        except SourceError as error:
            return frames, opened.open(), str(error)
        return frames, opened.open(), ""


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".jp2", ".avif", ".gif"])
def test_a_picture_without_its_suffix(suffix: str, tmp_path: Path) -> None:
    """A picture without its suffix is one still picture with its corners in place."""
    done, data = cv2.imencode(suffix, corners())
    if not done:
        pytest.skip(f"this OpenCV writes no {suffix}")
    (tmp_path / "snapshot").write_bytes(data.tobytes())
    frames, info, said = _read(str(tmp_path / "snapshot"))
    assert said == "" and len(frames) == 1 and info.stills
    assert all(old == new for old, new in seen_corners(frames[0].image).items())


def test_a_heic_picture_is_refused_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pillow-heif, the error for a HEIC named .jpg says that it is HEIC and names the package."""
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "phone.jpg").write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"heic", 0, b"mif1") + bytes(100))
    assert "decoding this HEIC picture needs a package" in _read(str(tmp_path / "phone.jpg"))[2]


def test_a_folder_names_what_it_leaves_out(tmp_path: Path) -> None:
    """Of a folder with a picture, a text and a clip, the picture is read and a note names the others."""
    cv2.imwrite(str(tmp_path / "a.png"), corners())
    (tmp_path / "notes.txt").write_text("words")
    write_video(tmp_path / "clip.mp4", grays(4))
    for source in (str(tmp_path), str(tmp_path / "*")):
        frames, info, said = _read(source)
        assert len(frames) == 1 and said == "" and info.notes == ("skipped, not pictures: clip.mp4, notes.txt",)


def test_a_huge_picture_does_not_end_its_folder(tmp_path: Path) -> None:
    """With a PNG that claims 60000 x 60000 between two good pictures, both are read, and one sentence names the PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    for name in "ac":
        cv2.imwrite(str(tmp_path / f"{name}.png"), corners())
    frames, _, said = _read(str(tmp_path))
    assert [frame.file for frame in frames] == ["a.png", "c.png"] and "b.png" in said and "\n" not in said


@pytest.mark.parametrize("kind", ["gif", "apng", "tiff", "webp"])
def test_animations_and_pages_are_read_whole(kind: str, tmp_path: Path) -> None:
    """Animations and multi-page files with five pictures give five frames."""
    path, pictures = tmp_path / f"many.{kind}", grays(5)
    if kind == "tiff":
        cv2.imwritemulti(str(path), pictures)
    elif kind == "webp":
        if not hasattr(cv2, "Animation"):
            pytest.skip("this OpenCV writes no animations")
        animation = cv2.Animation()
        animation.frames, animation.durations = pictures, [100] * 5
        cv2.imwriteanimation(str(path), animation)
    else:
        write_video(path, pictures, kind)
    frames, _, said = _read(str(path))
    assert len(frames) == 5 and said == ""


@pytest.mark.parametrize("many", [1, 2])
def test_a_clip_of_one_or_two_frames_is_pictures(many: int, tmp_path: Path) -> None:
    """In a clip of one or two frames, tracks need not be confirmed by three detections."""
    frames, info, said = _read(str(write_video(tmp_path / "short.mp4", grays(many))))
    assert len(frames) == many and info.stills and said == ""


def test_slides_are_pictures(tmp_path: Path) -> None:
    """A video with one picture every two seconds is read as still pictures with their times."""
    video = write_video(tmp_path / "slides.mkv", grays(5), times_s=[0, 2, 4, 6, 8])
    frames, info, _ = _read(str(video))
    assert info.stills and [round(f.time_s, 2) for f in frames] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("begins_s", [[0, 1.1], [0, 2, 4], [0, 0.1, 3]])
def test_a_video_that_begins_slowly_is_not_slides(begins_s: list[float], tmp_path: Path) -> None:
    """A video whose first one or two pictures last a second or more, and the others 1/30 s, is a video; no picture is lost."""
    times_s = begins_s + [begins_s[-1] + i / 30 for i in range(1, 15)]
    video = write_video(tmp_path / "vfr.mkv", grays(len(times_s)), times_s=times_s)
    frames, info, said = _read(str(video))
    assert not info.stills and said == ""
    assert [f.time_s for f in frames] == pytest.approx(times_s, abs=0.001)


@pytest.mark.parametrize("name", ["12:30.mp4", "~me.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_names_of_any_form(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File names with a colon, a ~ or bytes that are not UTF-8 can be written and read; the source's name is valid text."""
    from numclip.runtime.sinks.video_writer import VideoWriter

    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path(name), 10)
    for i, picture in enumerate(grays(4)):
        writer.write(picture, i / 10)
    writer.close()
    frames, info, said = _read(name)
    assert len(frames) == 4 and said == "" and info.name.encode()


def test_joined_pieces_are_whole(tmp_path: Path) -> None:
    """Two transport streams in one file give 60 frames, times 0 to 5.9 s and two segments, and are not reported as damaged."""
    pieces = [write_video(tmp_path / f"{i}.ts", grays(30)).read_bytes() for i in range(2)]
    (tmp_path / "both.ts").write_bytes(b"".join(pieces))
    frames, _, said = _read(str(tmp_path / "both.ts"))
    assert said == "" and [f.segment for f in frames] == [0] * 30 + [1] * 30
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(60) / 10, atol=0.02)


def test_a_clock_that_starts_late(tmp_path: Path) -> None:
    """Frames whose times start at 25 h are timed from 0."""
    frames, _, _ = _read(str(write_video(tmp_path / "late.ts", grays(10), start_s=90_000)))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(10) / 10, atol=0.02)


def test_a_missing_piece_of_a_playlist_is_named(tmp_path: Path) -> None:
    """A complete playlist gives no message; with a missing piece, the other frames are read and the piece is named."""
    for i in range(3):
        write_video(tmp_path / f"{i}.ts", grays(20), start_s=2 * i)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2"]
    lines += [line for i in range(3) for line in ("#EXTINF:2.0,", f"{i}.ts")]
    (tmp_path / "list.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    frames, _, said = _read(str(tmp_path / "list.m3u8"))
    assert len(frames) == 60 and said == ""
    (tmp_path / "1.ts").unlink()
    frames, _, said = _read(str(tmp_path / "list.m3u8"))
    assert len(frames) == 40 and "1.ts" in said


def test_a_missing_piece_of_a_long_playlist_on_a_server_is_told(tmp_path: Path) -> None:
    """With one of sixty pieces missing on an HTTP server, a sixtieth is reported as missing; a complete playlist gives no message."""
    for i in range(60):
        write_video(tmp_path / f"{i}.ts", grays(10), start_s=i)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"]
    lines += [line for i in range(60) for line in ("#EXTINF:1.0,", f"{i}.ts")]
    (tmp_path / "list.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # pyright: ignore[reportArgumentType]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/list.m3u8"
        frames, _, said = _read(url)
        assert len(frames) == 600 and said == ""
        (tmp_path / "31.ts").unlink()
        frames, _, said = _read(url)
        assert len(frames) == 590 and "damaged or truncated" in said
        server.shutdown()


def test_a_gif_without_its_last_byte_is_whole(tmp_path: Path) -> None:
    """A GIF without its trailer byte gives five frames and no message."""
    path = write_video(tmp_path / "a.gif", grays(5), "gif")
    path.write_bytes(path.read_bytes()[:-1])
    frames, _, said = _read(str(path))
    assert len(frames) == 5 and said == ""


def test_the_default_video_is_shown(tmp_path: Path) -> None:
    """Of two video tracks, the one marked as default is read."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
        streams[0].disposition, streams[1].disposition = 0, 1
        for stream, level in zip(streams, (40, 200), strict=True):
            for _ in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), "bgr24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    frames, _, _ = _read(str(path))
    assert len(frames) == 5 and all(abs(float(f.image.mean()) - 200) < 8 for f in frames)


SECRETS = [
    "RTSP://user:secret@cam:554/x",
    "srt://user:secret@cam:9",
    "rtsp://user:se/secret@cam/x",
    "rtsp://user:a?secret@cam/x",
    "rtsp://user:a#secret@cam/x",
    "rtsp://user:p@secret@cam/x",
    "http://cam/video?token=secret",
    "rtsp://cam/user=admin&password=secret&channel=1.sdp",
    "http://cam/live/me/secret/12.ts",
    "user:secret@cam/x",
]


@pytest.mark.parametrize("address", SECRETS)
def test_a_secret_is_never_shown(address: str) -> None:
    """In every form of address the host stays and the secret is removed, even within a library's message."""
    assert "secret" not in shown(address) and "cam" in shown(address)
    if "://" in address:
        assert "secret" not in hide_in(f"failed to open '{address}': no route")


def test_addresses_that_differ_only_in_what_is_hidden() -> None:
    """Addresses that differ only in their hidden parts get different names."""
    sources = open_sources(["http://cam/?id=1", "http://cam/?id=2"])
    assert [source.name for source in sources] == ["http://cam/", "http://cam/ #2"]


@pytest.fixture
def multipart() -> Iterator[tuple[str, list[float]]]:
    """A server of JPEG parts with the content type in the URL's path; it records the time of each connection."""
    jpeg, times = cv2.imencode(".jpg", corners())[1].tobytes(), list[float]()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            times.append(time.monotonic())
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = f"--frame\r\nContent-Type: image/{self.path[1:]}\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            try:
                while True:
                    self.wfile.write(head + jpeg + b"\r\n")
                    time.sleep(0.03)
            except OSError:
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", times
        server.shutdown()


@pytest.mark.parametrize("kind", ["jpeg", "jpg", "jpeg;size=30348"])
def test_any_type_of_part_is_a_frame(kind: str, multipart: tuple[str, list[float]]) -> None:
    """The part types image/jpeg, image/jpg, and one with a length give ten frames each."""
    with open_source(multipart[0] + kind) as source:
        images = [frame.image for frame, _ in zip(source, range(10), strict=False)]
    assert len(images) == 10 and all(image.shape == (64, 96, 3) for image in images)


def test_pauses_grow_whatever_happens_after_connecting() -> None:
    """A camera that fails right after connecting gets at most five connections in 3 s (after 0, 0.25, 0.75, 1.75 s)."""
    opened: list[float] = []

    def connect() -> Connection:
        opened.append(time.monotonic())

        def read() -> None:
            raise OSError(5, "broken")

        return Connection(read, lambda: None)

    source = LiveSource("cam", connect)
    threading.Timer(3, source.stop).start()
    assert list(source) == [] and 3 <= len(opened) <= 5


class _Faulty(Source):
    """Gives three frames, then raises a programming error; records the threads that use it."""

    def __init__(self) -> None:
        self.name, self.threads = "cam", set[str]()

    def open(self) -> SourceInfo:
        self.threads.add(threading.current_thread().name)
        return SourceInfo(self.name, live=True)

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        self.threads.add(threading.current_thread().name)
        for i in range(3):
            time.sleep(0.05)
            frame = Frame(np.zeros((4, 4, 3), np.uint8), i, i / 20, time.monotonic(), self.name)
            yield lambda frame=frame: frame
        raise TypeError("cannot add rtsp://me:secret@cam/x to None")

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)


def test_a_fault_of_ours_is_told_once_and_ends_the_source() -> None:
    """A TypeError while reading gives one `failed` event with its text and no reconnection; one thread opens, reads and closes."""
    source, events = _Faulty(), list[SourceEvent]()
    captures = Captures([source])

    def follow() -> None:
        for told, _ in captures:
            events.extend(told)

    with pytest.raises(SourceError, match="TypeError: cannot add"):
        follow()
    captures.join(5)
    assert (
        [e.kind for e in events] == ["failed"] and "TypeError" in events[0].reason and "secret" not in events[0].reason
    )
    assert source.threads == {"capture cam"}
