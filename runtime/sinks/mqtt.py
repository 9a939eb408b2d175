"""Results as MQTT messages, one JSON object each, the same as in JSONL; through paho-mqtt, the Eclipse project's client."""

from __future__ import annotations

import threading
from urllib.parse import unquote, urlsplit

from ...errors import OutputError, UsageError
from ..live.addresses import shown
from ..live.frames import SourceEvent
from ..live.results import FrameResult
from .sink import LineOf, json_line

CONNECT_TIMEOUT_S = 5.0
QUEUED = 100  # messages kept while the broker is away; later ones are lost


class MqttSink:
    """Publishes to one topic, at most once each (QoS 0). The client connects again by itself."""

    def __init__(self, url: str, line_of: LineOf) -> None:
        """url: mqtt://[user:password@]host[:port]/topic. Raises UsageError, OutputError."""
        parts = urlsplit(url)
        self._topic, self._line_of = parts.path.strip("/"), line_of
        if parts.scheme != "mqtt" or not parts.hostname or not self._topic or any(c in self._topic for c in "+#"):
            raise UsageError(f"expected --mqtt mqtt://[user:password@]host[:port]/topic, got {shown(url)}")
        import paho.mqtt.client as mqtt

        where, connected = shown(url), threading.Event()
        self._refused = ""
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        self._client.max_queued_messages_set(QUEUED)

        def on_connect(client: object, data: object, flags: object, code: mqtt.ReasonCode, properties: object) -> None:
            self._refused = str(code) if code.is_failure else ""
            connected.set()

        self._client.on_connect = on_connect
        try:
            self._client.connect(parts.hostname, parts.port or 1883)
        except (OSError, ValueError) as error:
            raise OutputError(f"--mqtt {where}: expected a broker, got: {error}; check the address") from None
        self._client.loop_start()
        if not connected.wait(CONNECT_TIMEOUT_S) or self._refused:
            self.close()
            raise OutputError(
                f"--mqtt {where}: expected a broker that lets in, got: {self._refused or 'no answer'}; check the login"
            )

    def write(self, result: FrameResult) -> None:
        """Publish one result."""
        self._client.publish(self._topic, json_line(self._line_of(result)).rstrip())

    def tell(self, event: SourceEvent) -> None:
        """Publish one event."""
        self._client.publish(self._topic, json_line(event.to_json()).rstrip())

    def close(self) -> None:
        """Send what waits, and say good-bye."""
        self._client.disconnect()
        self._client.loop_stop()
