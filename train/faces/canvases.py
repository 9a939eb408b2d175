"""Canvases: square pictures put together from scenes and portraits, with the faces that are known to be on them.

With faces: a window of a scene, portraits of all sizes stuck onto a background, and one portrait that fills the picture.
Without: a window of an empty scene, and smooth colours, which a camera sees as walls, sky and blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .pictures import Floats, Image, Portrait, Scene

SMALLEST_FACE_PX = 12.0
SMALL_FACES, SMALL_FACES_PX = 0.35, (18.0, 44.0)  # so many more faces of these sizes
MIRRORED = (1, 0, 2, 4, 3)  # the landmarks' order in a mirrored picture


@dataclass(frozen=True, eq=False)
class Canvas:
    """A [S, S, 3] BGR picture and the B faces that are surely on it."""

    picture: Image
    boxes_xyxy: Floats  # [B, 4] px
    landmarks: Floats  # [B, 5, 2] px, not a number where unknown
    empty: bool  # surely no face at all, whatever the teacher says
    window: tuple[int, int, int, int] = (0, 0, 0, 0)  # xyxy px, the part that a scene fills

    @property
    def covered(self) -> float:
        """The share of the canvas that the scene fills."""
        x0, y0, x1, y1 = self.window
        return max(0, x1 - x0) * max(0, y1 - y0) / self.picture.shape[0] ** 2


@dataclass(frozen=True, eq=False)
class Stock:
    """What canvases are made of."""

    scenes: list[Scene]  # with at least one face
    empty: list[Scene]  # without a face
    portraits: list[Portrait]


def compose(rng: np.random.Generator, stock: Stock, side: int) -> Canvas:
    """One canvas of this side (px)."""
    kind = rng.random()
    if kind < 0.46:
        return _scenes(rng, stock, side, most=4)
    if kind < 0.72:
        return _portraits_on_background(rng, stock, side)
    if kind < 0.82:
        return _close_up(rng, stock.portraits[rng.integers(len(stock.portraits))], side)
    if kind < 0.94:
        return _scene_window(rng, stock.empty[rng.integers(len(stock.empty))], side)
    return _smooth(rng, side)


def _face_px(rng: np.random.Generator, largest: float) -> float:
    """The side (px) of a face on a canvas: every size is as likely in its logarithm, small ones come more often."""
    low, high = SMALL_FACES_PX if rng.random() < SMALL_FACES else (SMALLEST_FACE_PX, largest)
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _scenes(rng: np.random.Generator, stock: Stock, side: int, most: int) -> Canvas:
    """A window of one scene; where it does not fill the canvas, mostly other scenes are behind it."""
    scene = stock.scenes[rng.integers(len(stock.scenes))]
    front = _scene_window(rng, scene, side)
    if most == 1 or front.covered > 0.8 or rng.random() < 0.2:
        return front
    behind = _scenes(rng, stock, side, most - 1)
    picture = behind.picture.copy()
    x0, y0, x1, y1 = front.window
    picture[y0:y1, x0:x1] = front.picture[y0:y1, x0:x1]
    box = np.array(front.window, np.float32)
    keep = np.array(
        [not _covered(b, (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2) for b in behind.boxes_xyxy], bool
    )
    boxes = np.concatenate([behind.boxes_xyxy[keep], front.boxes_xyxy])
    landmarks = np.concatenate([behind.landmarks[keep], front.landmarks])
    return Canvas(picture, boxes, landmarks, False)


def _scene_window(rng: np.random.Generator, scene: Scene, side: int) -> Canvas:
    height, width = scene.picture.shape[:2]
    boxes = scene.boxes_xyxy
    if len(boxes):
        box = boxes[rng.integers(len(boxes))]
        face = max(1.0, float(np.sqrt(np.prod(box[2:] - box[:2]))))
        wanted = _face_px(rng, side)
        scale = float(np.clip(wanted / face, 0.25 * side / max(height, width), 3.0 * side / 320))
        focus = (box[:2] + box[2:]) / 2
    else:
        scale = math.exp(rng.uniform(math.log(0.5), math.log(2.0))) * side / 400
        focus = rng.uniform(0, 1, 2) * (width, height)
    aim = rng.uniform(0.1, 0.9, 2) * side
    if rng.random() < 0.7:  # keep the window inside the picture where it is large enough
        for axis, length in ((0, width), (1, height)):
            ends = (focus[axis] * scale - (length * scale - side), focus[axis] * scale)
            aim[axis] = float(np.clip(aim[axis], min(ends), max(ends)))
    roll = rng.normal(0, 8) if rng.random() < 0.25 else 0.0
    to_canvas = _similarity(scale, roll, focus, aim, rng.random() < 0.5)
    border = cv2.BORDER_CONSTANT if rng.random() < 0.7 else cv2.BORDER_REPLICATE
    picture = warp(scene.picture, to_canvas, side, border)
    moved = _moved_boxes(boxes, to_canvas)
    canvas = _visible(picture, moved, np.full((len(moved), 5, 2), np.nan, np.float32), empty=not len(boxes))
    ends = np.array([[0, 0], [width, height]]) @ to_canvas[:, :2].T + to_canvas[:, 2]  # exact where it does not roll
    low, high = np.clip(np.round(np.sort(ends, axis=0)), 0, side).astype(int)
    return replace(canvas, window=(int(low[0]), int(low[1]), int(high[0]), int(high[1])))


def _portraits_on_background(rng: np.random.Generator, stock: Stock, side: int) -> Canvas:
    pick = rng.random()
    if pick < 0.55:
        ground = _scene_window(rng, stock.empty[rng.integers(len(stock.empty))], side)
    elif pick < 0.85:
        ground = _scene_window(rng, stock.scenes[rng.integers(len(stock.scenes))], side)
    else:
        ground = _smooth(rng, side)
    picture = ground.picture
    boxes, landmarks = list(ground.boxes_xyxy), list(ground.landmarks)
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(3, 24))):
        portrait = stock.portraits[rng.integers(len(stock.portraits))]
        face = max(1.0, float(np.sqrt(np.prod(portrait.box_xyxy[2:] - portrait.box_xyxy[:2]))))
        scale = _face_px(rng, 0.6 * side) / face
        length = portrait.picture.shape[0]
        reach = length * scale * 0.5
        aim = rng.uniform(0, side, 2)
        if any(max(abs(aim[0] - x), abs(aim[1] - y)) < 0.85 * (reach + r) for x, y, r in taken):
            continue
        taken.append((float(aim[0]), float(aim[1]), reach))
        focus = np.array([length / 2, length / 2])
        to_canvas = _similarity(scale, rng.normal(0, 14), focus, aim, rng.random() < 0.5)
        picture = _stick(rng, picture, portrait.picture, to_canvas, soft=rng.random() < 0.5)
        gone = [i for i, b in enumerate(boxes) if _covered(b, aim, reach)]
        boxes = [b for i, b in enumerate(boxes) if i not in gone]
        landmarks = [p for i, p in enumerate(landmarks) if i not in gone]
        box, points = _moved_face(portrait, to_canvas)
        boxes.append(box)
        landmarks.append(points)
    return _visible(picture, np.array(boxes).reshape(-1, 4), np.array(landmarks).reshape(-1, 5, 2), empty=False)


def _smooth(rng: np.random.Generator, side: int) -> Canvas:
    """Soft blobs of colour, from two to 24 over the side; half of them in a narrow range or as soft as light on a wall."""
    low, high = (0, 256) if rng.random() < 0.5 else sorted(rng.choice(257, 2, replace=False))
    coarse = rng.integers(low, high, (int(rng.integers(2, 24)), int(rng.integers(2, 24)), 3)).astype(np.uint8)
    if rng.random() < 0.3:
        coarse[:] = coarse[..., :1]
    how = cv2.INTER_CUBIC if rng.random() < 0.6 else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(coarse, (side, side), interpolation=how), np.uint8)
    if rng.random() < 0.3:  # other lines over it: shelves, window frames, stripes
        for _ in range(int(rng.integers(1, 12))):
            ends = rng.integers(0, side, (2, 2))
            colour = tuple(int(c) for c in rng.integers(0, 256, 3))
            width = int(rng.integers(1, 12))
            if rng.random() < 0.5:
                cv2.line(picture, tuple(ends[0]), tuple(ends[1]), colour, width, cv2.LINE_AA)
            else:
                cv2.ellipse(picture, tuple(ends[0]), tuple(ends[1] // 3 + 1), 0, 0, 360, colour, width, cv2.LINE_AA)
    return Canvas(picture, _no_boxes(), _no_landmarks(), True)


def _close_up(rng: np.random.Generator, portrait: Portrait, side: int) -> Canvas:
    length = portrait.picture.shape[0]
    if rng.random() < 0.3:  # a small picture of its own, black beside it as a padded picture is
        scale = rng.uniform(0.5, 0.95) * side / length
        tight = rng.uniform(0.0, 0.12, 2) * length * scale
        to_canvas = _similarity(scale, 0.0, np.zeros(2), -tight, False)
        picture = warp(portrait.picture, to_canvas, side, cv2.BORDER_CONSTANT)
        cut = (np.array([length, length]) * scale - tight - rng.uniform(0, 0.12, 2) * length * scale).astype(int)
        picture[max(1, cut[1]) :] = 0
        picture[:, max(1, cut[0]) :] = 0
    else:
        scale = rng.uniform(0.8, 1.7) * side / length
        center = (portrait.box_xyxy[:2] + portrait.box_xyxy[2:]) / 2
        aim = side * (0.5 + rng.uniform(-0.25, 0.25, 2))
        to_canvas = _similarity(scale, rng.normal(0, 10), center, aim, rng.random() < 0.5)
        border = cv2.BORDER_CONSTANT if rng.random() < 0.4 else cv2.BORDER_REPLICATE
        picture = warp(portrait.picture, to_canvas, side, border)
    box, points = _moved_face(portrait, to_canvas)
    return _visible(picture, box[None], points[None], empty=False)


def warp(source: Image, to_canvas: npt.NDArray[np.float64], side: int, border: int) -> Image:
    """[side, side, 3] the source moved by a [2, 3] similarity; shrunk by area first where it gets much smaller."""
    scale = math.sqrt(abs(float(np.linalg.det(to_canvas[:, :2]))))
    if scale < 0.7:
        height, width = source.shape[:2]
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        source = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.uint8)
        to_canvas = to_canvas @ np.array([[width / size[0], 0, 0], [0, height / size[1], 0], [0, 0, 1]])
    moved = cv2.warpAffine(source, _pixel_centers(to_canvas), (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved, np.uint8)


def _stick(
    rng: np.random.Generator, ground: Image, portrait: Image, to_canvas: npt.NDArray[np.float64], soft: bool
) -> Image:
    height, width = portrait.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    moved = corners @ to_canvas[:, :2].T + to_canvas[:, 2]
    low = np.maximum(np.floor(moved.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(moved.max(axis=0)).astype(int) + 1, ground.shape[1::-1])
    if (high - low).min() < 2:
        return ground
    size = int((high - low).max())
    here = to_canvas - np.array([[0, 0, low[0]], [0, 0, low[1]]])
    patch = warp(portrait, here, size, cv2.BORDER_REPLICATE)[: high[1] - low[1], : high[0] - low[0]]
    mask = np.zeros((height, width), np.uint8)
    if soft:
        axes = (int(width * rng.uniform(0.4, 0.5)), int(height * rng.uniform(0.44, 0.5)))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 255, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), width * 0.03)
    else:
        mask[:] = 255
    alpha = warp(np.repeat(np.asarray(mask, np.uint8)[:, :, None], 3, axis=2), here, size, cv2.BORDER_CONSTANT)
    alpha = alpha[: high[1] - low[1], : high[0] - low[0]].astype(np.uint16)
    out = ground.copy()
    window = out[low[1] : high[1], low[0] : high[0]]
    window[:] = ((patch.astype(np.uint16) * alpha + window.astype(np.uint16) * (255 - alpha)) // 255).astype(np.uint8)
    return out


def _similarity(
    scale: float, roll_degrees: float, focus: npt.NDArray[np.floating], aim: npt.NDArray[np.floating], mirror: bool
) -> npt.NDArray[np.float64]:
    """The [2, 3] transform that scales, rolls, mirrors, and moves `focus` to `aim`."""
    angle = math.radians(roll_degrees)
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if mirror:
        turn = turn @ np.diag([-1.0, 1.0])
    return np.concatenate([turn, (np.asarray(aim) - turn @ np.asarray(focus))[:, None]], axis=1)


def _pixel_centers(to_canvas: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same transform for OpenCV, whose (0, 0) is the center of the first pixel."""
    moved = to_canvas.copy()
    moved[:, 2] += to_canvas[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return moved


def _moved_boxes(boxes: Floats, to_canvas: npt.NDArray[np.float64]) -> Floats:
    """Boxes about the moved centers, as large as before times the scale: a rolled face keeps its size."""
    scale = math.sqrt(abs(float(np.linalg.det(to_canvas[:, :2]))))
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 @ to_canvas[:, :2].T + to_canvas[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) * scale / 2
    return np.concatenate([centers - half, centers + half], axis=1).astype(np.float32)


def _moved_face(portrait: Portrait, to_canvas: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    points = portrait.landmarks @ to_canvas[:, :2].T + to_canvas[:, 2]
    if np.linalg.det(to_canvas[:, :2]) < 0:
        points = points[list(MIRRORED)]
    return _moved_boxes(portrait.box_xyxy[None], to_canvas)[0], points.astype(np.float32)


def _covered(box: Floats, aim: npt.NDArray[np.floating], reach: float | npt.NDArray[np.floating]) -> bool:
    low, high = np.maximum(box[:2], aim - reach), np.minimum(box[2:], aim + reach)
    return bool(np.prod(np.clip(high - low, 0, None)) > 0.1 * np.prod(box[2:] - box[:2]))


def _visible(picture: Image, boxes: Floats, landmarks: Floats, empty: bool) -> Canvas:
    """The faces of which at least half lies on the canvas."""
    side = picture.shape[0]
    inside = np.clip(boxes, 0, side)
    share = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    keep = share > 0.5
    return Canvas(picture, boxes[keep].astype(np.float32), landmarks[keep].astype(np.float32), empty)


def _no_boxes() -> Floats:
    return np.empty((0, 4), np.float32)


def _no_landmarks() -> Floats:
    return np.empty((0, 5, 2), np.float32)
