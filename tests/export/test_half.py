"""The half-precision network: a layer that fails is named and can be kept in float32; the graph has explicit types."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
onnx = pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")
from numclip.calibration.measure.parity import ProofFaces  # noqa: E402
from numclip.errors import ModelError  # noqa: E402
from numclip.export.frozen import Frozen  # noqa: E402
from numclip.export.half import half_network, product_layers  # noqa: E402
from numclip.export.half_proof import proven_half  # noqa: E402
from numclip.export.to_onnx import to_onnx  # noqa: E402
from numclip.train.checkpoint_model import checkpoint_spec, predict  # noqa: E402
from numclip.train.network import Method, NumCLIP  # noqa: E402
from numclip.train.prompts import Prompt  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402
from numclip.train.towers import build_towers, open_clip  # noqa: E402

VIT = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
BROKEN = "tower.transformer.resblocks.1.attn.in_proj"


@pytest.fixture
def network():
    """A small random NumCLIP with a transformer as image tower."""
    open_clip.factory._MODEL_CONFIGS["half-test"] = VIT
    torch.manual_seed(0)
    task = load_task("age")
    towers = build_towers("half-test", None, torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    return NumCLIP(task, towers, Prompt(77, [1] * task.spec.num_bins, 5, 32), Method()).eval()


def proof_for(network) -> ProofFaces:
    crops = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    return ProofFaces(crops, np.full(24, 40.0), "noise")


def sabotaged(network):
    """A network in which the values of one block's attention are 1e7 times as large and its output weights as much smaller: the same
    function, but the product overflows in half precision."""
    attention = network.image_tower.transformer.resblocks[1].attn
    width = attention.embed_dim
    with torch.no_grad():
        attention.in_proj_weight[2 * width :] *= 1e7
        attention.out_proj.weight /= 1e7
    return network


def test_a_network_that_overflows_fails_and_is_widened(network) -> None:
    """The network is unchanged in float32; in half precision it fails with the layer's name; with --widen it passes and keeps that
    layer in float32."""
    proof = proof_for(network)
    spec = checkpoint_spec(network, "half-test")
    before = predict(Frozen(network).eval(), spec.task, proof.crops)
    frozen = Frozen(sabotaged(network)).eval()
    reference = predict(frozen, network.task.spec, proof.crops)
    np.testing.assert_allclose(reference.value, before.value, atol=1e-3)
    with pytest.raises(ModelError, match=rf"NaN or Inf.*comes out of {BROKEN}; --widen"):
        proven_half(frozen, spec, proof, reference, None, may_widen=False)
    half, wide = proven_half(frozen, spec, proof, reference, None, may_widen=True)
    assert BROKEN in wide.kept and len(wide.kept) <= 3 < len(product_layers(frozen))
    assert half.found.not_finite == 0 and half.found.mean <= 0.1


def test_a_sound_network_keeps_nothing(network) -> None:
    """If half precision passes, --widen keeps no layer in float32."""
    proof, frozen = proof_for(network), Frozen(network).eval()
    reference = predict(frozen, network.task.spec, proof.crops)
    _, wide = proven_half(frozen, checkpoint_spec(network, "x"), proof, reference, None, may_widen=True)
    assert wide.kept == ()


def test_the_typed_graph(network) -> None:
    """The trunk's weights are float16, every LayerNorm and Softmax computes in float32, the outputs are float32."""
    model = to_onnx(half_network(Frozen(network).eval()), 32)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    weights = {t.name: t.data_type for t in graph.initializer}
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    products = [n for n in graph.node if n.op_type in ("MatMul", "Gemm", "Conv")]
    assert (
        sum((kinds | weights)[n.input[1]] == half for n in products) >= 2 * 4 + 1 + 1
    )  # two blocks, patches, projection
    islands = [n for n in graph.node if n.op_type in ("LayerNormalization", "Softmax")]
    assert len(islands) == 6 + 2 + 1 and all(kinds[n.output[0]] == single for n in islands)
    assert {o.name: kinds[o.name] for o in graph.output} == dict.fromkeys(
        ("value", "probabilities", "embedding"), single
    )
    assert kinds["crops"] == onnx.TensorProto.UINT8


def test_a_kept_layer_stays_float32(network) -> None:
    """Kept layers and the first layer have float32 weights; all others have float16 weights."""
    keep = "tower.transformer.resblocks.0.mlp.c_fc"
    half = half_network(Frozen(network).eval(), {keep})
    modules = half.image_tower.named_modules()
    kinds = {n: m.get_parameter("layer.weight").dtype for n, m in modules if hasattr(m, "layer")}
    assert kinds.pop(keep) == torch.float32 == kinds.pop("tower.conv1")
    assert set(kinds.values()) == {torch.float16}
