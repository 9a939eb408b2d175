"""The options of a server: its sources, its address, its limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from ..errors import UsageError
from ..runtime.contract.model_file import FINDER
from ..runtime.live.face_options import FaceOptions

SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class ServeOptions(FaceOptions):
    """How `numclip serve` runs. By default only this machine reaches it, and its memory and times are limited."""

    sources: tuple[str, ...] = ()
    """Cameras, streams and video files that the server reads. A file is played once, at its own speed."""
    model: str = "age-nano"
    """A model's name, an .onnx or an .engine."""
    device: str = "auto"
    """Where the model runs: auto, cpu, cuda or tensorrt."""
    precision: str | None = None
    """fp32, fp16 or int8; None: the precision of the file that `model` names."""
    threads: int = 1
    """CPU threads of one call of the model. Each worker makes calls of its own."""
    detector: str = FINDER
    """The face detector's name, or a finder's file."""
    host: str = "127.0.0.1"
    """Address to listen on. An address that other machines reach needs `token` or `open_to_all`."""
    port: int = 8000
    """TCP port; 0: a free one."""
    token: str | None = None
    """Secret of at least 16 characters that clients must send; None: no token."""
    open_to_all: bool = False
    """Let other machines in without a token."""
    cors: tuple[str, ...] = ()
    """Origins of other sites whose pages may call the API, such as https://kiosk.example."""
    workers: int | None = None
    """Threads that read pictures; None: one per CPU core that this process may use."""
    batch: int = 1
    """Most pictures of different requests in one call of the model; 1: no picture waits for others."""
    batch_window_ms: float = 5.0
    """How long a picture waits for others, if `batch` is above 1."""
    queue: int = 64
    """Pictures that may wait, at least `max_pictures`. Others are answered with 429."""
    max_bytes: int = 32 << 20
    """Largest body of a request. A message of a browser's camera has at most 4 MiB."""
    max_pixels: int = 50_000_000
    """Largest picture, checked before it is decoded."""
    max_pictures: int = 16
    """Most pictures in one request."""
    max_connections: int = 512
    """Connections at a time. A new one takes the place of the oldest idle one; if none is idle, it is closed."""
    webrtc: str | None = None
    """Address of this machine to which browsers' cameras may send video over WebRTC; None: they use WebSockets alone."""
    max_cameras: int = 8
    """Browsers' cameras at a time; 0: none."""
    timeout_s: float = 20.0
    """Longest time for a request's head, for its body, for its wait in the queue, for a client that leaves its answer unread, and for a
    camera that sends no picture."""
    camera: str | None = None
    """What to ask the server's own cameras for, as WxH@FPS:FORMAT."""
    fps: float | None = None
    """Frame rate of a raw stream without timestamps; None: 30."""
    level: float = 0.9
    """Level of the intervals, between 0 and 1."""
    blur: bool = False
    """Make faces unrecognisable in every picture that the server sends."""

    def __post_init__(self) -> None:
        """Raises UsageError for an option out of range, or for an address that would let others in without a token."""
        counts = {
            "--threads": self.threads,
            "--batch": self.batch,
            "--queue": self.queue,
            "--max-bytes": self.max_bytes,
            "--max-pixels": self.max_pixels,
            "--max-pictures": self.max_pictures,
            "--max-connections": self.max_connections,
            "--max-faces": 1 if self.max_faces is None else self.max_faces,
            "--min-face": self.min_face_px,
            "--workers": 1 if self.workers is None else self.workers,
        }
        for flag, number in counts.items():
            if number < 1:
                raise UsageError(f"expected {flag} of 1 or more, got {number}")
        if self.queue < self.max_pictures:
            raise UsageError(
                f"expected --queue of at least --max-pictures ({self.max_pictures}), because all pictures of a request wait at once, "
                f"got {self.queue}; raise --queue or lower --max-pictures"
            )
        if self.max_cameras < 0:
            raise UsageError(f"expected --max-cameras of 0 or more, got {self.max_cameras}")
        if not 0 <= self.port < 65536:
            raise UsageError(f"expected --port from 0 to 65535, got {self.port}")
        if not 0 <= self.batch_window_ms <= 1000:
            raise UsageError(f"expected --batch-window-ms from 0 to 1000, got {self.batch_window_ms:g}")
        if not 0 < self.timeout_s <= 3600:
            raise UsageError(f"expected --timeout-s above 0 and at most 3600, got {self.timeout_s:g}")
        if not 0 < self.level < 1:
            raise UsageError(f"expected --interval between 0 and 1, such as 0.9, got {self.level:g}")
        if self.webrtc is not None:
            _check_address(self.webrtc)
        super().__post_init__()
        self._check_access()

    def _check_access(self) -> None:
        if self.token is not None:
            make = "make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
            if not (self.token.isascii() and self.token.isprintable()):
                raise UsageError(f"expected a token of printable ASCII characters alone, got others too; {make}")
            if (length := len(self.token)) < SHORTEST_TOKEN:
                raise UsageError(f"expected a token of at least {SHORTEST_TOKEN} characters, got {length}; {make}")
            if self.open_to_all:
                raise UsageError("expected a token or --open-to-all, got both; choose one")
        elif not self.open_to_all and not self.is_local:
            raise UsageError(
                f"--host {self.host} lets other machines in: expected a token (--token-file FILE, or NUMCLIP_TOKEN in the "
                "environment); or say --open-to-all to let anybody in"
            )
        for origin in self.cors:
            scheme, mark, rest = origin.partition("://")
            if scheme not in ("http", "https") or not mark or not rest or "/" in rest or "*" in origin:
                raise UsageError(
                    "expected --cors ORIGIN with http:// or https:// and a host, without a path and without *, such as "
                    f"https://kiosk.example, got {origin!r}"
                )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _check_address(address: str) -> None:
    """Raises UsageError for an address that a browser cannot send to."""
    try:
        fits = not ipaddress.ip_address(address).is_unspecified
    except ValueError:
        fits = False
    if not fits:
        raise UsageError(f"expected --webrtc with one address of this machine, such as 192.168.1.5, got {address!r}")
