"""The flags that `numclip run` and `numclip replay` share: where results go."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.sinks.outputs import OutputOptions


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for what both commands can write; `numclip run` also has --interval, which a recording has fixed."""
    parser.add_argument(
        "--show", action="store_true", help="show the video with its results in a window; press q to stop"
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.mp4",
        help="write the video with boxes and ages drawn in; with several sources, {} in the name becomes the source's "
        "number",
    )
    parser.add_argument("--jsonl", metavar="FILE|-", help="write one JSON line per frame to FILE, or to stdout with -")
    parser.add_argument(
        "--csv", metavar="FILE|-", help="write a CSV table with one row per face to FILE, or to stdout with -"
    )
    parser.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish the JSON lines to an MQTT broker: mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS; "
        "the topic TOPIC/status says online or offline",
    )
    parser.add_argument(
        "--mqtt-ca",
        type=Path,
        metavar="FILE",
        help="CA certificates (PEM) to verify a mqtts:// broker with (default: the system's)",
    )
    parser.add_argument(
        "--mqtt-retain", action="store_true", help="ask the broker to keep the newest message for later subscribers"
    )
    parser.add_argument(
        "--home-assistant",
        action="store_true",
        help="announce sensors to Home Assistant, through --mqtt: number of faces, of faces per age word (such as teenager), "
        "mean age",
    )
    parser.add_argument(
        "--metrics",
        metavar="[HOST:]PORT",
        help="serve latency, rates and counts for Prometheus at this address, under /metrics; HOST is 127.0.0.1 if "
        "left out (default: off)",
    )
    parser.add_argument("--blur", action="store_true", help="blur faces in the window and in the video")
    parser.add_argument(
        "--aggregate",
        action="store_true",
        help="write only the number of faces per age word (such as teenager): no boxes, no tracks, no ages; not "
        "together with --show, --save or --record",
    )


def output_options(
    args: argparse.Namespace,
    interval: float = OutputOptions.interval,
    record: str | None = None,
    record_pixels: bool = False,
) -> OutputOptions:
    """The options record for these flags."""
    return OutputOptions(
        show=args.show,
        save=args.save,
        jsonl=args.jsonl,
        csv=args.csv,
        mqtt=args.mqtt,
        mqtt_ca=args.mqtt_ca,
        mqtt_retain=args.mqtt_retain,
        home_assistant=args.home_assistant,
        metrics=args.metrics,
        interval=interval,
        blur=args.blur,
        aggregate=args.aggregate,
        record=record,
        record_pixels=record_pixels,
    )
