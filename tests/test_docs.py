"""The commands and code in README and in every page of docs/ run as shown.

Blocks tagged ```bash or ```python run in order, in a separate folder per page. A block after `<!-- test: skip REASON -->` is
skipped (it needs a camera, a GPU, the network or hours). `<!-- test: with NAME… -->` copies files into the folder first: clip.mp4
is the beginning of the demo's clip, any other name a file in the page's folder or a shipped model. A page with
`<!-- test: slow -->` takes minutes; `make test-slow` runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

REPO = Path(__file__).resolve().parents[1]
FENCE = re.compile(
    r"(?:<!-- test: skip (?P<reason>[^>]+?) -->\s*?\n)?^(?P<indent> *)```(?P<tag>\w+)\n(?P<code>.*?)^(?P=indent)```",
    re.M | re.S,
)
WITH = re.compile(r"<!-- test: with ([^>]+?) -->")
SLOW = "<!-- test: slow -->"
CLIP_FRAMES = 75  # the slide-in ends after 20


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    tag: str
    code: str
    skip: str | None


def blocks_of(text: str) -> list[Block]:
    """Return the bash and python blocks of a page, in order."""
    found = [Block(m["tag"], textwrap.dedent(m["code"]), m["reason"]) for m in FENCE.finditer(text)]
    return [block for block in found if block.tag in ("bash", "python")]


def run_block(block: Block, folder: Path) -> None:
    """Run a block in `folder`, with this environment's `numclip` first on the path."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shell = ["bash", "-euo", "pipefail", "-c"] if block.tag == "bash" else [sys.executable, "-c"]
    done = subprocess.run([*shell, block.code], cwd=folder, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{block.code}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def pages() -> list[Path]:
    """Return README and the pages of docs/, without the studies, whose commands take hours."""
    found = sorted(p for p in (REPO / "docs").rglob("*.md") if p.relative_to(REPO / "docs").parts[0] != "studies")
    return [REPO / "README.md", *found]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the demo's clip, copied without re-encoding."""
    pytest.importorskip("skimage", reason="the clip is made from the demo extra's portraits")
    import av

    from numclip.demo.clip import write_clip

    whole, short = (tmp_path_factory.mktemp("clip") / name for name in ("whole.mp4", "clip.mp4"))
    write_clip(whole)
    with av.open(str(whole)) as source, av.open(str(short), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number < CLIP_FRAMES:
                packet.stream = stream
                target.mux(packet)
    return short


def run_page(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    """Copy the files that a page needs, and run its blocks that are not skipped."""
    for name in " ".join(WITH.findall(text_of(page))).split():
        places = [page.parent / name, REPO / "runtime/models" / name]
        found = request.getfixturevalue("clip") if name == "clip.mp4" else next(p for p in places if p.is_file())
        shutil.copyfile(found, folder / name)
    try:
        for block in blocks_of(text_of(page)):
            if block.skip is None:
                run_block(block, folder)
    finally:
        end_all_in(folder)


def end_all_in(folder: Path) -> None:
    """End what a page started in the background and did not stop, because a block before that failed."""
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(folder):
            process.kill()


def runnable(slow: bool) -> list[Path]:
    """Return the pages with a block to run: those that take minutes, or the others."""
    return [
        page
        for page in pages()
        if any(block.skip is None for block in blocks_of(text_of(page))) and (SLOW in text_of(page)) == slow
    ]


@pytest.mark.parametrize("page", runnable(slow=False), ids=name_of)
def test_the_pages_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every block that is not marked as skipped ends with exit code 0."""
    run_page(page, tmp_path, request)


# A budget of half a millisecond, in the command and in Python, which is less than one model run takes.
HURRIED = (
    (re.compile(r"^(numclip run [^#\n]*?)(\s*#.*)?$", re.M), r"\1 --budget-ms 0.5"),
    (re.compile(r"(numclip\.stream\(.*)\)"), r"\1, rules=Rules(budget_ms=0.5))"),
    (re.compile(r"^import numclip$", re.M), "import numclip\nfrom numclip.runtime.live.pipeline import Rules"),
)


@pytest.mark.slow
def test_the_first_page_s_blocks_run_in_a_hurry(tmp_path: Path) -> None:
    """README's blocks run without error with twice as many busy processes as cores and a budget of 0.5 ms wherever possible, so none
    relies on a face being read in time."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    hurried = 0
    try:
        for block in blocks_of((REPO / "README.md").read_text(encoding="utf-8")):
            if block.skip is None:
                code = block.code
                for pattern, instead in HURRIED:
                    code = pattern.sub(instead, code)
                hurried += code.count("0.5")
                run_block(Block(block.tag, code, None), tmp_path)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert hurried >= 2, "expected the budget in the command and in the Python block"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", runnable(slow=True), ids=name_of)
def test_the_long_pages_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The same holds for pages that take minutes."""
    run_page(page, tmp_path, request)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_pages_commands_exist(page: Path) -> None:
    """Every `numclip COMMAND` in a bash block, skipped ones included, is a command."""
    from numclip.cli.main import COMMANDS

    code = "\n".join(block.code for block in blocks_of(text_of(page)) if block.tag == "bash")
    code = re.sub(r"#.*", "", code)
    verbs = set(re.findall(r"(?:^|[\s/;&|])numclip ([a-z]+(?:-[a-z]+)*)", code))

    assert verbs - set(COMMANDS) == set()


def test_a_wrong_block_is_found(tmp_path: Path) -> None:
    """The test finds a wrong block, and a skip comment skips only the next block."""
    page = "<!-- test: skip needs a camera -->\n```bash\nfalse\n```\ntext\n```bash\nfalse\n```\n"
    page += "1. a list\n\n    ```python\n    1/0\n    ```\n"
    blocks = blocks_of(page)

    assert [block.skip for block in blocks] == ["needs a camera", None, None]
    for block in blocks[1:]:
        with pytest.raises(AssertionError):
            run_block(block, tmp_path)


def test_what_a_page_leaves_behind_is_ended(tmp_path: Path) -> None:
    """A process that a block started in the background does not outlive the page."""
    run_block(Block("bash", "sleep 300 > /dev/null 2>&1 & echo $! > pid", None), tmp_path)
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    assert left.is_running()
    end_all_in(tmp_path)
    psutil.wait_procs([left], timeout=10)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
