"""Browsers' cameras over WebRTC, through aiortc. A session begins as in WHIP (RFC 9725): an SDP offer comes in, an SDP answer goes out.

The video comes over UDP to one address of this machine. The server asks no STUN or TURN server. It sends nothing to an address that a
client names: it ignores the offer's candidates, and answers the sender that knows the session's password. The video is VP8, which
every WebRTC client supports. Only the newest frame waits to be read. A decoder that falls behind skips to the next key frame.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import secrets
import threading
from contextlib import suppress
from functools import partial
from typing import cast

import aioice.ice
import aiortc.rtcrtpreceiver
import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import SessionDescription
from av.video.reformatter import VideoReformatter

from ..runtime.live.results import FrameResult
from .cameras import Camera
from .live import Live, LiveSource, first_of
from .options import ServeOptions
from .pictures import Image
from .problems import Problem
from .reader import Reader
from .scheduler import Scheduler, ShutDown

OPEN_S = 10.0  # until the first frame
GONE_S = 4.0  # between two frames
MOST_PIXELS = 3840 * 2160  # of one frame
MOST_BEHIND = 8  # encoded frames that may wait for the decoder
MOST_DATAGRAM_BYTES, MOST_DATAGRAMS = 2048, 1000  # of a session, unread
MOST_STREAMS = 8  # RTP streams of one camera: its video, the retransmissions, and some to spare
CODECS = ("video/VP8", "video/rtx")

for name in ("aiortc", "aioice"):  # their warnings about clients' packets do not belong in the server's log
    logging.getLogger(name).setLevel(logging.CRITICAL)


class _Port(aioice.ice.StunProtocol):
    """A session's UDP port. It drops datagrams that are no packets of a video, or that come faster than they are read."""

    def datagram_received(self, data: bytes | str, addr: tuple[object, ...]) -> None:
        waiting = self.receiver._queue.qsize()  # pyright: ignore[reportPrivateUsage]
        if len(data) <= MOST_DATAGRAM_BYTES and waiting < MOST_DATAGRAMS:
            super().datagram_received(data, addr)


class WebRtc:
    """All cameras over WebRTC."""

    def __init__(self, address: str, options: ServeOptions, live: Live, reader: Reader, scheduler: Scheduler) -> None:
        """address: the address of this machine that receives video."""
        self._live, self._reader, self._scheduler = live, reader, scheduler
        self._sessions: dict[str, tuple[LiveSource, asyncio.Task[None]]] = {}
        # aioice would listen on all addresses except the loopback ones, and aiortc's decoder would queue frames without limit.
        # Neither has a setting for it, so these functions are replaced.
        aioice.ice.StunProtocol = _Port
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]
        most_pixels = min(options.max_pixels, MOST_PIXELS)
        aiortc.rtcrtpreceiver.decoder_worker = partial(decode_newest, most_pixels=most_pixels)

    async def open(self, offer: str, client: str) -> tuple[str, str]:
        """Begin a session. Returns its secret name and the SDP answer. Raises Problem 422 for an offer of anything but one video."""
        offer = _checked(offer)
        source = self._live.add_camera()
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            video = peer.addTransceiver("video", "recvonly")
            taken = RTCRtpReceiver.getCapabilities("video")
            assert taken is not None
            video.setCodecPreferences([codec for codec in taken.codecs if codec.mimeType in CODECS])
            try:
                await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
                await peer.setLocalDescription(await peer.createAnswer())
            except Exception as error:  # its parser raises many kinds
                raise Problem(422, f"expected an SDP offer of one VP8 video ({type(error).__name__})") from None
            following = asyncio.ensure_future(self._follow(peer, video.receiver, source, client))
        except BaseException:
            await peer.close()
            self._live.remove(source)
            raise
        name = secrets.token_urlsafe(16)
        self._sessions[name] = source, following
        following.add_done_callback(lambda _: self._sessions.pop(name))
        return name, peer.localDescription.sdp

    def get(self, name: str) -> LiveSource:
        """The source of a session. Raises Problem 404."""
        if name not in self._sessions:
            raise Problem(404, "expected the address of a running session, as POST /v1/camera returned it")
        return self._sessions[name][0]

    async def end(self, name: str) -> None:
        """End a session. Raises Problem 404."""
        self.get(name)
        await _cancelled(self._sessions[name][1])

    async def close(self) -> None:
        """End all sessions."""
        await asyncio.gather(*(_cancelled(following) for _, following in list(self._sessions.values())))

    async def _follow(self, peer: RTCPeerConnection, receiver: RTCRtpReceiver, source: LiveSource, client: str) -> None:
        """Read the camera until the browser goes or this task is cancelled."""
        # One scaler for the session: a frame's own to_ndarray(format=...) creates one with a thread pool for every frame.
        scaler = VideoReformatter()

        def pixels(frame: av.VideoFrame) -> Image:
            return np.asarray(scaler.reformat(frame, format="bgr24").to_ndarray(), np.uint8)

        camera = Camera[av.VideoFrame](source, self._reader, pixels)

        async def tell(result: FrameResult) -> None:
            source.show(source.tell(result, sized=True))

        try:
            answering = camera.answer(self._scheduler, f"{client} {source.id}", tell)
            for task in await first_of(_receive(receiver, camera), answering):
                task.result()
        except Problem as problem:
            camera.fail(problem)
        except ShutDown:
            pass
        finally:
            self._live.remove(source)
            await peer.close()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _receive(receiver: RTCRtpReceiver, camera: Camera[av.VideoFrame]) -> None:
    """Hand frames to the camera until no more come. Raises Problem for a video that cannot be read."""
    track = receiver.track
    wait_s = OPEN_S
    while True:
        try:
            came: object = await asyncio.wait_for(track.recv(), wait_s)
        except (MediaStreamError, asyncio.TimeoutError):  # the browser has gone
            return
        if isinstance(came, Problem):
            raise came
        if len(receiver.getSynchronizationSources()) > MOST_STREAMS:
            raise Problem(422, "expected one video, got many streams")
        number, frame = cast("tuple[int, av.VideoFrame]", came)
        camera.put(frame, number)
        wait_s = GONE_S


def _checked(offer: str) -> str:
    """The offer without its candidates. Raises Problem 422 for an offer that aiortc cannot answer."""
    expected = "expected an SDP offer of one video that is sent, with BUNDLE, ICE and a DTLS fingerprint"
    lines = [line for line in offer.splitlines() if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    if sum(line.startswith("m=") for line in lines) != 1:
        raise Problem(422, f"{expected}; got another number of media")
    try:
        told = SessionDescription.parse("\r\n".join(lines) + "\r\n")
        (media,) = told.media
        fits = (
            media.kind == "video"
            and media.direction in ("sendonly", "sendrecv")
            and media.ice is not None
            and media.ice.usernameFragment
            and media.ice.password
            and media.dtls is not None
            and media.dtls.fingerprints
        )
    except Exception as error:  # its parser raises many kinds
        raise Problem(422, f"{expected}; got one that is not well formed ({type(error).__name__})") from None
    if not fits:
        raise Problem(422, expected)
    return "\r\n".join(lines) + "\r\n"


def decode_newest(
    loop: asyncio.AbstractEventLoop,
    encoded: queue.Queue[tuple[object, JitterFrame] | None],
    decoded: asyncio.Queue[object],
    failed: threading.Event,
    most_pixels: int,
) -> None:
    """Decode a receiver's video, in a thread. `decoded` gets (number, frame), or a Problem for frames that are too large; None at the end.

    encoded: gives (codec, VP8 frame), and None at the end. failed: when it is set, aiortc asks the sender for a key frame.
    """

    def put(item: object) -> None:
        while not decoded.empty():  # keep only the newest
            decoded.get_nowait()
        decoded.put_nowait(item)

    codec = av.CodecContext.create("vp8", "r")
    codec.thread_count = 1
    codec.options = {"max_pixels": str(most_pixels)}
    number, skipping, refused = -1, False, False
    while (task := encoded.get()) is not None:
        number += 1
        data = task[1].data
        is_key = bool(data) and not data[0] & 1  # RFC 6386, section 9.1
        if refused or not data:
            continue
        skipping = (skipping and not is_key) or encoded.qsize() > MOST_BEHIND
        if skipping:
            failed.set()
            continue
        if is_key and _area(data) > most_pixels:
            refused = True
            problem = Problem(413, f"expected a video of at most {most_pixels / 1e6:g} million pixels a frame")
            loop.call_soon_threadsafe(put, problem)
            continue
        try:
            frames = codec.decode(av.Packet(data))
        except av.FFmpegError:
            failed.set()
            continue
        for frame in frames:
            loop.call_soon_threadsafe(put, (number, frame))
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(put, None)


def _area(key_frame: bytes) -> int:
    """Pixels of a VP8 key frame, from its header (RFC 6386, section 9.1)."""
    width, height = (int.from_bytes(key_frame[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height
