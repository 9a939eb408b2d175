"""`--device auto`: the fastest session that answers rightly on this machine, found once and remembered in the cache.

Candidates are the model file, and for a shipped name its INT8 sibling, in every library that is here. Each answers the same
pictures as the float32 file does in ONNX Runtime on the CPU: one that is further away than its precision may be, or not
finite, is out, because kernels differ between processors and some saturate. The rest take turns at 1 and at 8 faces. Which
one won, and why, is printed when it is found, and told by `describe()` afterwards.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import NumclipError
from ..contract.model_file import graph_sha256
from ..contract.spec import ModelSpec
from ..places import cache_dir, write_whole
from ..system import environment
from .onnx_session import OnnxSession
from .session import Outputs, Session, open_session

BATCHES = (1, 8)  # faces per call that a choice is judged by
ROUNDS, TURN_S, TURN_CALLS = 3, 0.1, 3  # a turn has at least so many calls: the first meets what the one before left
CLEARLY = 0.97  # a later candidate must be faster than this share of the best before it
FLOAT_LIMIT = 0.02 / 120  # of the task's range: what a float32 graph may differ between libraries
LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino")


@dataclass(frozen=True)
class Candidate:
    """A model file on a device."""

    path: Path
    spec: ModelSpec
    device: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.path.name} on {self.device}"


class Chosen:
    """A session, and why it is this one."""

    def __init__(self, session: Session, why: str) -> None:
        self.device, self.run, self._session, self._why = session.device, session.run, session, why

    def describe(self) -> dict[str, Any]:
        """What runs it, and why it was chosen."""
        return {**self._session.describe(), "chosen": self._why}


def choose(path: Path, spec: ModelSpec, threads: int | None) -> Session:
    """The session of one model file."""
    return choose_among([(path, spec)], threads)[1]


def choose_among(files: Sequence[tuple[Path, ModelSpec]], threads: int | None) -> tuple[Candidate, Session]:
    """The fastest right session of model files that answer the same question, the float32 one first, and what runs in it."""
    candidates = [Candidate(path, spec, device) for path, spec in files for device in _devices_here()]
    first = candidates[0]
    if len(candidates) == 1:
        return first, OnnxSession(first.path, first.spec, first.device, threads)
    key = _key(candidates, threads)
    remembered = _remembered().get(key)
    if remembered is not None:
        found = next((c for c in candidates if c.name == remembered["name"]), None)
        if found is not None:
            try:
                return found, Chosen(open_session(found.path, found.spec, found.device, threads), remembered["why"])
            except NumclipError:
                pass  # a driver or library has gone since: choose again
    found, session, why = _contest(candidates, threads)
    _remember(key, {"name": found.name, "why": why})
    print(f"numclip: auto takes {found.name}: {why}", file=sys.stderr)
    return found, Chosen(session, why)


def _contest(candidates: Sequence[Candidate], threads: int | None) -> tuple[Candidate, Session, str]:
    first = candidates[0]
    reference = OnnxSession(first.path, first.spec, "cpu", threads)
    crops = probe_crops(first.spec.crop.side, max(BATCHES))
    expected = reference.run(crops)
    ready: list[tuple[Candidate, Session]] = [(first, reference)] if first.device == "cpu" else []
    out: list[str] = []
    for candidate in candidates:
        if candidate is first and ready:
            continue
        try:
            session = open_session(candidate.path, candidate.spec, candidate.device, threads)
            apart = distance(session.run(crops), expected)
        except NumclipError as error:
            out.append(f"{candidate.name} does not start ({error})")
            continue
        limit = limit_of(candidate.spec)
        if apart <= limit:
            ready.append((candidate, session))
        else:
            out.append(f"{candidate.name} is off by {apart:.3g} {candidate.spec.task.unit} (at most {limit:.3g})")
    times = _times_ms([session for _, session in ready], crops)
    best = 0
    for at in range(1, len(ready)):
        if _mean(times[at]) < CLEARLY * _mean(times[best]):
            best = at
    told = [f"{c.name} {' and '.join(f'{ms:.2f}' for ms in t)} ms" for (c, _), t in zip(ready, times, strict=True)]
    why = f"fastest at {' and '.join(map(str, BATCHES))} faces: {', '.join(told)}" + "".join(f"; {o}" for o in out)
    return (*ready[best], why)


def probe_crops(side: int, n: int) -> npt.NDArray[np.uint8]:
    """n smooth pictures [n, S, S, 3], the same on every machine."""
    random = np.random.default_rng(0)
    rough = random.integers(0, 256, (n, 7, 7, 3)).astype(np.float32)
    return np.stack([cv2.resize(r, (side, side), interpolation=cv2.INTER_LINEAR) for r in rough]).astype(np.uint8)


def distance(got: Outputs, expected: Outputs) -> float:
    """The mean difference of the values; infinite where a number is not finite."""
    if not all(np.isfinite(a).all() for a in (got.value, got.probabilities, got.embedding)):
        return float("inf")
    return float(np.abs(got.value.astype(np.float64) - expected.value).mean())


def limit_of(spec: ModelSpec) -> float:
    """How far a file's values may be from the float32 file's in the mean: what its proof on faces showed at p99."""
    precision = spec.graph.precision
    if precision == "fp32":
        return FLOAT_LIMIT * (spec.task.high - spec.task.low)
    row = spec.parity.get(precision)
    return row.p99 if row is not None and row.p99 is not None else 0.0


def _times_ms(sessions: Sequence[Session], crops: npt.NDArray[np.uint8]) -> list[list[float]]:
    """Median time of each session at each batch size, in turns."""
    for session in sessions:
        for batch in BATCHES:
            session.run(crops[:batch])
    times = [[list[float]() for _ in BATCHES] for _ in sessions]
    for _ in range(ROUNDS):
        for mine, session in zip(times, sessions, strict=True):
            for samples, batch in zip(mine, BATCHES, strict=True):
                samples.append(_turn_ms(session, crops[:batch]))
    return [[median(samples) for samples in mine] for mine in times]


def _turn_ms(session: Session, crops: npt.NDArray[np.uint8]) -> float:
    """The fastest call of one turn: what the session can, where others use the machine too."""
    best, calls, started = float("inf"), 0, time.perf_counter()
    while calls < TURN_CALLS or time.perf_counter() - started < TURN_S:
        calls += 1
        start = time.perf_counter()
        session.run(crops)
        best = min(best, 1000 * (time.perf_counter() - start))
    return best


def _mean(times: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(times))))


def _devices_here() -> list[str]:
    """What could run a graph here, without starting it."""
    import onnxruntime as ort

    devices = ["cpu"]
    if importlib.util.find_spec("openvino") is not None:
        devices.append("openvino")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        devices.append("cuda")
    return devices


def _key(candidates: Sequence[Candidate], threads: int | None) -> str:
    facts = [environment()["cpu"], threads, [_version(name) for name in LIBRARIES]]
    facts += [[c.name, graph_sha256(c.path), limit_of(c.spec)] for c in candidates]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _remembered() -> dict[str, dict[str, str]]:
    """Earlier choices; a file that is not ours, or broken, counts as none."""
    try:
        content: Any = json.loads((cache_dir() / "sessions.json").read_text(encoding="utf-8"))
        return {str(k): {"name": str(v["name"]), "why": str(v["why"])} for k, v in content.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def _remember(key: str, choice: dict[str, str]) -> None:
    """Keep a choice; without a writable cache the next start chooses again."""
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        text = json.dumps({**_remembered(), key: choice}, indent=1)
        write_whole(cache_dir() / "sessions.json", text.encode())
    except (OSError, NumclipError):
        pass
