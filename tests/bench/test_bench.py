"""Complete runs of `numclip bench`, without checking times: reports, scenarios, devices, pictures, bad flags."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from numclip.bench.contenders import facts_of
from numclip.cli.main import main
from numclip.runtime.contract.model_file import MODELS, read_spec
from numclip.runtime.sessions.model import load
from numclip.runtime.sinks.video_writer import VideoWriter

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/bench.schema.json").read_text())
QUICK = ["--device", "cpu", "--seconds", "0.2", "--restarts", "2"]


def bench(capfd: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """Run the command and return its report, validated against the schema in the docs."""
    capfd.readouterr()
    assert main(["bench", *flags, "--json", "-"]) == 0
    report = json.loads(capfd.readouterr().out)
    jsonschema.validate(report, SCHEMA)
    return report


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A photo with one face, from matplotlib."""
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    with cbook.get_sample_data("grace_hopper.jpg", asfileobj=True) as file:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.resize(image, (192, 228))


def test_a_report_says_what_ran_where(capfd: pytest.CaptureFixture[str]) -> None:
    """Rows have hash, error, parity, work, memory, load time, first-call time, and percentiles with n; no host name appears."""
    report = bench(capfd, "age-nano", "--batch", "1,2", *QUICK)
    assert [row["batch"] for row in report["rows"]] == [1, 2] and report["scenario"] == "single-stream"
    one, two = report["rows"]
    assert len(one["sha256"]) == 64 and one["load_ms"] > 0 and one["first_call_ms"] > 0 and one["rss_mb"] > 0
    assert one["latency_ms"]["n"] >= 36 and one["latency_ms"]["p90"]["low"] <= one["latency_ms"]["p90"]["high"]
    assert one["latency_ms"]["p99.9"] is None, "p99.9 needs 3,688 samples"
    assert [m["data"] for m in one["mae"]] and one["parity"]["fp32"]["unit"] == "years"
    assert one["flop_per_call"] == 2 * one["multiply_adds"] and two["flop_per_call"] == 4 * two["multiply_adds"]
    assert two["bytes_per_call"] - one["bytes_per_call"] == read_spec(MODELS / "age-nano.onnx").crop.side ** 2 * 3, (
        "one more face uses the same weights"
    )
    assert 0 < one["gemm_share"] < 2 and 0 < one["copy_share"] < 2 and 0 <= one["interrupted"] <= 1
    ends = {key: one["ratio_to_first"][key] for key in ("value", "low", "high")}
    assert ends == {"value": 1, "low": 1, "high": 1}
    assert len(one["restarts"]) == 2 and report["valid"] and "node" not in json.dumps(report["environment"])


def test_scenarios_of_mlperf(capfd: pytest.CaptureFixture[str]) -> None:
    """multi-stream uses eight faces and enough samples for p99; offline uses 32 faces and reports a rate."""
    multi = bench(capfd, "age-nano", "--scenario", "multi-stream", *QUICK)["rows"][0]
    assert multi["batch"] == 8 and multi["latency_ms"]["n"] >= 368 and multi["latency_ms"]["p99"] is not None
    offline = bench(capfd, "age-nano", "--scenario", "offline", *QUICK)["rows"][0]
    assert offline["batch"] == 32 and offline["faces_per_s"]["value"] > 0


def test_sustained_watches_for_drift(capfd: pytest.CaptureFixture[str]) -> None:
    """A sustained run reports windows in time order, the ratio of their last third to their first third, and a verdict."""
    report = bench(capfd, "age-nano", "age-nano", "--scenario", "sustained", *QUICK, "--seconds", "2")
    assert len(report["rows"]) == 2
    row = report["rows"][0]
    times = [w["at_s"] for w in row["windows"]]
    assert len(times) >= 6 and times == sorted(times) and row["windows"][0]["cpu_mhz"] in (None, *range(100, 9000))
    assert row["drift"]["low"] <= row["drift"]["value"] <= row["drift"]["high"]
    assert row["steady"] == (row["drift"]["low"] <= 1.05)


def test_a_device_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    """An absent device is an error in one sentence; with --skip-absent it is listed with that sentence, and the others run."""
    assert main(["bench", "age-nano", "--device", "cpu,cuda", "--seconds", "0.1"]) == 1
    sentence = capfd.readouterr().err.removeprefix("numclip: ").strip()
    assert "\n" not in sentence and "cuda" in sentence
    report = bench(capfd, "age-nano", *QUICK, "--device", "cpu,cuda", "--skip-absent")
    assert [row["device"] for row in report["rows"]] == ["cpu"]
    assert report["absent"] == [{"model": "age-nano", "device": "cuda", "reason": sentence}]


def test_real_faces_are_timed(portrait: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """--pictures accepts pictures with faces; a picture without a face is an error, exit code 1."""
    cv2.imwrite(str(tmp_path / "face.png"), portrait)
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((90, 90, 3), 99, np.uint8))
    report = bench(capfd, "age-nano", *QUICK, "--detector", "haar", "--pictures", str(tmp_path / "face.png"))
    assert report["crops"] == f"1 faces of {tmp_path / 'face.png'}"
    assert main(["bench", "age-nano", *QUICK, "--pictures", str(tmp_path / "wall.png")]) == 1
    assert "found no face" in capfd.readouterr().err


def test_pipeline_stages_add_up(portrait: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The pipeline report has all stages, each with n, for 0 to 16 faces; the last stage is the total."""
    writer = VideoWriter(tmp_path / "clip.mp4", 20)
    for i in range(25):
        writer.write(np.asarray(portrait, np.uint8), i / 20)
    writer.close()
    flags = [
        "--scenario",
        "pipeline",
        "--clip",
        str(tmp_path / "clip.mp4"),
        "--detector",
        "haar",
        "--device",
        "cpu",
        "--frames",
        "12",
    ]
    rows = bench(capfd, "age-nano", *flags, "--plot", str(tmp_path / "stages.svg"))["rows"]
    assert [row["faces"] for row in rows][-6:] == [0, 1, 2, 4, 8, 16]
    for row in rows:
        middles = [found["p50"]["value"] for found in row["stages"].values() if found["p50"] is not None]
        assert not middles or max(middles) == middles[-1], "no median from too few frames of a crowd"
    assert "faces: 16" in (tmp_path / "stages.svg").read_text()


def test_a_picture_for_a_talk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A plot is SVG with the contenders' names as text, or a readable PNG; any other suffix is an error before timing begins."""
    pytest.importorskip("matplotlib", reason="needs the extra demo")
    bench(capfd, "age-nano", *QUICK, "--plot", str(tmp_path / "a.svg"))
    svg = (tmp_path / "a.svg").read_text()
    assert "age-nano cpu x1 t1" in svg and "95 %" in svg and "<dc:date>" not in svg
    bench(capfd, "age-nano", *QUICK, "--plot", str(tmp_path / "a.png"))
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture is not None and picture.std() > 5
    assert main(["bench", "age-nano", "--seconds", "999", "--plot", str(tmp_path / "a.gif")]) == 2
    assert "a.gif" in capfd.readouterr().err


@pytest.mark.parametrize("flag", ["--json", "--plot"])
def test_a_report_that_cannot_be_written(flag: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that does not exist is an error before timing begins."""
    assert main(["bench", "age-nano", "--seconds", "999", flag, str(tmp_path / "none" / "a.svg")]) == 1
    assert f"{tmp_path / 'none'} is not a folder that exists" in capfd.readouterr().err


def test_tables_for_a_page(capfd: pytest.CaptureFixture[str]) -> None:
    """Without --json the report is Markdown: every row of a table has as many cells as its header."""
    assert main(["bench", "age-nano", "--batch", "1,4", *QUICK]) == 0
    page = capfd.readouterr().out
    for block in (b.splitlines() for b in page.split("\n\n") if b.startswith("|")):
        assert len({line.count("|") for line in block}) == 1 and len(block) == 4
    assert "too few" in page and "next: numclip bench" in page


def test_bad_flags(capfd: pytest.CaptureFixture[str]) -> None:
    """No model, a pipeline without a clip, zero seconds, a batch of zero and an unknown device are errors, exit code 2."""
    assert main(["bench"]) == 2
    assert main(["bench", "age-nano", "--scenario", "pipeline"]) == 2
    assert main(["bench", "age-nano", "--seconds", "0"]) == 2
    assert main(["bench", "age-nano", "--restarts", "0"]) == 2
    for flags, said in ((["--batch", "1,0"], "whole numbers above 0"), (["--device", "cpu,gpu"], "got 'gpu'")):
        with pytest.raises(SystemExit) as exit_:
            main(["bench", "age-nano", *flags])
        assert exit_.value.code == 2 and said in capfd.readouterr().err


def test_the_bytes_that_run_are_named() -> None:
    """For a model name and for a path, the report has the file's name, hash and size, and the library that runs it."""
    file = MODELS / "age-nano.int8.onnx"
    opened = load(file, "auto", 1)
    facts = facts_of("age-nano.int8", opened, "auto", 1)
    assert facts["model"] == "age-nano.int8" and facts["file_bytes"] == file.stat().st_size
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["session"]["library"] == "onnxruntime" and facts_of(str(file), opened, "cpu", 1)["model"] == file.name
