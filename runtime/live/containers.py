"""Opening a file or stream with FFmpeg (PyAV), and choosing the video that a player would show."""

from __future__ import annotations

from typing import Any, BinaryIO

from ...errors import SourceError

DEFAULT, COVER = 0x1, 0x400  # AV_DISPOSITION_DEFAULT, AV_DISPOSITION_ATTACHED_PIC
UNTIMED, JUMPING = 0x80, 0x200  # AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT
PATCHED = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}  # only single-threaded decoders repair and report damage
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 5.0


def open_container(name: str, address: str | BinaryIO, form: str | None = None, **options: str) -> tuple[Any, Any]:
    """The container and its video; raises SourceError, which mentions `name` and never the address. form: the container format; None: guess."""
    import av

    try:
        container = av.open(
            address, "r", form, options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S), metadata_errors="replace"
        )
    except faults() as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SourceError(
            f"{name}: cannot open it as a video, picture or stream ({reason}); check whether it is truncated or another "
            "kind of file, and whether the address and login are right"
        ) from None
    try:
        stream = shown_video(container, name)
    except SourceError:
        container.close()
        raise
    stream.thread_type = "SLICE"  # frame threading would miscount damaged frames, and delay frames
    if stream.codec_context.name in PATCHED:
        stream.codec_context.thread_count = 1
    return container, stream


def shown_video(container: Any, name: str) -> Any:
    """The video that a player shows: not a cover picture, and the default one if one is marked; raises SourceError."""
    videos = [stream for stream in container.streams.video if not int(stream.disposition) & COVER]
    if not videos:
        what = "sound with a cover picture" if container.streams.video else "no video in it"
        raise SourceError(f"{name}: expected a video, found {what}; give another file or address")
    known = [stream for stream in videos if stream.codec_context is not None]
    if not known:
        raise SourceError(f"{name}: FFmpeg has no decoder for this video; convert it to another format, such as H.264")
    return next((stream for stream in known if int(stream.disposition) & DEFAULT), known[0])


def faults() -> tuple[type[Exception], ...]:
    """The exceptions of FFmpeg and OpenCV for damaged data, and for sizes and formats that they do not support."""
    import av
    import cv2

    return av.FFmpegError, OSError, ValueError, cv2.error, MemoryError


def is_timed(container: Any) -> bool:
    """Whether its pictures have timestamps; those of raw streams have none."""
    return not int(container.format.flags) & UNTIMED


def may_jump(container: Any) -> bool:
    """Whether timestamps of this format may jump anywhere."""
    return bool(int(container.format.flags) & JUMPING)
