"""Live sources and browsers' cameras: JSON lines, pictures, events, slow readers, ends of sources, and secrets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import numclip
from numclip.runtime.contract.spec import ModelSpec
from numclip.runtime.live.frames import Frame, SourceEvent
from numclip.runtime.live.results import Face, FrameResult
from numclip.server.live import MINUTES, Crowd, LiveSource, Seen, Watch

from .conftest import TOKEN, Serve, Served

ODD_PASSWORD = "p4ssw0rd-of-a-camera"


def ws(served: Served, path: str, **headers: str) -> contextlib.AbstractContextManager[ClientConnection]:
    return connect(f"ws://127.0.0.1:{served.port}{path}", additional_headers=headers, max_size=None)


def until(ask: Any, seconds: float = 20) -> Any:
    """Return the first true result of `ask`."""
    deadline = time.monotonic() + seconds
    while not (said := ask()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)
    return said


def shape_of(jpeg: bytes) -> tuple[int, ...]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)
    assert image is not None
    return image.shape


@pytest.fixture
def watched(serve: Serve, camera: Any) -> Iterator[tuple[Served, httpx.Client]]:
    """A server that reads an HTTP camera with a password in its address."""
    camera.start()
    address = camera.url.replace("http://", f"http://admin:{ODD_PASSWORD}@")
    served = serve(address)
    with served.client() as client:
        until(lambda: client.get("/v1/sources/0").json()["state"] == "live")
        yield served, client


def test_results_are_the_lines_of_a_run(watched: tuple[Served, httpx.Client]) -> None:
    """Results as JSON lines, server-sent events and over a WebSocket have a run's keys, rising frames, and one face with an age."""
    served, client = watched
    lines: dict[str, list[str]] = {}
    with client.stream("GET", "/v1/sources/0/results?limit=5") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines["ndjson"] = list(answer.iter_lines())
    with client.stream("GET", "/v1/sources/0/results?limit=5", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line for line in answer.iter_lines() if line]
        assert all(line.startswith("data: ") for line in events)
        lines["sse"] = [line.removeprefix("data: ") for line in events]
    with ws(served, "/v1/sources/0/results") as connection:
        lines["socket"] = [str(connection.recv(10)) for _ in range(5)]
    told: list[dict[str, Any]] = []
    for kind, texts in lines.items():
        told = [json.loads(text) for text in texts]
        assert len(told) == 5, kind
        assert list(told[0]) == ["source", "frame", "time_s", "latency_ms", "dropped", "faces"]
        frames = [each["frame"] for each in told]
        assert frames == sorted(set(frames))
    assert any(face["age"] is not None for each in told for face in each["faces"])


def test_passwords_are_never_told(watched: tuple[Served, httpx.Client]) -> None:
    """Passwords appear neither in the API nor in the log."""
    served, client = watched
    texts = [
        client.get(path).text for path in ("/v1/sources", "/v1/sources/0", "/metrics", "/v1/sources/0/results?limit=2")
    ]
    assert all(ODD_PASSWORD not in text and "admin" not in text for text in [*texts, served.said])


def test_the_newest_picture_with_its_boxes(watched: tuple[Served, httpx.Client]) -> None:
    """frame.jpg is a JPEG of the camera's size; the preview is a series of them with correct lengths."""
    _, client = watched
    answer = client.get("/v1/sources/0/frame.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert shape_of(answer.content) == (240, 320, 3)
    with client.stream("GET", "/v1/sources/0/preview?limit=3") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        data = answer.read()
    parts = data.split(b"--frame\r\n")[1:]
    assert len(parts) == 3
    for part in parts:
        head, _, body = part.partition(b"\r\n\r\n")
        length = int(head.rpartition(b": ")[2])
        assert shape_of(body[:length]) == (240, 320, 3)
        assert body[length:] == b"\r\n"


def test_a_slow_reader_loses_frames_and_nobody_else_does(watched: tuple[Served, httpx.Client]) -> None:
    """While one client does not read its preview for 3 s, another still gets its results."""
    served, client = watched
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /v1/sources/0/preview HTTP/1.1\r\nHost: localhost\r\n\r\n")
        started = time.monotonic()
        with client.stream("GET", "/v1/sources/0/results") as answer:
            many = 0
            for _ in answer.iter_lines():
                many += 1
                if time.monotonic() - started > 3:
                    break
        assert many >= 20


def test_what_a_reader_does_not_take_is_dropped_oldest_first() -> None:
    """A reader with a buffer of three gets the last three of ten results, then the end."""

    async def read() -> list[bytes]:
        watch, taken = Watch(3), list[bytes]()
        for number in range(10):
            watch.put(Seen(b"%d" % number, None))
        watch.end()
        while (seen := await watch.take()) is not None:
            taken.append(seen.line)
        return taken

    assert asyncio.run(read()) == [b"7", b"8", b"9"]


def test_what_waits_for_a_slow_reader_holds_no_pictures() -> None:
    """Of 100 results 64 lines wait, and the pictures of all but the newest are gone from memory."""

    async def watch() -> tuple[int, int]:
        source, frames = LiveSource("0", "x", spec().task, None), list[weakref.ref[Frame]]()
        reader = source.watch()
        for number in range(100):
            frame = Frame(np.zeros((480, 640, 3), np.uint8), number, 0.0, 0.0, "x")
            frames.append(weakref.ref(frame))
            source.show(source.tell(FrameResult(frame, (), 0.0, 0, spec().task)))
            del frame
        gc.collect()
        waiting = 0
        source.end()
        while await reader.take() is not None:
            waiting += 1
        return waiting, sum(frame() is not None for frame in frames)

    assert asyncio.run(watch()) == (64, 1)


def test_a_late_result_does_not_end_a_stall() -> None:
    """A result that arrives after `stalled` is of an earlier frame: the source stays stalled until `resumed`."""
    source, states = LiveSource("0", "x", spec().task, None), list[str]()
    late = FrameResult(Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0, 0.0, "x"), (), 0.0, 0, spec().task)
    seen = [
        late,
        SourceEvent("stalled", "x", 1.0, "no frames"),
        late,
        SourceEvent("resumed", "x", 2.0, "frames come again"),
    ]
    for each in seen:
        source.tell(each)
        states.append(source.state)
    assert states == ["live", "stalled", "stalled", "live"]


def test_events_are_told_and_remembered(serve: Serve, camera: Any) -> None:
    """When the camera fails and recovers, `stalled` and `resumed` appear in the stream and in the source's events, and the state
    follows."""
    camera.start()
    served = serve(camera.url)
    with served.client() as client:
        until(lambda: client.get("/v1/sources/0").json()["state"] == "live")
        with ws(served, "/v1/sources/0/results") as connection:
            camera.kill()
            until(lambda: client.get("/v1/sources/0").json()["state"] == "stalled")
            camera.start()
            until(lambda: client.get("/v1/sources/0").json()["state"] == "live")
            told: list[str] = []
            until(lambda: told.append(json.loads(connection.recv(10)).get("event")) or "resumed" in told)
        events = [event["event"] for event in client.get("/v1/sources/0").json()["events"]]
    assert [event for event in told if event] == events == ["stalled", "resumed"]


def test_a_video_is_played_and_ends(serve: Serve, shared_data: Path) -> None:
    """A video of two people is played at its own speed; at its end viewers are notified, and pictures are still read."""
    clip = shared_data / "bugs" / "two_faces.mp4"
    served = serve(str(clip))
    with served.client() as client:
        with client.stream("GET", "/v1/sources/0/results") as answer:
            lines = [json.loads(line) for line in answer.iter_lines()]
        assert lines[-1]["event"] == "ended"
        told = client.get("/v1/sources/0").json()
        assert told["state"] == "ended"
        assert told["frames"] > 10
        assert (told["width"], told["height"]) == cv2.VideoCapture(str(clip)).read()[1].shape[1::-1]
        people = sum(sum(minutes) for minutes in told["last_hour"].values())
        assert people == told["people"] >= 1
        assert client.get("/healthz").status_code == 200
        with client.stream(
            "GET", "/v1/sources/0/results"
        ) as answer:  # after the end a client gets the last result and the end
            assert len(list(answer.iter_lines())) == 1


def test_blur_hides_faces_in_every_picture(serve: Serve, camera: Any) -> None:
    """With --blur the finder finds no face in frame.jpg; without it, it does."""
    camera.start(640, 480)
    seen: dict[bool, int] = {}
    for blur in (False, True):
        served = serve(camera.url, *(["--blur"] if blur else []))
        with served.client() as client:
            until(lambda: client.get("/v1/sources/0").json()["faces_now"])
            seen[blur] = len(numclip.read(client.get("/v1/sources/0/frame.jpg").content).faces)
        served.stop()
    assert seen == {False: 1, True: 0}


@pytest.fixture
def jpeg(hopper: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.resize(hopper, (320, 375)))[1].tobytes()


def test_a_browser_s_camera_gets_its_ages(server: Served, api: httpx.Client, jpeg: bytes) -> None:
    """Pictures over a WebSocket: each is answered by a JSON line with its number; the face keeps its track, its age is that of
    `numclip.read` on the first look; while it is there it is a source, and it is gone at once afterwards."""
    with ws(server, "/v1/camera") as connection:
        lines = []
        for _ in range(6):
            connection.send(jpeg)
            lines.append(json.loads(connection.recv(10)))
        (camera,) = [each for each in api.get("/v1/sources").json()["sources"] if each["kind"] == "camera"]
        for path in ("results", "frame.jpg", "preview"):
            assert api.get(f"/v1/sources/{camera['id']}/{path}").status_code == 403
    assert [line["frame"] for line in lines] == list(range(6))
    assert all(line["dropped"] == 0 for line in lines)
    ages = [face["age"] for line in lines for face in line["faces"] if face["age"] is not None]
    wanted = numclip.read(jpeg).faces[0].age
    assert ages and wanted is not None
    assert abs(ages[0] - wanted) < 2
    assert {face["track"] for line in lines for face in line["faces"]} == {1}
    assert camera["state"] == "live"
    until(lambda: not api.get("/v1/sources").json()["sources"], 5)


def test_nobody_is_followed_across_a_pause_of_a_camera(server: Served, jpeg: bytes) -> None:
    """The same face before and after a pause of 2.5 s has two tracks: a new person would otherwise inherit the last one's age."""
    tracks: list[set[int]] = []
    with ws(server, "/v1/camera") as connection:
        for pause_s in (0.0, 2.5):
            time.sleep(pause_s)
            tracks.append(set())
            for _ in range(4):
                connection.send(jpeg)
                tracks[-1] |= {face["track"] for face in json.loads(connection.recv(10))["faces"]}
    assert tracks == [{1}, {2}]


def test_a_camera_that_sends_faster_than_it_is_read_loses_the_old(server: Served, jpeg: bytes) -> None:
    """Of thirty pictures sent at once, the last gets a result with the number of dropped ones; every picture is a result or dropped."""
    with ws(server, "/v1/camera") as connection:
        for _ in range(30):
            connection.send(jpeg)
        lines = [json.loads(connection.recv(10))]
        while lines[-1]["frame"] < 29:
            lines.append(json.loads(connection.recv(10)))
    assert lines[-1]["dropped"] == 30 - len(lines)
    assert len(lines) < 30


def test_a_camera_that_sends_no_picture_is_told_and_closed(server: Served, api: httpx.Client) -> None:
    """A message that is not a picture gives an event with the error, then a close with code 1003 (RFC 6455: unacceptable data)."""
    with ws(server, "/v1/camera") as connection:
        connection.send(b"hello")
        told = json.loads(connection.recv(10))
        assert told["event"] == "failed"
        assert "first bytes" in told["reason"]
        with pytest.raises(ConnectionClosed):
            connection.recv(10)
        assert connection.close_code == 1003
    assert api.get("/healthz").status_code == 200


def test_there_are_only_so_many_cameras(serve: Serve, jpeg: bytes) -> None:
    """With --max-cameras 1 a second camera gets 429 before the WebSocket opens; after the first leaves, it is accepted."""
    served = serve("--max-cameras", "1")
    with ws(served, "/v1/camera") as first:
        first.send(jpeg)
        first.recv(10)
        with pytest.raises(InvalidStatus) as refused, ws(served, "/v1/camera"):
            pass
        assert refused.value.response.status_code == 429
    with served.client() as client:
        until(lambda: not client.get("/v1/sources").json()["sources"], 5)
    with ws(served, "/v1/camera") as again:
        again.send(jpeg)
        assert json.loads(again.recv(10))["frame"] == 0


def test_cameras_that_come_at_once_share_the_places(serve: Serve, jpeg: bytes) -> None:
    """--max-cameras 2, and twelve browsers at the same moment: two get in."""
    served, let_in, at_once = serve("--max-cameras", "2"), list[int](), threading.Barrier(12)

    def come(number: int) -> None:
        at_once.wait()
        with contextlib.suppress(InvalidStatus), ws(served, "/v1/camera") as connection:
            connection.send(jpeg)
            connection.recv(20)
            let_in.append(number)
            leave.wait(20)

    leave = threading.Event()
    browsers = [threading.Thread(target=come, args=(number,)) for number in range(12)]
    for each in browsers:
        each.start()
    until(lambda: len(let_in) >= 2)
    time.sleep(1)
    leave.set()
    for each in browsers:
        each.join()
    assert len(let_in) == 2


@pytest.mark.parametrize("path", ["/v1/camera", "/v1/sources/0/results"])
def test_sockets_ask_for_the_token_and_the_origin(serve: Serve, path: str) -> None:
    """A WebSocket without the token gets 401; with it but from another site's page, 403 (cross-site WebSocket hijacking)."""
    served = serve("--token", TOKEN)
    with pytest.raises(InvalidStatus) as refused, ws(served, path):
        pass
    assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused, ws(served, path, Authorization=f"Bearer {TOKEN}", Origin="https://evil.example"):  # fmt: skip
        pass
    assert refused.value.response.status_code == 403


def test_people_are_counted_once_in_the_minute_they_came() -> None:
    """A track that appears in minute 10 as a child and is an adult a minute later counts as one adult in minute 10; an hour later the
    counts are 0."""

    class Shown:
        value, probabilities, is_calibrated = 1.0, np.zeros(2, np.float32), False

        def __init__(self, word: str) -> None:
            self.bin = word

        def interval(self, level: float = 0.9) -> tuple[float, float]:
            return 0.0, 0.0

    def result(*people: tuple[int, str]) -> FrameResult:
        faces = tuple(Face((0, 0, 1, 1), 1.0, None, Shown(word), track_id=track) for track, word in people)
        return FrameResult(Frame(np.zeros((1, 1, 3), np.uint8), 0, 0.0, 0.0, "x"), faces, 0.0, 0, spec().task)

    crowd = Crowd(("child", "adult"))
    crowd.add(result((1, "child")), 600.0)
    crowd.add(result((1, "adult"), (2, "adult")), 660.0)
    counts = crowd.counts(660.0)
    assert counts["child"] == [0] * MINUTES
    assert counts["adult"] == [0] * (MINUTES - 2) + [1, 1]
    crowd.add(result((3, "child")), 660.0 + 3600)
    assert sum(map(sum, crowd.counts(660.0 + 3600).values())) == 1


def spec() -> ModelSpec:
    return numclip.load("age-nano", threads=1).spec
