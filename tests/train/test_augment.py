"""Training crops: the same for the same seed, of the right size, and centred on the contract's square."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")
from numclip.train.augment import Augmentation, augment, center  # noqa: E402
from numclip.train.batches import Epoch, TrainingFaces, batches  # noqa: E402

STILL = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@given(st.integers(0, 10**6), st.sampled_from([80, 112]))
@settings(max_examples=60, deadline=None)
def test_any_seed_gives_a_whole_crop(seed: int, side: int) -> None:
    """For any seed the crop is uint8 RGB of the requested side, and the same seed gives the same crop."""
    crop = np.random.default_rng(1).integers(0, 255, (144, 144, 3), np.uint8)
    one, two = (augment(crop, side, 112, np.random.default_rng(seed), Augmentation()) for _ in range(2))
    assert one.shape == (side, side, 3) and one.dtype == np.uint8 and np.array_equal(one, two)


def test_without_strength_it_is_the_contracts_crop() -> None:
    """With every strength at zero an augmented crop is the contract's crop, or its mirror image."""
    crop = np.random.default_rng(1).integers(0, 255, (144, 144, 3), np.uint8)
    expected = center(crop, 112, 112)
    for seed in range(6):
        got = augment(crop, 112, 112, np.random.default_rng(seed), STILL).astype(int)
        assert min(np.abs(got - expected).max(), np.abs(got[:, ::-1] - expected).max()) <= 1


def test_an_epoch_sees_each_face_once() -> None:
    """An epoch's batches contain every face once (except an incomplete last batch), in a different order each epoch."""
    labels = np.repeat(np.arange(21.0), 2).reshape(21, 2)
    parts = (np.zeros((10, 12, 12, 3), np.uint8), np.zeros((11, 12, 12, 3), np.uint8))
    faces = TrainingFaces(parts, labels, 10)
    epochs = [[b[1].tolist() for b in batches(Epoch(faces, e, 4, 10, 0, Augmentation()))] for e in (0, 1, 0)]
    assert all(len(e) == 5 and len({v[0] for b in e for v in b}) == 20 for e in epochs)
    assert epochs[0] == epochs[2] != epochs[1]
