"""A load generator with a limited number of clients, as a separate process.

    python load.py PORT PICTURE CLIENTS SECONDS [RATE]

Without RATE each client sends its next picture after the last response, and waits as long as Retry-After says (a closed load). With
RATE pictures are sent at that rate per second, whether or not responses have arrived (an open load), over at most CLIENTS
connections. It prints one JSON object: counts by status, responses per second, responses by client, latencies in ms.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np


class Client:
    """One persistent connection."""

    def __init__(self, port: int, picture: bytes) -> None:
        head = f"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        self._port, self._request = port, head.encode() + picture
        self._pipe: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> tuple[int, float]:
        """Send a request; returns the status and Retry-After in s. Reopens an idle connection that the server closed, as HTTP clients do."""
        kept = self._pipe is not None
        if self._pipe is None:
            self._pipe = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._pipe
        writer.write(self._request)
        try:
            text = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if not kept or getattr(error, "partial", b""):
                raise
            self._pipe = None
            return await self.ask()
        head = text.decode().lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        return int(head[0].split()[1]), float(fields.get("retry-after", 0))


class Tally:
    """Results of the load."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self.by_client: Counter[int] = Counter()

    async def ask(self, client: Client, number: int) -> float:
        """Send one request; returns the wait before the next, s."""
        started = time.perf_counter()
        try:
            status, retry_after_s = await client.ask()
        except Exception as error:
            self.statuses[type(error).__name__] += 1
            raise
        self.statuses[str(status)] += 1
        if status == 200:
            self.latencies_ms.append(1000 * (time.perf_counter() - started))
            self.by_client[number] += 1
        return retry_after_s


async def closed(port: int, picture: bytes, clients: int, seconds: float, tally: Tally) -> None:
    until = time.perf_counter() + seconds

    async def one(number: int) -> None:
        client = Client(port, picture)
        while time.perf_counter() < until:
            await asyncio.sleep(await tally.ask(client, number))

    await asyncio.gather(*(one(number) for number in range(clients)))


async def opened(port: int, picture: bytes, clients: int, seconds: float, rate: float, tally: Tally) -> None:
    free: asyncio.Queue[tuple[Client, int]] = asyncio.Queue()
    for number in range(clients):
        free.put_nowait((Client(port, picture), number))
    tasks: list[asyncio.Task[None]] = []

    async def one() -> None:
        client, number = free.get_nowait()
        await tally.ask(client, number)
        free.put_nowait((client, number))

    draw, at, started = random.Random(1), 0.0, time.perf_counter()
    while at < seconds:
        await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
        tasks.append(asyncio.create_task(one()))
        at += draw.expovariate(rate)
    await asyncio.gather(*tasks)


def main() -> None:
    port, picture, clients, seconds, *rate = sys.argv[1:]
    tally, data = Tally(), Path(picture).read_bytes()
    started = time.perf_counter()
    if rate:
        asyncio.run(opened(int(port), data, int(clients), float(seconds), float(rate[0]), tally))
    else:
        asyncio.run(closed(int(port), data, int(clients), float(seconds), tally))
    spent_s = time.perf_counter() - started
    answered = len(tally.latencies_ms)
    print(
        json.dumps(
            {
                "statuses": dict(tally.statuses),
                "per_s": answered / spent_s,
                "by_client": [tally.by_client[number] for number in range(int(clients))],
                "latencies_ms": np.round(tally.latencies_ms, 2).tolist(),
            }
        )
    )


if __name__ == "__main__":
    main()
