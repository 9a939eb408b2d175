"""The accepted forms of a picture give the same pixels; anything else is an error in one sentence."""

from __future__ import annotations

import asyncio
import http.server
import importlib.util
import threading
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numclip
from numclip.errors import SourceError
from numclip.runtime.live.inputs import picture_of


@pytest.fixture(scope="module")
def model():
    return numclip.load("age-nano", device="cpu", threads=1)


def _age(image: object, model, **options: object) -> float:
    faces = numclip.read(image, model, **options).faces  # type: ignore[call-overload]
    assert len(faces) == 1 and faces[0].age is not None
    return faces[0].age


def test_every_form_gives_the_age_of_its_pixels(hopper: np.ndarray, model, tmp_path: Path) -> None:
    """Every form of a picture gives the same age: within 1e-5 years for the same bytes, within 0.05 for float and uint16."""
    pil = pytest.importorskip("PIL.Image", reason="needs pillow")
    age = _age(hopper, model)
    png = cv2.imencode(".png", hopper)[1].tobytes()
    (tmp_path / "p.png").write_bytes(png)
    rgb = np.ascontiguousarray(hopper[..., ::-1])
    alpha = np.full((*hopper.shape[:2], 1), 9, np.uint8)
    same = {
        "path": _age(tmp_path / "p.png", model),
        "text": _age(str(tmp_path / "p.png"), model),
        "bytes": _age(png, model),
        "bytearray": _age(bytearray(png), model),
        "memoryview": _age(memoryview(png), model),
        "PIL": _age(pil.fromarray(rgb), model),
        "PIL file": _age(pil.open(BytesIO(png)), model),
        "PIL RGBA": _age(pil.fromarray(np.concatenate([rgb, alpha], 2)), model),
        "RGB": _age(rgb, model, color="rgb"),
        "BGRA": _age(np.concatenate([hopper, alpha], 2), model),
        "RGBA": _age(np.concatenate([rgb, alpha], 2), model, color="rgb"),
        "a view": _age(rgb[..., ::-1], model),
    }
    assert same == pytest.approx(dict.fromkeys(same, age), abs=1e-5)
    near = {
        "float32": _age(hopper.astype(np.float32) / 255, model),
        "float64": _age(hopper / 255, model),
        "float16": _age((hopper / 255).astype(np.float16), model),
        "uint16": _age(hopper.astype(np.uint16) * 257, model),
    }
    assert near == pytest.approx(dict.fromkeys(near, age), abs=0.05)


def test_gray_is_the_gray_picture_three_times(hopper: np.ndarray, model) -> None:
    """Grey pictures as [H, W], [H, W, 1], PIL's L, LA and I;16, and tensors equal the grey picture in three channels (float within
    0.05 years)."""
    pil = pytest.importorskip("PIL.Image", reason="needs pillow")
    gray = np.asarray(cv2.cvtColor(hopper, cv2.COLOR_BGR2GRAY), np.uint8)
    age = _age(np.repeat(gray[..., None], 3, axis=2), model)
    wide = gray.astype(np.uint16) * 257
    forms = [gray, gray[..., None], wide, pil.fromarray(gray), pil.fromarray(gray).convert("LA"), pil.fromarray(wide)]
    torch = importlib.util.find_spec("torch") and importlib.import_module("torch")
    forms += [torch.from_numpy(gray), torch.from_numpy(gray)[None]] if torch else []
    assert [_age(form, model) for form in forms] == pytest.approx([age] * len(forms), abs=1e-5)
    assert _age(gray / 255, model) == pytest.approx(age, abs=0.05)


def test_tensors(hopper: np.ndarray, model) -> None:
    """RGB tensors as [C, H, W] and [H, W, C] give the array's age: uint8 within 1e-5 and float within 0.05 years."""
    torch = pytest.importorskip("torch", reason="needs the extra train")
    age, rgb = _age(hopper, model), torch.from_numpy(np.ascontiguousarray(hopper[..., ::-1]))
    chw = rgb.permute(2, 0, 1)
    assert [_age(t, model) for t in (rgb, chw)] == pytest.approx([age] * 2, abs=1e-5)
    floats = chw.float() / 255
    assert [_age(t, model) for t in (floats, floats.double(), floats.requires_grad_())] == pytest.approx(
        [age] * 3, abs=0.05
    )


def test_a_list_is_a_batch(hopper: np.ndarray, model, counted) -> None:
    """A list of three pictures in two forms gives three results in order with one model call; an empty list gives none."""
    counting = counted(model)
    png = cv2.imencode(".png", hopper)[1].tobytes()
    results = numclip.read([hopper, png, hopper[:, ::-1]], counting, "haar")
    assert [r.frame.index for r in results] == [0, 1, 2] and counting.calls == [3]
    assert [len(r.faces) for r in results] == [1, 1, 1]
    assert results[0].faces[0].age == pytest.approx(results[1].faces[0].age, abs=1e-3)
    assert numclip.read([], counting) == []


def test_a_picture_turned_by_its_exif(hopper: np.ndarray, model) -> None:
    """A PIL image with an EXIF rotation is read upright, like its file."""
    pil = pytest.importorskip("PIL.Image", reason="needs pillow")
    exif = pil.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    lying, file = pil.fromarray(np.rot90(hopper[..., ::-1]).copy()), BytesIO()
    lying.save(file, "png", exif=exif)
    assert _age(pil.open(file), model) == pytest.approx(_age(hopper, model), abs=1e-5)


def test_an_address(hopper: np.ndarray, model) -> None:
    """A picture is read over http, even without a suffix; a missing one, and a page that is not a picture, give one sentence
    without secrets."""
    png = cv2.imencode(".png", hopper)[1].tobytes()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = png if self.path.startswith("/snapshot") else b"<html>no picture</html>"
            self.send_response(404 if self.path == "/gone" else 200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        assert _age(f"{root}/snapshot?token=secret", model) == pytest.approx(_age(hopper, model), abs=1e-5)
        for path in ("/gone", "/page?token=secret"):
            with pytest.raises(
                SourceError, match=r"the server did not send the picture|not a readable image"
            ) as refused:
                numclip.read(root + path, model)
            assert "secret" not in str(refused.value)
        server.shutdown()


ZEROS = np.zeros
WRONG: dict[str, tuple[object, type[Exception]]] = {
    "nothing": (None, TypeError),
    "a number": (3, TypeError),
    "a float": (0.5, TypeError),
    "a truth": (True, TypeError),
    "a dict": ({}, TypeError),
    "a set": ({"a.jpg"}, TypeError),
    "an object": (object(), TypeError),
    "a class": (np.ndarray, TypeError),
    "a file object": (BytesIO(b"x"), TypeError),
    "a generator": ((i for i in ()), TypeError),
    "a list of numbers": ([1, 2], TypeError),
    "a list in a list": ([[]], TypeError),
    "a list with None": ([None], TypeError),
    "a missing path": ("nowhere.jpg", SourceError),
    "an address with a space": ("http://127.0.0.1:9/a b.jpg?key=secret", SourceError),
    "an address with a password": ("http://me:secret@127.0.0.1/a.jpg", SourceError),
    "an open bracket": ("http://[::1/a.jpg", SourceError),
    "an empty name": ("", SourceError),
    "a folder": (".", SourceError),
    "no bytes": (b"", SourceError),
    "other bytes": (b"no picture at all", SourceError),
    "a cut PNG": (b"\x89PNG\r\n\x1a\n\0\0\0", SourceError),
    "no server": ("http://127.0.0.1:9/a.jpg", SourceError),
    "no address": ("http://", SourceError),
    "a vector": (ZEROS(9, np.uint8), ValueError),
    "a batch": (ZEROS((2, 9, 9, 3), np.uint8), ValueError),
    "two channels": (ZEROS((9, 9, 2), np.uint8), ValueError),
    "five channels": (ZEROS((9, 9, 5), np.uint8), ValueError),
    "no pixels": (ZEROS((0, 9, 3), np.uint8), ValueError),
    "int32": (ZEROS((9, 9, 3), np.int32), ValueError),
    "truths": (ZEROS((9, 9, 3), bool), ValueError),
    "complex": (ZEROS((9, 9, 3), complex), ValueError),
    "objects": (np.array([[None]]), ValueError),
    "a float picture up to 255": (np.full((9, 9, 3), 255.0), ValueError),
    "a negative float": (np.full((9, 9, 3), -0.5), ValueError),
    "NaN": (np.full((9, 9, 3), np.nan), ValueError),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str, model) -> None:
    """Each invalid input is an error in one sentence that says what is accepted."""
    image, error = WRONG[name]
    with pytest.raises(error, match=r"expected|cannot read|not a readable image|did not send") as refused:
        numclip.read(image, model, "haar")  # type: ignore[call-overload]
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
    if error is TypeError:
        assert "PIL image" in str(refused.value) and "torch tensor" in str(refused.value)


@given(
    st.lists(st.integers(0, 6), max_size=4),
    st.sampled_from(["u1", "u2", "i4", "f2", "f4", "f8", "?", "c8"]),
    st.sampled_from(["bgr", "rgb"]),
)
@settings(max_examples=300, deadline=None)
def test_any_array_is_a_picture_or_refused(shape: list[int], kind: str, color: str) -> None:
    """An array of any shape and type becomes contiguous uint8 [H, W, 3], or raises ValueError."""
    array = np.zeros(shape, kind)
    channels = 1 if len(shape) == 2 else shape[2] if len(shape) == 3 else 0
    good = channels in (1, 3, 4) and 0 not in shape and kind in ("u1", "u2", "f2", "f4", "f8")
    try:
        image = picture_of(array, color)[0]  # type: ignore[arg-type]
    except ValueError:
        assert not good
    else:
        assert good and image.shape == (*shape[:2], 3) and image.dtype == np.uint8 and image.flags.c_contiguous


def test_frames_of_ones_own(two_people: Path, yunet_model: Path, model) -> None:
    """A clip's frames passed with their times, plain, in RGB, or from an async iterable give the same ages as the clip."""
    with numclip.open_stream(two_people, model, "yunet") as stream:
        clip = [result for result, _ in zip(stream, range(40), strict=False)]
    frames = [(r.frame.image, r.frame.time_s) for r in clip]

    def shown(results: list) -> list[list[tuple[int | None, float | None]]]:
        return [[(face.track_id, face.age) for face in result.faces] for result in results]

    async def slowly() -> AsyncIterator[tuple[np.ndarray, float]]:
        for frame in frames:
            await asyncio.sleep(0)
            yield frame

    async def listen() -> list:
        return [result async for result in numclip.stream(slowly(), model, "yunet")]

    assert any(result.faces for result in clip)
    assert shown(list(numclip.stream(iter(frames), model, "yunet"))) == shown(clip)
    assert shown(asyncio.run(listen())) == shown(clip)
    turned = ((image[..., ::-1], time_s + 1e6) for image, time_s in frames)
    assert shown(list(numclip.stream(turned, model, "yunet", color="rgb"))) == shown(clip), "times start at 0"
    plain = list(numclip.stream((image for image, _ in frames), model, "yunet", fps=30))
    assert [r.frame.time_s for r in plain] == pytest.approx([i / 30 for i in range(40)])


def test_wrong_frames(model) -> None:
    """No source, wrong tuples and a frame rate of 0 are errors in one sentence, raised at once and not at the first frame."""
    for bad in (None, 0.5, b"x", True):
        with pytest.raises(TypeError, match="expected a camera number"):
            numclip.stream(bad, model, "haar")  # type: ignore[call-overload]
    image = np.zeros((9, 9, 3), np.uint8)
    for frame in ((image,), (image, "soon"), (image, 1.0, 2.0)):
        with pytest.raises(TypeError, match="time in seconds"):
            list(numclip.stream([frame], model, "haar"))  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="fps above 0"):
        list(numclip.stream([image], model, "haar", fps=0))
    with pytest.raises(SourceError, match="no camera, file, folder or URL has this name"):
        numclip.stream("nowhere.mp4", model, "haar")


def test_a_stream_lets_go(two_people: Path, model) -> None:
    """A stream that is left early, closed unread, or dropped after a break leaves no thread."""

    def ours() -> Iterator[str]:
        return (t.name for t in threading.enumerate() if t.name.startswith(("capture", "see", "answer")))

    with numclip.open_stream(two_people, model, "haar") as stream:
        next(stream)
    numclip.open_stream(two_people, model, "haar").close()
    for _ in numclip.stream(two_people, model, "haar"):
        break
    assert list(ours()) == []
