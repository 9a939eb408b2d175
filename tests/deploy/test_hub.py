"""`numclip push` and `numclip.load("hf://owner/name")` against a server that speaks the Hugging Face Hub's HTTP protocol.

The client is the real huggingface_hub, in separate processes. The server in this file keeps repositories, commits and large files
in memory, requires a token to write and to read private repositories, and counts requests.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

import numclip
from numclip.deploy.hub import licence_fields
from numclip.errors import ModelError
from numclip.runtime.contract.hub import HubAddress
from numclip.runtime.contract.licences import Licence
from numclip.runtime.contract.model_file import MODELS

pytest.importorskip("huggingface_hub", reason="needs the extra hub")
TOKEN = "hf_right"


@dataclass
class Repository:
    """A repository: files by commit; the last commit is main."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)  # names of files that are stored by sha256


@dataclass
class Hub:
    """The state of the server."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by sha256
    asked: list[str] = field(default_factory=list)  # "GET /path"
    url: str = ""
    spoil: bool = False  # paths answered with wrong bytes


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, code: int, body: object = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self) -> None:
        path, data = self.path.partition("?")[0], self._body()
        self.hub.asked.append(f"POST {path}")
        if not self._may_write:
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.hub.repositories:
                return self._answer(409, {"error": "You already created it", "url": f"{self.hub.url}/{name}"})
            self.hub.repositories[name] = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
            return self._answer(200, {"url": f"{self.hub.url}/{name}"})
        if path == "/api/validate-yaml":
            import yaml

            head = re.match(r"---\n(.*?)\n---\n", json.loads(data)["content"], re.S)
            assert head is not None and yaml.safe_load(head[1])
            return self._answer(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/preupload/main", path):
            files = json.loads(data)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".onnx") else "regular"} for f in files
            ]
            return self._answer(200, {"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})
        if found := re.fullmatch(r"/(.+?/.+?)\.git/info/lfs/objects/batch", path):
            objects = json.loads(data)["objects"]
            for each in objects:
                if each["oid"] not in self.hub.objects:
                    each["actions"] = {"upload": {"href": f"{self.hub.url}/objects/{each['oid']}"}}
            return self._answer(
                200, {"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json"
            )
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in data.splitlines()])
        return self._answer(404, {"error": path})

    def _commit(self, name: str, lines: list[dict]) -> None:
        repository = self.hub.repositories[name]
        files = dict(next(reversed(repository.commits.values()), {}))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.large.add(value["path"])
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        repository.commits[commit] = files
        self._answer(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def do_PUT(self) -> None:
        oid, data = self.path.rpartition("/")[2], self._body()
        good = hashlib.sha256(data).hexdigest() == oid
        self.hub.objects.update({oid: data} if good else {})
        self._answer(200 if good else 400)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if found := re.fullmatch(r"/objects/(\w+)", path):
            data = self.hub.objects[found[1]]
            return self._answer(200, data[:-1] + b"\0" if self.hub.spoil else data)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repository = self.hub.repositories.get(found[1]) if found else None
        if found is None or repository is None or (repository.private and not self._may_write):
            return self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        commit = next(reversed(repository.commits)) if found[2] == "main" else found[2]
        files = repository.commits.get(commit)
        if files is None:
            return self._answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        if found[3] not in files:
            return self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = files[found[3]]
        if found[3] not in repository.large:
            return self._answer(200, data, X_Repo_Commit=commit, ETag=f'"{hashlib.sha1(data).hexdigest()}"')
        oid = hashlib.sha256(data).hexdigest()
        head = {"X_Linked_Etag": f'"{oid}"', "X_Linked_Size": str(len(data)), "X_Repo_Commit": commit}
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # large files come from a different host
        return self._answer(302, b"", Location=f"{elsewhere}/objects/{oid}", **head)

    do_HEAD = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = list[bytes]()
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


@pytest.fixture
def hub() -> Iterator[Hub]:
    """An empty server."""
    held = Hub()
    handler = type("OwnHandler", (Handler,), {"hub": held})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        held.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield held
        server.shutdown()


def call(hub: Hub | None, folder: Path, *words: str, token: str | None = TOKEN) -> tuple[int, str, str]:
    """Run Python with huggingface_hub pointed at the server and all caches in `folder`; hub None: no server."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9", "HF_HOME": str(folder / "hf")}
    env |= {"NUMCLIP_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env |= {} if token is None else {"HF_TOKEN": token}
    done = subprocess.run([sys.executable, *words], env=env, cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def command(hub: Hub | None, folder: Path, *words: str, token: str | None = TOKEN) -> tuple[int, str, str]:
    return call(hub, folder, "-m", "numclip.cli.main", *words, token=token)


LOADS = """
import sys, numclip, pickle
model = numclip.load(sys.argv[1], device="cpu", threads=1, precision=sys.argv[2] if len(sys.argv) > 2 else None)
print(model.spec.graph.precision, numclip.read("face.png", model, "haar").faces[0].age)
print(numclip.read("face.png", pickle.loads(pickle.dumps(model)), "haar").faces[0].age)
"""


def test_there_and_back(hub: Hub, tmp_path: Path, hopper: np.ndarray) -> None:
    """A model pushed in two precisions gives the same ages on another machine: in each precision, from the cache without network,
    and at a commit."""
    cv2.imwrite(str(tmp_path / "face.png"), hopper)
    code, said, errors = command(hub, tmp_path, "push", "age-nano", "age-nano.int8", "hf://me/ages", "--private")
    assert code == 0, errors
    repository = hub.repositories["me/ages"]
    ((commit, files),) = repository.commits.items()
    assert said.splitlines() == [
        f"{hub.url}/me/ages/commit/{commit}: model.onnx, model.int8.onnx, README.md",
        "next: numclip run 0 --model hf://me/ages --show",
    ]
    assert repository.private and files["model.onnx"] == (MODELS / "age-nano.onnx").read_bytes()
    for words in (
        ["hf://me/ages"],
        ["hf://me/ages", "int8"],
        [f"hf://me/ages@{commit}"],
        ["hf://me/ages/model.int8.onnx"],
    ):
        name = "age-nano.int8" if "int8" in " ".join(words) else "age-nano"
        model = numclip.load(name, device="cpu", threads=1)
        age = numclip.read(hopper, model, "haar").faces[0].age
        code, said, errors = call(hub, tmp_path, "-c", LOADS, *words)
        assert code == 0, errors
        assert said == f"{model.spec.graph.precision} {age}\n{age}\n"
    assert sum(each.startswith("GET /objects") for each in hub.asked) == 2, "each file is downloaded once"
    assert call(None, tmp_path, "-c", LOADS, "hf://me/ages")[0] == 0, "from the cache, without the hub"
    code, said, errors = command(hub, tmp_path, "info", "hf://me/ages")
    assert code == 0 and said.startswith("age-nano  (")


def test_the_card(hub: Hub, tmp_path: Path) -> None:
    """The card's metadata (licence, library, errors by data set) come from the spec; a user's own card keeps its text, not its
    header."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    assert command(hub, tmp_path, "push", "age-nano", "hf://me/ages")[0] == 0
    card = huggingface_hub.ModelCard(next(iter(hub.repositories["me/ages"].commits.values()))["README.md"].decode())
    spec = numclip.load("age-nano").spec
    assert card.data.library_name == "numclip" and card.data.license == "other" and "age-estimation" in card.data.tags
    found = {(r.dataset_name, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found[("utkface", "mae")] == pytest.approx(spec.metrics[0].mae) and len(found) == 3 * len(spec.metrics)
    assert 'numclip.load("hf://me/ages")' in card.text and "commercial use: no" in card.text

    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    code, _, errors = command(hub, tmp_path, "push", "age-nano", "hf://me/ages", "--card", "card.md")
    assert code == 0, errors
    mine = huggingface_hub.ModelCard([*hub.repositories["me/ages"].commits.values()][-1]["README.md"].decode())
    assert mine.data.license == "other" and mine.text.strip() == "# Mine"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["push", "age-nano", "age-small", "hf://me/x"], 2, "expected files of one model"),
        (["push", "faces-nano", "hf://me/x"], 1, "a face detector"),
        (["push", "age-nano", "me/x"], 1, "expected hf://owner/name"),
        (["push", "age-nano", "hf://me/x@main"], 2, "without a revision"),
        (["push", "age-nano", "hf://me/x", "--card", "no.md"], 2, "cannot read --card no.md"),
        (["info", "hf://me/nowhere"], 1, "the repository does not exist"),
        (["info", "hf://me"], 1, "expected hf://owner/name"),
        (["info", "hf://me/ages@soon"], 1, "the repository has no such revision"),
        (["info", "hf://me/ages/other.onnx"], 1, "expected a file"),
        (["run", "face.png", "--model", "hf://me/ages", "--precision", "fp16"], 1, "expected a file"),
    ],
)
def test_what_is_wrong_is_said(
    hub: Hub, tmp_path: Path, hopper: np.ndarray, words: list[str], code: int, sentence: str
) -> None:
    """Each wrong push is an error in one sentence, and nothing is written to the hub."""
    cv2.imwrite(str(tmp_path / "face.png"), hopper)
    files = {"model.onnx": (MODELS / "age-nano.onnx").read_bytes()}
    hub.repositories["me/ages"] = Repository(False, {"a" * 40: files}, {"model.onnx"})
    hub.objects[hashlib.sha256(files["model.onnx"]).hexdigest()] = files["model.onnx"]
    got, _, said = command(hub, tmp_path, *words)
    assert got == code and sentence in said and said.count("\n") == 1, said
    assert list(hub.repositories) == ["me/ages"] and len(hub.repositories["me/ages"].commits) == 1


def test_without_login_or_hub(hub: Hub, tmp_path: Path) -> None:
    """No token, a wrong token and no hub are errors in one sentence, exit code 1, without the token."""
    for token, there in ((None, hub), ("hf_wrong", hub), (TOKEN, None)):
        code, _, said = command(there, tmp_path, "push", "age-nano", "hf://me/ages", token=token)
        assert code == 1 and said.count("\n") == 1 and said.startswith("numclip: hf://me/ages: "), said
        assert "hf_" not in said.replace("hf://", "")


@pytest.mark.slow
def test_without_a_copy(tmp_path: Path) -> None:
    """Without the hub and without a cached copy, there is one sentence after the client's half-minute of retries."""
    code, _, said = command(None, tmp_path, "info", "hf://me/ages")
    assert code == 1 and "it is not in the cache; connect to the network" in said and said.count("\n") == 1


def test_damaged_bytes_are_not_used(hub: Hub, tmp_path: Path) -> None:
    """A large file with a wrong sha256 is an error and is not opened."""
    data = (MODELS / "age-nano.onnx").read_bytes()
    hub.repositories["me/ages"] = Repository(False, {"a" * 40: {"model.onnx": data}}, {"model.onnx"})
    hub.objects[hashlib.sha256(data).hexdigest()] = data
    hub.spoil = True
    code, _, said = command(hub, tmp_path, "info", "hf://me/ages")
    assert code == 1 and "expected SHA-256" in said and said.count("\n") == 1, said


def test_addresses() -> None:
    """Owner, name, revision and file are parsed; an invalid address is an error."""
    assert HubAddress.from_text("hf://a/b.c-1") == HubAddress("a/b.c-1")
    assert HubAddress.from_text("hf://a/b@v1.0") == HubAddress("a/b", "v1.0")
    assert HubAddress.from_text("hf://a/b@v1/x/y.onnx") == HubAddress("a/b", "v1", "x/y.onnx")
    for wrong in (
        "hf://a",
        "hf://a/b/",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/b@",
        "hf:///b",
        "hf://a b/c",
        "hf://a/b/x.pt",
    ):
        with pytest.raises(ModelError, match="expected hf://owner/name"):
            HubAddress.from_text(wrong)


def test_licences_in_the_hub_s_words() -> None:
    """Licences map to the hub's identifiers: a known one, another one, a sentence, and none."""
    assert licence_fields(Licence("Apache-2.0")) == {"license": "apache-2.0"}
    assert licence_fields(Licence("LicenseRef-research-only")) == {"license": "other", "license_name": "research-only"}
    assert licence_fields(Licence(None, "ask us")) == {"license": "other", "license_name": "see-card"}
    assert licence_fields(None) == {"license": "unknown"}
