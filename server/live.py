"""Live sources and browsers' cameras: their newest results, their readers, and the number of people in the last hour."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import cv2

from ..errors import NumclipError, UsageError
from ..runtime.contract.task import TaskSpec
from ..runtime.live.capture import Captures
from ..runtime.live.connections import CameraWish
from ..runtime.live.conveyor import Conveyor
from ..runtime.live.frames import SourceEvent
from ..runtime.live.results import FrameResult
from ..runtime.live.sources import open_sources
from ..runtime.sinks.run_statistics import RunStatistics
from ..runtime.sinks.sink import json_line
from .options import ServeOptions
from .reader import Reader

WATCHED = 64  # results that wait for a slow reader; older ones are dropped
EVENTS = 50  # kept of each source
MINUTES = 60  # over which people are counted
MOST_TRACKS = 20_000  # counted in that time
JOIN_S = 8.0
JPEG_QUALITY = 80

State = Literal["starting", "live", "stalled", "ended", "failed"]
log = logging.getLogger(__name__)


class Crowd:
    """Counts the people of the last hour. A track counts once, in the minute it came and with the word it has now."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        self._tracks: OrderedDict[int, tuple[int, str]] = OrderedDict()  # minute and word, by track

    def add(self, result: FrameResult, now_s: float) -> None:
        """Count the tracks of one result."""
        minute = int(now_s // 60)
        for face in result.faces:
            if face.track_id is not None and face.word is not None:
                came, _ = self._tracks.get(face.track_id, (minute, ""))
                self._tracks[face.track_id] = came, face.word
        while self._tracks and (
            len(self._tracks) > MOST_TRACKS or next(iter(self._tracks.values()))[0] <= minute - MINUTES
        ):
            self._tracks.popitem(last=False)

    def counts(self, now_s: float) -> dict[str, list[int]]:
        """For each word, how many came in each of the last 60 minutes, oldest first."""
        first = int(now_s // 60) - MINUTES + 1
        counts = {word: [0] * MINUTES for word in self._words}
        for came, word in list(self._tracks.values()):
            if first <= came < first + MINUTES:
                counts[word][came - first] += 1
        return counts


@dataclass(frozen=True, eq=False)
class Seen:
    """A result or an event, as a JSON line."""

    line: bytes
    result: FrameResult | None


async def first_of(*works: Awaitable[object]) -> set[asyncio.Task[object]]:
    """Run these together until one ends, and cancel the others. Returns those that had ended; their errors are not raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done


class Watch:
    """One reader of a source: the newest `size` lines that it has not taken yet."""

    def __init__(self, size: int, pixels: bool = False) -> None:
        """pixels: keep the results with their pictures beside the lines."""
        self._pixels = pixels
        self._waiting: deque[Seen] = deque(maxlen=size)
        self._changed, self._over = asyncio.Event(), False

    def put(self, seen: Seen) -> None:
        """Add a line. Called in the server's loop."""
        self._waiting.append(seen if self._pixels else Seen(seen.line, None))
        self._changed.set()

    def end(self) -> None:
        """Let `take` return None once all lines are taken."""
        self._over = True
        self._changed.set()

    async def take(self) -> Seen | None:
        """The oldest line that waits; None at the end."""
        while not self._waiting:
            if self._over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()


class LiveSource:
    """One source or camera, as clients see it."""

    def __init__(self, id: str, name: str, task: TaskSpec, level: float | None, private: bool = False) -> None:
        """private: other clients get its counts alone, not its pictures and results."""
        self.id, self.name, self.private, self._level = id, name, private, level
        self.state: State = "starting"
        self.statistics = RunStatistics()
        self._crowd = Crowd(task.words)
        self.events: deque[SourceEvent] = deque(maxlen=EVENTS)
        self.newest: FrameResult | None = None
        self._shown: Seen | None = None  # the newest result that readers got
        self._watches: set[Watch] = set()
        self._over = False
        self._jpeg: tuple[FrameResult, bytes] | None = None
        self._encoding = asyncio.Lock()

    def tell(self, seen: FrameResult | SourceEvent, sized: bool = False) -> Seen:
        """Record a result or event, in the thread that reads the source. sized: the line also has the picture's width and height."""
        if isinstance(seen, FrameResult):
            self.statistics.write(seen)
            self._crowd.add(seen, time.time())
            self.newest = seen
            if self.state == "starting":  # a result after `stalled` is of a frame from before it
                self.state = "live"
            height, width = seen.frame.image.shape[:2]
            size = {"width": width, "height": height} if sized else {}
            return Seen(json_line({**seen.to_dict(self._level), **size}), seen)
        self.statistics.tell(seen)
        self.events.append(seen)
        self.state = "live" if seen.kind == "resumed" else seen.kind
        return Seen(json_line(seen.to_json()), None)

    def show(self, seen: Seen) -> None:
        """Hand it to all readers. Called in the server's loop."""
        if seen.result is not None:
            self._shown = seen
        for watch in self._watches:
            watch.put(seen)

    def watch(self, size: int = WATCHED, pixels: bool = False) -> Watch:
        """A new reader, which has the newest result at once. `leave` ends it."""
        watch = Watch(size, pixels)
        if self._shown is not None:
            watch.put(self._shown)
        if self._over:
            watch.end()
        self._watches.add(watch)
        return watch

    def leave(self, watch: Watch) -> None:
        """Remove a reader."""
        self._watches.discard(watch)

    def end(self) -> None:
        """Tell all readers that nothing more comes. Called in the server's loop."""
        self._over = True
        for watch in self._watches:
            watch.end()

    async def jpeg(self, result: FrameResult, blur: bool) -> bytes:
        """The picture with its boxes as JPEG, encoded once for all readers."""
        async with self._encoding:
            if self._jpeg is None or self._jpeg[0] is not result:
                self._jpeg = result, await asyncio.to_thread(_encoded, result, self._level, blur)
            return self._jpeg[1]

    def summary(self) -> dict[str, object]:
        """The source's entry in the list of sources."""
        now, newest = self.statistics, self.newest
        latency = now.percentiles()
        return {
            "id": self.id,
            "name": self.name,
            "kind": "camera" if self.private else "source",
            "state": self.state,
            "width": None if newest is None else newest.frame.image.shape[1],
            "height": None if newest is None else newest.frame.image.shape[0],
            "frames": now.frames,
            "dropped": now.dropped,
            "fps": None if now.fps is None else round(now.fps, 2),
            "latency_ms": {f"p{percent}": round(value, 2) for percent, value in latency.items()},
            "faces_now": 0 if newest is None or self.state != "live" else len(newest.faces),
            "people": now.tracks,
        }

    def details(self) -> dict[str, object]:
        """The same with its events, and the number of people in the last hour."""
        events = [event.to_json() for event in self.events]
        return {**self.summary(), "events": events, "last_hour": self.last_hour()}

    def last_hour(self) -> dict[str, list[int]]:
        """For each word, how many people came in each of the last 60 minutes."""
        return self._crowd.counts(time.time())


def _encoded(result: FrameResult, level: float | None, blur: bool) -> bytes:
    image = result.plot(level, blur)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


class Live:
    """All sources and cameras of a server."""

    def __init__(self, options: ServeOptions, reader: Reader) -> None:
        """Opens the sources. Raises SourceError for one that cannot be opened, and UsageError for one that is not a video or camera."""
        self._options, self._reader = options, reader
        self._loop: asyncio.AbstractEventLoop | None = None
        self._all: dict[str, LiveSource] = {}
        self._cameras = 0  # so far
        self._conveyor: Conveyor | None = None
        self.broken = False  # an error has ended the reading of all sources
        self._thread = threading.Thread(target=self._read, name="sources", daemon=True)
        if options.sources:
            wish = None if options.camera is None else CameraWish.from_text(options.camera)
            captures = Captures(open_sources(options.sources, options.fps, realtime=True, wish=wish))
            try:
                for number, info in enumerate(captures.open()):
                    if info.stills or not info.live:
                        raise UsageError(
                            f"{info.name}: expected a camera, stream or video; send pictures to POST /v1/read"
                        )
                    self._add(LiveSource(str(number), info.name, reader.model.spec.task, reader.level))
                self._conveyor = Conveyor(captures, reader.live_pipeline())
            except BaseException:
                captures.stop()
                captures.join(JOIN_S)
                raise

    def _add(self, source: LiveSource) -> LiveSource:
        self._all[source.id] = source
        return source

    def __iter__(self) -> Iterator[LiveSource]:
        return iter(list(self._all.values()))

    def get(self, id: str) -> LiveSource | None:
        """A source by its id."""
        return self._all.get(id)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read. Readers get the results in this loop."""
        self._loop = loop
        if self._conveyor is not None:
            self._thread.start()

    def stuck(self, seconds: float) -> bool:
        """Whether a call of the model or the face detector for the sources has run for longer than this."""
        return self._conveyor is not None and self._conveyor.stuck(seconds)

    @property
    def cameras(self) -> int:
        """How many browsers' cameras are connected."""
        return sum(source.private for source in self._all.values())

    def add_camera(self) -> LiveSource:
        """Add a browser's camera."""
        self._cameras += 1
        task, level = self._reader.model.spec.task, self._reader.level
        return self._add(LiveSource(f"camera-{self._cameras}", f"camera {self._cameras}", task, level, private=True))

    def remove(self, source: LiveSource) -> None:
        """Remove a camera that has gone."""
        source.end()
        self._all.pop(source.id, None)

    def _read(self) -> None:
        assert self._conveyor is not None
        by_name = {source.name: source for source in self._all.values()}
        started_s, reason = time.monotonic(), None
        try:
            with self._conveyor:
                for item in self._conveyor:
                    source = by_name[item.frame.source if isinstance(item, FrameResult) else item.source]
                    self._call(source.show, source.tell(item))
                    if isinstance(item, SourceEvent):
                        log.info("%s %s%s", source.name, item.kind, f" ({item.reason})" if item.reason else "")
        except NumclipError as error:
            reason = str(error)
            log.error("%s", reason)
        except Exception as error:
            reason = f"reading the sources failed ({type(error).__name__}); see the server's log and restart it"
            log.error("reading the sources failed", exc_info=error)
        self.broken = reason is not None
        for source in by_name.values():
            if reason is not None and source.state not in ("ended", "failed"):
                event = SourceEvent("failed", source.name, time.monotonic() - started_s, reason)
                self._call(source.show, source.tell(event))
            self._call(source.end)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended before this thread
            self._loop.call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        """Read no more frames, and tell all readers. Called in the server's loop."""
        if self._conveyor is not None:
            self._conveyor.stop()
        for source in self:
            source.end()

    def join(self) -> None:
        """Wait until the sources are closed."""
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
