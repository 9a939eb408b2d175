"""A WebRTC camera as a separate process, so that a test can kill it.

    python rtc_peer.py PORT PICTURE [TOKEN]

It sends the picture 30 times per second and prints the SDP answer and the session's path as JSON, then every line of the results.
With WIDTHxHEIGHT instead of a picture it sends VP8 key frames of a few bytes whose headers claim that size.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import cv2
import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from av import Packet, VideoFrame


class Still(VideoStreamTrack):
    """A track that repeats one picture."""

    def __init__(self, picture: str) -> None:
        super().__init__()
        self._image = np.asarray(cv2.imread(picture), np.uint8)

    async def recv(self) -> Any:
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame.from_ndarray(self._image, format="bgr24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class Bomb(VideoStreamTrack):
    """A track of key frames whose headers claim a size."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._data = key_frame(width, height)

    async def recv(self) -> Any:
        pts, time_base = await self.next_timestamp()
        packet = Packet(self._data)
        packet.pts, packet.time_base = pts, time_base
        return packet


def key_frame(width: int, height: int) -> bytes:
    """Return the header of a VP8 key frame (RFC 6386, section 9.1), followed by zeros."""
    return b"\x10\x02\x00\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + bytes(100)


async def main(port: str, picture: str, token: str = "") -> None:
    width, _, height = picture.partition("x")
    track = Bomb(int(width), int(height)) if width.isdecimal() and height.isdecimal() else Still(picture)
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTrack(track)
    await peer.setLocalDescription(await peer.createOffer())
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, headers=headers) as client:
        answer = await client.post(
            "/v1/camera", content=peer.localDescription.sdp, headers={"Content-Type": "application/sdp"}
        )
        answer.raise_for_status()
        path = str(answer.url.join(answer.headers["Location"]).path)
        print(json.dumps({"path": path, "answer": answer.text}), flush=True)
        await peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        async with client.stream("GET", f"{path}/results") as lines:
            async for line in lines.aiter_lines():
                if line:
                    print(line.removeprefix("data: "), flush=True)
    await peer.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
