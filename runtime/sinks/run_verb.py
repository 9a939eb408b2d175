"""Read ages off cameras, videos, streams or folders: live in a window, as annotated video, as JSON lines, over the network.

A live source is never behind: its newest frame is read, older ones are skipped and counted, and a broken connection is
opened again. Of files every frame is read, unless --realtime plays them like a camera.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from tqdm import tqdm

from ...errors import UsageError
from ..contract.gate import open_gate
from ..faces.detect import open_detector
from ..live.capture import Captures
from ..live.connections import CameraWish
from ..live.conveyor import Conveyor
from ..live.frames import FrameResult, SourceEvent, SourceInfo
from ..live.handover import Closed, Handover
from ..live.pipeline import Pipeline, Rules
from ..live.sources import open_sources
from ..sessions.model import Model, load
from ..sessions.session import DEVICES
from .drawing import Look
from .outputs import add_output_flags, check_outputs, open_outputs
from .run_statistics import RunStatistics
from .sinks import Sink, Stop, WindowSink
from .systemd import ServiceSink, supervised, until_terminated

JOIN_S = 10.0  # for a sink that is in the middle of a record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip run`."""
    parser.add_argument(
        "source", metavar="SOURCE", nargs="+", help="0, /dev/video0, a file, a folder or glob, rtsp://…, csi://0, gst:…"
    )
    parser.add_argument("--model", default="age-nano", help="a model's name or .onnx")
    parser.add_argument("--device", default="auto", choices=DEVICES, help="where the model runs")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    parser.add_argument("--detector", default="auto", choices=["auto", "yunet", "haar"], help="face detector")
    add_output_flags(parser)
    parser.add_argument("--gate", type=float, metavar="AGE", help="answer for each face: at least so old? yes, no, ask")
    parser.add_argument(
        "--gate-error", type=float, default=0.01, metavar="SHARE", help="share that may be answered wrongly"
    )
    parser.add_argument(
        "--buffer", type=float, default=0.0, metavar="YEARS", help="say yes only as if to --gate AGE + YEARS"
    )
    parser.add_argument(
        "--budget-ms", type=float, default=Rules.budget_ms, metavar="MS", help="model time per frame; inf: no bound"
    )
    parser.add_argument(
        "--max-faces", type=int, default=Rules.max_faces, metavar="N", help="at most so many faces per frame"
    )
    parser.add_argument(
        "--min-face", type=int, default=Rules.min_face_px, metavar="PX", help="smallest face that is read"
    )
    parser.add_argument(
        "--realtime", action="store_true", help="play video files at their own speed, as a camera would"
    )
    parser.add_argument("--camera", metavar="WxH@FPS:FORMAT", help="ask a camera for this, such as 1280x720@30:MJPG")
    parser.add_argument("--fps", type=float, help="frame rate of a raw stream without timestamps (30 if not said)")
    parser.add_argument("--record", metavar="FILE", help="record what was seen, when, for numclip replay; no pixels")
    parser.add_argument("--record-pixels", action="store_true", help="record the pictures too")


def run(args: argparse.Namespace) -> int:
    """Open everything, then follow the frames; whatever happens, every sink is closed whole."""
    _check(args)
    statistics = RunStatistics()
    with ExitStack() as stack:
        wish = None if args.camera is None else CameraWish.from_text(args.camera)
        sources = open_sources(args.source, args.fps, args.realtime, wish)
        captures = Captures(sources)
        stack.callback(captures.join, JOIN_S)
        stack.callback(captures.stop)
        infos = captures.open()
        _check_together(infos)
        check_outputs(args, infos)
        model = load(args.model, args.device, args.threads)
        detector = open_detector(args.detector)
        gate = None if args.gate is None else open_gate(model.spec, args.gate, args.gate_error, args.buffer)
        rules = Rules(args.max_faces, args.min_face, args.budget_ms, gate)
        pipeline = Pipeline(model, detector, rules, tracks=not infos[0].stills)
        _say_choices(args, model, detector.name, infos)
        level = args.interval if model.spec.calibration is not None else None
        total = None if len(infos) > 1 else infos[0].frames
        progress = stack.enter_context(tqdm(total=total, unit="frame", disable=None, file=sys.stderr))
        sinks: list[Sink] = [statistics]
        for sink in open_outputs(args, infos, model.spec.task, level, statistics, progress.write, sources):
            stack.callback(sink.close)
            sinks.append(sink)
        if supervised():
            sinks.append(ServiceSink())
            stack.callback(sinks[-1].close)
        window = WindowSink(Look(level, args.blur), infos) if args.show else None
        if window is not None:
            stack.callback(window.close)

        def deliver(item: FrameResult | SourceEvent) -> None:
            _deliver(item, sinks)
            progress.update(isinstance(item, FrameResult))

        def show(result: FrameResult) -> None:
            if window is not None:
                window.write(result)

        try:
            if infos[0].stills:
                _read_stills(captures, pipeline, deliver, show)
            else:
                _convey(Conveyor(captures, pipeline), deliver, show)
        except Stop:
            pass
        except KeyboardInterrupt:
            said = statistics.sentence(model.spec.task.unit, sources)
            print(f"numclip: stopped after {said}; outputs hold what was seen", file=sys.stderr)
            raise
    print(statistics.sentence(model.spec.task.unit, sources), file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.max_faces < 1 or args.min_face < 1 or (args.fps is not None and not args.fps > 0):
        raise UsageError("expected --max-faces, --min-face and --fps above 0")
    if not args.budget_ms > 0:
        raise UsageError(f"expected --budget-ms above 0, or inf, got {args.budget_ms:g}")
    if args.buffer and args.gate is None:
        raise UsageError("expected --gate AGE beside --buffer; say which age")
    if args.record_pixels and not args.record:
        raise UsageError("expected --record-pixels together with --record FILE")


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
    if isinstance(item, SourceEvent) and item.kind != "failed":  # that one is said at the end
        print(f"numclip: {item.source} {item.kind}" + (f" ({item.reason})" if item.reason else ""), file=sys.stderr)


def _read_stills(
    captures: Captures,
    pipeline: Pipeline,
    deliver: Callable[[FrameResult | SourceEvent], None],
    show: Callable[[FrameResult], None],
) -> None:
    for events, frames in captures:
        for frame in frames:
            result = pipeline.read(frame)
            deliver(result)
            show(result)
        for event in events:
            deliver(event)


def _convey(
    conveyor: Conveyor, deliver: Callable[[FrameResult | SourceEvent], None], show: Callable[[FrameResult], None]
) -> None:
    """Results are written in a thread of their own; this one shows the newest of each source, and hears Ctrl-C and SIGTERM."""
    newest: Handover[dict[str, FrameResult]] = Handover(1, lambda old, new: {**old, **new})

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
            for shown in until_terminated(_takes(newest)):
                for result in shown.values():
                    show(result)
        finally:
            conveyor.stop()
            writer.join(JOIN_S)


def _takes(newest: Handover[dict[str, FrameResult]]) -> Iterator[dict[str, FrameResult]]:
    """What waits to be shown, until nothing comes any more."""
    try:
        while True:
            yield newest.take() or {}
    except Closed:
        return


def _say_choices(args: argparse.Namespace, model: Model, detector: str, sources: Sequence[SourceInfo]) -> None:
    """`auto` may choose, and says what it chose; a camera may give something else than it was asked for."""
    notes: list[str] = []
    if args.device == "auto":
        notes.append(f"device {model.session.device}")
    if args.detector == "auto":
        better = "; `numclip fetch yunet` brings a better one" if detector == "haar" else ""
        notes.append(f"detector {detector}{better}")
    if model.spec.calibration is None:
        notes.append("no intervals: the model is not calibrated")
    notes += [f"{source.name}: {note}" for source in sources for note in source.notes]
    if notes:
        print(f"numclip: {', '.join(notes)}", file=sys.stderr)
