"""The crop contract: positions of landmarks, border pixels, and invariance to shifts of the picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.errors import ModelError
from numclip.runtime.contract.spec import BoxRule, CropSpec
from numclip.runtime.faces.crops import alignment, box_transform, covering, crop_faces, cut, template_px
from numclip.runtime.faces.detect import Detections

TEMPLATE = ((0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.34, 0.68), (0.66, 0.68))
CROP = CropSpec(112, TEMPLATE, box_rules={"haar": BoxRule(1.0, 0.0, 0.0)})


@given(st.floats(0.3, 6), st.floats(-180, 180), st.floats(-50, 300), st.floats(-50, 300))
@settings(max_examples=100, deadline=None)
def test_a_similarity_is_found_exactly(scale: float, angle: float, x: float, y: float) -> None:
    """For landmarks that are a scaled, rotated and shifted template, exactly that similarity is found."""
    turn = scale * np.array([[np.cos(a := np.deg2rad(angle)), -np.sin(a)], [np.sin(a), np.cos(a)]])
    landmarks = template_px(CROP) @ turn.T + [x, y] + 0.5
    matrix = alignment(landmarks.astype(np.float64), CROP)  # type: ignore[arg-type]
    np.testing.assert_allclose(matrix, np.hstack([turn, [[x], [y]]]), atol=1e-6)


def test_least_squares_over_all_five() -> None:
    """One landmark that is off by 10 px moves the crop by a fifth of that, because all points count equally."""
    landmarks = template_px(CROP) + 0.5
    landmarks[2] += [10, 0]
    moved = alignment(landmarks.astype(np.float32), CROP) @ [55.5, 55.5, 1]
    assert moved[0] - 55.5 == pytest.approx(2, abs=0.3)


def test_chips_are_cut_as_they_are() -> None:
    """A picture of the crop's size with its landmarks on the template is returned unchanged, as RGB."""
    image = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    landmarks = (np.array(TEMPLATE) * 112).astype(np.float32)[None]
    found = Detections(np.array([[0, 0, 112, 112]], np.float32), np.ones(1, np.float32), landmarks)
    assert np.array_equal(crop_faces(image, found, CROP, "yunet")[0], image[:, :, ::-1])


def test_more_is_covered_around_the_same_face() -> None:
    """A crop of 144 px with 144 / 112 of the coverage contains the 112 px crop in its center, by landmarks and by box."""
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    landmarks = (np.array(TEMPLATE) * 90 + 70).astype(np.float32)[None]
    found = Detections(np.array([[70, 70, 160, 160]], np.float32), np.ones(1, np.float32), landmarks)
    for faces in (found, Detections(found.boxes_xyxy, found.scores, None)):
        face = crop_faces(image, faces, CROP, "haar")[0]
        wide = crop_faces(image, faces, covering(replace(CROP, side=144), 144 / 112), "haar")[0]
        assert np.abs(wide[16:-16, 16:-16].astype(int) - face).max() <= 1
        assert wide[:16].std() > 20, "the surroundings come from the picture"


def test_borders_are_replicated() -> None:
    """Pixels outside the picture repeat its border: a white picture gives a white crop, even beyond the edge."""
    image = np.full((50, 50, 3), 255, np.uint8)
    matrix = box_transform(np.array([-40, -40, 20, 20], np.float32), CROP.box_rules["haar"], 112)
    assert cut(image, matrix, 112).min() == 255


def test_large_faces_do_not_alias() -> None:
    """A fine checkerboard under a large face becomes uniform grey, because the source is shrunk by area first."""
    image = np.indices((1120, 1120)).sum(0) % 2 * 255
    image = np.repeat(image[:, :, None], 3, axis=2).astype(np.uint8)
    crop = cut(image, box_transform(np.array([0, 0, 1120, 1120], np.float32), CROP.box_rules["haar"], 112), 112)
    assert abs(int(crop[10:-10, 10:-10].mean()) - 127) <= 1 and crop[10:-10, 10:-10].std() < 8


@given(st.integers(0, 60), st.integers(0, 60), st.floats(20, 400))
@settings(max_examples=40, deadline=None)
def test_moving_the_picture_moves_nothing_in_the_crop(dx: int, dy: int, side: float) -> None:
    """Padding the picture and shifting the box accordingly gives the same crop to 2 grey levels, away from borders."""
    random = np.random.default_rng(1)
    image = cv2.GaussianBlur(random.integers(0, 255, (600, 600, 3), np.uint8), (0, 0), 4)
    box = np.array([100, 100, 100 + side, 100 + side], np.float32)
    padded = cv2.copyMakeBorder(image, dy, 0, dx, 0, cv2.BORDER_REPLICATE)
    rule = CROP.box_rules["haar"]
    one = cut(np.asarray(image, np.uint8), box_transform(box, rule, 112), 112)
    two = cut(np.asarray(padded, np.uint8), box_transform(box + np.array([dx, dy, dx, dy], np.float32), rule, 112), 112)
    assert np.abs(one.astype(int) - two).max() <= 12 and np.abs(one.astype(int) - two).mean() < 1


def test_no_rule_for_a_detector() -> None:
    """A detector without landmarks and without a box rule in the spec is an error that names it and the known ones."""
    found = Detections(np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), None)
    with pytest.raises(ModelError, match=r"knows how to crop \(.*haar.*\), got 'other'; use --detector faces-nano"):
        crop_faces(np.zeros((20, 20, 3), np.uint8), found, CROP, "other")


def test_no_faces() -> None:
    """Without detections the result is an empty array of the right shape."""
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    assert crop_faces(np.zeros((20, 20, 3), np.uint8), none, CROP, "yunet").shape == (0, 112, 112, 3)
