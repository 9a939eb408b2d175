"""The script for the next models packs, trains and finishes, in its short form, from pictures to a model file."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extras train, export and quantize")
import numclip
from numclip.calibration.data.datasets import open_data

SCRIPT = Path(numclip.__file__).parent / "research" / "next_models.sh"
TAKEN = {"train": 40, "val": 12, "calibration": 36, "test": 12}


@pytest.fixture
def faces(shared_data: Path, tmp_path: Path) -> Path:
    """A hundred faces of each of the three data sets, as .tar and CSV."""
    folder = tmp_path / "faces"
    for kind in ("utkface", "aaf", "fairface"):
        data = open_data(f"{kind}:{shared_data / 'data' / f'{kind}.tar'}")
        banded = data.banded
        rows = ["file,age_low,age_high,split" if banded else "file,age,split"]
        (folder / kind).mkdir(parents=True)
        for split, n in TAKEN.items():
            chosen = data.select(split).samples
            for sample in chosen[:: len(chosen) // n][:n]:
                (folder / kind / sample.file).write_bytes(data.read_bytes(sample.file))
                low, high = sample.ends
                ends = f"{low:g},{high if math.isfinite(high) else ''}" if banded else f"{low:g}"
                rows.append(f"{sample.file},{ends},{split}")
        with tarfile.open(folder / f"{kind}.tar", "w") as tar:
            tar.add(folder / kind, kind)
        (folder / f"{kind}.csv").write_text("\n".join(rows) + "\n")
    return folder


def _run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(numclip.__file__).parents[1])
    given = {"PYTHON": sys.executable, "SMOKE": "1", "PYTHONPATH": root}
    return subprocess.run(
        ["bash", str(SCRIPT), *words], cwd=place, env=os.environ | given, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_pack_train_finish(faces: Path, tmp_path: Path) -> None:
    """`pack` writes three .tar files and the start weights; `train` writes a checkpoint from the packed faces alone and resumes when
    repeated; `finish` writes a float file with intervals."""
    packed = _run(tmp_path, "pack", str(faces))
    assert packed.returncode == 0, packed.stderr
    assert {p.name for p in (tmp_path / "packed").glob("*.tar")} == {"utkface.tar", "aaf.tar", "fairface.tar"}
    assert {p.name for p in (tmp_path / "starts").iterdir()} == {"face-resnet.safetensors", "base.safetensors"}
    for _ in range(2):
        trained = _run(tmp_path, "train", "age-base")
        assert trained.returncode == 0, trained.stderr
    finished = _run(tmp_path, "finish", "age-base", str(faces))
    assert finished.returncode == 0, finished.stderr[-2000:]
    out = tmp_path / "runs" / "age-base"
    model = numclip.load(out / "age-base.onnx")
    assert model.spec.calibration is not None and len(model.spec.calibration.data) == 3
    assert [metric.data for metric in model.spec.metrics] == [
        "utkface:utkface.tar",
        "aaf:aaf.tar",
        "fairface:fairface.tar",
    ]
    assert finished.stdout.count("labels are bands") == 1


def test_another_name_is_refused(tmp_path: Path) -> None:
    """A model without a recipe is an error in one line; no argument prints the usage."""
    wrong = _run(tmp_path, "train", "age-huge")
    assert wrong.returncode == 2 and "got age-huge" in wrong.stderr
    assert _run(tmp_path).returncode == 2 and "pack FACES" in _run(tmp_path).stderr
