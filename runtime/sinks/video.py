"""The annotated frames as a video, one file per source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UsageError
from ..live.frames import SourceEvent, SourceInfo
from ..live.results import FrameResult
from .video_writer import VideoWriter


def video_files(path: Path, sources: int) -> list[Path]:
    """The file of each source. path: contains {} if there are several; it is replaced by their numbers. Raises UsageError."""
    if sources == 1:
        return [path]
    if "{}" not in str(path):
        raise UsageError(f"expected --save with {{}} for the number of the source, such as out{{}}.mp4, got {path}")
    return [Path(str(path).replace("{}", str(number))) for number in range(sources)]


class VideoSink:
    """The annotated frames as mp4, one file per source."""

    def __init__(self, path: Path, sources: Sequence[SourceInfo], level: float | None, blur: bool) -> None:
        """path: as for `video_files`. Raises UsageError, OutputError."""
        self._level, self._blur, self._count = level, blur, 0
        self._untimed = sources[0].stills and sources[0].fps is None
        self._writers: dict[str, VideoWriter] = {}
        for source, file in zip(sources, video_files(path, len(sources)), strict=True):
            self._writers[source.name] = VideoWriter(file, source.fps)

    def write(self, result: FrameResult) -> None:
        """Append one frame at its own time; pictures of a folder follow one per second."""
        time_s = float(self._count) if self._untimed else result.frame.time_s
        self._writers[result.frame.source].write(result.plot(self._level, self._blur), time_s)
        self._count += 1

    def tell(self, event: SourceEvent) -> None:
        """Ignore events: a gap is as long in the video as it was."""

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
