"""Results published to a real MQTT broker (mosquitto)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.cli.main import main
from numclip.errors import OutputError, UsageError

mqtt = pytest.importorskip("paho.mqtt.client", reason="needs the extra mqtt")


@pytest.fixture
def broker(tmp_path: Path, mosquitto: Callable[[Path, int], object], free_port: Callable[[], int]) -> int:
    """mosquitto on a free port that accepts only user `me` with password `secret`."""
    tool = shutil.which("mosquitto_passwd") or shutil.which("/usr/bin/mosquitto_passwd")
    if tool is None:
        pytest.skip("needs mosquitto_passwd: apt-get install mosquitto")
    port = free_port()
    subprocess.run([tool, "-b", "-c", str(tmp_path / "passwords"), "me", "secret"], check=True)
    (tmp_path / "passwords").chmod(0o644)
    settings = f"listener {port} 127.0.0.1\npassword_file {tmp_path / 'passwords'}\nallow_anonymous false\nuser root\n"
    (tmp_path / "broker.conf").write_text(settings)
    mosquitto(tmp_path / "broker.conf", port)
    return port


@pytest.fixture
def photo(hopper: np.ndarray, tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "hopper.png"), hopper)
    return tmp_path / "hopper.png"


def test_results_arrive(broker: int, photo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A subscriber gets the JSON line that --jsonl prints; no password is printed."""
    got, subscribed, arrived = list[bytes](), threading.Event(), threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.username_pw_set("me", "secret")
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: (got.append(message.payload), arrived.set())
    client.connect("127.0.0.1", broker)
    client.subscribe("hall/ages")
    client.loop_start()
    assert subscribed.wait(10)
    url = f"mqtt://me:secret@127.0.0.1:{broker}/hall/ages"
    assert main(["run", str(photo), "--detector", "haar", "--mqtt", url, "--jsonl", "-"]) == 0
    assert arrived.wait(10)
    client.loop_stop()
    out, err = capfd.readouterr()
    assert [json.loads(payload) for payload in got] == [json.loads(out)] and "secret" not in err


@pytest.mark.parametrize("case", ["wrong password", "no broker"])
def test_a_broker_that_does_not_let_in(case: str, broker: int, photo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A wrong password and an unused port give one sentence without the password, exit code 1."""
    url = f"mqtt://me:wrong1@127.0.0.1:{broker}/a" if case == "wrong password" else "mqtt://me:wrong1@127.0.0.1:9/a"
    assert main(["run", str(photo), "--detector", "haar", "--device", "cpu", "--mqtt", url]) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if "--mqtt" in line]
    reason = "the broker refused the connection" if case == "wrong password" else "cannot connect to the broker"
    assert len(said) == 1 and reason in said[0] and "wrong1" not in said[0]


@pytest.mark.parametrize("url", ["mqtt://me:pa[ss@host/topic", "mqtt://[::1/topic", "mqtt://me:pass@host:x/topic"])
def test_an_address_that_cannot_be_parsed(url: str) -> None:
    """A bracket in the password or left open, and a port that is no number, are one sentence with the form and without the password."""
    from numclip.runtime.sinks.mqtt import MqttSink

    with pytest.raises(UsageError, match=r"expected --mqtt mqtt://\[user:password@\]host") as caught:
        MqttSink(url, lambda result: {})
    assert "pa[ss" not in str(caught.value) and "me:pass" not in str(caught.value)


def test_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts the connection and stays silent is an error about the address, not about the password."""
    from numclip.runtime.sinks import mqtt as sink

    monkeypatch.setattr(sink, "CONNECT_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://me:secret@127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(OutputError, match=r"the broker did not answer within 0\.3 s; check the address"):
            sink.MqttSink(url, lambda result: {})


def test_a_broker_that_goes_away_stops_nothing(broker: int, tmp_path: Path) -> None:
    """A run continues when the broker is gone: publishing neither fails nor waits."""
    from numclip.runtime.live.frames import SourceEvent
    from numclip.runtime.sinks.mqtt import MqttSink

    sink = MqttSink(f"mqtt://me:secret@127.0.0.1:{broker}/a", lambda result: {})
    sink._client._sock_close()  # like a cut cable
    started = time.monotonic()
    for i in range(1000):
        sink.tell(SourceEvent("stalled", "cam", float(i)))
    sink.close()
    assert time.monotonic() - started < 60  # waiting for each of them would take much longer
