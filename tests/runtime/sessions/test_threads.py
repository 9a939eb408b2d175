"""One model and one detector shared by four threads give the same results as in a single thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import cv2
import numpy as np
import pytest

import numclip
from numclip.errors import DeviceError
from numclip.runtime.faces import open_detector
from numclip.runtime.sessions.choice import probe_crops
from numclip.runtime.sessions.session import DEVICES

THREADS = 4
MODELS = ("age-nano", "age-nano.int8")
SEVERAL = (1, 3, 8)  # crops per call: changing sizes are where shared buffers break


def shared(ask: Callable[[int], np.ndarray], questions: int, asks: int) -> None:
    """Run many calls in four threads, each in its own order; any result that differs from a single thread's fails."""
    expected = [ask(i) for i in range(questions)]
    faults: list[str] = []

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, questions, asks // THREADS).tolist():
            try:
                got = ask(i)
            except Exception as error:
                faults.append(repr(error))
                return
            if got.shape != expected[i].shape or np.abs(got - expected[i]).max(initial=0) > 1e-6:
                faults.append(f"question {i}: another answer")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def share_model(name: str, device: str, asks: int) -> None:
    try:
        model = numclip.load(name, device, 1)
    except DeviceError as error:
        pytest.skip(str(error))
    crops = probe_crops(model.spec.crop.side, sum(SEVERAL))
    parts = np.split(crops, np.cumsum(SEVERAL)[:-1])

    def ask(i: int) -> np.ndarray:
        readings = model(parts[i])
        return np.concatenate([readings.value[:, None], readings.probabilities, readings.interval(0.9)], axis=1)

    shared(ask, len(parts), asks)


def share_detector(name: str, hopper: np.ndarray, asks: int) -> None:
    detector = open_detector(name)
    small = np.asarray(cv2.resize(hopper, (320, 200)), np.uint8)
    pictures = [hopper, small, hopper[:, ::-1].copy(), np.zeros((64, 64, 3), np.uint8)]
    shared(lambda i: detector.detect(pictures[i]).boxes_xyxy, len(pictures), asks)


@pytest.mark.parametrize("device", [d for d in DEVICES if d != "auto"])
def test_a_model_on_every_device(device: str) -> None:
    """400 calls of 1, 3 and 8 crops give the single thread's results on every device."""
    share_model("age-nano", device, 400)


@pytest.mark.parametrize("name", ["faces-nano", "yunet", "haar"])
def test_a_detector(name: str, hopper: np.ndarray, request: pytest.FixtureRequest) -> None:
    """A detector gives the single thread's results on 80 pictures of four sizes."""
    if name == "yunet":
        request.getfixturevalue("yunet_model")
    share_detector(name, hopper, 80)


@pytest.mark.slow
@pytest.mark.parametrize("device", [d for d in DEVICES if d != "auto"])
@pytest.mark.parametrize("name", MODELS)
def test_ten_thousand_reads(name: str, device: str) -> None:
    """The same holds for 10,000 calls with about 40,000 crops."""
    share_model(name, device, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faces-nano", "yunet", "haar"])
def test_a_thousand_pictures(name: str, hopper: np.ndarray, request: pytest.FixtureRequest) -> None:
    """The same holds for 1,000 pictures of four sizes."""
    if name == "yunet":
        request.getfixturevalue("yunet_model")
    share_detector(name, hopper, 1000)
