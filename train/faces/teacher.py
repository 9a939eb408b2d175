"""YuNet as the teacher: its raw maps on any picture, as one target per cell of the network's three maps.

YuNet answers on the same grid (strides 8, 16, 32), so each of its cells is a target for one of ours, low scores included.
It is also asked at half the size, where it sees large faces better; a cell of stride 16 there is one of stride 32 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from .network import STRIDES

HALF_SIZE_FACE_PX = 160.0  # from this side on, what YuNet says at half size counts too
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CellTargets:
    """What each cell of one picture should answer; M cells, stride after stride, row by row."""

    scores: Floats  # [M] 0 to 1
    boxes_xyxy: Floats  # [M, 4] px
    landmarks: Floats  # [M, 5, 2] px
    has_landmarks: Floats  # [M] 1 where the landmarks are known


def cell_corners(height: int, width: int) -> Floats:
    """[M, 3] x, y (px, upper left corner) and stride of each cell of a picture whose sides divide by 32."""
    cells: list[Floats] = []
    for stride in STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride].astype(np.float32) * stride
        cells.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride, np.float32)], axis=1))
    return np.concatenate(cells)


class Teacher:
    """YuNet 2023mar in ONNX Runtime, opened for pictures of any size whose sides divide by 64."""

    def __init__(self, path: Path):
        model = onnx.load(str(path))
        for i, name in enumerate(("batch", "", "height", "width")):
            if name:
                model.graph.input[0].type.tensor_type.shape.dim[i].dim_param = name
        for output in model.graph.output:
            for i, name in enumerate(("batch", "cells")):
                output.type.tensor_type.shape.dim[i].dim_param = name
        for node in model.graph.node:
            if node.op_type == "Reshape":
                for constant in model.graph.initializer:
                    if constant.name == node.input[1] and numpy_helper.to_array(constant)[0] == 1:
                        shape = numpy_helper.to_array(constant).copy()
                        shape[0] = 0
                        constant.CopyFrom(numpy_helper.from_array(shape, constant.name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def raw(self, picture: npt.NDArray[np.uint8]) -> CellTargets:
        """Every cell's answer at the picture's own size."""
        height, width = picture.shape[:2]
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
        names = [f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        answers = self._session.run(names, {"input": planes})
        found = {name: np.asarray(answer, np.float32) for name, answer in zip(names, answers, strict=True)}

        def joined(kind: str) -> Floats:
            return np.concatenate([found[f"{kind}_{stride}"][0] for stride in STRIDES])

        cells = cell_corners(height, width)
        corner, stride = cells[:, :2], cells[:, 2:]
        box = joined("bbox")
        center = corner + box[:, :2] * stride
        half = np.exp(np.minimum(box[:, 2:], 8.0)) * stride / 2
        return CellTargets(
            scores=np.sqrt(joined("cls") * joined("obj"))[:, 0],
            boxes_xyxy=np.concatenate([center - half, center + half], axis=1).astype(np.float32),
            landmarks=(corner[:, None] + joined("kps").reshape(-1, 5, 2) * stride[:, None]).astype(np.float32),
            has_landmarks=np.ones(len(cells), np.float32),
        )

    def targets(self, picture: npt.NDArray[np.uint8]) -> CellTargets:
        """Every cell's answer, large faces also as seen at half size; the better score per cell."""
        height, width = picture.shape[:2]
        whole = self.raw(picture)
        small = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        half = self.raw(np.asarray(small, np.uint8))
        sizes = [(height // stride, width // stride) for stride in STRIDES]
        counts = [h * w for h, w in sizes]
        half_counts = [n // 4 for n in counts]
        for level, source in ((1, 0), (2, 1), (2, 2)):
            start, half_start = sum(counts[:level]), sum(half_counts[:source])
            where = np.arange(half_counts[source])
            if source == 2:  # a cell of stride 32 there covers four here
                h, w = sizes[2]
                where = np.repeat(np.repeat(where.reshape(h // 2, w // 2), 2, axis=0), 2, axis=1).ravel()
            there = half_start + where
            here = start + np.arange(counts[level])
            boxes = half.boxes_xyxy[there] * 2
            side = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
            better = (half.scores[there] > whole.scores[here]) & (side >= HALF_SIZE_FACE_PX)
            whole.scores[here[better]] = half.scores[there[better]]
            whole.boxes_xyxy[here[better]] = boxes[better]
            whole.landmarks[here[better]] = half.landmarks[there[better]] * 2
        return whole


def suppress(targets: CellTargets, score_threshold: float, overlap_threshold: float = 0.3) -> npt.NDArray[np.intp]:
    """The indices of the cells that stay after non-maximum suppression, best score first."""
    kept: list[int] = []
    candidates = np.flatnonzero(targets.scores >= score_threshold)
    for i in candidates[np.argsort(-targets.scores[candidates], kind="stable")]:
        if not kept or overlaps(targets.boxes_xyxy[i : i + 1], targets.boxes_xyxy[kept]).max() <= overlap_threshold:
            kept.append(int(i))
    return np.array(kept, np.intp)


def overlaps(a: Floats, b: Floats) -> Floats:
    """[A, B] intersection over union of [A, 4] with [B, 4] boxes (xyxy)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas_a, areas_b = ((x[:, 2:] - x[:, :2]).clip(0).prod(axis=1) for x in (a, b))
    return shared / np.maximum(areas_a[:, None] + areas_b[None] - shared, 1e-9)
