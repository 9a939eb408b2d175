"""Device checks run the model; a GPU that is present but does not run it is a problem with a command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from numclip.doctor import devices as doctor_devices
from numclip.doctor import packages
from numclip.doctor.devices import devices
from numclip.errors import DeviceError
from numclip.runtime.contract.model_file import MODELS, read_spec
from numclip.runtime.sessions import session as sessions
from numclip.runtime.sessions.cuda_device import Card, find_card
from numclip.runtime.sessions.model import load
from tests.failing_graph import write_failing_model

ORIN_LIKE = Card("a GPU", "8.7", True, 8000, "12.6")


def test_every_device_is_looked_at() -> None:
    """Each device that --device offers has a finding; the CPU runs the model."""
    found = {f.check: f for f in devices(None)}

    assert set(found) == {f"device {name}" for name in sessions.DEVICES if name != "auto"}
    assert found["device cpu"].ok
    assert found["device cpu"].said == "runs the model"


def test_a_gpu_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the machine has a GPU (a stand-in), a CUDA failure is a problem; without one it is only information."""
    monkeypatch.setattr(doctor_devices, "_reason_not_to_run", lambda device: None if device == "cpu" else "refused")
    with_gpu = {f.check: f for f in devices(ORIN_LIKE)}["device cuda"]
    without = {f.check: f for f in devices(None)}["device cuda"]

    assert not with_gpu.ok
    assert "onnxruntime-gpu" in str(with_gpu.fix)
    assert without.ok
    assert without.said == "not available: refused"


def test_a_cpu_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure on the CPU is a problem on every machine."""

    def refuse(*_: object) -> np.ndarray:
        raise DeviceError("device cpu: refused")

    monkeypatch.setattr("numclip.runtime.sessions.model.load", refuse)
    found = {f.check: f for f in devices(None)}["device cpu"]

    assert (found.ok, found.said) == (False, "device cpu: refused")


def test_a_device_that_fails_at_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real graph that opens and fails at its run is a finding with the library's reason, not a crash."""
    file = write_failing_model(tmp_path / "age-nano.onnx", read_spec(MODELS / "age-nano.onnx"))
    monkeypatch.setattr(
        "numclip.runtime.sessions.model.load", lambda name, device, threads: load(file, device, threads)
    )
    found = {f.check: f for f in devices(None)}["device cpu"]

    assert not found.ok
    assert "failed to run it" in found.said


@pytest.mark.parametrize(
    ("jetson", "python", "asked"),
    [
        (False, (3, 10), "cuda-python>=12.6"),
        (True, (3, 10), "cuda-python>=12.6,<12.7"),
        (True, (3, 12), "cuda-python>=13.0,<13.1"),
    ],
)
def test_tensorrt_without_cuda_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jetson: bool, python: tuple[int, int], asked: str
) -> None:
    """With a GPU and TensorRT (stand-ins), a missing cuda-python is a problem; the command names the version for a board's CUDA."""
    (tmp_path / "tensorrt.py").write_text("__version__ = '10.3.0'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(packages, "is_jetson", lambda: jetson)
    monkeypatch.setattr(packages.sys, "version_info", python)
    for name in ("cuda", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    found = doctor_devices.tensorrt(ORIN_LIKE)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    assert (found.ok, found.said.partition(",")[0]) == (False, "10.3.0")
    assert shlex.split(str(found.fix))[-2:] == ["install", asked]
    assert doctor_devices.tensorrt(None).ok


def test_the_driver_is_asked() -> None:
    """With NVIDIA's driver, name, memory and CUDA version are reported; without it, None."""
    gpu = find_card()

    assert gpu is None or (gpu.name and gpu.memory_mb > 0 and gpu.driver[0].isdigit())
