"""An RTSP camera for tests: GStreamer's server, H.264, with the send time drawn into each picture as in camera_server.py.

    python3 tests/rtsp_server.py PORT WIDTH HEIGHT FPS PICTURE.bgr tcp|udp LOSS

It runs in the system's Python, which has `gi` (Debian: python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-ugly), and
needs neither OpenCV nor NumPy. LOSS: share of RTP packets to drop.
"""

from __future__ import annotations

import sys
import threading
import time

import gi  # pyright: ignore[reportMissingImports]  (installed in the system's Python, which runs this file)

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402  # pyright: ignore[reportMissingImports]

BITS, SQUARE = 24, 8


def draw_code(image: bytearray, width: int, row: int, number: int) -> None:
    """Draw a number as a row of squares, as camera_server.draw_code does."""
    line = b"".join((b"\xff" if number >> bit & 1 else b"\0") * 3 * SQUARE for bit in range(BITS))
    for y in range(row * SQUARE, (row + 1) * SQUARE):
        image[y * width * 3 : y * width * 3 + len(line)] = line


def main() -> None:
    port, width, height, fps, picture, transport, loss = sys.argv[1:]
    size = f"width={width},height={height},framerate={fps}/1"
    with open(picture, "rb") as file:
        blank = file.read()
    Gst.init(None)

    def push(source: Gst.Element) -> None:
        started, number = time.monotonic(), 0
        while True:
            time.sleep(max(0.0, started + number / float(fps) - time.monotonic()))
            image = bytearray(blank)
            draw_code(image, int(width), 1, number)
            draw_code(image, int(width), 0, int(time.monotonic() * 1000) % (1 << BITS))
            buffer = Gst.Buffer.new_wrapped(bytes(image))
            buffer.pts = number * Gst.SECOND // int(fps)  # a camera sends at regular intervals
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            number += 1

    def configure(_factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name_recurse_up("camera")
        threading.Thread(target=push, args=(source,), daemon=True).start()

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=camera is-live=true format=time caps=video/x-raw,format=BGR,{size} "
        "! videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=3000 "
        f"key-int-max={fps} ! rtph264pay pt=96 config-interval=1 ! identity drop-probability={loss} name=pay0 )"
    )
    factory.set_shared(True)
    lower = GstRtsp.RTSPLowerTrans.TCP if transport == "tcp" else GstRtsp.RTSPLowerTrans.UDP
    factory.set_protocols(lower)
    factory.connect("media-configure", configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print("serving", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
