"""NumCLIPs with random weights and several towers give the same ages in PyTorch, ONNX and half precision."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnxscript", reason="needs the extra export")
from numclip.calibration.data.datasets import open_data  # noqa: E402
from numclip.calibration.measure.parity import difference, excess, faults, limits_for, proof_faces  # noqa: E402
from numclip.calibration.measure.predictor import answers  # noqa: E402
from numclip.export.frozen import Frozen  # noqa: E402
from numclip.export.half import half_network  # noqa: E402
from numclip.export.to_onnx import to_onnx  # noqa: E402
from numclip.runtime.contract.model_file import read_spec, write_spec  # noqa: E402
from numclip.runtime.sessions.opening import open_session  # noqa: E402
from numclip.train.checkpoint_model import checkpoint_spec, predict  # noqa: E402
from numclip.train.network import Method, NumCLIP  # noqa: E402
from numclip.train.prompts import Prompt  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402
from numclip.train.towers import build_towers, input_side, open_clip  # noqa: E402

TINY_VIT = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TINY_RESNET = {**TINY_VIT, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}}
SCALE, SPREAD_YEARS = 100.0, 9.0
SHARES = tuple(1.2**k / 100 for k in range(26))
slow = pytest.mark.slow
TOWERS = [
    pytest.param("tiny-vit-test", 64),
    pytest.param("tiny-resnet-test", 64),
    pytest.param("ViT-B-32", 48, marks=slow),
    pytest.param("RN50", 48, marks=slow),
    pytest.param("ViT-B-16", 16, marks=slow),
]


@dataclass(frozen=True, eq=False)
class Random:
    """A NumCLIP with random weights whose ages vary over real faces."""

    network: Any
    spec: Any
    proof: Any
    reference: Any  # Outputs of the whole network in PyTorch


def random_numclip(tower: str, data: Path, n: int) -> Random:
    """Build a NumCLIP with random weights whose ages vary, so that an error shows in years.

    Its logit scale is 100. Its text bins lie around the mean embedding, separated along the axes on which faces differ, just far
    enough for the ages to vary.
    """
    for name, config in (("tiny-vit-test", TINY_VIT), ("tiny-resnet-test", TINY_RESNET)):
        open_clip.factory._MODEL_CONFIGS[name] = config
    torch.manual_seed(0)
    task, size = load_task("age"), input_side(tower)
    towers = build_towers(tower, None, torch.zeros(1, size, size, 3, dtype=torch.uint8))
    method = Method(refinement_embedding=True)
    words = [1] * task.spec.num_bins
    network = NumCLIP(task, towers, Prompt(77, words, 5, towers.token_embedding.weight.shape[1]), method).eval()
    spec, faces = checkpoint_spec(network, tower), open_data(f"utkface:{data}/data/utkface.tar").select("val")
    few = replace(faces, samples=faces.samples[:: len(faces.samples) // n][:n])
    proof = proof_faces([few], spec, n)
    with torch.no_grad():
        network.logit_scale.fill_(math.log(SCALE))
        crops = torch.from_numpy(proof.crops)
        settle_norms(network, crops)
        embedding = torch.cat([network.embed(crops[i : i + 8]) for i in range(0, len(crops), 8)])
        mean = embedding.mean(dim=0)
        center = torch.nn.functional.normalize(mean, dim=0)
        axes = torch.linalg.svd(embedding - mean)[2][: task.spec.num_bins]  # the axes on which faces differ
        axes = axes - (axes @ center)[:, None] * center
        apart = torch.nn.functional.normalize(torch.randn(task.spec.num_bins, len(axes)) @ axes, dim=1)
        bins = apart
        for share in SHARES:  # CLIP's sentences are similar too: the word is a small part of each
            bins = (1 - share**2) ** 0.5 * center + share * apart
            if network.read(embedding, bins).value.std() >= SPREAD_YEARS:
                break
    network.text_bins = lambda: bins
    return Random(network, spec, proof, predict(network, spec.task, proof.crops))


def settle_norms(network: Any, crops: Any) -> None:
    """Give batch norms the statistics of faces, as training does, and a weight to those that a new ResNet starts at zero."""
    norms = [m for m in network.image_tower.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.ones_(norm.weight)
        norm.momentum = None
        norm.train()
    if norms:
        network.embed(crops[:32])
    network.eval()


@pytest.mark.parametrize(("tower", "n"), TOWERS)
def test_every_precision_in_years(tower: str, n: int, shared_data: Path, tmp_path: Path) -> None:
    """Float32 ONNX is within 0.02 years of PyTorch; the half module is within 0.1 years (mean) and 0.5 (p99), and its file opens."""
    made = random_numclip(tower, shared_data, n)
    assert np.std(made.reference.value) >= 8, "the parity test needs ages that vary"
    frozen = Frozen(made.network).eval()
    side = made.spec.crop.side
    path = tmp_path / "fp32.onnx"
    path.write_bytes(to_onnx(frozen, side).SerializeToString())
    write_spec(path, made.spec)
    found = difference(
        answers(open_session(path, read_spec(path), "cpu"), made.proof.crops), made.reference, made.proof.labels
    )
    assert faults(found, limits_for("fp32", made.spec.task), "years") == [] and found.max <= 0.02
    half = half_network(frozen)
    found = difference(predict(half, made.spec.task, made.proof.crops), made.reference, made.proof.labels)
    print(f"{tower}: std {np.std(made.reference.value):.1f}, half mean {found.mean:.3f}, p99 {found.p99:.3f}")
    assert excess(found, limits_for("fp16", made.spec.task)) <= 1 and found.mean <= 0.1 and found.p99 <= 0.5
    path.write_bytes(to_onnx(half, side).SerializeToString())
    write_spec(path, made.spec)
    opened = answers(open_session(path, made.spec, "cpu"), made.proof.crops[:2])
    assert np.isfinite(opened.value).all()
