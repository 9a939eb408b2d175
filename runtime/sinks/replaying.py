"""Playing back a recording. `numclip.runtime.replay(ReplayOptions(Path("run.rec")))` is `numclip replay run.rec`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..live.frames import SourceEvent
from .outputs import OutputOptions, check_outputs, open_outputs
from .recording import Recording
from .run_statistics import RunStatistics, RunSummary
from .sink import Sink, Stop
from .window import WindowSink


@dataclass(frozen=True)
class ReplayOptions:
    """The recording to play, and where its results go."""

    file: Path
    """A recording of a run."""
    fast: bool = False
    """Play as fast as possible, instead of at the recorded speed."""
    outputs: OutputOptions = field(default_factory=OutputOptions)
    """Where results go; the intervals have the level of the recording."""


def replay(options: ReplayOptions, say: Callable[[str], None] = print) -> RunSummary:
    """Play a recording to its end. say: receives the lines for people. Raises SourceError, OutputError; UsageError for wrong outputs."""
    outputs, recording, statistics = options.outputs, Recording(options.file), RunStatistics()
    check_outputs(outputs, recording.infos, [options.file])
    with ExitStack() as stack:
        sinks: list[Sink] = []
        for sink in open_outputs(outputs, recording.infos, recording.task, recording.level, statistics, say):
            stack.callback(sink.close)
            sinks.append(sink)
        if outputs.show:
            sinks.append(WindowSink(recording.infos, recording.level, outputs.blur))
            stack.callback(sinks[-1].close)
        sinks.append(statistics)
        with suppress(Stop):
            _play(recording, sinks, wait=not options.fast)
    return statistics.summary(recording.task.unit, [], recording.infos)


def _play(recording: Recording, sinks: list[Sink], wait: bool) -> None:
    started_s = time.monotonic()
    for at_s, item in recording.items():
        if wait:
            time.sleep(max(0.0, started_s + at_s - time.monotonic()))
        for sink in sinks:
            sink.tell(item) if isinstance(item, SourceEvent) else sink.write(item)
