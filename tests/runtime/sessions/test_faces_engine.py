"""The face finder as a TensorRT engine, built for an absent GPU, with the tensors that the session reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from numclip.cli.main import main
from numclip.errors import ModelError
from numclip.runtime.contract.model_file import FINDER, MODELS, graph_sha256
from numclip.runtime.sessions.engine_file import read_engine, read_faces_sidecar, read_sidecar

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


def test_engine_of_the_finder_is_built_without_a_card_and_ends_at_its_candidates(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """numclip engine faces-nano writes an engine and a sidecar with the finder's spec; loading it as a model is an error."""
    out = tmp_path / "faces.engine"
    assert main(["engine", FINDER, "--out", str(out), "--library", "tensorrt_rtx", "--targets", "86"]) == 0
    assert "--detector" in capfd.readouterr().out
    spec, built = read_faces_sidecar(out)
    assert spec.name == FINDER and built.graph_sha256 == graph_sha256(MODELS / f"{FINDER}.onnx")
    assert len(read_engine(out, built)) == out.stat().st_size
    with pytest.raises(ModelError, match="face detector; give it to --detector"):
        read_sidecar(out)
