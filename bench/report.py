"""The types of a benchmark report's JSON; docs/bench.schema.json describes the same for other programs."""

from __future__ import annotations

from typing import Literal, TypedDict

from ..runtime.system import Environment

SCHEMA_VERSION = 2
PercentileName = Literal["p50", "p90", "p95", "p99", "p99.9"]
RailFigure = Literal["rest_w", "work_w", "mj_per_face", "mj_per_face_above_rest"]


class Interval(TypedDict):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Spread(TypedDict):
    """A value over restarts; one or two restarts give no interval."""

    value: float
    low: float | None
    high: float | None


class Ratio(Interval):
    """The time of one contender divided by that of another."""

    rounds: int
    undisturbed: bool  # of calls that the system did not interrupt


# Percentiles of n samples in ms; None if there are too few for an interval.
Summary = TypedDict(
    "Summary",
    {
        "n": int,
        "p50": Interval | None,
        "p90": Interval | None,
        "p95": Interval | None,
        "p99": Interval | None,
        "p99.9": Interval | None,
    },
)


class State(TypedDict):
    """The machine's state at one moment; None or empty for what it does not report."""

    load_1min: float
    cpu_mhz: int | None
    gpu_mhz: int | None
    temperature_c: dict[str, float]
    power_mode: str | None
    throttle: dict[str, int]


class States(TypedDict):
    """Before and after the run."""

    before: State
    after: State


class Peak(TypedDict):
    """The machine's peak performance with this many threads."""

    threads: int
    gemm_gflops: float
    copy_gb_s: float


class Energy(TypedDict):
    """One power rail: mean watts at rest and at work, and millijoules per face."""

    rail: str
    rest_w: float
    work_w: float
    mj_per_face: float
    mj_per_face_above_rest: float


class Window(TypedDict):
    """A part of a sustained run."""

    at_s: float
    p50_ms: float
    cpu_mhz: int | None
    gpu_mhz: int | None
    temperature_c: float | None


class ModelError(TypedDict):
    """The mean error on one data set, from the model file's metadata."""

    data: str | None
    split: str | None
    mae: float | None


class RestartRow(TypedDict):
    """The median call of one restart, and of its undisturbed calls if it has enough of them."""

    p50_ms: float
    undisturbed_p50_ms: float | None


class Absent(TypedDict):
    """A contender that could not run on this machine."""

    model: str
    device: str
    reason: str


class ModelFacts(TypedDict):
    """The model, and the library that ran it."""

    model: str
    sha256: str | None  # None for rivals
    file_bytes: int | None
    multiply_adds: int | None  # per face
    mae: list[ModelError]
    parity: dict[str, object]
    session: dict[str, object]
    device: str  # as requested
    threads: int


class Facts(ModelFacts):
    """The same for calls with this many faces."""

    batch: int
    flop_per_call: int | None
    bytes_per_call: int  # every weight once, and the crops
    gpu_mb: float | None


class Sustained(TypedDict, total=False):
    """The additional figures of a sustained run."""

    windows: list[Window]
    drift: Interval
    steady: bool


class Row(Facts, Sustained):
    """One contender's figures."""

    load_ms: float
    first_call_ms: float
    warm_up_calls: int
    stable: bool
    rss_mb: float
    latency_ms: Summary
    faces_per_s: Spread
    interrupted: float  # share of calls
    restarts: list[RestartRow]
    ratio_to_first: Ratio
    gemm_share: float | None
    copy_share: float
    energy: list[Energy]
    readings_ms: float | None


class Times(Interval):
    """A ratio with its range over rounds."""

    rounds: int


class Likeness(TypedDict):
    """How stable the values of two loops are around each face's median, and how far the two medians differ."""

    deviation: float
    plain_deviation: float
    median_difference: float


class PlainLoop(Likeness):
    """The project's threads compared with a plain loop."""

    frames_per_s: float
    plain_frames_per_s: float
    times: Times


class StageTimes(TypedDict):
    """The time of a frame in ms by stage; the last stage is the total."""

    faces: int | str
    stages: dict[str, Summary]
    means_ms: dict[str, float]


class StageFigures(StageTimes, total=False):
    """The figures of the stages; for the clip also numclip's own share and the plain loop, for a crowd the number of faces shown."""

    own_share: float
    against_plain_loop: PlainLoop
    shown: int
    dropped: int


class PipelineRow(ModelFacts, StageFigures):
    """One model's stages for one number of faces."""

    detector: str
    clip: str


class _Head(TypedDict):
    schema_version: int
    date: str
    environment: Environment
    absent: list[Absent]
    energy_unreadable: list[str]
    state: States
    valid: bool
    invalid_because: list[str]


class ContestReport(_Head):
    """A benchmark of models."""

    scenario: Literal["single-stream", "multi-stream", "offline", "sustained"]
    crops: str
    restarts: int
    seconds: float
    peaks: list[Peak]
    rows: list[Row]


class PipelineReport(_Head):
    """A benchmark of the way from a frame to its result."""

    scenario: Literal["pipeline"]
    rows: list[PipelineRow]


Report = ContestReport | PipelineReport
