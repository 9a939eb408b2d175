"""README's commands and code run as shown.

Blocks tagged ```bash or ```python run in order, in a folder of their own. A block after `<!-- test: skip REASON -->`
is left out (it needs a camera, a GPU, the network or hours).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"(?:<!-- test: skip (?P<reason>[^>]+?) -->\s*)?^```(?P<tag>\w+)\n(?P<code>.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    tag: str
    code: str
    skip: str | None


def blocks_of(text: str) -> list[Block]:
    """The bash and python blocks of a page, in order."""
    found = [Block(m["tag"], m["code"], m["reason"]) for m in FENCE.finditer(text)]
    return [block for block in found if block.tag in ("bash", "python")]


def run_block(block: Block, folder: Path) -> None:
    """Run a block in `folder`, with this environment's `numclip` first on the path."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shell = ["bash", "-euo", "pipefail", "-c"] if block.tag == "bash" else [sys.executable, "-c"]
    done = subprocess.run([*shell, block.code], cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{block.code}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def pages() -> list[Path]:
    return [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_the_pages_blocks_run(page: Path, tmp_path: Path) -> None:
    """Every block that is not marked as skipped ends with exit code 0."""
    blocks = [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.skip is None]
    if not blocks:
        pytest.skip(f"{page.name} has no blocks to run")
    if not (REPO / "runtime/models/age-nano.onnx").is_file():
        pytest.skip("the default model runtime/models/age-nano.onnx is not there yet")
    for block in blocks:
        run_block(block, tmp_path)


# A budget of half a millisecond, in the command and in Python: less than one look takes.
HURRIED = (
    (re.compile(r"^(numclip run [^#\n]*?)(\s*#.*)?$", re.M), r"\1 --budget-ms 0.5"),
    (re.compile(r"(numclip\.stream\(.*)\)"), r"\1, rules=Rules(budget_ms=0.5))"),
    (re.compile(r"^import numclip$", re.M), "import numclip\nfrom numclip.runtime.live.pipeline import Rules"),
)


@pytest.mark.slow
def test_the_first_page_s_blocks_run_in_a_hurry(tmp_path: Path) -> None:
    """README's blocks, one after the other, with twice as many busy processes as cores and a budget of 0.5 ms wherever one can be
    given: no block ends in an error, so none relies on a face being read in time."""
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
    assert hurried >= 2, "the command and the Python block"


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_the_pages_commands_exist(page: Path) -> None:
    """Every `numclip VERB` in a bash block, skipped ones included, is a verb."""
    from numclip.cli.main import COMMANDS

    code = "\n".join(block.code for block in blocks_of(page.read_text(encoding="utf-8")) if block.tag == "bash")
    code = re.sub(r"#.*", "", code)
    verbs = set(re.findall(r"(?:^|[\s/;&|])numclip ([a-z]+)", code))

    assert verbs - set(COMMANDS) == set()


def test_a_wrong_block_is_found(tmp_path: Path) -> None:
    """The guard can fail, and a skip comment takes out only the block it stands before."""
    page = "<!-- test: skip needs a camera -->\n```bash\nfalse\n```\ntext\n```bash\nfalse\n```\n```python\n1/0\n```\n"
    blocks = blocks_of(page)

    assert [block.skip for block in blocks] == ["needs a camera", None, None]
    for block in blocks[1:]:
        with pytest.raises(AssertionError):
            run_block(block, tmp_path)
