"""The outputs of a run and of a replay: what may be asked for, and the sinks that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ...errors import UsageError
from ..contract.spec import TaskSpec
from ..live.frames import Source, SourceInfo
from ..live.results import LEVEL, FrameResult
from .home_assistant import HomeAssistant
from .lines import CsvSink, JsonlSink, TerminalSink
from .mqtt import MqttSink
from .prometheus import MetricsSink
from .recording import RecordSink
from .run_statistics import RunStatistics
from .sink import LineOf, Sink
from .video import VideoSink


@dataclass(frozen=True)
class OutputOptions:
    """Where results go; without any of them, a line per frame is said."""

    show: bool = False
    """Show a window; q stops."""
    save: Path | None = None
    """Write the annotated video here (.mp4); with several sources, {} in the name becomes their number."""
    jsonl: str | None = None
    """Write one JSON line per frame and event to this file; - is stdout."""
    csv: str | None = None
    """Write a table with one row per face to this file; - is stdout."""
    mqtt: str | None = None
    """Publish the JSON lines to mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS."""
    mqtt_ca: Path | None = None
    """Certificates (PEM) that the broker's is checked with; None: the system's."""
    mqtt_retain: bool = False
    """Let the broker keep the newest message for who comes later."""
    home_assistant: bool = False
    """Announce sensors to Home Assistant through the broker: faces, faces of each word, mean number."""
    metrics: str | None = None
    """Serve latency, rates and counts for Prometheus on PORT of this machine, or on HOST:PORT."""
    interval: float = LEVEL
    """Level of the shown range, between 0 and 1."""
    blur: bool = False
    """Make faces unrecognisable in window and video."""
    aggregate: bool = False
    """Write only how many faces there are of each word: no boxes, no tracks."""
    record: str | None = None
    """Record what was seen, and when, to this file, for a replay."""
    record_pixels: bool = False
    """Record the pictures too."""

    @property
    def says_lines(self) -> bool:
        """Whether a line per frame is said, because nothing else is asked for."""
        return not (self.jsonl or self.csv or self.save or self.show or self.mqtt or self.aggregate)


def check_outputs(options: OutputOptions, sources: Sequence[SourceInfo]) -> None:
    """UsageError where outputs contradict each other, or one is a file that is being read."""
    if not 0 < options.interval < 1:
        raise UsageError(f"expected --interval between 0 and 1, such as 0.9, got {options.interval:g}")
    if options.aggregate and (options.show or options.save or options.record):
        raise UsageError("expected --aggregate without --show, --save and --record: those show where faces are")
    if options.record_pixels and not options.record:
        raise UsageError("expected --record-pixels together with --record FILE")
    if not options.mqtt and (options.mqtt_ca or options.mqtt_retain or options.home_assistant):
        raise UsageError("expected --mqtt URL beside --mqtt-ca, --mqtt-retain and --home-assistant; name the broker")
    if options.jsonl == options.csv == "-":
        raise UsageError("expected at most one of --jsonl and --csv to be -, got both; name a file for one")
    named = {
        "--jsonl": options.jsonl,
        "--csv": options.csv,
        "--save": None if options.save is None else str(options.save),
        "--record": options.record,
    }
    paths: dict[Path, str] = {}
    for flag, where in named.items():
        if not where or where == "-":
            continue
        path = Path(where)
        if path.resolve() in paths:
            raise UsageError(f"expected two files for {paths[path.resolve()]} and {flag}, got {where} for both")
        paths[path.resolve()] = flag
        if path.exists() and any(path.samefile(file) for source in sources for file in source.files):
            raise UsageError(f"expected an output that is not the source, got {where} for both; name another")


def open_outputs(
    options: OutputOptions,
    sources: Sequence[SourceInfo],
    task: TaskSpec,
    level: float | None,
    statistics: RunStatistics,
    say: Callable[[str], None],
    counted: Sequence[Source] = (),
) -> Iterator[Sink]:
    """Every sink that was asked for, the window excepted.

    level: of ranges; None where the model gives none. say: takes the lines for a person. counted: sources whose reconnects and
    losses are counted.
    """
    line_of: LineOf = FrameResult.to_counts if options.aggregate else lambda result: result.to_dict(level)
    if options.jsonl:
        yield JsonlSink(options.jsonl, line_of)
    if options.csv:
        yield CsvSink(options.csv, task, level, options.aggregate)
    if options.save:
        yield VideoSink(options.save, sources, level, options.blur)
    if options.mqtt:
        home = HomeAssistant(task, version("numclip"), options.aggregate) if options.home_assistant else None
        yield MqttSink(options.mqtt, line_of, options.mqtt_retain, options.mqtt_ca, home)
    if options.metrics:
        yield MetricsSink(options.metrics, statistics, counted)
    if options.record:
        yield RecordSink(options.record, task, level, sources, options.record_pixels)
    if options.says_lines:
        yield TerminalSink(say, level)
