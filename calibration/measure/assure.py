"""Measure an age gate as age-assurance evaluations do: by year of age, group, challenge age and setting, with exact intervals.

Every count refers to rows of the returned table of faces, so that anybody can repeat it. The names of the figures follow NIST's
FATE Age Estimation and Verification: a false positive is somebody below the threshold who gets yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import DataError, UsageError
from ...runtime.contract.gate import DEFAULT_ERROR, Gate, open_gate
from ...runtime.contract.gate_table import AROUND, NEAR, people_needed
from ...runtime.contract.model_file import resolve
from ...runtime.contract.readings import Readings
from ...runtime.contract.spec import ModelSpec
from ...runtime.faces.quality import disbelief
from ...runtime.sessions.model import Model, load
from ..data.crop_cache import DEFAULT_DETECTOR, FaceCrops
from ..data.datasets import open_data
from ..data.protocols import split_as_trained
from ..exact import clopper_pearson
from ..gate_limits import near_above, near_below
from .degrade import compressed, second_look
from .measures import SMALL, gate_answers
from .predictor import joined, predict, predict_dataset

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]
CHALLENGES = 20  # ages from the threshold on, in the curve
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
COSTS = (1.0, 5.0, 20.0, 100.0)
REPEATED = 400  # faces measured again on altered pictures, those near the threshold first
LOOKS = 8
JPEG_QUALITY = 30
FOUR_FIFTHS = (0.8, 1.25)  # ratios between these count as equal
AGAIN = ("mirror", "jitter", "jpeg")


@dataclass(frozen=True)
class AssureOptions:
    """What `assure` measures."""

    model: Model | str | Path
    """An open model, or a name or file that `numclip.load` opens."""
    data: Sequence[str]
    """Labelled faces, as `utkface:PATH` or `table:FILE.csv`."""
    threshold: float = 18.0
    """The gate's age, in years: is the person at least this old?"""
    challenge: float = 25.0
    """The challenge age: yes only to people whose estimated age is at least this."""
    error: float = DEFAULT_ERROR
    """The error rate of the gate that is measured besides the challenge age."""
    split: str | None = None
    """train, val, calibration, test or all; None: test if the data set has splits, else all."""
    detector: str = DEFAULT_DETECTOR
    """The face detector."""
    device: str = "auto"
    """Device of a model that is given by name or file."""
    threads: int | None = None
    """CPU threads of such a model; None: chosen by the inference library."""


@dataclass(frozen=True)
class Share:
    """A count of n with its share and the exact 95 % interval (Clopper and Pearson); None for n = 0."""

    hits: int
    n: int
    share: float | None
    low: float | None
    high: float | None

    @staticmethod
    def of(holds: Mask) -> Share:
        """The share of true values in a mask [n]."""
        n, hits = len(holds), int(holds.sum())
        return Share(0, 0, None, None, None) if n == 0 else Share(hits, n, hits / n, *clopper_pearson(hits, n))


@dataclass(frozen=True)
class Answered:
    """How often each answer was given to a set of people."""

    yes: Share
    no: Share
    ask: Share

    @staticmethod
    def of(said: Texts) -> Answered:
        """Count the answers [n]."""
        return Answered(*(Share.of(said == answer) for answer in ("yes", "no", "ask")))


@dataclass(frozen=True)
class Setting:
    """One setting of the gate."""

    dial: str  # error, challenge or cost
    at: float
    refused: str | None  # why the calibration cannot guarantee it; then the other fields are None
    bound: float | None = None  # guaranteed bound for people near below
    yes_above: float | None = None  # log odds; None with a challenge age
    no_below: float | None = None
    center: float | None = None
    below: Answered | None = None  # people within NEAR below the threshold: yes is a false positive
    above: Answered | None = None  # people within NEAR above: no is a false negative
    around: Answered | None = None  # people up to AROUND above: without a yes they are not accepted
    clear: Answered | None = None  # people from AROUND above on


@dataclass(frozen=True)
class Year:
    """People of one year of age."""

    age: int
    n: int
    mae: float  # in years, as bias
    bias: float  # mean of estimated - true value
    gate: Answered
    challenge: Answered


@dataclass(frozen=True)
class Cell:
    """People of one group and one range of age."""

    group: Mapping[str, str]  # column: value
    low: float
    high: float | None  # None: no upper end
    few: bool  # fewer than SMALL
    gate: Answered
    challenge: Answered


@dataclass(frozen=True)
class Point:
    """One challenge age of the curve over challenge ages."""

    age: float
    false_positive: Share  # of people near below
    troubled: Share  # of people up to AROUND above: estimated as younger
    troubled_clear: Share  # of people from AROUND above on


@dataclass(frozen=True)
class Trade:
    """One point of the trade-off between both errors, as in a DET plot."""

    limit: float
    false_positive: float  # share of people near below who exceed the limit
    false_negative: float  # share of people near above who do not exceed it


@dataclass(frozen=True)
class Again:
    """How the answers change on a second picture of the same faces."""

    kind: str  # mirror, jitter or jpeg
    n: int
    mean_difference: float  # of the value, in years
    p95_difference: float
    other_answer: Share  # of the gate
    other_challenge: Share  # of the challenge age


@dataclass(frozen=True)
class Parity:
    """The ratio of a rate between two groups. Its interval combines both rates' 97.5 % intervals, so it holds with at least 95 %."""

    rate: str
    column: str
    groups: tuple[str, str]
    shares: tuple[Share, Share]
    ratio: float | None
    low: float | None
    high: float | None  # None: no upper end
    verdict: str  # equal, different, or undecided


@dataclass(frozen=True, eq=False)
class Faces:
    """The table of faces that the counts refer to."""

    data: Texts
    file: Texts
    low: Floats  # [N] ends of what is known of the age
    high: Floats
    value: Floats
    interval_low: Floats
    interval_high: Floats
    log_odds: Floats
    widening: Floats
    reason: Texts  # why the reading is rejected, so that the answer is ask; "" if it is not
    gate: Texts
    challenge: Texts
    groups: Mapping[str, Texts]  # column: [N], "" if not known
    again: Mapping[str, Floats]  # kind: [N] value, NaN if the face was not measured again
    again_gate: Mapping[str, Texts]
    again_challenge: Mapping[str, Texts]

    @property
    def exact(self) -> Mask:
        """Whether [N] each age is known to the year."""
        return self.low == self.high

    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """All columns by name, as they are written."""
        names = (
            "data",
            "file",
            "low",
            "high",
            "value",
            "interval_low",
            "interval_high",
            "log_odds",
            "widening",
            "reason",
        )
        table: dict[str, npt.NDArray[np.generic]] = {name: getattr(self, name) for name in names}
        table |= {"gate": self.gate, "challenge": self.challenge}
        table |= {f"group_{column}": values for column, values in self.groups.items()}
        for kind in self.again:
            table |= {f"{kind}_value": self.again[kind], f"{kind}_gate": self.again_gate[kind]}
            table[f"{kind}_challenge"] = self.again_challenge[kind]
        return table


@dataclass(frozen=True)
class Assurance:
    """The complete result."""

    model: str
    graph_sha256: str
    calibration_date: str
    data: tuple[str, ...]
    split: str
    detector: str
    threshold: float
    challenge: float
    error: float
    n: int
    skipped: int
    repeats: int  # further pictures of persons that the data names; of each person, one picture is measured
    near_below: int
    near_above: int
    settings: tuple[Setting, ...]
    years: tuple[Year, ...]
    cells: tuple[Cell, ...]
    bands: tuple[Cell, ...]  # people whose age is known as a band on one side of the threshold
    curve: tuple[Point, ...]
    trade: Mapping[str, tuple[Trade, ...]]  # by log_odds and by value
    again: tuple[Again, ...]
    parity: tuple[Parity, ...]

    def to_json(self) -> dict[str, object]:
        """As one JSON object."""
        return {"schema_version": 1, **asdict(self)}


def assure(options: AssureOptions) -> tuple[Assurance, Faces]:
    """Measure the gate on one picture per person, the one whose age is nearest to the threshold.

    Raises UsageError, ModelError, DataError, DetectorError.
    """
    model = (
        options.model
        if isinstance(options.model, Model)
        else load(resolve(options.model), options.device, options.threads)
    )
    spec, at = model.spec, options.threshold
    gate = open_gate(spec, at, options.error)
    challenge = open_gate(spec, at, options.error, challenge=options.challenge)
    opened = [split_as_trained(open_data(text), spec.provenance.training) for text in options.data]
    names = [dataset.short_name for dataset in opened]
    splits = sorted({options.split or dataset.default_split for dataset in opened})
    parts = [predict_dataset(model, dataset.select(options.split), options.detector) for dataset in opened]
    pictures = sum(len(part.faces.samples) for part in parts)
    parts = [part.one_per_person(at) for part in parts]
    readings = joined([part.readings for part in parts])
    samples = [sample for part in parts for sample in part.faces.samples]
    lows, highs = np.concatenate([part.faces.ends for part in parts]).T
    below, above = near_below(at, lows, highs), near_above(at, lows, highs)
    _check_people(options, lows, highs, below, above)
    ends = readings.interval(0.9).astype(np.float64)
    again = _look_again(model, [part.faces for part in parts], _chosen(below | above))
    columns = sorted({column for sample in samples for column in sample.groups})
    reasons = _reasons(readings)
    faces = Faces(
        data=np.array([name for name, part in zip(names, parts) for _ in part.faces.samples]),
        file=np.array([sample.file for sample in samples]),
        low=lows,
        high=highs,
        value=readings.value.astype(np.float64),
        interval_low=ends[:, 0],
        interval_high=ends[:, 1],
        log_odds=readings.log_odds(at).astype(np.float64),
        widening=readings.widening.astype(np.float64),
        reason=reasons,
        gate=_said(gate, [readings], reasons),
        challenge=_said(challenge, [readings], reasons),
        groups={c: np.array([sample.groups.get(c, "") for sample in samples]) for c in columns},
        again={kind: _spread(_values(looks), places, len(samples)) for kind, (looks, places) in again.items()},
        again_gate={k: _spread_texts(_said(gate, r, reasons[p]), p, len(samples)) for k, (r, p) in again.items()},
        again_challenge={
            k: _spread_texts(_said(challenge, r, reasons[p]), p, len(samples)) for k, (r, p) in again.items()
        },
    )
    assert spec.calibration is not None
    return (
        Assurance(
            model=spec.name,
            graph_sha256=spec.calibration.graph_sha256,
            calibration_date=spec.calibration.date,
            data=tuple(names),
            split=", ".join(splits),
            detector=options.detector,
            threshold=at,
            challenge=options.challenge,
            error=options.error,
            n=len(samples),
            skipped=sum(len(part.faces.skipped) for part in parts),
            repeats=pictures - len(samples),
            near_below=int(below.sum()),
            near_above=int(above.sum()),
            settings=tuple(_settings(spec, options, readings, faces)),
            years=tuple(_years(faces)),
            cells=tuple(_cells(faces, at)),
            bands=tuple(_bands(faces, at)),
            curve=tuple(_curve(faces, at)),
            trade={"log_odds": _trade(faces.log_odds, below, above), "value": _trade(faces.value, below, above)},
            again=tuple(_again(faces, kind) for kind in faces.again),
            parity=tuple(_parity(faces, at)),
        ),
        faces,
    )


def _check_people(options: AssureOptions, lows: Floats, highs: Floats, below: Mask, above: Mask) -> None:
    """Raise DataError if there are too few people to measure with."""
    at, sets = options.threshold, ", ".join(options.data)
    for side, near in (("below", below), ("at or above", above)):
        if near.any():
            continue
        straddling = int(((lows < at) & (highs >= at)).sum())
        if straddling:
            raise DataError(
                f"{sets}: {straddling} faces have an age band that includes {at:g}, and no face is known to be within {NEAR:g} "
                f"years {side} it; use data with exact ages"
            )
        raise DataError(
            f"{sets}: expected people within {NEAR:g} years {side} {at:g}, found none; add data with such ages"
        )
    needed = people_needed(options.error)
    if int(below.sum()) < needed:
        raise DataError(
            f"{sets}: expected at least {needed} people within {NEAR:g} years below {at:g}, which an error rate of "
            f"{options.error:g} needs, got {int(below.sum())}; use more data, or a higher --gate-error"
        )


def _settings(spec: ModelSpec, options: AssureOptions, readings: Readings, faces: Faces) -> list[Setting]:
    """Every setting: error rates, challenge ages and costs."""
    at = options.threshold
    dials = [("error", rate) for rate in sorted({*ERRORS, options.error})]
    dials += [("challenge", age) for age in sorted({*(at + i for i in range(16)), options.challenge})]
    dials += [("cost", cost) for cost in COSTS]
    found: list[Setting] = []
    for dial, setting in dials:
        try:
            gate = _gate(spec, at, options.error, dial, setting)
        except UsageError as refusal:
            found.append(Setting(dial, setting, str(refusal)))
            continue
        said = _said(gate, [readings], faces.reason)
        sides = (near_below(at, faces.low, faces.high), near_above(at, faces.low, faces.high), *_upwards(faces, at))
        yes_above = None if gate.challenge is not None else gate.yes_above
        limits = gate.error, yes_above, gate.no_below, gate.center
        found.append(Setting(dial, setting, None, *limits, *(Answered.of(said[side]) for side in sides)))
    return found


def _said(gate: Gate, looks: Sequence[Readings], reasons: Texts) -> Texts:
    """The gate's answers [N]; ask for a face whose reading a run would reject."""
    return np.where(reasons == "", gate_answers(gate, looks), "ask")


def _reasons(readings: Readings) -> Texts:
    """The reason [N] why a run would reject the reading; empty if it would not."""
    sharp = np.full(len(readings), np.inf) if readings.sharpness is None else readings.sharpness
    return np.array([disbelief(reading, s) or "" for reading, s in zip(readings, sharp.tolist())])


def _gate(spec: ModelSpec, threshold: float, error: float, dial: str, setting: float) -> Gate:
    if dial == "error":
        return open_gate(spec, threshold, setting)
    if dial == "challenge":
        return open_gate(spec, threshold, error, challenge=setting)
    return open_gate(spec, threshold, error, cost=setting)


def _upwards(faces: Faces, at: float) -> tuple[Mask, Mask]:
    """Masks [N] of people up to AROUND above the threshold, and of those from there on."""
    return (faces.low >= at) & (faces.high < at + AROUND), faces.low >= at + AROUND


def _years(faces: Faces) -> list[Year]:
    ages = np.floor(faces.low)
    found: list[Year] = []
    for age in np.unique(ages[faces.exact]).astype(int).tolist():
        one = faces.exact & (ages == age)
        error = faces.value[one] - faces.low[one]
        said = Answered.of(faces.gate[one]), Answered.of(faces.challenge[one])
        found.append(Year(age, int(one.sum()), float(np.abs(error).mean()), float(error.mean()), *said))
    return found


def _cells(faces: Faces, at: float) -> list[Cell]:
    """By every combination of groups, and by age range around the threshold, for people whose age is known to the year."""
    ranges = [(0.0, at - NEAR), (at - NEAR, at), (at, at + NEAR), (at + NEAR, at + AROUND), (at + AROUND, None)]
    columns = [column for column, values in faces.groups.items() if 1 < len(set(values.tolist()) - {""}) <= 12]
    wanted = [()] + [chosen for many in range(1, len(columns) + 1) for chosen in combinations(columns, many)]
    found: list[Cell] = []
    for chosen in wanted:
        members = (
            np.array(list(zip(*(faces.groups[c] for c in chosen)))) if chosen else np.zeros((len(faces.low), 0), str)
        )
        for values in np.unique(members, axis=0) if chosen else members[:1]:
            if "" in values.tolist():
                continue
            inside = faces.exact & (members == values).all(axis=1)
            for low, high in ranges:
                one = inside & (faces.low >= low) & (faces.low < (np.inf if high is None else high))
                if one.any():
                    group = dict(zip(chosen, values.tolist()))
                    found.append(_cell(faces, one, group, low, high))
    return found


def _bands(faces: Faces, at: float) -> list[Cell]:
    """By band, for people whose age is known as a band on one side of the threshold."""
    found: list[Cell] = []
    one_side = ~faces.exact & ((faces.high < at) | (faces.low >= at))
    for low, high in sorted(set(zip(faces.low[one_side].tolist(), faces.high[one_side].tolist()))):
        one = (faces.low == low) & (faces.high == high)
        found.append(_cell(faces, one, {}, low, None if np.isinf(high) else high))
    return found


def _cell(faces: Faces, one: Mask, group: Mapping[str, str], low: float, high: float | None) -> Cell:
    answered = Answered.of(faces.gate[one]), Answered.of(faces.challenge[one])
    return Cell(group, low, high, int(one.sum()) < SMALL, *answered)


def _curve(faces: Faces, at: float) -> list[Point]:
    """False positives and unnecessary checks by challenge age, from the value alone."""
    below = near_below(at, faces.low, faces.high)
    around, clear = _upwards(faces, at)
    return [
        Point(
            age,
            Share.of(faces.value[below] >= age),
            Share.of(faces.value[around] < age),
            Share.of(faces.value[clear] < age),
        )
        for age in (at + np.arange(CHALLENGES + 1)).tolist()
    ]


def _trade(evidence: Floats, below: Mask, above: Mask) -> tuple[Trade, ...]:
    """Both errors at every limit on the evidence, highest first."""
    young, old = evidence[below], evidence[above]
    limits = np.unique(np.concatenate([young, old]))[::-1].tolist()
    return tuple(Trade(at, float((young > at).mean()), float((old <= at).mean())) for at in limits)


def _chosen(near: Mask) -> npt.NDArray[np.intp]:
    """The faces to measure again: all near the threshold, and others evenly."""
    others = np.flatnonzero(~near)
    many = min(len(others), max(0, REPEATED - int(near.sum())))
    even = others[np.linspace(0, len(others) - 1, many).round().astype(np.intp)] if many else others[:0]
    return np.sort(np.concatenate([np.flatnonzero(near), even]))


Looks = dict[str, tuple[list[Readings], npt.NDArray[np.intp]]]


def _look_again(model: Model, parts: Sequence[FaceCrops], chosen: npt.NDArray[np.intp]) -> Looks:
    """Readings of the same faces mirrored, jittered (LOOKS times), and compressed, and the face of each."""
    random = np.random.default_rng(0)
    starts = np.cumsum([0, *(len(part.samples) for part in parts)])
    crops: list[npt.NDArray[np.uint8]] = []
    for i in chosen.tolist():
        part = int(np.searchsorted(starts, i, side="right")) - 1
        crops.append(np.asarray(parts[part].crops[int(i - starts[part])]))
    mirrored = [predict(model, np.stack([crop[:, ::-1] for crop in crops]))]
    jittered = [predict(model, np.stack([second_look(crop, random) for crop in crops])) for _ in range(LOOKS)]
    squeezed = [predict(model, np.stack([compressed(crop, JPEG_QUALITY) for crop in crops]))]
    return {kind: (looks, chosen) for kind, looks in zip(AGAIN, (mirrored, jittered, squeezed))}


def _values(looks: Sequence[Readings]) -> Floats:
    """The mean value [n] of the looks at each face."""
    return np.mean([look.value.astype(np.float64) for look in looks], axis=0)


def _spread(values: Floats, places: npt.NDArray[np.intp], n: int) -> Floats:
    out = np.full(n, np.nan)
    out[places] = values
    return out


def _spread_texts(values: Texts, places: npt.NDArray[np.intp], n: int) -> Texts:
    out = np.full(n, "", dtype="<U3")
    out[places] = values
    return out


def _again(faces: Faces, kind: str) -> Again:
    seen = ~np.isnan(faces.again[kind])
    apart = np.abs(faces.again[kind][seen] - faces.value[seen])
    return Again(
        kind,
        int(seen.sum()),
        float(apart.mean()),
        float(np.quantile(apart, 0.95)),
        Share.of(faces.again_gate[kind][seen] != faces.gate[seen]),
        Share.of(faces.again_challenge[kind][seen] != faces.challenge[seen]),
    )


def _parity(faces: Faces, at: float) -> list[Parity]:
    """Ratios between each two members of each group: of false positives near the threshold, and of people up to AROUND above it who
    do not get yes.
    """
    below = near_below(at, faces.low, faces.high)
    rates = {
        "false positive": (below, faces.gate == "yes"),
        "troubled": (_upwards(faces, at)[0], faces.gate != "yes"),
        "false positive at the challenge age": (below, faces.challenge == "yes"),
        "troubled at the challenge age": (_upwards(faces, at)[0], faces.challenge != "yes"),
    }
    found: list[Parity] = []
    for column, values in faces.groups.items():
        members = sorted(set(values.tolist()) - {""})
        if not 1 < len(members) <= 12:
            continue
        for name, (people, holds) in rates.items():
            for one, two in combinations(members, 2):
                found.append(_compared(name, column, (one, two), *(holds[people & (values == m)] for m in (one, two))))
    return found


def _compared(rate: str, column: str, groups: tuple[str, str], one: Mask, two: Mask) -> Parity:
    shares = Share.of(one), Share.of(two)
    if not (len(one) and len(two)):
        return Parity(rate, column, groups, shares, None, None, None, "undecided")
    (a, b), (c, d) = (clopper_pearson(share.hits, share.n, 0.975) for share in shares)
    low, high = a / d, None if c == 0 else b / c
    ratio = None if shares[1].hits == 0 else (shares[0].hits / shares[0].n) / (shares[1].hits / shares[1].n)
    equal = low >= FOUR_FIFTHS[0] and high is not None and high <= FOUR_FIFTHS[1]
    different = low > 1 or (high is not None and high < 1)
    verdict = "different" if different else "equal" if equal else "undecided"
    return Parity(rate, column, groups, shares, ratio, low, high, verdict)
