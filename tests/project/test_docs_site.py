"""The documentation site builds without warnings, its links work, its notebooks run, and its pictures match their script."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import jsonschema
import pytest

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"


def need_docs() -> None:
    for name in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed: pip install "numclip[docs]"')


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(out)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=env, timeout=500)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in strict mode: a warning is an error."""
    need_docs()
    out = tmp_path_factory.mktemp("site")
    done = build(REPO / "mkdocs.yml", out)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


class Page(HTMLParser):
    """The ids of a page, and the targets of its links and pictures."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids, self.targets = set[str](), list[str]()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := found.get(name))}
        self.targets += [value for name in ("href", "src") if (value := found.get(name))]


def dead_links(site: Path) -> list[str]:
    """Return `PAGE -> TARGET` for each broken link inside the site."""
    pages = {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    dead: list[str] = []
    for file, page in pages.items():
        for target in page.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            path, anchor = urldefrag(unquote(target))
            there = (file.parent / path.split("?")[0]).resolve() if path else file
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (anchor and there in pages and anchor not in pages[there].ids):
                dead.append(f"{file.relative_to(site)} -> {target}")
    return dead


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    """All links to pages, pictures, files and anchors in the built HTML work."""
    assert dead_links(site) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_fetched_from_another_host(site: Path) -> None:
    """No script, style, font or picture of a page comes from another host."""
    start = (site / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src=|<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href=)"?(https?://[^"\s>]+)', start) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_reference_has_every_command_and_name(site: Path) -> None:
    """Each stored --help is a section of the reference; `load`, `read` and `stream` are described."""
    commands = (site / "reference/cli/index.html").read_text(encoding="utf-8")
    for file in (DOCS / "help").glob("*.txt"):
        name = "numclip" if file.stem == "numclip" else f"numclip-{file.stem}"
        assert f'id="{name}"' in commands
    names = (site / "reference/api/index.html").read_text(encoding="utf-8")
    for name in ("load", "read", "stream", "FrameResult", "RunOptions"):
        assert re.search(rf'id="numclip\.[\w.]+\.{name}"', names), name


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """The strict build and the link check fail for a broken link."""
    need_docs()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[away](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\n")
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode == 1
    (tmp_path / "made").mkdir()
    (tmp_path / "made/index.html").write_text('<a href="#none">x</a><a href="no/">y</a><a id="z" href="#z">z</a>')
    assert len(dead_links(tmp_path / "made")) == 2


@pytest.mark.parametrize("notebook", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_the_notebooks_run(notebook: Path, tmp_path: Path) -> None:
    """Every cell of every notebook runs in order in a new kernel; the notebooks are stored without outputs."""
    pytest.importorskip("nbclient", reason='pip install "numclip[docs]"')
    pytest.importorskip("ipykernel", reason='pip install "numclip[docs]"')
    pytest.importorskip("skimage", reason='the notebooks read a portrait: pip install "numclip[demo]"')
    import nbclient
    import nbformat

    book = nbformat.read(notebook, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code")


def test_the_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    """The pictures have the boxes and numbers that the script draws; text positions depend on the version of matplotlib."""
    pytest.importorskip("skimage", reason='pip install "numclip[demo]"')
    subprocess.run([sys.executable, DOCS / "pictures/draw.py", tmp_path], check=True, timeout=300)
    drawn = sorted(p.name for p in tmp_path.iterdir())
    assert drawn == sorted(p.name for p in (DOCS / "pictures").glob("*.svg"))
    for name in drawn:
        assert words_of(tmp_path / name) == words_of(DOCS / "pictures" / name), "python docs/pictures/draw.py"


def words_of(picture: Path) -> list[str]:
    """Return the texts in an SVG, in order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.read_text(encoding="utf-8"))


def test_the_schema_of_lines_refuses_what_it_should() -> None:
    """A null age without a reason, an unknown field, and an unknown event are invalid by the schema of JSON lines."""
    schema = json.loads((DOCS / "reference/lines.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    face = {"track": 1, "box": [0, 0, 9, 9], "score": 0.9, "age": None, "low": None, "high": None, "level": None}
    face |= {"bin": None, "probabilities": [], "fresh": False}
    line = {"source": "0", "frame": 0, "time_s": 0.0, "latency_ms": 1.0, "dropped": 0}
    assert not check.is_valid(line | {"faces": [face]})
    assert check.is_valid(line | {"faces": [face | {"reason": "small"}]})
    assert not check.is_valid(line | {"faces": [], "extra": 1})
    assert not check.is_valid({"event": "lost", "source": "0", "time_s": 1.0, "reason": ""})


def test_the_reader_in_the_reference_is_short() -> None:
    """The reader in the reference has at most 40 lines of code and uses only the standard library."""
    text = (DOCS / "reference/model-file.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith('"""')]
    assert len(lines) <= 40
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.M)) <= {"json", "sys", "pathlib"}
