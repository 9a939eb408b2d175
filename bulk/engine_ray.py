"""Read units with Ray Data: a pool of actors on this machine or on a cluster. Ray limits the queue and retries failures."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from .inputs import Unit
from .options import BulkOptions
from .reading import UnitDone, UnitReader


class Batch(TypedDict):
    """A Ray block with one unit, pickled, as its column."""

    unit: npt.NDArray[np.object_]


class Actor:
    """A Ray actor with a model and a detector. It writes units to the output folder, which every node must reach."""

    def __init__(self, options: BulkOptions) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._reader = UnitReader(options)

    def __call__(self, batch: Batch) -> Batch:
        """Read the units of a batch; every batch has one unit."""
        done = [pickle.dumps(self._reader.read(pickle.loads(unit))) for unit in batch["unit"]]
        return {"unit": np.array(done, np.object_)}


def read_with_ray(options: BulkOptions, units: Sequence[Unit], workers: int) -> Iterator[UnitDone]:
    """Yield each unit when it is finished, in any order."""
    import ray  # pyright: ignore[reportMissingImports]  (the extra ray)

    started_here = not ray.is_initialized()
    if started_here:
        environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        if options.address is None:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, runtime_env=environment)
        else:
            ray.init(address=options.address, log_to_driver=False, runtime_env=environment)
    try:
        packed = [pickle.dumps(unit) for unit in units]
        data = ray.data.from_items([{"unit": item} for item in packed], override_num_blocks=max(1, len(packed)))
        # Ray restarts an actor that died and hands it the unit again, as often as it takes: the journal takes out the input at fault.
        done = data.map_batches(
            Actor,
            fn_constructor_args=(options,),
            batch_size=1,
            concurrency=workers if options.address is None else (1, workers),
            num_cpus=1,
        )
        for row in done.iter_rows():
            yield pickle.loads(row["unit"])
    finally:
        if started_here:
            ray.shutdown()
