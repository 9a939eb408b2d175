"""Pictures of a study: a frozen tower's features equal those in the complete network, and are computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from torch import Tensor, nn  # noqa: E402

from numclip.research.studies.bench import Bench  # noqa: E402
from numclip.research.studies.head import Recipe, answers, build, train  # noqa: E402
from numclip.research.studies.made_pictures import draw_objects  # noqa: E402
from numclip.research.studies.settings import Settings  # noqa: E402
from numclip.train.network import NumCLIP  # noqa: E402
from numclip.train.towers import build_towers  # noqa: E402


def _projection(network: NumCLIP) -> Tensor:
    """Return the initial weight of the head's projection."""
    assert isinstance(network.image_tower, nn.Sequential)
    return network.image_tower[-1].get_parameter("weight")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """24 drawings, 18 of them for training, two of each count up to 9."""
    folder, random = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    rows = ["file,label,split"]
    for i in range(24):
        count = 1 + i % 9 if i < 18 else i - 17
        cv2.imwrite(str(folder / f"{i}.png"), draw_objects(count, random))
        rows.append(f"{i}.png,{count},{'train' if i < 18 else 'val'}")
    (folder / "drawn.csv").write_text("\n".join(rows) + "\n")
    return Settings((f"table:{folder / 'drawn.csv'}",), task="count", steps=3, batch=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_features_and_head_are_the_whole_tower(settings: Settings) -> None:
    """With the frozen trunk before the projection, crops give the same embedding as the features."""
    bench = Bench(settings)
    network = build(bench, Recipe()).eval()
    crops, _ = bench.crops(0, "val")
    with torch.no_grad():
        by_features = network.embed(bench.pictures(0, "val").inputs)
        network.image_tower = torch.nn.Sequential(bench._trunk[0], network.image_tower)
        by_crops = network.embed(torch.from_numpy(crops))

    torch.testing.assert_close(by_features, by_crops, atol=1e-5, rtol=1e-4)


def test_features_are_computed_once(settings: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second bench reads the features from the cache; another tower has other features."""
    first = Bench(settings).pictures(0, "train")
    monkeypatch.setattr(Bench, "_forward", None)
    again = Bench(settings).pictures(0, "train")
    assert torch.equal(first.inputs, again.inputs) and first.samples == again.samples
    assert len(list((cache / "features").glob("*.npy"))) == 1
    with pytest.raises(TypeError):
        Bench(settings)._features(Bench(settings).crops(0, "train")[0][:, ::-1].copy())


def test_the_trunk_stays_and_the_head_learns(settings: Settings) -> None:
    """After a training the projection has changed, and the trunk's features are the same."""
    bench = Bench(settings)
    before = bench.pictures(0, "train").inputs.clone()
    torch.manual_seed(5)
    start = _projection(build(bench, Recipe())).clone()
    network, n = train(bench, Recipe(), seed=5)

    assert n == 18 and not torch.equal(_projection(network), start)
    assert torch.equal(bench.pictures(0, "train").inputs, before)


def test_a_seed_decides_all(settings: Settings) -> None:
    """The same seed gives the same outputs, another seed gives others."""
    bench = Bench(settings)
    values = [answers(train(bench, Recipe(), s)[0], bench.pictures(0, "val").inputs).value for s in (1, 1, 2)]
    assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])


@pytest.mark.parametrize(
    ("recipe", "n"),
    [
        (Recipe(), 18),
        (Recipe(keep=(None, 4.0)), 6),  # 1, 2, 3: two of each
        (Recipe(keep=(9.0, None)), 2),
        (Recipe(shots=1), 9),
        (Recipe(shift=(3, 0.5)), 15),  # 1, 2, 3 are cut from two to one
        (Recipe(train_on=(0, 0)), 36),
    ],
)
def test_recipes_choose_pictures(settings: Settings, recipe: Recipe, n: int) -> None:
    """Ranges, shots and shift keep the hand-counted numbers of training pictures."""
    assert train(Bench(replace(settings, steps=1)), recipe, 0)[1] == n


def test_no_pictures_is_a_sentence(settings: Settings) -> None:
    """A range without pictures is an error."""
    from numclip.errors import DataError

    with pytest.raises(DataError, match="found none"):
        train(Bench(settings), Recipe(keep=(50.0, None)), 0)


def test_zero_shot_learns_nothing(settings: Settings) -> None:
    """The weights of a zero-shot run are unchanged after it."""
    bench = Bench(settings)
    recipe = Recipe(method={"name": "zero-shot"})
    torch.manual_seed(3)
    start = build(bench, recipe).state_dict()
    for name, tensor in train(bench, recipe, 3)[0].state_dict().items():
        assert torch.equal(tensor, start[name]), name


def test_a_tower_without_a_head_is_frozen_whole(settings: Settings) -> None:
    """open_clip's own image towers have no separate projection, so their features are their output."""
    from numclip.research.studies.bench import split_tower

    tower = build_towers("nano", None, torch.empty(0)).image
    trunk, head = split_tower(tower)
    assert trunk is tower.trunk and head is tower.head
    assert split_tower(head)[0] is head and isinstance(split_tower(head)[1], torch.nn.Identity)
