"""The usual evaluation protocols, as pure functions on samples: splits and folds that keep persons apart, few-shot, label shift.

Every choice depends only on the samples' names, and that of the training pictures also on a seed, so it is the same in every run
and process. Splits do not depend on the seed: a training that starts from another one, or is distilled from it, and an evaluation
must not see each other's pictures.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError, UsageError
from ...runtime.contract.fields import JsonObject
from .datasets import Dataset, Sample

logger = logging.getLogger(__name__)

TEST_SHARE, VAL_SHARE = 0.2, 0.1  # of the pictures, for a data set without splits; the rest trains
SPLIT_RULES = ("own", "subject", "random")


@dataclass(frozen=True)
class Protocol:
    """How samples are chosen for training, validation and test."""

    split: str | None = None  # own, subject or random; None: own if it keeps persons apart, else subject
    fold: tuple[int, int] | None = None  # (I, N): fold I tests, the rest is train and val
    shots: int | None = None  # most training pictures per whole label
    shift: tuple[int, float] | None = None  # (TOPK, share): only this share of the TOPK most frequent labels trains
    limit: int | None = None  # most training pictures, at random
    seed: int = 0  # of the choice of training pictures

    def splits(self, dataset: Dataset) -> Dataset:
        """The data set with train, val or test in every sample; unchanged if its own splits can be used.

        If its own lists have only train and test, a tenth of the persons of train becomes val.
        """
        if self.fold is None:
            has_own = any(s.split for s in dataset.samples)
            if self.split == "own" and not has_own:
                raise UsageError(
                    f"{dataset.name}: has no splits of its own, which --split-by own needs; leave --split-by out"
                )
            if has_own and (self.split == "own" or (self.split is None and not _leaks(dataset))):
                return with_choosing(dataset)
            return with_splits(dataset, self.split or "subject")
        own = in_own_folds(dataset, self.fold)
        if own is not None and (self.split == "own" or (self.split is None and not _leaks(own))):
            return with_choosing(own)
        if self.split == "own":
            raise UsageError(
                f"{dataset.name}: does not have {self.fold[1]} folds of its own, which --split-by own needs; leave --split-by "
                "out"
            )
        return in_folds(dataset, self.fold, self.split or "subject")

    def training(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """The training samples that the protocol keeps: few-shot first, then the label shift, then the limit."""
        chosen = tuple(samples)
        if self.shots is not None:
            chosen = few_shot(chosen, self.shots, self.seed)
        if self.shift is not None:
            chosen = shifted(chosen, *self.shift, self.seed)
        if self.limit is not None and self.limit < len(chosen):
            kept = np.random.default_rng([self.seed, 3]).permutation(len(chosen))[: self.limit]
            chosen = tuple(chosen[i] for i in sorted(kept))
        return chosen


def recorded_protocol(flags: Mapping[str, object]) -> Protocol:
    """How a training split its data, by the flags that it recorded."""
    rule, fold = flags.get("split_by"), flags.get("fold")
    ends = [number for number in fold if isinstance(number, int)] if isinstance(fold, (list, tuple)) else []
    return Protocol(rule if isinstance(rule, str) else None, (ends[0], ends[1]) if len(ends) == 2 else None)


def split_as_trained(dataset: Dataset, training: JsonObject) -> Dataset:
    """The data set with the splits that a model's training used, if the model was trained on it; else unchanged.

    training: what a training recorded (`spec.provenance.training`). A data set is recognised by its kind, its file name, and the
    number of pictures that would train; warns if only the number differs. Without this, a data set whose own splits the training did
    not use, or that has none, would be tested on the pictures that trained the model.
    """
    flags, data = training.get("flags"), training.get("data")
    counts = data.get(dataset.short_name) if isinstance(data, dict) else None
    if not isinstance(flags, dict) or not isinstance(counts, dict):
        return dataset
    try:
        drawn = recorded_protocol(flags).splits(dataset)
        trained = sum(s.split == "train" for s in drawn.samples)
    except (DataError, UsageError):  # it cannot be split like this: it did not train anything
        drawn, trained = dataset, 0
    seen = sum(n for n in counts.values() if isinstance(n, int))
    fewer = flags.get("smoke") is True or any(flags.get(name) is not None for name in ("shots", "shift", "num_faces"))
    if seen == trained or (fewer and seen < trained):
        if drawn is not dataset:
            logger.info("%s trained this model, so its splits are those of that training", dataset.name)
        return drawn
    logger.warning(
        "warning: %s: a data set of this name trained the model with %d pictures, but here %d would train; if it is the same one, "
        "restore it, because pictures that trained the model may be measured",
        *(dataset.name, seen, trained),
    )
    return dataset


def few_shot(samples: Sequence[Sample], shots: int, seed: int) -> tuple[Sample, ...]:
    """At most `shots` random samples of each whole label (each year, not each bin), in their order."""
    return _thinned(samples, lambda label, n: min(shots, n), np.random.default_rng([seed, 1]))


def shifted(samples: Sequence[Sample], top: int, share: float, seed: int) -> tuple[Sample, ...]:
    """max(1, int(n * share)) random samples of each of the `top` most frequent labels, and all others, in their order."""
    counts = Counter(round(s.middle) for s in samples)
    most = {label for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]}
    keep = lambda label, n: max(1, int(n * share)) if label in most else n  # noqa: E731
    return _thinned(samples, keep, np.random.default_rng([seed, 2]))


def _thinned(
    samples: Sequence[Sample], keep: Callable[[int, int], int], random: np.random.Generator
) -> tuple[Sample, ...]:
    places: dict[int, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        places[round(sample.middle)].append(place)
    kept: list[int] = []
    for label in sorted(places):
        here = places[label]
        kept += [here[i] for i in random.permutation(len(here))[: keep(label, len(here))]]
    return tuple(samples[i] for i in sorted(kept))


def with_splits(dataset: Dataset, rule: str) -> Dataset:
    """Draw train, val and test at random: whole persons, or single pictures (rule `random`, which leaks persons)."""
    unit_of = _units(dataset, rule)
    order = _shuffled(dataset, unit_of)
    home: dict[Hashable, str] = {}
    sizes = Counter(map(unit_of, dataset.samples))
    done, tested, choosing = 0, *(round(share * len(dataset.samples)) for share in (TEST_SHARE, VAL_SHARE))
    for unit in order:
        home[unit] = "test" if done < tested else "val" if done < tested + choosing else "train"
        done += sizes[unit]
    return _home(dataset, lambda s: home[unit_of(s)])


def in_folds(dataset: Dataset, fold: tuple[int, int], rule: str) -> Dataset:
    """Distribute persons (or pictures, rule `random`) over N folds: fold I tests, and a tenth of the rest becomes val."""
    number, of = fold
    unit_of = _units(dataset, rule)
    tested = set(_shuffled(dataset, unit_of)[number::of])
    return with_choosing(_home(dataset, lambda s: "test" if unit_of(s) in tested else "train"), rule)


def in_own_folds(dataset: Dataset, fold: tuple[int, int]) -> Dataset | None:
    """Train and test by the data set's own folds; None if it does not have N of them."""
    number, of = fold
    own = sorted({s.fold for s in dataset.samples if s.fold is not None})
    if len(own) != of:
        return None
    return _home(dataset, lambda s: "test" if s.fold == own[number] else "train")


def with_choosing(dataset: Dataset, rule: str = "subject") -> Dataset:
    """Turn a tenth of the persons of train into val, if there is train but no val."""
    found = {s.split for s in dataset.samples}
    if "train" not in found or "val" in found:
        return dataset
    unit_of = _units(dataset, rule)
    order = _shuffled(replace(dataset, samples=tuple(s for s in dataset.samples if s.split == "train")), unit_of)
    chosen = set(order[: max(1, len(order) // 10)])
    return _home(dataset, lambda s: "val" if s.split == "train" and unit_of(s) in chosen else s.split)


def _home(dataset: Dataset, split_of: Callable[[Sample], str | None]) -> Dataset:
    return replace(dataset, samples=tuple(replace(s, split=split_of(s)) for s in dataset.samples))


def _leaks(dataset: Dataset) -> bool:
    shared = leaking(dataset)
    return shared is not None and shared[0] > 0


def leaking(dataset: Dataset) -> tuple[int, int] | None:
    """The number of test pictures whose person is also in train, and of all; None if no person is known."""
    known = [s for s in dataset.samples if s.subject]
    if not known:
        return None
    trained = {s.subject for s in known if s.split == "train"}
    tested = [s for s in known if s.split == "test"]
    return sum(s.subject in trained for s in tested), len(tested)


def _units(dataset: Dataset, rule: str) -> Callable[[Sample], Hashable]:
    """A function that gives the key of what must stay in one split: a person, a group of near duplicates, or one picture.

    Persons and groups that share a picture are one unit, also over several pictures; it has the key of its first person.
    """
    if rule == "random":
        return lambda sample: sample.file
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    for sample in dataset.samples:
        if sample.subject and sample.near_duplicate_group:
            first, second = sorted((root(("person", sample.subject)), root(("twins", sample.near_duplicate_group))))
            parents[second] = first

    def unit_of(sample: Sample) -> Hashable:
        if sample.subject:
            return root(("person", sample.subject))
        return root(("twins", sample.near_duplicate_group)) if sample.near_duplicate_group else sample.file

    return unit_of


def _shuffled(dataset: Dataset, unit_of: Callable[[Sample], Hashable]) -> list[Hashable]:
    units = sorted(set(map(unit_of, dataset.samples)), key=str)
    if len(units) < 3:
        raise DataError(f"{dataset.name}: expected at least 3 persons or pictures to split, got {len(units)}; add more")
    return [units[i] for i in np.random.default_rng([0, 0]).permutation(len(units))]


def parse_fold(text: str) -> tuple[int, int]:
    """Read `2/5` as fold 2 (counted from 0) of 5; raises UsageError."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 0 <= int(number) < int(of) and int(of) >= 2):
        raise UsageError(f"expected --fold I/N with I from 0 to N-1, such as 0/5, got {text!r}")
    return int(number), int(of)


def parse_shift(text: str) -> tuple[int, float]:
    """Read `20:0.1`: keep a tenth of the 20 most frequent labels; raises UsageError."""
    top, _, share = text.partition(":")
    try:
        parsed = int(top), float(share)
    except ValueError:
        parsed = (0, 0.0)
    if parsed[0] < 1 or not 0 < parsed[1] < 1:
        raise UsageError(f"expected --shift TOPK:SCALE with SCALE between 0 and 1, such as 20:0.1, got {text!r}")
    return parsed
