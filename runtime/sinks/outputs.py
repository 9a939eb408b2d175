"""The outputs of a run or a replay: their options, and the sinks that write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ...errors import UsageError
from ..contract.spec import TaskSpec
from ..live.frames import Source, SourceInfo
from ..live.results import LEVEL, FrameResult
from ..places import check_output
from .audit_file import head_of
from .home_assistant import HomeAssistant
from .lines import CsvSink, JsonlSink, TerminalSink
from .mqtt import MqttSink
from .prometheus import MetricsSink
from .recording import RecordSink
from .run_statistics import RunStatistics
from .sink import LineOf, Sink
from .video import VideoSink, video_files


@dataclass(frozen=True)
class OutputOptions:
    """Where results go; without any output, one line per frame is printed."""

    show: bool = False
    """Show the video with its results in a window; q stops the run."""
    save: Path | None = None
    """Write the video with boxes and ages drawn in to this .mp4 file; with several sources, {} in the name becomes the source's number."""
    jsonl: str | None = None
    """Write one JSON line per frame and event to this file; - is stdout."""
    csv: str | None = None
    """Write a CSV table with one row per face to this file; - is stdout."""
    mqtt: str | None = None
    """Publish the JSON lines to mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS."""
    mqtt_ca: Path | None = None
    """CA certificates (PEM) to verify the broker with; None: the system's."""
    mqtt_retain: bool = False
    """Ask the broker to keep the newest message for later subscribers."""
    home_assistant: bool = False
    """Announce sensors to Home Assistant through the broker: number of faces, faces per word, mean value."""
    metrics: str | None = None
    """Serve latency, rates and counts for Prometheus on PORT of this machine, or on HOST:PORT."""
    interval: float = LEVEL
    """Probability with which the shown range contains the true value, between 0 and 1."""
    blur: bool = False
    """Blur faces in the window and in the video."""
    aggregate: bool = False
    """Write only the number of faces per word: no boxes, no tracks."""
    record: str | None = None
    """Record detections and readings with their times to this file, for a replay."""
    record_pixels: bool = False
    """Record the pictures too."""

    @property
    def says_lines(self) -> bool:
        """Whether one line per frame is printed, because there is no other output."""
        return not (self.jsonl or self.csv or self.save or self.show or self.mqtt)


def check_outputs(
    options: OutputOptions, sources: Sequence[SourceInfo], read: Iterable[Path], audit: Path | None = None
) -> None:
    """Raise UsageError if outputs contradict each other, or if one is a file that is being read or an audit file; OutputError if a
    file's folder does not exist.

    read: the files that are being read. audit: an audit file that is appended to; its head is kept too.
    """
    if not 0 < options.interval < 1:
        raise UsageError(f"expected --interval between 0 and 1, such as 0.9, got {options.interval:g}")
    if options.aggregate and (options.show or options.save or options.record):
        raise UsageError(
            "--aggregate cannot be combined with --show, --save or --record, which show where faces are; leave one out"
        )
    if options.record_pixels and not options.record:
        raise UsageError("expected --record FILE together with --record-pixels; add --record FILE")
    if not options.mqtt and (options.mqtt_ca or options.mqtt_retain or options.home_assistant):
        raise UsageError("--mqtt-ca, --mqtt-retain and --home-assistant each need --mqtt URL; add it")
    if (options.jsonl, options.csv, options.record).count("-") > 1:
        raise UsageError(
            "expected only one of --jsonl, --csv and --record to write to stdout (-), got several; name files for the others"
        )
    named = [] if audit is None else [("--audit", path) for path in (audit, head_of(audit))]
    lines = ("--jsonl", options.jsonl), ("--csv", options.csv), ("--record", options.record)
    named += [(flag, Path(where)) for flag, where in lines if where and where != "-"]
    if options.save is not None:
        named += [("--save", path) for path in video_files(options.save, len(sources))]
    for _, path in named:
        check_output(path)
    sources_read = list(read)
    for number, (flag, path) in enumerate(named):
        if any(_same(path, file) for file in sources_read):
            raise UsageError(f"expected an output file other than the source, got {path} for both; choose another file")
        for other_flag, other in named[:number]:
            if _same(path, other):
                raise UsageError(
                    f"expected different files for {other_flag} and {flag}, got {path} for both; rename one"
                )


def _same(path: Path, other: Path) -> bool:
    """Whether two paths are one file, now or once it is written."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


def open_outputs(
    options: OutputOptions,
    sources: Sequence[SourceInfo],
    task: TaskSpec,
    level: float | None,
    statistics: RunStatistics,
    say: Callable[[str], None],
    counted: Sequence[Source] = (),
) -> Iterator[Sink]:
    """Open every requested sink, except the window. What can fail comes first, because files are overwritten as they are opened.

    level: of the ranges; None if the model has none. say: receives the lines for people. counted: sources whose reconnects and
    dropped frames are counted.
    """
    line_of: LineOf = FrameResult.to_counts if options.aggregate else lambda result: result.to_dict(level)
    if options.mqtt:
        home = HomeAssistant(task, version("numclip"), options.aggregate) if options.home_assistant else None
        yield MqttSink(options.mqtt, line_of, options.mqtt_retain, options.mqtt_ca, home)
    if options.metrics:
        yield MetricsSink(options.metrics, statistics, counted)
    if options.jsonl:
        yield JsonlSink(options.jsonl, line_of)
    if options.csv:
        yield CsvSink(options.csv, task, level, options.aggregate)
    if options.save:
        yield VideoSink(options.save, sources, level, options.blur)
    if options.record:
        yield RecordSink(options.record, task, level, sources, options.record_pixels)
    if options.says_lines:
        yield TerminalSink(say, level, named=len(sources) > 1, counts=options.aggregate)
