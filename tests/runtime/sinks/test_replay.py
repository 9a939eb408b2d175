"""A recording is replayed line by line at its own speed, and a damaged recording is an error that names the line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from numclip.cli.main import main
from numclip.runtime.sinks import replaying
from numclip.runtime.sinks.recording import Recording
from numclip.runtime.sinks.video_writer import VideoWriter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, hopper: np.ndarray) -> Path:
    """A folder with a run on a still portrait of 20 frames: o.jsonl, o.rec, o.pixels."""
    folder = tmp_path_factory.mktemp("run")
    writer = VideoWriter(folder / "clip.mp4", 20)
    small = np.asarray(cv2.resize(hopper, (256, 304), interpolation=cv2.INTER_AREA), np.uint8)
    for i in range(20):
        writer.write(small, i / 20)
    writer.close()
    flags = ["--detector", "haar", "--jsonl", str(folder / "o.jsonl"), "--record", str(folder / "o.rec")]
    assert main(["run", str(folder / "clip.mp4"), *flags]) == 0
    flags = ["--detector", "haar", "--record", str(folder / "o.pixels"), "--record-pixels"]
    assert main(["run", str(folder / "clip.mp4"), *flags]) == 0
    return folder


def test_a_replay_writes_what_the_run_wrote(run: Path, tmp_path: Path) -> None:
    """Two replays give the same bytes as the run's JSONL."""
    for name in ("a.jsonl", "b.jsonl"):
        assert main(["replay", str(run / "o.rec"), "--fast", "--jsonl", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes() == (run / "o.jsonl").read_bytes()


def test_a_replay_takes_as_long_as_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At original speed no line appears before its time in the run or much later; --fast never waits."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        real_sleep(seconds)

    real_sleep = time.sleep
    monkeypatch.setattr(replaying.time, "sleep", sleep)
    last_s = json.loads((run / "o.rec").read_text().splitlines()[-1])["at_s"]
    started = time.monotonic()
    assert main(["replay", str(run / "o.rec"), "--jsonl", str(tmp_path / "o.jsonl")]) == 0
    assert time.monotonic() - started >= last_s > 0 and 0 < sum(waits) <= last_s
    waits.clear()
    assert main(["replay", str(run / "o.rec"), "--fast", "--jsonl", str(tmp_path / "o.jsonl")]) == 0
    assert waits == []


def test_pictures_are_recorded_only_when_asked(run: Path, tmp_path: Path) -> None:
    """Without --record-pixels the video of a replay is grey; with it the face is visible."""
    spread = []
    for name in ("o.rec", "o.pixels"):
        assert main(["replay", str(run / name), "--fast", "--save", str(tmp_path / "o.mp4")]) == 0
        with av.open(str(tmp_path / "o.mp4")) as container:
            first = next(container.decode(video=0)).to_ndarray(format="bgr24")
        spread.append(float(first.std()))
    assert spread[0] < 2 < 30 < spread[1] and "jpeg" not in (run / "o.rec").read_text()


def test_a_folder_is_played_like_the_run(tmp_path: Path, hopper: np.ndarray) -> None:
    """A recorded folder of three pictures is saved like the run's own video: one picture per second. A recording of an earlier
    version, which does not say that they are pictures, still opens."""
    (tmp_path / "photos").mkdir()
    for name in "abc":
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), hopper[:400, :400])
    record = tmp_path / "o.rec"
    flags = ["--detector", "haar", "--record", str(record), "--save", str(tmp_path / "run.mp4")]
    assert main(["run", str(tmp_path / "photos"), *flags]) == 0
    assert main(["replay", str(record), "--fast", "--save", str(tmp_path / "replay.mp4")]) == 0
    for name in ("run.mp4", "replay.mp4"):
        with av.open(str(tmp_path / name)) as video:
            assert [frame.time for frame in video.decode(video=0)] == pytest.approx([0, 1, 2], abs=0.05)
    assert Recording(record).infos[0].stills
    head, *lines = record.read_text().splitlines()
    old = json.loads(head)
    del old["sources"][0]["stills"]
    record.write_text("\n".join([json.dumps(old), *lines]) + "\n")
    assert len(list(Recording(record).items())) == 3 and not Recording(record).infos[0].stills


def test_faults_are_played_back(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A recorded stall is a line of the replay and is counted in its summary."""
    lines = (run / "o.rec").read_text().splitlines()
    source = json.loads(lines[0])["sources"][0]["name"]
    event = {"at_s": 0.5, "event": "stalled", "source": source, "time_s": 0.5, "reason": "unplugged"}
    (tmp_path / "o.rec").write_text("\n".join([*lines[:5], json.dumps(event), *lines[5:]]) + "\n")
    assert main(["replay", str(tmp_path / "o.rec"), "--fast", "--jsonl", "-"]) == 0
    out, err = capfd.readouterr()
    told = {key: value for key, value in event.items() if key != "at_s"}
    assert json.loads(out.splitlines()[4]) == told and "1 stalls" in err


def _changed(line: str, **fields: object) -> str:
    return json.dumps({**json.loads(line), **fields})


def test_damaged_recordings(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong line gives an error with its number after all earlier lines were replayed; a wrong header is an error."""
    lines = (run / "o.rec").read_text().splitlines()
    result = json.loads(lines[8])["result"]
    wrong = {
        "no JSON": lines[8][:-5],
        "a list": "[1, 2]",
        "no time": _changed(lines[8], at_s=None),
        "no size": _changed(lines[8], size_hw=[0, 5]),
        "too large": _changed(lines[8], size_hw=[10**6, 10**6]),
        "an alien source": _changed(lines[8], result={**result, "source": "elsewhere"}),
        "a word that is none": _changed(
            lines[8], result={**result, "faces": [{**result["faces"][0], "bin": "ancient"}]}
        ),
        "an age that is none": _changed(lines[8], result={**result, "faces": [{**result["faces"][0], "age": "NaN"}]}),
        "an unknown event": json.dumps({"at_s": 0, "event": "party", "source": result["source"], "time_s": 0}),
        "a picture that is none": _changed(lines[8], jpeg="AAAA"),
    }
    path = tmp_path / "o.rec"
    for name, line in wrong.items():
        path.write_text("\n".join([*lines[:8], line, *lines[9:]]))
        assert main(["replay", str(path), "--fast", "--jsonl", "-"]) == 1, name
        out, err = capfd.readouterr()
        assert len(out.splitlines()) == 7 and "line 9" in err and err.count("\n") == 1, name
    for head in ("", "{}", "words", _changed(lines[0], numclip_recording=2), _changed(lines[0], task={})):
        path.write_text("\n".join([head, *lines[1:]]))
        assert main(["replay", str(path), "--fast"]) == 1
        assert capfd.readouterr().err.count("\n") == 1
    assert main(["replay", str(tmp_path / "nothing.rec")]) == 1 and "correct the path" in capfd.readouterr().err


def test_intervals_have_the_level_of_the_recording(run: Path, tmp_path: Path) -> None:
    """A run with intervals of level 0.5 is replayed with these, without a flag."""
    flags = ["--detector", "haar", "--interval", "0.5"]
    flags += ["--jsonl", str(tmp_path / "run.jsonl"), "--record", str(tmp_path / "half.rec")]
    assert main(["run", str(run / "clip.mp4"), *flags]) == 0
    assert main(["replay", str(tmp_path / "half.rec"), "--fast", "--jsonl", str(tmp_path / "replay.jsonl")]) == 0
    assert (tmp_path / "replay.jsonl").read_bytes() == (tmp_path / "run.jsonl").read_bytes()
    assert Recording(tmp_path / "half.rec").level == 0.5
