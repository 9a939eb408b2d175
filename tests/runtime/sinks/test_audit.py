"""The audit trail of a gate: one unbroken chain; edits are found; signed answers cannot be forged or replayed."""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numclip.cli.main import main
from numclip.errors import DataError, OutputError, UsageError
from numclip.runtime.contract.model_file import FINDER, MODELS, message
from numclip.runtime.sinks.audit import AuditOptions, check_audit
from numclip.runtime.sinks.audit_file import AuditFile, Head, head_of, verify_audit
from numclip.runtime.sinks.running import RunOptions, run
from numclip.runtime.sinks.verdicts import Checker, Signer
from numclip.runtime.sinks.video_writer import VideoWriter


@pytest.fixture(scope="module")
def portrait() -> str:
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    return str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture(scope="module")
def clip(portrait: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still portrait for 20 frames."""
    path = tmp_path_factory.mktemp("clip") / "still.mp4"
    image = cv2.imread(portrait)
    assert image is not None
    image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, image.shape[1::-1])
    for _ in range(20):
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A private key, its public key, and another private key."""
    jwk = pytest.importorskip("joserfc.jwk", reason="needs the extra sign")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        key = jwk.ECKey.generate_key("P-256")
        (folder / f"{name}.pem").write_bytes(key.as_pem(private=True))
        (folder / f"{name}.public.pem").write_bytes(key.as_pem(private=False))
    return folder / "mine.pem", folder / "mine.public.pem", folder / "other.pem"


def _audited(source: Path | str, file: Path, *flags: str) -> list[dict[str, object]]:
    assert main(["run", str(source), *flags, "--gate", "18", "--audit", str(file)]) == 0
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_is_kept(clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The file records the start of a run with model, calibration and settings, each new answer once with its reason, and the end."""
    lines = _audited(clip, tmp_path / "audit", "--jsonl", str(tmp_path / "out"))
    shown = [json.loads(line)["faces"] for line in (tmp_path / "out").read_text().splitlines()]
    said = [face["gate"]["answer"] for faces in shown for face in faces]
    assert [line["kind"] for line in lines] == ["run", *["answer"] * (len(lines) - 2), "end"]
    answers = [line for line in lines if line["kind"] == "answer"]
    changes = [b for a, b in zip(["", *said], said) if a != b]
    assert [line["answer"] for line in answers] == changes and answers[-1]["answer"] == "yes"
    assert {"answer", "reason", "model", "calibration", "settings", "threshold", "error", "looks"} < set(answers[0])
    assert answers[-1]["reason"] == "above the limit" and lines[0]["settings_are"]["gate"] == 18  # type: ignore[index]
    forbidden = {"box", "age", "low", "high", "embedding", "probabilities", "p", "file", "score", "landmarks"}
    assert not forbidden & {name for line in lines for name in line}
    assert lines[0]["sources"] == [str(clip)] and {line["source"] for line in answers} == {0}
    assert main(["audit", "verify", str(tmp_path / "audit")]) == 0
    assert f"{len(lines)} lines, 1 runs, " in capfd.readouterr().out


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_sources_are_numbered_as_on_the_command_line(portrait: str, tmp_path: Path) -> None:
    """The first source has no face, so the second is the first with an answer; its number is still 1, as in the run's list of names,
    in which the password is hidden."""
    face = cv2.imread(portrait)
    assert face is not None
    for name, image in {"empty.mp4": np.full_like(face, 90), "face.mp4": face}.items():
        writer = VideoWriter(tmp_path / name, 10)
        for i in range(10):
            writer.write(np.asarray(image, np.uint8), i / 10)
        writer.close()
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_address[1]}/face.mp4"
        lines = _audited(tmp_path / "empty.mp4", tmp_path / "audit", f"http://user:secret@{place}")
        server.shutdown()
    assert lines[0]["sources"] == [str(tmp_path / "empty.mp4"), f"http://{place}"]
    assert {line["source"] for line in lines if line["kind"] == "answer"} == {1}


def test_other_settings_have_another_hash(clip: Path, portrait: str, tmp_path: Path) -> None:
    """The hash of the settings tells two detector files from each other, and the live default of 10 ms from no limit; the default and
    --budget-ms 10 are the same setting."""
    other = tmp_path / "other.onnx"
    other.write_bytes((MODELS / f"{FINDER}.onnx").read_bytes() + message(2, b"another producer"))
    live = ("--realtime",)
    runs = {
        "default": (portrait,),
        "other detector": (portrait, "--detector", str(other)),
        "live": (clip, *live),
        "live 10 ms": (clip, *live, "--budget-ms", "10"),
        "live inf": (clip, *live, "--budget-ms", "inf"),
    }
    hashes = {name: _audited(words[0], tmp_path / name, *words[1:])[0]["settings"] for name, words in runs.items()}
    assert hashes["live"] == hashes["live 10 ms"]
    assert hashes["default"] == hashes["live inf"], "a file and a picture have no limit"
    assert len({hashes[name] for name in ("default", "other detector", "live")}) == 3


def test_ages_only_when_asked(portrait: str, tmp_path: Path) -> None:
    """--audit-ages adds the age and its range; audit flags without --audit, and --audit without --gate, are errors."""
    lines = _audited(portrait, tmp_path / "audit", "--audit-ages")
    assert lines[1]["low"] < lines[1]["age"] < lines[1]["high"]  # type: ignore[operator]
    assert main(["run", portrait, "--gate", "18", "--audit-ages"]) == 2
    assert main(["run", portrait, "--audit", str(tmp_path / "other")]) == 2
    with pytest.raises(UsageError, match="expected --sign KEY together with --nonce"):
        AuditOptions(tmp_path / "other", nonce="a")


def _written(path: Path, many: int) -> bytes:
    audit = AuditFile(path)
    for i in range(many):
        kind = "run" if i == 0 else "answer"
        audit.append({"kind": kind, "answer": ["yes", "no", "ask"][i % 3], "reason": "above the limit", "track": i})
    audit.close()
    return path.read_bytes()


def _edits() -> dict[str, Callable[[random.Random, bytes], bytes]]:
    """Yield ways to edit a file of lines."""

    def lines(change: Callable[[random.Random, list[bytes]], object]) -> Callable[[random.Random, bytes], bytes]:
        def edit(dice: random.Random, data: bytes) -> bytes:
            rows = data.splitlines(keepends=True)
            change(dice, rows)
            return b"".join(rows)

        return edit

    def changed_byte(dice: random.Random, data: bytes) -> bytes:
        at = dice.randrange(len(data))
        return data[:at] + bytes([data[at] ^ dice.randrange(1, 256)]) + data[at + 1 :]

    def added_byte(dice: random.Random, data: bytes) -> bytes:
        at = dice.randrange(len(data) + 1)
        return data[:at] + bytes([dice.randrange(256)]) + data[at:]

    def lost_byte(dice: random.Random, data: bytes) -> bytes:
        at = dice.randrange(len(data))
        return data[:at] + data[at + 1 :]

    def another_answer(dice: random.Random, rows: list[bytes]) -> None:
        at = dice.randrange(len(rows))
        record = json.loads(rows[at])
        record["answer"] = dice.choice([a for a in ("yes", "no", "ask") if a != record["answer"]])
        rows[at] = json.dumps(record, separators=(",", ":")).encode() + b"\n"

    def swapped(dice: random.Random, rows: list[bytes]) -> None:
        a, b = dice.sample(range(len(rows)), 2)
        rows[a], rows[b] = rows[b], rows[a]

    return {
        "a byte is another": changed_byte,
        "a byte more": added_byte,
        "a byte less": lost_byte,
        "cut off somewhere": lambda dice, data: data[: dice.randrange(len(data))],
        "another answer": lines(another_answer),
        "a line dropped": lines(lambda dice, rows: rows.pop(dice.randrange(len(rows)))),
        "the last lines dropped": lines(lambda dice, rows: rows.__delitem__(slice(dice.randrange(len(rows)), None))),
        "two lines change places": lines(swapped),
        "a line twice": lines(lambda dice, rows: rows.insert(dice.randrange(len(rows)), dice.choice(rows))),
    }


def test_a_thousand_edits_are_found(tmp_path: Path) -> None:
    """All of 1,000 random edits of nine kinds, and 100 edits of the head, are found, and the unedited file is valid."""
    path = tmp_path / "audit"
    data, dice, edits = _written(path, 60), random.Random(0), list(_edits().items())
    head = head_of(path).read_bytes()
    assert verify_audit(path).fault is None and verify_audit(path).lines == 60
    found = 0
    for i in range(1000):
        name, edit = edits[i % len(edits)]
        changed = edit(dice, data)
        while changed == data:
            changed = edit(dice, data)
        path.write_bytes(changed)
        report = verify_audit(path)
        assert report.fault is not None, (i, name)
        found += 1
    path.write_bytes(data)
    for _ in range(100):
        at = dice.randrange(len(head))
        head_of(path).write_bytes(head[:at] + bytes([head[at] ^ dice.randrange(1, 256)]) + head[at + 1 :])
        assert verify_audit(path).fault is not None
    head_of(path).unlink()
    assert "its head file" in str(verify_audit(path).fault)
    print(f"{found} of 1000 edits were found")


@given(st.integers(0, 10**19), st.integers(0, 10**19), st.text("0123456789abcdef", min_size=64, max_size=64))
@settings(max_examples=50)
def test_heads(lines: int, size: int, last: str) -> None:
    """A head survives conversion to bytes and back, and always has the same length."""
    head = Head(lines, size, last)
    assert Head.parse(head.data) == head and len(head.data) == len(Head().data)


def test_which_line_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An answer changed on line 5 is found at line 6, and lines missing at the end are counted; no run continues such a file."""
    path = tmp_path / "audit"
    data = _written(path, 9)
    rows = data.splitlines(keepends=True)
    path.write_bytes(b"".join([*rows[:4], rows[4].replace(b'"no"', b'"yes"'), *rows[5:]]))
    assert main(["audit", "verify", str(path)]) == 1
    assert "line 6 does not follow from the one before" in capfd.readouterr().err
    path.write_bytes(b"".join(rows[:6]))
    assert main(["audit", "verify", str(path), "--json", "-"]) == 1
    said = capfd.readouterr()
    assert "3 lines are missing at the end" in said.err and json.loads(said.out)["whole"] is False
    with pytest.raises(OutputError, match="the existing audit file was altered"):
        AuditFile(path)


WRITER = """
import sys, time
from pathlib import Path
from numclip.runtime.sinks.audit_file import AuditFile
audit = AuditFile(Path(sys.argv[1]))
print("ready", flush=True)
if len(sys.argv) > 4:
    sys.stdin.readline()
for i in range(int(sys.argv[2])):
    time.sleep(0.001)
    audit.append({"kind": "answer", "answer": "ask", "who": sys.argv[3], "i": i})
"""


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    """Two concurrent processes with 400 lines each write one valid chain of 800 lines, each process's in order, interleaved."""
    path = tmp_path / "audit"
    words = [[sys.executable, "-c", WRITER, str(path), "400", name, "wait"] for name in "ab"]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in words]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    assert [writer.wait(120) for writer in writers] == [0, 0]
    report = verify_audit(path)
    assert report.fault is None and report.lines == 800
    who = [str(record["who"]) for record in report.records]
    for name in "ab":
        assert [r["i"] for r in report.records if r["who"] == name] == list(range(400))
    assert sum(a != b for a, b in itertools.pairwise(who)) > 1


def test_two_runs_write_one_chain(clip: Path, tmp_path: Path) -> None:
    """Two concurrent `numclip run` write one valid chain of two runs, each with its end."""
    path = tmp_path / "audit"
    command = [sys.executable, "-m", "numclip.cli.main", "run", str(clip), "--gate", "18", "--audit", str(path)]
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    report = verify_audit(path)
    assert report.fault is None and report.runs == 2
    assert sum(record["kind"] == "end" for record in report.records) == 2


@pytest.mark.parametrize("left", ["half a line", "a line that the head does not know"])
def test_after_a_kill(tmp_path: Path, left: str) -> None:
    """After a kill within a line, or between a line and the head, the next run continues, and the chain is valid."""
    path = tmp_path / "audit"
    _written(path, 3)
    head = head_of(path).read_bytes()
    whole = _written(path, 1)
    if left == "half a line":
        path.write_bytes(whole[:-20])
    head_of(path).write_bytes(head)
    lines = len(_written(path, 2).splitlines())
    assert lines == (5 if left == "half a line" else 6)
    assert verify_audit(path).fault is None


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from numclip.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_file_that_may_not_grow(clip: Path, tmp_path: Path) -> None:
    """If the second line does not fit, the run stops with one sentence and exit code 1, and the chain is valid."""
    path = tmp_path / "audit"
    flags = ["run", str(clip), "--gate", "18", "--audit", str(path)]
    done = subprocess.run([sys.executable, "-c", FULL, "1000", *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "The file ends with the last complete line" in done.stderr
    report = verify_audit(path)
    assert report.fault is None and report.records[0]["kind"] == "run" and not report.answers


def test_a_full_disk(clip: Path, tmp_path: Path) -> None:
    """On a full disk of 16 KB the run stops with one sentence, and the chain is valid."""
    unshare, disk = shutil.which("unshare"), tmp_path / "disk"
    disk.mkdir()
    # The disk disappears with the namespace, so the file is copied out first; /dev/zero fills the remaining space.
    script = f"""
        mount -t tmpfs -o size=16k none {disk} || exit 77
        {sys.executable} -c '{WRITER}' {disk}/audit 8 a || exit 78
        head -c 100000 /dev/zero > {disk}/rest
        {sys.executable} -c '{WRITER}' {disk}/audit 100 a; echo "writer: $?" >&2
        {sys.executable} -m numclip.cli.main run {clip} --gate 18 --audit {disk}/audit; code=$?
        cp {disk}/audit {disk}/audit.head {tmp_path}; exit $code
    """
    if unshare is None:
        pytest.skip("needs unshare for a separate disk")
    done = subprocess.run([unshare, "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    if done.returncode in (77, 1) and "Operation not permitted" in done.stderr:
        pytest.skip("needs permission to mount a disk")
    assert done.returncode == 1 and "(No space left on device); free disk space" in done.stderr, done.stderr
    assert "writer: 1" in done.stderr
    report = verify_audit(tmp_path / "audit")
    assert report.fault is None and 8 <= report.lines < 108


def test_signed_answers(portrait: str, tmp_path: Path, keys: tuple[Path, Path, Path], capfd) -> None:
    """Each answer is signed with the caller's nonce; another nonce, another key and an unsigned file are errors."""
    mine, public, other = keys
    file = tmp_path / "audit"
    lines = _audited(portrait, file, "--sign", str(mine), "--nonce", "n-1")
    assert all(("jws" in line) == (line["kind"] == "answer") for line in lines)
    assert check_audit(file, public, "n-1").fault is None
    assert "signed with another; it may be a replayed answer" in str(check_audit(file, public, "n-2").fault)
    assert main(["audit", "verify", str(file), "--key", str(other.with_name("other.public.pem"))]) == 1
    assert "it is forged" in capfd.readouterr().err
    _audited(portrait, tmp_path / "plain")
    assert "is not signed" in str(check_audit(tmp_path / "plain", public).fault)
    assert main(["run", portrait, "--gate", "18", "--audit", str(file), "--sign", str(public)]) == 2
    assert "expected a private P-256 key" in capfd.readouterr().err
    assert main(["audit", "verify", str(file), "--nonce", "n-1"]) == 2


def test_a_signature_belongs_to_its_answer(portrait: str, tmp_path: Path, keys: tuple[Path, Path, Path]) -> None:
    """Even in a newly computed, valid chain, the key finds a changed answer, one with another's signature, and a repeated answer."""
    mine, public, _ = keys
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "ab":
        shutil.copy(portrait, folder / f"{name}.jpg")
    lines = _audited(folder, tmp_path / "audit", "--sign", str(mine))
    records = [{k: v for k, v in line.items() if k not in ("n", "before")} for line in lines]
    first, second = [i for i, record in enumerate(records) if record["kind"] == "answer"][:2]

    def remade(name: str, changed: list[dict[str, object]]) -> str:
        audit = AuditFile(tmp_path / name)
        for record in changed:
            audit.append(record)  # type: ignore[arg-type]
        audit.close()
        assert check_audit(tmp_path / name).fault is None
        return str(check_audit(tmp_path / name, public).fault)

    other = {**records[first], "answer": "no"}
    assert "belongs to another answer" in remade("changed", [*records[:first], other, *records[first + 1 :]])
    moved = {**records[second], "jws": records[first]["jws"]}
    assert "belongs to another answer" in remade("moved", [*records[:second], moved])
    assert "repeats an earlier line" in remade("twice", [*records, records[first]])


def test_forged_and_replayed_verdicts_are_refused(keys: tuple[Path, Path, Path]) -> None:
    """A checker accepts a verdict with a nonce that it issued, once; it rejects a repeated, foreign, edited or differently signed
    one."""
    mine, public, other = keys
    checker = Checker(public)
    nonce = checker.nonce()
    verdict = Signer(mine, nonce).sign({"answer": "yes"})
    assert checker.accept(verdict) == {"answer": "yes", "nonce": nonce}
    with pytest.raises(DataError, match="never issued or was used before"):
        checker.accept(verdict)
    with pytest.raises(DataError, match="never issued or was used before"):
        checker.accept(Signer(mine, "my own").sign({"answer": "yes"}))
    with pytest.raises(DataError, match="it is forged"):
        checker.accept(Signer(other, checker.nonce()).sign({"answer": "yes"}))
    head, payload, signature = Signer(mine, checker.nonce()).sign({"answer": "no"}).split(".")
    for token in (
        f"{head}.{verdict.split('.')[1]}.{signature}",
        f"{head}.{payload}.",
        "eyJhbGciOiJub25lIn0." + payload + ".",
        "x",
    ):
        with pytest.raises(DataError, match="it is forged"):
            checker.accept(token)


def test_from_python(portrait: str, tmp_path: Path) -> None:
    """`RunOptions(audit=AuditOptions(file))` does the same from Python; without a gate it is an error."""
    with pytest.raises(UsageError, match="expected --gate AGE together with --audit"):
        RunOptions((portrait,), audit=AuditOptions(tmp_path / "audit"))
    run(RunOptions((portrait,), gate=18, audit=AuditOptions(tmp_path / "audit")), say=lambda line: None)
    assert verify_audit(tmp_path / "audit").lines == 3
