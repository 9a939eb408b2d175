"""Process a collection: list the inputs, read those that are missing, merge the tables, write the summary."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version

from ..errors import UsageError
from ..runtime.contract.model_file import read_spec, resolve
from ..runtime.sessions.engine_file import read_sidecar
from .inputs import Input, Unit, cut, list_inputs
from .local import read_locally, usable_processors
from .options import STAGES, BulkOptions, BulkSummary
from .reading import UnitDone, UnitReader, content_sha256, model_sha256
from .schema import SCHEMA_VERSION
from .store import Store, is_result

log = logging.getLogger(__name__)


def bulk(options: BulkOptions) -> BulkSummary:
    """Read every picture and video of a collection into Parquet tables in `options.out`.

    To continue a killed run, make the same call again. Raises UsageError if options contradict each other or the folder holds
    another run; SourceError if an input does not exist; OutputError if the folder cannot be written.

        from numclip.bulk import BulkOptions, bulk
        summary = bulk(BulkOptions(inputs=("photos/",), out=Path("ages")))
    """
    started_s = time.perf_counter()
    _check(options)
    from tqdm import tqdm

    listed = [
        found
        for found in list_inputs(options.inputs, options.from_file)
        if found.place != "file" or not is_result(found.path, options.out)
    ]
    part, parts = options.shard
    every = list(cut(listed, options.unit_size))
    collection = hashlib.sha256("\n".join(unit.name for unit in every).encode()).hexdigest()
    units = every[part - 1 :: parts]
    if options.dedupe:
        units = _with_duplicates(units)
    settings = _settings(options)
    store = Store(options.out, options.shard)
    missing = store.open(settings, units, options.update, collection)
    for journal in store.units.glob("*.journal"):
        journal.unlink()
    workers = options.workers or usable_processors()
    stage_seconds = dict[str, float].fromkeys(STAGES, 0.0)
    total = sum(len(unit.inputs) for unit in missing)
    if len(missing) < len(units):
        log.info(f"continuing: {len(units) - len(missing)} of {len(units)} units are already done")
    with tqdm(total=total, unit="file", disable=None, file=sys.stderr) as progress:
        for done in _results(options, missing, workers):
            progress.update(done.inputs)
            for stage, seconds in done.stage_seconds.items():
                stage_seconds[stage] += seconds
    counts, files = store.merge(units, options.formats)
    summary = BulkSummary(
        inputs=counts.inputs,
        faces=counts.faces,
        without_faces=counts.without_faces,
        errors=counts.errors,
        duplicates=counts.duplicates,
        units=len(units),
        units_resumed=len(units) - len(missing),
        workers=workers,
        seconds=time.perf_counter() - started_s,
        stage_seconds=stage_seconds,
        files=(*files, store.summary.name),
    )
    store.finish({"schema": SCHEMA_VERSION, "settings": settings, **summary.to_json()})
    return summary


def _results(options: BulkOptions, units: Sequence[Unit], workers: int) -> Iterator[UnitDone]:
    if not units:
        return iter(())
    if options.engine == "ray":
        from .engine_ray import read_with_ray

        return read_with_ray(options, units, workers)
    if workers == 1:
        reader = UnitReader(options)
        return map(reader.read, units)
    return read_locally(options, units, workers)


def _check(options: BulkOptions) -> None:
    part, parts = options.shard
    if not 1 <= part <= parts:
        raise UsageError(f"expected --shard I/N with I from 1 to N, got {part}/{parts}")
    if options.unit_size < 1 or (options.workers is not None and options.workers < 1):
        raise UsageError(
            f"expected --unit-size and --workers of at least 1, got {options.unit_size} and {options.workers}"
        )
    if not 0 < options.level < 1:
        raise UsageError(f"expected --interval between 0 and 1, got {options.level:g}")
    if options.video not in ("track", "frame"):
        try:
            good = float(options.video) > 0
        except ValueError:
            good = False
        if not good:
            raise UsageError(f"expected --video track, frame or seconds above 0, got {options.video!r}")
    if options.address is not None and options.engine != "ray":
        raise UsageError(
            f"expected --engine ray with --address, got --engine {options.engine}; add --engine ray, or leave --address out"
        )


def _settings(options: BulkOptions) -> dict[str, object]:
    """Return the settings that determine the rows; all rows of a folder have the same settings.

    Raises UsageError if the model has no interval of this level.
    """
    path = resolve(options.model)
    engine = path.suffix == ".engine"
    spec = read_sidecar(path)[0] if engine else read_spec(path)
    if spec.calibration is not None:
        spec.calibration.table.check_level(options.level)
    calibrated = spec.to_json().encode() if engine else path.read_bytes()
    return {
        "schema": SCHEMA_VERSION,
        "numclip": version("numclip"),
        "model": options.model,
        "model_sha256": model_sha256(path),
        "calibration_sha256": hashlib.sha256(calibrated).hexdigest(),
        "detector": options.detector,
        "level": options.level,
        "min_face_px": options.min_face_px,
        "max_faces": options.max_faces,
        "video": options.video,
        "unit_size": options.unit_size,
        "dedupe": options.dedupe,
        "shard": list(options.shard),
    }


def _with_duplicates(units: Sequence[Unit]) -> list[Unit]:
    """Mark each duplicate with the first source that has the same bytes. Only files of equal size are hashed.

    The mark is part of a unit's name: if the first file changes or is gone, the units of its duplicates are read again.
    """
    sizes: dict[int, list[Input]] = {}
    for unit in units:
        for found in unit.inputs:
            if found.size > 0 and not found.fault and found.place in ("file", "tar", "zip"):
                sizes.setdefault(found.size, []).append(found)
    first: dict[str, str] = {}
    copies: dict[str, str] = {}
    for same in sizes.values():
        for found in same if len(same) > 1 else ():
            digest = content_sha256(found)
            if digest is not None and first.setdefault(digest, found.source) != found.source:
                copies[found.source] = first[digest]
    return [
        Unit(tuple(replace(found, duplicate_of=copies.get(found.source, "")) for found in unit.inputs))
        for unit in units
    ]
