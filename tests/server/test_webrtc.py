"""Cameras over WebRTC: an aiortc peer and a real Chromium get their ages; vanished and malicious peers are disconnected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

import numclip
from numclip.cli.main import main
from numclip.server.problems import Problem

from .conftest import TOKEN, Serve, Served
from .test_live import until
from .test_page import built as built  # fixtures
from .test_page import coded_clip as coded_clip

pytest.importorskip("aiortc", reason="needs the extra webrtc: pip install 'numclip[webrtc]', on Python 3.11 or newer")

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from av.video.frame import PictureType

from numclip.server.webrtc import MOST_BEHIND, decode_newest

from .rtc_peer import key_frame

WEBRTC = ("--webrtc", "127.0.0.1")


class Peer:
    """rtc_peer.py as a process, and its output."""

    def __init__(self, served: Served, picture: str, token: str = "") -> None:
        words = [sys.executable, str(Path(__file__).with_name("rtc_peer.py")), str(served.port), picture, token]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        opened = self.line()
        self.path, self.answer = str(opened["path"]), str(opened["answer"])

    def line(self) -> dict[str, Any]:
        """The next line of output."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, "the peer ended"
        return json.loads(text)

    def kill(self) -> None:
        """Kill the peer with SIGKILL, so that it sends nothing more."""
        self.process.kill()
        self.process.wait()


PeerOf = Callable[..., Peer]


@pytest.fixture
def peer_of() -> Iterator[PeerOf]:
    peers: list[Peer] = []

    def start(served: Served, picture: str, token: str = "") -> Peer:
        peers.append(Peer(served, picture, token))
        return peers[-1]

    yield start
    for peer in peers:
        peer.kill()
        assert peer.process.stdout is not None
        peer.process.stdout.close()


@pytest.fixture
def picture(hopper: np.ndarray, tmp_path: Path) -> str:
    """A picture of Hopper, 640 x 480."""
    canvas = np.full((480, 640, 3), 90, np.uint8)
    canvas[40:480, 130:505] = cv2.resize(hopper, (375, 440))
    cv2.imwrite(str(tmp_path / "hopper.png"), canvas)
    return str(tmp_path / "hopper.png")


def offer_of(*kinds: str, direction: str = "sendonly", codec: str = "VP8") -> str:
    """Return an SDP offer with the given media."""

    async def make() -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in kinds:
            if kind == "data":
                peer.createDataChannel("results")
                continue
            transceiver = peer.addTransceiver(kind, direction)
            if kind == "video":
                known = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences([each for each in known if each.mimeType == f"video/{codec}"])
        await peer.setLocalDescription(await peer.createOffer())
        text = peer.localDescription.sdp
        await peer.close()
        return text

    return asyncio.run(make())


def post(client: httpx.Client, offer: str | bytes, kind: str = "application/sdp") -> httpx.Response:
    return client.post("/v1/camera", content=offer, headers={"Content-Type": kind})


def no_source(client: httpx.Client) -> bool:
    return not client.get("/v1/sources").json()["sources"]


def test_a_camera_over_webrtc_gets_its_ages(serve: Serve, peer_of: PeerOf, picture: str) -> None:
    """An offer gets an answer with this machine's address alone; the results tell one face, on one track, with the age of `numclip.read` within
    5 years, and the size of the frame; nobody else gets them; DELETE ends the session at once."""
    served = serve(*WEBRTC)
    peer = peer_of(served, picture)
    candidates = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) \d+ typ (\S+)", peer.answer)
    assert candidates == [("127.0.0.1", "host")]
    lines: list[dict[str, Any]] = []
    until(lambda: lines.append(peer.line()) or sum(bool(line["faces"]) for line in lines) >= 20)
    faces = [face for line in lines for face in line["faces"]]
    wanted = numclip.read(picture).faces[0].age
    assert wanted is not None
    assert {face["track"] for face in faces} == {1}
    assert all(abs(face["age"] - wanted) < 5 for face in faces if face["age"] is not None)
    assert (lines[-1]["width"], lines[-1]["height"]) == (640, 480)
    frames = [line["frame"] for line in lines]
    assert frames == sorted(set(frames))
    assert lines[-1]["dropped"] == lines[-1]["frame"] + 1 - len(lines)
    with served.client() as client:
        told = client.get("/v1/sources").json()
        assert told["webrtc"]
        (camera,) = told["sources"]
        assert (camera["kind"], camera["state"]) == ("camera", "live")
        assert client.get(f"/v1/sources/{camera['id']}/results").status_code == 403
        assert client.delete(peer.path).status_code == 204
        assert no_source(client)
        assert client.delete(peer.path).status_code == client.get(f"{peer.path}/results").status_code == 404
    assert "Traceback" not in served.said


def test_a_peer_that_vanishes_frees_its_camera(serve: Serve, peer_of: PeerOf, picture: str) -> None:
    """When a peer's process is killed, its source, sockets and threads are removed from the server within 5 s."""
    import psutil

    served = serve(*WEBRTC)
    assert served.process is not None
    process = psutil.Process(served.process.pid)
    with served.client() as client:
        assert no_source(client)
        sockets = len(process.net_connections("udp"))
        peer = peer_of(served, picture)
        until(lambda: peer.line()["faces"])
        threads = process.num_threads()
        assert len(process.net_connections("udp")) > sockets
        peer.kill()
        until(lambda: no_source(client), 5)
        until(lambda: len(process.net_connections("udp")) == sockets and process.num_threads() < threads, 2)


def test_a_session_that_sends_nothing_is_let_go(serve: Serve) -> None:
    """With --max-cameras 1, an offer without a camera blocks the place for at most 10 s; until then another offer gets 429."""
    served = serve(*WEBRTC, "--max-cameras", "1")
    offer = offer_of("video")
    with served.client() as client:
        assert post(client, offer).status_code == 201
        refused = post(client, offer)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        until(lambda: post(client, offer).status_code == 201, 12)


def test_the_server_ends_while_a_camera_sends(serve: Serve, peer_of: PeerOf, picture: str) -> None:
    """On SIGTERM while a camera sends, the results and the process end at once."""
    served = serve(*WEBRTC)
    peer = peer_of(served, picture)
    peer.line()
    started = time.monotonic()
    served.stop()
    assert time.monotonic() - started < 10
    assert "Traceback" not in served.said


def test_the_token_and_the_origin_are_asked_for(serve: Serve, peer_of: PeerOf, picture: str) -> None:
    """An offer without the token gets 401, from another site's page 403; with the token ages arrive."""
    served = serve(*WEBRTC, "--token", TOKEN)
    offer = offer_of("video")
    with served.client() as client:
        assert post(client, offer).status_code == 401
        assert client.delete("/v1/camera/x").status_code == client.get("/v1/camera/x/results").status_code == 401
        client.headers.update({"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"})
        assert post(client, offer).status_code == client.delete("/v1/camera/x").status_code == 403
    peer = peer_of(served, picture, TOKEN)
    until(lambda: peer.line()["faces"])


def test_without_the_flag_there_is_no_webrtc(server: Served, api: httpx.Client) -> None:
    """Without the flag there is no WebRTC path, the OpenAPI document does not mention it, and /v1/sources says that it is off."""
    assert not api.get("/v1/sources").json()["webrtc"]
    assert post(api, offer_of("video")).status_code in (404, 405)
    assert "/v1/camera" not in api.get("/openapi.json").json()["paths"]


def test_what_is_no_offer_of_one_video_is_refused(serve: Serve) -> None:
    """An offer with other media, another direction, another codec, no fingerprint or no text gets 422; another type gets 415, a long
    one 413. No source is left."""
    served = serve(*WEBRTC)
    good = offer_of("video")
    wrong = {
        "words": "hello", "nothing": "", "bytes": b"\xff\xfe\x00", "audio": offer_of("audio"), "data": offer_of("data"), "two": offer_of("video", "video"),
        "and sound": offer_of("video", "audio"), "takes": offer_of("video", direction="recvonly"), "h264": offer_of("video", codec="H264"),
        "no print": re.sub(r"a=fingerprint.*\r\n", "", good), "no password": re.sub(r"a=ice-pwd.*\r\n", "", good),
        "no codec": re.sub(r"a=rtpmap.*\r\n", "", good), "cut": good[: good.index("a=rtpmap") + 12],
    }  # fmt: skip
    with served.client() as client:
        for name, offer in wrong.items():
            answer = post(client, offer)
            assert answer.status_code == 422, (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert "expected an SDP offer" in answer.json()["detail"]
        assert post(client, good, "text/plain").status_code == 415
        assert post(client, good + "a=x:" + "y" * 40_000).status_code == 413
        assert no_source(client)
    assert "Traceback" not in served.said


def test_a_damaged_offer_is_never_a_fault_of_the_server(serve: Serve) -> None:
    """Two hundred offers with changed bytes or missing lines (seed 1) get 201 or 422, and nothing is logged."""
    served = serve(*WEBRTC, "--max-cameras", "500")
    good, draw = offer_of("video"), np.random.default_rng(1)
    with served.client() as client:
        for _ in range(200):
            lines = good.encode().split(b"\r\n")
            for _ in range(draw.integers(1, 4)):
                at = int(draw.integers(len(lines)))
                line = bytearray(lines[at] or b"a")
                line[int(draw.integers(len(line)))] = int(draw.integers(256))
                lines[at] = bytes(line)
            if draw.random() < 0.5:
                del lines[int(draw.integers(len(lines)))]
            answer = post(client, b"\r\n".join(lines))
            assert answer.status_code in (201, 422), answer.text
        until(lambda: no_source(client), 15)
    assert served.said.count("\n") == 1, served.said


def test_nothing_is_sent_to_an_address_that_the_offer_names(serve: Serve) -> None:
    """With candidates in the offer (a socket of this test, and a name that only the local network could resolve), nothing is sent to
    the socket."""
    served = serve(*WEBRTC)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim, served.client() as client:
        victim.bind(("127.0.0.1", 0))
        victim.settimeout(3)
        named = "".join(
            f"a=candidate:1 1 udp 2130706431 {host} {victim.getsockname()[1]} typ host\r\n"
            for host in ("127.0.0.1", "camera.local")
        )
        offer = re.sub(r"(a=candidate.*\r\n)+", named, offer_of("video"))
        assert named in offer
        assert post(client, offer).status_code == 201
        with pytest.raises(TimeoutError):
            victim.recv(2048)


def test_a_video_of_huge_frames_is_refused(serve: Serve, peer_of: PeerOf) -> None:
    """For key frames of 110 bytes that claim 16,383 x 16,383, the results end with the reason, and memory does not grow."""
    served = serve(*WEBRTC)
    with served.client() as client:
        assert no_source(client)
        before = served.memory_mb
        told = peer_of(served, "16383x16383").line()
        assert told["event"] == "failed"
        assert "at most 8.2944 million pixels" in told["reason"]
        until(lambda: no_source(client), 5)
        assert served.memory_mb - before < 50


def test_a_session_without_a_peer_keeps_no_datagrams(serve: Serve) -> None:
    """Before a peer has connected, 3 s of 60 KB and 1 KB datagrams do not use memory."""
    served = serve(*WEBRTC)
    with served.client() as client:
        assert no_source(client)
        before = served.memory_mb
        answer = post(client, offer_of("video"))
        assert answer.status_code == 201
        assert flood(answer.text, 3, 1000, 60_000) > 3000
        assert client.get("/healthz").status_code == 200
        assert served.memory_mb - before < 30


def flood(answer: str, seconds: float, *sizes: int) -> int:
    """Send datagrams that look like STUN, DTLS, SRTP and garbage to the address in an SDP answer; returns their number."""
    port = int(re.findall(r"a=candidate:\S+ 1 udp \d+ 127.0.0.1 (\d+) typ host", answer)[0])
    over, draw, many = time.monotonic() + seconds, np.random.default_rng(1), 0
    junk = [bytes([first]) + draw.bytes(size) for first in (0, 22, 128, 200, 255) for size in sizes]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        while time.monotonic() < over:
            for data in junk:
                with contextlib.suppress(OSError):
                    stranger.sendto(data, ("127.0.0.1", port))
                    many += 1
            time.sleep(0.001)
    return many


def test_strangers_datagrams_change_nothing(serve: Serve, peer_of: PeerOf, picture: str) -> None:
    """If a sender without the session's password floods its port for 5 s, the camera's results continue, and memory stays constant."""
    served = serve(*WEBRTC)
    peer = peer_of(served, picture)
    until(lambda: peer.line()["faces"])
    before = served.memory_mb
    assert flood(peer.answer, 5, 1000) > 5000
    frame = peer.line()["frame"]
    until(lambda: peer.line()["frame"] > frame + 200)
    assert served.memory_mb - before < 50
    assert "Traceback" not in served.said


class Coded(SimpleNamespace):
    """An encoded frame, in the form that aiortc passes to its decoder."""

    data: bytes


def vp8(many: int, keys: tuple[int, ...], side: int = 64) -> list[Coded]:
    """Encode frames with key frames at the given indices."""
    codec = av.CodecContext.create("libvpx", "w")
    codec.width = codec.height = side
    codec.pix_fmt, codec.gop_size, codec.time_base = "yuv420p", 3000, Fraction(1, 30)
    codec.options = {"deadline": "realtime", "lag-in-frames": "0"}
    coded: list[Coded] = []
    for number in range(many):
        frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), 5 * number, np.uint8), format="bgr24")
        frame.pts = number
        if number in keys:
            frame.pict_type = PictureType.I
        coded += [Coded(data=bytes(packet)) for packet in codec.encode(frame)]
    assert len(coded) == many
    assert [number for number, each in enumerate(coded) if not each.data[0] & 1] == list(keys)
    return coded


def decoded(frames: list[Coded], most_pixels: int = 10_000) -> tuple[list[Any], bool]:
    """Return the decoder's output when all these frames are already waiting, and whether it requested a key frame."""

    class Told(asyncio.Queue[object]):
        def __init__(self) -> None:
            super().__init__()
            self.items = list[object]()

        def put_nowait(self, item: object) -> None:
            self.items.append(item)
            super().put_nowait(item)

    async def run() -> tuple[list[Any], bool]:
        waiting: queue.Queue[Any] = queue.Queue()
        for frame in frames:
            waiting.put((None, frame))
        waiting.put(None)
        told, failed = Told(), threading.Event()
        await asyncio.to_thread(decode_newest, asyncio.get_running_loop(), waiting, told, failed, most_pixels)
        while told.items[-1:] != [None]:
            await asyncio.sleep(0.01)
        return told.items[:-1], failed.is_set()

    return asyncio.run(run())


def test_a_decoder_that_keeps_up_hands_on_every_frame() -> None:
    """With eight frames waiting, the decoder returns each with its number and its grey level, 5 times the number."""
    items, asked = decoded(vp8(MOST_BEHIND, (0,)))
    assert [number for number, _ in items] == list(range(MOST_BEHIND))
    for number, frame in items:
        assert abs(float(frame.to_ndarray(format="bgr24").mean()) - 5 * number) < 6
    assert not asked


def test_a_decoder_that_falls_behind_goes_on_at_a_key_frame() -> None:
    """With forty frames waiting and a key frame at 35, the frames before it are skipped, and a key frame is requested."""
    items, asked = decoded(vp8(40, (0, 35)))
    assert [number for number, _ in items] == list(range(35, 40))
    assert abs(float(items[-1][1].to_ndarray(format="bgr24").mean()) - 5 * 39) < 6
    assert asked


def test_damaged_frames_are_skipped_and_large_ones_refused() -> None:
    """A damaged frame triggers a key frame request; a header with too many pixels gives one Problem, and nothing more is decoded."""
    items, asked = decoded([Coded(data=b""), Coded(data=b"\x11garbage"), *vp8(2, (0,))])
    assert [number for number, _ in items] == [2, 3]
    assert asked
    items, _ = decoded([*vp8(1, (0,)), Coded(data=key_frame(101, 100)), *vp8(1, (0,))])
    assert [type(item) for item in items] == [tuple, Problem]
    assert items[-1].status == 413


def test_the_page_sends_its_camera_over_webrtc(built: None, browser: Any, serve: Serve, coded_clip: str) -> None:
    """For Chromium's fake camera with Hopper the page shows one person with an age; after the visit the source is removed within 5 s."""
    served = serve(*WEBRTC)
    seen = browser("live", url=served.url, state="camera", ms=3000, clip=coded_clip)
    assert (seen["mode"], seen["link"]) == ("camera", "webrtc")
    assert len(seen["people"]) == 1
    assert seen["said"] == []
    with served.client() as client:
        until(lambda: no_source(client), 5)


def test_the_page_falls_back_on_a_websocket(built: None, browser: Any, serve: Serve, coded_clip: str) -> None:
    """A Chromium whose UDP would need a relay, as behind some firewalls, still gets the age, over a WebSocket."""
    served = serve(*WEBRTC)
    seen = browser("live", url=served.url, state="camera", ms=1000, clip=coded_clip, relay=True)
    assert (seen["mode"], seen["link"]) == ("camera", "websocket")
    assert len(seen["people"]) == 1


@pytest.mark.parametrize("address", ["0.0.0.0", "camera.example", "203.0.113.9"])
def test_an_address_that_takes_no_video_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The wildcard address, a host name, and another machine's address are errors in one sentence, and no server starts."""
    assert main(["serve", "--port", "0", "--webrtc", address]) != 0
    said = capsys.readouterr().err
    assert f"--webrtc {address}" in said or f"got '{address}'" in said
    assert "Traceback" not in said


def test_the_extra_is_named_where_it_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without aiortc the error for the flag says what to install."""
    monkeypatch.delitem(sys.modules, "numclip.server.webrtc", raising=False)
    monkeypatch.setitem(sys.modules, "aiortc", None)
    monkeypatch.setitem(sys.modules, "aioice", None)
    assert main(["serve", "--port", "0", *WEBRTC]) != 0
    assert "numclip[webrtc]" in capsys.readouterr().err
