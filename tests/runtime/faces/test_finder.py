"""The shipped face finder: real faces, any picture size, many pictures, every session, and as the pipeline's default."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from numclip.errors import DetectorError, ModelError
from numclip.runtime.contract.faces_spec import FacesSpec
from numclip.runtime.contract.model_file import FINDER, MODELS, graph_sha256, read_faces_spec, read_spec, write_spec
from numclip.runtime.faces.detect import Detections, detect_all
from numclip.runtime.faces.finder import FacesNano, no_emblem
from numclip.runtime.faces.opening import open_detector
from numclip.runtime.sessions.faces_session import Found
from numclip.runtime.sessions.opening import open_faces_session
from numclip.runtime.sessions.tensorrt_faces import found_of

FILE = MODELS / f"{FINDER}.onnx"


@pytest.fixture(scope="module")
def finder() -> FacesNano:
    """The shipped finder on one CPU thread."""
    return FacesNano(device="cpu", threads=1)


def the_one(faces: Detections) -> np.ndarray:
    """Return the box of the only face."""
    assert len(faces) == 1
    return faces.boxes_xyxy[0]


def test_it_finds_grace_hopper_with_eyes_above_the_mouth(finder: FacesNano, hopper: np.ndarray) -> None:
    """It finds one face; in the picture the person's right eye is to the left, the nose is in between, the mouth is below."""
    faces = finder.detect(hopper)
    box = the_one(faces)
    assert faces.landmarks is not None
    right, left, nose, right_mouth, left_mouth = faces.landmarks[0]
    assert right[0] < nose[0] < left[0] and right_mouth[0] < left_mouth[0]
    assert max(right[1], left[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    assert (box[:2] < faces.landmarks[0].min(axis=0)).all() and (box[2:] > faces.landmarks[0].max(axis=0)).all()


def test_the_file_is_small_and_says_what_it_learned_from() -> None:
    """The file has at most 1 MB and names every training source with its licence, including YuNet and FairFace."""
    spec = read_faces_spec(FILE)
    assert FILE.stat().st_size <= 1_000_000
    assert spec.name == FINDER and spec.strides == (8, 16, 32)
    assert {"FairFace", "YuNet"} <= {source.name.split()[0] for source in spec.sources}
    assert all(source.licence for source in spec.sources)


def test_a_finder_is_no_model_and_a_model_no_finder() -> None:
    """A finder used as a model, and a model used as a finder, are errors in one sentence that says where the file belongs."""
    with pytest.raises(ModelError, match="face detector; give it to --detector"):
        read_spec(FILE)
    with pytest.raises(ModelError, match="give it to --model"):
        read_faces_spec(MODELS / "age-nano.onnx")
    with pytest.raises(ModelError, match="give it to --model"):
        open_detector(str(MODELS / "age-nano.onnx"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("kind", "crops", "kind"),
        ("schema_version", 99, "update numclip"),
        ("strides", [], "strides"),
        ("extra", 1, "extra"),
    ],
)
def test_a_wrong_spec_is_refused_by_the_field(field: str, value: object, said: str) -> None:
    """A spec with a wrong field is an error that names the field."""
    content = {**json.loads(read_faces_spec(FILE).to_json()), field: value}
    with pytest.raises(ModelError, match=said):
        FacesSpec.from_json(json.dumps(content))


def test_the_spec_survives_writing(tmp_path: Path) -> None:
    """The spec survives writing and reading, and the graph keeps its hash."""
    copy = tmp_path / "copy.onnx"
    spec = read_faces_spec(FILE)
    write_spec(FILE, spec, copy)
    assert read_faces_spec(copy) == spec and graph_sha256(copy) == graph_sha256(FILE)


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (7, 5), (31, 33), (200, 200), (481, 641)])
def test_any_size_goes_through_and_boxes_stay_inside(finder: FacesNano, size: tuple[int, int]) -> None:
    """For noise of odd, tiny and wide sizes all boxes lie in the picture, and outputs have the contract's shapes."""
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    faces = finder.detect(picture)
    assert faces.landmarks is not None and faces.landmarks.shape == (len(faces), 5, 2)
    assert (faces.boxes_xyxy >= 0).all() and (faces.boxes_xyxy <= [size[1], size[0]] * 2).all()


def test_nothing_is_an_empty_answer(finder: FacesNano) -> None:
    """A black picture gives arrays of length 0 with the right shapes and types; no pictures give no results."""
    faces = finder.detect(np.zeros((120, 160, 3), np.uint8))
    assert faces.boxes_xyxy.shape == (0, 4) and faces.scores.shape == (0,) and faces.boxes_xyxy.dtype == np.float32
    assert finder.detect_many([]) == []


def test_many_pictures_in_one_call_answer_as_one_by_one(finder: FacesNano, hopper: np.ndarray) -> None:
    """In one call with two sizes and a picture without a face, each picture has the same result as alone."""
    pictures = [hopper, hopper[:, ::-1].copy(), np.zeros_like(hopper), hopper[40:340, 100:400].copy()]
    for together, alone in zip(finder.detect_many(pictures), [finder.detect(p) for p in pictures], strict=True):
        assert len(together) == len(alone)
        assert np.abs(together.boxes_xyxy - alone.boxes_xyxy).max(initial=0) < 0.01


def test_the_graph_answers_by_picture_then_by_score_and_never_twice_the_same_face(hopper: np.ndarray) -> None:
    """The raw outputs of two pictures are sorted by picture and score, scores exceed the file's threshold, and no two boxes of a
    picture overlap too much."""
    spec = read_faces_spec(FILE)
    found = open_faces_session(FILE, "cpu", 1).run(np.stack([hopper, hopper[::-1]]))
    assert (np.diff(found.picture) >= 0).all() and (found.scores > spec.score_threshold).all()
    for i in range(2):
        mine = found.picture == i
        assert (np.diff(found.scores[mine]) <= 0).all()
        boxes = found.boxes_xyxy[mine]
        low, high = (
            np.maximum(boxes[:, None, :2], boxes[None, :, :2]),
            np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]),
        )
        shared = (high - low).clip(0).prod(axis=2)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        overlap = shared / (areas[:, None] + areas[None] - shared)
        assert (overlap - np.eye(len(boxes)) <= spec.overlap_threshold + 1e-4).all()


def test_openvino_finds_the_same(finder: FacesNano, hopper: np.ndarray) -> None:
    """In OpenVINO the same file gives the same box within 0.1 px."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    other = FacesNano(device="openvino", threads=1).detect(hopper)
    assert np.abs(the_one(other) - the_one(finder.detect(hopper))).max() < 0.1


def test_suppression_on_the_cpu_is_the_graphs(hopper: np.ndarray) -> None:
    """Suppression on the CPU (found_of), as used with engines, gives the same result as the graph."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    ort = pytest.importorskip("onnxruntime")
    model, names = onnx.load(str(FILE)), ("candidate_boxes", "candidate_scores", "candidate_landmarks")
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = np.stack([hopper, hopper[:, ::-1]])
    spec = read_faces_spec(FILE)
    expected = Found(*session.run(["picture", "boxes", "scores", "landmarks"], {"pictures": pictures}))
    boxes, scores, landmarks = session.run(list(names), {"pictures": pictures})
    got = found_of(boxes, scores, landmarks, spec)
    for one, two in zip(vars(got).values(), vars(expected).values(), strict=True):
        assert one.dtype == two.dtype and one.shape == two.shape and np.abs(one - two).max(initial=0) < 1e-4


def test_a_small_and_a_huge_face_are_found_in_a_4k_frame(hopper: np.ndarray) -> None:
    """In a 4K frame, with a smallest face of 24 px, it finds a face of about 60 px and a portrait that fills the frame, at high scores."""
    finder = FacesNano(0.8, smallest_face_px=24, device="cpu")
    own = the_one(FacesNano(device="cpu").detect(hopper))
    scale = 60 / float((own[2:] - own[:2]).max())
    small = cv2.resize(hopper, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frame = np.full((2160, 3840, 3), 90, np.uint8)
    frame[1000 : 1000 + len(small), 3000 : 3000 + small.shape[1]] = small
    box = the_one(finder.detect(frame))
    assert np.abs(box - (own * scale + [3000, 1000] * 2)).max() < 12
    face = hopper[int(own[1]) - 40 : int(own[3]) + 40, int(own[0]) - 60 : int(own[2]) + 60]
    close = np.asarray(cv2.resize(face, (2160, 2160), interpolation=cv2.INTER_LINEAR), np.uint8)
    found = finder.detect(close)
    largest = found.largest().boxes_xyxy[0]
    assert (largest[2:] - largest[:2]).min() > 1000
    low, high = np.maximum(found.boxes_xyxy[:, :2], largest[:2]), np.minimum(found.boxes_xyxy[:, 2:], largest[2:])
    assert ((high - low).min(axis=1) > 0).sum() == 1, "no part of the large face is a separate face"


def test_threads_may_share_it(finder: FacesNano, hopper: np.ndarray) -> None:
    """Four threads with ten pictures each give the same results as one thread."""
    expected, wrong = the_one(finder.detect(hopper)), list[str]()

    def look() -> None:
        for _ in range(10):
            if np.abs(the_one(finder.detect(hopper)) - expected).max() > 1e-3:
                wrong.append("differs")

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_and_scores_that_cannot_be_are_one_sentence() -> None:
    """A misspelt detector gets a suggestion; a score threshold below the graph's is an error."""
    with pytest.raises(DetectorError, match="did you mean faces-nano"):
        open_detector("face-nano")
    with pytest.raises(DetectorError, match=r"expected a score from 0\.\d+"):
        FacesNano(score_threshold=0.01)


def test_a_detector_of_ones_own_is_asked_picture_by_picture(hopper: np.ndarray) -> None:
    """detect_all works with a detector that reads one picture per call."""

    class Mine:
        name = "mine"

        def detect(self, image: np.ndarray) -> Detections:
            return Detections(np.array([[0, 0, image.shape[1], 9]], np.float32), np.ones(1, np.float32), None)

    assert [float(d.boxes_xyxy[0, 2]) for d in detect_all(Mine(), [hopper, hopper[:, :50]])] == [hopper.shape[1], 50]


@pytest.mark.parametrize(
    ("box", "score", "believed"),
    [
        ((45, -20, 60, 0), 0.9, False),  # a badge on the hat
        ((45, 40, 60, 60), 0.9, False),  # an eye
        ((45, -20, 60, 0), 0.97, True),  # a face with a very high score, as of a person behind
        ((45, -90, 60, -70), 0.9, True),  # above the hat
        ((20, -40, 80, 20), 0.9, True),  # not much smaller
    ],
)
def test_a_badge_on_a_head_is_no_face(box: tuple[float, ...], score: float, believed: bool) -> None:
    """Next to a face of 100 px at the origin, a face under 40 px on that head needs a score of 0.95."""
    boxes = np.array([(0, 0, 100, 100), box], np.float32)

    assert no_emblem(boxes, np.array([0.97, score], np.float32)).tolist() == [True, believed]


def test_the_badge_on_a_cap_is_not_followed(finder: FacesNano, hopper: np.ndarray) -> None:
    """The badge on Grace Hopper's cap looks like a small face; only one person is found, at any size of the picture."""
    for side in (200, 300, 400, 512):
        picture = np.asarray(cv2.resize(hopper, (side, side)), np.uint8)

        assert len(finder.detect(picture)) == 1, side
