"""Export a face finder's checkpoint to one self-describing .onnx file, checked against PyTorch."""

from __future__ import annotations

import hashlib
import math
import tempfile
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from ..calibration.measure.finders import LabelledPicture, measure_finder
from ..errors import ModelError, UsageError
from ..runtime.contract.faces_spec import FacesSource, FacesSpec
from ..runtime.contract.fields import JsonObject
from ..runtime.contract.licences import UNSTATED, Licence, Licences
from ..runtime.contract.model_file import FINDER, write_spec
from ..runtime.faces.finder import FacesNano
from ..runtime.faces.opening import enlarging
from ..runtime.faces.yunet import YuNetDetector
from ..runtime.places import check_output, write_whole
from ..runtime.sessions.faces_session import Found
from ..runtime.sessions.opening import open_faces_session
from ..train.faces.network import STRIDES, FacesNetwork
from ..train.faces.pictures import read_scenes
from ..train.faces.training import load_network
from .faces_to_onnx import MOST_CANDIDATES, maps_of, to_onnx

SCORE_THRESHOLD, OVERLAP_THRESHOLD = 0.3, 0.3
RELIABLE_PX, SMALLEST_PX = 48.0, 24.0  # smallest face, longer side, that it finds almost always
SURE, LIKELY = 0.8, 0.6  # scores at which the tracker starts and continues a track
PROOF_SIDES_PX = ((192, 256), (97, 203))
EVERYTHING = 1e-6  # score threshold of the check, so that every picture has candidates
LARGEST_DIFFERENCE_PX = 0.01
SOURCES = (
    FacesSource("scenes: public face-mask photographs and Caltech-101", "boxes, backgrounds", "no licence text", None),
    FacesSource("FairFace", "portraits", "CC BY 4.0", True),
    FacesSource("landmarks: 80 px faces", "portraits", "no licence text", None),
    FacesSource("YuNet 2023mar", "teacher of boxes, landmarks and scores", "MIT", True),
)
LICENCES = Licences(
    code=Licence("Apache-2.0"),
    weights=Licence(
        f"Apache-2.0 AND {UNSTATED}",
        "Apache-2.0 as far as it is ours to give; parts of the training pictures come without a licence text",
    ),
    data=Licence(
        f"CC-BY-4.0 AND MIT AND {UNSTATED}", "; ".join(f"{source.name}: {source.licence}" for source in SOURCES)
    ),
)


@dataclass(frozen=True)
class FacesExportOptions:
    """Options of `export_faces`."""

    checkpoint: Path
    out: Path  # the .onnx
    name: str = FINDER
    sure_at: float = (
        SURE  # the network's score that becomes 0.8 in the file: about as many false boxes as YuNet has at 0.8
    )
    likely_at: float = LIKELY  # the network's score that becomes 0.6 in the file
    smallest_face_px: float = RELIABLE_PX
    scenes: Path | None = None  # photographs with boxes; the metrics in the spec are measured on their test split
    reference: Path | None = None  # YuNet's file, for the comparison
    provenance: JsonObject = field(default_factory=lambda: {})


def export_faces(options: FacesExportOptions) -> FacesSpec:
    """Write the finder's file; if its outputs differ from PyTorch's, raises ModelError and writes nothing. Raises UsageError."""
    check_output(options.out)
    network = load_network(options.checkpoint)
    if not 0 < options.likely_at < options.sure_at < 1:
        raise UsageError(
            f"expected --likely-at below --sure-at, and both between 0 and 1, got {options.likely_at:g} and {options.sure_at:g}; "
            "change one of them"
        )
    gain = (logit(SURE) - logit(LIKELY)) / (logit(options.sure_at) - logit(options.likely_at))
    shift = logit(SURE) - gain * logit(options.sure_at)
    for output in network.outputs:
        assert isinstance(output, nn.Conv2d) and output.bias is not None
        output.weight.data[0] *= gain
        output.bias.data[0] = output.bias.data[0] * gain + shift
    spec = FacesSpec(
        name=options.name,
        strides=STRIDES,
        score_threshold=SCORE_THRESHOLD,
        overlap_threshold=OVERLAP_THRESHOLD,
        max_candidates=MOST_CANDIDATES,
        smallest_face_px=options.smallest_face_px,
        sources=SOURCES,
        provenance={
            "checkpoint_sha256": hashlib.sha256(options.checkpoint.read_bytes()).hexdigest(),
            "scores": {"sure_at": options.sure_at, "likely_at": options.likely_at},
            "teacher": "YuNet 2023mar",
            "versions": {name: version(name) for name in ("torch", "onnx")},
            **options.provenance,
        },
        licences=LICENCES,
    )
    model = to_onnx(network, score_threshold=SCORE_THRESHOLD, overlap_threshold=OVERLAP_THRESHOLD)
    with tempfile.TemporaryDirectory(prefix="numclip-faces-") as folder:
        proof = Path(folder) / "proof.onnx"
        everything = to_onnx(network, score_threshold=EVERYTHING, overlap_threshold=OVERLAP_THRESHOLD)
        proof.write_bytes(everything.SerializeToString())
        session = open_faces_session(proof, "cpu", 1)
        for height, width in PROOF_SIDES_PX:
            pictures = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
            _prove(options.checkpoint, network, session.run(pictures), pictures)
        written = Path(folder) / "faces.onnx"
        written.write_bytes(model.SerializeToString())
        write_spec(written, spec)
        if options.scenes is not None and options.reference is not None:
            spec = replace(spec, metrics=tuple(finder_metrics(written, options.scenes, options.reference)))
            write_spec(written, spec)
        write_whole(options.out, written.read_bytes())
    return spec


def finder_metrics(file: Path, scenes: Path, reference: Path) -> list[JsonObject]:
    """Measure a finder and YuNet on the test split of photographs: at the resolution for video, and at that for pictures."""
    pictures = [
        LabelledPicture(scene.picture, scene.boxes_xyxy, scene.kinds, not len(scene.boxes_xyxy))
        for scene in read_scenes(scenes, "test")
    ]
    yunet, found = YuNetDetector(SURE, file=reference), list[JsonObject]()
    video = FacesNano(SURE, SMALLEST_PX, "cpu", 1, file)
    for looks, finder in (("video", video), ("picture", enlarging(video))):
        report = measure_finder(finder, yunet, pictures, score=SURE, reference_score=SURE, smallest_face_px=SMALLEST_PX)
        which: JsonObject = {"data": scenes.name, "split": "test", "looks": looks}
        found.append({**which, "score": SURE, "smallest_face_px": SMALLEST_PX, **report.to_json()})
    video.close()
    return found


def _prove(checkpoint: Path, network: FacesNetwork, found: Found, pictures: npt.NDArray[np.uint8]) -> None:
    """Raise ModelError unless the graph's best face in each picture equals the best face of PyTorch's maps."""
    maps = maps_of(network, pictures)
    for i in range(len(pictures)):
        level = max(range(len(STRIDES)), key=lambda k: maps[k][i, 0].max())
        one, stride = maps[level][i], STRIDES[level]
        row, column = np.unravel_index(one[0].argmax(), one[0].shape)
        expected = (np.array([column, row]) + one[5:, row, column].reshape(5, 2)) * stride
        first = int(np.flatnonzero(found.picture == i)[0])
        score = 1 / (1 + np.exp(-one[0, row, column]))
        if (
            np.abs(found.landmarks[first] - expected).max() > LARGEST_DIFFERENCE_PX
            or abs(found.scores[first] - score) > LARGEST_DIFFERENCE_PX * score
        ):
            raise ModelError(
                f"{checkpoint}: expected landmarks {np.round(expected, 2).tolist()} at score {score:.4g}, got "
                f"{np.round(found.landmarks[first], 2).tolist()} at {found.scores[first]:.4g}; report this"
            )


def logit(share: float) -> float:
    """Return the number whose sigmoid is `share`."""
    return math.log(share / (1 - share))
