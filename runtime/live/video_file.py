"""A video file, on this machine or on a web server: every frame in order, at the times a player would show it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import SourceError
from .addresses import av_name
from .clock import MediaClock
from .containers import faults, is_timed, may_jump, open_container
from .display import Display, aspect_of
from .frames import Arrival, Frame, Source, SourceEvent, SourceInfo
from .video_promise import Promise, promise_of

RAW_FPS = 30.0  # for streams without timestamps, such as a raw .h264
SLIDES_S = 0.5  # pictures that last this long are slides: tracks end between them
HEAD, LONGER_HEAD = (
    3,
    9,
)  # pictures that decide between slides and video; if the first few are slow, the next ones decide too
UNTIMED_JUMP_S = 3600.0  # in formats whose clock should not jump, only a larger step counts as a jump


@dataclass(frozen=True, eq=False)
class _Shot:
    """One decoded picture as a player shows it."""

    image: npt.NDArray[np.uint8]  # [H, W, 3] BGR
    time_s: float
    segment: int
    began_s: float  # time.monotonic() when its bytes were read
    ended_s: float


def _usual_step_s(shots: Sequence[_Shot]) -> float:
    return median(after.time_s - before.time_s for before, after in pairwise(shots))


class VideoSource(Source):
    """A video file. Damage is reported if the decoder notices it, or if the container announced more frames. Frames missing from a
    raw stream cannot be noticed.
    """

    def __init__(
        self, name: str, path: Path | None, fps: float | None = None, opened: tuple[Any, Any] | None = None
    ) -> None:
        """path: None if `opened` contains container and stream. fps: of a raw stream without timestamps."""
        self.name, self._path, self._fps, self._opened = name, path, fps, opened
        self._info: SourceInfo | None = None
        self._stopped = False
        self._head: list[_Shot] = []
        self._shots: Iterator[_Shot] = iter(())

    def open(self) -> SourceInfo:
        if self._info is not None:
            return self._info
        if self._opened is None:
            assert self._path is not None
            self._opened = open_container(self.name, av_name(self._path))
        container, stream = self._opened
        try:
            self._promise = promise_of(container, stream, self._path)
        except OSError:
            self._promise = Promise()
        self._timed = is_timed(container)
        rate = (stream.average_rate or stream.guessed_rate) if self._timed else None
        self._rate = self._fps if self._fps is not None and not self._timed else float(rate or RAW_FPS)
        self._clock = MediaClock(1 / self._rate, *([] if may_jump(container) else [UNTIMED_JUMP_S]))
        self._display, self._packets, self._damaged, self._discarded = Display(), 0, 0, 0
        self._shots = self._decoded(container, stream)
        self._head = list(islice(self._shots, HEAD))
        few = len(self._head) < HEAD
        slides = not few and _usual_step_s(self._head) >= SLIDES_S
        if slides:  # a video with a variable frame rate may begin slowly
            self._head += islice(self._shots, LONGER_HEAD - HEAD)
            slides = _usual_step_s(self._head) >= SLIDES_S
        size_wh = (self._head[0].image.shape[1], self._head[0].image.shape[0]) if self._head else None
        frames = len(self._head) if few else self._promise.pictures
        files = () if self._path is None else (self._path,)
        notes = tuple(self._display.notes)
        self._info = SourceInfo(self.name, size_wh, self._rate, frames, stills=few or slides, files=files, notes=notes)
        return self._info

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
        # The iterator refers to this object. Deleting it frees the decoder now, instead of at the next garbage collection.
        self._head, self._shots = [], iter(())

    def arrivals(self) -> Iterator[Arrival | SourceEvent]:
        self.open()
        index, now_s = 0, time.monotonic()
        head = (_Shot(shot.image, shot.time_s, shot.segment, now_s, now_s) for shot in self._head)
        for shot in chain(head, self._shots):
            if self._stopped:
                return
            times_s = shot.began_s, shot.ended_s
            frame = Frame(shot.image, index, shot.time_s, shot.began_s, self.name, None, times_s, shot.segment)
            index += 1
            self._head = []
            yield lambda frame=frame: frame
        if index == 0:
            raise SourceError(
                f"{self.name}: not a readable video or picture, no frame can be decoded; give another file"
            )
        self._complain(index)

    def _complain(self, given: int) -> None:
        """Raise SourceError if frames are missing or damaged."""
        due, promise = self._clock, self._promise
        broken = promise.broken(given, due.due_s, due.covered_s, due.gap_s)
        missing = max((promise.pictures or 0) - given, self.undecodable - self._damaged)
        if not (missing > 0 or self._damaged or broken):
            return
        damaged = f", {self._damaged} of them damaged" if self._damaged else ""
        lost = f", {missing} could not be read" if missing > 0 else ""
        parts = f", missing: {promise.missing}" if promise.missing else ""
        raise SourceError(
            f"{self.name}: the video is damaged or truncated: {given} frames were read{damaged}{lost}{parts}; the results "
            "contain the frames that were read"
        )

    def _decoded(self, container: Any, stream: Any) -> Iterator[_Shot]:
        number = 0
        began_s = time.monotonic()
        for picture in chain(self._pictures(container, stream), [None]):
            for image, made in self._shown(picture, stream):
                if self._timed:
                    lasts = getattr(made, "duration", None)
                    lasts_s = float(lasts * made.time_base) if lasts and made.time_base else None
                    time_s = self._clock.at(made.time, lasts_s)
                else:
                    time_s = self._clock.at(number / self._rate)
                number += 1
                yield _Shot(image, time_s, self._clock.segment, began_s, time.monotonic())
                began_s = time.monotonic()  # the next picture starts: its bytes are read and decoded

    def _shown(self, picture: Any, stream: Any) -> Iterator[tuple[npt.NDArray[np.uint8], Any]]:
        """Convert to what a player shows; pictures that cannot be converted are counted."""
        try:
            yield from self._display.images(picture, aspect_of(stream))
        except faults():
            self.undecodable += 1

    def _pictures(self, container: Any, stream: Any) -> Iterator[Any]:
        """The decoded pictures; counts those that the decoder repaired, and packets that it rejected."""
        import av

        joined = may_jump(container)  # such formats mark a good packet at the joint of two files as corrupt
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except faults():
                self.undecodable += 1
                return
            try:
                decoded = packet.decode()
            except av.EOFError:
                return
            except faults():
                self.undecodable += 1
                continue
            patched = sum(picture.is_corrupt for picture in decoded)
            self._damaged += patched
            self.undecodable += patched + (packet.is_corrupt and not joined and not patched)
            yield from decoded
