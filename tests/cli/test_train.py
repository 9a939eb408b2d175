"""The training tells the C library to keep freed memory in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from numclip.cli.training_process import keep_memory
import numpy as np

def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(megabytes << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_memory()
faults(100), faults(100)
print(faults(100))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's allocator on Linux")
def test_a_freed_block_is_used_again_without_new_pages() -> None:
    """With the setting, the third block of 100 MB causes at most a tenth of the page faults (25,600 of 4 kB or 50 of 2 MB without)."""
    pytest.importorskip("torch", reason="needs the extra train")
    kept, plain = (
        int(subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, check=True, text=True).stdout)
        for how in ("keep", "plain")
    )
    assert plain >= 50 and kept <= plain / 10
