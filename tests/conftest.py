"""Fixtures for the shared faces, clips and detector; without them a test is skipped with a reason."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository root, which is also the package folder."""
    return REPO


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this test run, so that crops are cut once and the user's cache is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("NUMCLIP_CACHE", str(folder))
        yield folder


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
    """An endless MJPEG stream of about 30 frames per second, like that of a network camera."""
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


@pytest.fixture(scope="session")
def hopper() -> np.ndarray:
    """Grace Hopper, 606 x 512 BGR, from matplotlib's sample data."""
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra demo")
    return np.asarray(cv2.imread(f"{matplotlib.get_data_path()}/sample_data/grace_hopper.jpg"), np.uint8)


@pytest.fixture(scope="session")
def collins() -> np.ndarray:
    """Eileen Collins, 512 x 512 BGR, from scikit-image."""
    data = pytest.importorskip("skimage.data", reason="needs the extra demo")
    return np.ascontiguousarray(np.asarray(data.astronaut(), np.uint8)[:, :, ::-1])


@pytest.fixture(scope="session")
def two_people(shared_data: Path) -> Path:
    """The clip of two people turning their heads: 300 frames, 30 fps."""
    return next((shared_data / "video").glob("two_people*.h264"))


class CameraProcess:
    """tests/camera_server.py as a process that can be killed and restarted on the same port."""

    def __init__(self, code: Any, picture: Path) -> None:
        self.code, self._picture, self._process = code, picture, None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def start(self, width: int = 320, height: int = 240, fps: int = 30) -> None:
        """Start the server and return when it is ready."""
        words = [sys.executable, self.code.__file__, *map(str, (self.port, width, height, fps, self._picture))]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline() == "serving\n"

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def camera(hopper: np.ndarray, tmp_path: Path) -> Iterator[CameraProcess]:
    """An HTTP camera that shows one face and a bar code; not started."""
    cv2.imwrite(str(tmp_path / "face.png"), hopper[10:410, 66:466])
    spec = importlib.util.spec_from_file_location("camera_server", REPO / "tests" / "camera_server.py")
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    process = CameraProcess(code, tmp_path / "face.png")
    yield process
    process.kill()


class CountedModel:
    """A model that records the number of crops of each call."""

    def __init__(self, model: Any) -> None:
        self.model, self.spec, self.calls = model, model.spec, list[int]()

    def __call__(self, crops: np.ndarray) -> Any:
        self.calls.append(len(crops))
        return self.model(crops)


@pytest.fixture
def counted() -> type[CountedModel]:
    """The class CountedModel, for tests that count the calls of their own models."""
    return CountedModel


# A real browser: needs node with the packages of web/, and Chromium; without them a test is skipped.
Browser = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def node(repo: Path) -> str:
    """The command of node, if the packages of web/ are installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node 20 or newer")
    if not (repo / "web" / "node_modules" / "puppeteer-core").is_dir():
        pytest.skip("needs the packages of web/: make web")
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """The command of Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs chromium: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def browser(repo: Path, node: str, chromium: str) -> Browser:
    """Runs a script of web/tests/browser in Chromium and returns its result; `said` has the page's console messages."""

    def act(script: str, **options: Any) -> dict[str, Any]:
        words = [node, str(repo / "web" / "tests" / "browser" / f"{script}.mjs")]
        done = subprocess.run(
            [*words, json.dumps({"executable": chromium, **options})], capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return act
