"""What the documentation site is made of beside the pages in docs/: mkdocs calls these functions while it builds.

The pages of the project (changelog, contributing, security, training log) and the reference of the commands are made from
the files that hold them, and links to those files lead to the pages. Other files of the repository are not on the site.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
# A page of the site, and the file it is made from.
PROJECT_PAGES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "research-log.md": "research/log.md",
}
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Let the API reference find the package, whose folder may have any name, by its own name."""
    folder = Path(tempfile.mkdtemp(prefix="numclip-site-"))
    (folder / "numclip").symlink_to(REPO)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(folder)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from files elsewhere."""
    from mkdocs.structure.files import File

    for page, source in PROJECT_PAGES.items():
        files.append(File.generated(config, page, content=(REPO / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/cli.md", content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to a file of the repository to the page made from it; leave the words of other such links without a link."""
    source = PROJECT_PAGES.get(page.file.src_uri)
    here = (REPO / source).parent if source else (REPO / "docs" / page.file.src_uri).parent
    made = {(REPO / file).resolve(): name for name, file in PROJECT_PAGES.items()}
    up = "../" * page.file.src_uri.count("/")

    def lead(match: re.Match[str]) -> str:
        path, mark, anchor = match[1].partition("#")
        target = (here / path).resolve()
        if target in made:
            return f"]({up}{made[target]}{mark}{anchor})"
        if (REPO / "docs") in target.parents:
            return f"]({up}{target.relative_to(REPO / 'docs').as_posix()}{mark}{anchor})"
        return match[0]

    return LINK.sub(lead, markdown)


def commands_page() -> str:
    """Every command's --help, from docs/help, which a test holds to what the commands say."""
    parts = ["# Commands", "", "What each command prints with `--help`.", ""]
    texts = sorted((REPO / "docs/help").glob("*.txt"), key=lambda p: (p.stem != "numclip", p.stem))
    for text in texts:
        name = "numclip" if text.stem == "numclip" else f"numclip {text.stem}"
        parts += [f"## {name}", "", "```text", text.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(parts)
