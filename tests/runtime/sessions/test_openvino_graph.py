"""OpenVINO gives the same results as ONNX Runtime, or an error that says what is missing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numclip.errors import DeviceError, ModelError
from numclip.runtime.contract.model_file import FINDER, MODELS, read_spec
from numclip.runtime.sessions.choice import distance, probe_crops
from numclip.runtime.sessions.opening import open_faces_session, open_session

SHIPPED = MODELS / "age-nano.onnx"
SPEC = read_spec(SHIPPED)
CROPS = probe_crops(SPEC.crop.side, 5)


def test_without_the_package_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without openvino the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match=r'pip install "numclip\[openvino\]"'):
        open_session(SHIPPED, SPEC, "openvino")


def test_it_answers_like_onnxruntime() -> None:
    """In float32, ages are within 0.02 years, and probabilities and embedding agree, for any number of faces; the caller owns the
    arrays."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    ours, theirs = open_session(SHIPPED, SPEC, "openvino", 1), open_session(SHIPPED, SPEC, "cpu", 1)
    first = ours.run(CROPS)
    kept = first.value.copy()
    assert distance(first, theirs.run(CROPS)) < 0.02
    np.testing.assert_allclose(first.embedding, theirs.run(CROPS).embedding, atol=1e-3)
    ours.run(np.ascontiguousarray(CROPS[:1, ::-1]))
    np.testing.assert_array_equal(first.value, kept)
    assert (ours.facts.library, ours.facts.threads) == ("openvino", 1)


def test_bfloat16_where_the_cpu_has_it() -> None:
    """bfloat16, requested by name, differs by a few years at most, or is an error that says what the CPU supports."""
    openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(DeviceError, match="needs a CPU with bfloat16"):
            open_session(SHIPPED, SPEC, "openvino-bf16")
        return
    session = open_session(SHIPPED, SPEC, "openvino-bf16", 1)
    apart = distance(session.run(CROPS), open_session(SHIPPED, SPEC, "cpu", 1).run(CROPS))
    assert 0 < apart < 3


def test_the_contract_is_checked(tmp_path: Path) -> None:
    """A crop side other than the graph's is an error that names both; bytes that are not a graph are an error in one sentence."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    with pytest.raises(ModelError, match=r"expected the input crops uint8 \[N, 64, 64, 3\]"):
        open_session(SHIPPED, replace(SPEC, crop=replace(SPEC.crop, side=64)), "openvino")
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07nothing")
    with pytest.raises(ModelError, match=r"OpenVINO .* cannot open") as caught:
        open_session(tmp_path / "x.onnx", SPEC, "openvino")
    assert "\n" not in str(caught.value)


SIGNAL_AFTER_TWO = """
import faulthandler, gc, os, signal, sys
import numpy, numclip
faulthandler.enable()
signal.signal(signal.SIGTERM, lambda *_: print("alive"))
first, second = (numclip.load(sys.argv[1], device="openvino") for _ in range(2))
for model in (first, second):
    model(numpy.zeros((1, *[model.spec.crop.side] * 2, 3), numpy.uint8))
first.close(); del first, model; gc.collect()
second.close(); del second; gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_two_models_were_closed_does_not_crash() -> None:
    """SIGTERM after two OpenVINO models were closed is handled without a crash.

    On CPUs with AMX each OpenVINO core replaces the thread's signal stack and restores the previous one when it is closed. Two cores
    closed in the order of their opening would leave an unmapped stack. Therefore one core serves the whole process.
    """
    pytest.importorskip("openvino", reason="needs the extra openvino")
    done = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_TWO, str(SHIPPED)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]


def test_a_run_that_fails() -> None:
    """If a run in OpenVINO fails, here because of a fourth channel, the error is one sentence with its reason and what to do."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    session = open_faces_session(MODELS / f"{FINDER}.onnx", "openvino", 1)
    with pytest.raises(DeviceError, match=r"^device openvino: .* failed to run it \(.*\); use --device cpu$") as caught:
        session.run(np.zeros((1, 64, 64, 4), np.uint8))
    assert "\n" not in str(caught.value)
