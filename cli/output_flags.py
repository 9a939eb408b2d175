"""The flags that `numclip run` and `numclip replay` share: where results go."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.sinks.outputs import OutputOptions


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """What both commands can write."""
    parser.add_argument("--show", action="store_true", help="show a window; q stops")
    parser.add_argument("--save", type=Path, metavar="FILE.mp4", help="write the annotated video")
    parser.add_argument("--jsonl", metavar="FILE|-", help="write one JSON line per frame, to a file or to stdout")
    parser.add_argument("--csv", metavar="FILE|-", help="write a table with one row per face")
    parser.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish the JSON lines: mqtt://[user:password@]host[:port]/topic, or mqtts:// for TLS; TOPIC/status says "
        "online or offline",
    )
    parser.add_argument(
        "--mqtt-ca",
        type=Path,
        metavar="FILE",
        help="certificates (PEM) to check a mqtts:// broker with (default: the system's)",
    )
    parser.add_argument("--mqtt-retain", action="store_true", help="the broker keeps the newest message")
    parser.add_argument(
        "--home-assistant",
        action="store_true",
        help="show Home Assistant sensors through --mqtt: faces, faces of each word, mean age",
    )
    parser.add_argument("--metrics", metavar="[HOST:]PORT", help="serve latency, rates and counts for Prometheus")
    parser.add_argument(
        "--interval", type=float, default=OutputOptions.interval, metavar="LEVEL", help="level of the shown range"
    )
    parser.add_argument("--blur", action="store_true", help="blur faces in window and video")
    parser.add_argument(
        "--aggregate", action="store_true", help="write only how many faces there are of each word: no boxes, no tracks"
    )


def output_options(args: argparse.Namespace, record: str | None = None, record_pixels: bool = False) -> OutputOptions:
    """The record that the flags stand for."""
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
        interval=args.interval,
        blur=args.blur,
        aggregate=args.aggregate,
        record=record,
        record_pixels=record_pixels,
    )
