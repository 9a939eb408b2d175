"""The contenders of a benchmark: model files and other implementations, on every device, batch size and number of threads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import NumclipError
from ..runtime.contract.fields import to_json
from ..runtime.contract.model_file import resolve
from ..runtime.sessions.model import Model, load
from .contest import Call, Contender
from .crops import Faces
from .finders import CONTENDER as FINDER
from .finders import open_finder
from .options import BenchOptions
from .report import Absent, Facts, ModelFacts
from .sensors import Sensors

RIVAL = re.compile(r"[a-z0-9-]+:(?![\\/])|mobilenet-025$")  # bench/rivals.py: KIND:TOWER; not a path with a drive
ON_EVERY_DEVICE = ("random:", "random-int8:")


@dataclass(eq=False)
class Entry:
    """A contender and its identification."""

    contender: Contender
    facts: Facts
    read: Call | None = None  # the complete model with its readings, while it is open


def entries(options: BenchOptions, faces: Faces, sensors: Sensors, absent: list[Absent]) -> Iterator[Entry]:
    """Every contender on every device, with every batch size and number of threads. What cannot run on this machine is an error, or
    with skip_absent an entry in `absent`. A PyTorch implementation runs on the first device only.
    """
    for batch in options.faces_per_call:
        for threads in options.threads:
            for at, device in enumerate(options.devices):
                for name in options.models:
                    finder, rival = FINDER.match(name) is not None, RIVAL.match(name) is not None
                    if rival and at > 0 and not name.startswith(ON_EVERY_DEVICE):
                        continue
                    try:
                        if finder:
                            yield _finder_entry(name, device, threads, faces)
                        elif rival:
                            yield _rival_entry(name, device, threads, batch, faces)
                        else:
                            yield _model_entry(name, device, threads, batch, faces, sensors)
                    except (NumclipError, ModuleNotFoundError) as error:
                        if not options.skip_absent:
                            raise
                        line: Absent = {"model": Path(name).name, "device": device, "reason": str(error)}
                        if line not in absent:
                            absent.append(line)


def _model_entry(name: str, device: str, threads: int, batch: int, faces: Faces, sensors: Sensors) -> Entry:
    """A model file on a device. It is opened once before the contest, so that libraries and file are in memory."""
    before_mb, model = sensors.gpu_mb(), load(name, device, threads)
    crops = faces.crops(model.spec.crop.side, batch)
    model.session.run(crops)
    after_mb, which = sensors.gpu_mb(), facts_of(name, model, device, threads)
    gpu_mb = None if before_mb is None or after_mb is None else after_mb - before_mb
    facts = _with_work(which, which["file_bytes"] or 0, crops, gpu_mb)

    def open_anew() -> Call:
        opened = load(name, device, threads)
        entry.read = lambda: opened(crops)
        return lambda: opened.session.run(crops)

    entry = Entry(Contender(open_anew), facts)
    return entry


def _rival_entry(name: str, device: str, threads: int, batch: int, faces: Faces) -> Entry:
    """Another implementation by name; only this imports PyTorch."""
    from .rivals import open_rival

    rival = open_rival(name, threads, device)
    crops = faces.crops(rival.side, batch)
    facts: ModelFacts = {
        "model": f"{name} (random weights)",
        "sha256": None,
        "file_bytes": None,
        "multiply_adds": rival.multiply_adds,
        "mae": [],
        "parity": {},
        "session": rival.session,
        "device": rival.device,
        "threads": threads,
    }

    def open_anew() -> Call:
        call = rival.open()
        return lambda: call(crops)

    return Entry(Contender(open_anew), _with_work(facts, rival.weight_bytes, crops, None))


def _finder_entry(name: str, device: str, threads: int, faces: Faces) -> Entry:
    """A face finder, alone or followed by a model, on one picture per call."""
    finder = open_finder(name, device, threads, faces.pictures)
    size = finder.file.stat().st_size
    facts: ModelFacts = {
        "model": name,
        "sha256": finder.sha256,
        "file_bytes": size,
        "multiply_adds": None,
        "mae": [],
        "parity": {},
        "session": finder.session,
        "device": device,
        "threads": threads,
    }
    return Entry(Contender(finder.open), _with_work(facts, size, finder.picture[None], None))


def facts_of(name: str, model: Model, device: str, threads: int) -> ModelFacts:
    """The contender's file, accuracy, work per face, and library."""
    data, spec = resolve(name).read_bytes(), model.spec
    return {
        "model": Path(name).name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "file_bytes": len(data),
        "multiply_adds": spec.graph.multiply_adds,
        "mae": [{"data": m.data, "split": m.split, "mae": m.mae} for m in spec.metrics],
        "parity": {key: to_json(row) for key, row in spec.parity.items()},
        "session": asdict(model.session.facts),
        "device": device,
        "threads": threads,
    }


def _with_work(facts: ModelFacts, weight_bytes: int, crops: npt.NDArray[np.uint8], gpu_mb: float | None) -> Facts:
    """The facts with the work of a call: operations, and the least number of bytes to move (every weight once, and the crops)."""
    multiply_adds = facts["multiply_adds"]
    return {
        **facts,
        "batch": len(crops),
        "flop_per_call": None if multiply_adds is None else 2 * multiply_adds * len(crops),
        "bytes_per_call": weight_bytes + crops.nbytes,
        "gpu_mb": gpu_mb,
    }
