"""Measure a face detector: against labelled boxes, and against another detector on the same pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...runtime.contract.fields import JsonObject
from ...runtime.faces.detect import Detections, Detector

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

COUNTS = ("strangers", "strangers_of_reference", "false_on_empty", "false_on_empty_of_reference")
SAME_FACE, NEAR_FACE = 0.5, 0.4  # overlap (IoU) that counts as found; a box below the second matches no known face


@dataclass(frozen=True, eq=False)
class LabelledPicture:
    """A picture with its labelled faces; none may also mean that it was not labelled."""

    picture: Image  # [H, W, 3] BGR
    boxes_xyxy: Floats  # [B, 4] px
    kinds: tuple[str, ...]  # [B] bare, masked, …
    complete: bool  # whether every face is labelled, so that any other box is false


@dataclass(frozen=True)
class FoundShare:
    """The number of faces found, and of all faces."""

    found: int
    n: int

    @property
    def share(self) -> float | None:
        """found / n; None if n is 0."""
        return self.found / self.n if self.n else None


@dataclass(frozen=True)
class FinderReport:
    """A detector compared with a reference detector and with labels, for faces from `smallest_face_px` on."""

    reference: FoundShare  # of the reference's faces with a high score, IoU 0.5
    strangers: int  # boxes that match neither a face of the reference nor a label
    strangers_of_reference: int  # the reference's boxes that match no label, on pictures with labels
    false_on_empty: int  # boxes on pictures that certainly contain no face
    false_on_empty_of_reference: int
    labels: dict[str, FoundShare] = field(default_factory=lambda: {})  # by kind
    labels_of_reference: dict[str, FoundShare] = field(default_factory=lambda: {})
    landmarks_median: float | None = None  # mean distance from the reference's landmarks, in box sides
    landmarks_p95: float | None = None

    def to_json(self) -> JsonObject:
        """The report as stored in a model file's spec."""
        return {
            **{name: getattr(self, name) for name in COUNTS},
            "reference": _share_json(self.reference),
            "labels": {kind: _share_json(share) for kind, share in self.labels.items()},
            "labels_of_reference": {kind: _share_json(share) for kind, share in self.labels_of_reference.items()},
            "landmarks_median": _rounded(self.landmarks_median),
            "landmarks_p95": _rounded(self.landmarks_p95),
        }


def _share_json(share: FoundShare) -> JsonObject:
    return {"found": share.found, "n": share.n}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass
class _Tally:
    found: int = 0
    n: int = 0


def measure_finder(
    detector: Detector,
    reference: Detector,
    pictures: Iterable[LabelledPicture],
    *,
    score: float = 0.0,
    reference_score: float = 0.8,
    smallest_face_px: float = 24.0,
) -> FinderReport:
    """Compare a detector with a reference on the same pictures.

    score and reference_score: only faces with at least this score count. Faces smaller than `smallest_face_px` (the square root of
    the box's area) count neither as missed nor as false, for both detectors.
    """
    reached, distances = _Tally(), list[float]()
    strangers = strangers_of_reference = on_empty = on_empty_of_reference = 0
    labels, labels_of_reference = dict[str, _Tally](), dict[str, _Tally]()
    for item in pictures:
        mine, theirs = (
            _from(detector.detect(item.picture), score),
            _from(reference.detect(item.picture), reference_score),
        )
        wanted = theirs.take(np.flatnonzero(sizes_px(theirs.boxes_xyxy) >= smallest_face_px))
        shared = overlaps(wanted.boxes_xyxy, mine.boxes_xyxy)
        hit = shared.max(axis=1, initial=0) >= SAME_FACE
        reached.n, reached.found = reached.n + len(wanted), reached.found + int(hit.sum())
        if mine.landmarks is not None and wanted.landmarks is not None:
            for i in np.flatnonzero(hit):
                off = np.linalg.norm(mine.landmarks[shared[i].argmax()] - wanted.landmarks[i], axis=1).mean()
                distances.append(float(off / sizes_px(wanted.boxes_xyxy[i : i + 1])[0]))
        large, large_of_reference = (sizes_px(f.boxes_xyxy) >= smallest_face_px for f in (mine, theirs))
        unlabelled = large & _unknown(mine.boxes_xyxy, item.boxes_xyxy)
        unlabelled_of_reference = large_of_reference & _unknown(theirs.boxes_xyxy, item.boxes_xyxy)
        if item.complete and not len(item.boxes_xyxy):
            on_empty += int(large.sum())
            on_empty_of_reference += int(large_of_reference.sum())
        else:
            strangers += int((unlabelled & _unknown(mine.boxes_xyxy, theirs.boxes_xyxy)).sum())
            strangers_of_reference += int(unlabelled_of_reference.sum()) if len(item.boxes_xyxy) else 0
        for tallies, faces in ((labels, mine), (labels_of_reference, theirs)):
            _count_labels(tallies, item, faces, smallest_face_px)
    return FinderReport(
        reference=FoundShare(reached.found, reached.n),
        strangers=strangers,
        strangers_of_reference=strangers_of_reference,
        false_on_empty=on_empty,
        false_on_empty_of_reference=on_empty_of_reference,
        labels={kind: FoundShare(t.found, t.n) for kind, t in sorted(labels.items())},
        labels_of_reference={kind: FoundShare(t.found, t.n) for kind, t in sorted(labels_of_reference.items())},
        landmarks_median=float(np.median(distances)) if distances else None,
        landmarks_p95=float(np.percentile(distances, 95)) if distances else None,
    )


def overlaps(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """The intersection over union [A, B] of boxes [A, 4] and [B, 4] (xyxy)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2, dtype=np.float64)
    areas_a, areas_b = ((x[:, 2:] - x[:, :2]).prod(axis=1, dtype=np.float64) for x in (a, b))
    return shared / np.maximum(areas_a[:, None] + areas_b[None] - shared, 1e-9)


def sizes_px(boxes: Floats) -> npt.NDArray[np.float64]:
    """The square root [B] of each box's area."""
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1, dtype=np.float64))


def _from(faces: Detections, score: float) -> Detections:
    return faces.take(np.flatnonzero(faces.scores >= score))


def _unknown(boxes: Floats, known: Floats) -> npt.NDArray[np.bool_]:
    return overlaps(boxes, known).max(axis=1, initial=0) < NEAR_FACE


def _count_labels(
    tallies: dict[str, _Tally], item: LabelledPicture, faces: Detections, smallest_face_px: float
) -> None:
    found = overlaps(item.boxes_xyxy, faces.boxes_xyxy).max(axis=1, initial=0) >= SAME_FACE
    large = sizes_px(item.boxes_xyxy) >= smallest_face_px
    for kind, hit in zip(np.array(item.kinds, object)[large], found[large], strict=True):
        tally = tallies.setdefault(str(kind), _Tally())
        tally.n, tally.found = tally.n + 1, tally.found + int(hit)
