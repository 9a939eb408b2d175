"""What a network learned from, including through its start weights and teachers, and the licence of each source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..calibration.data.datasets import LICENCES, Dataset
from ..runtime.contract.licences import UNSTATED, Licence, Licences, combined
from .checkpoint import read_record
from .options import TrainOptions
from .records import CheckpointRecord, Source
from .teacher import is_table, read_predictions
from .tower_weights import StartRecord, read_start
from .training_data import short_name

CODE_LICENCE = "Apache-2.0"
NOT_RECORDED = Licence(UNSTATED, "not recorded")


def sources_of(options: TrainOptions, data: Sequence[Dataset]) -> tuple[Source, ...]:
    """Return the sources of a new training: its data sets, and all sources of its start weights, start checkpoint and teachers."""
    found = [Source("data", short_name(d.name), LICENCES[d.kind]) for d in data]
    if options.start is None and options.pretrained is not None:
        start = read_start(Path(options.pretrained))
        name = start.name if start else Path(options.pretrained).name
        licence = _of_start(start) if start else Licence(UNSTATED, f"that of {name}")
        found.append(Source("start weights", name, licence))
    for path in (*([] if options.start is None else [options.start]), *options.teachers):
        if is_table(path):
            table = read_predictions(path)
            found.append(Source("teacher", table.name, table.licence))
        else:
            found += recorded_sources(read_record(path))
    return tuple(dict.fromkeys(found))


def _of_start(start: StartRecord) -> Licence:
    licence = Licence.from_text(start.licence)
    return replace(licence, note=start.note) if licence.spdx and start.note else licence


def recorded_sources(record: CheckpointRecord) -> tuple[Source, ...]:
    """Return the sources of a checkpoint; for files older than the field `sources`, those that other fields imply."""
    training, started = record.training, record.towers.pretrained
    if training.sources is not None:
        return training.sources
    found = [Source("data", name, LICENCES.get(name.partition(":")[0], NOT_RECORDED)) for name in training.data]
    if started is not None:
        found.append(Source("start weights", started, Licence(UNSTATED, f"that of {started}")))
    taught = training.flags.get("teacher")
    if isinstance(taught, (list, tuple)):
        found += [Source("teacher", str(name), NOT_RECORDED) for name in taught]
    return tuple(found)


def licences_of(record: CheckpointRecord, backbone: str | None = None) -> Licences:
    """Return the licences for a checkpoint's model file, from all sources of its weights: data, start weights, teachers.

    backbone: the licence of the start weights, if the checkpoint does not record it.
    """
    sources = recorded_sources(record)
    data = [source.licence for source in sources if source.kind == "data"]
    starts = [source.licence for source in sources if source.kind == "start weights"]
    if backbone is not None:
        starts = [Licence.from_text(backbone)]
    teachers = [
        replace(source.licence, note=f"teacher {source.name}: {source.licence.note}")
        for source in sources
        if source.kind == "teacher"
    ]
    return Licences(
        code=Licence(CODE_LICENCE),
        weights=combined([*data, *starts, *teachers])
        if data
        else Licence(UNSTATED, "what it learned from is not recorded"),
        backbone=combined(starts) if starts else None,
        data=combined(data) if data else NOT_RECORDED,
    )
