"""`numclip web`: written files, errors, and headers."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from numclip.cli.main import main
from numclip.errors import ModelError, OutputError, UsageError
from numclip.runtime.contract.model_file import MODELS
from numclip.web import bundle
from numclip.web.bundle import SiteOptions, write_site
from numclip.web.serve import HEADERS


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny built page in place of the real one."""
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<title>page</title>")
    (folder / "sw.js").write_text('const VERSION = "__VERSION__", FILES = JSON.parse(\'["__FILES__"]\');')
    monkeypatch.setattr(bundle, "BUILT", folder)
    return folder


def test_the_service_worker_keeps_every_file_of_the_site(page: Path, tmp_path: Path) -> None:
    """The service worker's list has every file but itself; its version changes with any of them."""
    first = write_site(SiteOptions(tmp_path / "site")).folder
    text = (first / "sw.js").read_text()
    kept = set(json.loads(re.search(r"'(\[.*\])'", text)[1]))  # pyright: ignore[reportOptionalSubscript]
    files = {p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file()}
    assert kept == files - {"sw.js", "index.html"} | {"./"}
    (page / "index.html").write_text("<title>another</title>")
    assert (write_site(SiteOptions(tmp_path / "other")).folder / "sw.js").read_text() != text


def test_a_site_replaces_a_site_and_nothing_else(page: Path, tmp_path: Path) -> None:
    """A second site replaces the first; a folder with other files is an error and stays unchanged."""
    out = tmp_path / "site"
    write_site(SiteOptions(out))
    write_site(SiteOptions(out, "age-nano"))
    assert sorted(p.name for p in (out / "models").iterdir()) == ["age-nano.onnx", "faces-nano.onnx"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        write_site(SiteOptions(other))
    assert [p.name for p in other.iterdir()] == ["letter.txt"]


def test_a_model_that_cannot_run_is_refused_before_anything_is_written(page: Path, tmp_path: Path) -> None:
    """A corrupt file, a finder as model, and a model as finder are errors in one sentence, and no folder is written."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((MODELS / "age-nano.onnx").read_bytes()[:1000])
    for options in (
        SiteOptions(tmp_path / "site", str(broken)),
        SiteOptions(tmp_path / "site", "faces-nano"),
        SiteOptions(tmp_path / "site", finder="age-nano"),
    ):
        with pytest.raises(ModelError):
            write_site(options)
    assert not (tmp_path / "site").exists()


def test_a_model_and_a_finder_of_the_same_name_are_two_files(page: Path, tmp_path: Path) -> None:
    """Files `a/model.onnx` and `b/Model.onnx` are both in the site, under the names in site.json, with their own bytes; the letters'
    case does not tell them apart, because some hosts ignore it."""
    model, finder = tmp_path / "a" / "model.onnx", tmp_path / "b" / "Model.onnx"
    for path, name in ((model, "age-nano.int8"), (finder, "faces-nano")):
        path.parent.mkdir()
        path.write_bytes((MODELS / f"{name}.onnx").read_bytes())
    site = write_site(SiteOptions(tmp_path / "site", str(model), str(finder))).folder
    about = json.loads((site / "site.json").read_text())
    assert about["model"].lower() != about["finder"].lower()
    assert (site / about["model"]).read_bytes() == model.read_bytes()
    assert (site / about["finder"]).read_bytes() == finder.read_bytes()


def test_without_the_built_page_the_command_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the built page there is one sentence with the command to run, exit code 1, and nothing is written."""
    monkeypatch.setattr(bundle, "BUILT", tmp_path / "none")
    with pytest.raises(OutputError, match="make web"):
        write_site(SiteOptions(tmp_path / "site"))
    assert main(["web", "--out", str(tmp_path / "site")]) == 1
    assert "make web" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_the_command_reports_what_it_wrote(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json - prints one object whose sizes add up; without --out and --serve it is a usage error."""
    assert main(["web", "--out", str(tmp_path / "site"), "--json", "-"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == "age-nano.int8"
    assert said["bytes"] == sum(p.stat().st_size for p in (tmp_path / "site").rglob("*") if p.is_file())
    assert main(["web"]) == 2


def test_the_bundle_is_small(site: Path) -> None:
    """With age-nano INT8 and the face finder the site has at most 20 MB, 8 MB gzipped."""
    sizes = [bundle._size(p) for p in site.rglob("*") if p.is_file()]  # pyright: ignore[reportPrivateUsage]
    assert sum(size for size, _ in sizes) <= 20e6
    assert sum(gzipped for _, gzipped in sizes) <= 8e6


def test_every_answer_carries_the_headers_and_the_right_type(page: Path, serve: Any, tmp_path: Path) -> None:
    """Every response, errors included, has the policy, the isolation headers and the type; folders are not listed."""
    server = serve(write_site(SiteOptions(tmp_path / "site")).folder)
    types = {"": "text/html", "site.json": "application/json", "models/faces-nano.onnx": "application/octet-stream"}
    for path, kind in types.items():
        with urllib.request.urlopen(server.url + path) as answer:
            assert answer.headers["Content-Type"].startswith(kind)
            for name, value in HEADERS.items():
                assert answer.headers[name] == value
    with pytest.raises(urllib.error.HTTPError, match="404") as missing:
        urllib.request.urlopen(server.url + "models/")
    assert missing.value.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_the_policy_allows_no_inline_code_and_no_eval(repo: Path) -> None:
    """The policies of page and server allow no inline code and no eval; only WebAssembly may be compiled."""
    policies = [HEADERS["Content-Security-Policy"]]
    for name in ("index.html", "bench.html"):
        policies += re.findall(r'content="(default-src[^"]*)"', (repo / "web" / "page" / "static" / name).read_text())
    assert len(policies) == 3
    for policy in policies:
        assert "unsafe-inline" not in policy
        assert not re.search(r"(?<!wasm-)unsafe-eval", policy)
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy


def test_docs_hold_the_headers_that_are_served(repo: Path) -> None:
    """The examples for nginx and Caddy in docs/web.md have each header with the same value."""
    text = (repo / "docs" / "web.md").read_text(encoding="utf-8")
    for name, value in HEADERS.items():
        assert text.count(f'{name} "{value}"') == 2, f"{name} for nginx and for Caddy"
