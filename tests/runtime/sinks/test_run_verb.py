"""`numclip run` on real faces: output, files, exit codes, and bad input."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import av
import cv2
import jsonschema
import numpy as np
import pytest

import numclip
from numclip.cli.main import main
from numclip.errors import UsageError
from numclip.runtime import OutputOptions, RunOptions, run
from numclip.runtime.live.frames import SourceEvent, SourceInfo
from numclip.runtime.sinks.audit_file import AuditFile
from numclip.runtime.sinks.run_statistics import RunStatistics
from numclip.runtime.sinks.video_writer import VideoWriter

NUMCLIP = [sys.executable, "-m", "numclip.cli.main"]


def _portrait() -> np.ndarray:
    """Grace Hopper, 606 x 512, from matplotlib's sample data."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    with cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        return np.asarray(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR), np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still portrait for 40 frames."""
    path = tmp_path_factory.mktemp("clip") / "still.mp4"
    writer = VideoWriter(path, 20)
    small = cv2.resize(_portrait(), (256, 304), interpolation=cv2.INTER_AREA)
    for i in range(40):
        writer.write(np.asarray(small, np.uint8), i / 20)
    writer.close()
    return path


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_person_is_one_track(clip: Path, tmp_path: Path) -> None:
    """40 frames give 40 lines; from the third on there is one track with an adult's age and probabilities that sum to 1."""
    out, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    assert main(["run", str(clip), "--detector", "haar", "--jsonl", str(out), "--save", str(video)]) == 0
    lines = _lines(out)
    assert [line["frame"] for line in lines] == list(range(40))
    assert [len(line["faces"]) for line in lines] == [0, 0, *[1] * 38]
    faces = [line["faces"][0] for line in lines[2:]]
    assert faces[0]["fresh"] and 10 <= sum(face["fresh"] for face in faces) < 38, "a look every 0.1 s, at 20 fps"
    for face in faces:
        assert face["track"] == 1 and 20 < face["age"] < 95
        assert sum(face["probabilities"]) == pytest.approx(1, abs=2e-3)
        assert face["low"] is None or face["low"] <= face["high"]
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 40


def test_a_photo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A single photo gives one line with one face, track null, and no file name."""
    path = tmp_path / "hopper.jpg"
    cv2.imwrite(str(path), _portrait())
    assert main(["run", str(path), "--detector", "haar", "--jsonl", "-"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert line["source"] == str(path) and "file" not in line
    assert [face["track"] for face in line["faces"]] == [None]


def test_one_pixel(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A picture of one pixel has no faces."""
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    assert main(["run", str(tmp_path / "dot.png"), "--jsonl", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["faces"] == []


def test_two_people_turning_their_heads(shared_data: Path, yunet_model: Path, tmp_path: Path) -> None:
    """The shared clip of two people gives 300 lines, two faces in at least 90 % of them, and two tracks in total."""
    clip = next((shared_data / "video").glob("two_people*.h264"))
    assert main(["run", str(clip), "--detector", "yunet", "--jsonl", str(tmp_path / "o.jsonl")]) == 0
    lines = _lines(tmp_path / "o.jsonl")
    assert len(lines) == 300 and sum(len(line["faces"]) == 2 for line in lines) >= 270
    assert {face["track"] for line in lines for face in line["faces"]} == {1, 2}


@pytest.mark.slow
def test_an_empty_corridor(shared_data: Path, yunet_model: Path, tmp_path: Path) -> None:
    """In the shared clip of an empty corridor at most 1 % of the frames have a track."""
    clip = next((shared_data / "video").glob("corridor*.mp4"))
    assert main(["run", str(clip), "--detector", "yunet", "--jsonl", str(tmp_path / "o.jsonl")]) == 0
    lines = _lines(tmp_path / "o.jsonl")
    assert len(lines) == 1394 and sum(bool(line["faces"]) for line in lines) <= 13


def test_several_photos(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Several photos, as from a shell pattern, are one run with a line each; a video among them is an error."""
    small = cv2.resize(_portrait(), (256, 304), interpolation=cv2.INTER_AREA)
    paths = [str(tmp_path / name) for name in ("b.png", "a.png")]
    for path in paths:
        cv2.imwrite(path, small)
    assert main(["run", *paths, "--detector", "haar", "--jsonl", "-"]) == 0
    assert [json.loads(line)["file"] for line in capfd.readouterr().out.splitlines()] == ["b.png", "a.png"]
    assert (
        main(["run", paths[0], "nothing.mp4"]) == 1
        and "no camera, file, folder or URL has this name" in capfd.readouterr().err
    )


@pytest.mark.parametrize("flag", ["--jsonl", "--save", "--csv", "--record"])
def test_the_source_is_never_overwritten(
    flag: str, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An output path that is the source, under any name, is an error, and the file is unchanged."""
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    before = clip.read_bytes()
    for out in (clip, link):
        assert main(["run", str(clip), "--detector", "haar", flag, str(out)]) == 2
        assert "expected an output file other than the source" in capfd.readouterr().err
    assert clip.read_bytes() == before


def test_no_source_is_overwritten_by_a_numbered_video(clip: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    """--save cam{}.mp4 for the sources cam1.mp4 and cam0.mp4 is an error, and both are unchanged; so is --jsonl as one of its videos."""
    monkeypatch.chdir(tmp_path)
    for name in ("cam0.mp4", "cam1.mp4"):
        shutil.copy(clip, name)
    assert main(["run", "cam1.mp4", "cam0.mp4", "--detector", "haar", "--save", "cam{}.mp4"]) == 2
    assert "expected an output file other than the source, got cam0.mp4 for both" in capfd.readouterr().err
    assert all(Path(name).read_bytes() == clip.read_bytes() for name in ("cam0.mp4", "cam1.mp4"))
    assert main(["run", "cam0.mp4", "cam1.mp4", "--save", "out{}.mp4", "--jsonl", "out1.mp4"]) == 2
    assert "expected different files for --jsonl and --save" in capfd.readouterr().err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("flag", ["--jsonl", "--csv", "--record", "--save"])
@pytest.mark.parametrize("name", ["trail", "trail.head", "link", "hard"])
def test_an_audit_trail_is_never_overwritten(flag: str, name: str, clip: Path, tmp_path: Path, capfd) -> None:
    """An output that is the audit file or its head, under any name, is an error, and both are unchanged."""
    trail = tmp_path / "trail"
    AuditFile(trail).close()
    trail.write_text("an answer\n")
    (tmp_path / "link").symlink_to(trail)
    (tmp_path / "hard").hardlink_to(trail)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    words = ["run", str(clip), "--detector", "haar", "--gate", "18", "--audit", str(trail)]
    assert main([*words, flag, str(tmp_path / name)]) == 2
    assert f"expected different files for --audit and {flag}" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_outputs_are_two_files(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """--jsonl and --save with the same file is an error before anything is written."""
    out = tmp_path / "out.mp4"
    assert main(["run", str(clip), "--jsonl", str(out), "--save", str(out)]) == 2
    assert "expected different files" in capfd.readouterr().err and not out.exists()


BAD = {
    "an empty folder": (["{dir}"], "the folder contains no pictures"),
    "a missing camera": (["63"], "cameras here"),
    "another project's model": (["{clip}", "--model", "{alien}"], "not a valid .onnx model"),
    "an unknown model": (["{clip}", "--model", "age-nona"], "did you mean age-nano"),
    "a device that is not there": (["{clip}", "--device", "tensorrt"], "device tensorrt: needs"),
    "a folder that is not there": (["{clip}", "--jsonl", "{dir}/no/where.jsonl"], "cannot write"),
    "no screen": (["{clip}", "--show"], "--show needs a screen"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch) -> None:
    """Each bad input gives one sentence on stderr and exit code 1; nothing is written to stdout."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if name == "a device that is not there":
        ort = pytest.importorskip("onnxruntime")
        if "TensorrtExecutionProvider" in ort.get_available_providers():
            pytest.skip("this onnxruntime has TensorRT")
    (tmp_path / "empty").mkdir()
    (tmp_path / "alien.onnx").write_bytes(b"not a model")
    flags, sentence = BAD[name]
    places = {"dir": tmp_path / "empty", "clip": clip, "alien": tmp_path / "alien.onnx"}
    assert main(["run", *[flag.format(**places) for flag in flags], "--detector", "haar"]) == 1
    out, err = capfd.readouterr()
    complaint = [line for line in err.splitlines() if sentence in line]
    assert out == "" and len(complaint) == 1 and complaint[0].startswith("numclip: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["--jsonl", "--save", "--csv", "--record"])
def test_a_full_disk(flag: str, clip: Path) -> None:
    """Writing to /dev/full gives one sentence, exit code 1."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = subprocess.run(
        [*NUMCLIP, "run", str(clip), "--detector", "haar", flag, "/dev/full"], capture_output=True, text=True
    )
    assert done.returncode == 1 and "cannot write /dev/full (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr


def test_jsonl_ends_with_a_whole_line_when_the_disk_fills(tmp_path: Path) -> None:
    """If a line does not fit on the disk, its beginning is removed again, so every line of the file is complete."""
    code = """
import resource, signal, sys
from numclip.runtime.sinks.line_file import LineFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
file = LineFile(sys.argv[1], "--jsonl")
for i in range(1000):
    file.append(b'{"frame": %d, "text": "some words"}\\n' % i)
"""
    path = tmp_path / "o.jsonl"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "OutputError" in done.stderr and "ends with the last complete line" in done.stderr
    assert [line["frame"] for line in _lines(path)] == list(range(len(_lines(path)))) and len(_lines(path)) > 20
    assert path.read_bytes().endswith(b"}\n")


def test_ctrl_c(shared_data: Path, tmp_path: Path) -> None:
    """Ctrl-C during a run gives exit code 130, JSONL with complete lines, and a readable video with those frames."""
    clip = next((shared_data / "video").glob("two_people*.h264"))
    out, video = tmp_path / "o.jsonl", tmp_path / "o.mp4"
    flags = ["--detector", "haar", "--jsonl", str(out), "--save", str(video)]
    child = subprocess.Popen(
        [*NUMCLIP, "run", str(clip), *flags],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not out.exists() or out.read_bytes().count(b"\n") < 15):
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "stopped after" in err and "Traceback" not in err
    lines = _lines(out)
    with av.open(str(video)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert 15 <= len(lines) < 300 and len(lines) - 2 <= frames <= len(lines)


def test_a_reader_that_leaves(clip: Path) -> None:
    """`numclip run … --jsonl - | head -n 1` prints one line and ends without a traceback."""
    command = f"{' '.join(NUMCLIP)} run {clip} --detector haar --jsonl - | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert json.loads(done.stdout)["frame"] == 0 and "Traceback" not in done.stderr


CONTRADICTIONS = {
    "live and files": (["{clip}", "http://127.0.0.1:9/"], 1, "cannot open it"),
    "the same twice": (["{clip}", "{clip}"], 2, "expected each source once"),
    "one video for two": (["{clip}", "{other}", "--save", "o.mp4"], 2, "such as out{}.mp4"),
    "counts and boxes": (["{clip}", "--aggregate", "--save", "o.mp4"], 2, "--aggregate cannot be combined with"),
    "two to stdout": (["{clip}", "--jsonl", "-", "--csv", "-"], 2, "expected only one"),
    "pixels of nothing": (["{clip}", "--record-pixels"], 2, "together with --record"),
    "no budget": (["{clip}", "--budget-ms", "0"], 2, "--budget-ms above 0, or inf"),
    "no level": (["{clip}", "--interval", "1"], 2, "--interval between 0 and 1"),
    "no camera wish": (["{clip}", "--camera", "big"], 2, "such as 1280x720@30:MJPG"),
    "no broker's address": (["{clip}", "--mqtt", "http://a/b"], 2, "mqtt://[user:password@]host[:port]/topic"),
    "no port": (["{clip}", "--metrics", "http"], 2, "such as 9100"),
    "no such port": (["{clip}", "--jsonl", "old.jsonl", "--metrics", "99999"], 2, "99999"),
    "no broker": (["{clip}", "--csv", "old.jsonl", "--mqtt", "mqtt://127.0.0.1:1/x"], 1, "127.0.0.1"),
    "too high a level": (["{clip}", "--interval", "0.9999", "--record", "old.jsonl"], 2, "at most 0.99"),
    "a recording and lines": (["{clip}", "--record", "-", "--jsonl", "-"], 2, "expected only one"),
    "no folder": (["{clip}", "--jsonl", "old.jsonl", "--csv", "none/a.csv"], 1, "none is not a folder"),
    "ages and no ages": (
        ["{clip}", "--gate", "18", "--audit", "a.audit", "--audit-ages", "--aggregate"],
        2,
        "--audit-ages cannot be combined",
    ),
    "an endless rate": (["{clip}", "--fps", "inf"], 2, "--fps above 0"),
    "pictures in real time": (["{photo}", "--realtime"], 1, "expected a video for --realtime"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_flags_that_cannot_be(name: str, clip: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    """Each invalid combination of flags gives one sentence, exit code 2 (1 for a bad source), before anything is written: an earlier
    output stays as it was."""
    monkeypatch.chdir(tmp_path)
    Path("old.jsonl").write_text("earlier results\n")
    shutil.copy(clip, tmp_path / "other.mp4")
    cv2.imwrite("photo.png", np.zeros((9, 9, 3), np.uint8))
    before = sorted(tmp_path.iterdir())
    flags, code, sentence = CONTRADICTIONS[name]
    words = [
        flag.format(clip=clip, other="other.mp4", photo="photo.png") if "{}" not in flag else flag for flag in flags
    ]
    assert main(["run", *words, "--detector", "haar"]) == code
    out, err = capfd.readouterr()
    said = [line for line in err.splitlines() if not line.startswith("numclip: device")]
    assert out == "" and len(said) == 1 and sentence in said[0] and sorted(tmp_path.iterdir()) == before
    assert Path("old.jsonl").read_text() == "earlier results\n"


def test_lines_for_people(clip: Path, tmp_path: Path, capfd) -> None:
    """With --gate a printed line has the answer; with several sources it begins with the source; --aggregate prints counts."""
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    assert main(["run", str(clip), str(other), "--detector", "haar", "--gate", "18"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert {line.split(" ")[0] for line in lines} == {str(clip), str(other)}
    assert any(re.search(r"\d \w.* 18\+ (yes|no|ask) #1", line) for line in lines)
    assert main(["run", str(clip), "--detector", "haar", "--aggregate"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "no face" in lines[0] and re.fullmatch(r" *[\d.]+ s: 1 \w[\w -]*", lines[-1])


def test_two_videos_are_one_run(clip: Path, tmp_path: Path) -> None:
    """Two videos in one run give every frame of both in one JSONL with source names, ids from 1 in each, and a video each."""
    other = Path(shutil.copy(clip, tmp_path / "other.mp4"))
    out = tmp_path / "o.jsonl"
    flags = ["--detector", "haar", "--jsonl", str(out), "--save", str(tmp_path / "o{}.mp4")]
    assert main(["run", str(clip), str(other), *flags]) == 0
    lines = _lines(out)
    for source in (clip, other):
        mine = [line for line in lines if line["source"] == str(source)]
        assert [line["frame"] for line in mine] == list(range(40))
        assert {face["track"] for line in mine for face in line["faces"]} == {1}
    for number in (0, 1):
        with av.open(str(tmp_path / f"o{number}.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == 40


def test_a_table(clip: Path, tmp_path: Path) -> None:
    """--csv writes one row per face with the same numbers as JSONL."""
    out, table = tmp_path / "o.jsonl", tmp_path / "o.csv"
    assert main(["run", str(clip), "--detector", "haar", "--jsonl", str(out), "--csv", str(table)]) == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    faces = [(line["frame"], face) for line in _lines(out) for face in line["faces"]]
    assert len(rows) == len(faces) == 38
    for row, (frame, face) in zip(rows, faces, strict=True):
        assert (int(row["frame"]), int(row["track"]), float(row["age"])) == (frame, face["track"], face["age"])
        assert [float(row[k]) for k in ("x1", "y1", "x2", "y2")] == face["box"] and row["bin"] == face["bin"]


def test_counts_say_nothing_of_anybody(clip: Path, tmp_path: Path) -> None:
    """--aggregate writes the number of faces per word to JSONL and CSV, without boxes, tracks, ages or probabilities."""
    out, table = tmp_path / "o.jsonl", tmp_path / "o.csv"
    flags = ["--detector", "haar", "--aggregate", "--jsonl", str(out), "--csv", str(table)]
    assert main(["run", str(clip), *flags]) == 0
    lines = _lines(out)
    schema = json.loads((Path(__file__).parents[3] / "docs/reference/lines.schema.json").read_text())
    for line in lines:
        jsonschema.validate(line, schema)
    assert {tuple(line) for line in lines} == {
        ("source", "frame", "time_s", "latency_ms", "dropped", "counts", "unread")
    }
    assert [sum(line["counts"].values()) for line in lines] == [0, 0, *[1] * 38]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{k: int(row[k]) for k in lines[0]["counts"]} for row in rows] == [line["counts"] for line in lines]


def test_with_counts_the_audit_names_no_track(clip: Path, tmp_path: Path) -> None:
    """With --aggregate the answers of a gate are recorded without the number of the track; without it, with the number."""
    flags = ["run", str(clip), "--detector", "haar", "--gate", "18"]
    for name, more in (("counts", ["--aggregate"]), ("all", [])):
        assert main([*flags, *more, "--audit", str(tmp_path / name)]) == 0
    answers = {
        name: [a["track"] for a in _lines(tmp_path / name) if a["kind"] == "answer"] for name in ("counts", "all")
    }
    assert len(answers["counts"]) == len(answers["all"]) > 0
    assert set(answers["counts"]) == {None} and None not in answers["all"]


@pytest.mark.parametrize("pixels", [False, True])
def test_nothing_else_is_written(clip: Path, tmp_path: Path, pixels: bool) -> None:
    """A traced run with every file output opens only these files for writing, apart from the cache folder, which stores the choice of
    the session. Without --record-pixels and --save none of them contains a picture."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    flags = ["--detector", "haar", "--jsonl", "o.jsonl", "--csv", "o.csv", "--record", "o.rec"]
    flags += ["--save", "o.mp4", "--record-pixels"] if pixels else []
    code = f"""
import os, sys
opened = []
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        opened.append(os.path.abspath(os.fsdecode(args[0])))
    if event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "shutil.copyfile"):
        opened.append(event + " " + str(args[0]))
sys.addaudithook(watch)
import numclip
from numclip.cli.main import main
from numclip.errors import UsageError
from numclip.runtime import OutputOptions, RunOptions, run
from numclip.runtime.live.frames import SourceEvent, SourceInfo
from numclip.runtime.sinks.run_statistics import RunStatistics
code = main(["run", {str(clip)!r}, *{flags!r}])
print("OPENED", *sorted(set(opened)), sep="\\n")
sys.exit(code)
"""
    env = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "NUMCLIP_CACHE": str(tmp_path / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=work, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = {"o.jsonl", "o.csv", "o.rec", *(["o.mp4"] if pixels else [])}
    lines = done.stdout.split("OPENED\n")[1].splitlines()
    opened = {line for line in lines if str(tmp_path / "cache") not in line} - {"/dev/null"}
    assert opened == {str(work / name) for name in wanted}
    assert {p.name for p in work.iterdir()} == wanted and list(home.rglob("*")) == []
    assert ('"jpeg"' in (work / "o.rec").read_text()) == pixels


def test_a_live_run_over_http(camera, tmp_path: Path) -> None:
    """During `numclip run http://…` the server is killed and restarted: the lines have one `stalled` and one `resumed` event, ids do
    not continue across the gap, the summary reports dropped frames, and Ctrl-C ends the run with complete lines."""
    camera.start(320, 240, 30)
    out = tmp_path / "o.jsonl"
    url = camera.url.replace("http://", "http://me:secret@")
    child = subprocess.Popen(
        [*NUMCLIP, "run", url, "--detector", "haar", "--jsonl", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def wait_for(what) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (out.exists() and what(_whole_lines(out))):
            time.sleep(0.05)

    wait_for(lambda lines: any(line.get("faces") for line in lines))
    camera.kill()
    wait_for(lambda lines: any(line.get("event") == "stalled" for line in lines))
    camera.start(400, 300, 30)
    wait_for(lambda lines: lines and lines[-1].get("faces") and lines[-1]["faces"][0]["track"] == 2)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    lines = _lines(out)
    assert child.returncode == 130 and "Traceback" not in err and "secret" not in err + out.read_text()
    events = [line for line in lines if "event" in line]
    assert [e["event"] for e in events] == ["stalled", "resumed"] and events[0]["source"] == camera.url
    gap = lines.index(events[1])
    tracks = [{face["track"] for line in part for face in line.get("faces", ())} for part in (lines[:gap], lines[gap:])]
    assert tracks == [{1}, {2}] and "1 stalls, 1 reconnects" in err


def _whole_lines(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_the_same_file_gives_the_same_lines(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two runs and numclip.stream give identical lines apart from latency_ms; a budget for a file prints a warning."""
    found: list[list[dict]] = []
    for name in ("a.jsonl", "b.jsonl"):
        flags = ["--device", "cpu", "--threads", "1", "--detector", "haar", "--jsonl", str(tmp_path / name)]
        assert main(["run", str(clip), *flags]) == 0
        found.append([{**line, "latency_ms": 0} for line in _lines(tmp_path / name)])
    model = numclip.load("age-nano", device="cpu", threads=1)
    found.append([{**r.to_dict(), "latency_ms": 0} for r in numclip.stream(str(clip), model, "haar")])
    assert found[0] == found[1] == found[2]
    assert "depend on the speed" not in capfd.readouterr().err
    assert main(["run", str(clip), "--detector", "haar", "--budget-ms", "5", "--jsonl", str(tmp_path / "c")]) == 0
    assert "the results depend on the speed of this machine" in capfd.readouterr().err


def test_a_run_without_the_command(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """numclip.runtime.run writes the same as the command, returns a summary and prints nothing; wrong options raise when created."""
    out, said = tmp_path / "o.jsonl", list[str]()
    outputs = OutputOptions(jsonl=str(out))
    summary = run(RunOptions((str(clip),), detector="haar", outputs=outputs))
    assert summary.frames == len(_lines(out)) == 40 and summary.tracks == 1 and summary.complete
    assert summary.sentence.startswith("40 frames, 38 faces, 1 tracks")
    run(RunOptions((str(clip),), detector="haar"), said.append)
    assert len(said) == 40 and "#1" in said[-1]
    assert capfd.readouterr().out == ""
    for wrong in ({"sources": ()}, {"budget_ms": 0.0}, {"max_faces": 0}, {"challenge": 25.0}):
        with pytest.raises(UsageError, match=r"expected|need"):
            RunOptions(**{"sources": ("0",), **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("reads", ["after SIGTERM", "after the end"])
def test_a_slow_reader_and_sigterm(shared_data: Path, reads: str) -> None:
    """With an unread stdout the run waits; after SIGTERM the number of complete lines equals the reported number of frames."""
    clip = next((shared_data / "video").glob("two_people*.h264"))
    command = [*NUMCLIP, "run", str(clip), "--detector", "haar", "--jsonl", "-"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    select.select([child.stdout], [], [], 120)
    before, deadline = -1, time.monotonic() + 120
    while time.monotonic() < deadline:  # wait until the pipe is full
        waiting = fcntl.ioctl(child.stdout, termios.FIONREAD, b"\0" * 4)
        now = int.from_bytes(waiting, sys.byteorder)
        if now == before and now > 50_000:
            break
        before = now
        time.sleep(2)
    os.kill(child.pid, signal.SIGTERM)
    if reads == "after the end":
        child.wait(timeout=120)
    out, err = child.communicate(timeout=120)
    said = re.search(r"^(\d+) frames", err.decode(), re.MULTILINE)
    assert said is not None and "Traceback" not in err.decode()
    whole = out[: out.rfind(b"\n") + 1].splitlines()
    assert [json.loads(line)["frame"] for line in whole] == list(range(int(said[1]))) and int(said[1]) > 50
    if reads == "after SIGTERM":
        assert child.returncode == 0 and out.endswith(b"\n")


def test_a_lost_camera_is_said_and_counts() -> None:
    """`failed`, `stalled` without `resumed`, and `ended` of one of several cameras make a run incomplete; the end of a file played
    live does not."""
    cameras = [SourceInfo("a", live=True), SourceInfo("b", live=True)]
    film = SourceInfo("film", live=True, files=(Path("film"),))
    for infos, kind, name, complete in (
        (cameras, "ended", "a", False),
        (cameras, "failed", "b", False),
        (cameras, "stalled", "b", False),
        (cameras[:1], "ended", "a", True),
        (cameras[:1], "failed", "a", False),
        ([film, *cameras], "ended", "film", True),
    ):
        statistics = RunStatistics()
        statistics.tell(SourceEvent(kind, name, 3.0, "gone"))  # type: ignore[arg-type]
        assert statistics.summary("years", [], infos).complete == complete
