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
from pathlib import Path

from tqdm import tqdm

from ...errors import UsageError
from ..contract.gate import open_gate
from ..contract.model_file import FINDER
from ..faces.opening import HELP, open_detector
from ..live.connections import CameraWish
from ..live.conveyor import Conveyor
from ..live.frames import Event, FrameResult, Source
from ..live.handover import Closed, Handover
from ..live.pipeline import Pipeline, Rules
from ..live.sources import PICTURES, open_pictures, open_source
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
    parser.add_argument("--detector", default=FINDER, metavar="NAME|FILE", help=HELP)
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
        sources = _open_sources(args, stack)
        check_outputs(args, sources)
        model = load(args.model, args.device, args.threads)
        detector = open_detector(
            args.detector, smallest_face_px=args.min_face, device=args.device, threads=args.threads
        )
        gate = None if args.gate is None else open_gate(model.spec, args.gate, args.gate_error, args.buffer)
        rules = Rules(args.max_faces, args.min_face, args.budget_ms, gate)
        pipeline = Pipeline(model, detector, rules, tracks=not sources[0].stills)
        _say_choices(args, model, sources)
        level = args.interval if model.spec.calibration is not None else None
        total = None if len(sources) > 1 else sources[0].frames
        progress = stack.enter_context(tqdm(total=total, unit="frame", disable=None, file=sys.stderr))
        sinks: list[Sink] = [statistics]
        for sink in open_outputs(args, sources, model.spec.task, level, statistics, progress.write):
            stack.callback(sink.close)
            sinks.append(sink)
        if supervised():
            sinks.append(ServiceSink())
            stack.callback(sinks[-1].close)
        window = WindowSink(Look(level, args.blur), sources) if args.show else None
        if window is not None:
            stack.callback(window.close)

        def deliver(item: FrameResult | Event) -> None:
            _deliver(item, sinks)
            progress.update(isinstance(item, FrameResult))

        def show(result: FrameResult) -> None:
            if window is not None:
                window.write(result)

        try:
            if sources[0].stills:
                _read_stills(sources[0], pipeline, deliver, show)
            else:
                _convey(Conveyor(sources, pipeline), deliver, show)
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


def _open_sources(args: argparse.Namespace, stack: ExitStack) -> list[Source]:
    """One source, several pictures as one, or several videos and cameras."""
    texts: list[str] = args.source
    if len(texts) > 1 and any(Path(text).suffix.lower() in PICTURES for text in texts):
        return [stack.enter_context(open_pictures(texts))]
    if len(set(texts)) < len(texts):
        raise UsageError(f"expected each source once, got {max(texts, key=texts.count)} twice")
    wish = None if args.camera is None else CameraWish.from_text(args.camera)
    sources = [stack.enter_context(open_source(text, args.fps, args.realtime, wish)) for text in texts]
    if len(sources) > 1 and any(source.stills for source in sources):
        raise UsageError("expected one folder at a time, or several cameras or videos")
    if len({source.live for source in sources}) > 1:
        raise UsageError("expected files beside a live source to be played like it; add --realtime")
    return sources


def _deliver(item: FrameResult | Event, sinks: Sequence[Sink]) -> None:
    for sink in sinks:
        if isinstance(item, FrameResult):
            sink.write(item)
        else:
            sink.tell(item)
    if isinstance(item, Event):
        print(f"numclip: {item.source} {item.kind}" + (f" ({item.reason})" if item.reason else ""), file=sys.stderr)


def _read_stills(
    source: Source,
    pipeline: Pipeline,
    deliver: Callable[[FrameResult], None],
    show: Callable[[FrameResult], None],
) -> None:
    for frame in source:
        result = pipeline.read(frame)
        deliver(result)
        show(result)


def _convey(
    conveyor: Conveyor, deliver: Callable[[FrameResult | Event], None], show: Callable[[FrameResult], None]
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


def _say_choices(args: argparse.Namespace, model: Model, sources: Sequence[Source]) -> None:
    """`auto` may choose, and says what it chose; a camera may give something else than it was asked for."""
    notes: list[str] = []
    if args.device == "auto":
        notes.append(f"device {model.session.facts.device}")
    if model.spec.calibration is None:
        notes.append("no intervals: the model is not calibrated")
    notes += [f"camera {source.name}: {source.note}" for source in sources if source.note]
    if notes:
        print(f"numclip: {', '.join(notes)}", file=sys.stderr)
