"""Malicious clients: they get the right status, memory is bounded, and the server keeps working."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Serve, Served
from .test_pictures import png

# The status for each of the shared odd files: pictures are read or are errors with a reason; videos and texts are not pictures.
PICTURES = {"face.avif", "face.gif", "face.jfif", "face.jp2", "face.jpg", "face_without_suffix", "sideways.jfif"}
HEIC = {"face.heic", "heic_named.jpg"}
ROOM_MB = 1000  # allowed growth after the first picture: two workers each decode and read one of the largest pictures


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, portrait: bytes) -> Iterator[Served]:
    """A server with short timeouts, after its first picture; at the end it must still work without more memory."""
    served = Served(("--timeout-s", "2"), tmp_path_factory.mktemp("attacked") / "server.log", {}).start()
    with served.client() as client:
        for _ in range(3):
            assert client.post("/v1/read", content=portrait).status_code == 200
        before = served.memory_mb
        yield served
        assert client.post("/v1/read", content=portrait).status_code == 200
        assert client.get("/healthz").status_code == 200
    print(f"{served.memory_mb - before:.0f} MB more than after the first picture")
    assert served.memory_mb - before < ROOM_MB
    assert "Traceback" not in served.said
    served.kill()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a response; (0, {}, b"") if there is none."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            data += chunk
    if not data:
        return 0, {}, b""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


def opened(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=20)


def test_every_odd_file_gets_its_status(attacked: Served, shared_data: Path) -> None:
    """Pictures of any format are read; videos and texts get 415; a PNG of 60,000 x 60,000 gets 413."""
    with attacked.client() as client:
        for file in sorted(p for p in (shared_data / "bugs").iterdir() if p.is_file()):
            answer = client.post("/v1/read", content=file.read_bytes())
            wanted = {200} if file.name in PICTURES else {413} if file.name == "huge.png" else {200, 415} if file.name in HEIC else {415}  # fmt: skip
            assert answer.status_code in wanted, (file.name, answer.text)
            if answer.status_code == 200:
                assert len(answer.json()["results"][0]["faces"]) == 1, file.name


def test_bombs_are_refused_before_they_are_decoded(attacked: Served) -> None:
    """A PNG of 100,000 x 100,000, a GIF of 65,535 x 65,535, and a JPEG 2000 with 10 x 10 in its boxes but 40,000 x 40,000 in its stream
    get 413 or 422 without using memory; so does the PNG as base64 and as a form."""
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"  # fmt: skip
    bomb = png(100_000, 100_000, bytes(100))
    before = attacked.memory_mb
    with attacked.client() as client:
        for data in (bomb, gif, lying_jp2()):
            answer = client.post("/v1/read", content=data)
            assert answer.status_code in (413, 422), answer.text
        assert client.post("/v1/read", files={"a": ("a.png", bomb)}).status_code == 413
    assert attacked.memory_mb - before < 20


def lying_jp2() -> bytes:
    """Return a JPEG 2000 file with a small size in its header box and a large one in its codestream."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (10, 10)).save(file, "JPEG2000")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\x51") + 6  # SIZ: Rsiz, then Xsiz and Ysiz
    data[at : at + 8] = struct.pack(">II", 40_000, 40_000)
    return bytes(data)


def test_a_body_of_a_gigabyte_is_refused_by_its_length(attacked: Served) -> None:
    """A body of a gigabyte gets 413 before it is sent if its length is announced, and after 32 MiB if it is chunked, with bounded
    memory."""
    with opened(attacked) as connection:
        connection.sendall(b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n")
        status, headers, body = answer_of(connection)
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert json.loads(body)["status"] == 413
    before, chunk = attacked.memory_mb, b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with opened(attacked) as connection:
        connection.sendall(b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 1024:
                connection.sendall(chunk)
                sent += 1
        status, *_ = answer_of(connection)
    assert status in (413, 0)  # the response may be lost if the client keeps sending
    assert sent < 1024
    assert attacked.memory_mb - before < 120


def test_a_slow_head_is_408(attacked: Served) -> None:
    """A client that sends one header byte per 0.3 s (slowloris) gets 408 after the limit of 2 s; a silent one is disconnected."""
    with opened(attacked) as slow, opened(attacked) as silent:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            for letter in b"GET /healthz HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaa":
                slow.sendall(bytes([letter]))
                time.sleep(0.3)
                if time.monotonic() - started > 4:
                    break
        assert answer_of(slow)[0] in (408, 0)
        assert answer_of(silent)[0] == 0
        assert time.monotonic() - started < 8


def test_a_slow_head_hears_why(attacked: Served) -> None:
    """Half a header and then nothing gets 408 with a problem document."""
    with opened(attacked) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        status, headers, _ = answer_of(connection)
    assert (status, headers["content-type"]) == (408, "application/problem+json")


def test_a_slow_body_is_408(attacked: Served) -> None:
    """A body of which only one of ten announced bytes arrives gets 408."""
    with opened(attacked) as connection:
        connection.sendall(b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx")
        assert answer_of(connection)[0] == 408


def test_a_head_without_end_is_431(attacked: Served) -> None:
    """A header of megabytes gets 431 after 64 KiB."""
    with opened(attacked) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            for _ in range(64):
                connection.sendall(b"a" * (1 << 16))
        assert answer_of(connection)[0] in (431, 0)
    with opened(attacked) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000)
        assert answer_of(connection)[0] == 431


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000, b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_400(attacked: Served, data: bytes) -> None:
    """A TLS hello, a word, an unknown version, zeros, a negative length, and two lengths (request smuggling) get 400."""
    with opened(attacked) as connection:
        connection.sendall(data)
        assert answer_of(connection)[0] in (400, 408)


def test_a_thousand_idle_sockets_keep_nobody_out(attacked: Served) -> None:
    """With 1,000 silent connections, more than the limit, a request still gets a response within a second."""
    sockets: list[socket.socket] = []
    try:
        for number in range(1000):
            with contextlib.suppress(OSError):
                sockets.append(opened(attacked))
            if number % 250 == 249:
                started = time.monotonic()
                with attacked.client() as client:
                    assert client.get("/v1/models").status_code == 200
                assert time.monotonic() - started < 2
    finally:
        for each in sockets:
            each.close()


def test_a_reader_that_takes_nothing_is_let_go(serve: Serve, camera: object) -> None:
    """A client that requests the preview but never reads is disconnected after the limit of 1 s."""
    camera.start(640, 480)  # type: ignore[attr-defined]
    served = serve(camera.url, "--timeout-s", "1")  # type: ignore[attr-defined]
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", served.port))
        slow.sendall(b"GET /v1/sources/0/preview HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 30
        while re.search(rf"127\.0\.0\.1:{slow.getsockname()[1]}\b", connections_of(served)):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def connections_of(served: Served) -> str:
    """Return the clients connected to the server's process."""
    import psutil

    assert served.process is not None
    found = psutil.Process(served.process.pid).net_connections("tcp")
    return "\n".join(
        f"{each.raddr.ip}:{each.raddr.port}" for each in found if each.raddr and each.laddr.port == served.port
    )


def test_many_large_bodies_at_a_time_are_bounded(attacked: Served) -> None:
    """Forty clients with 30 MiB of garbage each get 415 or 429, and memory grows by at most eight such bodies."""
    body, statuses = bytes(30 << 20), Counter[int]()
    before, peak = attacked.memory_mb, [0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], attacked.memory_mb)

    def ask() -> None:
        with attacked.client() as client:
            try:
                statuses[client.post("/v1/read", content=body).status_code] += 1
            except Exception:
                statuses[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(40)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    over.set()
    watcher.join()
    assert set(statuses) <= {415, 429, 408, 0}
    # a body is joined from its chunks, so that it is there twice for a moment; two of them are looked at in tiles
    assert peak[0] - before < 2.5 * 8 * 32 + 400


def test_wrong_messages_on_a_socket_end_it_alone(attacked: Served) -> None:
    """A text message instead of a picture, or a picture above the maximum size, closes the socket, and the server keeps working."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    for message in ("hello", bytes(40 << 20)):
        with connect(f"ws://127.0.0.1:{attacked.port}/v1/camera", max_size=None) as connection:
            with contextlib.suppress(ConnectionClosed):
                connection.send(message)
            with pytest.raises(ConnectionClosed):
                connection.recv(10)


@pytest.mark.parametrize("kind", ["objects", "form"])
def test_a_body_that_is_slow_to_parse_holds_nobody_up(attacked: Served, kind: str) -> None:
    """32 MiB of `{}` as JSON, which would be a gigabyte of objects, and a form whose every third byte begins a boundary: 422 or 415,
    in bounded memory, and another client is answered within 2 s all the while."""
    body, header = b'{"pictures": [' + b"{}," * (10 << 20) + b"{}]}", "application/json"
    if kind == "form":
        head = b'--b\r\nContent-Disposition: form-data; name="pictures"; filename="a"\r\n\r\n'
        body, header = head + b"\r\n-" * (10 << 20) + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"
    before, slowest_s, over = attacked.memory_mb, 0.0, threading.Event()

    def send() -> None:
        with attacked.client() as client:
            statuses.append(client.post("/v1/read", content=body, headers={"Content-Type": header}).status_code)
        over.set()

    statuses: list[int] = []
    sender = threading.Thread(target=send)
    sender.start()
    with attacked.client() as client:
        while not over.is_set():
            started = time.monotonic()
            assert client.get("/healthz").status_code == 200
            slowest_s = max(slowest_s, time.monotonic() - started)
    sender.join()
    assert statuses[0] in (422, 415)
    assert slowest_s < 2
    assert attacked.memory_mb - before < 250


def test_connections_that_have_asked_once_make_room_too(serve: Serve) -> None:
    """--max-connections 20, and 40 clients that each got an answer and stay: the next one is answered at once."""
    served = serve("--max-connections", "20")
    sockets: list[socket.socket] = []
    try:
        for _ in range(40):
            sockets.append(opened(served))
            sockets[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sockets[-1].recv(4096).startswith(b"HTTP/1.1 200")
        with served.client() as client:
            assert client.get("/healthz").status_code == 200
    finally:
        for each in sockets:
            each.close()


def test_a_camera_that_sends_nothing_is_let_go(serve: Serve) -> None:
    """Its browser answers every ping and sends no picture, for a limit of 1 s: told, closed (1008), and its place is free."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    served = serve("--timeout-s", "1")
    with connect(f"ws://127.0.0.1:{served.port}/v1/camera") as connection, served.client() as client:
        told = json.loads(connection.recv(10))
        assert told["event"] == "failed"
        assert "expected a picture within 1 s" in told["reason"]
        with pytest.raises(ConnectionClosed):
            connection.recv(10)
        assert connection.close_code == 1008
        assert not client.get("/v1/sources").json()["sources"]


def test_messages_without_end_are_bounded(serve: Serve, camera: object) -> None:
    """Forty WebSockets begin a message of 30 MiB and never end it: where results are read 1 KiB is too much, and a camera gets no more than 4 MiB."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    camera.start()  # type: ignore[attr-defined]
    served = serve(camera.url)  # type: ignore[attr-defined]
    before = served.memory_mb
    for path, many in (("/v1/sources/0/results", 32), ("/v1/camera", 8)):
        with contextlib.ExitStack() as stack:
            open_ones = [
                stack.enter_context(connect(f"ws://127.0.0.1:{served.port}{path}", max_size=None)) for _ in range(many)
            ]
            for each in open_ones:
                with contextlib.suppress(ConnectionClosed):
                    each.send(bytes(1 << 20) for _ in range(30))
            for each in open_ones:
                with contextlib.suppress(ConnectionClosed):
                    while True:  # TimeoutError where it is not closed
                        each.recv(10)
                assert each.close_code in (1009, 1006)
    assert served.memory_mb - before < 150
