"""The demo's clip: two portraits on square cards that slide in, drift and change size on a plain background."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FPS = 25
SECONDS = 7.0
SIZE_WH = (640, 480)
BACKGROUND_BGR = (212, 206, 198)
CARD_PX = 320  # each portrait is cropped and scaled to a card of this side
SLIDE_IN_S = 0.8


@dataclass(frozen=True)
class Person:
    """One portrait: its source, the square crop, and the face inside that square."""

    name: str
    square_xys: tuple[int, int, int]  # left, top, side of the crop, in px of the portrait
    face_xyxy: tuple[float, float, float, float]  # the face in the crop, as shares of its side
    center_xy: tuple[float, float]  # resting position of the card, in px of the clip
    phase: float  # phase of the drift, so that the two cards move differently


HOPPER = Person("Grace Hopper", (66, 10, 400), (0.22, 0.24, 0.78, 0.79), (163.0, 240.0), 0.0)
COLLINS = Person("Eileen Collins", (84, 0, 280), (0.33, 0.23, 0.67, 0.58), (477.0, 240.0), 2.1)
PEOPLE = (HOPPER, COLLINS)
NUM_FRAMES = round(FPS * SECONDS)


def card_at(person: Person, index: int) -> tuple[float, float, float]:
    """Return center x, center y and side of a person's card in frame `index`, px."""
    t = index / FPS
    x, y = person.center_xy
    outside = -CARD_PX / 2 if x < SIZE_WH[0] / 2 else SIZE_WH[0] + CARD_PX / 2
    arrived = min(1.0, t / SLIDE_IN_S) ** 0.5
    x = outside + (x - outside) * arrived + 12 * math.sin(1.7 * t + person.phase)
    y += 45 * math.sin(1.1 * t + person.phase)
    side = 245 + 27 * math.sin(0.9 * t + 2 * person.phase)
    return x, y, side


def face_at(person: Person, index: int) -> tuple[float, float, float, float]:
    """Return the box of a person's face in frame `index`: x1, y1, x2, y2 px (may lie outside the frame)."""
    x, y, side = card_at(person, index)
    left, top = x - side / 2, y - side / 2
    x1, y1, x2, y2 = person.face_xyxy
    return left + x1 * side, top + y1 * side, left + x2 * side, top + y2 * side


def fully_visible(person: Person, index: int) -> bool:
    """Return whether the whole face is inside frame `index`."""
    x1, y1, x2, y2 = face_at(person, index)
    return x1 >= 0 and y1 >= 0 and x2 <= SIZE_WH[0] and y2 <= SIZE_WH[1]


def portraits() -> list[npt.NDArray[np.uint8]]:
    """Load the two portraits as uint8 [H, W, 3] BGR, in the order of PEOPLE."""
    import cv2
    import skimage.data
    from matplotlib import get_data_path

    path = Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"
    hopper = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    collins = np.asarray(skimage.data.astronaut(), np.uint8)[:, :, ::-1]
    return [np.asarray(hopper, np.uint8), np.ascontiguousarray(collins)]


def frames() -> list[npt.NDArray[np.uint8]]:
    """Yield all frames of the clip, each uint8 [H, W, 3] BGR."""
    import cv2

    cards: list[npt.NDArray[np.uint8]] = []
    for person, portrait in zip(PEOPLE, portraits()):
        left, top, side = person.square_xys
        cut = portrait[top : top + side, left : left + side]
        cards.append(np.asarray(cv2.resize(cut, (CARD_PX, CARD_PX), interpolation=cv2.INTER_AREA), np.uint8))
    made: list[npt.NDArray[np.uint8]] = []
    for index in range(NUM_FRAMES):
        frame = np.full((SIZE_WH[1], SIZE_WH[0], 3), BACKGROUND_BGR, np.uint8)
        for person, card in zip(PEOPLE, cards):
            x, y, side = card_at(person, index)
            scale = side / CARD_PX
            to_frame = np.array([[scale, 0, x - side / 2], [0, scale, y - side / 2]], np.float64)
            cv2.warpAffine(card, to_frame, SIZE_WH, frame, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
        made.append(frame)
    return made


def write_clip(path: Path) -> None:
    """Write the clip as a video file (MPEG-4 Visual at high quality, which every PyAV build can encode)."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height = SIZE_WH
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 6_000_000
        for image in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
