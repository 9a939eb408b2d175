"""Where frames come from: pictures, video files and live cameras, all as one stream of `Frame`.

    with open_source("clip.mp4") as source:
        for frame in source: ...

What cannot be read is never dropped in silence: bad pictures and packets are counted, the good ones are yielded, and
then the iteration ends in one SourceError that says what was lost.
"""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .connections import CameraWish
from .frames import Frame, Source
from .live_sources import RealtimeSource, open_live
from .video_promise import promise_of

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
RAW_FPS = 30.0  # for streams without timestamps, such as a raw .h264
Image = npt.NDArray[np.uint8]


def open_source(text: str, fps: float | None = None, realtime: bool = False, wish: CameraWish | None = None) -> Source:
    """Open a camera number, file, folder, glob, URL or pipeline; raises SourceError saying what was expected.

    fps: frame rate of a raw stream that carries no timestamps (30 when not given). realtime: a video file is played at
    its own speed and frames are skipped, as of a camera. wish: what a camera is asked for.
    """
    source = _open(text, fps, wish)
    if not realtime or source.live:
        return source
    if source.stills:
        raise SourceError(f"{text}: expected a video for --realtime, these are pictures; leave --realtime out")
    return RealtimeSource(source)


def _open(text: str, fps: float | None, wish: CameraWish | None) -> Source:
    if text.startswith("/dev/video"):
        text = os.path.realpath(text)  # udev gives a camera a name that stays, as a link
    if re.fullmatch(r"(/dev/video)?\d+", text) or re.match(r"(rtsps?|https?|rtmp|udp|csi)://|gst:", text):
        return open_live(text, wish)
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.is_file())
        if not files:
            raise SourceError(f"{text}: expected pictures ({', '.join(PICTURES)}), the folder has none; give another")
        return PictureSource(text, files)
    if not path.exists() and glob.has_magic(text):
        files = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not files:
            raise SourceError(f"{text}: expected pictures, nothing matches; correct the pattern")
        return PictureSource(text, files)
    if not path.is_file():
        raise SourceError(
            f"{text}: expected a camera number, file, folder or URL, found nothing there; correct the path"
        )
    if path.suffix.lower() in PICTURES:
        return PictureSource(text, [path])
    return VideoSource(text, path, fps)


def open_pictures(texts: list[str]) -> Source:
    """Several pictures named one by one, as a shell expands `photos/*.jpg`; raises SourceError for the first other thing."""
    for text in texts:
        if not Path(text).is_file() or Path(text).suffix.lower() not in PICTURES:
            raise SourceError(f"{text}: expected a picture, as one of {len(texts)} sources; give videos one at a time")
    return PictureSource(f"{len(texts)} pictures", [Path(text) for text in texts])


def read_picture(path: str | os.PathLike[str]) -> Image:
    """[H, W, 3] uint8 BGR, turned as its EXIF says; raises SourceError naming the file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: expected a picture ({error.strerror}); correct the path") from None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise SourceError(f"{path}: expected a picture, its bytes are none or cut short; give another file")
    return np.asarray(image, np.uint8)


class PictureSource(Source):
    """Pictures in a row, by name."""

    stills = True

    def __init__(self, name: str, files: list[Path]) -> None:
        self.name, self.files, self.frames = name, files, len(files)

    def __iter__(self) -> Iterator[Frame]:
        bad: list[SourceError] = []
        index = 0
        for path in self.files:
            captured_s = time.monotonic()
            try:
                image = read_picture(path)
            except SourceError as error:
                bad.append(error)
                continue
            file = path.name if len(self.files) > 1 else None
            yield Frame(image, index, 0.0, captured_s, self.name, file, (captured_s, time.monotonic()))
            index += 1
        if len(bad) == 1:
            raise bad[0]
        if bad:
            names = ", ".join(str(e).partition(": ")[0] for e in bad[:5])
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise SourceError(f"{self.name}: expected pictures, {len(bad)} of {self.frames} are none: {names}{more}")


class VideoSource(Source):
    """A video file, every frame in order, at the times it carries.

    Damage is told where the decoder notices it or the container promised more. A raw stream promises nothing: whole
    frames that are missing from one leave no trace.
    """

    def __init__(self, name: str, path: Path, fps: float | None) -> None:
        import av

        self.name, self.files, self._av = name, [path], av
        try:
            self._container = av.open(str(path), metadata_errors="replace")  # titles in any encoding
        except (av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{name}: expected a video, it cannot be opened ({error.strerror}); it may be cut short or another kind"
            ) from None
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{name}: expected a video, the file has no video stream; give another file")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE"  # threads by frame lose count of what is damaged
        self._promise = promise_of(self._container, self._stream, path)
        self.frames = self._promise.pictures
        self.undecodable = self.damaged = 0
        self._timed = self._stream.duration is not None or self._container.duration is not None
        rate: Fraction | None = self._stream.average_rate if self._timed else None
        self._rate = fps if fps is not None and not self._timed else float(rate or RAW_FPS)
        self.fps = self._rate

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        index, time_s = 0, 0.0
        captured_s = time.monotonic()
        for picture in self._pictures():
            image = _upright(picture)
            time_s = float(picture.time) if self._timed and picture.time is not None else index / self._rate
            yield Frame(image, index, time_s, captured_s, self.name, None, (captured_s, time.monotonic()))
            index += 1
            captured_s = time.monotonic()  # the next one's way begins: its bytes are read and decoded
        if index == 0:
            raise SourceError(f"{self.name}: expected a video, no frame of it can be decoded; give another file")
        missing = max((self._promise.pictures or 0) - index, self.undecodable)
        if missing or self.damaged or self._promise.broken(index, time_s + 1 / self._rate):
            damaged = f", {self.damaged} of them damaged" if self.damaged else ""
            lost = f", {missing} could not be" if missing else ""
            raise SourceError(
                f"{self.name}: the video is damaged or cut short: {index} frames were read{damaged}{lost}; "
                "results hold the frames that were read"
            )

    def _pictures(self) -> Iterator[Any]:
        """Decoded pictures; those the decoder patched up and packets it gave up on are counted."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError:
                self.undecodable += 1
                return
            self.undecodable += packet.is_corrupt
            try:
                decoded = packet.decode()
            except self._av.EOFError:
                return
            except self._av.FFmpegError:
                self.undecodable += 1
                continue
            self.damaged += sum(picture.is_corrupt for picture in decoded)
            yield from decoded


def _upright(picture: Any) -> Image:
    """[H, W, 3] uint8 BGR of a decoded picture, turned as its container says (phones film sideways)."""
    image = picture.to_ndarray(format="bgr24")
    quarter_turns = round(float(getattr(picture, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image
