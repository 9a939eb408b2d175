"""The files of `numclip assure`: the table of faces, JSON with its schema, an HTML page, and a draft practice statement."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import DeviceError, OutputError
from ...runtime.contract.gate_table import AROUND, NEAR
from ...runtime.places import write_json, write_whole
from ...runtime.tables import markdown_table
from .assure import LOOKS, Answered, Assurance, Cell, Faces, Setting, Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = Path(__file__).with_name("assurance.schema.json")
YOURS = "**to be filled in by the deployer**"
BLUE, ORANGE = "#1f5f8b", "#c8632d"
STYLE = """
body { font: 15px/1.5 Georgia, serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff }
h1, h2 { font-family: Helvetica, Arial, sans-serif; line-height: 1.2 } h2 { margin-top: 2.2rem; border-top: 1px solid #999; padding-top: .8rem }
table { border-collapse: collapse; font: 13px/1.4 Helvetica, Arial, sans-serif; margin: .8rem 0; width: 100% }
th, td { border-bottom: 1px solid #ccc; padding: .2rem .5rem; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #333 } tr { break-inside: avoid }
svg { max-width: 100%; height: auto } .note { color: #444; font-size: .9em } thead { display: table-header-group }
@media print { body { margin: 0; max-width: none; font-size: 11px } table { font-size: 9.5px } h2 { break-after: avoid } }
"""


def write_assurance(folder: Path, found: Assurance, faces: Faces) -> list[Path]:
    """Write faces.csv, report.json, report.schema.json, report.html and practice_statement.md.

    Raises OutputError, and DeviceError without matplotlib.
    """
    page = report_page(found)
    statement = practice_statement(found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "faces.csv", _csv(faces).encode())
        write_json(folder / "report.json", found.to_json())
        write_whole(folder / "report.schema.json", SCHEMA.read_bytes())
        write_whole(folder / "report.html", page.encode())
        write_whole(folder / "practice_statement.md", statement.encode())
    except OSError as error:
        raise OutputError(f"cannot write {error.filename or folder} ({error.strerror}); give another --out") from None
    return [folder / name for name in ("report.html", "report.json", "faces.csv", "practice_statement.md")]


def _csv(faces: Faces) -> str:
    """One row per face with unrounded numbers, so that every count can be repeated exactly."""
    columns = {
        name: ["" if value != value else value for value in row.tolist()] for name, row in faces.columns().items()
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def report_page(found: Assurance) -> str:
    """One self-contained HTML file, which also prints well."""
    at, few = found.threshold, f"{found.near_below} people within {NEAR:g} years below {found.threshold:g}"
    repeats = (
        f" {found.repeats} further pictures of the same persons are left out: of each person, the picture nearest to {at:g} counts."
        if found.repeats
        else ""
    )
    parts = [
        f"<h1>Age assurance: {_text(found.model)} at {at:g}</h1>",
        f"<p>{found.n} faces of {_text(', '.join(found.data))} ({_text(found.split)}), {found.skipped} pictures without a detected "
        f"face, detector {_text(found.detector)}. {few}, {found.near_above} within {NEAR:g} years above.{repeats} Model "
        f"<code>{_text(found.graph_sha256[:16])}</code>, calibrated {_text(found.calibration_date)}.</p>",
        f"<p>The gate answers yes, no or ask (check ID). A <b>false positive</b> is somebody below {at:g} who gets yes; a <b>false negative</b> is "
        f"somebody of {at:g} or more who gets no; somebody of {at:g} or more who does not get yes is <b>not accepted</b>. In brackets: exact 95 % "
        "intervals (Clopper and Pearson). Every figure can be recomputed from <code>faces.csv</code>.</p>",
        "<h2>Settings</h2>",
        f"<p>Error rates and costs use the odds of the words, challenge ages the estimated age. Bound: the highest error rate that the "
        f"calibration allows for people within {NEAR:g} years below, with 95 % confidence.</p>",
        _settings(found),
        "<h2>Challenge ages</h2>",
        _svg(lambda axes: _draw_curve(axes, found), 7, 3.2),
        "<h2>Both kinds of error</h2>",
        f"<p>People within {NEAR:g} years below and above {at:g}, at every limit (DET plot, normal deviates on both axes).</p>",
        _svg(lambda axes: _draw_det(axes, found), 5, 4.2),
        "<h2>By year of age</h2>",
        _svg(lambda axes: _draw_years(axes, found), 7, 3.2),
        _years(found),
        "<h2>By group and age</h2>",
        "<p>People whose age is known to the year. (few): under 100, a rough figure.</p>",
        _cells(found.cells, found),
    ]
    if found.bands:
        parts += [
            "<h2>People whose age is known as a band</h2>",
            f"<p>Only bands entirely on one side of {at:g}. Apart from the settings, no other table includes them.</p>",
            _cells(found.bands, found),
        ]
    parts += [
        "<h2>Between groups</h2>",
        "<p>The ratio's interval combines both rates' 97.5 % intervals, so it holds with at least 95 %. Different: it does not contain 1. Equal: "
        "it lies within 0.8 to 1.25. Otherwise undecided: there are too few people. Among many comparisons, some are "
        "called different by chance.</p>",
        _parity(found),
        "<h2>The same face again</h2>",
        f"<p>Mirrored; moved, rotated and relit ({LOOKS} looks, their mean); compressed as JPEG.</p>",
        _again(found),
    ]
    title = f"Age assurance: {_text(found.model)} at {at:g}"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    return f"{head}<body>\n" + "\n".join(parts) + "\n</body></html>\n"


def practice_statement(found: Assurance) -> str:
    """A draft in the order of ISO/IEC 27566-1's characteristics; what cannot be measured is left to the deployer."""
    at = found.threshold
    gate = next(s for s in found.settings if s.dial == "error" and s.at == found.error)
    challenge = next((s for s in found.settings if s.dial == "challenge" and s.at == found.challenge), None)
    years = [year for year in found.years if at - NEAR <= year.age < at + NEAR]
    mae = sum(year.mae * year.n for year in years) / max(1, sum(year.n for year in years))
    bias = sum(year.bias * year.n for year in years) / max(1, sum(year.n for year in years))
    verdicts = [row.verdict for row in found.parity]
    again = {row.kind: row for row in found.again}
    rows: list[tuple[str, str, str]] = [
        ("Overview", "Service, provider and contact", YOURS),
        ("Overview", "Age-related eligibility decision and its legal basis", YOURS),
        ("Overview", "Component, version", f"numclip, model {found.model}, graph SHA-256 {found.graph_sha256}, calibrated {found.calibration_date}"),
        ("Functional", "Age assurance method", "age estimation from a picture of a face; no document, no identity, no comparison of faces"),
        ("Functional", "Threshold", f"{at:g} years"),
        ("Functional", "Age assurance result", "yes, no or ask; ask means that another method must decide"),
        ("Functional", "What happens after ask and no; appeal", YOURS),
        ("Functional", "Binding of the result to the person in front of the camera; validity in time", YOURS),
        ("Functional", "Contra-indicators", "a face that is too small, turned away, blurred or out of the model's range gets ask"),
        ("Performance", "Test data", f"{found.n} faces of {', '.join(found.data)} ({found.split}); {found.skipped} pictures without a detected face"),
        ("Performance", f"False positives, {at - NEAR:g} to {at:g}, at {gate.at:.0%}", _setting(gate, "below", "yes")),
        ("Performance", f"False negatives, {at:g} to {at + NEAR:g}, at {gate.at:.0%}", _setting(gate, "above", "no")),
        ("Performance", f"Answered yes, {at + AROUND:g} and older, at {gate.at:.0%}", _setting(gate, "clear", "yes")),
        ("Performance", f"False positives, {at - NEAR:g} to {at:g}, at challenge age {found.challenge:g}", _setting(challenge, "below", "yes")),
        ("Performance", f"Answered yes, {at + AROUND:g} and older, at challenge age {found.challenge:g}", _setting(challenge, "clear", "yes")),
        ("Performance", f"Mean absolute and signed error, {at - NEAR:g} to {at + NEAR:g}", f"{mae:.2f} and {bias:+.2f} years"),
        ("Performance", "Same answer on a second picture", "; ".join(f"{k}: {_share(_rest(a.other_answer))}" for k, a in again.items())),
        ("Performance", "Indicator of confidence", "error bound of the setting, probability to be of age, 90 % interval of the age"),
        ("Performance", "Conditions in which it was tested; those in which it will run", f"as the test data; {YOURS}"),
        ("Privacy", "Data received", "a picture; it is only kept in memory, unless a flag asks to write it"),
        ("Privacy", "Data returned", "the answer; `numclip doctor --privacy` shows on the machine itself what leaves the process"),
        ("Privacy", "Whether the outputs identify people", "measured by `numclip evaluate --identity`; " + YOURS),
        ("Privacy", "Retention, legal basis, impact assessment", YOURS),
        ("Security", "Integrity of the model", "the graph's SHA-256 is in the model file and in each line of the audit file"),
        ("Security", "Records", "`--audit FILE`: a chain of hashed lines without personal data; `--sign KEY`: signed answers with the caller's nonce"),
        ("Security", "Presentation attacks (pictures of faces, masks, screens)", "not detected and not measured; " + YOURS),
        ("Acceptability", "Outcome by group", f"{len(verdicts)} comparisons: {verdicts.count('equal')} equal, {verdicts.count('different')} different, {verdicts.count('undecided')} undecided because of too few people; see report.html"),
        ("Acceptability", "Other ways for people who cannot or will not show a face", YOURS),
        ("Acceptability", "Information for the people concerned; accessibility", YOURS),
    ]  # fmt: skip
    lines = [
        f"# Draft practice statement: {found.model} at {at:g}",
        "",
        "Fields in the order of the characteristics of ISO/IEC 27566-1. Figures are those of report.json. This is a draft: it claims no",
        "conformity, and the text of the standard decides what a statement must contain.",
        "",
        markdown_table(["characteristic", "field", "statement"], [list(row) for row in rows], texts=3),
        "",
    ]
    return "\n".join(lines)


def _setting(setting: Setting | None, people: str, answer: str) -> str:
    answered: Answered | None = None if setting is None else getattr(setting, people)
    return YOURS if answered is None else _share(getattr(answered, answer))


def _rest(share: Share) -> Share:
    """The complementary share."""
    ends = (None if x is None else 1 - x for x in (share.share, share.high, share.low))
    return Share(share.n - share.hits, share.n, *ends)


def _share(share: Share) -> str:
    if share.share is None or share.low is None or share.high is None:
        return "nobody"
    return f"{100 * share.share:.1f} % of {share.n} ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _not(answered: Answered | None) -> str:
    return "" if answered is None else _share(_rest(answered.yes))


def _settings(found: Assurance) -> str:
    at = found.threshold
    head = ["setting", "bound", f"false positives, {at - NEAR:g}-{at:g}", f"false negatives, {at:g}-{at + NEAR:g}"]
    head += [
        f"not accepted, {at:g}-{at + NEAR:g}",
        f"not accepted, {at:g}-{at + AROUND:g}",
        f"yes, {at + AROUND:g} and older",
    ]
    rows: list[list[str]] = []
    for s in found.settings:
        name = {"error": f"error {100 * s.at:g} %", "challenge": f"challenge {s.at:g}", "cost": f"cost {s.at:g}"}[
            s.dial
        ]
        if s.refused is not None or s.bound is None or s.below is None or s.above is None or s.clear is None:
            rows.append([name, f"not available: {s.refused}"])
            continue
        rows.append([name, f"{100 * s.bound:.1f} %", _share(s.below.yes), _share(s.above.no)])
        rows[-1] += [_not(s.above), _not(s.around), _share(s.clear.yes)]
    return _table(head, rows)


def _years(found: Assurance) -> str:
    head = ["age", "n", "MAE", "bias", "yes", "no", "ask", f"yes at challenge {found.challenge:g}"]
    rows = [
        [
            str(y.age),
            str(y.n),
            f"{y.mae:.2f}",
            f"{y.bias:+.2f}",
            _share(y.gate.yes),
            _share(y.gate.no),
            _share(y.gate.ask),
        ]
        + [_share(y.challenge.yes)]
        for y in found.years
    ]
    return _table(head, rows)


def _cells(cells: Iterable[Cell], found: Assurance) -> str:
    head = ["group", "ages", "yes", "no", "ask", f"yes at challenge {found.challenge:g}"]
    rows = [
        [
            (", ".join(cell.group.values()) or "all") + (" (few)" if cell.few else ""),
            f"{cell.low:g}-" + ("" if cell.high is None else f"{cell.high:g}"),
            *map(_share, (cell.gate.yes, cell.gate.no, cell.gate.ask, cell.challenge.yes)),
        ]
        for cell in cells
    ]
    return _table(head, rows)


def _parity(found: Assurance) -> str:
    rows = [
        [
            f"{row.rate}: {row.groups[0]} / {row.groups[1]}",
            *map(_share, row.shares),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.low is None else f"{row.low:.2f} to " + ("any" if row.high is None else f"{row.high:.2f}"),
            row.verdict,
        ]
        for row in found.parity
    ]
    return _table(["rate", "first", "second", "ratio", "interval", "verdict"], rows)


def _again(found: Assurance) -> str:
    rows = [
        [
            a.kind,
            str(a.n),
            f"{a.mean_difference:.2f}",
            f"{a.p95_difference:.2f}",
            _share(a.other_answer),
            _share(a.other_challenge),
        ]
        for a in found.again
    ]
    head = [
        "picture",
        "n",
        "mean change, years",
        "95 % change by at most",
        "other answer",
        f"other answer at challenge {found.challenge:g}",
    ]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the last cell of a row that is shorter than the head spans the remaining columns."""
    lines = ["<table><thead><tr>" + "".join(f"<th>{_text(name)}</th>" for name in head) + "</tr></thead><tbody>"]
    for row in rows:
        rest = len(head) - len(row)
        cells = [f"<td>{_text(cell)}</td>" for cell in row[:-1]]
        cells.append(f'<td colspan="{rest + 1}">{_text(row[-1])}</td>' if rest else f"<td>{_text(row[-1])}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _text(words: str) -> str:
    return html.escape(words)


def _svg(draw: Callable[[Axes], None], width: float, height: float) -> str:
    """A plot as inline SVG."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib.figure import Figure
    except ImportError:
        raise DeviceError(
            "numclip assure needs the package matplotlib, which is not installed; run: pip install 'numclip[demo]'"
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "numclip", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw_curve(axes: Axes, found: Assurance) -> None:
    ages = [point.age for point in found.curve]
    lines = [("false positives", BLUE, [p.false_positive for p in found.curve])]
    lines += [(f"not accepted, up to {AROUND:g} years above", ORANGE, [p.troubled for p in found.curve])]
    lines += [(f"not accepted, from {AROUND:g} years above", "#666666", [p.troubled_clear for p in found.curve])]
    for name, colour, shares in lines:
        ends = [[100 * (value or 0) for value in row] for row in zip(*((s.share, s.low, s.high) for s in shares))]
        axes.plot(ages, ends[0], color=colour, label=name)
        axes.fill_between(ages, ends[1], ends[2], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="challenge age, years", ylabel="%", ylim=(0, 100))
    axes.legend(frameon=False)


def _draw_det(axes: Axes, found: Assurance) -> None:
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    for (name, trade), colour in zip(found.trade.items(), (BLUE, ORANGE)):
        rates = np.array([(t.false_positive, t.false_negative) for t in trade]).clip(0.005, 0.995)
        axes.step(
            *_deviates(rates).T,
            where="post",
            color=colour,
            label="by the words" if name == "log_odds" else "by the value",
        )
    at = _deviates(np.array(ticks))
    axes.set(xticks=at, yticks=at, xlabel="false positives, %", ylabel="false negatives, %")
    axes.set_xticklabels([f"{100 * t:g}" for t in ticks])
    axes.set_yticklabels([f"{100 * t:g}" for t in ticks])
    axes.grid(color="#dddddd")
    axes.legend(frameon=False)


def _deviates(
    shares: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    from statistics import NormalDist

    return np.vectorize(NormalDist().inv_cdf)(shares)


def _draw_years(axes: Axes, found: Assurance) -> None:
    ages = [year.age for year in found.years]
    axes.plot(ages, [year.mae for year in found.years], color=BLUE, label="mean absolute error")
    axes.plot(ages, [year.bias for year in found.years], color=ORANGE, label="mean signed error")
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.axvline(found.threshold, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="age, years", ylabel="years")
    axes.legend(frameon=False)
