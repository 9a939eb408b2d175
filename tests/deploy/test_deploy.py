"""The Jetson kit: its files pass their linters, its scripts keep the old engine, and its settings equal the typed ones.

No test here needs a board, Docker's engine or a running systemd; docstrings name the stand-ins.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.cli.main import main
from numclip.deploy import kit as deploy
from numclip.errors import UsageError

REPO = Path(__file__).resolve().parents[2]
KIT = deploy.KIT
SCRIPTS = sorted(KIT.glob("*.sh"))
TOOLS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def tool(name: str) -> str:
    """Return a linter's path, or skip with the package to install."""
    found = shutil.which(name, path=TOOLS)
    if found is None:
        pytest.skip(
            f"{name} is not installed here (the extra dev installs hadolint and shellcheck; systemd comes with the system)"
        )
    return found


def lint(*words: str | Path) -> None:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A stand-in for numclip's wheel, which test_packaging builds."""
    made = tmp_path / "numclip-0.1.0-py3-none-any.whl"
    made.write_bytes(b"a wheel")
    return made


def test_the_kit_is_whole(tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kit has every file and the wheel, executable scripts and the source in the settings; the next command is printed."""
    out = tmp_path / "kit"
    words = ["deploy", "jetson", "--out", str(out), "--wheel", str(wheel), "--source", "rtsp://cam/door one"]

    assert main(words) == 0
    assert {p.name for p in out.iterdir()} == {p.name for p in KIT.iterdir()} | {wheel.name}
    assert all(os.access(p, os.X_OK) for p in out.glob("*.sh"))
    assert "NUMCLIP_SOURCE='rtsp://cam/door one'" in (out / "numclip.env").read_text()
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: scp -r ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wheel", "{wheel}", "--out", "{full}"], "new or empty folder"),
        (["--wheel", "{full}/none.whl", "--out", "{new}"], "make build"),
        (["--wheel", "{wheel}", "--out", "{new}", "--source", "it's"], "without the character '"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """A kit that cannot be written is an error in one sentence, and no file is left behind."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").write_text("")
    places = {"wheel": wheel, "full": tmp_path / "full", "new": tmp_path / "new"}
    before = sorted(tmp_path.iterdir())

    assert main(["deploy", "jetson", *(w.format(**places) for w in words)]) != 0
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@given(source=st.text(st.characters(exclude_characters="'\n\r\0", codec="utf-8"), min_size=1))
def test_settings_mean_what_was_typed(tmp_path_factory: pytest.TempPathFactory, source: str) -> None:
    """For any source, a shell that reads the settings file gets it back; for systemd and Compose it is literal."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "w.whl").write_bytes(b"")
    deploy.write_kit(folder / "kit", source, folder / "w.whl")
    lines = [line for line in (folder / "kit/numclip.env").read_text().split("\n") if line.startswith("NUMCLIP_SOURCE")]

    assert [shlex.split(line.partition("=")[2]) for line in lines] == [[source]]


def test_an_installed_package_needs_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a checkout, --wheel is required."""
    monkeypatch.setattr(deploy, "PACKAGE", tmp_path)

    with pytest.raises(UsageError, match="--wheel"):
        deploy.build_wheel(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_scripts_pass_shellcheck(script: Path) -> None:
    """The scripts pass ShellCheck without warnings."""
    lint(tool("shellcheck"), script)


@pytest.mark.parametrize("name", ["Dockerfile.jetpack6", "Dockerfile.jetpack7"])
def test_dockerfiles_pass_hadolint(name: str) -> None:
    """The Dockerfiles pass hadolint; every exception has a reason."""
    lint(tool("hadolint"), KIT / name)


def test_a_broken_dockerfile_and_script_are_found(tmp_path: Path) -> None:
    """The linters find errors in a broken Dockerfile and script."""
    (tmp_path / "Dockerfile").write_text("FORM ubuntu:22.04\nRUN cd /x\n")
    (tmp_path / "x.sh").write_text("#!/bin/sh\nrm -rf $1/*\n")
    for words in ((tool("hadolint"), tmp_path / "Dockerfile"), (tool("shellcheck"), tmp_path / "x.sh")):
        with pytest.raises(AssertionError):
            lint(*words)


def test_what_the_dockerfiles_copy_is_in_the_kit() -> None:
    """Every COPY and the entry point name files of the kit."""
    for file in KIT.glob("Dockerfile.*"):
        copied = re.findall(r"^COPY (.+) \S+$", file.read_text(), re.M)
        names = [name for words in copied for name in words.split() if "*" not in name]
        assert names
        assert all((KIT / name).is_file() for name in names)
        assert 'ENTRYPOINT ["/opt/numclip/start.sh"]' in file.read_text()
        assert "start.sh" in names


def test_compose_is_valid() -> None:
    """Docker Compose accepts the file for both JetPacks, with the settings as typed."""
    docker = shutil.which("docker-compose", path=TOOLS)
    compose = [docker] if docker else [tool("docker"), "compose"]
    if subprocess.run([*compose, "version"], capture_output=True).returncode != 0:
        pytest.skip("needs Docker Compose")
    for jetpack in ("6", "7"):
        words = [*compose, "-f", KIT / "compose.yaml", "config"]
        done = subprocess.run(words, env={**os.environ, "JETPACK": jetpack}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Dockerfile.jetpack{jetpack}" in done.stdout
        assert "NUMCLIP_SOURCE: /dev/video0" in done.stdout


def test_compose_names_files_of_the_kit() -> None:
    """The service has NVIDIA's runtime, restarts, and names existing files."""
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the file")
    service = yaml.safe_load((KIT / "compose.yaml").read_text())["services"]["numclip"]

    assert service["runtime"] == "nvidia"
    assert service["restart"] == "unless-stopped"
    assert (KIT / service["env_file"]).is_file()
    assert {service["build"]["dockerfile"].replace("${JETPACK:-6}", n) for n in "67"} <= {p.name for p in KIT.iterdir()}


def verify_unit(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on a unit, with its programs in a folder; nothing is started."""
    for name in ("power-mode.sh", "first-boot.sh", "venv/bin/numclip"):
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    unit = folder / "numclip.service"
    unit.write_text(text.replace("/opt/numclip", str(folder)))
    words = [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(unit)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_the_unit_passes_systemd(tmp_path: Path) -> None:
    """`systemd-analyze verify` reports nothing."""
    done = verify_unit(tmp_path, (KIT / "numclip.service").read_text())

    assert done.returncode == 0, done.stderr
    assert "numclip.service" not in done.stderr, done.stderr


@pytest.mark.parametrize("wrong", ["Restart=forever", "WatchdogSecs=30", "ExecStart=/opt/numclip/gone"])
def test_a_wrong_unit_is_found(tmp_path: Path, wrong: str) -> None:
    """`systemd-analyze verify` reports a wrong value, a wrong name and a missing program."""
    text = re.sub(
        rf"^{wrong.partition('=')[0].rstrip('s')}=.*$", wrong, (KIT / "numclip.service").read_text(), flags=re.M
    )
    done = verify_unit(tmp_path, text)

    assert wrong in text
    assert done.returncode != 0 or "numclip.service" in done.stderr


def test_the_unit_runs_a_command_that_exists() -> None:
    """ExecStart's flags, with the kit's settings, are flags of `numclip run`."""
    from numclip.cli.main import build_parser

    unit, settings = (KIT / "numclip.service").read_text(), (KIT / "numclip.env").read_text()
    values = {k: shlex.split(v)[0] if shlex.split(v) else "" for k, v in re.findall(r"^(\w+)=(.*)$", settings, re.M)}
    (line,) = re.findall(r"^ExecStart=\S+/numclip run (.*)$", unit, re.M)
    line = re.sub(r"\$\{(\w+)\}", lambda m: shlex.quote(values[m[1]]), line)
    line = re.sub(r"\$(\w+)", lambda m: values[m[1]], line)
    args = build_parser("run").parse_args(shlex.split(line))

    assert args.source == ["/dev/video0"]
    assert str(args.model).endswith("/age.engine")
    assert str(args.detector).endswith("/faces.engine")
    assert "WatchdogSec=" in unit
    assert "Restart=always" in unit


def test_udev_rules_are_rules() -> None:
    """Every udev line apart from comments is a list of KEY==\"match\" and KEY=\"value\" pairs, and the device nodes go to `video`."""
    lines = [r for r in (KIT / "99-numclip-camera.rules").read_text().splitlines() if r and not r.startswith("#")]
    pair = r'[A-Z]+(\{[\w/]+\})?(==|\+?=)"[^"]*"'

    assert lines
    assert all(re.fullmatch(rf"{pair}(, {pair})*", line) for line in lines)
    assert any('GROUP="video"' in line for line in lines)


@pytest.mark.parametrize(
    ("conf", "flags", "mode"),
    [
        ("< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n", [], "2"),
        ("< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >\n", [], "0"),
        ("< POWER_MODEL ID=0 NAME=15W >\n", ["0"], "0"),
        ("< POWER_MODEL ID=0 NAME=15W >\n", [], None),
    ],
)
def test_the_power_mode(tmp_path: Path, conf: str, flags: list[str], mode: str | None) -> None:
    """The script sets the mode named MAXN, whatever its number, or the given mode (nvpmodel and jetson_clocks are stand-ins)."""
    (tmp_path / "nvpmodel.conf").write_text(conf)
    for name in ("nvpmodel", "jetson_clocks"):
        stand_in(tmp_path / "bin" / name, f'echo "{name} $*" >> {tmp_path}/calls')
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "NVPMODEL_CONF": str(tmp_path / "nvpmodel.conf")}
    done = subprocess.run(["sh", KIT / "power-mode.sh", *flags], env=env, capture_output=True, text=True)
    calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []

    assert (done.returncode == 0) == (mode is not None)
    assert [c.strip() for c in calls] == ([] if mode is None else [f"nvpmodel -m {mode}", "jetson_clocks"])


def stand_in(path: Path, code: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


@pytest.fixture
def board(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A board's folders. `numclip` is a stand-in: engine writes a file; FAIL names the command that fails."""
    opt, state = tmp_path / "opt", tmp_path / "state"
    stand_in(
        opt / "venv-first/bin/numclip",
        f'echo "numclip $*" >> {tmp_path}/calls\n[ "${{FAIL:-}}" = "$1" ] && {{ echo "numclip: $1 failed" >&2; exit 1; }}\n'
        'if [ "$1" = engine ]; then echo "$2" > "$4"; echo {} > "$4.json"; fi',
    )
    (opt / "venv").symlink_to("venv-first")
    for script in ("engine.sh", "first-boot.sh", "update.sh", "start.sh"):
        shutil.copy(KIT / script, opt)
    shutil.copy(KIT / "numclip.env", tmp_path)
    stand_in(tmp_path / "bin/systemctl", f'echo "systemctl $*" >> {tmp_path}/calls\nexit "${{SYSTEMCTL:-0}}"')
    env = {"NUMCLIP_STATE": str(state), "NUMCLIP_OPT": str(opt), "NUMCLIP_ENV": str(tmp_path / "numclip.env")}
    return tmp_path, {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **env}


def script(env: dict[str, str], name: str, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", Path(env["NUMCLIP_OPT"]) / name, *words]
    return subprocess.run(command, env={**env, **more}, capture_output=True, text=True, timeout=120)


def links(env: dict[str, str]) -> dict[str, str]:
    """Return the content of `current` and `previous`; the stand-in's engine is its model's name."""
    state = Path(env["NUMCLIP_STATE"])
    return {
        n: Path((state / n / "age.engine").read_text().strip()).name
        for n in ("current", "previous")
        if (state / n).exists()
    }


def test_the_first_boot(board: tuple[Path, dict[str, str]]) -> None:
    """The first boot builds the engines of finder and model and then verifies; a second boot does nothing."""
    folder, env = board
    first = script(env, "first-boot.sh")
    calls = (folder / "calls").read_text().splitlines()
    again = script(env, "first-boot.sh")

    assert first.returncode == again.returncode == 0, first.stderr
    assert [line.split()[1] for line in calls] == ["engine", "engine", "verify"]
    assert [line.split()[2] for line in calls[:2]] == ["faces-nano", "age-nano"]
    assert (folder / "state/current/faces.engine").is_file()
    assert (folder / "calls").read_text().splitlines() == calls
    assert links(env) == {"current": "age-nano"}


def test_a_board_that_was_set_up_without_the_finders_engine_gets_it(board: tuple[Path, dict[str, str]]) -> None:
    """If only the model's engine exists, as from an earlier kit, the next boot builds both."""
    folder, env = board
    script(env, "first-boot.sh")
    (folder / "state/current/faces.engine").unlink()

    assert script(env, "first-boot.sh").returncode == 0
    assert (folder / "state/current/faces.engine").is_file()


@pytest.mark.parametrize("verb", ["engine", "verify"])
def test_a_failed_build_keeps_the_old_engine(board: tuple[Path, dict[str, str]], verb: str) -> None:
    """If build or verification fails, the script fails, links and folders stay as before, and no partial engine is left."""
    folder, env = board
    assert script(env, "engine.sh").returncode == 0
    before = links(env), sorted((folder / "state").rglob("*"))
    done = script(env, "engine.sh", FAIL=verb)

    assert done.returncode == 1
    assert (links(env), sorted((folder / "state").rglob("*"))) == before


def test_the_real_command_without_tensorrt(tmp_path: Path) -> None:
    """With the real numclip on a machine without TensorRT, no engine becomes current."""
    import importlib.util

    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("this machine has TensorRT and could build an engine")
    env = {**os.environ, "PATH": TOOLS, "NUMCLIP_STATE": str(tmp_path), "NUMCLIP_BIN": str(tmp_path / "numclip")}
    stand_in(
        tmp_path / "numclip", f'exec "{sys.executable}" -m numclip.cli.main "$@"'
    )  # the real command, under a short name
    done = subprocess.run(["sh", KIT / "engine.sh"], env=env, capture_output=True, text=True, timeout=120)

    assert done.returncode != 0
    assert not (tmp_path / "current").exists()
    assert not any((tmp_path / "engines").iterdir())


def test_two_engines_are_kept(board: tuple[Path, dict[str, str]]) -> None:
    """The current and the previous engine are kept."""
    folder, env = board
    for name in ("a", "b", "c"):
        assert script(env, "engine.sh", name).returncode == 0

    assert links(env) == {"current": "c", "previous": "b"}
    assert len(list((folder / "state/engines").iterdir())) == 2


def test_an_update_of_the_model(board: tuple[Path, dict[str, str]]) -> None:
    """After an update the new engine and model are current, the old engine is previous, and the service was restarted."""
    folder, env = board
    script(env, "engine.sh")
    (folder / "v2.onnx").write_text("a model")
    done = script(env, "update.sh", folder / "v2.onnx")

    assert done.returncode == 0, done.stderr
    assert links(env) == {"current": "age.onnx", "previous": "age-nano"}
    assert (folder / "state/current/age.onnx").read_text() == "a model"
    assert (folder / "calls").read_text().splitlines()[-1] == "systemctl restart numclip.service"


def test_an_update_that_does_not_verify(board: tuple[Path, dict[str, str]]) -> None:
    """If the new engine fails verification, the old one stays current and the service is not restarted."""
    folder, env = board
    script(env, "engine.sh")
    (folder / "v2.onnx").write_text("a model")
    done = script(env, "update.sh", folder / "v2.onnx", FAIL="verify")

    assert done.returncode != 0
    assert links(env) == {"current": "age-nano"}
    assert "systemctl" not in (folder / "calls").read_text()


def test_an_update_that_does_not_come_up(board: tuple[Path, dict[str, str]]) -> None:
    """If the service fails with the new engine, the old one is restored and started."""
    folder, env = board
    script(env, "engine.sh")
    (folder / "v2.onnx").write_text("a model")
    done = script(env, "update.sh", folder / "v2.onnx", SYSTEMCTL="1")

    assert done.returncode == 1
    assert links(env)["current"] == "age-nano"
    assert (folder / "calls").read_text().count("systemctl restart") == 2


@pytest.mark.parametrize("name", ["none.onnx", "numclip.env"])
def test_an_update_with_something_else(board: tuple[Path, dict[str, str]], name: str) -> None:
    """An update with a missing file, or a file of another kind, is an error in one sentence, and nothing changes."""
    done = script(board[1], "update.sh", board[0] / name)

    assert done.returncode == 1
    assert done.stderr.startswith("update: ") and "a .onnx or .whl file" in done.stderr
    assert not (board[0] / "calls").exists()


def test_the_guide_names_what_is_there(tmp_path: Path) -> None:
    """The guide names every file of the kit, every script that it calls exists, and its commands pass ShellCheck."""
    guide = (REPO / "docs/jetson.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", guide, re.M | re.S)

    assert {p.name for p in KIT.iterdir()} - set(re.findall(r"`([\w.-]+)`", guide)) == set()
    assert {name for block in blocks for name in re.findall(r"/([\w-]+\.sh)\b", block)} <= {p.name for p in SCRIPTS}
    (tmp_path / "guide.sh").write_text("#!/bin/bash\nset -e\n" + "\n".join(blocks))
    lint(tool("shellcheck"), tmp_path / "guide.sh")
