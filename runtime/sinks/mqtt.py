"""Results as MQTT messages, one JSON object each, the same as in JSON lines; uses paho-mqtt, the Eclipse project's client."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ...errors import OutputError, UsageError
from ..live.addresses import shown
from ..live.frames import SourceEvent
from ..live.results import FrameResult
from .home_assistant import HomeAssistant
from .sink import LineOf, json_line

CONNECT_TIMEOUT_S = 5.0
GOODBYE_S = 2.0  # time limit for the last message
KEEPALIVE_S = 15  # after 1.5 times this without a message the broker sends the last will
PORTS = {"mqtt": 1883, "mqtts": 8883}
FORM = "mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS"


class MqttSink:
    """Publishes results and events to TOPIC, at most once each (QoS 0), and `online` or `offline`, retained, to TOPIC/status.

    If the run dies, the broker publishes `offline` (last will). The client reconnects by itself; results and events while it is not
    connected are lost.
    """

    def __init__(
        self,
        url: str,
        line_of: LineOf,
        retain: bool = False,
        ca: Path | None = None,
        home: HomeAssistant | None = None,
    ) -> None:
        """url: in the form FORM. retain: ask the broker to keep the newest message for later subscribers. ca: CA certificates (PEM) to
        verify the broker with; None: the system's. home: Home Assistant sensors to announce and update, beside the results.

        Raises UsageError, OutputError.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # the port is not a number, or a bracket is missing or in the password
            raise UsageError(
                f"expected --mqtt {FORM}, got {shown(url)}; write [ ] / ? # @ in a user name or password as %5B %5D %2F %3F "
                "%23 %40"
            ) from None
        self._topic, self._line_of, self._retain, self._home = parts.path.strip("/"), line_of, retain, home
        self._newest_home = (
            threading.Lock()
        )  # held from reading Home Assistant's state until it is on its way, so that none overtakes
        secure = parts.scheme == "mqtts"
        if parts.scheme not in PORTS or not parts.hostname or not self._topic or any(c in self._topic for c in "+#"):
            raise UsageError(f"expected --mqtt {FORM}, got {shown(url)}")
        if ca is not None and not secure:
            raise UsageError(f"expected --mqtt-ca together with --mqtt mqtts://…, got {shown(url)}")
        import paho.mqtt.client as mqtt

        where, connected = shown(url), threading.Event()
        self._refused = ""
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        self._client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)

        def on_connect(client: object, data: object, flags: object, code: mqtt.ReasonCode, properties: object) -> None:
            self._refused = str(code) if code.is_failure else ""
            if not code.is_failure:
                self._greet()
            connected.set()

        self._client.on_connect = on_connect
        try:
            if secure:
                self._client.tls_set(ca_certs=None if ca is None else str(ca))
            self._client.connect(parts.hostname, port or PORTS[parts.scheme], KEEPALIVE_S)
        except (OSError, ValueError) as error:
            own = ", or add --mqtt-ca FILE with the certificate of your own authority" if secure and ca is None else ""
            raise OutputError(
                f"--mqtt {where}: cannot connect to the broker ({error}); check the address{own}"
            ) from None
        self._client.loop_start()
        if not connected.wait(CONNECT_TIMEOUT_S) or self._refused:
            self._end()
            said = f"did not answer within {CONNECT_TIMEOUT_S:g} s; check the address"
            if self._refused:
                said = f"refused the connection ({self._refused}); check user name and password"
            raise OutputError(f"--mqtt {where}: the broker {said}")

    def _greet(self) -> None:
        """Publish the retained messages of this run; called at each connection."""
        if self._home is not None:
            topic, message = self._home.announcement(self._topic)
            self._publish(topic, message, keep=True)
            with self._newest_home:
                self._tell_home(self._home.now())
        self._client.publish(f"{self._topic}/status", "online", qos=1, retain=True)

    def write(self, result: FrameResult) -> None:
        """Publish one result."""
        self._publish(self._topic, self._line_of(result))
        if self._home is not None:
            with self._newest_home:
                self._tell_home(self._home.after(result))

    def tell(self, event: SourceEvent) -> None:
        """Publish one event."""
        self._publish(self._topic, event.to_json())
        if self._home is not None:
            with self._newest_home:
                self._tell_home(self._home.after_event(event))

    def _tell_home(self, state: Mapping[str, object] | None) -> None:
        if state is not None:
            self._publish(f"{self._topic}/state", state, keep=True)

    def _publish(self, topic: str, message: Mapping[str, object], keep: bool = False) -> None:
        self._client.publish(topic, json_line(message).rstrip(), retain=keep or self._retain)

    def close(self) -> None:
        """Send what is queued, and disconnect."""
        if self._client.is_connected():
            last = self._client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
            with suppress(RuntimeError, ValueError):  # the broker has just gone; its last will publishes the same
                last.wait_for_publish(GOODBYE_S)
        self._end()

    def _end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
