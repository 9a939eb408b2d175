"""The shapes of the API's bodies, for its OpenAPI document. The records behind them say what each field means."""

from __future__ import annotations

from types import GenericAlias
from typing import Any, Literal, cast

from pydantic import BaseModel, Field, create_model

from ..runtime.contract.task import TaskSpec


class GateAnswer(BaseModel):
    """The gate's answer about one face."""

    threshold: float
    error: float
    p: float | None = Field(description="Probability of being at least the threshold, by this look alone")
    answer: Literal["yes", "no", "ask"]
    looks: int


class FaceBase(BaseModel):
    """One face."""

    track: int | None = Field(description="Null in a single picture")
    box: list[float] = Field(description="x1, y1, x2, y2 in px", min_length=4, max_length=4)
    score: float = Field(description="The detector's score, 0 to 1")
    low: float | None
    high: float | None
    level: float | None = Field(description="Share of true numbers between low and high")
    bin: str | None = Field(description="Word for the number")
    probabilities: list[float] = Field(description="Probability of each word; empty without a number")
    fresh: bool = Field(description="The model ran on this face in this picture")
    gate: GateAnswer | None = None
    reason: str | None = Field(None, description="Why there is no number")


class ResultBase(BaseModel):
    """The faces in one picture."""

    source: str
    file: str | None = None
    frame: int
    time_s: float
    latency_ms: float
    dropped: int


def _list_of(name: str, item: type[BaseModel]) -> dict[str, Any]:
    """A field of this name that is a list of these items."""
    return {name: (GenericAlias(list, item), ...)}


class Shapes:
    """The shapes that depend on the task, because the key of the number is the task's name."""

    def __init__(self, task: TaskSpec) -> None:
        number = Field(description=f"In {task.unit}; null where `reason` says why")
        fields = {task.name: (float | None, number)}
        face = create_model("Face", __base__=FaceBase, **cast("dict[str, Any]", fields))
        face.__doc__ = FaceBase.__doc__
        self.result = create_model("FrameResult", __base__=ResultBase, **_list_of("faces", face))
        self.result.__doc__ = ResultBase.__doc__
        self.read = create_model("ReadAnswer", model=(str, ...), **_list_of("results", self.result))
        self.read.__doc__ = "One result per picture, in the order of the request."


class GateResult(BaseModel):
    """The gate's answer about a picture of one person."""

    answer: Literal["yes", "no", "ask"]
    threshold: float
    error: float
    challenge: float | None
    cost: float | None
    p: float | None = Field(
        description="Probability of being at least the threshold; null without exactly one readable face"
    )
    faces: int
    reason: str | None = Field(
        description="Why there is no probability: no face, several faces, small, profile, blurred, range"
    )
    nonce: str | None = Field(description="The nonce of the request")
    model: str
    graph_sha256: str
    time: str = Field(description="ISO 8601, UTC")
    signed: str | None = Field(description="The same answer, signed; null if the server has no key")


class ModelOut(BaseModel):
    """A loaded model file."""

    name: str
    kind: Literal["age", "faces"] | str
    precision: str
    graph_sha256: str
    file_bytes: int
    unit: str | None
    words: list[str]
    range: list[float]
    crop_px: int | None
    calibrated: bool
    gates: dict[str, float] = Field(description="Lowest error rate that the calibration supports, by threshold")
    commercial_use: bool


class ModelsAnswer(BaseModel):
    """The loaded models."""

    models: list[ModelOut]


class Event(BaseModel):
    """An event of a source."""

    event: Literal["stalled", "resumed", "ended", "failed"]
    source: str
    time_s: float
    reason: str


class SourceSummary(BaseModel):
    """A source or a browser's camera."""

    id: str
    name: str
    kind: Literal["source", "camera"]
    state: Literal["starting", "live", "stalled", "ended", "failed"]
    width: int | None
    height: int | None
    frames: int
    dropped: int
    fps: float | None
    latency_ms: dict[str, float]
    faces_now: int
    people: int


class SourceDetails(SourceSummary):
    """The same with its events, and the number of people in each of the last 60 minutes, by word."""

    events: list[Event]
    last_hour: dict[str, list[int]]


class SourcesAnswer(BaseModel):
    """All sources."""

    sources: list[SourceSummary]
    webrtc: bool = Field(description="Whether a browser may send its camera over WebRTC, with POST /v1/camera")


class Health(BaseModel):
    """The server works, or is ready."""

    status: Literal["ok"]


class Login(BaseModel):
    """The page's log-in."""

    token: str


class Base64Pictures(BaseModel):
    """Pictures as text. The server fetches no addresses."""

    pictures: list[str] = Field(description="Base64 (RFC 4648)", min_length=1)


class PictureParts(BaseModel):
    """Pictures as parts of a form."""

    pictures: list[bytes] = Field(min_length=1, json_schema_extra={"items": {"type": "string", "format": "binary"}})
