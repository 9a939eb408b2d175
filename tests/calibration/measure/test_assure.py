"""The assurance report: every rate recomputed from its table of faces, every interval compared with scipy's, and errors."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import numclip
from numclip.calibration import AssureOptions, assure
from numclip.calibration.data.datasets import open_data
from numclip.calibration.measure import assure as measuring
from numclip.calibration.measure.predictor import predict_dataset
from numclip.cli.main import main
from numclip.errors import DataError, ModelError, UsageError

Row = dict[str, str]
Report = tuple[dict[str, Any], list[Row], Path]


@pytest.fixture(scope="module")
def report(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the command on All-Age-Faces' test split: 800 faces."""
    folder = tmp_path_factory.mktemp("assure") / "report"
    data = f"aaf:{shared_data / 'data' / 'aaf.tar'}"
    assert (
        main(["assure", "age-nano", "--data", data, "--threshold", "18", "--challenge", "25", "--out", str(folder)])
        == 0
    )
    with (folder / "faces.csv").open() as file:
        rows = list(csv.DictReader(file))
    return json.loads((folder / "report.json").read_text()), rows, folder


def _shares(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if set(value) == {"hits", "n", "share", "low", "high"}:
            yield value
        else:
            for inner in value.values():
                yield from _shares(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _shares(inner)


def _count(share: dict[str, Any], rows: list[Row], holds: Callable[[Row], bool]) -> None:
    hits = sum(holds(row) for row in rows)
    assert (share["hits"], share["n"]) == (hits, len(rows))
    assert share["share"] == (hits / len(rows) if rows else None)


def _age(row: Row) -> float:
    return float(row["low"])


def _between(rows: list[Row], low: float, high: float) -> list[Row]:
    return [row for row in rows if low <= _age(row) < high]


def _answered(found: dict[str, Any], rows: list[Row], answer: Callable[[Row], str]) -> None:
    for said in ("yes", "no", "ask"):
        _count(found[said], rows, lambda row, said=said: answer(row) == said)


def test_the_report_fits_its_schema(report: Report) -> None:
    """report.json is valid by report.schema.json; with a value of a wrong type it is not."""
    jsonschema = pytest.importorskip("jsonschema", reason="needs the extra dev")
    found, _, folder = report
    schema = json.loads((folder / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "years": [{"age": 3}]}, schema)


def test_intervals_are_scipys(report: Report) -> None:
    """Each of the more than 800 shares in the report has the interval of scipy's binomtest, to 9 digits."""
    stats = pytest.importorskip("scipy.stats", reason="needs the extra study")
    shares = list(_shares(report[0]))
    assert len(shares) > 800
    for hits, n in {(share["hits"], share["n"]) for share in shares if share["n"]}:
        exact = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
        for share in shares:
            if (share["hits"], share["n"]) == (hits, n):
                assert (share["low"], share["high"]) == pytest.approx((exact.low, exact.high), abs=1e-9)


def _reasoned(row: Row, setting: dict[str, Any], threshold: float) -> str:
    """The gate's answer at a setting, computed from the row's numbers."""
    if row["reason"]:
        return "ask"
    odds, value, widening = float(row["log_odds"]), float(row["value"]), float(row["widening"])
    center = setting["center"]
    if setting["dial"] == "challenge":
        yes = value >= threshold + (setting["at"] - threshold) * max(1.0, widening)
    else:
        yes = odds > center + max(0.0, setting["yes_above"] - center) * widening
    no = odds < center - max(0.0, center - setting["no_below"]) * widening
    return "ask" if yes == no else "yes" if yes else "no"


def test_settings_are_counts_of_the_table(report: Report) -> None:
    """At every setting the answers follow from each row's odds, value and widening, and are counted by distance to 18."""
    found, rows, _ = report
    granted = [setting for setting in found["settings"] if setting["refused"] is None]
    assert {setting["dial"] for setting in granted} == {"error", "challenge", "cost"}
    ranges = {"below": (14, 18), "above": (18, 22), "around": (18, 28), "clear": (28, math.inf)}
    for setting in granted:
        for name, (low, high) in ranges.items():
            _answered(setting[name], _between(rows, low, high), lambda row, s=setting: _reasoned(row, s, 18))
    (main_one,) = [s for s in granted if (s["dial"], s["at"]) == ("error", 0.1)]
    assert [_reasoned(row, main_one, 18) for row in rows] == [row["gate"] for row in rows]
    refused = [setting for setting in found["settings"] if setting["refused"]]
    assert refused and all("which needs" in setting["refused"] for setting in refused)
    yes = [setting["below"]["yes"]["hits"] for setting in granted if setting["dial"] == "challenge"]
    assert yes == sorted(yes, reverse=True)


@pytest.mark.parametrize("challenge", [25.0, 25.5, 35.0])
def test_the_measured_challenge_age_has_a_row(challenge: float) -> None:
    """The challenge age of the report is one of its settings, once, also beyond the 16 whole years from the threshold."""
    model = numclip.load("age-nano", device="cpu", threads=1)
    readings = model(np.zeros((2, model.spec.crop.side, model.spec.crop.side, 3), np.uint8))
    ages, none = np.array([17.0, 19.0]), np.array(["", ""])
    faces: Any = SimpleNamespace(low=ages, high=ages, reason=none)
    options = AssureOptions(model, [], challenge=challenge)
    settings = measuring._settings(model.spec, options, readings, faces)  # pyright: ignore[reportPrivateUsage]
    (row,) = [s for s in settings if (s.dial, s.at) == ("challenge", challenge)]
    assert row.below is not None and row.below.yes.n == 1


def test_years_are_counts_of_the_table(report: Report) -> None:
    """For each year of age, n, mean absolute and signed error, and the answers of both settings equal those of the table."""
    found, rows, _ = report
    assert sum(year["n"] for year in found["years"]) == len(rows) == found["n"]
    for year in found["years"]:
        mine = [row for row in rows if math.floor(_age(row)) == year["age"]]
        errors = [float(row["value"]) - _age(row) for row in mine]
        assert year["n"] == len(mine)
        assert year["mae"] == pytest.approx(sum(map(abs, errors)) / len(mine), abs=1e-9)
        assert year["bias"] == pytest.approx(sum(errors) / len(mine), abs=1e-9)
        for name in ("gate", "challenge"):
            _answered(year[name], mine, lambda row, name=name: row[name])


def test_cells_are_counts_of_the_table(report: Report) -> None:
    """Each group and age range, alone and combined, equals the counts of the table; together they contain every face once."""
    found, rows, _ = report
    assert any(cell["group"] for cell in found["cells"])
    for cell in found["cells"]:
        mine = [row for row in rows if all(row[f"group_{c}"] == v for c, v in cell["group"].items())]
        mine = _between(mine, cell["low"], math.inf if cell["high"] is None else cell["high"])
        assert cell["few"] == (len(mine) < 100)
        for name in ("gate", "challenge"):
            _answered(cell[name], mine, lambda row, name=name: row[name])
    assert sum(cell["gate"]["yes"]["n"] for cell in found["cells"] if not cell["group"]) == len(rows)


def test_curve_and_trade_are_counts_of_the_table(report: Report) -> None:
    """The curve over challenge ages 18 to 38, and both errors at every limit (by odds and by value), equal counts of the table."""
    found, rows, _ = report
    assert [point["age"] for point in found["curve"]] == list(range(18, 39))
    for point in found["curve"]:
        _count(point["false_positive"], _between(rows, 14, 18), lambda row, p=point: float(row["value"]) >= p["age"])
        for name, (low, high) in {"troubled": (18, 28), "troubled_clear": (28, math.inf)}.items():
            _count(point[name], _between(rows, low, high), lambda row, p=point: float(row["value"]) < p["age"])
    young, old = _between(rows, 14, 18), _between(rows, 18, 22)
    for column, points in found["trade"].items():
        assert len(points) == len({row[column] for row in [*young, *old]})
        for point in points:
            wrong = (
                sum(float(row[column]) > point["limit"] for row in young),
                sum(float(row[column]) <= point["limit"] for row in old),
            )
            assert (point["false_positive"], point["false_negative"]) == (wrong[0] / len(young), wrong[1] / len(old))


def test_second_looks_are_counts_of_the_table(report: Report) -> None:
    """The differences and changed answers on second looks equal those of the table; every face near 18 has a second look."""
    found, rows, _ = report
    for again in found["again"]:
        kind = again["kind"]
        seen = [row for row in rows if row[f"{kind}_value"]]
        assert again["n"] == len(seen) == 400
        assert {row["file"] for row in _between(rows, 14, 22)} <= {row["file"] for row in seen}
        apart = sorted(abs(float(row[f"{kind}_value"]) - float(row["value"])) for row in seen)
        assert again["mean_difference"] == pytest.approx(sum(apart) / len(apart), abs=1e-9) and apart[-1] > 0
        assert again["p95_difference"] == pytest.approx(float(np.quantile(apart, 0.95)), abs=1e-9)
        _count(again["other_answer"], seen, lambda row, k=kind: row[f"{k}_gate"] != row["gate"])
        _count(again["other_challenge"], seen, lambda row, k=kind: row[f"{k}_challenge"] != row["challenge"])


def test_ratios_are_those_of_the_table(report: Report) -> None:
    """Both rates and their ratio equal counts of the table; the ratio's ends come from scipy's 97.5 % intervals and decide the
    verdict."""
    stats = pytest.importorskip("scipy.stats", reason="needs the extra study")
    found, rows, _ = report
    rates = {
        "false positive": (14, 18, lambda row: row["gate"] == "yes"),
        "troubled": (18, 28, lambda row: row["gate"] != "yes"),
        "false positive at the challenge age": (14, 18, lambda row: row["challenge"] == "yes"),
        "troubled at the challenge age": (18, 28, lambda row: row["challenge"] != "yes"),
    }
    assert found["parity"]
    for row in found["parity"]:
        low, high, holds = rates[row["rate"]]
        ends = []
        for group, share in zip(row["groups"], row["shares"], strict=True):
            mine = [r for r in _between(rows, low, high) if r[f"group_{row['column']}"] == group]
            _count(share, mine, holds)
            ends.append(stats.binomtest(share["hits"], share["n"]).proportion_ci(0.975, method="exact"))
        assert row["low"] == pytest.approx(ends[0].low / ends[1].high, abs=1e-9)
        assert row["high"] is None if ends[1].low == 0 else row["high"] == pytest.approx(ends[0].high / ends[1].low)
        different = row["low"] > 1 or (row["high"] or 2) < 1
        equal = row["low"] >= 0.8 and (row["high"] or 2) <= 1.25
        assert row["verdict"] == ("different" if different else "equal" if equal else "undecided")


def test_verdicts_by_hand() -> None:
    """Hand-computed: 40 of 50 against 10 of 50 is different; 500 of 1,000 twice is equal; 1 of 10 against 2 of 10 is undecided."""

    def verdict(one: tuple[int, int], two: tuple[int, int]) -> str:
        masks = [np.arange(n) < hits for hits, n in (one, two)]
        return measuring._compared("rate", "sex", ("a", "b"), *masks).verdict  # pyright: ignore[reportPrivateUsage]

    assert verdict((40, 50), (10, 50)) == "different"
    assert verdict((500, 1000), (500, 1000)) == "equal"
    assert verdict((1, 10), (2, 10)) == "undecided" and verdict((0, 0), (2, 10)) == "undecided"


def test_the_page_needs_nothing_else(report: Report) -> None:
    """The page is one HTML file with three plots, without scripts, URLs or other files; each setting has a row."""
    found, _, folder = report
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 3 and "<script" not in page and "@media print" in page
    assert not re.search(r'(src|href)="(?!#)', page) and "@import" not in page
    assert all(f"<td>challenge {18 + i}</td>" in page for i in range(16)) and "<td>error 10 %</td>" in page
    assert page.count("not available: expected") == len([s for s in found["settings"] if s["refused"]])


def test_the_practice_statement(report: Report) -> None:
    """Each of the standard's five kinds of characteristic has fields; measured fields have the report's figures, the others say who
    must fill them in."""
    found, _, folder = report
    page = (folder / "practice_statement.md").read_text()
    for kind in ("Functional", "Performance", "Privacy", "Security", "Acceptability"):
        assert f"| {kind} |" in page
    (gate,) = [s for s in found["settings"] if (s["dial"], s["at"]) == ("error", 0.1)]
    below = gate["below"]["yes"]
    assert f"{100 * below['share']:.1f} % of {below['n']}" in page
    assert page.count("to be filled in by the deployer") >= 8 and "claims no" in page


@pytest.fixture
def some(shared_data: Path, tmp_path: Path) -> Callable[[list[float]], str]:
    """Make a table of All-Age-Faces pictures with these labels."""
    data = open_data(f"aaf:{shared_data / 'data' / 'aaf.tar'}").select("test")

    def make(labels: list[float]) -> str:
        rows: list[str] = []
        for sample, label in zip(data.samples, labels):
            name = Path(sample.file).name
            (tmp_path / name).write_bytes(data.read_bytes(sample.file))
            rows.append(f"{name},{label:g}")
        table = tmp_path / f"{len(labels)}.csv"
        table.write_text("\n".join(["file,label", *rows]) + "\n")
        return f"table:{table}"

    return make


def test_what_cannot_be_measured_is_refused(some: Callable[[list[float]], str]) -> None:
    """No or too few people near the threshold, a threshold or rate that the model does not guarantee, and a model without
    calibration are errors in one sentence."""
    model = numclip.load("age-nano", device="cpu")
    far, few = some([5, 40, 60]), AssureOptions(model, [some([16, 17, 19, 20])])
    with pytest.raises(
        DataError, match=r"expected people within 4 years below 18, found none; add data with such ages"
    ):
        assure(AssureOptions(model, [far]))
    with pytest.raises(
        DataError, match=r"at least 29 people within 4 years below 18, which an error rate of 0.1 needs, got 2"
    ):
        assure(few)
    with pytest.raises(UsageError, match="expected --gate to be a threshold that age-nano is calibrated for"):
        assure(replace(few, threshold=17))
    with pytest.raises(UsageError, match="which needs 299 people"):
        assure(replace(few, error=0.01))
    bare = numclip.load("age-nano", device="cpu")
    object.__setattr__(bare, "spec", bare.spec.with_calibration(None))
    with pytest.raises(ModelError, match="is not calibrated"):
        assure(replace(few, model=bare))


def test_people_are_counted_not_pictures(some: Callable[[list[float]], str], tmp_path: Path) -> None:
    """Of 32 pictures of one person of 16 and 17 and three others of 19, the counts have one picture each; the person's is the first
    at 17, the age nearest to 18. So one person near below is too few for a rate of 10 %."""
    some([16.0] * 3 + [17.0] * 29 + [19.0] * 3)
    rows = (tmp_path / "35.csv").read_text().splitlines()[1:]
    lines = [f"{row},{'one' if i < 32 else i}" for i, row in enumerate(rows)]
    (tmp_path / "persons.csv").write_text("\n".join(["file,label,subject", *lines]) + "\n")
    data = f"table:{tmp_path / 'persons.csv'}"
    with pytest.raises(DataError, match=r"at least 29 people within 4 years below 18, .*, got 1;"):
        assure(AssureOptions("age-nano", [data], detector="yunet"))
    model = numclip.load("age-nano", device="cpu")
    part = predict_dataset(model, open_data(data), "yunet")
    kept = part.one_per_person(18)
    first = next(i for i, s in enumerate(part.faces.samples) if s.label == 17)
    assert [s.subject for s in kept.faces.samples] == ["one", "32", "33", "34"]
    assert kept.faces.samples[0].file == part.faces.samples[first].file
    assert kept.readings.value[0] == part.readings.value[first]
    np.testing.assert_array_equal(kept.faces.crops[0:1], part.faces.crops[first : first + 1])


def test_bands_that_straddle_are_refused(some: Callable[[list[float]], str], tmp_path: Path) -> None:
    """If the only labels near 18 are bands from 10 to 19, the error says that they straddle the threshold."""
    some([1, 2, 3])
    rows = (tmp_path / "3.csv").read_text().splitlines()[1:]
    bands = "\n".join(["file,age_low,age_high", *(f"{row.partition(',')[0]},10,19" for row in rows)])
    (tmp_path / "bands.csv").write_text(bands + "\n")
    with pytest.raises(DataError, match="3 faces have an age band that includes 18"):
        assure(AssureOptions("age-nano", [f"table:{tmp_path / 'bands.csv'}"]))


@pytest.mark.slow
def test_bands_on_one_side_stand_apart(shared_data: Path) -> None:
    """With exact ages, FairFace's bands on one side of 18 have their own rows and are not part of any year or cell."""
    data = [f"{kind}:{shared_data / 'data' / kind}.tar" for kind in ("aaf", "fairface")]
    model = numclip.load("age-nano", device="cpu")
    few = [open_data(text).select("test") for text in data]
    assert few[1].banded
    found, faces = assure(AssureOptions(model, data))
    assert {(band.low, band.high) for band in found.bands} >= {(0, 2), (3, 9), (20, 29), (30, 39)}
    assert not any(band.low <= 18 <= (band.high or 200) for band in found.bands)
    assert sum(year.n for year in found.years) == int(faces.exact.sum()) < found.n
    assert sum(cell.gate.yes.n for cell in found.cells if not cell.group) == int(faces.exact.sum())


def test_a_file_where_the_report_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the report's place is an error before anything is measured, and the file stays unchanged."""
    (tmp_path / "file").write_text("mine")
    assert main(["assure", "age-nano", "--data", "aaf:/nowhere", "--out", str(tmp_path / "file")]) == 1
    assert "expected a folder, but" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"
