"""Sharpness falls with lost detail only."""

from __future__ import annotations

import numpy as np
import pytest

from numclip.calibration.measure.degrade import blurred, fewer_pixels, lit
from numclip.runtime.contract.sharpness import sharpness


def _pictures(n: int, side: int, contrast: float = 30) -> np.ndarray:
    """Make pictures with noise at every scale, as in natural pictures."""
    random = np.random.default_rng(0)
    total = np.zeros((n, side, side, 3))
    for step in (1, 2, 4, 8, 16):
        blocks = random.normal(0, contrast, (n, side // step, side // step, 3))
        total += blocks.repeat(step, axis=1).repeat(step, axis=2)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def test_by_hand() -> None:
    """Hand-computed: a checkerboard of single pixels is all detail (log 1); blocks of 4 px and a plain picture have none."""
    at = np.arange(32)
    board = np.where((at[:, None] + at) % 2, 100, 150).astype(np.uint8)
    blocks = np.where((at[:, None] // 4 + at // 4) % 2, 100, 150).astype(np.uint8)
    crops = np.stack([board, blocks, np.full((32, 32), 9, np.uint8)])[..., None].repeat(3, axis=3)
    assert sharpness(crops)[0] == pytest.approx(0, abs=1e-4)
    assert (sharpness(crops)[1:] < -13).all()


@pytest.mark.parametrize("side", [112, 160, 100])
def test_it_falls_with_lost_detail(side: int) -> None:
    """Each step of fewer pixels or more blur lowers the sharpness of every picture, at any crop side."""
    pictures = _pictures(4, side - side % 16)
    for worse, rungs in ((fewer_pixels, (64, 32, 16, 8)), (blurred, (1, 3, 5, 9))):
        ladder = [sharpness(np.stack([worse(p, rung) for p in pictures])) for rung in rungs]
        assert (np.diff([sharpness(pictures), *ladder], axis=0) < 0).all()


def test_light_and_contrast_cancel_out() -> None:
    """Half the light changes sharpness by less than one step of blur, and no crops give an empty result."""
    pictures = _pictures(4, 112, contrast=15)
    darker = np.stack([lit(p, 0.5) for p in pictures])
    assert np.abs(sharpness(darker) - sharpness(pictures)).max() < 0.05
    assert sharpness(pictures[:0]).shape == (0,)
