"""Schemas of the result tables: faces, errors and inputs. `docs/bulk.md` describes every column."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1

_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    (
        "source",
        pa.string(),
        "the input: a path, ARCHIVE::MEMBER, or an address; bytes that are not valid UTF-8 appear as \\xNN",
    ),
    ("sha256", pa.string(), "SHA-256 of the file's bytes, in hexadecimal"),
    (
        "index",
        pa.int64(),
        "page of a multi-page file or frame of a video, from 0; for a track the frame of its largest face",
    ),
    ("time_s", pa.float64(), "position in a video, s; for a track its first frame; null for pictures"),
    ("end_s", pa.float64(), "for a track: the time of its last frame, s"),
    (
        "track",
        pa.int64(),
        "for videos: number of the tracked person, from 1; it is only valid within this video; null in slides",
    ),
    ("frames", pa.int64(), "for a track: frames in which the person was seen"),
    ("box", pa.list_(pa.float32(), 4), "x1, y1, x2, y2, px"),
    (
        "landmarks",
        pa.list_(pa.float32(), 10),
        "x, y of right eye, left eye, nose, right and left mouth corner, px; null if the detector gives none",
    ),
    ("score", pa.float32(), "the detector's score, 0 to 1"),
    ("value", pa.float32(), "the model's value, for the age models the age in years; null if there is a reason"),
    ("low", pa.float32(), "lower end of the interval; null if the model is not calibrated"),
    ("high", pa.float32(), "upper end of the interval"),
    ("level", pa.float32(), "coverage of the interval: probability that low to high contains the true value"),
    ("word", pa.string(), "the word of the bin that holds the value"),
    ("probabilities", pa.list_(pa.float32()), "probability of each word, in the model's order"),
    ("reason", pa.string(), "why there is no value: small, profile, blurred or range"),
    ("taken", pa.timestamp("s"), "when the picture was taken, from EXIF; null if EXIF has no date"),
    ("model_sha256", pa.string(), "hash of the model's graph"),
    ("numclip", pa.string(), "version of numclip"),
)
FACES = pa.schema([pa.field(name, kind, metadata={"about": about}) for name, kind, about in _COLUMNS]).with_metadata(
    {"numclip_schema": str(SCHEMA_VERSION)}
)
ERRORS = pa.schema(
    [
        pa.field("source", pa.string(), metadata={"about": "the input, as in the faces table"}),
        pa.field(
            "error",
            pa.string(),
            metadata={"about": "the reason in one sentence: what was expected, what was found, what to do"},
        ),
    ],
    metadata={"numclip_schema": str(SCHEMA_VERSION)},
)
INPUTS = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("faces", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("duplicate_of", pa.string()),
    ]
)


def printable(text: str) -> str:
    r"""Return a name as UTF-8: bytes that are not valid UTF-8 appear as \xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
