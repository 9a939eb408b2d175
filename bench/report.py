"""What a benchmark reports, as JSON has it: docs/bench.schema.json says the same for other programs."""

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
    """How many times as long one contender takes as another."""

    rounds: int
    undisturbed: bool  # of calls that the system did not interrupt


# Percentiles of n samples in ms; None where there are too few for an interval.
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
    """What the machine says of itself at one moment; None or empty where it does not tell."""

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
    """What the machine reaches at best with so many threads."""

    threads: int
    gemm_gflops: float
    copy_gb_s: float


class Energy(TypedDict):
    """One rail: mean watts at rest and at work, and millijoules per face."""

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
    """What a model file says of its mean error on one data set."""

    data: str | None
    split: str | None
    mae: float | None


class RestartRow(TypedDict):
    """The median call of one restart, and of its undisturbed calls where it has enough of them."""

    p50_ms: float
    undisturbed_p50_ms: float | None


class Absent(TypedDict):
    """What could not run here."""

    model: str
    device: str
    reason: str


class ModelFacts(TypedDict):
    """Which model ran, and what ran it."""

    model: str
    sha256: str | None  # None for rivals
    file_bytes: int | None
    multiply_adds: int | None  # per face
    mae: list[ModelError]
    parity: dict[str, object]
    session: dict[str, object]
    device: str  # as asked for
    threads: int


class Facts(ModelFacts):
    """The same for calls with so many faces."""

    batch: int
    flop_per_call: int | None
    bytes_per_call: int  # every weight once, and the crops
    gpu_mb: float | None


class Sustained(TypedDict, total=False):
    """What a sustained run adds."""

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
    """A quotient with its range over rounds."""

    rounds: int


class Likeness(TypedDict):
    """How steady the numbers are that two loops show, about each face's median, and how far the two medians are apart."""

    deviation: float
    plain_deviation: float
    median_difference: float


class PlainLoop(Likeness):
    """The project's threads against the loop one would write by hand."""

    frames_per_s: float
    plain_frames_per_s: float
    times: Times


class StageTimes(TypedDict):
    """Where a frame's time goes, in ms by stage; the last stage is the whole."""

    faces: int | str
    stages: dict[str, Summary]
    means_ms: dict[str, float]


class StageFigures(StageTimes, total=False):
    """The clip as it is has its own share and the plain loop beside it; a crowd how many faces were shown."""

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
