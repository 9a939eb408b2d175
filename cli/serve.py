"""Serve ages over HTTP: pictures that are sent, live sources, browsers' cameras, and a page that shows them.

POST /v1/read reads a picture, /openapi.json describes the rest, and the page is at /. The server listens on this machine alone
unless --host says otherwise, and then it needs a token. Nothing is kept, and no address that a client names is fetched.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from ..errors import UsageError
from ..runtime.contract.model_file import PRECISIONS
from ..server.options import ServeOptions
from .shared_flags import add_face_flags, add_model_flags

TOKEN = "NUMCLIP_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `numclip serve`."""
    add, default = parser.add_argument, ServeOptions
    add("source", metavar="SOURCE", nargs="*", help="read these all the time: 0, /dev/video0, rtsp://…, a video file")
    add(
        "--host",
        default=default.host,
        metavar="ADDRESS",
        help="listen here; any address but this machine's own needs a token",
    )
    add("--port", type=int, default=default.port, help="listen here; 0 takes a free port")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"clients must show the token in this file (or {TOKEN} in the environment)",
    )
    add(
        "--token",
        metavar="TOKEN",
        help="clients must show this token; other users of this machine can see it in the process list",
    )
    add("--open-to-all", action="store_true", help="let anybody in who reaches the address")
    add(
        "--cors",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="let pages of these sites call the API (default: of none)",
    )
    add_model_flags(parser)
    add(
        "--precision", choices=PRECISIONS, help="arithmetic of the model (default: that of the file that --model names)"
    )
    add("--threads", type=int, default=default.threads, metavar="N", help="CPU threads of one call of the model")
    add("--workers", type=int, metavar="N", help="pictures that are read side by side (default: one per CPU core)")
    add(
        "--batch",
        type=int,
        default=default.batch,
        metavar="N",
        help="pictures of different requests in one call of the model",
    )
    add(
        "--batch-window-ms",
        type=float,
        default=default.batch_window_ms,
        metavar="MS",
        help="how long a picture waits for others, with --batch above 1",
    )
    add(
        "--queue",
        type=int,
        default=default.queue,
        metavar="N",
        help="pictures that may wait; more are answered with 429",
    )
    add("--max-bytes", type=int, default=default.max_bytes, metavar="N", help="largest body of a request")
    add(
        "--max-pixels",
        type=int,
        default=default.max_pixels,
        metavar="N",
        help="largest picture, checked before it is decoded",
    )
    add("--max-pictures", type=int, default=default.max_pictures, metavar="N", help="most pictures in one request")
    add("--max-connections", type=int, default=default.max_connections, metavar="N", help="connections at a time")
    add(
        "--webrtc",
        metavar="ADDRESS",
        help="let browsers send their cameras by WebRTC too, as UDP to this address of this machine (default: off)",
    )
    add(
        "--max-cameras", type=int, default=default.max_cameras, metavar="N", help="browsers' cameras at a time; 0: none"
    )
    add(
        "--timeout-s",
        type=float,
        default=default.timeout_s,
        metavar="S",
        help="longest time for a request's head, its body, and its wait",
    )
    add_face_flags(parser)
    add("--camera", metavar="WxH@FPS:FORMAT", help="ask a camera for this, such as 1280x720@30:MJPG")
    add("--fps", type=float, help="frame rate of a raw stream without timestamps (30 if not said)")
    add("--interval", type=float, default=default.level, metavar="LEVEL", help="level of the shown range")
    add("--blur", action="store_true", help="blur faces in every picture that is sent out")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    options = ServeOptions(
        sources=tuple(args.source),
        model=args.model,
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        detector=args.detector,
        host=args.host,
        port=args.port,
        token=_token(args),
        open_to_all=args.open_to_all,
        cors=tuple(args.cors),
        workers=args.workers,
        batch=args.batch,
        batch_window_ms=args.batch_window_ms,
        queue=args.queue,
        max_bytes=args.max_bytes,
        max_pixels=args.max_pixels,
        max_pictures=args.max_pictures,
        max_connections=args.max_connections,
        webrtc=args.webrtc,
        max_cameras=args.max_cameras,
        timeout_s=args.timeout_s,
        gate=args.gate,
        gate_error=args.gate_error,
        challenge=args.challenge,
        cost=args.cost,
        budget_ms=args.budget_ms,
        max_faces=args.max_faces,
        min_face_px=args.min_face,
        camera=args.camera,
        fps=args.fps,
        level=args.interval,
        blur=args.blur,
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: None)  # uvicorn raises it again after a whole end
    # OpenCV reads its limit when it is loaded, which the next import does.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(options.max_pixels))
    from ..server.serving import serve

    serve(options, say)
    return 0


def _token(args: argparse.Namespace) -> str | None:
    """The token that was given in one of three ways."""
    given = [way for way in (args.token, args.token_file) if way is not None]
    if len(given) > 1:
        raise UsageError("expected one of --token and --token-file, got both")
    if args.token_file is not None:
        return args.token_file.expanduser().read_text(encoding="utf-8").strip()
    if args.token is not None:
        return args.token
    return None if args.open_to_all else os.environ.get(TOKEN) or None


def say(text: str) -> None:
    """Tell a person."""
    print(text, file=sys.stderr, flush=True)
