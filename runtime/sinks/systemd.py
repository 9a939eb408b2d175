"""A run under a supervisor: it tells systemd whether frames arrive.

The protocol is sd_notify(3): datagrams of `KEY=value` to the socket in NOTIFY_SOCKET. READY is sent with the first result and
WATCHDOG with later ones. So systemd restarts a run whose camera sends nothing, and a run that hangs.
"""

from __future__ import annotations

import os
import socket
import time

from ..live.frames import SourceEvent
from ..live.results import FrameResult

PINGS_PER_TIMEOUT = 4  # one ping may be late and one lost


def supervised() -> bool:
    """Whether a supervisor expects messages."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def notify(*states: str) -> None:
    """Send states such as READY=1; does nothing without a supervisor, or after it has gone."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto("\n".join(states).encode(), address)
    except OSError:
        pass  # the supervisor has gone; the run goes on, because it still has results to write


class ServiceSink:
    """Tells the supervisor that results arrive; one output among the others."""

    def __init__(self) -> None:
        timeout_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6
        self._every_s = timeout_s / PINGS_PER_TIMEOUT if timeout_s else float("inf")
        self._last_s: float | None = None

    def write(self, result: FrameResult) -> None:
        """Send READY with the first result, then WATCHDOG as often as the supervisor needs it."""
        now_s = time.monotonic()
        if self._last_s is None:
            notify("READY=1", f"STATUS=reading {result.frame.source}")
        elif now_s - self._last_s < self._every_s:
            return
        else:
            notify("WATCHDOG=1")
        self._last_s = now_s

    def tell(self, event: SourceEvent) -> None:
        """Ignore events: a stalled source must not reset the watchdog."""

    def close(self) -> None:
        """Send STOPPING, so that a long shutdown is not taken for a hang."""
        notify("STOPPING=1")
