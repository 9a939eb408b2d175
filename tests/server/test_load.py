"""Many clients of a real server: excess requests get 429, clients are served fairly, memory is bounded; and the effect of batches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numclip
from numclip.server.options import ServeOptions

from .conftest import Serve, Served
from .test_rest import assert_same

GENERATOR = Path(__file__).with_name("load.py")


@pytest.fixture
def picture(portrait: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "portrait.jpg"
    path.write_bytes(portrait)
    return path


def load(served: Served, picture: Path, clients: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
    """Run the load generator and return its results."""
    words = [sys.executable, str(GENERATOR), str(served.port), str(picture), str(clients), str(seconds)]
    done = subprocess.run([*words, *([] if rate is None else [str(rate)])], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def p(latencies: list[float], percent: float) -> float:
    return float(np.percentile(latencies, percent))


def test_more_clients_than_places_are_refused_and_nothing_else(serve: Serve, picture: Path) -> None:
    """16 clients with a queue of 4 get only 200 and 429; rejected clients wait as Retry-After says; the server is idle and alive
    afterwards."""
    served = serve("--queue", "4", "--max-pictures", "4", "--workers", "1")
    seen = load(served, picture, 16, 3)
    assert set(seen["statuses"]) == {"200", "429"}
    with served.client() as client:
        assert "numclip_queue_pictures 0.0" in client.get("/metrics").text.splitlines()
        assert client.get("/readyz").status_code == 200


def test_clients_are_served_alike(serve: Serve, picture: Path) -> None:
    """8 continuous clients within the queue size are never rejected, and each gets its share, to within two pictures."""
    seen = load(serve(), picture, 8, 4)
    assert set(seen["statuses"]) == {"200"}
    assert max(seen["by_client"]) - min(seen["by_client"]) <= 2


def test_batches_give_the_same_ages(serve: Serve, portrait: bytes, picture: Path) -> None:
    """With --batch 8 eight clients share model calls, and each gets the result of `numclip.read`, to 1e-5."""
    served = serve("--batch", "8", "--batch-window-ms", "50", "--workers", "1")
    load(served, picture, 8, 2)
    with served.client() as client:
        (told,) = client.post("/v1/read", content=portrait).json()["results"]
        assert_same(told, numclip.read(portrait))
        assert any(f'numclip_batches_total{{pictures="{n}"}}' in client.get("/metrics").text for n in range(2, 9))


@pytest.mark.slow
def test_fifty_clients_for_five_minutes(serve: Serve, picture: Path, portrait: bytes) -> None:
    """Fifty continuous clients for 300 s, in turns with four clients, one client, and an open load of 60 % of the fifty's rate, so that
    all run under the same conditions.

    Fifty clients: only 200 and 429 occur. The rate is at least 90 % of that with four clients. The p99 is within (queue size + 2) times
    the p50 of one client. Each client's share is within 20 % of the mean. Memory grows by less than 5 MB. Ages equal those of
    `numclip.read`. Open load: there is no 429, and the p99 is within 5 times the p50 of one client.
    """
    served = serve()
    one, four, fifty, calm = list[float](), list[float](), list[float](), list[float]()
    latencies, statuses, calm_statuses, memory_mb = list[float](), Counter[str](), Counter[str](), list[float]()
    by_client = np.zeros(50)
    load(served, picture, 50, 5)
    for _ in range(10):
        one += load(served, picture, 1, 4)["latencies_ms"]
        four.append(load(served, picture, 4, 7)["per_s"])
        seen = load(served, picture, 50, 30)
        fifty.append(seen["per_s"])
        statuses.update(seen["statuses"])
        latencies += seen["latencies_ms"]
        by_client += seen["by_client"]
        memory_mb.append(served.memory_mb)
        seen = load(served, picture, 50, 8, 0.6 * fifty[-1])
        calm_statuses.update(seen["statuses"])
        calm += seen["latencies_ms"]
    p50, places = p(one, 50), ServeOptions().queue
    print(
        f"\none client: p50 {p50:.1f} ms, p99 {p(one, 99):.1f} ms; four: {np.median(four):.1f}/s; fifty: {np.median(fifty):.1f}/s "
        f"({min(fifty):.1f} to {max(fifty):.1f}), p50 {p(latencies, 50):.0f} ms, p99 {p(latencies, 99):.0f} ms, {dict(statuses)}; by client "
        f"{by_client.min():.0f} to {by_client.max():.0f}; memory {[round(m, 1) for m in memory_mb]} MB; open load of 60 %: "
        f"{dict(calm_statuses)}, p50 {p(calm, 50):.1f} ms, p99 {p(calm, 99):.1f} ms"
    )
    with served.client() as client:
        (told,) = client.post("/v1/read", content=portrait).json()["results"]
    assert_same(told, numclip.read(portrait))
    assert set(statuses) <= {"200", "429"}
    assert np.median(fifty) >= 0.9 * np.median(four)
    assert p(latencies, 99) <= (places + 2) * p50
    assert np.all(np.abs(by_client / by_client.mean() - 1) <= 0.2)
    assert memory_mb[-1] - memory_mb[0] < 5
    assert set(calm_statuses) == {"200"}
    assert p(calm, 99) <= 5 * p50


@pytest.mark.slow
def test_what_batches_and_workers_bring(serve: Serve, picture: Path) -> None:
    """Measure the rate of servers with different batches and workers, with 16 clients and in turns, relative to one picture at a time.

    The default uses batches only if they reach 1.6 times that rate; otherwise it uses none, and docs/scale.md has this table.
    """
    ways = {
        "one at a time": ("--workers", "1"),
        "batches of 2": ("--workers", "1", "--batch", "2"),
        "batches of 4": ("--workers", "1", "--batch", "4"),
        "batches of 8": ("--workers", "1", "--batch", "8"),
        "batches of 16": ("--workers", "1", "--batch", "16"),
        "two workers": ("--workers", "2"),
        "two workers, batches of 4": ("--workers", "2", "--batch", "4"),
    }
    servers = {name: serve(*flags) for name, flags in ways.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(8):
        for name, served in servers.items():
            rates[name].append(load(served, picture, 16, 3)["per_s"])
    base = np.array(rates["one at a time"])
    gains = {name: float(np.median(np.array(each) / base)) for name, each in rates.items()}
    for name, each in rates.items():
        print(f"\n| {name} | {np.median(each):.1f} | {gains[name]:.2f} |", end="")
    pays = max(gain for name, gain in gains.items() if name.startswith("batches")) >= 1.6
    assert (ServeOptions().batch > 1) == pays
