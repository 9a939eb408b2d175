"""Read units with worker processes on this machine. A process that dies is replaced, and its unit is read again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from ..errors import NumclipError, OutputError
from .inputs import Unit
from .options import BulkOptions
from .reading import UnitDone, UnitReader

EARLY_DEATHS = 5  # deaths of workers before their first unit; more mean that no worker can start
TRIES = 50  # deaths in one unit; the journal skips an input after two, so this many have another cause


def read_locally(options: BulkOptions, units: Sequence[Unit], workers: int) -> Iterator[UnitDone]:
    """Yield each unit when it is finished, in any order. Raises the first NumclipError of a worker."""
    waiting = deque((unit, 0) for unit in units)
    early_deaths = 0
    pool: dict[Connection, tuple[SpawnProcess, tuple[Unit, int] | None]] = {}
    try:
        for _ in range(min(workers, len(units))):
            process, pipe = _start(options)
            pool[pipe] = (process, None)
        while pool:
            for pipe in wait(list(pool)):
                assert isinstance(pipe, Connection)
                process, unit = pool.pop(pipe)
                try:
                    answer = pipe.recv()
                except (EOFError, OSError):  # the worker died
                    process.join()
                    early_deaths += unit is None
                    if early_deaths > EARLY_DEATHS or (unit is not None and unit[1] >= TRIES):
                        raise NumclipError(
                            f"a worker process ended with code {process.exitcode} before it finished a unit; free memory, or lower --workers"
                        ) from None
                    if unit is not None:
                        waiting.appendleft((unit[0], unit[1] + 1))
                    process, pipe = _start(options)
                    pool[pipe] = (process, None)
                    continue
                if isinstance(answer, NumclipError):
                    raise answer
                if isinstance(answer, UnitDone):
                    yield answer
                if waiting:
                    unit = waiting.popleft()
                    pipe.send(unit[0])
                    pool[pipe] = (process, unit)
                else:
                    pipe.send(None)
                    process.join()
    finally:
        for process, _ in pool.values():
            process.terminate()
            process.join()


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _start(options: BulkOptions) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, options), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(pipe: Connection, options: BulkOptions) -> None:
    """Run a worker: open model and detector, then read units until there are none. It ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ[name] = "1"
    import cv2

    cv2.setNumThreads(1)  # one thread per worker, because there is one worker per processor
    try:
        reader = UnitReader(options)
        pipe.send("ready")
        while (unit := pipe.recv()) is not None:
            pipe.send(reader.read(unit))
    except (EOFError, BrokenPipeError):
        return
    except OSError as error:
        pipe.send(OutputError(f"{options.out}: {error.strerror or error}; free space and run the same command again"))
    except NumclipError as error:
        pipe.send(error)
