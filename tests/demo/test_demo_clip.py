"""The demo's clip: two real faces at the stated places."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib", reason="the demo extra is not installed")
pytest.importorskip("skimage", reason="the demo extra is not installed")

from numclip.demo import clip as demo_clip
from numclip.runtime.faces.opening import open_detector


def test_the_clip_is_six_to_eight_seconds_and_both_faces_are_mostly_visible() -> None:
    """The clip is 640x480 at 25 fps, and each face is fully visible in nearly all frames after the slide-in."""
    assert 6 * demo_clip.FPS <= demo_clip.NUM_FRAMES <= 8 * demo_clip.FPS
    for person in demo_clip.PEOPLE:
        visible = [demo_clip.fully_visible(person, index) for index in range(demo_clip.NUM_FRAMES)]
        assert not visible[0]
        assert all(visible[round(demo_clip.SLIDE_IN_S * demo_clip.FPS) :])


def test_the_cards_never_overlap() -> None:
    """After the slide-in, Hopper's card ends to the left of Collins', so no face is covered."""
    for index in range(demo_clip.NUM_FRAMES):
        hopper_x, _, hopper_side = demo_clip.card_at(demo_clip.HOPPER, index)
        collins_x, _, collins_side = demo_clip.card_at(demo_clip.COLLINS, index)

        assert hopper_x + hopper_side / 2 <= collins_x - collins_side / 2


def test_the_haar_cascade_sees_both_people_and_nobody_else() -> None:
    """In every 10th frame, each fully visible face contains the center of exactly one detection."""
    detector = open_detector("haar")
    frames = demo_clip.frames()
    for index in range(0, demo_clip.NUM_FRAMES, 10):
        boxes = detector.detect(frames[index]).boxes_xyxy
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # [F, 2]
        for person in demo_clip.PEOPLE:
            if not demo_clip.fully_visible(person, index):
                continue
            x1, y1, x2, y2 = demo_clip.face_at(person, index)
            inside = [x1 < x < x2 and y1 < y < y2 for x, y in centers.tolist()]

            assert sum(inside) == 1, f"{person.name} in frame {index}"
        assert len(boxes) <= 2
