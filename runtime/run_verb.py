"""Read ages off a camera, video, stream or folder: live in a window, as annotated video, as JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..errors import UsageError
from .detect import open_detector
from .drawing import Look
from .frames import FrameResult, Source
from .gate import TrackGate, open_gate
from .model import Model, load
from .pipeline import MAX_FACES, MIN_FACE_PX, Pipeline
from .service import ServiceSink, supervised, until_terminated
from .sessions import DEVICES
from .sinks import JsonlSink, Sink, Stop, VideoSink, WindowSink
from .sources import open_pictures, open_source
from .tracking import Tracker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip run`."""
    parser.add_argument(
        "source", metavar="SOURCE", nargs="+", help="0, /dev/video0, a file, a folder or glob, rtsp://…, csi://0, gst:…"
    )
    parser.add_argument("--model", default="age-nano", help="a model's name or .onnx")
    parser.add_argument("--device", default="auto", choices=DEVICES, help="where the model runs")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    parser.add_argument("--detector", default="auto", choices=["auto", "yunet", "haar"], help="face detector")
    parser.add_argument("--show", action="store_true", help="show a window; q stops")
    parser.add_argument("--save", type=Path, metavar="FILE.mp4", help="write the annotated video")
    parser.add_argument("--jsonl", metavar="FILE|-", help="write one JSON line per frame, to a file or to stdout")
    parser.add_argument("--interval", type=float, default=0.9, metavar="LEVEL", help="level of the shown range")
    parser.add_argument("--gate", type=float, metavar="AGE", help="answer for each face: at least so old? yes, no, ask")
    parser.add_argument(
        "--gate-error", type=float, default=0.01, metavar="SHARE", help="share that may be answered wrongly"
    )
    parser.add_argument("--max-faces", type=int, default=MAX_FACES, metavar="N", help="at most so many faces per frame")
    parser.add_argument("--min-face", type=int, default=MIN_FACE_PX, metavar="PX", help="smallest face to read")
    parser.add_argument("--blur", action="store_true", help="blur faces in window and video")
    parser.add_argument("--fps", type=float, help="frame rate of a raw stream without timestamps (30 if not said)")


@dataclass
class Tally:
    """What a run has seen."""

    frames: int = 0
    faces: int = 0
    dropped: int = 0
    tracks: set[int] = field(default_factory=lambda: set[int]())

    def add(self, result: FrameResult) -> None:
        """Count one frame."""
        self.frames += 1
        self.faces += len(result.faces)
        self.dropped = result.dropped
        self.tracks |= {face.track_id for face in result.faces if face.track_id is not None}

    def sentence(self) -> str:
        """One line for the end of a run."""
        parts = [f"{self.frames} frames", f"{self.faces} faces"]
        parts += [f"{len(self.tracks)} tracks"] if self.tracks else []
        parts += [f"{self.dropped} dropped"] if self.dropped else []
        return ", ".join(parts)


def run(args: argparse.Namespace) -> int:
    """Open everything, then follow the frames; whatever happens, every sink is closed whole."""
    if not 0 < args.interval < 1:
        raise UsageError(f"expected --interval between 0 and 1, got {args.interval:g}; 0.9 is usual")
    if args.max_faces < 1 or args.min_face < 1 or (args.fps is not None and args.fps <= 0):
        raise UsageError("expected --max-faces, --min-face and --fps above 0")
    tally = Tally()
    with ExitStack() as stack:
        source = stack.enter_context(_open(args.source, args.fps))
        _refuse_to_overwrite(source, [Path(out) for out in (args.jsonl, args.save) if out and out != "-"])
        model = load(args.model, args.device, args.threads)
        detector = open_detector(args.detector)
        tracker = None if source.stills else Tracker()
        gate = None if args.gate is None else TrackGate(open_gate(model.spec, args.gate, args.gate_error))
        pipeline = Pipeline(model, detector, tracker, args.max_faces, args.min_face, gate)
        _say_choices(args, model, detector.name)
        level = args.interval if model.spec.calibration is not None else None
        sinks: list[Sink] = []
        for sink in _sinks(args, source, Look(level, args.blur)):
            stack.callback(sink.close)
            sinks.append(sink)
        try:
            _follow(source, pipeline, sinks, tally, level, quiet=args.jsonl == "-")
        except Stop:
            pass
        except KeyboardInterrupt:
            print(f"numclip: stopped after {tally.sentence()}; outputs hold what was seen", file=sys.stderr)
            raise
    print(f"{tally.sentence()}", file=sys.stderr)
    return 0


def _open(texts: list[str], fps: float | None) -> Source:
    return open_source(texts[0], fps) if len(texts) == 1 else open_pictures(texts)


def _refuse_to_overwrite(source: Source, outputs: list[Path]) -> None:
    """UsageError where an output is a file that is being read, or the other output."""
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise UsageError(f"expected two files for --jsonl and --save, got {outputs[0]} for both; name another")
    for path in outputs:
        if path.exists() and any(path.samefile(file) for file in source.files):
            raise UsageError(f"expected an output that is not the source, got {path} for both; name another")


def _follow(
    source: Source, pipeline: Pipeline, sinks: list[Sink], tally: Tally, level: float | None, quiet: bool
) -> None:
    """The loop: each frame becomes a result, each result goes to every sink."""
    frames = until_terminated(source) if source.live or supervised() else source
    progress = tqdm(frames, total=source.frames, unit="frame", disable=None, file=sys.stderr)
    for frame in progress:
        result = pipeline.read(frame, source.dropped)
        for sink in sinks:
            sink.write(result)
        tally.add(result)
        if not sinks and not quiet:
            progress.write(describe(result, level))


def _sinks(args: argparse.Namespace, source: Source, look: Look) -> Iterator[Sink]:
    if args.jsonl:
        yield JsonlSink(args.jsonl, look.level)
    if args.save:
        yield VideoSink(args.save, source, look)
    if args.show:
        yield WindowSink(look, hold=source.stills)
    if supervised():
        yield ServiceSink()


def describe(result: FrameResult, level: float | None) -> str:
    """One line for a terminal: where, and each face's number, range and word."""
    where = result.frame.file or f"{result.frame.time_s:8.2f} s"
    faces: list[str] = []
    for face in result.faces:
        if face.reading is None:
            continue
        text = f"{face.reading.value:.0f}"
        if level is not None:
            low, high = face.reading.interval(level)
            text += f" ({low:.0f}-{high:.0f})"
        faces.append(f"{text} {face.reading.bin}" + ("" if face.track_id is None else f" #{face.track_id}"))
    return f"{where}: " + ("; ".join(faces) or "no face")


def _say_choices(args: argparse.Namespace, model: Model, detector: str) -> None:
    """`auto` may choose, and says what it chose."""
    notes: list[str] = []
    if args.device == "auto":
        notes.append(f"device {model.session.device}")
    if args.detector == "auto":
        better = "; `numclip fetch yunet` brings a better one" if detector == "haar" else ""
        notes.append(f"detector {detector}{better}")
    if model.spec.calibration is None:
        notes.append("no intervals: the model is not calibrated")
    if notes:
        print(f"numclip: {', '.join(notes)}", file=sys.stderr)
