"""Differences between TensorRT's versions, and the errors for unsupported ones."""

from __future__ import annotations

import types

import pytest

from numclip.errors import DeviceError
from numclip.runtime.sessions import tensorrt_versions as versions


@pytest.mark.parametrize("version", ["10.3.0", "10.13.2.6", "11.4.0", "12.0"])
def test_known_versions(version: str) -> None:
    """JetPack 6.1's TensorRT 10.3 and all later versions are accepted."""
    versions.check_version("tensorrt", version)


@pytest.mark.parametrize("version", ["8.6.2", "10.0.1", "10.2.0.19"])
def test_old_versions_are_refused(version: str) -> None:
    """Older versions are an error in one sentence that names both versions and what to do."""
    with pytest.raises(DeviceError, match=rf"expected TensorRT 10\.3 or newer, got {version}.*JetPack 6\.1") as caught:
        versions.check_version("tensorrt", version)
    assert "\n" not in str(caught.value)


def test_rtx_counts_its_own_versions() -> None:
    """TensorRT-RTX 1 does not count as an old TensorRT."""
    versions.check_version("tensorrt_rtx", "1.7.1.116")


@pytest.mark.parametrize(("has_flag", "expected"), [(True, 1 << 1), (False, 0)])
def test_networks_are_strongly_typed(has_flag: bool, expected: int) -> None:
    """Networks get the strongly-typed flag, by the version's own number, if the version has it."""
    flags = types.SimpleNamespace(STRONGLY_TYPED=1) if has_flag else types.SimpleNamespace()
    builder = types.SimpleNamespace(create_network=lambda given: given)
    assert versions.new_network(types.SimpleNamespace(NetworkDefinitionCreationFlag=flags), builder) == expected


def test_a_missing_package_names_the_line_to_type() -> None:
    """A missing package is an error with the command that installs it."""
    with pytest.raises(DeviceError, match="pip install no_such_tensorrt"):
        versions.import_tensorrt("no_such_tensorrt")


def test_flags_of_the_other_library_are_refused() -> None:
    """--targets without TensorRT-RTX, --hardware-compatible without TensorRT, and an unknown GPU are errors."""
    trt, rtx = types.SimpleNamespace(__name__="tensorrt"), types.SimpleNamespace(__name__="tensorrt_rtx")
    no = {"versions": False, "hardware": False}
    with pytest.raises(DeviceError, match="--targets works with TensorRT-RTX only"):
        versions.set_portability(trt, None, **no, targets=(86,))
    with pytest.raises(DeviceError, match="--hardware-compatible works with TensorRT only"):
        versions.set_portability(rtx, None, versions=False, hardware=True, targets=())
    with pytest.raises(DeviceError, match="expected --targets among 75, 80, 86, 89, 120, got 87"):
        versions.set_portability(rtx, None, **no, targets=(86, 87))
