"""TLS, last will, retained messages and Home Assistant's discovery, with a real MQTT broker (mosquitto)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from numclip.cli.main import main
from numclip.runtime.contract.model_file import read_spec, resolve
from numclip.runtime.live.frames import Frame, SourceEvent
from numclip.runtime.live.results import Face, FrameResult
from numclip.runtime.sinks.home_assistant import HomeAssistant
from numclip.runtime.sinks.mqtt import MqttSink
from numclip.runtime.sinks.sink import json_line

if TYPE_CHECKING:
    from paho.mqtt import client as mqtt
else:
    mqtt = pytest.importorskip("paho.mqtt.client", reason="needs the extra mqtt")
TASK = read_spec(resolve("age-nano")).task


@dataclass(frozen=True)
class Broker:
    """mosquitto's ports, and the authority that signed its certificate."""

    plain: int
    secure: int
    ca: Path

    def listen(self, topic: str) -> Listener:
        """Return a client that receives all messages of a topic, retained ones first."""
        return Listener(self.secure, self.ca, topic)


class Listener:
    """Receives messages, over TLS if `ca` is given, until it is closed."""

    def __init__(self, port: int, ca: Path | None, topic: str) -> None:
        self.got: list[tuple[str, bytes, bool]] = []  # topic, message, retained by the broker
        self._came, subscribed = threading.Condition(), threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if ca is not None:
            self._client.tls_set(str(ca))
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._hear
        self._client.connect("localhost", port)
        self._client.subscribe(topic, qos=1)
        self._client.loop_start()
        assert subscribed.wait(10)

    def _hear(self, client: object, data: object, message: mqtt.MQTTMessage) -> None:
        with self._came:
            self.got.append((message.topic, bytes(message.payload), message.retain))
            self._came.notify_all()

    def wait_for(self, *messages: tuple[str, bytes, bool]) -> None:
        """Wait until all of these have arrived."""
        with self._came:
            assert self._came.wait_for(lambda: set(messages) <= set(self.got), 10), self.got

    def wait_for_either(self, topic: str, message: bytes) -> None:
        """Wait until this message has arrived, retained or not."""
        with self._came:
            assert self._came.wait_for(lambda: {(topic, message, kept) for kept in (True, False)} & set(self.got), 20)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, mosquitto: Callable[[Path, int], object], free_port: Callable[[], int]
) -> Broker:
    """mosquitto with a plain and a TLS port, without login; a test authority signed its certificate."""
    trustme = pytest.importorskip("trustme", reason="needs the extra dev")
    folder, authority = tmp_path_factory.mktemp("broker"), trustme.CA()
    found = Broker(free_port(), free_port(), folder / "ca.pem")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(found.ca))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    (folder / "broker.conf").write_text(
        f"allow_anonymous true\nuser root\nlistener {found.plain} 127.0.0.1\nlistener {found.secure} 127.0.0.1\n"
        f"certfile {folder / 'cert.pem'}\nkeyfile {folder / 'key.pem'}\n"
    )
    mosquitto(folder / "broker.conf", found.secure)
    return found


@pytest.fixture
def photo(hopper: np.ndarray, tmp_path: Path) -> str:
    cv2.imwrite(str(tmp_path / "hopper.png"), hopper)
    return str(tmp_path / "hopper.png")


def test_results_over_tls(broker: Broker, photo: str, capfd: pytest.CaptureFixture[str]) -> None:
    """mqtts:// with --mqtt-ca delivers the line of --jsonl; with --mqtt-retain the broker then retains it, and `offline`."""
    words = ["run", photo, "--detector", "haar", "--jsonl", "-", "--mqtt-retain", "--mqtt-ca", str(broker.ca)]
    with broker.listen("hall/tls/#") as listener:
        assert main([*words, "--mqtt", f"mqtts://localhost:{broker.secure}/hall/tls"]) == 0
        line = capfd.readouterr().out.strip().encode()
        status = "hall/tls/status"
        listener.wait_for((status, b"online", False), ("hall/tls", line, False), (status, b"offline", False))
        assert [m for _, m, _ in listener.got] == [b"online", line, b"offline"]
    with broker.listen("hall/tls/#") as later:
        later.wait_for(("hall/tls", line, True), (status, b"offline", True))
    assert json.loads(line)["faces"][0]["age"] > 18


def test_without_retain_nothing_of_a_face_is_kept(broker: Broker, photo: str) -> None:
    """Without --mqtt-retain, a later subscriber gets the status but no result."""
    assert main(["run", photo, "--detector", "haar", "--mqtt", f"mqtt://127.0.0.1:{broker.plain}/hall/plain"]) == 0
    with broker.listen("hall/plain/#") as later:
        later.wait_for(("hall/plain/status", b"offline", True))
        assert len(later.got) == 1


@pytest.mark.parametrize("case", ["unknown authority", "no TLS there", "no file", "CA without TLS", "no broker named"])
def test_what_is_wrong_is_said(case: str, broker: Broker, photo: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong TLS settings give one sentence and exit code 1 or 2, never an unencrypted or unverified connection."""
    secure, plain = f"mqtts://me:pw1@localhost:{broker.secure}/a", f"mqtt://localhost:{broker.plain}/a"
    words, code, sentence = {
        "unknown authority": (["--mqtt", secure], 1, "or add --mqtt-ca FILE with the certificate"),
        "no TLS there": (
            ["--mqtt", f"mqtts://localhost:{broker.plain}/a", "--mqtt-ca", str(broker.ca)],
            1,
            "cannot connect to the broker",
        ),
        "no file": (["--mqtt", secure, "--mqtt-ca", "nowhere.pem"], 1, "No such file"),
        "CA without TLS": (["--mqtt", plain, "--mqtt-ca", str(broker.ca)], 2, "together with --mqtt mqtts://"),
        "no broker named": (["--home-assistant"], 2, "each need --mqtt URL; add it"),
    }[case]
    assert main(["run", photo, "--detector", "haar", "--device", "cpu", *words]) == code
    said = [line for line in capfd.readouterr().err.splitlines() if "--mqtt" in line]
    assert len(said) == 1 and sentence in said[0] and "pw1" not in said[0]


PUBLISHES = """
import sys, time
from numclip.runtime.sinks.mqtt import MqttSink
sink = MqttSink(sys.argv[1], lambda result: {})
print("there", flush=True)
time.sleep(60)
"""


def test_the_last_will_of_a_run_that_dies(broker: Broker) -> None:
    """After kill -9 of a run, the broker itself publishes `offline`."""
    with broker.listen("hall/dies/status") as listener:
        url = f"mqtt://127.0.0.1:{broker.plain}/hall/dies"
        process = subprocess.Popen([sys.executable, "-c", PUBLISHES, url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        listener.wait_for(("hall/dies/status", b"online", False))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        listener.wait_for(("hall/dies/status", b"offline", False))


@dataclass
class Says:
    """The shown result of a face."""

    value: float
    probabilities: np.ndarray
    is_calibrated: bool = False

    @property
    def bin(self) -> str:
        return TASK.words[TASK.bin_of(self.value)]


def _result(source: str, *ages: float | None) -> FrameResult:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 0, 0.0, 0.0, source)
    readings = [None if age is None else Says(age, np.zeros(TASK.num_bins, np.float32)) for age in ages]
    faces = tuple(Face((0, 0, 1, 1), 1.0, None, r, reason=None if r else "small") for r in readings)  # type: ignore[arg-type]
    return FrameResult(frame, faces, 0.01, 0, TASK)


def _value_of(announced: dict, key: str, state: object) -> str:
    """Return the value in Home Assistant: the sensor's Jinja template applied to the message."""
    jinja = pytest.importorskip("jinja2", reason="Home Assistant's templates are Jinja's")
    return jinja.Environment().from_string(announced["components"][key]["value_template"]).render(value_json=state)


def test_the_sensors_show_what_is_seen() -> None:
    """Two sources with ages 20, 40, one face without age, and 66 give 4 faces, mean 42, one of each word; a stalled source gives 0."""
    now = [0.0]
    home = HomeAssistant(TASK, "1.0", clock=lambda: now[0])
    topic, announced = home.announcement("hall/ages")
    assert topic.startswith("homeassistant/device/numclip_hall_ages_") and topic.endswith("/config")
    assert {"device", "origin", "components"} <= set(announced) and announced["state_topic"] == "hall/ages/state"
    sensors = announced["components"]
    assert isinstance(sensors, dict)
    assert all(sensor["platform"] == "sensor" and sensor["unique_id"] for sensor in sensors.values())
    assert len({sensor["unique_id"] for sensor in sensors.values()}) == 2 + TASK.num_bins

    assert home.after(_result("a", 20.0, 40.0, None)) is not None
    assert home.after(_result("b", 66.0)) is None, "less than a second later"
    now[0] = 1.0
    state = home.after(_result("b", 66.0))
    assert _value_of(announced, "faces", state) == "4" and _value_of(announced, "mean", state) == "42.0"
    for age in (20, 40, 66):
        assert _value_of(announced, f"word_{TASK.bin_of(age)}", state) == "1"
    assert _value_of(announced, "word_0", state) == "0"
    now[0] = 2.0
    assert home.after(_result("b", 66.0)) is None, "nothing changed"
    state = home.after_event(SourceEvent("stalled", "a", 2.0))
    assert _value_of(announced, "faces", state) == "1" and _value_of(announced, "mean", state) == "66.0"
    now[0] = 4.0
    assert _value_of(announced, "mean", home.after(_result("b", None))) == "None", "Home Assistant shows it as unknown"


def test_counts_only_say_no_age() -> None:
    """With --aggregate no sensor and no state contains a person's age."""
    home = HomeAssistant(TASK, "1.0", counts_only=True)
    _, announced = home.announcement("a")
    state = home.after(_result("a", 33.0))
    assert "'mean'" not in str(announced) and state is not None and set(state) == {"faces", "counts"}


def test_two_topics_are_two_devices() -> None:
    """Topics that differ only in characters not allowed in an id get different devices."""
    home = HomeAssistant(TASK, "1.0")
    topics = [home.announcement(t)[0] for t in ("a/b", "a_b", "a b", "ä")]
    assert len(set(topics)) == 4 and all(t.isascii() and " " not in t for t in topics)


def test_the_state_is_sent_again_at_a_new_connection(
    tmp_path: Path, mosquitto: Callable[[Path, int], subprocess.Popen[bytes]], free_port: Callable[[], int]
) -> None:
    """At its first connection a run replaces the state that an earlier run left. The broker is killed and forgets everything, and the
    faces change meanwhile: at the new connection it gets the present state, without another result."""
    port, now_s = free_port(), [0.0]
    settings = tmp_path / "broker.conf"
    settings.write_text(f"allow_anonymous true\nuser root\nlistener {port} 127.0.0.1\n")
    broker = mosquitto(settings, port)
    home = HomeAssistant(TASK, "1.0", clock=lambda: now_s[0])
    sink = MqttSink(f"mqtt://127.0.0.1:{port}/hall", lambda result: {}, home=home)
    with Listener(port, None, "hall/#") as listener:
        listener.wait_for_either("hall/state", _state())
        sink.write(_result("a", 20.0))
        listener.wait_for_either("hall/state", _state(20.0))
    broker.kill()
    broker.wait()
    now_s[0] = 2.0
    sink.write(_result("a", 20.0, 40.0, 66.0))
    mosquitto(settings, port)
    with Listener(port, None, "hall/#") as listener:
        listener.wait_for_either("hall/state", _state(20.0, 40.0, 66.0))
    sink.close()


def _state(*ages: float) -> bytes:
    """The message about these faces."""
    state = HomeAssistant(TASK, "1.0").after(_result("a", *ages))
    assert state is not None
    return json_line(state).rstrip()


def test_a_run_with_home_assistant(broker: Broker, photo: str) -> None:
    """The broker retains the announcement and the state, so that Home Assistant finds them when it starts later."""
    url = f"mqtt://127.0.0.1:{broker.plain}/hall/home"
    assert main(["run", photo, "--detector", "haar", "--mqtt", url, "--home-assistant"]) == 0
    topic, announced = HomeAssistant(TASK, "").announcement("hall/home")
    with broker.listen("#") as later:
        later.wait_for(("hall/home/status", b"offline", True))
        deadline = time.monotonic() + 10
        while len({t for t, _, _ in later.got} & {topic, "hall/home/state"}) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        kept = {t: json.loads(m) for t, m, _ in later.got if t in (topic, "hall/home/state")}
    assert kept[topic]["components"] == announced["components"]
    assert _value_of(kept[topic], "faces", kept["hall/home/state"]) == "1"
