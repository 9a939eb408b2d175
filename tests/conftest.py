"""Where tests find the shared faces, clips and detector; without them a test is skipped, and says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository root, which is also the package."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared faces and clips, from NUMCLIP_TEST_DATA."""
    root = os.environ.get("NUMCLIP_TEST_DATA")
    if not root:
        pytest.skip("NUMCLIP_TEST_DATA is unset: it names the folder with data/, models/ and video/")
    if not Path(root).is_dir():
        pytest.skip(f"NUMCLIP_TEST_DATA={root} is not a folder")
    return Path(root)


@pytest.fixture(scope="session")
def yunet_model() -> Path:
    """The YuNet detector file, from NUMCLIP_YUNET."""
    path = os.environ.get("NUMCLIP_YUNET")
    if not path or not Path(path).is_file():
        pytest.skip("NUMCLIP_YUNET does not name the YuNet .onnx file")
    return Path(path)
