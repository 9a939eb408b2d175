"""The faces that a training keeps, so that its checkpoint can be checked at export without the data set.

They are pictures of people: they stay in the cache folder of the training machine, named by the checkpoint's SHA-256.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from ...runtime.places import cache_dir, write_whole
from .parity import ProofFaces


def keep_proof(checkpoint_sha256: str, faces: ProofFaces) -> None:
    """Write the faces into the cache; raises OSError or OutputError if it cannot be written."""
    path = _file(checkpoint_sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, crops=faces.crops, labels=faces.labels, said=faces.said)
    write_whole(path, content.getvalue())


def kept_proof(checkpoint_sha256: str) -> ProofFaces | None:
    """The faces kept for a checkpoint; None if this machine has none."""
    try:
        with np.load(_file(checkpoint_sha256)) as kept:
            return ProofFaces(kept["crops"], kept["labels"], str(kept["said"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _file(checkpoint_sha256: str) -> Path:
    return cache_dir() / "proofs" / f"{checkpoint_sha256}.npz"
