"""Read ages off cameras, videos, streams or folders: live in a window, as annotated video, as JSON lines, over the network.

A live source is never behind: its newest frame is read, older ones are skipped and counted, and a broken connection is
opened again. Of files every frame is read, unless --realtime plays them like a camera, and the results are the same on every run.
"""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from ..runtime.contract.model_file import PRECISIONS
from ..runtime.faces.opening import HELP
from ..runtime.live.webcams import first_camera
from ..runtime.sessions.session import DEVICES
from ..runtime.sinks.running import RunOptions
from ..runtime.sinks.running import run as run_sources
from .output_flags import add_output_flags, output_options
from .signals import until_terminated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip run`."""
    default = RunOptions
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*",
        help="0, /dev/video0, a file, a folder or glob, rtsp://…, csi://0, gst:… (default: the first camera)",
    )
    parser.add_argument("--model", default=default.model, help="a model's name, .onnx, or hf://owner/name")
    parser.add_argument("--device", default=default.device, choices=DEVICES, help="where the model runs")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="arithmetic of the model: its form beside it, such as NAME.int8.onnx (default: the file that --model names)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    parser.add_argument("--detector", default=default.detector, metavar="NAME|FILE", help=HELP)
    add_output_flags(parser)
    parser.add_argument("--gate", type=float, metavar="AGE", help="answer for each face: at least so old? yes, no, ask")
    parser.add_argument(
        "--gate-error",
        type=float,
        default=default.gate_error,
        metavar="SHARE",
        help="share that may be answered wrongly",
    )
    parser.add_argument(
        "--buffer", type=float, default=default.buffer, metavar="YEARS", help="say yes only as if to --gate AGE + YEARS"
    )
    parser.add_argument(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="model time per frame; inf: no bound (default: 10 for live sources; no bound for files, whose results would "
        "otherwise depend on the machine's speed)",
    )
    parser.add_argument(
        "--max-faces", type=int, default=default.max_faces, metavar="N", help="at most so many faces per frame"
    )
    parser.add_argument(
        "--min-face", type=int, default=default.min_face_px, metavar="PX", help="smallest face that is read"
    )
    parser.add_argument(
        "--realtime", action="store_true", help="play video files at their own speed, as a camera would"
    )
    parser.add_argument("--camera", metavar="WxH@FPS:FORMAT", help="ask a camera for this, such as 1280x720@30:MJPG")
    parser.add_argument("--fps", type=float, help="frame rate of a raw stream without timestamps (30 if not said)")
    parser.add_argument("--record", metavar="FILE", help="record what was seen, when, for numclip replay; no pixels")
    parser.add_argument("--record-pixels", action="store_true", help="record the pictures too")


def run(args: argparse.Namespace) -> int:
    """Run, and say how it went; 1 where a source was lost."""
    sources = tuple(args.source)
    if not sources:
        sources = (first_camera(),)
        print(f"numclip: no source named; reading camera {sources[0]}", file=sys.stderr)
    options = RunOptions(
        sources=sources,
        model=args.model,
        device=args.device,
        threads=args.threads,
        precision=args.precision,
        detector=args.detector,
        gate=args.gate,
        gate_error=args.gate_error,
        buffer=args.buffer,
        budget_ms=args.budget_ms,
        max_faces=args.max_faces,
        min_face_px=args.min_face,
        realtime=args.realtime,
        camera=args.camera,
        fps=args.fps,
        outputs=output_options(args, args.record, args.record_pixels),
        progress=True,
    )
    summary = run_sources(options, tqdm.write, until_terminated)
    print(summary.sentence, file=sys.stderr)
    for event in summary.lost:
        print(f"numclip: {event.source}: {event.kind} after {event.time_s:.0f} s: {event.reason}", file=sys.stderr)
    return 0 if summary.complete else 1
