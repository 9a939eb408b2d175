"""Four methods on the same towers: their bins, trained parameters and losses, and the flags that select them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.errors import UsageError  # noqa: E402
from numclip.train.batches import TrainingFaces  # noqa: E402
from numclip.train.build import build_network  # noqa: E402
from numclip.train.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from numclip.train.groups import GROUPS, group_of, learning_rates, lock, parameter_groups, parse_rates  # noqa: E402
from numclip.train.loop import loss_parts  # noqa: E402
from numclip.train.method import METHODS, Method  # noqa: E402
from numclip.train.options import TrainOptions, as_released  # noqa: E402
from numclip.train.processes import usable_amp  # noqa: E402
from numclip.train.prompts import rank_weights  # noqa: E402
from numclip.train.records import TrainingRecord  # noqa: E402
from numclip.train.schedule import build_optimizer, build_schedule  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402
from numclip.train.towers import open_clip  # noqa: E402
from numclip.train.validation import coarse_bins, figures  # noqa: E402

TINY = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
PIXELS = np.random.default_rng(0).integers(0, 255, (8, 42, 42, 3), np.uint8)
AGES = torch.tensor([1.0, 9, 15, 22, 33, 48, 60, 85])


@pytest.fixture(scope="module", autouse=True)
def tower(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("config") / "tiny-method.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)


def options(released: bool = False, **more: object) -> TrainOptions:
    plain = replace(TrainOptions(("table:x.csv",), Path("x"), model="tiny-method"), **more)
    return replace(as_released(plain), **more) if released else plain


def network_of(released: bool = False, **more: object):
    torch.manual_seed(0)
    chosen = options(released, **more)
    return build_network(chosen, load_task(chosen.task), TrainingFaces((PIXELS,), AGES.numpy(), 32))


def crops():
    return torch.from_numpy(PIXELS[:, 5:37, 5:37].copy())


@pytest.mark.parametrize(
    ("cpu", "gpu", "settled"), [("AVX2", False, "off"), ("AVX512", False, "bf16"), ("AVX2", True, "bf16")]
)
def test_bfloat16_where_something_computes_it(
    cpu: str, gpu: bool, settled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--amp bf16 is switched off on a CPU without bfloat16, and stays on if the CPU or a GPU supports it."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert usable_amp("bf16") == settled


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_its_groups_and_nothing_else(name: str) -> None:
    """One step with the method's losses changes exactly the groups that it trains (and a random text tower and its scale)."""
    network = network_of(method=name)
    rates = learning_rates(network, 1e-3, {}, train_text=False)
    lock(network, rates)
    groups = parameter_groups(network, rates, 0.0)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    if groups:
        parts = loss_parts(network(crops()), AGES, network.task, network.method)
        (torch.tensor(network.method.loss_weights) * torch.stack(parts)).sum().backward()
        torch.optim.SGD(groups, lr=0.1).step()
    moved = {group_of(n) for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    learns = {
        "zero-shot": set(),
        "coop": {"image", "context", "text", "scale"},
        "ordinalclip": {"image", "context", "words", "text", "scale"},
        "numclip": set(GROUPS),
    }
    assert moved == learns[name]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_survives_its_checkpoint(name: str, tmp_path: Path) -> None:
    """Each method gives the same outputs after saving and loading (weights are stored in half precision)."""
    network = network_of(method=name).eval()
    save_checkpoint(tmp_path / "a.safetensors", network, TrainingRecord())
    again, _ = load_checkpoint(tmp_path / "a.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(again(crops()).value, network(crops()).value, atol=0.1, rtol=0)
    assert again.method == network.method and again.task == network.task


def test_bins_of_the_methods() -> None:
    """NumCLIP and zero-shot CLIP have the task's words; CoOp and OrdinalCLIP have one rank per year and use the expectation."""
    assert {n: network_of(method=n).task.spec.num_bins for n in METHODS} == {
        "zero-shot": 11,
        "coop": 101,
        "ordinalclip": 101,
        "numclip": 11,
    }
    network = network_of(method="coop").eval()
    with torch.no_grad():
        out = network(crops())
    torch.testing.assert_close(out.value, out.probabilities @ torch.arange(101.0))


def test_ordinalclips_ranks_are_interpolated() -> None:
    """Hand-computed: with three base ranks for five, the outer weights are 4/4 to 0/4, the middle one 2/4 to 4/4, rows normalised."""
    raw = torch.tensor([[4, 2, 0], [3, 3, 1], [2, 4, 2], [1, 3, 3], [0, 2, 4]], dtype=torch.float32)
    torch.testing.assert_close(rank_weights(5, 3), raw / raw.sum(1, keepdim=True))
    prompt = network_of(method="ordinalclip").prompt
    assert prompt.words.shape == (3, 64) and prompt()[0].shape[0] == 101


def test_language_locks_the_text_tower() -> None:
    """With language pre-training, text tower and scale are frozen; --train-text and --lr-of train them; --lock freezes a group."""
    network = network_of()
    network.record = replace(network.record, language_pretrained=True)
    rates = learning_rates(network, 1e-3, {}, train_text=False)
    assert (rates["text"], rates["scale"], rates["image"]) == (0, 0, 1e-3)
    assert learning_rates(network, 1e-3, {}, train_text=True)["text"] == 1e-3
    chosen = learning_rates(network, 1e-3, parse_rates(["image=1e-5", "scale=1e-4", "words=0"]), train_text=False)
    assert (chosen["image"], chosen["scale"], chosen["words"], chosen["adapter"]) == (1e-5, 1e-4, 0, 1e-3)
    lock(network, chosen)
    assert not network.prompt.words.requires_grad and network.logit_scale.requires_grad
    assert sorted({g["lr"] for g in parameter_groups(network, chosen, 0.05)}) == [1e-5, 1e-4, 1e-3]
    decayed = [p for g in parameter_groups(network, chosen, 0.05) if g["weight_decay"] for p in g["params"]]
    assert all(p.ndim >= 2 for p in decayed) and not any(p is network.prompt.context for p in decayed)


@pytest.mark.parametrize("text", ["image", "image=x", "tower=1e-3", "image=-1"])
def test_bad_rates(text: str) -> None:
    """A rate without a group, without a number, or with a negative number is an error that lists the groups."""
    with pytest.raises(UsageError, match="expected --lr-of GROUP=RATE with GROUP of image, adapter"):
        parse_rates([text])


def test_as_released_sets_every_switch() -> None:
    """--as-released sets rates, schedule, normalisation, selection and no averaging as in the authors' code for MORPH; explicit flags
    override it."""
    args = options(released=True, task="age-morph", epochs=3)
    got = {
        n: getattr(args, n) for n in ("lr", "weight_decay", "optimizer", "schedule", "clip", "ema", "select", "augment")
    }
    assert got == {
        "lr": 1e-5,
        "weight_decay": 0.0,
        "optimizer": "radam",
        "schedule": "step",
        "clip": 0.0,
        "ema": 0.0,
        "select": "test",
        "augment": "released",
    }
    assert args.epochs == 3 and options(released=True, task="age-morph").epochs == 200
    assert options(released=True, task="historical").epochs == 100
    network = network_of(released=True, task="age-morph")
    assert network.record.image_mean == (0.485, 0.456, 0.406)
    method = network.method
    assert (method.weighting, method.label_offset, method.adapter_ratio) == ("inside", 1, 0.8)
    assert "context" not in method.learns and network.refinement.values.tolist() == [0, 13, 19, 35, 65]
    grades = options(released=True, task="aesthetics").build_method(load_task("aesthetics"))
    assert "context" in grades.learns and grades.label_offset == 0


def test_the_released_schedule() -> None:
    """RAdam makes no update in its first five steps; from epoch 60 the rate is a tenth."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer([{"params": [weight], "lr": 1e-5, "weight_decay": 0.0}], "radam")
    schedule = build_schedule(optimizer, "step", 4, 100)
    rates = []
    for _ in range(244):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
        if len(rates) == 5:
            assert weight.item() == 0
    assert rates[:6] == [0, 0, 0, 0, 0, 1e-5] and rates[239] == 1e-5 and rates[240] == pytest.approx(1e-6)


def test_switches_of_the_losses() -> None:
    """Distances in years, loss weights, logit scale and adapter ratio from the flags reach the network."""
    network = network_of(distance="values", loss_weights=(1, 0, 2), adapter_ratio=0.1, logit_scale=20.0)
    assert network.method.loss_weights == (1, 0, 2) and network.adapter.ratio == 0.1
    assert float(network.logit_scale.detach().exp()) == pytest.approx(20)
    by_years = loss_parts(network(crops()), AGES, network.task, network.method)
    by_bins = loss_parts(network(crops()), AGES, network.task, Method())
    assert by_years[0] != by_bins[0] and by_years[1] != by_bins[1] and by_years[2] == by_bins[2]
    assert type(network_of(method="coop").refinement).__name__ == "Expectation"


def test_coarse_accuracy_is_asked_alike() -> None:
    """For a network with one rank per year, coarse accuracy sums the probabilities in each bin of the task: 0.6 on 20 to 24 wins."""
    task = load_task("age")
    probabilities = np.zeros((1, 101))
    probabilities[0, 20:25], probabilities[0, 70] = 0.12, 0.4
    assert coarse_bins(task.with_ranks().spec, probabilities, task.spec).tolist() == [4]
    network = network_of().eval()
    got = figures(network, crops().numpy(), AGES.double().numpy(), task.spec)
    assert 0 <= got.coarse <= 1 and 0 <= got.cs5 <= 1 and got.mae > 0


def test_mixed_precision_and_checkpointed_gradients() -> None:
    """With bfloat16 the logits stay float32; gradient checkpointing gives the same gradients."""
    network = network_of().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(crops())
    assert out.logits.dtype == torch.float32 and out.embedding.dtype == torch.float32
    twin = network_of(checkpoint_gradients=True).train()
    for one in (network, twin):
        one.zero_grad()
        torch.stack(loss_parts(one(crops()), AGES, one.task, one.method)).sum().backward()
    for (name, mine), theirs in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name)


def test_unknown_methods() -> None:
    """A misspelt method is an error that names it."""
    with pytest.raises(UsageError, match="expected --method zero-shot, coop"):
        Method.named("clip")
