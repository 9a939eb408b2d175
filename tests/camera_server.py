"""An HTTP camera for tests, as a separate process: MJPEG at a steady rate, with the send time drawn into each picture.

    python tests/camera_server.py PORT WIDTH HEIGHT FPS PICTURE

The bar code has BITS squares in the top left corner, white for 1: milliseconds of the monotonic clock modulo 2^BITS, then the
frame's number. `read_code` reads both.
"""

from __future__ import annotations

import http.server
import socketserver
import sys
import time

import cv2
import numpy as np

BITS, SQUARE = 24, 8


def draw_code(image: np.ndarray, row: int, number: int) -> None:
    """Draw a number as a row of squares."""
    for bit in range(BITS):
        white = number >> bit & 1
        image[row * SQUARE : (row + 1) * SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 if white else 0


def read_code(image: np.ndarray) -> tuple[int, int]:
    """Read (ms, frame number) from a picture."""
    centers = np.arange(BITS) * SQUARE + SQUARE // 2
    rows = [image[row * SQUARE + SQUARE // 2, centers, 1] > 127 for row in (0, 1)]
    return tuple(sum(1 << int(bit) for bit in np.flatnonzero(row)) for row in rows)  # type: ignore[return-value]


def age_ms(image: np.ndarray) -> float:
    """Return the milliseconds since the picture was sent."""
    now = int(time.monotonic() * 1000)
    return float((now - read_code(image)[0]) % (1 << BITS))


class Camera(http.server.BaseHTTPRequestHandler):
    picture: np.ndarray
    fps: float

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        started = time.monotonic()
        number = 0
        try:
            while True:
                time.sleep(max(0.0, started + number / self.fps - time.monotonic()))
                image = self.picture.copy()
                draw_code(image, 1, number)
                draw_code(image, 0, int(time.monotonic() * 1000) % (1 << BITS))
                jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                self.wfile.write(head + jpeg + b"\r\n")
                number += 1
        except OSError:  # the reader has disconnected
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def main() -> None:
    port, width, height, fps, picture = sys.argv[1:]
    cv2.setNumThreads(1)
    image = cv2.imread(picture)
    assert image is not None, picture
    canvas = np.full((int(height), int(width), 3), 200, np.uint8)
    side = int(height) - 3 * SQUARE
    canvas[3 * SQUARE :, : min(side, int(width))] = cv2.resize(image, (side, side))[:, : int(width)]
    Camera.picture, Camera.fps = canvas, float(fps)
    with Server(("127.0.0.1", int(port)), Camera) as server:
        print("serving", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
