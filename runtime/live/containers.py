"""Opening a file or stream with FFmpeg (PyAV), and which of its videos a player shows."""

from __future__ import annotations

from typing import Any, BinaryIO

from ...errors import SourceError

DEFAULT, COVER = 0x1, 0x400  # AV_DISPOSITION_DEFAULT, AV_DISPOSITION_ATTACHED_PIC
UNTIMED, JUMPING = 0x80, 0x200  # AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT
PATCHED = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}  # damage is mended and told only by decoders with one thread
OPEN_TIMEOUT_S, READ_TIMEOUT_S = 5.0, 5.0


def open_container(name: str, address: str | BinaryIO, form: str | None = None, **options: str) -> tuple[Any, Any]:
    """The container and its video; raises SourceError, which says `name` and never the address. form: instead of a guess."""
    import av

    try:
        container = av.open(
            address, "r", form, options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S), metadata_errors="replace"
        )
    except faults() as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SourceError(
            f"{name}: expected a video, picture or stream, it cannot be opened ({reason}); it may be cut short, another "
            "kind, or need another address or login"
        ) from None
    try:
        stream = shown_video(container, name)
    except SourceError:
        container.close()
        raise
    stream.thread_type = "SLICE"  # threads by frame would lose count of what is damaged, and hold back frames
    if stream.codec_context.name in PATCHED:
        stream.codec_context.thread_count = 1
    return container, stream


def shown_video(container: Any, name: str) -> Any:
    """The video that a player shows: no cover picture, the default one where one is marked; raises SourceError."""
    videos = [stream for stream in container.streams.video if not int(stream.disposition) & COVER]
    if not videos:
        what = "sound with a cover picture" if container.streams.video else "no video in it"
        raise SourceError(f"{name}: expected a video, there is {what}; give another file or address")
    known = [stream for stream in videos if stream.codec_context is not None]
    if not known:
        raise SourceError(f"{name}: expected a video that this FFmpeg can decode, it knows no decoder; convert it")
    return next((stream for stream in known if int(stream.disposition) & DEFAULT), known[0])


def faults() -> tuple[type[Exception], ...]:
    """What FFmpeg and OpenCV raise at damaged data, and at sizes and formats that they do not take."""
    import av
    import cv2

    return av.FFmpegError, OSError, ValueError, cv2.error, MemoryError


def is_timed(container: Any) -> bool:
    """Whether its pictures carry times; raw streams do not."""
    return not int(container.format.flags) & UNTIMED


def may_jump(container: Any) -> bool:
    """Whether the clock of such a format may start again anywhere."""
    return bool(int(container.format.flags) & JUMPING)
