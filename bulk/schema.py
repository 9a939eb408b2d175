"""The tables of a result: the faces, and the inputs that gave none. `docs/bulk.md` describes every column."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1

_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    (
        "source",
        pa.string(),
        "the input: a path, ARCHIVE::MEMBER, or an address; bytes that are no UTF-8 appear as \\xNN",
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
        "for videos: the number of the person followed; it starts at 0 and means nothing outside this video",
    ),
    ("frames", pa.int64(), "for a track: frames in which the person was seen"),
    ("box", pa.list_(pa.float32(), 4), "x1, y1, x2, y2, px"),
    (
        "landmarks",
        pa.list_(pa.float32(), 10),
        "x, y of right eye, left eye, nose, right and left mouth corner, px; null where the detector has none",
    ),
    ("score", pa.float32(), "the detector's, 0 to 1"),
    ("value", pa.float32(), "the model's number, for the age models the age in years; null with a reason"),
    ("low", pa.float32(), "lower end of the interval; null where the model is not calibrated"),
    ("high", pa.float32(), "upper end of the interval"),
    ("level", pa.float32(), "probability with which low to high contains the true value"),
    ("word", pa.string(), "the word of the bin that holds the value"),
    ("probabilities", pa.list_(pa.float32()), "over the words, in the model's order"),
    ("reason", pa.string(), "why there is no value: small, profile, blurred or range"),
    ("taken", pa.timestamp("s"), "when the picture was taken, from EXIF; null where it does not say"),
    ("model_sha256", pa.string(), "hash of the model's graph"),
    ("numclip", pa.string(), "version of numclip"),
)
FACES = pa.schema([pa.field(name, kind, metadata={"about": about}) for name, kind, about in _COLUMNS]).with_metadata(
    {"numclip_schema": str(SCHEMA_VERSION)}
)
ERRORS = pa.schema(
    [
        pa.field("source", pa.string(), metadata={"about": "the input, as in the faces table"}),
        pa.field("error", pa.string(), metadata={"about": "one sentence: what was expected, what came, what to do"}),
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
    r"""A name as UTF-8: bytes that are none appear as \xNN."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
