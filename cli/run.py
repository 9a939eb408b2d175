"""Read ages off cameras, videos, streams or folders: live in a window, as annotated video, as JSON lines, over the network.

A live source is never behind: its newest frame is read, older ones are skipped and counted, and a broken connection is
opened again. Of files every frame is read, unless --realtime plays them like a camera, and the results are the same on every run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ..errors import UsageError
from ..runtime.contract.model_file import PRECISIONS
from ..runtime.live.webcams import first_camera
from ..runtime.sinks.audit import AuditOptions
from ..runtime.sinks.running import RunOptions
from ..runtime.sinks.running import run as run_sources
from .output_flags import add_output_flags, output_options
from .shared_flags import add_face_flags, add_model_flags
from .signals import until_terminated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip run`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="*",
        help="0, /dev/video0, a file, a folder or glob, rtsp://…, csi://0, gst:… (default: the first camera)",
    )
    add_model_flags(parser)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="arithmetic of the model: its form beside it, such as NAME.int8.onnx (default: the file that --model names)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    add_output_flags(parser)
    add_face_flags(parser)
    parser.add_argument(
        "--realtime", action="store_true", help="play video files at their own speed, as a camera would"
    )
    parser.add_argument("--camera", metavar="WxH@FPS:FORMAT", help="ask a camera for this, such as 1280x720@30:MJPG")
    parser.add_argument("--fps", type=float, help="frame rate of a raw stream without timestamps (30 if not said)")
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="append the gate's answers to a chain of hashed lines: no picture, box, age or embedding; numclip audit verify checks it",
    )
    parser.add_argument("--audit-ages", action="store_true", help="write ages and ranges into it too")
    parser.add_argument(
        "--sign", type=Path, metavar="KEY.pem", help="sign each answer in it (JWS, ES256) with this P-256 key"
    )
    parser.add_argument("--nonce", default="", metavar="TEXT", help="the caller's nonce, signed with each answer")
    parser.add_argument("--record", metavar="FILE", help="record what was seen, when, for numclip replay; no pixels")
    parser.add_argument("--record-pixels", action="store_true", help="record the pictures too")


def run(args: argparse.Namespace) -> int:
    """Run, and say how it went; 1 where a source was lost."""
    if args.audit is None and (args.audit_ages or args.sign or args.nonce):
        raise UsageError("expected --audit FILE beside --audit-ages, --sign and --nonce; name the file")
    audit = None if args.audit is None else AuditOptions(args.audit, args.audit_ages, args.sign, args.nonce)
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
        challenge=args.challenge,
        cost=args.cost,
        budget_ms=args.budget_ms,
        max_faces=args.max_faces,
        min_face_px=args.min_face,
        realtime=args.realtime,
        camera=args.camera,
        fps=args.fps,
        outputs=output_options(args, args.record, args.record_pixels),
        audit=audit,
        progress=True,
    )
    summary = run_sources(options, tqdm.write, until_terminated)
    print(summary.sentence, file=sys.stderr)
    for event in summary.lost:
        print(f"numclip: {event.source}: {event.kind} after {event.time_s:.0f} s: {event.reason}", file=sys.stderr)
    return 0 if summary.complete else 1
