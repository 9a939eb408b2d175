"""The contenders of a benchmark: model files and rivals, on every device, with every batch size and number of threads."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NumclipError
from ..runtime.contract.model_file import resolve
from ..runtime.sessions.model import Model, load
from .contest import Call, Contender
from .crops import Faces
from .sensors import Sensors

DEFAULT_BATCH = {"single-stream": [1], "multi-stream": [8], "offline": [32], "sustained": [1]}
RIVAL = re.compile(r"[a-z0-9-]+:(?![\\/])|mobilenet-025$")  # bench/rivals.py: KIND:TOWER; not a path with a drive
ON_EVERY_DEVICE = ("random:", "random-int8:")


@dataclass(eq=False)
class Entry:
    """A contender with what identifies it."""

    contender: Contender
    facts: dict[str, Any]
    read: Call | None = None  # the whole model, readings and all, while it is open


def entries(args: argparse.Namespace, faces: Faces, sensors: Sensors, absent: list[dict[str, str]]) -> Iterator[Entry]:
    """Every contender on every device with every batch size and number of threads; what cannot run here is an error, or
    with --skip-absent a line in `absent`. A rival in PyTorch runs beside the first device only."""
    for batch in args.batch or DEFAULT_BATCH[args.scenario]:
        for threads in args.threads:
            for at, device in enumerate(args.device):
                for name in args.models:
                    rival = RIVAL.match(name) is not None
                    if rival and at > 0 and not name.startswith(ON_EVERY_DEVICE):
                        continue
                    try:
                        if rival:
                            yield _rival_entry(args._open_rival(name, threads, device), name, threads, batch, faces)
                        else:
                            yield _model_entry(name, device, threads, batch, faces, sensors)
                    except (NumclipError, ModuleNotFoundError) as error:
                        if not args.skip_absent:
                            raise
                        line = {"model": Path(name).name, "device": device, "reason": str(error)}
                        if line not in absent:
                            absent.append(line)


def _model_entry(name: str, device: str, threads: int, batch: int, faces: Faces, sensors: Sensors) -> Entry:
    """A model file on a device. Opened once before the contest, so that a load finds its libraries and its file warm."""
    before_mb, model = sensors.gpu_mb(), load(name, device, threads)
    crops = faces.crops(model.spec.crop.side, batch)
    model.session.run(crops)
    after_mb, which = sensors.gpu_mb(), identity(name, model)
    facts = {
        **which,
        **facts_of(model),
        **_work(model.spec.graph.multiply_adds, which["file_bytes"], crops),
        "gpu_mb": None if before_mb is None or after_mb is None else after_mb - before_mb,
        "device": device,
        "threads": threads,
    }

    def open_anew() -> Call:
        opened = load(name, device, threads)
        entry.read = lambda: opened(crops)
        return lambda: opened.session.run(crops)

    entry = Entry(Contender(open_anew), facts)
    return entry


def _rival_entry(rival: Any, name: str, threads: int, batch: int, faces: Faces) -> Entry:
    """A rival that the command line opened (bench/rivals.py)."""
    crops = faces.crops(rival.side, batch)
    facts = {
        "model": f"{name} (random weights)",
        "sha256": None,
        "file_bytes": None,
        "multiply_adds": rival.multiply_adds,
        "mae": [],
        "parity": {},
        "session": rival.session,
        **_work(rival.multiply_adds, rival.weight_bytes, crops),
        "gpu_mb": None,
        "device": rival.device,
        "threads": threads,
    }

    def open_anew() -> Call:
        call = rival.open()
        return lambda: call(crops)

    return Entry(Contender(open_anew), facts)


def identity(name: str, model: Model) -> dict[str, Any]:
    """Which bytes run: for a name on device `auto` perhaps those of its INT8 form, which is then said."""
    asked = resolve(name)
    path = model.path or asked
    data, label = path.read_bytes(), Path(name).name
    return {
        "model": label if path == asked else f"{label} ({path.name})",
        "sha256": hashlib.sha256(data).hexdigest(),
        "file_bytes": len(data),
    }


def facts_of(model: Model) -> dict[str, Any]:
    """How good, how much work per face, what runs it."""
    spec = model.spec
    return {
        "multiply_adds": spec.graph.multiply_adds,
        "mae": [{"data": m.data, "split": m.split, "mae": m.mae} for m in spec.metrics],
        "parity": {key: row.to_json() for key, row in spec.parity.items()},
        "session": model.session.describe(),
    }


def _work(multiply_adds: int | None, weight_bytes: int, crops: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Per call: operations, and the bytes that have to move at the least, every weight once and the crops."""
    flop = None if multiply_adds is None else 2 * multiply_adds * len(crops)
    return {"batch": len(crops), "flop_per_call": flop, "bytes_per_call": weight_bytes + crops.nbytes}
