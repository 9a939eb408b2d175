"""The face finder's training on generated pictures: targets, canvases, losses and the complete recipe in a few steps."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from numclip.cli.main import main  # noqa: E402
from numclip.errors import DataError, ModelError  # noqa: E402
from numclip.export.faces_to_onnx import maps_of, to_onnx  # noqa: E402
from numclip.runtime.contract.model_file import read_faces_spec  # noqa: E402
from numclip.train.faces.batches import Batch, with_labels  # noqa: E402
from numclip.train.faces.canvases import MIRRORED, Canvas, Stock, compose  # noqa: E402
from numclip.train.faces.losses import finder_loss, generalised_overlap  # noqa: E402
from numclip.train.faces.network import OUTPUTS, STRIDES, FacesNetwork  # noqa: E402
from numclip.train.faces.pictures import Portrait, Scene, read_scenes  # noqa: E402
from numclip.train.faces.teacher import CellTargets, Teacher, cell_corners, suppress  # noqa: E402
from numclip.train.faces.training import FacesTrainOptions, load_network, train_faces  # noqa: E402


def write_tar(path: Path, pictures: dict[str, np.ndarray]) -> None:
    with tarfile.open(path.with_suffix(".tar"), "w") as tar:
        for name, picture in pictures.items():
            data = cv2.imencode(".png", picture)[1].tobytes()
            info = tarfile.TarInfo(f"{path.name}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def data(tmp_path: Path, hopper: np.ndarray) -> Path:
    """Two scenes with one face, one without, and two portraits, all made from one photograph."""
    sky = np.full((200, 300, 3), 180, np.uint8)
    write_tar(tmp_path / "scenes", {"a.png": hopper, "b.png": hopper[:, ::-1], "sky.png": sky})
    files = [{"file": f, "split": "train"} for f in ("a.png", "b.png", "sky.png")]
    write_table(tmp_path / "scenes.csv", files)
    box = {"kind": "bare", "x0": 180, "y0": 100, "x1": 330, "y1": 300}
    write_table(tmp_path / "scenes_boxes.csv", [{"file": f, **box} for f in ("a.png", "b.png")])
    write_tar(tmp_path / "portraits", {"p.png": cv2.resize(hopper[60:360, 120:420], (160, 160))})
    write_table(tmp_path / "portraits.csv", [{"file": "p.png"}])
    return tmp_path


@pytest.mark.parametrize("content", [b"# A page of text\n", b"", b"\x80\x02]q\x00."])
def test_another_file_is_no_start(content: bytes, tmp_path: Path) -> None:
    """A text, an empty file and a pickled list instead of a checkpoint are an error in one sentence that names the file."""
    (tmp_path / "faces.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"faces\.pt: expected a checkpoint of the face detector") as caught:
        load_network(tmp_path / "faces.pt")
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_refused_before_any_picture_is_read(tmp_path: Path) -> None:
    """train_faces into a folder whose faces.pt is cut short is an error that names the file, even before the pictures are missed."""
    (tmp_path / "faces.pt").write_bytes(b"PK\x03\x04")
    nowhere = tmp_path / "none"
    with pytest.raises(ModelError, match=r"faces\.pt: expected the state of a training") as caught:
        train_faces(FacesTrainOptions(nowhere, (nowhere,), nowhere, tmp_path))
    assert "\n" not in str(caught.value)


def test_scenes_come_with_their_boxes_and_a_missing_table_is_one_sentence(data: Path) -> None:
    """The scenes have three pictures, two with one box each; a folder without the table is a DataError that names the file."""
    scenes = read_scenes(data / "scenes", "train")
    assert [len(s.boxes_xyxy) for s in scenes] == [1, 1, 0] and scenes[0].kinds == ("bare",)
    with pytest.raises(DataError, match=r"none_boxes\.csv"):
        read_scenes(data / "none", "train")


def test_the_teacher_sees_the_face_in_the_cells_of_its_size(yunet_model: Path, hopper: np.ndarray) -> None:
    """YuNet's best cell gives the face; at twice the picture's size the face is twice as large."""
    teacher = Teacher(yunet_model)
    small = np.zeros((320, 320, 3), np.uint8)
    small[:303, :256] = cv2.resize(hopper, (256, 303), interpolation=cv2.INTER_AREA)
    large = np.asarray(cv2.resize(small, (640, 640)), np.uint8)
    one, two = teacher.targets(small), teacher.targets(large)
    i, j = (int(suppress(t, 0.5)[0]) for t in (one, two))
    assert one.scores[i] > 0.8 and two.scores[j] > 0.8
    assert np.abs(two.boxes_xyxy[j] / 2 - one.boxes_xyxy[i]).max() < 12
    assert np.abs(two.landmarks[j] / 2 - one.landmarks[i]).max() < 6
    assert len(one.scores) == len(cell_corners(320, 320)) == 1600 + 400 + 100


def blank(side: int, score: float = 0.0) -> CellTargets:
    cells = len(cell_corners(side, side))
    return CellTargets(
        np.full(cells, score, np.float32),
        np.zeros((cells, 4), np.float32),
        np.zeros((cells, 5, 2), np.float32),
        np.ones(cells, np.float32),
    )


def test_a_labelled_face_that_the_teacher_misses_becomes_a_target_and_an_empty_picture_has_none() -> None:
    """A labelled face that the teacher misses becomes a target around its center, without landmarks; without faces every score is 0."""
    box = np.array([[40, 40, 80, 80]], np.float32)
    unknown = np.full((1, 5, 2), np.nan, np.float32)
    canvas = Canvas(np.zeros((128, 128, 3), np.uint8), box, unknown, empty=False)
    targets = with_labels(blank(128), canvas)
    chosen = np.flatnonzero(targets.scores > 0.4)
    assert len(chosen) and (targets.boxes_xyxy[chosen] == box).all() and not targets.has_landmarks[chosen].any()
    corners = cell_corners(128, 128)[chosen]
    assert (np.abs(corners[:, :2] - 60).max(axis=1) <= corners[:, 2]).all()
    nobody = Canvas(canvas.picture, box[:0], unknown[:0], empty=True)
    assert with_labels(blank(128, 0.7), nobody).scores.max() == 0


def test_canvases_keep_their_faces_where_they_are() -> None:
    """With a bright square as the only face, the box covers the center of the bright pixels on every canvas."""
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[30:70, 30:70] = 255
    points = np.array([[40, 40], [60, 40], [50, 50], [42, 62], [58, 62]], np.float32)
    stock = Stock(
        [Scene(np.zeros((60, 80, 3), np.uint8), np.array([[10, 10, 20, 20]], np.float32), ("bare",))],
        [Scene(np.zeros((60, 80, 3), np.uint8), np.empty((0, 4), np.float32), ())],
        [Portrait(picture, np.array([30, 30, 70, 70], np.float32), points, 0.9)],
    )
    rng, seen = np.random.default_rng(3), 0
    for _ in range(60):
        canvas = compose(rng, stock, 128)
        for box, landmarks in zip(canvas.boxes_xyxy, canvas.landmarks, strict=True):
            center = (box[:2] + box[2:]) / 2
            if np.isnan(landmarks).any() or not (center > 4).all() or not (center < 124).all():
                continue
            assert np.abs(landmarks[2] - center).max() < 2, "the nose was in the middle of the box"
            upright = landmarks[0, 0] < landmarks[1, 0]
            assert upright, "the eye on the left of the picture is first, mirrored or not"
            seen += 1
    assert seen > 10 and sorted(MIRRORED) == [0, 1, 2, 3, 4]


def test_the_loss_is_least_where_the_maps_say_what_the_teacher_says() -> None:
    """Maps made from a target have zero box and landmark loss; a shifted box has a loss. The GIoU of a box with itself is 1."""
    side, cell = 64, 9  # the second cell of the second row of stride 8
    corner, box = torch.tensor([8.0, 8.0]), torch.tensor([[4.0, 4.0, 28.0, 28.0]])
    points = torch.arange(10, dtype=torch.float32).reshape(1, 5, 2) + 10
    maps = [torch.zeros(1, OUTPUTS, side // s, side // s) for s in STRIDES]
    row, column = divmod(cell, side // 8)
    answer = maps[0][0, :, row, column]
    answer[1:3] = (torch.tensor([16.0, 16.0]) - corner) / 8
    answer[3:5] = torch.log(torch.tensor([24.0, 24.0]) / 8)
    answer[5:] = ((points[0] - corner) / 8).reshape(-1)
    scores = torch.zeros(1, sum((side // s) ** 2 for s in STRIDES))
    scores[0, cell] = 0.9
    batch = Batch(torch.zeros(1, side, side, 3), scores, torch.tensor([cell]), box, points, torch.ones(1))
    right = finder_loss(maps, batch)
    assert float(right["box"]) == pytest.approx(0, abs=1e-5) and float(right["landmarks"]) == pytest.approx(0, abs=1e-5)
    answer[1] += 1
    wrong = finder_loss(maps, batch)
    assert float(wrong["box"]) > 0.1 and float(wrong["loss"]) > float(right["loss"])
    assert float(generalised_overlap(box, box)) == pytest.approx(1)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 31), (97, 203), (128, 160)])
def test_the_graph_computes_the_network_at_every_size(size: tuple[int, int]) -> None:
    """The graph's best face in each of two noise pictures is the best cell of PyTorch's maps, decoded in the test."""
    ort = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = FacesNetwork()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.get_buffer("running_mean").normal_(0, 0.1)
            part.get_buffer("running_var").uniform_(0.5, 1.5)
    for output in network.outputs:
        output.get_parameter("weight").data.mul_(20)
    graph = to_onnx(network, score_threshold=1e-6, overlap_threshold=0.3)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    which, boxes, scores, landmarks = session.run(None, {"pictures": pictures})
    maps = maps_of(network, pictures)
    for i in range(2):
        level = max(range(3), key=lambda k: maps[k][i, 0].max())
        one, stride = maps[level][i], STRIDES[level]
        row, column = np.unravel_index(one[0].argmax(), one[0].shape)
        raw, corner = one[:, row, column], np.array([column, row]) * stride
        middle, half = corner + raw[1:3] * stride, np.exp(raw[3:5]) * stride / 2
        limit = np.array([size[1], size[0]])
        first = np.flatnonzero(which == i)[0]
        assert scores[first] == pytest.approx(1 / (1 + np.exp(-raw[0])), rel=1e-4)
        expected = np.concatenate([(middle - half).clip(0, limit), (middle + half).clip(0, limit)])
        assert np.abs(boxes[first] - expected).max() < 1e-3
        assert np.abs(landmarks[first] - corner - raw[5:].reshape(5, 2) * stride).max() < 1e-3


def test_train_faces_smoke_writes_a_finder_that_opens(data: Path, yunet_model: Path) -> None:
    """A few steps from the command line write faces.pt, and faces-nano.onnx with its spec and sources."""
    out = data / "run"
    code = main(
        ["train-faces", "--smoke", "--scenes", str(data / "scenes"), "--portraits", str(data / "portraits")]
        + ["--teacher", str(yunet_model), "--out", str(out)]
    )
    assert code == 0 and (out / "faces.pt").is_file()
    spec = read_faces_spec(out / "faces-nano.onnx")
    assert spec.strides == STRIDES and {s.name.split()[0] for s in spec.sources} >= {"FairFace", "YuNet"}
    assert (out / "faces-nano.onnx").stat().st_size < 1_000_000
