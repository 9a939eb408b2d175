"""What cameras and people do to a picture: masks, dark glasses, low light, blur, grain, JPEG, no colour."""

from __future__ import annotations

import cv2
import numpy as np

from .pictures import Floats, Image

UNSPOILT = 0.4  # of the pictures


def spoil(rng: np.random.Generator, picture: Image, boxes_xyxy: Floats, landmarks: Floats) -> Image:
    """The same [S, S, 3] picture, worse. The faces stay where they are."""
    if rng.random() < UNSPOILT:
        return picture
    picture = picture.copy()
    for box, points in zip(boxes_xyxy, landmarks, strict=True):
        if not np.isnan(points).any() and rng.random() < 0.2:
            _cover(rng, picture, box, points)
    x = picture.astype(np.float32)
    if rng.random() < 0.5:
        x *= rng.uniform(0.6, 1.4) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
        x = (x - 128) * rng.uniform(0.6, 1.3) + 128 + rng.uniform(-25, 25)
    if rng.random() < 0.08:
        x = x.clip(0) * rng.uniform(0.12, 0.5)
    if rng.random() < 0.12:
        x[:] = x.mean(axis=2, keepdims=True)
    blur = rng.random()
    if blur < 0.1:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6))
    elif blur < 0.14:
        x = cv2.filter2D(x, -1, _motion(rng))
    elif blur < 0.2:
        size = picture.shape[0]
        small = max(8, int(size * rng.uniform(0.45, 0.9)))
        x = cv2.resize(cv2.resize(x, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    if rng.random() < 0.12:
        x = x + cv2.resize(
            rng.normal(0, rng.uniform(2, 14), (*[s // 2 for s in x.shape[:2]], 3)).astype(np.float32), x.shape[1::-1]
        )
    picture = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 85))])
        assert ok
        picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return picture


def _cover(rng: np.random.Generator, picture: Image, box: Floats, points: Floats) -> None:
    """Draw a mask, dark glasses or a block over one face."""
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    across = points[1] - points[0]
    down = (points[3] + points[4]) / 2 - (points[0] + points[1]) / 2
    kind = rng.random()
    if kind < 0.5:  # a mask from the nose to below the chin
        if rng.random() < 0.6:
            colour = tuple(
                int(c) for c in rng.integers(150, 256) * np.array([1.0, rng.uniform(0.8, 1), rng.uniform(0.6, 1)])
            )
        middle = (points[3] + points[4]) / 2
        width, nose = across * rng.uniform(0.85, 1.1), points[2] - down * rng.uniform(0.0, 0.35)
        outline = [nose - width * 0.4, nose + width * 0.4, middle + width + down * 0.0]
        outline += [
            middle + width * 0.7 + down * 0.6,
            middle + down * 0.9,
            middle - width * 0.7 + down * 0.6,
            middle - width,
        ]
        cv2.fillPoly(picture, [np.round(np.array(outline)).astype(np.int32)], colour, cv2.LINE_AA)
    elif kind < 0.8:  # dark glasses
        shade = tuple(int(c) for c in rng.integers(0, 60, 3))
        size = float(np.hypot(*across))
        for eye in points[:2]:
            axes = (max(1, int(size * rng.uniform(0.3, 0.45))), max(1, int(size * rng.uniform(0.2, 0.35))))
            center = (round(float(eye[0])), round(float(eye[1])))
            cv2.ellipse(picture, center, axes, float(np.degrees(np.arctan2(across[1], across[0]))), 0, 360, shade, -1)
        ends = [tuple(int(v) for v in np.round(p)) for p in points[:2]]
        cv2.line(picture, ends[0], ends[1], shade, max(1, int(size * 0.08)))
    else:  # something in front of a part of the face
        size = box[2:] - box[:2]
        center = box[:2] + size * rng.uniform(0.1, 0.9, 2)
        half = size * rng.uniform(0.1, 0.3, 2)
        low, high = (tuple(int(v) for v in np.round(c)) for c in (center - half, center + half))
        cv2.rectangle(picture, low, high, colour, -1)


def _motion(rng: np.random.Generator) -> Floats:
    """A kernel that smears along a line."""
    size = int(rng.choice([3, 5, 7]))
    kernel = np.zeros((size, size), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = (size // 2) * np.array([np.cos(angle), np.sin(angle)])
    low, high = np.round(size // 2 - reach).astype(int), np.round(size // 2 + reach).astype(int)
    cv2.line(kernel, tuple(int(v) for v in low), tuple(int(v) for v in high), 1.0)
    return kernel / kernel.sum()
