"""Detection at several scales and in tiles, and small faces in a 4K picture."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numclip
from numclip.runtime.contract.model_file import FINDER
from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.finder import FacesNano
from numclip.runtime.faces.looks import SHARED_PX, TILE_PX, Looks, _tiles
from numclip.runtime.faces.opening import enlarging, open_detector
from numclip.runtime.live.frames import Frame
from numclip.runtime.live.pipeline import Pipeline, Rules

FACES, FACE_PX, SURE = 40, 28, 0.8
CELL_PX = 240  # at most one face in each such square
Image = np.ndarray


@pytest.fixture(scope="module")
def portraits(shared_data: Path) -> list[tuple[Image, np.ndarray]]:
    """Sixty portraits of FairFace's and UTKFace's test splits, each with its face box (xyxy px)."""
    finder = FacesNano(device="cpu", threads=1)
    found: list[tuple[Image, np.ndarray]] = []
    for name in ("fairface", "utkface"):
        for picture in pictures_of(shared_data / "data" / name, 30):
            faces = finder.detect(picture).largest()
            if len(faces) and faces.scores[0] > SURE:
                found.append((picture, faces.boxes_xyxy[0]))
    assert len(found) > 50
    return found


@pytest.fixture(scope="module")
def grounds(shared_data: Path) -> list[Image]:
    """Photographs without a face, from the test split of scenes."""
    return pictures_of(shared_data / "data" / "scenes", 12, faces="0")


def pictures_of(path: Path, most: int, **wanted: str) -> list[Image]:
    """Return the first pictures of the test split of PATH.tar whose columns match."""
    with path.with_suffix(".csv").open(newline="", encoding="utf-8") as table:
        rows = [r for r in csv.DictReader(table) if r["split"] == "test"]
    files = {r["file"] for r in rows if all(r[key] == value for key, value in wanted.items())}
    found: list[Image] = []
    with tarfile.open(path.with_suffix(".tar")) as tar:
        for member in tar:
            if member.name.partition("/")[2] in files and (file := tar.extractfile(member)) is not None:
                picture = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
                assert picture is not None
                found.append(picture)
                if len(found) == most:
                    return found
    return found


def background(kind: str, rng: np.random.Generator, grounds: list[Image]) -> Image:
    """Return a 4K picture without a face: one photograph, twenty-four, soft colours, a grainy wall, or uniform grey."""
    if kind == "photograph":
        return cv2.resize(grounds[rng.integers(len(grounds))], (3840, 2160), interpolation=cv2.INTER_CUBIC)
    if kind == "photographs":
        rows = [[cv2.resize(grounds[rng.integers(len(grounds))], (640, 540)) for _ in range(6)] for _ in range(4)]
        return np.vstack([np.hstack(row) for row in rows])
    if kind == "gray":
        return np.full((2160, 3840, 3), int(rng.integers(30, 220)), np.uint8)
    coarse = rng.integers(0, 256, (9, 16, 3)).astype(np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (3840, 2160), interpolation=cv2.INTER_CUBIC), np.uint8)
    grain = rng.normal(0, 12, smooth.shape[:2]) if kind == "grain" else np.zeros(smooth.shape[:2])
    return np.clip(smooth + grain[..., None], 0, 255).astype(np.uint8)


def crowd(
    kind: str, seed: int, grounds: list[Image], portraits: list[tuple[Image, np.ndarray]]
) -> tuple[Image, np.ndarray]:
    """Return a 4K picture with forty portraits, the longer side of each face 28 px, and their boxes [40, 4]."""
    rng = np.random.default_rng(seed)
    picture, boxes = background(kind, rng, grounds), list[np.ndarray]()
    cells = [(x, y) for y in range(0, 2160 - CELL_PX, CELL_PX) for x in range(0, 3840 - CELL_PX, CELL_PX)]
    for cell in rng.choice(len(cells), FACES, replace=False):
        portrait, box = portraits[rng.integers(len(portraits))]
        scale = FACE_PX / float((box[2:] - box[:2]).max())
        small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x, y = np.array(cells[cell]) + rng.integers(0, CELL_PX - 80, 2)
        picture[y : y + len(small), x : x + small.shape[1]] = small
        ratio = np.array(small.shape[1::-1] * 2) / np.array(portrait.shape[1::-1] * 2)
        boxes.append(box * ratio + [x, y, x, y])
    return picture, np.array(boxes)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union, [A, B]."""
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    areas, areas_others = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return shared / (areas[:, None] + areas_others[None] - shared)


def found_of(boxes: np.ndarray, faces: Detections) -> int:
    """Return the number of boxes with an IoU of at least 0.5 with a face of high score."""
    sure = faces.boxes_xyxy[faces.scores >= SURE]
    return int((overlaps(boxes, sure).max(axis=1, initial=0) >= 0.5).sum())


@pytest.mark.parametrize(
    "kind",
    ["photographs", "smooth", *[pytest.param(k, marks=pytest.mark.slow) for k in ("photograph", "grain", "gray")]],
)
def test_forty_faces_of_28_px_are_found_in_a_4k_picture(
    kind: str, grounds: list[Image], portraits: list[tuple[Image, np.ndarray]]
) -> None:
    """With a smallest face of 24 px, at least 36 of 40 faces are found with score 0.8 on two backgrounds of each kind, with almost no
    false positives."""
    finder = enlarging(open_detector(FINDER, smallest_face_px=24, device="cpu"))
    for seed in (1, 2):
        picture, boxes = crowd(kind, seed, grounds, portraits)
        faces = finder.detect(picture)
        others = overlaps(faces.boxes_xyxy[faces.scores >= SURE], boxes).max(axis=1, initial=0) < 0.1
        print(f"{kind} {seed}: {found_of(boxes, faces)} of {FACES}, {others.sum()} others")
        assert found_of(boxes, faces) >= 36
        assert others.sum() <= 4


def test_every_face_of_a_picture_is_listed(grounds: list[Image], portraits: list[tuple[Image, np.ndarray]]) -> None:
    """numclip.read lists all of more than 32 faces, and at most the requested number."""
    picture, boxes = crowd("photographs", 1, grounds, portraits)
    found = np.array([face.box_xyxy for face in numclip.read(picture).faces], np.float32)
    assert (overlaps(boxes, found).max(axis=1, initial=0) >= 0.5).sum() >= 36
    pipeline = Pipeline(numclip.load("age-nano", device="cpu"), open_detector(FINDER), Rules(max_faces=5), tracks=False)
    assert len(pipeline.read(Frame(picture, 0, 0.0, 0.0, "crowd")).faces) == 5


@pytest.mark.slow
def test_yunet_finds_most_of_them_on_photographs(
    yunet_model: Path, grounds: list[Image], portraits: list[tuple[Image, np.ndarray]]
) -> None:
    """YuNet's resolution follows the smallest face too: it finds at least 32 of 40 on photographs, and none at the earlier 960 px."""
    detector = enlarging(open_detector("yunet", smallest_face_px=24))
    for seed in (1, 2):
        picture, boxes = crowd("photograph", seed, grounds, portraits)
        found = found_of(boxes, detector.detect(picture))
        print(f"{seed}: {found} of {FACES}")
        assert found >= 32


def test_a_picture_in_a_file_is_read_so(
    tmp_path: Path, grounds: list[Image], portraits: list[tuple[Image, np.ndarray]]
) -> None:
    """From a file, with enough max_faces, at least 36 of 40 faces are found, and most have an age."""
    picture, boxes = crowd("photographs", 3, grounds, portraits)
    assert cv2.imwrite(str(tmp_path / "crowd.png"), picture)
    (result,) = numclip.stream(str(tmp_path / "crowd.png"), rules=Rules(max_faces=64))
    shared = overlaps(boxes, np.array([face.box_xyxy for face in result.faces]))
    assert (shared.max(axis=1) >= 0.5).sum() >= 36
    assert sum(face.reading is not None for face in result.faces) >= 30


def test_the_scale_follows_the_smallest_face() -> None:
    """If the network needs faces of 48 px, a smallest face of 24 px doubles the picture, one of 96 px halves it, but not below 640
    px; a stream is never enlarged."""
    assert Looks(48, 0.3).scale(2160, 3840) == 1
    assert Looks(48, 0.3, 24, enlarge=True).scale(2160, 3840) == Looks(48, 0.3, 10, enlarge=True).scale(90, 90) == 2
    assert Looks(48, 0.3, 32, enlarge=True).scale(300, 400) == 1.5
    assert Looks(48, 0.3, 24).scale(300, 400) == 1
    assert Looks(48, 0.3, 96).scale(2160, 3840) == 0.5
    assert Looks(48, 0.3, 480).scale(2160, 3840) == 640 / 3840
    assert Looks(48, 0.3, 480).scale(480, 640) == 1


@given(length=st.integers(1, 20_000), scale=st.floats(0.1, 2.0))
def test_tiles_cover_a_side_and_share_what_a_face_needs(length: int, scale: float) -> None:
    """Tiles cover a side completely, are at most 2,048 px at their scale, and neighbours overlap by 256 px (within rounding)."""
    tiles = _tiles(length, scale)
    assert tiles[0][0] == 0 and tiles[-1][1] == length
    assert all((stop - start) * scale <= TILE_PX + 2 * scale for start, stop in tiles)
    assert all((one[1] - two[0]) * scale >= SHARED_PX - 2 * scale for one, two in pairwise(tiles))


def test_only_looks_that_see_something_large_are_followed_by_another() -> None:
    """A network that always finds a face of 100 px in its own px runs once at 1,600 px. With 200 px, a second pass at a quarter of the
    scale follows, whose face has 800 px in the picture; both faces stay."""
    sizes: list[tuple[int, ...]] = []

    def see(side: int) -> list[Detections]:
        box = np.array([[0, 0, side, side]], np.float32)
        return [Detections(box, np.array([0.9], np.float32), np.zeros((1, 5, 2), np.float32))]

    def small(images: Sequence[Image]) -> list[Detections]:
        sizes.append(images[0].shape[:2])
        return see(100)

    def large(images: Sequence[Image]) -> list[Detections]:
        sizes.append(images[0].shape[:2])
        return see(200)

    picture = np.zeros((800, 1600, 3), np.uint8)
    assert len(Looks(48, 0.3).find([picture], small, 0.5)[0]) == 1
    assert sizes == [(800, 1600)]
    sizes.clear()
    faces = Looks(48, 0.3).find([picture], large, 0.5)[0]
    assert sizes == [(800, 1600), (200, 400)]
    assert sorted(faces.boxes_xyxy[:, 2].tolist()) == [200, 800]
