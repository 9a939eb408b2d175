"""The OpenAPI document is true: requests made from it get what it says, and a client made from it reads a picture."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import numclip

from .conftest import TOKEN, Serve, Served


def with_source(serve: Serve, shared_data: Path) -> Served:
    """A server that has read a short video, so that streams of its results end by themselves."""
    served = serve(str(shared_data / "bugs" / "two_faces.mp4"), "--token", TOKEN)
    with served.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        while client.get("/v1/sources/0").json()["state"] != "ended":
            time.sleep(0.1)
    return served


def fuzz(served: Served, folder: Path, examples: int, seed: int) -> dict[str, object]:
    """Run schemathesis from the command line against a server; its report."""
    report = folder / "report.ndjson"
    words = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", "--max-examples", str(examples),
        "--seed", str(seed), "--phases", "examples,coverage,fuzzing", "--header", f"Authorization: Bearer {TOKEN}",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,ignored_auth",
        "--request-timeout", "30", "--workers", "2", "--report", "ndjson", "--report-ndjson-path", str(report),
        "--no-color", "--max-failures", "5", "--continue-on-failure",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=3000, cwd=folder)
    return {"code": done.returncode, "said": done.stdout[-6000:] + done.stderr[-2000:], "report": report}


def test_a_sample_of_requests_gets_what_the_document_says(serve: Serve, tmp_path: Path, shared_data: Path) -> None:
    """Some hundreds of requests made from the document, to a server with one source, which has ended: no 500, no status, type, header or body that it does not tell, and the
    token is asked for wherever it says so."""
    served = with_source(serve, shared_data)
    seen = fuzz(served, tmp_path, 10, 1)
    assert seen["code"] == 0, seen["said"]
    assert "Traceback" not in served.said


@pytest.mark.slow
def test_ten_thousand_requests_get_what_the_document_says(serve: Serve, tmp_path: Path, shared_data: Path) -> None:
    """The same with 10,000 and more, as the server counts them."""
    served = with_source(serve, shared_data)
    with served.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        many, seed = 0, 1
        while many < 10_000:
            seen = fuzz(served, tmp_path, 300, seed)
            assert seen["code"] == 0, seen["said"]
            text = client.get("/metrics").text
            many = sum(
                float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if line.startswith("numclip_requests_total")
            )
            seed += 1
    print(f"\n{many:.0f} requests")
    assert "Traceback" not in served.said


def test_a_client_made_from_the_document_reads_a_picture(serve: Serve, tmp_path: Path, portrait: bytes) -> None:
    """openapi-python-client makes a package of the document; its call reads Hopper's portrait and gives her age as an attribute."""
    pytest.importorskip("openapi_python_client", reason="needs openapi-python-client")
    served = serve("--token", TOKEN)
    (tmp_path / "openapi.json").write_bytes(httpx.get(f"{served.url}/openapi.json").content)
    (tmp_path / "config.yaml").write_text(
        json.dumps({"post_hooks": [], "package_name_override": "ages_client", "project_name_override": "ages-client"})
    )
    words = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json", "--config", "config.yaml"]  # fmt: skip
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(tmp_path / "ages-client"))
    try:
        client = importlib.import_module("ages_client")
        read = importlib.import_module("ages_client.api.pictures.read")
        types = importlib.import_module("ages_client.types")
        with client.AuthenticatedClient(served.url, TOKEN) as connection:
            import io

            answer = read.sync(client=connection, body=types.File(io.BytesIO(portrait), "portrait.jpg", "image/jpeg"))
    finally:
        sys.path.remove(str(tmp_path / "ages-client"))
    (face,) = answer.results[0].faces
    wanted = numclip.read(portrait).faces[0].age
    assert face.age == pytest.approx(wanted, abs=0.006)
    assert face.bin_ == numclip.read(portrait).faces[0].word
