"""A native engine on a GPU; these tests run only on a machine with one (marked gpu)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from numclip.errors import NumclipError
from numclip.runtime.contract.model_file import MODELS, read_spec
from numclip.runtime.sessions.choice import probe_crops
from numclip.runtime.sessions.engine_build import EngineOptions, build_engine
from numclip.runtime.sessions.opening import open_session

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)


@pytest.mark.gpu
def test_an_engine_answers_like_the_cpu(tmp_path: Path) -> None:
    """Ages of an engine built here are within 0.02 years of ONNX Runtime's for one face, a few, the maximum, and more than the
    maximum. Each runs twice, because the second run replays a CUDA graph."""
    engine = tmp_path / "age.engine"
    build_engine(EngineOptions(SHIPPED, engine, max_batch=8))
    session, cpu = open_session(engine, SPEC), open_session(SHIPPED, SPEC, "cpu")
    for n in (1, 3, 8, 11):
        crops = probe_crops(SPEC.crop.side, n)
        for _ in range(2):
            np.testing.assert_allclose(session.run(crops).value, cpu.run(crops).value, atol=0.02)


def test_an_engine_for_another_card_is_not_run(tmp_path: Path) -> None:
    """An engine for another GPU, or on a machine without one, is an error in one sentence."""
    pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    engine = tmp_path / "age.engine"
    build_engine(EngineOptions(SHIPPED, engine, max_batch=2, library="tensorrt_rtx", targets=(120,)))
    with pytest.raises(NumclipError) as caught:  # on a GPU of compute capability 12.0 the engine would run
        open_session(engine, SPEC)
    assert "\n" not in str(caught.value)
