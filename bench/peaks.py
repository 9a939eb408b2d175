"""The peak performance of this machine, so that a report can relate a model's speed to it."""

from __future__ import annotations

import os
import subprocess
import sys

from ..runtime.contract.model_file import message
from .report import Peak

PEAK_SECONDS = (
    0.8  # for each of the three; the fastest repetition counts, so that other processes do not lower the peak
)
PEAK_CODE = """
import itertools, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import onnxruntime
threads, seconds, chunk = int(sys.argv[1]), float(sys.argv[2]), 1 << 20
def best(work, items):
    rates, end = [], time.perf_counter() + seconds
    for item in itertools.cycle(items):  # pieces of one or two milliseconds, most of which run undisturbed on a busy system
        start = time.perf_counter()
        done = work(item)
        rates.append(done / (time.perf_counter() - start))
        if time.perf_counter() > end:
            return max(rates) / 1e9
def numpy_product(a):
    a @ a
    return 2 * len(a) ** 3
def onnx_product(a):
    session.run(None, {"a": a})
    return 2 * len(a) ** 3
def copy(parts):
    list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))
    return 2 * 4 * chunk * threads
sides = [np.ones((side, side), np.float32) for side in (384, 512, 768)]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(bytes.fromhex(sys.argv[3]), options, providers=["CPUExecutionProvider"])
gemm = max(best(onnx_product, sides), best(numpy_product, sides))
del session  # also ends its waiting threads
pieces = [[np.ones((2, chunk), np.float32) for _ in range(threads)] for _ in range(32)]  # larger than the caches
with ThreadPoolExecutor(threads) as pool:
    print(gemm, best(copy, pieces))
"""
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def peaks(threads: int) -> Peak:
    """The machine's peak performance with this many threads: float32 matrix products in GFLOP/s, copies in GB/s.

    The product is the faster one of numpy's and ONNX Runtime's, whose libraries are tuned for different processors. It runs in a
    separate process, because numpy's library sets its number of threads when it is loaded. A copy counts each byte twice, read and
    written.
    """
    limits = dict.fromkeys(THREAD_LIMITS, str(threads))
    command = [sys.executable, "-c", PEAK_CODE, str(threads), str(PEAK_SECONDS), _square().hex()]
    done = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=True)
    gemm, copy = (round(float(word), 1) for word in done.stdout.split())
    return {"threads": threads, "gemm_gflops": gemm, "copy_gb_s": copy}


def _square() -> bytes:
    """An ONNX model, b = a @ a with float32 [n, n], written by the field numbers of ONNX's messages: IR 8, operators 17."""
    shape = message(2, 2 * message(1, message(2, b"n")))
    a, b = (message(1, name) + message(2, message(1, b"\x08\x01" + shape)) for name in (b"a", b"b"))
    node = 2 * message(1, b"a") + message(2, b"b") + message(4, b"MatMul")
    graph = message(1, node) + message(2, b"square") + message(11, a) + message(12, b)
    return b"\x08\x08" + message(7, graph) + message(8, b"\x10\x11")
