"""One run, from sources to outputs. `numclip.runtime.run(RunOptions(("clip.mp4",)))` is `numclip run clip.mp4`."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tqdm import tqdm

from ...errors import UsageError
from ..contract.fields import Json
from ..contract.model_file import FINDER
from ..faces.opening import enlarging, identity, open_detector
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

JOIN_S = 10.0  # how long to wait for a sink that is writing a record
log = logging.getLogger(__name__)

Newest = dict[str, FrameResult]  # by source
Until = Callable[[Iterable[Newest]], Iterator[Newest]]  # yields the same items, and ends when the run is to stop


@dataclass(frozen=True)
class RunOptions(FaceOptions):
    """What a run reads, with which model and detector, and where its results go."""

    sources: tuple[str, ...]
    """Cameras (0, /dev/video0, csi://0), files, folders, globs, URLs, gst:PIPELINE."""
    model: str = "age-nano"
    """A shipped model's name, an .onnx or .engine file, or hf://owner/name."""
    device: str = "auto"
    """Device that runs the model: auto, cpu, openvino, openvino-bf16, cuda or tensorrt."""
    threads: int | None = None
    """CPU threads of the model; None: chosen by the inference library."""
    precision: str | None = None
    """Run the model's file of this precision: fp32, fp16 or int8 (NAME.int8.onnx); None: the file that `model` names."""
    detector: str = FINDER
    """The face detector's name, or its file."""
    realtime: bool = False
    """Play video files at their own speed and drop late frames, as from a camera."""
    camera: str | None = None
    """Request this size, frame rate and pixel format from a camera, as WxH@FPS:FORMAT; None: the camera's own."""
    fps: float | None = None
    """Frame rate of a raw stream without timestamps; None: 30."""
    outputs: OutputOptions = field(default_factory=OutputOptions)
    """Where results go."""
    audit: AuditOptions | None = None
    """Write the gate's answers to an audit file; None: do not."""
    progress: bool = False
    """Show a progress bar on stderr, if that is a terminal."""

    def __post_init__(self) -> None:
        """Raise UsageError if a number is out of range or an option lacks another."""
        if not self.sources:
            raise UsageError("expected at least one source, such as 0 or a file")
        if (
            (self.max_faces is not None and self.max_faces < 1)
            or self.min_face_px < 1
            or (self.fps is not None and not 0 < self.fps < math.inf)
        ):
            raise UsageError("expected --max-faces, --min-face and --fps above 0")
        super().__post_init__()
        if self.gate is None and self.audit is not None:
            raise UsageError(
                "expected --gate AGE together with --audit, which records the gate's answers; add --gate AGE"
            )
        if self.outputs.aggregate and self.audit is not None and self.audit.ages:
            raise UsageError("--audit-ages cannot be combined with --aggregate, which writes no ages; leave one out")


def run(options: RunOptions, say: Callable[[str], None] = print, until: Until = iter) -> RunSummary:
    """Open everything, and pass each frame from source to outputs. However the run ends, every output is closed properly.

    say: receives the lines for people, if there is no other output. until: wraps the wait for results in this thread, so that a
    signal can end the run. Raises SourceError if a source cannot be opened, and at its end if parts could not be read;
    OutputError, ModelError, DetectorError, DeviceError, UsageError.
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
        audit = None if options.audit is None else options.audit.file
        check_outputs(outputs, infos, (file for info in infos for file in info.files), audit)
        live, stills = infos[0].live, infos[0].stills
        model = load(options.model, options.device, options.threads, options.precision)
        detector = open_detector(
            options.detector,
            smallest_face_px=options.min_face_px,
            device=options.device,
            threads=options.threads,
        )
        detector = enlarging(detector) if stills else detector
        pipeline = Pipeline(model, detector, options.rules(model.spec), tracks=not stills, live=live)
        _log_choices(options, model, infos)
        calibration = model.spec.calibration
        level = None if calibration is None else calibration.table.check_level(outputs.interval)
        total = None if len(infos) > 1 else infos[0].frames
        disable = None if options.progress else True
        progress = stack.enter_context(tqdm(total=total, unit="frame", disable=disable, file=sys.stderr))
        sinks: list[Sink] = []
        if options.audit is not None:
            # First, so that no answer is shown that was not recorded.
            names, settings = [info.name for info in infos], _settings(options, pipeline)
            sinks.append(AuditSink(options.audit, model.spec, settings, names, tracks=not outputs.aggregate))
            stack.callback(sinks[0].close)
        window = WindowSink(infos, level, outputs.blur) if outputs.show else None
        if window is not None:
            stack.callback(window.close)
        for sink in open_outputs(outputs, infos, model.spec.task, level, statistics, say, sources):
            stack.callback(sink.close)
            sinks.append(sink)
        if supervised():
            sinks.append(ServiceSink())
            stack.callback(sinks[-1].close)
        sinks.append(statistics)  # last, so that only written results are counted

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
            log.info("stopped after %s; the outputs contain everything up to then", said)
            raise
    return statistics.summary(model.spec.task.unit, sources, infos)


def _settings(options: RunOptions, pipeline: Pipeline) -> dict[str, Json]:
    """All settings that the gate's answers depend on, besides the model and its calibration."""
    return {
        "gate": options.gate,
        "gate_error": options.gate_error,
        "challenge": options.challenge,
        "cost": options.cost,
        "detector": identity(pipeline.detector),
        "max_faces": options.max_faces,
        "min_face_px": options.min_face_px,
        "budget_ms": None if math.isinf(pipeline.budget_ms) else pipeline.budget_ms,  # None: no limit
    }


def _check_together(infos: Sequence[SourceInfo]) -> None:
    """Raise UsageError if the sources cannot be read in one run."""
    if len(infos) > 1 and any(info.stills for info in infos):
        raise UsageError(
            "expected one picture, one folder, or several cameras or videos, got pictures beside another source; start one "
            "run for each source"
        )
    if len({info.live for info in infos}) > 1:
        raise UsageError(
            "expected only live sources, or --realtime, got files beside a live source; add --realtime to play the "
            "files like cameras"
        )


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
    """Write results in a separate thread; this thread shows them and receives Ctrl-C and SIGTERM.

    every: show each result (True), or only the newest of each source.
    """
    newest: Handover[Newest] = Handover(1, None if every else lambda old, new: {**old, **new})

    def work() -> None:
        try:
            for item in conveyor:
                deliver(item)
                if isinstance(item, FrameResult):
                    newest.put({item.frame.source: item})
        except BaseException as error:  # raised again in the thread that takes the results
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
                log.warning("an output did not finish writing within %g s; its last record is incomplete", JOIN_S)


def _takes(newest: Handover[Newest]) -> Iterator[Newest]:
    """The results that wait to be shown, until there are no more."""
    try:
        while True:
            yield newest.take() or {}
    except Closed:
        return


def _log_choices(options: RunOptions, model: Model, infos: Sequence[SourceInfo]) -> None:
    """Log what `auto` chose, and settings that a camera did not accept."""
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
            "--budget-ms was given for a file: the results depend on the speed of this machine; leave it out for repeatable "
            "results"
        )
