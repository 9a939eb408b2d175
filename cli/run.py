"""Estimate ages in cameras, videos, streams or folders: in a window, as annotated video, as JSON lines, or over the network.

A live source is read at its newest frame: older frames are dropped and counted. A lost connection is opened again. A file is read
frame by frame, with the same results on every run; with --realtime it is played like a camera. Without an output flag, one line per
frame is printed.
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
from ..runtime.sinks.outputs import OutputOptions
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
        help="video source: 0 or /dev/video0 (a camera), a file, a folder or glob of pictures, an rtsp:// or "
        "http:// URL, csi://0 (a Jetson camera) or gst:PIPELINE (GStreamer) (default: the first camera)",
    )
    add_model_flags(parser)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="run the model's file of this precision, such as NAME.int8.onnx beside NAME.onnx (default: the file that "
        "--model names)",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads of the model (default: chosen by the inference library)"
    )
    add_output_flags(parser)
    parser.add_argument(
        "--interval",
        type=float,
        default=OutputOptions.interval,
        metavar="LEVEL",
        help="probability with which the shown interval (low to high) contains the true age",
    )
    add_face_flags(parser)
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="play video files at their own speed and drop late frames, as from a camera",
    )
    parser.add_argument(
        "--camera",
        metavar="WxH@FPS:FORMAT",
        help="request this size, frame rate and pixel format from the camera, such as 1280x720@30:MJPG (default: the "
        "camera's)",
    )
    parser.add_argument(
        "--fps", type=float, help="frame rate of a raw stream without timestamps, in frames per second (default: 30)"
    )
    parser.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="append the gate's answers to a tamper-evident file, without pictures, boxes, ages or embeddings; check "
        "it with numclip audit verify",
    )
    parser.add_argument("--audit-ages", action="store_true", help="with --audit: write ages and intervals too")
    parser.add_argument(
        "--sign",
        type=Path,
        metavar="KEY.pem",
        help="with --audit: sign each answer (JWS, ES256) with this private P-256 key",
    )
    parser.add_argument(
        "--nonce",
        default="",
        metavar="TEXT",
        help="with --sign: text to sign with each answer, chosen by whoever will check it, so that answers cannot be "
        "reused (default: none)",
    )
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="record the detected faces and the model's values, with their times, for numclip replay; no pixels",
    )
    parser.add_argument("--record-pixels", action="store_true", help="with --record: record the pictures too")


def run(args: argparse.Namespace) -> int:
    """Run, and print a summary; exit code 1 if a source was lost."""
    if args.audit is None and (args.audit_ages or args.sign or args.nonce):
        raise UsageError("--audit-ages, --sign and --nonce each need --audit FILE; add it")
    audit = None if args.audit is None else AuditOptions(args.audit, args.audit_ages, args.sign, args.nonce)
    sources = tuple(args.source)
    if not sources:
        sources = (first_camera(),)
        print(f"numclip: no SOURCE given; reading camera {sources[0]}", file=sys.stderr)
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
        outputs=output_options(args, args.interval, args.record, args.record_pixels),
        audit=audit,
        progress=True,
    )
    summary = run_sources(options, tqdm.write, until_terminated)
    print(summary.sentence, file=sys.stderr)
    for event in summary.lost:
        print(f"numclip: {event.source}: {event.kind} after {event.time_s:.0f} s: {event.reason}", file=sys.stderr)
    return 0 if summary.complete else 1
