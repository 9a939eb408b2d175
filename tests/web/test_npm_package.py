"""The npm package: its contents, and a new project of ten lines that reads a face with it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from numclip.runtime.contract.model_file import MODELS

PROJECT = """
import { load } from "numclip";

const model = await load("/age-nano.int8.onnx");
const picture = new Image();
picture.src = "/portrait.png";
await picture.decode();
const { faces } = await model.read(picture);
document.title = faces.map(({ value, low, high }) => `${value} ${low} ${high}`).join(";") || "nobody";
await model.close();
"""


def npm(node: str, *words: str, cwd: Path) -> str:
    command = shutil.which("npm")
    if command is None:
        pytest.skip("needs npm")
    done = subprocess.run([command, *words], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_package_packs_exactly_the_library(node: str, repo: Path, built: None) -> None:
    """The package has only the bundled library, its worker, types and readme; no page, tests, sources or model."""
    (packed,) = json.loads(npm(node, "pack", "--dry-run", "--json", cwd=repo / "web"))
    files = {entry["path"] for entry in packed["files"]}
    types = {f"dist/lib/{path.stem}.d.ts" for path in (repo / "web" / "src").glob("*.ts")}
    assert files == {"package.json", "README.md", "dist/lib/index.js", "dist/lib/worker.js", *types}
    assert packed["size"] < 100_000


@pytest.mark.slow
def test_a_fresh_project_of_ten_lines_reads_a_face(
    node: str, repo: Path, built: None, browser: Any, serve: Any, hopper: np.ndarray, tmp_path: Path
) -> None:
    """A new project with the packed file and Vite, ten lines of code, built by `vite build`, shows an age with an interval."""
    (packed,) = json.loads(npm(node, "pack", "--json", "--pack-destination", str(tmp_path), cwd=repo / "web"))
    project = tmp_path / "project"
    (project / "public").mkdir(parents=True)
    (project / "package.json").write_text('{"name": "fresh", "private": true, "type": "module"}')
    (project / "index.html").write_text('<!doctype html><script type="module" src="main.js"></script>')
    (project / "main.js").write_text(PROJECT)
    assert len([line for line in PROJECT.splitlines() if line]) <= 10
    for name in ("age-nano.int8.onnx", "faces-nano.onnx"):
        shutil.copy(MODELS / name, project / "public")
    cv2.imwrite(str(project / "public" / "portrait.png"), hopper)
    npm(node, "install", "--no-audit", "--no-fund", str(tmp_path / packed["filename"]), "vite@7", cwd=project)
    config = 'export default { build: { target: "es2022" }, worker: { format: "es" } };'
    (project / "vite.config.js").write_text(config)
    npm(node, "exec", "--", "vite", "build", cwd=project)
    title = browser("title", url=serve(project / "dist").url)["title"]
    value, low, high = map(float, title.partition(";")[0].split())
    assert low <= value <= high
