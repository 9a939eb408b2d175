"""Losses for age bands: hand-computed, equal to exact labels for bands of zero width, and mixed in one training."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

pytest.importorskip("numclip.train.towers", reason="needs the extra train")
from numclip.calibration.data.datasets import open_data
from numclip.cli.main import main
from numclip.runtime.contract.licences import Licence
from numclip.train.checkpoint import load_checkpoint
from numclip.train.loop import loss_parts
from numclip.train.losses import WEIGHTINGS, bins_of, image_to_text_loss, shares_of, text_to_image_loss
from numclip.train.method import Method
from numclip.train.network import Outputs
from numclip.train.records import Predictions, Source, to_json
from numclip.train.tasks_file import load_task
from numclip.train.teacher import ask_once, inside_bands, sought
from numclip.train.training_data import parse_repeat, repeated, training_faces, widened

EDGES = (0.0, 10, 20, 30, 40)
INF = math.inf
TASK = load_task("age")


def _exact(s: torch.Tensor, c: torch.Tensor, weighting: str | None) -> tuple[float, float]:
    """Both losses for exact labels, written independently from their formulas."""
    k = s.shape[1]
    apart = (torch.arange(k)[None, :] - c[:, None]).abs().double()  # [N, K]
    wrong = apart > 0
    one = torch.ones_like(apart)
    w = torch.where(wrong, (k - 1) * apart / apart.sum(1, keepdim=True), one) if weighting else one
    logits = w * s if weighting == "inside" else s + w.log()
    i2t = float(functional.cross_entropy(logits, c))
    total = apart.sum(0, keepdim=True)
    w = torch.where(wrong, (k - 1) * apart / torch.where(total == 0, 1, total), one) if weighting else one
    logits = w * s if weighting == "inside" else s + w.log()
    found = []
    for b in sorted(set(c.tolist())):
        target = torch.log_softmax(10.0 * (c == b).double(), 0)
        found.append(float((target.exp() * (target - torch.log_softmax(logits[:, b], 0))).sum()))
    return i2t, float(np.mean(found))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(2, 12), st.integers(0, 10**6), st.sampled_from(WEIGHTINGS))
def test_exact_labels_keep_their_losses(k: int, n: int, seed: int, weighting) -> None:
    """Bin indices, one-hot shares and bands of zero width all give the losses of exact labels, to 1e-9."""
    draw = torch.Generator().manual_seed(seed)
    s = 5 * torch.randn(n, k, generator=draw, dtype=torch.float64)
    labels = torch.rand(n, generator=draw, dtype=torch.float64) * k * 10
    edges = tuple(10.0 * i for i in range(k + 1))
    c = bins_of(labels, edges)
    i2t, t2i = _exact(s, c, weighting)
    for bins in (c, functional.one_hot(c, k).double(), shares_of(torch.stack([labels, labels], 1), edges)):
        assert float(image_to_text_loss(s, bins, weighting)) == pytest.approx(i2t, abs=1e-9)
        assert float(text_to_image_loss(s, bins, weighting)) == pytest.approx(t2i, abs=1e-9)


def test_shares_by_hand() -> None:
    """Hand-computed: 5 to 14 has half its share in each of two bins, 20 to 29 is in one, 35 or more in the last; 12 to 32 covers 8, 10
    and 3 of 21 years. Exact labels are in one bin; outside the scale it is the first or last one."""
    ends = torch.tensor([[5, 14], [20, 29], [35, INF], [12, 32], [20, 20], [99, 99], [50, INF]])
    expected = [
        [0.5, 0.5, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 8 / 21, 10 / 21, 3 / 21],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 1],
    ]
    torch.testing.assert_close(shares_of(ends, EDGES), torch.tensor(expected))


def test_image_to_text_by_hand() -> None:
    """Hand-computed: with two correct bins of four and zero logits, half of the mass is correct: ln 2 without weights. With weights the
    wrong bins, at distances 1 and 2, weigh 2/3 and 4/3, with the same sum: ln 2 again, but with different gradients."""
    s = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    shares = torch.tensor([[0.5, 0.5, 0, 0]], dtype=torch.float64)
    for weighting in (None, "outside"):
        assert image_to_text_loss(s, shares, weighting).item() == pytest.approx(math.log(2))
    image_to_text_loss(s, shares, "outside").backward()
    assert s.grad is not None and s.grad[0].tolist() == pytest.approx([-1 / 4, -1 / 4, 1 / 6, 1 / 3])


def test_every_bin_right_costs_nothing() -> None:
    """A band that covers the whole scale gives zero loss and zero gradient, all finite."""
    s = torch.randn(3, 4, requires_grad=True)
    shares = torch.full((3, 4), 0.25)
    for weighting in WEIGHTINGS:
        loss = image_to_text_loss(s, shares, weighting)
        assert loss.item() == pytest.approx(0, abs=1e-6)
        (grad,) = torch.autograd.grad(loss + text_to_image_loss(s, shares, weighting), s)
        assert grad.isfinite().all()


def test_text_to_image_by_hand() -> None:
    """Hand-computed: at zero logits without weights the loss is ln N minus the target's entropy. Of three faces one is in bin 0, one
    half in bins 0 and 1, one in bin 1, so each word's target is 1, 1/2 and 0, divided by their sum."""
    shares = torch.tensor([[1, 0], [0.5, 0.5], [0, 1]], dtype=torch.float64)
    weights = np.array([math.exp(10), 1 + 0.5 * math.expm1(10), 1])
    target = weights / weights.sum()
    expected = math.log(3) + float((target * np.log(target)).sum())
    assert float(text_to_image_loss(torch.zeros(3, 2).double(), shares, None)) == pytest.approx(expected)


def _outputs(values: list[float]) -> Outputs:
    n = len(values)
    logits = torch.zeros(n, TASK.spec.num_bins)
    return Outputs(
        torch.tensor([float(v) for v in values], requires_grad=True), logits.softmax(1), torch.zeros(n, 4), logits
    )


def test_the_value_is_free_inside_its_band() -> None:
    """Hand-computed: the band 20 to 29 ends at 30. A value of 25 costs nothing, 18 and 33 cost 2 and 3 years; 37 for exactly 40 costs
    3. The gradient points towards the band."""
    outputs = _outputs([25, 18, 33, 37])
    ends = torch.tensor([[20, 29], [20, 29], [20, 29], [40, 40]]).float()
    loss = loss_parts(outputs, ends, TASK, Method())[2]
    assert loss.item() == pytest.approx((0 + 2 + 3 + 3) / 4)
    loss.backward()
    assert outputs.value.grad is not None and (4 * outputs.value.grad).tolist() == [0, -1, 1, -1]


def test_labels_and_ends_are_one() -> None:
    """Labels [N] and the same labels as bands of zero width [N, 2] give the same three losses."""
    outputs, labels = _outputs([25, 18, 33, 37]), torch.tensor([22.0, 18, 70, 3])
    plain = loss_parts(outputs, labels, TASK, Method())
    assert [p.item() for p in plain] == [p.item() for p in loss_parts(outputs, labels.repeat(2, 1).T, TASK, Method())]


def test_what_teachers_say_of_bands() -> None:
    """With teachers, a band's target value is the teachers' value clipped into it and its words are unchanged; an exact label becomes
    the mean of both."""
    ends = torch.tensor([[20, 29], [20, 29], [70, INF], [40, 40]]).float()
    words, value = sought(ends, torch.tensor([24.5, 35, 81, 30]))
    assert value.tolist() == [[24.5, 24.5], [30, 30], [81, 81], [35, 35]]
    assert words.tolist() == [[20, 29], [20, 29], [70, INF], [35, 35]]
    shares = shares_of(torch.tensor([[10, 29], [12, 12]]).float(), EDGES)
    taught = inside_bands(torch.tensor([[0.2, 0.3, 0.1, 0.4], [0.1, 0.7, 0.1, 0.1]]), shares)
    assert taught[0].tolist() == pytest.approx([0, 0.75, 0.25, 0], abs=2e-4)
    assert taught[1].tolist() == pytest.approx([0.1, 0.7, 0.1, 0.1])


def test_slack_widens_bands_alone() -> None:
    """Hand-computed: with a slack of 10, 20 to 29 is 10 to 39, 0 to 2 is 0 to 12, 70 or older is 60 or older, and 40 stays 40."""
    ends = np.array([[20, 29], [0, 2], [70, INF], [40, 40]])
    assert widened(ends, 10).tolist() == [[10, 39], [0, 12], [60, INF], [40, 40]]
    assert (widened(ends, 0) == ends).all()


def test_ages_that_count_more() -> None:
    """13 to 19 appear twice, 60 and above three times, others once; `13-19:2` is parsed, and invalid text is an error."""
    given_ = [parse_repeat("13-19:2"), parse_repeat("60-120:3")]
    assert repeated([5, 14.5, 19, 20, 64.5], given_).tolist() == [0, 1, 1, 2, 2, 3, 4, 4, 4]
    for wrong in ("13-19", "19-13:2", "13-19:0"):
        with pytest.raises(Exception, match=r"expected --repeat FROM-TO:TIMES"):
            parse_repeat(wrong)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[Path, Path]:
    """32 faces with exact ages, and the same faces with ten-year bands around them."""
    folder = tmp_path_factory.mktemp("faces")
    source = open_data(f"utkface:{shared_data / 'data' / 'utkface.tar'}").select("val")
    exact, banded = ["file,age,split"], ["file,age_low,age_high,split"]
    for i, sample in enumerate(source.samples[::37][:32]):
        cv2.imwrite(str(folder / f"{i}.png"), source.read(sample))
        split, low = ("val" if i % 4 == 0 else "train"), 10 * (int(sample.label) // 10)
        exact.append(f"{i}.png,{sample.label:g},{split}")
        banded.append(f"{i}.png,{low},{low + 9 if low < 70 else ''},{split}")
    (folder / "exact.csv").write_text("\n".join(exact) + "\n")
    (folder / "banded.csv").write_text("\n".join(banded) + "\n")
    return folder / "exact.csv", folder / "banded.csv"


def test_exact_and_banded_sets_mix_in_one_training(tables: tuple[Path, Path], tmp_path: Path) -> None:
    """A training on both kinds of label, also with a teacher, gives a checkpoint with val figures of both data sets; the distance to
    bands is smaller than to exact labels."""
    data = [f"table:{table}" for table in tables]
    common = ["train", "--data", *data, "--epochs", "1", "--batch", "8", "--side", "48"]
    assert main([*common, "--out", str(tmp_path / "first"), "--repeat", "0-120:2"]) == 0
    network, record = load_checkpoint(tmp_path / "first" / "best.safetensors")
    assert set(record.val_mae) == {"table:exact.csv", "table:banded.csv"}
    assert record.val_mae["table:banded.csv"] < record.val_mae["table:exact.csv"]
    taught = [*common, "--out", str(tmp_path / "second"), "--teacher", str(tmp_path / "first" / "best.safetensors")]
    assert main([*taught, "--teach-once", "--coverage", "0.9"]) == 0
    log = [json.loads(line) for line in (tmp_path / "second" / "log.jsonl").read_text().splitlines()]
    assert np.isfinite(list(log[0]["loss"].values())).all()
    ask = ask_once([tmp_path / "first" / "best.safetensors"], network.task, torch.device("cpu"))
    crop = network.task.crop(48)
    faces, _ = training_faces([open_data(data[1])], crop, smoke=False, asked=ask)
    assert faces.labels.shape == (24, 3 + network.task.spec.num_bins)
    np.testing.assert_allclose(faces.labels[:, 3:].sum(1), 1, atol=1e-5)


def test_another_network_s_predictions_teach(tables: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    """A file of predictions is a teacher: each training face gets its value and probabilities, and the checkpoint records the
    network and its licence. Without --teach-once, for other words, or without a prediction for a face it is an error."""
    task, path, data = load_task("age"), tmp_path / "ages.json", f"table:{tables[1]}"
    k = task.spec.num_bins
    faces = {s.file: (20.0 + i, *np.full(k, 1 / k)) for i, s in enumerate(open_data(data).samples)}

    def write(words: tuple[str, ...], kept: int = 32, numbers: int = 1 + k) -> None:
        some = {file: row[:numbers] for file, row in list(faces.items())[:kept]}
        path.write_text(json.dumps(to_json(Predictions("net.json", Licence("MIT", "by its authors"), words, some))))

    write(task.spec.words)
    found, _ = training_faces(
        [open_data(data)], task.crop(48), smoke=False, asked=ask_once([path], task, torch.device("cpu"))
    )
    assert set(found.labels[:, 2]) <= {20.0 + i for i in range(32) if i % 4} and len(set(found.labels[:, 2])) == 24
    common = ["train", "--data", data, "--epochs", "1", "--batch", "8", "--side", "48", "--teacher", str(path)]
    assert main([*common, "--teach-once", "--out", str(tmp_path / "out")]) == 0
    sources = load_checkpoint(tmp_path / "out" / "best.safetensors")[1].sources
    assert sources is not None and Source("teacher", "net.json", Licence("MIT", "by its authors")) in sources
    for words, kept, numbers, flags, said in (
        (task.spec.words, 32, 12, [], "expected --teach-once with --teacher"),
        (("young", "old"), 32, 3, ["--teach-once"], "expected predictions for the task's words"),
        (task.spec.words, 32, 11, ["--teach-once"], "expected 12 numbers"),
        (task.spec.words, 5, 12, ["--teach-once"], "expected a prediction for every training face"),
    ):
        write(words, kept, numbers)
        assert main([*common, *flags, "--out", str(tmp_path / "wrong")]) != 0
        assert said in capsys.readouterr().err and not (tmp_path / "wrong").exists()


def test_teach_once_needs_a_teacher(tables: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    """--teach-once alone is an error that says what to add, and no folder is left."""
    assert main(["train", "--data", f"table:{tables[0]}", "--out", str(tmp_path / "x"), "--teach-once"]) == 2
    assert "expected --teacher with --teach-once" in capsys.readouterr().err and not (tmp_path / "x").exists()
