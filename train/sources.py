"""What a network learned from, through its start and its teachers too, and on what terms each is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..calibration.data.datasets import LICENCES, Dataset
from ..runtime.contract.licences import UNSTATED, Licence
from .checkpoint import read_record
from .options import TrainOptions
from .records import CheckpointRecord, Source
from .tower_weights import read_start
from .training_data import short_name

NOT_RECORDED = Licence(UNSTATED, "not recorded")


def sources_of(options: TrainOptions, data: Sequence[Dataset]) -> tuple[Source, ...]:
    """Of a training that begins: its data sets, and all that its start weights, start and teachers learned from."""
    found = [Source("data", short_name(d.name), LICENCES[d.kind]) for d in data]
    if options.start is None and options.pretrained is not None:
        start = read_start(Path(options.pretrained))
        name = start.name if start else Path(options.pretrained).name
        licence = Licence.from_text(start.licence) if start else Licence(UNSTATED, f"that of {name}")
        found.append(Source("start weights", name, licence))
    for path in (*([] if options.start is None else [options.start]), *options.teachers):
        found += recorded_sources(read_record(path))
    return tuple(dict.fromkeys(found))


def recorded_sources(record: CheckpointRecord) -> tuple[Source, ...]:
    """Of a checkpoint; of one older than the field `sources`, what its other fields tell."""
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
