"""Splits, folds, few-shot selection and label shift: reproducible, with no person in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from numclip.calibration.data.datasets import Dataset
from numclip.calibration.data.protocols import (
    Protocol,
    leaking,
    parse_fold,
    parse_shift,
    recorded_protocol,
    split_as_trained,
)
from numclip.calibration.data.samples import Sample
from numclip.errors import DataError, UsageError
from numclip.runtime.contract.fields import Json


def people(n: int = 60, pictures: int = 4, **more) -> Dataset:
    """A data set of n people with a given number of pictures each; labels 0 to 9, 0 the most frequent."""
    labels = np.random.default_rng(0).geometric(0.3, n * pictures).clip(1, 10) - 1
    samples = tuple(
        Sample(f"{i}.jpg", float(label), subject=str(i // pictures), **more) for i, label in enumerate(labels)
    )
    return Dataset("people", "table", Path("."), samples, lambda name: b"")


def homes(data: Dataset) -> dict[str, set[str | None]]:
    """The splits in which each person appears."""
    found: dict[str, set[str | None]] = {}
    for s in data.samples:
        found.setdefault(str(s.subject), set()).add(s.split)
    return found


def test_splits_keep_persons_apart() -> None:
    """By default every person is in one split; the splits have about 70, 10 and 20 % of the pictures, and do not depend on the seed:
    a stage with another seed must not train on the pictures that this one is tested on."""
    data = Protocol(seed=3).splits(people())
    assert all(len(splits) == 1 for splits in homes(data).values())
    assert Counter(s.split for s in data.samples) == {"train": 168, "val": 24, "test": 48}
    assert leaking(data) == (0, 48)
    assert Protocol(seed=4).splits(people()).samples == data.samples


def test_random_splits_leak_and_say_so() -> None:
    """The papers' random split puts the same people into train and test, and their number is reported."""
    data = Protocol(split="random").splits(people())
    shared = leaking(data)
    assert shared is not None and shared[1] == 48 and shared[0] > 40


@pytest.mark.parametrize("rule", [None, "random"])
def test_folds_partition(rule: str | None) -> None:
    """Over five folds every picture is tested once; in each fold train, val and test are disjoint and complete."""
    tested: list[str] = []
    for i in range(5):
        data = Protocol(split=rule, fold=(i, 5)).splits(people())
        assert {s.split for s in data.samples} == {"train", "val", "test"}
        assert rule == "random" or all(len(splits) == 1 for splits in homes(data).values())
        tested += [s.file for s in data.samples if s.split == "test"]
    assert sorted(tested) == sorted(s.file for s in people().samples)


def own(fold_of, split_of=lambda i: None) -> Dataset:
    data = people()
    samples = tuple(
        Sample(s.file, s.label, split=split_of(i), subject=s.subject, fold=fold_of(i))
        for i, s in enumerate(data.samples)
    )
    return Dataset("own", "morph2", Path("."), samples, lambda name: b"")


def test_own_folds_serve_where_they_keep_persons_apart() -> None:
    """If the data set's own folds keep people apart (Adience), they are used, and val gets a tenth of the other people."""
    data = Protocol(fold=(2, 5)).splits(own(lambda i: i // 4 % 5))
    assert {s.fold for s in data.samples if s.split == "test"} == {2}
    assert all(len(splits) == 1 for splits in homes(data).values())


def test_own_lists_that_leak_are_used_only_when_asked_for() -> None:
    """If the data set's own lists leak people (MORPH), the default is a split by person; --split-by own uses the lists and reports
    the leak."""
    leaky = own(lambda i: i % 5)
    assert all(len(splits) == 1 for splits in homes(Protocol(fold=(0, 5)).splits(leaky)).values())
    taken = Protocol(split="own", fold=(0, 5)).splits(leaky)
    assert {s.fold for s in taken.samples if s.split == "test"} == {0} and (leaking(taken) or (0,))[0] > 0
    listed = own(lambda i: None, lambda i: "test" if i % 4 == 0 else "train")
    assert (leaking(Protocol().splits(listed)) or (1,))[0] == 0
    taken = Protocol(split="own").splits(listed)
    assert [s.split == "test" for s in taken.samples] == [i % 4 == 0 for i in range(240)]
    assert Counter(s.split for s in taken.samples)["val"] > 0, "val gets a tenth of the people of train"


def test_whole_splits_stay_as_they_are() -> None:
    """A data set with its own train, val and test splits, and no leak, is returned unchanged."""
    data = Protocol().splits(people())
    assert Protocol(seed=9).splits(data) is data


def test_near_duplicates_stay_with_their_person() -> None:
    """Pictures that are linked by a person or by a group of near duplicates, also over several pictures, are in one split and one fold:
    here always person 2i, person 2i+1 and a picture of an unknown person, in one group."""
    rows = [(f"{i}{who}.jpg", who, str(i)) for i in range(60) for who in (f"p{2 * i}", f"p{2 * i + 1}", None)]
    rows += [(f"{i}more.jpg", f"p{2 * i}", None) for i in range(60)]
    samples = tuple(Sample(file, 30.0, subject=who, near_duplicate_group=group) for file, who, group in rows)
    data = Dataset("linked", "table", Path("."), samples, lambda name: b"")
    for protocol in (Protocol(), Protocol(fold=(1, 5))):
        found: dict[str, set[str | None]] = {}
        for (_, who, group), sample in zip(rows, protocol.splits(data).samples, strict=True):
            found.setdefault(group or str(int(str(who)[1:]) // 2), set()).add(sample.split)
        assert len(found) == 60 and all(len(splits) == 1 for splits in found.values())


@pytest.mark.parametrize("field", ["subject", "near_duplicate_group"])
def test_drawn_splits_never_change(field: str) -> None:
    """The splits of data with only persons, or only groups, are those that earlier versions drew: models trained with them exist."""
    samples = tuple(replace(Sample(f"{i}.jpg", 30.0), **{field: f"p{i // 3}"}) for i in range(300))
    drawn = Protocol().splits(Dataset("few", "table", Path("."), samples, lambda name: b""))
    said = " ".join(str(s.split) for s in drawn.samples)
    assert hashlib.sha256(said.encode()).hexdigest()[:16] == "857793f2cabe15b2"


@pytest.mark.parametrize("flags", [{"split_by": "random"}, {"split_by": "subject"}, {"fold": [0, 5]}, {}])
def test_own_splits_that_did_not_train_are_not_tested_on(flags: dict[str, Json]) -> None:
    """A data set with own splits that a training did not use, by its flags or because its lists put a person into train and test, gets
    the splits of that training: no picture of train is in test."""
    listed = own(lambda i: None, lambda i: "test" if i % 4 == 0 else "train")
    drawn = recorded_protocol(flags).splits(listed)
    trained = {s.file for s in drawn.samples if s.split == "train"}
    record: dict[str, Json] = {"flags": flags, "data": {listed.short_name: {"n": len(trained)}}}
    tested = split_as_trained(listed, record).select(None).samples
    assert tested and not trained & {s.file for s in tested}


def test_own_splits_that_trained_stay(caplog: pytest.LogCaptureFixture) -> None:
    """A data set whose own splits trained a model is unchanged. If pictures were added since, a warning says so."""
    whole = Protocol().splits(people())
    record: dict[str, Json] = {"flags": {"split_by": None}, "data": {whole.short_name: {"n": 168}}}
    assert split_as_trained(whole, record) is whole and not caplog.records
    more = replace(whole, samples=(*whole.samples, Sample("new.jpg", 1.0, "train")))
    assert split_as_trained(more, record) is more
    assert "with 168 pictures, but here 169 would train" in caplog.text


def test_a_set_without_splits_is_tested_where_it_did_not_train(caplog: pytest.LogCaptureFixture) -> None:
    """A data set without splits that trained a model gets the splits of that training, folds included. Another one stays whole, also
    one of the same file name with another number of pictures, which is a warning."""
    drawn = Protocol(fold=(1, 5)).splits(people())
    n = sum(s.split == "train" for s in drawn.samples)
    counts: dict[str, Json] = {"n": n - 3, "skipped": 2, "copies": 1, "conflicting": 0}
    trained: dict[str, Json] = {
        "data": {people().short_name: counts},
        "flags": {"split_by": None, "fold": [1, 5], "seed": 62},
    }
    assert split_as_trained(people(), trained).samples == drawn.samples
    quick: dict[str, Json] = {"data": {people().short_name: {"n": 50}}, "flags": {"smoke": True, "fold": [1, 5]}}
    assert split_as_trained(people(), quick).samples == drawn.samples, "--smoke takes fewer faces"
    other: dict[str, Json] = {**trained, "data": {people().short_name: {**counts, "n": n}}}
    unknowns: tuple[dict[str, Json], ...] = ({**trained, "data": {"table:other.csv": counts}}, other, {})
    for unknown in unknowns:
        caplog.clear()
        assert split_as_trained(people(), unknown).samples == people().samples
        assert ("a data set of this name" in caplog.text) == (unknown is other)


def test_few_shots() -> None:
    """Few-shot selection keeps up to K pictures per label in their order; labels with fewer pictures keep all."""
    samples = people().samples
    have = Counter(s.label for s in samples)
    for shots in (1, 2, 4, 8, 16, 32, 64):
        chosen = Protocol(shots=shots).training(samples)
        assert Counter(s.label for s in chosen) == {label: min(shots, n) for label, n in have.items()}
        assert list(chosen) == [s for s in samples if s in chosen]
    assert Protocol(shots=2).training(samples) == Protocol(shots=2).training(samples)
    assert Protocol(shots=2, seed=1).training(samples) != Protocol(shots=2).training(samples)


def test_shift() -> None:
    """Label shift keeps a tenth, at least one picture, of the 3 most frequent labels and all of the others; few-shot comes first."""
    samples = people().samples
    have = Counter(s.label for s in samples)
    most = [label for label, _ in have.most_common(3)]
    chosen = Counter(s.label for s in Protocol(shift=(3, 0.1)).training(samples))
    assert chosen == {label: max(1, int(n * 0.1)) if label in most else n for label, n in have.items()}
    both = Counter(s.label for s in Protocol(shots=5, shift=(10, 0.2)).training(samples))
    assert set(both.values()) == {1}


def test_limit() -> None:
    """A limit selects pictures at random and keeps their order."""
    chosen = Protocol(limit=50).training(people().samples)
    assert len(chosen) == 50 and [int(s.file[:-4]) for s in chosen] == sorted(int(s.file[:-4]) for s in chosen)
    assert Protocol(limit=1000).training(people().samples) == people().samples


@pytest.mark.parametrize("text", ["5/5", "1", "a/b", "-1/5", "0/1", "1/2/3", "\u00b2/5"])
def test_bad_folds(text: str) -> None:
    """A fold other than I/N with 0 <= I < N is an error that shows the right form."""
    with pytest.raises(UsageError, match="as 0/5"):
        parse_fold(text)
    assert parse_fold("4/5") == (4, 5)


@pytest.mark.parametrize("text", ["10", "0:0.1", "10:1.5", "x:0.1", "10:0"])
def test_bad_shifts(text: str) -> None:
    """A shift other than TOPK:SCALE is an error that shows the right form."""
    with pytest.raises(UsageError, match=r"as 20:0\.1"):
        parse_shift(text)
    assert parse_shift("40:0.2") == (40, 0.2)


def test_too_few_to_split() -> None:
    """Two people cannot be split into three splits, and own splits that do not exist cannot be used; both are errors."""
    with pytest.raises(DataError, match="expected at least 3 persons"):
        Protocol().splits(people(2))
    with pytest.raises(UsageError, match="has no splits of its own"):
        Protocol(split="own").splits(people())
    with pytest.raises(UsageError, match="does not have 5 folds of its own"):
        Protocol(split="own", fold=(0, 5)).splits(people())
