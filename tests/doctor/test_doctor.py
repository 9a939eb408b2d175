"""`numclip doctor` finds planted problems, and the command that it prints fixes each of them."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from numclip.cli.main import main
from numclip.runtime.faces import fetch

REPO = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "docs")


@dataclass(frozen=True)
class Said:
    """One finding as printed."""

    ok: bool
    said: str
    fix: str  # the command to run, or empty


def shell(line: str, env: dict[str, str], cwd: Path | None = None, wrap: tuple[str, ...] = ()) -> dict[str, Said]:
    """Run a shell line that ends with doctor; returns doctor's findings."""
    command = [*wrap, "bash", "-c", line]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), f"{line}\n{done.stdout}\n{done.stderr}"
    return printed(done.stdout)


def here(env: dict[str, str]) -> dict[str, str]:
    """An environment with this `numclip` first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **env}


def printed(text: str) -> dict[str, Said]:
    """Parse the printed columns: status, check, message; the command to run is below the message."""
    found: dict[str, Said] = {}
    check = ""
    for row in text.splitlines():
        if row.startswith(("ok ", "PROBLEM ")):
            check = row[9:27].strip()
            found[check] = Said(row.startswith("ok"), row[28:], "")
        elif row.startswith(" " * 28) and check:
            found[check] = Said(found[check].ok, found[check].said, row.strip())
    return found


def typed(env: dict[str, str], check: str, cwd: Path | None = None, wrap: tuple[str, ...] = ()) -> tuple[Said, Said]:
    """Return a check's finding before and after its printed command was run exactly in the same shell."""
    before = shell("numclip doctor --all", env, cwd, wrap)[check]
    assert before.fix, before
    return before, shell(f"{{ {before.fix}\n}} >&2 && numclip doctor --all", env, cwd, wrap)[check]


@pytest.fixture
def published(tmp_path: Path, yunet_model: Path) -> Iterator[dict[str, str]]:
    """A local proxy that serves the detector's published URL; returns the environment variables that select it."""
    trustme = pytest.importorskip("trustme", reason="the test's certificate is made with trustme")
    host = str(urlsplit(fetch.YUNET_URL).hostname)
    authority, content = trustme.CA(), yunet_model.read_bytes()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain = listener.accept()[0]
            except OSError:  # closed at the end of the test
                return
            with plain:
                assert plain.recv(65536).startswith(f"CONNECT {host}:443".encode())
                plain.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                with context.wrap_socket(plain, server_side=True) as secured:
                    assert secured.recv(65536).startswith(f"GET {urlsplit(fetch.YUNET_URL).path} ".encode())
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield {
        "https_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "no_proxy": "",
        "NO_PROXY": "",
        "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
        "NUMCLIP_YUNET": "",
        "NUMCLIP_CACHE": str(tmp_path / "cache"),
    }
    listener.close()


def test_a_missing_detector(published: dict[str, str]) -> None:
    """A missing YuNet is not a problem; `numclip fetch yunet` downloads it over TLS from its published URL."""
    env = here(published)
    before = shell("numclip doctor --all", env)["detector yunet"]
    after = shell("numclip fetch yunet >&2 && numclip doctor --all", env)["detector yunet"]

    assert before.ok and "only needed for --detector yunet; numclip fetch yunet downloads it" in before.said
    assert after == Said(True, "is the published file, and runs", "")


def test_a_spoilt_detector(published: dict[str, str], yunet_model: Path) -> None:
    """A changed byte in the cached detector is found by its hash; `numclip fetch yunet` replaces the file."""
    data = bytearray(yunet_model.read_bytes())
    data[1000] ^= 1
    cached = Path(published["NUMCLIP_CACHE"]) / yunet_model.name
    cached.parent.mkdir()
    cached.write_bytes(data)
    before, after = typed(here(published), "detector yunet")

    assert not before.ok
    assert "differs from the published file" in before.said
    assert after.ok


def test_a_wrong_detector_path(tmp_path: Path, yunet_model: Path) -> None:
    """If NUMCLIP_YUNET names a missing file, the printed command unsets it, and the cached detector is used."""
    shutil.copy(yunet_model, tmp_path)
    before, after = typed(here({"NUMCLIP_YUNET": "/nowhere.onnx", "NUMCLIP_CACHE": str(tmp_path)}), "detector yunet")

    assert not before.ok
    assert before.fix == "unset NUMCLIP_YUNET"
    assert after.ok


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent folder of a git checkout of this package."""
    above = tmp_path_factory.mktemp("a checkout")
    shutil.copytree(REPO, above / "numclip", ignore=shutil.ignore_patterns(*LEFT_OUT))
    git = ["git", "-C", above / "numclip", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-f", "runtime/models"], ["commit", "-qm", "models"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return above


@pytest.mark.parametrize("fault", ["cut short", "one byte changed", "gone", "another kind of file"])
def test_a_corrupt_model(checkout: Path, fault: str) -> None:
    """A corrupt shipped model is found, even if only the calibration's hash shows it; git restores the file."""
    model = checkout / "numclip/runtime/models/age-nano.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.unlink()
    contents = {"cut short": data[: len(data) // 2], "one byte changed": data, "another kind of file": b"not a model"}
    if fault in contents:
        model.write_bytes(contents[fault])
    before, after = typed(here({"PYTHONPATH": str(checkout)}), "model age-nano")

    assert not before.ok
    assert before.fix.startswith("git -C ")
    assert after.ok, after


def test_a_read_only_cache(tmp_path: Path) -> None:
    """For a cache folder that cannot be written, the command names a writable one."""
    (tmp_path / "cache").mkdir(mode=0o500)
    wrap: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root may write anywhere unless it drops that capability
        if shutil.which("setpriv") is None:
            pytest.skip("running as root needs util-linux's setpriv to drop privileges")
        wrap = ("setpriv", "--bounding-set=-dac_override")
    env = {"NUMCLIP_CACHE": str(tmp_path / "cache"), "XDG_CACHE_HOME": str(tmp_path / "usual")}
    before, after = typed(here(env), "cache", wrap=wrap)

    assert not before.ok
    assert "Permission denied" in before.said
    assert before.fix == "unset NUMCLIP_CACHE"
    assert after.ok


def test_a_cache_that_cannot_be_a_folder(tmp_path: Path) -> None:
    """If a file is in the cache folder's place, the command names another folder, here one in the current folder."""
    (tmp_path / "usual").write_text("")
    before, after = typed(here({"NUMCLIP_CACHE": "", "XDG_CACHE_HOME": str(tmp_path / "usual")}), "cache", cwd=tmp_path)

    assert not before.ok
    assert before.fix.startswith("export NUMCLIP_CACHE=")
    assert after.ok


def test_a_camera_path_that_is_none(tmp_path: Path) -> None:
    """For a mistyped source, the command names the similar file in the same folder, which then opens."""
    picture = tmp_path / "entrance.png"
    shutil.copy(REPO / "docs/demo.png", picture)
    before = shell(f"numclip doctor --camera {tmp_path}/entrence.png", here({}))["camera"]

    assert not before.ok
    assert before.fix == f"numclip doctor --camera {picture}"
    assert shell(f"{before.fix} --all", here({}))["camera"].ok


def test_a_camera_that_is_not_plugged_in() -> None:
    """For the missing camera 63, the command names an existing camera, or there is no command if there is none."""
    before = shell("numclip doctor --camera /dev/video63", here({}))["camera"]

    assert not before.ok
    assert shell(f"{before.fix} --all", here({}))["camera"].ok


def test_a_problem_is_an_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With a problem, doctor exits with 1, prints the command below it, and the count at the end."""
    assert main(["doctor", "--camera", str(tmp_path / "none.mp4")]) == 1
    assert "run the command" in capfd.readouterr().out


def test_problems_first_and_the_rest_folded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --all only problems have rows, and one line lists the checks without problems; with --all every check has a row."""
    missing = str(tmp_path / "none.mp4")
    main(["doctor", "--camera", missing])
    short = capfd.readouterr().out
    main(["doctor", "--all", "--camera", missing])
    rows = printed(long := capfd.readouterr().out)

    assert not any(said.ok for said in printed(short).values())
    folded = next(line for line in short.splitlines() if " checks passed: " in line)
    names = folded.partition(": ")[2].partition(" (--all")[0].split(", ")
    assert [name[:18] for name in names] == [check for check, said in rows.items() if said.ok], (
        "rows show 18 characters"
    )
    assert [line.startswith("PROBLEM") for line in long.splitlines() if line[:3] in ("ok ", "PRO")] == sorted(
        (line.startswith("PROBLEM") for line in long.splitlines() if line[:3] in ("ok ", "PRO")), reverse=True
    )


def test_the_report_names_no_one(tmp_path: Path, yunet_model: Path) -> None:
    """Planted names of a person, a company and a host are printed, but the JSON report contains none of them."""
    private = tmp_path / "Ann Example" / "Customer AG"
    private.mkdir(parents=True)
    env = {
        **os.environ,
        "HOME": str(tmp_path / "Ann Example"),
        "USER": "annexample",
        "NUMCLIP_CACHE": str(private),
        "NUMCLIP_YUNET": str(private / "x.onnx"),
    }
    words = [
        sys.executable,
        "-m",
        "numclip.cli.main",
        "doctor",
        "--all",
        "--camera",
        "rtsp://ann:pw@127.0.0.1:9/door",
        "--json",
    ]
    made = subprocess.run([*words, str(private / "bug.json")], env=env, capture_output=True, text=True)
    report = (private / "bug.json").read_text()
    findings = json.loads(report)["findings"]

    assert made.returncode == 1
    assert "Customer AG" in made.stdout
    assert {"check", "ok", "said", "fix"} == set(findings[0])
    for name in ("Ann Example", "annexample", "Customer", "ann:pw", "127.0.0.1", str(tmp_path), sys.prefix):
        assert name not in report, name
    if platform.node() and len(platform.node()) > 2:
        assert f'"{platform.node()}"' not in report


@functools.cache
def _wheel(folder: Path, name: str, version: str, module: str, code: str) -> None:
    """Make a small wheel in place of a large package; the real pip installs and removes it."""
    import zipfile

    label = f"{name.replace('-', '_')}-{version}"
    info = f"{label}.dist-info"
    files = {
        f"{module}/__init__.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{label}-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)


CV2 = "__version__ = '4.10.0'\ndef getBuildInformation():\n    return '  GUI: NONE\\n  FFMPEG: YES\\n  GStreamer: NO\\n'\n"
NO_LIBGL = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An empty environment whose pip installs only from a folder of small wheels, with numclip on the path."""
    folder = tmp_path_factory.mktemp("bare")
    wheels = folder / "wheels"
    wheels.mkdir()
    for name in ("opencv-python", "opencv-python-headless"):
        _wheel(wheels, name, "4.10.0", "cv2", CV2)
    _wheel(wheels, "opencv-python", "4.9.0", "cv2", NO_LIBGL)
    _wheel(wheels, "opencv-python", "4.6.0", "cv2", CV2.replace("4.10.0", "4.6.0"))
    for name, module, version in (
        ("onnxruntime", "onnxruntime", "1.20.0"),
        ("onnxruntime-gpu", "onnxruntime", "1.20.0"),
        ("numpy", "numpy", "2.0.0"),
        ("av", "av", "12.0.0"),
        ("tqdm", "tqdm", "4.66.0"),
    ):
        _wheel(wheels, name, version, module, f"__version__ = '{version}'\n")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (folder / "path").mkdir()
    (folder / "path/numclip").symlink_to(REPO)
    command = folder / "venv/bin/numclip"
    command.write_text(f'#!/bin/sh\nexec "{folder}/venv/bin/python" -m numclip.cli.main "$@"\n')
    command.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "NUMCLIP_"))}
    env |= {
        "PATH": f"{folder}/venv/bin{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "path"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NUMCLIP_CACHE": str(folder / "cache"),
    }
    return folder, env


PLANTED = [
    ("opencv", ("opencv-python==4.10.0", "opencv-python-headless==4.10.0"), "overwrite each other"),
    ("opencv", ("opencv-python==4.9.0",), "libGL.so.1"),
    ("opencv", ("opencv-python==4.6.0",), "needs 4.8"),
    ("opencv", (), "not installed"),
    ("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "overwrite each other"),
    ("onnxruntime", (), "not installed"),
    ("numpy", (), "does not load"),
    ("av", (), "does not load"),
    ("tqdm", (), "does not load"),
]


@pytest.mark.parametrize(("check", "plant", "said"), PLANTED, ids=[f"{c}-{len(p)}-{s[:9]}" for c, p, s in PLANTED])
def test_a_broken_install(bare: tuple[Path, dict[str, str]], check: str, plant: tuple[str, ...], said: str) -> None:
    """With two packages that share files, without libGL, or with an old or missing package, doctor runs and its command fixes it.

    The packages are small stand-ins; pip and the command are real.
    """
    folder, env = bare
    pip = [folder / "venv/bin/python", "-m", "pip"]
    names = ["opencv-python", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "numpy", "av", "tqdm"]
    subprocess.run([*pip, "uninstall", "-qy", *names], env=env, check=True, capture_output=True)
    if plant:
        subprocess.run([*pip, "install", "-q", "--no-deps", *plant], env=env, check=True, capture_output=True)
    before, after = typed(env, check)

    assert not before.ok
    assert said in before.said
    assert before.fix.startswith(f"{folder}/venv/bin/python -m pip ")
    assert after.ok, after


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_opencvs_for_real(tmp_path: Path) -> None:
    """With opencv-python and opencv-python-headless in one environment, doctor's command leaves one working OpenCV."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path/numclip").symlink_to(REPO)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMCLIP_")}
    env |= {"PATH": f"{tmp_path}/venv/bin{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(tmp_path / "path")}
    env |= {"NUMCLIP_CACHE": str(tmp_path / "cache")}
    words = ["numpy", "av", "tqdm", "onnxruntime", "opencv-python", "opencv-python-headless"]
    install = [python, "-m", "pip", "install", "-q", "-c", REPO / "constraints.txt", *words]
    done = subprocess.run(install, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the packages cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    command = tmp_path / "venv/bin/numclip"
    command.write_text(f'#!/bin/sh\nexec "{python}" -m numclip.cli.main "$@"\n')
    command.chmod(0o755)
    before, after = typed(env, "opencv")

    assert not before.ok
    assert "overwrite each other" in before.said
    assert after.ok
    assert after.said.startswith("opencv-python ")
    assert "headless" not in after.said
