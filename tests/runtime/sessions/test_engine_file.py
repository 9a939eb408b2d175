"""An engine opens only on the machine and for the model that it was built for; errors name both values."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from numclip.errors import ModelError, NumclipError
from numclip.runtime.contract.model_file import MODELS, graph_sha256, read_spec, write_spec
from numclip.runtime.sessions import engine_file
from numclip.runtime.sessions.engine_file import (
    Built,
    check_card,
    check_version,
    read_engine,
    read_sidecar,
    sidecar_path,
)
from numclip.runtime.sessions.model import load

SHIPPED = MODELS / "age-nano.onnx"
DATA = b"an engine's bytes" * 100
BUILT = Built(
    graph_sha256=graph_sha256(SHIPPED),
    engine_sha256=hashlib.sha256(DATA).hexdigest(),
    library="tensorrt_rtx",
    version="1.7.1.116",
    gpu="NVIDIA A",
    compute_capabilities=("8.6",),
    cuda="13.0",
    driver="13.0",
    jetpack=None,
    max_batch=32,
    flags=(),
)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An engine with its sidecar, and its .onnx file in the same folder."""
    path = tmp_path / "age.engine"
    path.with_suffix(".onnx").write_bytes(SHIPPED.read_bytes())
    engine_file.write_engine(path, DATA, read_spec(SHIPPED), BUILT)
    return path


def edit(engine: Path, **facts: Any) -> Built:
    """Change facts in the sidecar."""
    content = json.loads(sidecar_path(engine).read_text())
    content["built"] |= facts
    sidecar_path(engine).write_text(json.dumps(content))
    return read_sidecar(engine)[1]


def test_round_trip(engine: Path) -> None:
    """Facts, spec and bytes survive writing and reading, and an unchanged engine is accepted."""
    spec, built = read_sidecar(engine)
    assert built == BUILT and spec == read_spec(SHIPPED) and read_engine(engine, built) == DATA
    check_version(engine, built, "1.7.1.116")
    check_card(engine, built, "NVIDIA A", "8.6")


def refused(call: Any, *values: str) -> None:
    with pytest.raises(ModelError) as caught:
        call()
    said = str(caught.value)
    assert all(v in said for v in values) and "numclip engine" in said and "\n" not in said


def test_an_edited_version_is_refused(engine: Path) -> None:
    """Another version of the library is an error that names both; a version-compatible engine is accepted."""
    built = edit(engine, version="1.6.0")
    refused(lambda: check_version(engine, built, "1.7.1.116"), "1.6.0", "1.7.1.116")
    check_version(engine, replace(built, flags=("version-compatible",)), "1.7.1.116")


def test_an_edited_card_is_refused(engine: Path) -> None:
    """Another GPU or compute capability is an error that names both; a hardware-compatible engine is accepted from Ampere on."""
    built = edit(engine, gpu="NVIDIA B")
    refused(lambda: check_card(engine, built, "NVIDIA A", "8.6"), "NVIDIA B", "NVIDIA A")
    built = edit(engine, compute_capabilities=["8.9", "12.0"], gpu=None)
    refused(lambda: check_card(engine, built, "NVIDIA A", "8.6"), "8.9 or 12.0", "8.6")
    anywhere = replace(built, flags=("hardware-compatible",))
    check_card(engine, anywhere, "NVIDIA A", "8.6")
    refused(lambda: check_card(engine, anywhere, "NVIDIA old", "7.5"), "8.9", "7.5")


def test_an_edited_graph_hash_is_refused(engine: Path) -> None:
    """An .onnx next to the engine with another graph hash is an error that names both hashes."""
    built = edit(engine, graph_sha256="f" * 64)
    refused(lambda: read_engine(engine, built), "ffffffffffff", graph_sha256(SHIPPED)[:12])


def test_a_cut_engine_is_refused(engine: Path) -> None:
    """A truncated engine is an error, with both hashes and its size, before any library reads it."""
    engine.write_bytes(DATA[:100])
    found = hashlib.sha256(DATA[:100]).hexdigest()[:12]
    refused(lambda: read_engine(engine, BUILT), BUILT.engine_sha256[:12], found, "100 bytes")


@pytest.mark.parametrize("gone", ["age.engine", "age.engine.json"])
def test_half_of_a_pair_is_refused(engine: Path, gone: str) -> None:
    """An engine without sidecar, and a sidecar without engine, are errors that name the file, also in numclip.load."""
    (engine.parent / gone).unlink()
    refused(lambda: read_sidecar(engine), gone.removesuffix(".json"))
    with pytest.raises(NumclipError, match=r"age\.engine"):
        load(engine)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 9}', "\x00"])
def test_a_broken_sidecar_is_refused(engine: Path, text: str) -> None:
    """A broken sidecar is an error in one sentence."""
    sidecar_path(engine).write_text(text)
    with pytest.raises(ModelError) as caught:
        read_sidecar(engine)
    assert "\n" not in str(caught.value) and "age.engine.json" in str(caught.value)


def test_the_calibration_is_the_graphs_beside_it(engine: Path) -> None:
    """A new calibration of the .onnx applies to the engine without a rebuild, whatever the files' dates; that of another graph does
    not. Without an .onnx the sidecar's calibration applies."""
    onnx = engine.with_suffix(".onnx")
    spec = read_spec(onnx)
    assert spec.calibration is not None
    newer = replace(spec.calibration, date="2099-01-01")
    write_spec(onnx, spec.with_calibration(newer))
    os.utime(onnx, (0, 0))
    assert read_sidecar(engine)[0].calibration == newer
    edit(engine, graph_sha256="f" * 64)
    assert read_sidecar(engine)[0].calibration == spec.calibration
    onnx.unlink()
    assert read_sidecar(engine)[0].calibration == spec.calibration
