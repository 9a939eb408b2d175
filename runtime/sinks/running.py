"""One run: sources, the way of a frame, outputs. `numclip.runtime.run(RunOptions(("clip.mp4",)))` is `numclip run clip.mp4`."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tqdm import tqdm

from ...errors import UsageError
from ..contract.fields import Json
from ..contract.model_file import FINDER
from ..faces.opening import open_detector
from ..live.capture import Captures
from ..live.connections import CameraWish
from ..live.conveyor import Conveyor
from ..live.face_options import FaceOptions
from ..live.frames import SourceEvent, SourceInfo
from ..live.handover import Closed, Handover
from ..live.pipeline import Pipeline
from ..live.results import FrameResult
from ..live.sources import open_sources
from ..sessions.model import Model, load
from .audit import AuditOptions, AuditSink
from .outputs import OutputOptions, check_outputs, open_outputs
from .run_statistics import RunStatistics, RunSummary
from .sink import Sink, Stop
from .systemd import ServiceSink, supervised
from .window import WindowSink

JOIN_S = 10.0  # for a sink that is in the middle of a record
log = logging.getLogger(__name__)

Newest = dict[str, FrameResult]  # by source
Until = Callable[[Iterable[Newest]], Iterator[Newest]]  # gives the same, and ends when the run shall end


@dataclass(frozen=True)
class RunOptions(FaceOptions):
    """What a run reads, with what, and where its results go."""

    sources: tuple[str, ...]
    """Cameras (0, /dev/video0, csi://0), files, folders, globs, addresses, gst:PIPELINE."""
    model: str = "age-nano"
    """A model's name, an .onnx or an .engine."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda or tensorrt."""
    threads: int | None = None
    """CPU threads of the model; None: the library's choice."""
    precision: str | None = None
    """fp32, fp16 or int8: the form of the model beside it, as NAME.int8.onnx; None: the file that `model` names."""
    detector: str = FINDER
    """The face detector's name, or a finder's file."""
    realtime: bool = False
    """Play video files at their own speed, as a camera would, and skip frames."""
    camera: str | None = None
    """Ask a camera for this, as WxH@FPS:FORMAT."""
    fps: float | None = None
    """Frame rate of a raw stream without timestamps; None: 30."""
    outputs: OutputOptions = field(default_factory=OutputOptions)
    """Where results go."""
    audit: AuditOptions | None = None
    """Keep the gate's answers in an audit file; None: they are not kept."""
    progress: bool = False
    """Show a progress bar on stderr, where that is a terminal."""

    def __post_init__(self) -> None:
        """UsageError where numbers are out of range, or options lack another."""
        if not self.sources:
            raise UsageError("expected at least one source, such as 0 or a file")
        if (
            (self.max_faces is not None and self.max_faces < 1)
            or self.min_face_px < 1
            or (self.fps is not None and not self.fps > 0)
        ):
            raise UsageError("expected --max-faces, --min-face and --fps above 0")
        super().__post_init__()
        if self.gate is None and self.audit is not None:
            raise UsageError("expected --gate AGE beside --audit, whose answers it keeps; say which age")


def run(options: RunOptions, say: Callable[[str], None] = print, until: Until = iter) -> RunSummary:
    """Open everything, then follow the frames; whatever happens, every output is closed whole.

    say: takes the lines for a person, where there is no other output. until: wraps the wait for results in this thread, so that a
    signal can end the run. Raises SourceError, at the end where parts of a source could not be read, and OutputError, ModelError,
    DetectorError, DeviceError, UsageError.
    """
    outputs, statistics = options.outputs, RunStatistics()
    with ExitStack() as stack:
        wish = None if options.camera is None else CameraWish.from_text(options.camera)
        sources = open_sources(options.sources, options.fps, options.realtime, wish)
        captures = Captures(sources)
        stack.callback(captures.join, JOIN_S)
        stack.callback(captures.stop)
        infos = captures.open()
        _check_together(infos)
        check_outputs(outputs, infos)
        live, stills = infos[0].live, infos[0].stills
        model = load(options.model, options.device, options.threads, options.precision)
        detector = open_detector(
            options.detector,
            smallest_face_px=options.min_face_px,
            device=options.device,
            threads=options.threads,
            enlarge=stills,
        )
        pipeline = Pipeline(model, detector, options.rules(model.spec), tracks=not stills, live=live)
        _log_choices(options, model, infos)
        level = outputs.interval if model.spec.calibration is not None else None
        total = None if len(infos) > 1 else infos[0].frames
        disable = None if options.progress else True
        progress = stack.enter_context(tqdm(total=total, unit="frame", disable=disable, file=sys.stderr))
        sinks: list[Sink] = []
        if options.audit is not None:
            sinks.append(
                AuditSink(options.audit, model.spec, _settings(options, pipeline))
            )  # the first: no answer without it
            stack.callback(sinks[0].close)
        for sink in open_outputs(outputs, infos, model.spec.task, level, statistics, say, sources):
            stack.callback(sink.close)
            sinks.append(sink)
        if supervised():
            sinks.append(ServiceSink())
            stack.callback(sinks[-1].close)
        sinks.append(statistics)  # the last: what is counted was written
        window = WindowSink(infos, level, outputs.blur) if outputs.show else None
        if window is not None:
            stack.callback(window.close)

        def deliver(item: FrameResult | SourceEvent) -> None:
            _deliver(item, sinks)
            if isinstance(item, SourceEvent) and (
                item.kind != "failed" or len(infos) > 1
            ):  # alone it is the run's error
                log.info("%s %s%s", item.source, item.kind, f" ({item.reason})" if item.reason else "")
            progress.update(isinstance(item, FrameResult))

        def show(result: FrameResult) -> None:
            if window is not None:
                window.write(result)

        try:
            _convey(Conveyor(captures, pipeline), deliver, show, until, every=stills and window is not None)
        except Stop:
            pass
        except KeyboardInterrupt:
            said = statistics.summary(model.spec.task.unit, sources, infos).sentence
            log.info("stopped after %s; outputs hold what was seen", said)
            raise
    return statistics.summary(model.spec.task.unit, sources, infos)


def _settings(options: RunOptions, pipeline: Pipeline) -> dict[str, Json]:
    """All that decides the gate's answers, besides the model and its calibration."""
    return {
        "gate": options.gate,
        "gate_error": options.gate_error,
        "challenge": options.challenge,
        "cost": options.cost,
        "detector": pipeline.detector.name,
        "max_faces": options.max_faces,
        "min_face_px": options.min_face_px,
        "budget_ms": None if options.budget_ms in (None, float("inf")) else options.budget_ms,
    }


def _check_together(infos: Sequence[SourceInfo]) -> None:
    """UsageError where sources cannot be read in one run."""
    if len(infos) > 1 and any(info.stills for info in infos):
        raise UsageError("expected one folder at a time, or several cameras or videos")
    if len({info.live for info in infos}) > 1:
        raise UsageError("expected files beside a live source to be played like it; add --realtime")


def _deliver(item: FrameResult | SourceEvent, sinks: Sequence[Sink]) -> None:
    for sink in sinks:
        if isinstance(item, FrameResult):
            sink.write(item)
        else:
            sink.tell(item)


def _convey(
    conveyor: Conveyor,
    deliver: Callable[[FrameResult | SourceEvent], None],
    show: Callable[[FrameResult], None],
    until: Until,
    every: bool,
) -> None:
    """Results are written in a thread of their own; this one shows them, and hears Ctrl-C and SIGTERM.

    every: whether each result is shown, or the newest of each source.
    """
    newest: Handover[Newest] = Handover(1, None if every else lambda old, new: {**old, **new})

    def work() -> None:
        try:
            for item in conveyor:
                deliver(item)
                if isinstance(item, FrameResult):
                    newest.put({item.frame.source: item})
        except BaseException as error:  # raised again where the newest is taken
            newest.close(error)
        else:
            newest.close()

    writer = threading.Thread(target=work, name="sinks", daemon=True)
    with conveyor:
        writer.start()
        try:
            for shown in until(_takes(newest)):
                for result in shown.values():
                    show(result)
        finally:
            conveyor.stop()
            newest.close(drop=True)
            writer.join(JOIN_S)
            if writer.is_alive():
                log.warning("an output did not take its last record within %g s; that record is not whole", JOIN_S)


def _takes(newest: Handover[Newest]) -> Iterator[Newest]:
    """What waits to be shown, until nothing comes any more."""
    try:
        while True:
            yield newest.take() or {}
    except Closed:
        return


def _log_choices(options: RunOptions, model: Model, infos: Sequence[SourceInfo]) -> None:
    """`auto` may choose, and says what it chose; a camera may give something else than it was asked for."""
    notes: list[str] = []
    if options.device == "auto":
        notes.append(f"device {model.session.facts.device}")
    if model.spec.calibration is None:
        notes.append("no intervals: the model is not calibrated")
    notes += [f"{info.name}: {note}" for info in infos for note in info.notes]
    if notes:
        log.info("%s", ", ".join(notes))
    if options.budget_ms is not None and options.budget_ms != float("inf") and not infos[0].live:
        log.info(
            "--budget-ms on a file: the results depend on how fast this machine is; leave it out to have them repeatable"
        )
