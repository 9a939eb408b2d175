"""Serve ages over HTTP: uploaded pictures, live sources, browser cameras, and a web page that shows them.

POST /v1/read reads a picture; /openapi.json describes the other routes; the web page is at /. By default only this machine can
connect. To listen on other addresses, give --host and a token. The server stores no pictures and fetches no URL for a client.
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
    add(
        "source",
        metavar="SOURCE",
        nargs="*",
        help="live sources to read all the time: 0, /dev/video0, rtsp://…, or a video file (default: none)",
    )
    add(
        "--host",
        default=default.host,
        metavar="ADDRESS",
        help="address to listen on; any address except localhost needs a token or --open-to-all",
    )
    add("--port", metavar="PORT", type=int, default=default.port, help="TCP port to listen on; 0 picks a free port")
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file with the token that clients must send (default: no file; the token is then the value of the environment variable "
        f"{TOKEN}, if it is set)",
    )
    add(
        "--token",
        metavar="TOKEN",
        help="the token that clients must send (default: none); --token-file is safer, because other users of this "
        "machine can read the command line",
    )
    add("--open-to-all", action="store_true", help="accept clients without a token on any address")
    add(
        "--cors",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="web sites whose pages may call the API, such as https://example.org (default: none)",
    )
    add_model_flags(parser)
    add(
        "--precision",
        choices=PRECISIONS,
        help="run the model's file of this precision (default: the file that --model names)",
    )
    add("--threads", type=int, default=default.threads, metavar="N", help="CPU threads per model call")
    add("--workers", type=int, metavar="N", help="pictures to process in parallel (default: one per CPU core)")
    add(
        "--batch",
        type=int,
        default=default.batch,
        metavar="N",
        help="largest number of pictures from different requests in one model call",
    )
    add(
        "--batch-window-ms",
        type=float,
        default=default.batch_window_ms,
        metavar="MS",
        help="with --batch above 1: longest wait for other pictures, in ms",
    )
    add(
        "--queue",
        type=int,
        default=default.queue,
        metavar="N",
        help="pictures that may wait, at least --max-pictures; further requests get HTTP 429",
    )
    add("--max-bytes", type=int, default=default.max_bytes, metavar="N", help="largest request body, in bytes")
    add(
        "--max-pixels",
        type=int,
        default=default.max_pixels,
        metavar="N",
        help="largest picture, in pixels; checked before it is decoded",
    )
    add(
        "--max-pictures",
        type=int,
        default=default.max_pictures,
        metavar="N",
        help="largest number of pictures in one request",
    )
    add(
        "--max-connections",
        type=int,
        default=default.max_connections,
        metavar="N",
        help="largest number of open connections",
    )
    add(
        "--webrtc",
        metavar="ADDRESS",
        help="let browsers send their cameras by WebRTC too, as UDP to this address of this machine (default: off)",
    )
    add(
        "--max-cameras",
        type=int,
        default=default.max_cameras,
        metavar="N",
        help="largest number of browser cameras at a time; 0 turns them off",
    )
    add(
        "--timeout-s",
        type=float,
        default=default.timeout_s,
        metavar="S",
        help="time limit for receiving a request, and for its wait in the queue, in seconds",
    )
    add_face_flags(parser, served=True)
    add(
        "--camera",
        metavar="WxH@FPS:FORMAT",
        help="request this size, frame rate and pixel format from a camera, such as 1280x720@30:MJPG (default: the "
        "camera's)",
    )
    add(
        "--fps",
        metavar="FPS",
        type=float,
        help="frame rate of a raw stream without timestamps, in frames per second (default: 30)",
    )
    add(
        "--interval",
        type=float,
        default=default.level,
        metavar="LEVEL",
        help="probability with which the shown range (low to high) contains the true age",
    )
    add("--blur", action="store_true", help="blur faces in every picture that the server sends")


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
        signal.signal(signal.SIGTERM, lambda number, frame: None)  # uvicorn raises it again after a clean shutdown
    # OpenCV reads its limit when it is loaded, which the next import does.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(options.max_pixels))
    from ..server.serving import serve

    serve(options, say)
    return 0


def _token(args: argparse.Namespace) -> str | None:
    """The token from a flag, the file or the environment."""
    given = [way for way in (args.token, args.token_file) if way is not None]
    if len(given) > 1:
        raise UsageError("expected only one of --token and --token-file, got both; leave one out")
    if args.token_file is not None:
        try:
            return Path(os.path.expanduser(args.token_file)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--token-file {args.token_file}: expected a text file with the token ({error}); correct the path"
            ) from None
    if args.token is not None:
        return args.token
    return None if args.open_to_all else os.environ.get(TOKEN) or None


def say(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)
