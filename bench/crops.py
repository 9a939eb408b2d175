"""Real faces to time models on, cropped by the model's own crop contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..demo.clip import portraits
from ..errors import SourceError
from ..runtime.contract.spec import CropSpec
from ..runtime.faces.crops import crop_faces
from ..runtime.faces.detect import Detector
from ..runtime.live.sources import open_source

ENOUGH = 64


class Faces:
    """The faces of pictures or a clip; without a source, the two portraits that ship with matplotlib and scikit-image."""

    def __init__(self, source: str | None, detector: Detector, crop: CropSpec) -> None:
        self._detector, self._crop = detector, crop
        self.pictures: list[npt.NDArray[np.uint8]] = []
        found = 0
        for picture in _pictures(source):
            faces = len(detector.detect(picture))
            if faces:
                self.pictures.append(picture)
            found += faces
            if found >= ENOUGH:
                break
        if source is not None and not found:
            raise SourceError(f"{source}: {detector.name} found no face; give other pictures")
        self.said = f"{min(found, ENOUGH)} faces of {source or 'two portraits'}" if found else "random pixels"

    def crops(self, side: int, batch: int) -> npt.NDArray[np.uint8]:
        """The crops uint8 [batch, side, side, 3] RGB: the faces in turn, repeated if there are fewer."""
        crop = replace(self._crop, side=side)
        cut = [
            crop_faces(picture, self._detector.detect(picture), crop, self._detector.name) for picture in self.pictures
        ]
        if not cut:
            return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
        faces = np.concatenate(cut)[:ENOUGH]
        return np.ascontiguousarray(faces[np.arange(batch) % len(faces)])


def _pictures(source: str | None) -> Iterator[npt.NDArray[np.uint8]]:
    if source is not None:
        with open_source(source) as opened:
            for frame in opened:
                yield frame.image
        return
    try:
        yield from portraits()
    except ImportError:  # without the extra demo there are no portraits; the pixels' content does not affect times
        return
