"""The Python interface: `read` for pictures, `stream` and `open_stream` for video and cameras."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Union, cast, overload

import numpy as np

from ..contract.model_file import FINDER
from ..faces.detect import Detector
from ..faces.opening import enlarging, open_detector
from ..sessions.model import Model, load
from .capture import Captures
from .clock import MediaClock
from .conveyor import JOIN_S, Conveyor
from .frames import Frame, SourceEvent
from .inputs import TAKEN, Color, Picture, picture_of
from .pipeline import Pipeline, Rules
from .results import FrameResult
from .sources import open_source

if TYPE_CHECKING:
    from typing_extensions import Self

TOGETHER = 16  # pictures of a list per model call
FPS = 30.0  # for frames without times

Timed = Union[Picture, "tuple[Picture, float | np.floating | np.integer]"]  # a frame, or (frame, its time in s)
Source = Union[str, int, "os.PathLike[str]"]


@overload
def read(  # pyright: ignore[reportOverlappingOverload]  # a str is a sequence of str, but one path: so this comes first
    image: Picture, model: Model | None = None, detector: str | Detector = ..., color: Color = "bgr"
) -> FrameResult: ...


@overload
def read(
    image: Sequence[Picture], model: Model | None = None, detector: str | Detector = ..., color: Color = "bgr"
) -> list[FrameResult]: ...


def read(
    image: Picture | Sequence[Picture],
    model: Model | None = None,
    detector: str | Detector = FINDER,
    color: Color = "bgr",
) -> FrameResult | list[FrameResult]:
    """Find the faces in a picture, or in each picture of a list, and estimate their ages.

    image: a path (rotated by its EXIF data), an http(s) URL of a picture, its bytes, a PIL image, a numpy array [H, W],
    [H, W, 3] or [H, W, 4], or a torch tensor [C, H, W] or [H, W, C]; arrays and tensors are uint8, float from 0 to 1, or
    uint16. model: None opens age-nano. detector: a face detector, its name or its file. color: the channel order of numpy
    arrays; PIL images and tensors are RGB.

    Raises SourceError for data that is not a picture, ValueError for an array of another shape or type, TypeError for any
    other object.
    """
    many = isinstance(image, (list, tuple))
    given = cast(Sequence[object], image) if many else [image]
    pipeline = Pipeline(model or _default_model(), _detector(detector, enlarge=True), tracks=False)
    results: list[FrameResult] = []
    for start in range(0, len(given), TOGETHER):
        frames: list[Frame] = []
        for index, each in enumerate(given[start : start + TOGETHER], start):
            captured_s = time.monotonic()
            picture, source, file = picture_of(each, color)
            frames.append(Frame(picture, index, 0.0, captured_s, source, file))
        results += pipeline.read_together(frames)
    return results if many else results[0]


class Stream(Iterator[FrameResult]):
    """The results of one source, in order. It is an iterator, and a context manager that closes the source."""

    def __init__(self, results: Iterator[FrameResult], events: list[SourceEvent] | None = None) -> None:
        """events: a list that receives the events of a live source, such as a lost connection."""
        self._results = results
        self.events: list[SourceEvent] = [] if events is None else events

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FrameResult:
        return next(self._results)

    def close(self) -> None:
        """Close the source and end its threads; may be called twice."""
        close = getattr(self._results, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Opened(Stream):
    """The results of a source that this module opened."""

    def __init__(self, source: Source, model: Model | None, detector: str | Detector, rules: Rules | None) -> None:
        captures = Captures([open_source(os.fspath(source) if not isinstance(source, int) else str(source))])
        try:
            info = captures.open()[0]
            pipeline = Pipeline(
                model or _default_model(),
                _detector(detector, rules, enlarge=info.stills),
                rules,
                tracks=not info.stills,
                live=info.live,
            )
            self._conveyor = Conveyor(captures, pipeline)
        except BaseException:
            captures.stop()
            captures.join(JOIN_S)
            raise
        events: list[SourceEvent] = []
        super().__init__(_conveyed(self._conveyor, events), events)

    def close(self) -> None:
        super().close()
        self._conveyor.__exit__()  # even if no result was taken

    def __del__(self) -> None:
        conveyor = getattr(self, "_conveyor", None)
        if conveyor is not None:
            conveyor.stop()


def _conveyed(conveyor: Conveyor, events: list[SourceEvent]) -> Iterator[FrameResult]:
    with conveyor:
        for item in conveyor:
            if isinstance(item, FrameResult):
                yield item
            else:
                events.append(item)


@overload
def stream(
    source: Source | Iterable[Timed],
    model: Model | None = None,
    detector: str | Detector = ...,
    rules: Rules | None = None,
    color: Color = "bgr",
    fps: float = FPS,
) -> Stream: ...


@overload
def stream(
    source: AsyncIterable[Timed],
    model: Model | None = None,
    detector: str | Detector = ...,
    rules: Rules | None = None,
    color: Color = "bgr",
    fps: float = FPS,
) -> AsyncIterator[FrameResult]: ...


def stream(
    source: Source | Iterable[Timed] | AsyncIterable[Timed],
    model: Model | None = None,
    detector: str | Detector = FINDER,
    rules: Rules | None = None,
    color: Color = "bgr",
    fps: float = FPS,
) -> Stream | AsyncIterator[FrameResult]:
    """Estimate ages frame by frame, in a camera, video, network stream or folder, or in frames of your own.

    source: a camera's number, a path or a URL; or an iterable of frames (returns an iterator) or an async iterable of frames
    (returns an async iterator). A frame is anything that `read` accepts, or a tuple (frame, time in seconds); frames without
    a time are taken to follow each other at `fps`. model: None opens age-nano. rules: which faces are read, and the gate.
    color: as for `read`.

    Of a live source only the newest frame is read; older ones are dropped and counted. Of files, and of your own frames,
    every frame is read. The source is opened at once. It is closed at its end, by `close()`, or by a `with` block. Raises
    SourceError if it cannot be opened, and at its end if parts could not be read; TypeError for any other object.
    """
    if isinstance(source, (str, int, os.PathLike)) and not isinstance(source, bool):
        return _Opened(source, model, detector, rules)
    if isinstance(source, np.ndarray) and source.ndim < 4:
        raise TypeError(
            f"expected frames [N, H, W, C] or an iterable of pictures, got one array of shape {list(source.shape)}; "
            "use numclip.read for one picture"
        )
    own = not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "mode")
    if own and isinstance(source, AsyncIterable):
        return _own_async(_own_pipeline(model, detector, rules), source, color, fps)
    if own and isinstance(source, Iterable):
        return Stream(_own(_own_pipeline(model, detector, rules), source, color, fps))
    raise TypeError(
        f"expected a camera number, a path, a URL, or an iterable of frames, each {TAKEN}; got {type(source).__qualname__}"
    )


def open_stream(
    source: Source | Iterable[Timed],
    model: Model | None = None,
    detector: str | Detector = FINDER,
    rules: Rules | None = None,
    color: Color = "bgr",
    fps: float = FPS,
) -> Stream:
    """Like `stream`, for `with numclip.open_stream(0) as results: ...`, which closes the source at the end of the block."""
    if isinstance(source, AsyncIterable):
        raise TypeError("expected a source or an iterable of frames, got an async iterable; use numclip.stream")
    return stream(source, model, detector, rules, color, fps)


def _own_pipeline(model: Model | None, detector: str | Detector, rules: Rules | None) -> Pipeline:
    return Pipeline(model or _default_model(), _detector(detector, rules), rules)


class _OwnFrames:
    """Frames that the caller provides, with a clock that starts at 0 and never runs backwards."""

    def __init__(self, color: Color, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"expected fps above 0, got {fps:g}")
        self._color: Color = color
        self._clock, self._index = MediaClock(1 / fps), 0

    def frame(self, given: Timed) -> Frame:
        """The next frame."""
        captured_s = time.monotonic()
        picture, time_s = given, None
        if isinstance(given, tuple):
            if (
                len(given) != 2
                or isinstance(given[1], (bool, np.bool_))
                or not isinstance(given[1], (int, float, np.number))
            ):
                raise TypeError(f"expected a frame, or a tuple (frame, time in seconds), got a tuple of {len(given)}")
            picture, time_s = given[0], float(given[1])
        image, *_ = picture_of(picture, self._color)
        at_s = self._clock.at(time_s)
        frame = Frame(image, self._index, at_s, captured_s, "frames", segment=self._clock.segment)
        self._index += 1
        return frame


def _own(pipeline: Pipeline, frames: Iterable[Timed], color: Color, fps: float) -> Iterator[FrameResult]:
    own = _OwnFrames(color, fps)
    for given in frames:
        yield pipeline.read(own.frame(given))


async def _own_async(
    pipeline: Pipeline, frames: AsyncIterable[Timed], color: Color, fps: float
) -> AsyncIterator[FrameResult]:
    own = _OwnFrames(color, fps)
    async for given in frames:
        yield await asyncio.to_thread(pipeline.read, own.frame(given))


def _detector(detector: str | Detector, rules: Rules | None = None, enlarge: bool = False) -> Detector:
    smallest_face_px = (rules or Rules()).min_face_px
    if not isinstance(detector, str):
        return detector
    opened = _opened_detector(detector, smallest_face_px)
    return enlarging(opened) if enlarge else opened


@functools.lru_cache(maxsize=4)
def _opened_detector(name: str, smallest_face_px: float) -> Detector:
    """A detector by name, opened only once; threads may share it."""
    return open_detector(name, smallest_face_px=smallest_face_px)


@functools.cache
def _default_model() -> Model:
    """age-nano, opened only once."""
    return load()
