"""The release check finds planted problems, and passes on this checkout."""

from __future__ import annotations

import gzip
import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / ".ci/release_check.py"

pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="the sdist does not contain .ci")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, imported as a module."""
    pytest.importorskip("packaging", reason="needs the extra dev")
    spec = importlib.util.spec_from_file_location("release_check", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sdist(path: Path, order: tuple[str, ...], clock: int) -> Path:
    """Make an archive of two files in a given order with a given time."""
    with tarfile.open(path, "w:gz") as archive:
        for name in order:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid, member.uname = len(name), clock, clock, f"user{clock}"
            archive.addfile(member, io.BytesIO(name.encode()))
    return path


def test_archives_of_the_same_files_become_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    """Archives of the same files become identical, whatever their order, times and owners; other content gives other bytes."""
    one = script.normalised(sdist(tmp_path / "a.tar.gz", ("x/a", "x/b"), 1), 1000)
    two = script.normalised(sdist(tmp_path / "b.tar.gz", ("x/b", "x/a"), 2), 1000)
    three = script.normalised(sdist(tmp_path / "c.tar.gz", ("x/b", "x/c"), 2), 1000)
    assert one == two != three
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(one))) as archive:
        assert archive.getnames() == ["x/a", "x/b"]


def test_a_wheel_with_tests_or_without_a_model_is_refused(script: ModuleType) -> None:
    """A wheel with tests, or without a required file, is an error that names the file."""

    def wheel(*names: str) -> dict[str, bytes]:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name in names:
                archive.writestr(name, "")
        return {"numclip-0.1.0-py3-none-any.whl": made.getvalue(), "numclip-0.1.0.tar.gz": b""}

    with pytest.raises(script.Unfit, match="numclip/tests/x"):
        script.check_contents(wheel("numclip/__init__.py", "numclip/tests/x.py"), True)
    with pytest.raises(script.Unfit, match=r"does not contain numclip/py\.typed"):
        script.check_contents(wheel("numclip/__init__.py"), True)


def test_every_dependency_has_a_licence_that_is_known(script: ModuleType) -> None:
    """Every installed dependency of any extra has a known licence; an unknown licence would be an error."""
    assert script.check_licences() > 10
    assert not script.FREE.search("Proprietary") and not script.FREE.search("")


def test_every_link_of_the_readme_is_there(script: ModuleType) -> None:
    """Every relative link and picture of the README exists."""
    script.check_readme()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_check_passes() -> None:
    """The complete check passes: two builds, contents, metadata, licences, and the demo in a new environment of each Python."""
    site = [] if (REPO / "web/dist/site/index.html").is_file() else ["--without-site"]
    done = subprocess.run([sys.executable, SCRIPT, *site], capture_output=True, text=True, timeout=3500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("built twice, identical") == 2
