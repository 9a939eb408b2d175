"""Write small videos with known content, with PyAV, for the tests of sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 10
CORNERS = {
    "top left": (0, 0, 200),
    "top right": (0, 200, 0),
    "bottom left": (200, 0, 0),
    "bottom right": (200, 200, 200),
}


def corners(width: int = 96, height: int = 64) -> np.ndarray:
    """Return a picture [H, W, 3] BGR whose four quarters have the colors of CORNERS."""
    image = np.zeros((height, width, 3), np.uint8)
    for name, color in CORNERS.items():
        y, x = ("bottom" in name) * height // 2, ("right" in name) * width // 2
        image[y : y + height // 2, x : x + width // 2] = color
    return image


def seen_corners(image: np.ndarray) -> dict[str, str]:
    """Return the original corner at each place of a transformed `corners` picture."""
    height, width = image.shape[:2]
    found = {}
    for place in CORNERS:
        y, x = height // 4 + ("bottom" in place) * height // 2, width // 4 + ("right" in place) * width // 2
        distance = {old: int(np.abs(image[y, x].astype(int) - color).sum()) for old, color in CORNERS.items()}
        found[place] = min(distance, key=lambda old: distance[old])
    return found


def grays(many: int, first: int = 0, side: int = 64) -> list[np.ndarray]:
    """Yield pictures of grey 4 i with noise, i from `first`."""
    noise = [np.random.default_rng(i).integers(-8, 9, (side, side, 3)) for i in range(many)]
    return [(20 + 4 * (first + i) + n).clip(0, 255).astype(np.uint8) for i, n in enumerate(noise)]


def write_video(
    path: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    times_s: Sequence[float] | None = None,
    start_s: float = 0.0,
    options: dict[str, str] | None = None,
    **stream_settings: Any,
) -> Path:
    """Write pictures at FPS, or at `times_s`; stream_settings: attributes of the codec context."""
    with av.open(str(path), "w", options=options or {}) as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p", "apng": "rgb24"}.get(codec, "yuv420p")
        for name, value in stream_settings.items():
            setattr(stream.codec_context, name, value)
        stream.codec_context.time_base = Fraction(1, 1000)
        if codec == "libx264":
            stream.options = {"tune": "zerolatency", "preset": "ultrafast", "crf": "12"}
        for i, picture in enumerate(pictures):
            if i == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format=stream.pix_fmt)
            time_s = start_s + (i / FPS if times_s is None else times_s[i])
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def set_matrix(video: Path, a: int, b: int, c: int, d: int) -> None:
    """Write the display matrix of an mp4's only track (QuickTime: x' = a x + c y, y' = b x + d y, with y downwards)."""
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in ((0, a), (4, b), (12, c), (16, d)):
        data[at + place : at + place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    video.write_bytes(data)
