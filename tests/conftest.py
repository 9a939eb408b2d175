"""Where tests find the shared faces, clips and detector; without them a test is skipped, and says why."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository root, which is also the package."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared faces and clips, from NUMCLIP_TEST_DATA."""
    root = os.environ.get("NUMCLIP_TEST_DATA")
    if not root:
        pytest.skip("NUMCLIP_TEST_DATA is unset: it names the folder with data/, models/ and video/")
    if not Path(root).is_dir():
        pytest.skip(f"NUMCLIP_TEST_DATA={root} is not a folder")
    return Path(root)


@pytest.fixture(scope="session")
def yunet_model() -> Path:
    """The YuNet detector file, from NUMCLIP_YUNET."""
    path = os.environ.get("NUMCLIP_YUNET")
    if not path or not Path(path).is_file():
        pytest.skip("NUMCLIP_YUNET does not name the YuNet .onnx file")
    return Path(path)


@pytest.fixture
def stream_url() -> Iterator[str]:
    """An endless MJPEG stream of about 30 frames a second, as network cameras send it."""
    import cv2
    import numpy as np

    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    over = threading.Event()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
            try:
                while not over.wait(1 / 30):
                    self.wfile.write(part)
            except OSError:
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/video.mjpg"
        over.set()
        server.shutdown()
