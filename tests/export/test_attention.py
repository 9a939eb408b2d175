"""The image tower rewritten for export computes the same as the original."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.errors import ModelError  # noqa: E402
from numclip.export.attention import Attention, PooledAttention, SpatialMean, attend, written_for_export  # noqa: E402

nn = torch.nn


@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_torchs(bias: bool) -> None:
    """With the same weights, Attention gives the output of nn.MultiheadAttention, with and without biases."""
    torch.manual_seed(0)
    old = nn.MultiheadAttention(24, 3, bias=bias, batch_first=True).eval()
    if bias:
        nn.init.normal_(old.in_proj_bias)
        nn.init.normal_(old.out_proj.bias)
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(Attention(old)(x)[0], old(x, x, x, need_weights=False)[0], atol=1e-6, rtol=1e-5)


def test_pooled_attention_is_clips() -> None:
    """With the same weights, PooledAttention gives the output of CLIP ResNet's attention pooling."""
    from open_clip.modified_resnet import AttentionPool2d

    torch.manual_seed(0)
    old, x = AttentionPool2d(3, 16, 4, 10).eval(), torch.randn(2, 16, 3, 3)
    torch.testing.assert_close(PooledAttention(old)(x), old(x), atol=1e-6, rtol=1e-5)


def test_attend_by_hand() -> None:
    """Hand-computed: a query close to the second key gives the second value; equal keys give the mean."""
    q, k, v = (torch.tensor(x).reshape(1, 1, -1, 1) for x in ([100.0], [0.0, 1.0], [3.0, 7.0]))
    assert attend(q, k, v).item() == pytest.approx(7.0)
    assert attend(q, torch.zeros_like(k), v).item() == pytest.approx(5.0)


def test_half_softmax_is_an_island() -> None:
    """In half precision, attention is within 2e-3 of float32, because its softmax is computed in float32."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 400, 16).half() for _ in range(3))
    exact = attend(q.double().float(), k.float(), v.float())
    assert (attend(q, k, v).float() - exact).abs().max() < 2e-3


def test_a_tower_is_rewritten_whole() -> None:
    """Attention, pooled projection and adaptive mean are all replaced, and the tower's output stays the same."""

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.proj = nn.Parameter(torch.randn(8, 4))

        def forward(self, x):
            x = self.attn(x, x, x, need_weights=False)[0]
            x = self.pool(x.transpose(1, 2).unflatten(2, (2, 2))).flatten(1)
            return x if self.proj is None else x @ self.proj

    torch.manual_seed(0)
    tower, x = Tower().eval(), torch.randn(3, 4, 8)
    expected = tower(x)
    made = written_for_export(tower)
    kinds = {type(m) for m in made.modules()}
    assert (
        {Attention, SpatialMean} <= kinds
        and nn.MultiheadAttention not in kinds
        and made.get_parameter("proj.weight").shape == (4, 8)
    )
    torch.testing.assert_close(made(x), expected, atol=1e-6, rtol=1e-5)


def test_attention_of_another_form_is_refused() -> None:
    """Attention without batch_first is an error in one sentence, not a wrong export."""
    with pytest.raises(ModelError, match="batch_first"):
        Attention(nn.MultiheadAttention(8, 2, batch_first=False))
