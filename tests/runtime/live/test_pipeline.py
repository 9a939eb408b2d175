"""numclip.read and numclip.stream from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import numclip
from numclip.errors import SourceError, UsageError
from numclip.runtime.faces.crops import crop_faces
from numclip.runtime.faces.detect import Detections
from numclip.runtime.faces.opening import open_detector
from numclip.runtime.live.frames import Frame, SourceInfo
from numclip.runtime.live.pipeline import Pipeline, Rules
from numclip.runtime.live.results import FrameResult
from numclip.runtime.live.sources import open_source
from numclip.runtime.sinks.recording import Recording, RecordSink


@pytest.fixture(scope="module")
def model() -> numclip.runtime.sessions.model.Model:  # type: ignore[name-defined]
    return numclip.load("age-nano", device="cpu", threads=1)


def test_a_photo_and_its_array_agree(hopper: np.ndarray, tmp_path: Path) -> None:
    """A path and the same picture as an array give the same reading of one adult."""
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), hopper)
    one, two = numclip.read(path, detector="haar"), numclip.read(hopper, detector="haar")
    assert len(one.faces) == len(two.faces) == 1
    assert one.faces[0].reading is not None and two.faces[0].reading is not None
    assert one.faces[0].reading.value == pytest.approx(two.faces[0].reading.value, abs=1e-4)
    assert 20 < one.faces[0].reading.value < 95 and one.latency_s > 0


def test_wrong_arrays_are_refused(model) -> None:
    """A picture with five channels, an empty one, and crops of a wrong side raise ValueError with the shape."""
    for bad in (np.zeros((9, 9, 5), np.uint8), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"expected .*picture"):
            numclip.read(bad, model)
    side = model.spec.crop.side
    with pytest.raises(ValueError, match=rf"expected crops as uint8 \[N, {side}, {side}, 3\]"):
        model(np.zeros((1, side - 16, side - 16, 3), np.uint8))


def test_no_crops(model) -> None:
    """No crops give readings of length 0 with the right shapes."""
    readings = model(np.zeros((0, model.spec.crop.side, model.spec.crop.side, 3), np.uint8))
    assert len(readings) == 0 and readings.probabilities.shape == (0, model.spec.task.num_bins)


def test_a_batch_answers_as_one_by_one(model) -> None:
    """A crop's age does not depend on the rest of the batch, within 0.001 years."""
    side = model.spec.crop.side
    crops = np.random.default_rng(0).integers(0, 255, (5, side, side, 3), np.uint8)
    together, alone = model(crops).value, np.concatenate([model(crops[i : i + 1]).value for i in range(5)])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_one_call_of_the_model_per_frame(hopper: np.ndarray, model, counted) -> None:
    """Three faces in a frame are one batch of three; faces beyond max_faces are left out, and faces that are too small have a
    reason instead of an age."""
    counting = counted(model)
    frame = Frame(np.ascontiguousarray(np.hstack([hopper] * 3)), 0, 0.0, 0.0, "test")
    haar = open_detector("haar")

    def faces(**rules: int):
        return Pipeline(counting, haar, Rules(**rules), tracks=False).read(frame).faces  # type: ignore[arg-type]

    assert len(faces()) == 3 and len(faces(max_faces=2)) == 2
    small = faces(min_face_px=1000)
    assert [(f.reading, f.reason, f.fresh) for f in small] == [(None, "small", False)] * 3 and counting.calls == [3, 2]
    line = small[0].to_dict()
    assert line["age"] is None and line["reason"] == "small" and line["probabilities"] == []


def test_stream_of_a_folder(hopper: np.ndarray, tmp_path: Path) -> None:
    """A folder's pictures are read one by one, without tracks; a bad picture raises an error after the good ones."""
    cv2.imwrite(str(tmp_path / "a.png"), hopper)
    (tmp_path / "b.png").write_text("no picture")
    results = []
    with pytest.raises(SourceError, match=r"b\.png"):
        results.extend(numclip.stream(tmp_path, detector="haar"))
    assert [r.frame.file for r in numclip.stream(str(tmp_path / "a*"), detector="haar")] == ["a.png"]


def test_a_track_costs_no_reading_before_it_is_shown(hopper: np.ndarray, model) -> None:
    """The first two detections of a face show no track and run no model. The third shows track 1 with a new reading. The next is not
    due yet and shows the same age."""
    pipeline = Pipeline(model, open_detector("haar"))
    frames = [Frame(hopper, i, i / 30, 0.0, "test") for i in range(4)]
    results = [pipeline.read(frame).faces for frame in frames]
    assert [[(f.track_id, f.fresh) for f in faces] for faces in results] == [[], [], [(1, True)], [(1, False)]]
    first, second = results[2][0], results[3][0]
    assert first.look is not None and second.look is None
    assert first.reading is not None and second.reading is not None
    assert first.reading.value == pytest.approx(first.look.value, abs=1e-3) == second.reading.value


def test_a_users_own_detector(hopper: np.ndarray, model) -> None:
    """Any object with a name and detect() is a detector; without landmarks the model's box rule makes the crops."""

    class Mine:
        name = "haar"

        def detect(self, image: np.ndarray) -> Detections:
            return Detections(np.array([[180, 100, 340, 260]], np.float32), np.ones(1, np.float32), None)

    result = numclip.read(hopper, model, detector=Mine())
    assert len(result.faces) == 1 and result.faces[0].reading is not None


def test_a_blurred_face_has_no_number(hopper: np.ndarray, model) -> None:
    """A heavily blurred portrait gives a face with a reason instead of an age; on a track that was seen well before, the age stays."""

    class Mine:
        name = "haar"

        def detect(self, image: np.ndarray) -> Detections:
            return Detections(np.array([[180, 100, 340, 260]], np.float32), np.ones(1, np.float32), None)

    blurred = np.asarray(cv2.GaussianBlur(hopper, (0, 0), 30), np.uint8)
    alone = numclip.read(blurred, model, detector=Mine()).faces[0]
    assert alone.reading is None and alone.reason == "blurred" and alone.fresh
    pipeline = Pipeline(model, Mine())
    pictures = [hopper] * 5 + [blurred] * 5
    faces = [pipeline.read(Frame(p, i, i / 5, 0.0, "test")).faces for i, p in enumerate(pictures)]
    assert faces[-1][0].reading is not None and faces[-1][0].reason is None and faces[-1][0].look is None


def test_a_change_of_size_or_segment_is_a_gap(hopper: np.ndarray, model) -> None:
    """After a reconnection, or a change of the frame size, the same face is a new track."""
    pipeline, ids = Pipeline(model, open_detector("haar")), []
    smaller = np.ascontiguousarray(hopper[:-20])
    for i, (picture, segment) in enumerate([(hopper, 0)] * 4 + [(hopper, 1)] * 4 + [(smaller, 1)] * 4):
        faces = pipeline.read(Frame(picture, i, i / 30, 0.0, "test", segment=segment)).faces
        ids.append([f.track_id for f in faces])
    assert [i[-1:] for i in (ids[3], ids[7], ids[11])] == [[1], [2], [3]] and ids[4] == ids[8] == []


def _shown(clip: Path, model, change=lambda index, image: image, rules: Rules | None = None) -> dict[int, list[tuple]]:
    """Return (frame, shown age, box center) of each track in a clip with modified frames."""
    pipeline = Pipeline(model, open_detector("yunet"), rules or Rules(budget_ms=float("inf")))
    shown: dict[int, list[tuple]] = {}
    with open_source(str(clip)) as source:
        for frame in source:
            for face in pipeline.read(replace(frame, image=change(frame.index, frame.image))).faces:
                assert face.track_id is not None and face.reading is not None
                x1, y1, x2, y2 = face.box_xyxy
                place = (x1 + x2) / 2, (y1 + y2) / 2
                shown.setdefault(face.track_id, []).append((frame.index, face.reading.value, *place, face.look))
    return shown


def test_two_people_are_two_steady_tracks(two_people: Path, yunet_model: Path, model) -> None:
    """300 frames of two people who turn their heads give two ids, each on its side of the picture in every frame (no swap). The
    standard deviation of each shown age over the last 200 frames is at most 0.3 of that of the single frames' ages."""
    shown = _shown(two_people, model)
    assert set(shown) == {1, 2} and all(len(track) >= 290 for track in shown.values())
    raw = _raw_ages(two_people, model)
    for track in shown.values():
        right = track[0][2] > 384
        assert all((x > 384) == right for _, _, x, _, _ in track)
        ages = [value for index, value, *_ in track if index >= 100]
        ratio = float(np.std(ages) / np.std(raw[right]))
        print(f"right {right}: sd of shown ages {np.std(ages):.2f}, of raw {np.std(raw[right]):.2f}, ratio {ratio:.3f}")
        assert ratio <= 0.3


class Blinking:
    """A detector that finds nobody in its second picture."""

    def __init__(self, detector) -> None:
        self._detector, self.name, self._calls = detector, detector.name, 0

    def detect(self, image: np.ndarray) -> Detections:
        """The faces of the picture."""
        self._calls += 1
        faces = self._detector.detect(image)
        return faces.take(np.arange(0)) if self._calls == 2 else faces


INNER = np.kron([[0.8, 0.2], [0.2, 0.8]], np.eye(2))  # xyxy to the box with three fifths of the sides


def test_blur_hides_whom_the_result_does_not_show(two_people: Path, model, tmp_path: Path) -> None:
    """The first two frames of a clip show nobody yet, and with --max-faces 1 a result has one of two people. With blur, both faces lose
    at least four fifths of their detail (variance of the Laplacian), also in a frame in which the detector misses them. The same holds for a recording that is played again."""
    finder = open_detector(device="cpu", threads=1)

    def hides(result: FrameResult) -> bool:
        clear, hidden = (cv2.cvtColor(result.plot(None, blur=blur), cv2.COLOR_BGR2GRAY) for blur in (False, True))
        boxes = finder.detect(result.frame.image).boxes_xyxy
        inner = (boxes @ INNER).astype(int)  # without the lines of the drawn box
        detail = [
            [cv2.Laplacian(p[y0:y1, x0:x1], cv2.CV_32F).var() for p in (clear, hidden)] for x0, y0, x1, y1 in inner
        ]
        return len(boxes) == 2 and all(after < 0.2 * before for before, after in detail)

    results = []
    for result in numclip.stream(str(two_people), model=model):
        results.append(result)
        if len(results) == 30:
            break
    assert not results[0].faces and not results[1].faces and len(results[-1].faces) == 2
    assert all(hides(result) for result in results)
    for tracks in (False, True):
        pipeline = Pipeline(model, finder, Rules(max_faces=1), tracks=tracks)
        alone = [pipeline.read(result.frame) for result in results][-1]
        assert len(alone.faces) == 1 and hides(alone)
    blinking = Pipeline(model, Blinking(finder))  # the second detection fails
    assert all(hides(blinking.read(result.frame)) for result in results[:3])
    path = tmp_path / "a.rec"
    sink = RecordSink(str(path), model.spec.task, 0.9, [SourceInfo(results[0].frame.source, (768, 432), 30.0)], True)
    sink.write(results[0])
    sink.close()
    ((_, played),) = Recording(path).items()
    assert isinstance(played, FrameResult) and not played.faces and hides(played)


def _raw_ages(clip: Path, model) -> dict[bool, list[float]]:
    """Return the ages of a plain loop (YuNet and the model, every face in every frame) over the last 200 frames, by side."""
    ages: dict[bool, list[float]] = {True: [], False: []}
    detector = open_detector("yunet")
    with open_source(str(clip)) as source:
        for frame in source:
            if frame.index < 100:
                continue
            faces = detector.detect(frame.image)
            faces = faces.take(np.flatnonzero(faces.scores > 0.6))
            values = model(crop_faces(frame.image, faces, model.spec.crop, "yunet")).value
            for box, value in zip(faces.boxes_xyxy, values, strict=True):
                ages[bool(box[0] + box[2] > 768)].append(float(value))
    return ages


def test_black_and_repeated_frames_make_no_new_people(two_people: Path, yunet_model: Path, model) -> None:
    """With every fifth frame black and every seventh a copy of the previous one, there are still two ids."""
    before: list[np.ndarray] = []

    def harm(index: int, image: np.ndarray) -> np.ndarray:
        image = before[-1] if index % 7 == 6 else image
        before[:] = [image]
        return np.zeros_like(image) if index % 5 == 4 else image

    assert set(_shown(two_people, model, harm)) == {1, 2}


def test_another_person_in_the_same_box(hopper: np.ndarray, collins: np.ndarray, yunet_model: Path, model) -> None:
    """If Hopper replaces Collins in the same place without a gap, the shown age is within 2 years of that of Hopper alone after at
    most 15 looks."""
    cards = [
        cv2.resize(p[y : y + s, x : x + s], (320, 320))
        for p, (x, y, s) in zip((hopper, collins), ((66, 10, 400), (84, 0, 280)), strict=True)
    ]
    old, young = (np.asarray(card, np.uint8) for card in cards)
    old = np.asarray(cv2.warpAffine(old, _onto(old, young), (320, 320), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def numbers(pictures: list[np.ndarray]) -> list[tuple[float, bool]]:
        pipeline = Pipeline(model, open_detector("yunet"))
        results = [pipeline.read(Frame(p, i, i / 30, 0.0, "test")) for i, p in enumerate(pictures)]
        return [(f.reading.value, f.fresh) for r in results for f in r.faces if f.reading is not None]

    alone, before = numbers([old] * 60)[-1][0], numbers([young] * 60)[-1][0]
    assert abs(alone - before) > 10, "the two portraits must differ in age"
    after = numbers([young] * 60 + [old] * 60)[58:]
    looks = np.cumsum([fresh for _, fresh in after])
    reached = next(i for i, (value, _) in enumerate(after) if abs(value - alone) < 2)
    print(f"from {before:.1f} to {alone:.1f} years after {looks[reached]} looks, {reached / 30:.2f} s")
    assert looks[reached] <= 15 and reached <= 45


def _onto(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the similarity [2, 3] that moves one face to the place of the other."""
    points = [open_detector("yunet").detect(p).largest().landmarks for p in (image, target)]
    assert points[0] is not None and points[1] is not None
    return cv2.estimateAffinePartial2D(points[0][0], points[1][0])[0]


def test_what_cannot_be_frames_or_rules_is_refused(hopper: np.ndarray, model) -> None:
    """One picture as a stream, no faces, a budget below 0: each is an error. A time may be a number of numpy. An interval level above the
    highest of the calibration (0.99) is an error, too."""
    with pytest.raises(TypeError, match=r"numclip\.read for one picture"):
        numclip.stream(hopper, model=model)
    wrong = {
        "max_faces of at least 1, got 0": lambda: Rules(max_faces=0),
        "max_faces of at least 1, got -1": lambda: Rules(max_faces=-1),
        "min_face_px of at least 1, got 0": lambda: Rules(min_face_px=0),
        "budget_ms above 0, got -1": lambda: Rules(budget_ms=-1),
        "budget_ms above 0, got nan": lambda: Rules(budget_ms=float("nan")),
    }
    for said, make in wrong.items():
        with pytest.raises(UsageError, match=said):
            make()
    results = list(
        numclip.stream([(hopper, np.float32(0.5)), (hopper, np.int64(1))], model=model, rules=Rules(max_faces=1))
    )
    assert [result.frame.time_s for result in results] == [0, 0.5]
    reading = numclip.read(hopper, model=model).faces[0].reading
    assert reading is not None and reading.interval(0.99)[0] < reading.interval(0.5)[0]
    with pytest.raises(UsageError, match=r"at most 0\.99"):
        reading.interval(0.9999)
