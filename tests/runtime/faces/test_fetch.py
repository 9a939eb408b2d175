"""`numclip fetch yunet` with a real local server: only the right file is stored."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from numclip.cli.main import main
from numclip.runtime.faces import fetch


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on a free local port, and its folder."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", folder
        httpd.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that does not exist yet, and no NUMCLIP_YUNET."""
    monkeypatch.setenv("NUMCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMCLIP_YUNET", raising=False)
    return tmp_path / "cache"


def test_the_right_file_is_kept_and_found(
    server: tuple[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file with the expected hash is stored in the cache, and a second fetch downloads nothing."""
    url, folder = server
    (folder / "good.onnx").write_bytes(b"stands for YuNet")
    monkeypatch.setattr(fetch, "YUNET_SHA256", fetch.sha256_of(b"stands for YuNet"))

    assert main(["fetch", "yunet", "--url", f"{url}/good.onnx"]) == 0
    assert [p.name for p in cache.iterdir()] == [fetch.YUNET_FILE]
    assert main(["fetch", "yunet", "--url", f"{url}/gone.onnx"]) == 0
    assert capsys.readouterr().out.count("in the cache") == 2


def test_the_real_file_passes_the_real_hash(server: tuple[str, Path], cache: Path, yunet_model: Path) -> None:
    """The published sha256 is that of the YuNet in use."""
    url, folder = server
    (folder / "yunet.onnx").write_bytes(yunet_model.read_bytes())

    assert main(["fetch", "yunet", "--url", f"{url}/yunet.onnx"]) == 0
    assert (cache / fetch.YUNET_FILE).read_bytes() == yunet_model.read_bytes()


def test_another_file_is_refused(server: tuple[str, Path], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong hash is an error that names both hashes, and nothing is stored."""
    url, folder = server
    (folder / "bad.onnx").write_bytes(b"a login page")

    assert main(["fetch", "yunet", "--url", f"{url}/bad.onnx"]) == 1
    said = capsys.readouterr().err
    assert fetch.YUNET_SHA256 in said
    assert fetch.sha256_of(b"a login page") in said
    assert not cache.exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/yunet.onnx", "cannot reach"),
        ("{server}/missing.onnx", "answered 404"),
        ("nonsense", "cannot reach"),
    ],
)
def test_offline_is_one_sentence(
    server: tuple[str, Path], cache: Path, capsys: pytest.CaptureFixture[str], url: str, words: str
) -> None:
    """No connection, a missing file and an unknown host give one line on stderr that says what to do, exit code 1."""
    assert main(["fetch", "yunet", "--url", url.format(server=server[0])]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "NUMCLIP_YUNET" in said
    assert said.count("\n") == 1
    assert not cache.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_one_sentence(tmp_path: Path) -> None:
    """A cache that cannot be written is an error that names it."""
    tmp_path.chmod(0o500)

    with pytest.raises(fetch.OutputError, match="NUMCLIP_CACHE"):
        fetch.keep(b"x", tmp_path / "cache" / "file")


def test_a_cache_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    """A file in the cache folder's place is an error, and nothing is left behind."""
    (tmp_path / "cache").write_text("")

    with pytest.raises(fetch.OutputError, match="NUMCLIP_CACHE"):
        fetch.keep(b"x", tmp_path / "cache" / "file")
