"""A collection is read completely, each input once, with the same result whatever interrupts the run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="needs the extra bulk")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra bulk")
import numclip  # noqa: E402
from numclip.bulk import BulkOptions, bulk  # noqa: E402
from numclip.bulk.inputs import cut, list_inputs  # noqa: E402
from numclip.bulk.reading import DEATHS, UNEXPLAINED, Journal  # noqa: E402
from numclip.bulk.report import write_report  # noqa: E402
from numclip.bulk.schema import FACES  # noqa: E402
from numclip.cli.main import main  # noqa: E402
from numclip.errors import NumclipError, UsageError  # noqa: E402
from numclip.runtime.contract.model_file import MODELS, graph_sha256, read_spec  # noqa: E402
from numclip.runtime.sessions.engine_file import Built, write_engine  # noqa: E402

COLUMNS = ["source", "index", "box", "value", "low", "high", "word", "reason"]


def rows_of(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "faces", columns=COLUMNS).to_pylist()


def errors_of(folder: Path) -> dict[str, str]:
    return {row["source"]: row["error"] for row in pq.read_table(folder / "errors.parquet").to_pylist()}


@pytest.fixture(scope="module")
def pictures(hopper: np.ndarray, collins: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of two people; two of the pictures are damaged."""
    folder = tmp_path_factory.mktemp("collection")
    for i in range(12):
        image = (hopper, collins)[i % 2]
        side = 300 + 10 * i
        cv2.imwrite(str(folder / f"{i:02d}.jpg"), cv2.resize(image, (side, side)))
    (folder / "05.jpg").write_bytes((folder / "05.jpg").read_bytes()[:200])
    (folder / "06.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def options(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> BulkOptions:
    """Options with one process and three pictures per unit."""
    out = tmp_path_factory.mktemp("result") / "out"
    return BulkOptions((str(pictures),), out, device="cpu", workers=1, unit_size=3)


@pytest.fixture(scope="module")
def undisturbed(options: BulkOptions) -> list[dict[str, object]]:
    """The rows of an uninterrupted run."""
    bulk(options)
    return rows_of(options.out)


def test_rows_are_those_of_read(pictures: Path, options: BulkOptions, undisturbed: list[dict[str, object]]) -> None:
    """The rows are the faces and ages of numclip.read; each damaged file has its own error."""
    expected = []
    for path in sorted(pictures.glob("*.jpg")):
        if path.name not in ("05.jpg", "06.jpg"):
            expected += [(str(path), face.age) for face in numclip.read(path).faces]

    assert len(expected) >= 10
    assert [row["source"] for row in undisturbed] == [source for source, _ in expected]
    assert [row["value"] for row in undisturbed] == pytest.approx([age for _, age in expected], abs=1e-3)
    errors = errors_of(options.out)
    assert set(errors) == {str(pictures / "05.jpg"), str(pictures / "06.jpg")}
    assert all(source in sentence for source, sentence in errors.items())


def test_archives_hold_the_same_pictures(
    pictures: Path, options: BulkOptions, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    """A .tar, a .tar.gz and a .zip give the same rows as the folder, with ARCHIVE::MEMBER as the source."""
    files = sorted(pictures.glob("*.jpg"))
    with tarfile.open(tmp_path / "a.tar", "w") as plain, tarfile.open(tmp_path / "b.tar.gz", "w:gz") as packed:
        for file in files:
            plain.add(file, file.name)
            packed.add(file, file.name)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for file in files:
            archive.write(file, file.name)
    for name in ("a.tar", "b.tar.gz", "c.zip"):
        out = tmp_path / f"{name}.out"
        bulk(replace(options, inputs=(str(tmp_path / name),), out=out))
        rows = rows_of(out)
        expected = [f"{tmp_path / name}::{Path(str(row['source'])).name}" for row in undisturbed]
        assert [row["source"] for row in rows] == expected
        values = [row["value"] for row in undisturbed]
        assert [row["value"] for row in rows] == pytest.approx(values, abs=1e-4)  # the pictures of a call differ
        assert len(errors_of(out)) == 2


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_of_members_with_one_name_the_last_is_read(
    kind: str, pictures: Path, options: BulkOptions, tmp_path: Path
) -> None:
    """An archive to which a newer picture was appended under the same name has one row: the age of the newer picture."""
    old, new = pictures / "00.jpg", pictures / "01.jpg"
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as written:
            written.write(old, "x.jpg")
            with pytest.warns(UserWarning, match="Duplicate name"):
                written.write(new, "x.jpg")
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w:") as written:
            for file in (old, new):
                written.add(file, "x.jpg")
    out = tmp_path / "out"
    assert bulk(replace(options, inputs=(str(archive),), out=out)).inputs == 1
    (row,) = rows_of(out)
    ages = [numclip.read(file).faces[0].age for file in (old, new)]
    assert row["value"] == pytest.approx(ages[1], abs=1e-3)
    assert ages[1] != pytest.approx(ages[0], abs=1)


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_damaged_unit_is_read_again(
    damage: str, options: BulkOptions, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    """If a power failure left a finished unit's table empty or cut short, the next run reads that unit again: the same rows."""
    out = tmp_path / "out"
    bulk(replace(options, out=out))
    table = sorted((out / ".units").glob("*/faces.parquet"))[1]
    table.write_bytes(b"" if damage == "empty" else table.read_bytes()[:-20])
    summary = bulk(replace(options, out=out))
    assert summary.units - summary.units_resumed == 1
    assert rows_of(out) == undisturbed


def test_a_level_above_the_calibration_leaves_nothing(options: BulkOptions, tmp_path: Path) -> None:
    """--interval 0.9999 is refused with the highest level, before the output folder is made."""
    with pytest.raises(UsageError, match="expected an interval level of at most"):
        bulk(replace(options, out=tmp_path / "out", level=0.9999))
    assert not (tmp_path / "out").exists()


def test_a_killed_run_goes_on(
    pictures: Path, options: BulkOptions, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    """After repeated kill -9 of the whole process group, the final rows are those of an uninterrupted run."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "numclip.cli.main", "bulk", str(pictures), "--out", str(out), "--device", "cpu"]
    words += ["--workers", "2", "--unit-size", "3"]
    kills = 0
    for wait_for in (1, 2, 3):
        run = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while run.poll() is None and len([p for p in (out / ".units").glob("*") if p.suffix == ""]) < wait_for:
            time.sleep(0.01)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            kills += 1
        run.wait()
    assert kills >= 1
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert rows_of(out) == undisturbed


@pytest.mark.parametrize(
    ("engine", "process"), [("local", "spawn_main"), pytest.param("ray", "Actor", marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_is_replaced(
    engine: str, process: str, pictures: Path, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    """After kill -9 of one worker process, or of one of Ray's actors, another one reads its unit again, and the rows are the same."""
    psutil = pytest.importorskip("psutil")
    if engine == "ray":
        pytest.importorskip("ray", reason="needs the extra ray")
    out, told = tmp_path / "out", tmp_path / "stderr"
    words = [sys.executable, "-m", "numclip.cli.main", "bulk", str(pictures), "--out", str(out), "--device", "cpu"]
    words += ["--workers", "2", "--unit-size", "3", "--engine", engine]
    with told.open("w") as stderr:
        run = subprocess.Popen(words, stderr=stderr)
    killed = False
    while run.poll() is None and not killed:
        if out.is_dir() and list((out / ".units").glob("*.journal")):
            children = psutil.Process(run.pid).children(recursive=True)
            for worker in [child for child in children if process in " ".join(child.cmdline())][:1]:
                worker.kill()
                killed = True
        time.sleep(0.002)
    assert run.wait() == 0 and killed, told.read_text()
    assert rows_of(out) == undisturbed


def test_an_input_that_kills_is_left_out(tmp_path: Path) -> None:
    """After two crashes in a unit its inputs are read one by one; an input that then crashes the process twice is an error."""
    path = tmp_path / "unit.journal"
    for death in range(UNEXPLAINED + DEATHS):
        journal = Journal(path)
        assert journal.deaths(7) == max(0, death - UNEXPLAINED) and journal.careful is (death >= UNEXPLAINED)
        journal.begin(6)
        journal.begin(7)
    journal = Journal(path)

    assert journal.deaths(7) == DEATHS and journal.deaths(6) == 0 and journal.careful


def test_a_changed_input_is_named(pictures: Path, options: BulkOptions, tmp_path: Path) -> None:
    """A second run on a folder with changed files is an error that names one; --update reads the changed files again."""
    folder = tmp_path / "folder"
    shutil.copytree(pictures, folder)
    again = replace(options, inputs=(str(folder),), out=tmp_path / "out")
    bulk(again)
    shutil.copy(folder / "00.jpg", folder / "06.jpg")
    with pytest.raises(UsageError, match=r"06\.jpg"):
        bulk(again)

    summary = bulk(replace(again, update=True))
    assert summary.units_resumed == summary.units - 1 and summary.errors == 1


def test_other_settings_are_named(options: BulkOptions, undisturbed: list[dict[str, object]]) -> None:
    """A run with other flags into the same folder is an error that names the difference."""
    assert undisturbed
    with pytest.raises(UsageError, match=r"level was 0\.9, now 0\.5"):
        bulk(replace(options, level=0.5))


def test_shards_together_are_the_whole(
    options: BulkOptions, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    """Two shards in one folder together have each row once."""
    for part in (1, 2):
        bulk(replace(options, out=tmp_path / "out", shard=(part, 2)))

    rows = sorted(rows_of(tmp_path / "out"), key=lambda row: str(row["source"]))
    assert rows == undisturbed


def test_copies_are_read_once(
    pictures: Path, options: BulkOptions, undisturbed: list[dict[str, object]], tmp_path: Path
) -> None:
    """With dedupe, a duplicate gets the rows of the first identical file, under its own name."""
    folder = tmp_path / "folder"
    shutil.copytree(pictures, folder)
    shutil.copy(folder / "00.jpg", folder / "z.jpg")
    summary = bulk(replace(options, inputs=(str(folder),), out=tmp_path / "out", dedupe=True))
    rows = rows_of(tmp_path / "out")

    assert summary.duplicates == 1
    assert [r for r in rows if str(r["source"]).endswith("z.jpg")] == [
        {**r, "source": str(folder / "z.jpg")} for r in rows if str(r["source"]).endswith("00.jpg")
    ]


def test_a_copy_is_read_when_its_original_is_gone(hopper: np.ndarray, options: BulkOptions, tmp_path: Path) -> None:
    """a.jpg and b.jpg are identical and in different units. Without a.jpg the same command is an error that names b.jpg; with
    --update b.jpg is read itself and keeps its row."""
    folder, again = tmp_path / "in", replace(options, inputs=(str(tmp_path / "in"),), out=tmp_path / "out", unit_size=1)
    again = replace(again, dedupe=True)
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(folder / name), hopper)
    assert bulk(again).duplicates == 1
    value = rows_of(again.out)[0]["value"]
    (folder / "a.jpg").unlink()
    with pytest.raises(UsageError, match=r"b\.jpg"):
        bulk(again)

    assert bulk(replace(again, update=True)).duplicates == 0
    assert [(row["source"], row["value"]) for row in rows_of(again.out)] == [(str(folder / "b.jpg"), value)]


def test_a_copy_has_the_outcome_of_its_original(options: BulkOptions, tmp_path: Path) -> None:
    """Both copies of an unreadable file are errors, each under its own name; both copies of a picture without a face are counted."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"no picture")
        cv2.imwrite(str(folder / f"grey-{name}"), np.full((64, 64, 3), 90, np.uint8))
    summary = bulk(replace(options, inputs=(str(folder),), out=tmp_path / "out", dedupe=True))
    errors = errors_of(tmp_path / "out")

    assert (summary.duplicates, summary.errors, summary.without_faces) == (2, 2, 2)
    assert set(errors) == {str(folder / "a.jpg"), str(folder / "b.jpg")}
    assert all(source in sentence for source, sentence in errors.items())


@pytest.mark.parametrize(
    ("inputs", "out"), [(".", "ages"), (".", "."), ("**/*", "ages"), ("ages", "ages"), ("./*", "../here/ages")]
)
def test_the_results_are_no_inputs(
    inputs: str, out: str, hopper: np.ndarray, options: BulkOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the output folder among the inputs, the same command can be repeated, also after the report: it reads the pictures,
    and no file that the run wrote."""
    (tmp_path / "here" / "ages").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    cv2.imwrite("ages/a.jpg", hopper)
    again = replace(options, inputs=(inputs,), out=Path(out), formats=("parquet", "csv", "jsonl"))
    first = bulk(again)
    write_report(again.out)

    assert (first.inputs, first.errors) == (1, 0)
    again_summary = bulk(again)
    assert (again_summary.inputs, again_summary.errors, again_summary.units_resumed) == (1, 0, 1)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    """A link to a parent folder is one error; the other files are listed once."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.jpg").write_bytes(b"1")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    found = list(list_inputs([str(tmp_path)]))

    assert [f.source for f in found if not f.fault] == [str(tmp_path / "a" / "x.jpg")]
    assert [f.fault for f in found if f.fault] == [
        f"{tmp_path}/a/b/up: not read, because it links to a folder that contains it; remove the link"
    ]


def test_units_are_named_by_their_inputs(pictures: Path) -> None:
    """The same files give the same unit names; another unit size or another file gives other names."""
    inputs = list(list_inputs([str(pictures)]))
    names = [unit.name for unit in cut(inputs, 5)]

    assert [len(unit.inputs) for unit in cut(inputs, 5)] == [5, 5, 2]
    assert names == [unit.name for unit in cut(list_inputs([str(pictures)]), 5)]
    assert names[0] != next(cut([replace(inputs[0], size=1), *inputs[1:]], 5)).name


def test_a_video_has_one_row_per_person(shared_data: Path, options: BulkOptions, tmp_path: Path) -> None:
    """Each tracked person is a row; two runs write the same bytes; --video 2.0 writes rows every two seconds."""
    clip = str(next((shared_data / "video").glob("two_people*.h264")))
    for name in ("a", "b"):
        bulk(replace(options, inputs=(clip,), out=tmp_path / name))
    first, second = ((tmp_path / name / "faces" / "part-00000.parquet").read_bytes() for name in ("a", "b"))
    table = pq.read_table(tmp_path / "a" / "faces")

    assert first == second
    assert max(table["frames"].to_pylist()) >= 290 and set(table["track"].to_pylist()) >= {1, 2}
    bulk(replace(options, inputs=(clip,), out=tmp_path / "c", video="2.0"))
    times = pq.read_table(tmp_path / "c" / "faces")["time_s"].to_pylist()
    assert sorted(set(times))[-4:] == pytest.approx([2, 4, 6, 8], abs=0.2)  # no track is shown in the first frame


def test_the_report_shows_no_face_unless_asked(options: BulkOptions, undisturbed: list[dict[str, object]]) -> None:
    """The report is self-contained; its faces are blurred unless --show-faces is given."""
    assert undisturbed
    blurred = write_report(options.out).read_text()
    shown = write_report(options.out, show_faces=True).read_text()

    assert not re.search(r'(src|href)="(?!data:)', blurred)
    assert "Faces are blurred" in blurred and "Faces are shown" in shown
    assert len(shown) > 1.5 * len(blurred)


def test_the_report_covers_all_shards(
    pictures: Path, undisturbed: list[dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After one of two shards the next step is the other shard, and the report is an error that names it. After both the report
    has all faces, inputs and errors."""
    out = tmp_path / "out"
    words = ["bulk", str(pictures), "--out", str(out), "--device", "cpu", "--workers", "1", "--unit-size", "3"]
    assert main([*words, "--shard", "1/2"]) == 0
    assert f"next: the same command with --shard 2/2; then numclip bulk report {out}\n" in capsys.readouterr().out
    assert main(["bulk", "report", str(out)]) == 2
    assert "found no result of 2/2; run the same command with --shard 2/2" in capsys.readouterr().err
    assert main([*words, "--shard", "2/2"]) == 0
    assert f"next: numclip bulk report {out}\n" in capsys.readouterr().out
    assert main(["bulk", "report", str(out)]) == 0
    page = (out / "report.html").read_text()

    for count, name in ((12, "inputs"), (len(undisturbed), "faces"), (2, "errors")):
        assert f"<b>{count}</b>{name}" in page
    (out / "summary.json").write_bytes(
        (out / "summary-0001-of-0002.json").read_bytes().replace(b"2\n    ]", b"1\n    ]")
    )
    assert main(["bulk", "report", str(out)]) == 2
    assert "found runs split into 1 and 2 shards" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_the_report_needs_no_inputs(damage: str, pictures: Path, options: BulkOptions, tmp_path: Path) -> None:
    """If the archive was moved or replaced since the run, the report is the same page without the faces of its contact sheets."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(pictures / "00.jpg", "00.jpg")
    out = tmp_path / "out"
    bulk(replace(options, inputs=(str(tmp_path / "a.tar"),), out=out))
    assert "<figure>" in write_report(out).read_text()
    (tmp_path / "a.tar").unlink()
    if damage == "damaged":
        (tmp_path / "a.tar").write_bytes(b"no archive")

    page = write_report(out).read_text()
    assert "<figure>" not in page and "<b>1</b>faces" in page


def test_an_engine_is_named_by_its_graph(pictures: Path, tmp_path: Path) -> None:
    """--model takes an engine: the run has the hash of the graph that the engine was built from. These bytes are no engine, so
    the run ends when it opens them."""
    model, path, data = MODELS / "age-nano.onnx", tmp_path / "age.engine", b"no engine"
    built = Built(
        graph_sha256(model), hashlib.sha256(data).hexdigest(), "tensorrt", "0", None, (), None, None, None, 8, ()
    )
    write_engine(path, data, read_spec(model), built)
    with pytest.raises(NumclipError, match=r"(?i)tensorrt"):
        bulk(BulkOptions((str(pictures),), tmp_path / "out", model=str(path), workers=1))

    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["model_sha256"] == graph_sha256(model)


def test_the_columns_are_documented(repo: Path) -> None:
    """docs/bulk.md has a row for each column, with the same text as the schema."""
    page = (repo / "docs" / "bulk.md").read_text()

    for field in FACES:
        assert field.metadata is not None
        assert f"| `{field.name}` | {field.metadata[b'about'].decode()} |" in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["nowhere.tar", "--out", "o"],
            "nowhere.tar: expected a file, folder, glob, archive or address, found no such file",
        ),
        (["--out", "o"], "expected at least one INPUT or --from-file FILE"),
        ([".", "--out", "o", "--shard", "3"], "expected --shard I/N such as 3/8"),
        ([".", "--out", "o", "--shard", "3/2"], "expected --shard I/N with I from 1 to N"),
        ([".", "--out", "o", "--video", "fast"], "expected --video track, frame or seconds above 0"),
    ],
)
def test_wrong_requests_are_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong arguments give an error in one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)

    assert main(["bulk", *words]) != 0
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_report_needs_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without summary.json is an error in one sentence, and stays unchanged."""
    assert main(["bulk", "report", str(tmp_path)]) == 2
    assert "expected the folder of a finished numclip bulk run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


CRASHING_FILE_SYSTEM = """
import os
from fsspec import AbstractFileSystem
class Crashing(AbstractFileSystem):
    protocol = "crashing"
    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        return {"name": path, "size": os.path.getsize(path), "type": "file"}
    def _open(self, path, mode="rb", **kwargs):
        if path.endswith("05.jpg"):
            os.abort()
        return open(path, mode)
"""


@pytest.fixture
def crashing(pictures: Path, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """A user's fsspec package whose 05.jpg aborts the process that opens it: a list of four pictures, and the environment."""
    installed = tmp_path / "installed"
    (installed / "crashing-1.dist-info").mkdir(parents=True)
    (installed / "crashing.py").write_text(CRASHING_FILE_SYSTEM)
    (installed / "crashing-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1\n")
    entry = "[fsspec.specs]\ncrashing = crashing:Crashing\n"
    (installed / "crashing-1.dist-info" / "entry_points.txt").write_text(entry)
    (tmp_path / "list.txt").write_text("".join(f"crashing://{pictures}/{at}.jpg\n" for at in ("03", "04", "05", "07")))
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    return ["--from-file", str(tmp_path / "list.txt")], {**os.environ, "PYTHONPATH": path}


ENGINES = ["local", pytest.param("ray", marks=pytest.mark.slow)]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_input_that_crashes_the_process_is_an_error(
    engine: str, crashing: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    """The process that opens it aborts each time: the others are read, and it is a row of errors.parquet."""
    if engine == "ray":
        pytest.importorskip("ray", reason="needs the extra ray")
    inputs, environment = crashing
    words = [sys.executable, "-m", "numclip.cli.main", "bulk", *inputs, "--out", str(tmp_path / "out")]
    words += ["--device", "cpu", "--workers", "2", "--engine", engine]
    run = subprocess.run(words, env=environment, capture_output=True, text=True)

    assert run.returncode in (0, 1), run.stderr[-3000:]
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    assert [Path(str(row["source"])).name for row in rows_of(tmp_path / "out")] == ["03.jpg", "04.jpg", "07.jpg"]
    ((source, sentence),) = errors_of(tmp_path / "out").items()
    assert source.endswith("05.jpg") and "reading it crashed the process 2 times" in sentence


@pytest.mark.slow
def test_ray_gives_the_same_rows(options: BulkOptions, undisturbed: list[dict[str, object]], tmp_path: Path) -> None:
    """Ray Data with two actors on this machine writes the same rows as the local engine."""
    pytest.importorskip("ray", reason="needs the extra ray")
    bulk(replace(options, out=tmp_path / "out", engine="ray", workers=2))

    assert rows_of(tmp_path / "out") == undisturbed
