"""Sources give every good frame once, at its time, and report the rest in one sentence."""

from __future__ import annotations

import functools
import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numclip.errors import SourceError
from numclip.runtime.live.frames import Frame
from numclip.runtime.live.inputs import picture_of
from numclip.runtime.live.live_sources import live_source
from numclip.runtime.live.picture_bytes import gif_pictures, turned_avif
from numclip.runtime.live.pictures import pictures_in
from numclip.runtime.live.sources import open_source, open_sources, read_picture
from numclip.runtime.sinks.video_writer import VideoWriter
from tests.video_maker import corners


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """60 frames at 20 fps; frame i has grey level 4 i, with noise so that frames are not tiny."""
    path = tmp_path / "clip.mp4"
    writer = VideoWriter(path, 20)
    for i in range(60):
        noise = np.random.default_rng(i).integers(-15, 16, (64, 96, 3))
        writer.write((4 * i + noise).clip(0, 255).astype(np.uint8), i / 20)
    writer.close()
    return path


def test_a_video_gives_every_frame_at_its_time(clip: Path) -> None:
    """60 frames written at 20 fps are read as 60 frames, numbered in order, 50 ms apart."""
    with open_source(str(clip)) as source:
        frames = list(source)
    assert [f.index for f in frames] == list(range(60))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(60) / 20, atol=1e-3)
    assert all(abs(int(f.image.mean()) - 4 * f.index) < 6 for f in frames)


def test_a_raw_stream_is_timed_by_its_fps(shared_data: Path) -> None:
    """The 300 frames of a raw .h264, which has no timestamps, are timed at 30 fps or by --fps."""
    path = str(next((shared_data / "video").glob("*.h264")))
    with open_source(path) as source:
        frames = [(f.index, f.time_s) for f in source]
    assert len(frames) == 300 and frames[30] == (30, pytest.approx(1.0))
    with open_source(path, fps=25) as source:
        assert next(iter(source)).time_s == 0 and source.open().fps == 25


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("kind", ["mp4", "gif", "mkv", "avi", "h264"])
def test_a_video_cut_short(clip: Path, kind: str, share: float) -> None:
    """A complete video gives no message; a truncated one gives its complete frames and then an error."""
    video = _in_a(kind, clip)
    frames, error = _until_error(str(video))
    assert len(frames) == 60 and error == ""
    video.write_bytes(video.read_bytes()[: int(video.stat().st_size * share)])
    frames, error = _until_error(str(video))
    assert 0 < len(frames) < 60 and "damaged or truncated" in error and "\n" not in error


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_video_with_holes(clip: Path, kind: str) -> None:
    """With five holes of 20 bytes in the second half, the other frames are read, and the error at the end says that it is damaged."""
    frames, error = _until_error(str(_with_holes(_in_a(kind, clip))))
    assert 30 < len(frames) <= 60 and "damaged or truncated" in error


def test_a_raw_stream_with_holes(shared_data: Path, tmp_path: Path) -> None:
    """The same holds for a camera's raw stream of 300 frames."""
    stream = Path(shutil.copy(next((shared_data / "video").glob("*.h264")), tmp_path))
    frames, error = _until_error(str(_with_holes(stream)))
    assert 280 < len(frames) <= 300 and "of them damaged" in error


def _with_holes(video: Path) -> Path:
    data = bytearray(video.read_bytes())
    for i in range(5):
        at = len(data) * (10 + i) // 20
        data[at : at + 20] = np.random.default_rng(i).bytes(20)
    video.write_bytes(data)
    return video


@given(st.data())
def test_a_gif_is_counted_block_by_block(data: st.DataObject) -> None:
    """A GIF with n pictures counts as n, with or without its last byte; a GIF truncated within a block counts one more than its
    complete pictures."""
    names = data.draw(st.lists(st.sampled_from(["picture", "comment"]), max_size=6))
    blocks = [_gif_block(name, data.draw(st.integers(0, 3)), data.draw(st.booleans())) for name in names]
    head = b"GIF89a" + bytes([1, 0, 1, 0, 0x80, 0, 0]) + bytes(6)
    whole = head + b"".join(blocks) + b";"
    assert gif_pictures(whole) == names.count("picture")
    assert gif_pictures(whole[:-1]) == names.count("picture")
    ends = np.cumsum([len(head), *map(len, blocks)])[1:]
    cut = data.draw(st.integers(0, len(whole) - 2).filter(lambda at: at != len(head) and at not in ends))
    complete = sum(name == "picture" and end <= cut for name, end in zip(names, ends, strict=True))
    assert gif_pictures(whole[:cut]) > complete


def _gif_block(name: str, chunks: int, own_colors: bool) -> bytes:
    data = b"".join(bytes([3, 1, 2, 3]) for _ in range(chunks)) + b"\0"
    if name == "comment":
        return b"!\xfe" + data
    return b"," + bytes(8) + (b"\x80" + bytes(6) if own_colors else b"\0") + b"\2" + data


def _until_error(what: str) -> tuple[list[Frame], str]:
    """Return the frames of a source and its error at the end."""
    frames: list[Frame] = []
    try:
        with open_source(what) as source:
            frames.extend(source)
    except SourceError as error:
        return frames, str(error)
    return frames, ""


def _in_a(kind: str, clip: Path) -> Path:
    """Write the pictures in another container; the mp4 has its index at the start, as from phones and web sites."""
    import av

    codec = {"gif": "gif", "avi": "mjpeg"}.get(kind)
    options = {"movflags": "faststart"} if kind == "mp4" else {}
    out = clip.with_name(f"other.{kind}")
    with av.open(str(clip)) as source, av.open(str(out), "w", options=options) as target:
        if codec is None:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        else:
            stream = target.add_stream(codec, rate=20)
            stream.width, stream.height = 96, 64
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuvj420p"
            for picture in source.decode(video=0):
                target.mux(stream.encode(picture.reformat(96, 64, stream.pix_fmt)))
            target.mux(stream.encode())
    return out


def test_a_video_without_its_index(clip: Path) -> None:
    """An mp4 without its first half cannot be opened, which gives one sentence."""
    clip.write_bytes(clip.read_bytes()[2000:])
    with pytest.raises(SourceError, match="cannot open it as a video") as caught:
        list(open_source(str(clip)))
    assert "\n" not in str(caught.value)


def test_a_folder(tmp_path: Path) -> None:
    """A folder's pictures are read in order of name; unreadable files are named at the end."""
    for i in (2, 0, 1):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), i, np.uint8))
    (tmp_path / "1a.jpg").write_text("a text")
    frames, error = _until_error(str(tmp_path))
    seen = [(frame.file, int(frame.image.max())) for frame in frames]
    assert seen == [("0.png", 0), ("1.png", 1), ("2.png", 2)] and "1a.jpg: not a readable image" in error


def test_a_glob(tmp_path: Path) -> None:
    """A glob pattern reads the matching files in order of name."""
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"a{i}.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((8, 8, 3), np.uint8))
    with open_source(str(tmp_path / "a*.png")) as source:
        assert [f.file for f in source] == ["a0.png", "a1.png", "a2.png"]


def test_file_identifies_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`file` is the name in the nearest folder that all pictures of the source are in, also if there is only one; a picture given by
    itself has none."""
    for name in ("x/1.png", "y/1.png", "y/z/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    monkeypatch.chdir(tmp_path)

    def files(*texts: str) -> list[str | None]:
        (source,) = open_sources(texts)
        return [frame.file for frame in source]

    assert files("**/*.png") == files(f"{tmp_path}/**/*.png") == ["x/1.png", "y/1.png", "y/z/2.png"]
    assert files("x/1.png", f"{tmp_path}/y/1.png") == ["x/1.png", "y/1.png"]
    assert files("y/z/2.png", "y/1.png") == ["z/2.png", "1.png"]
    assert files("x") == files("x/*.png") == ["1.png"] and files("x/1.png") == [None]


def test_exif_is_turned(tmp_path: Path) -> None:
    """A photo with EXIF orientation 6 is turned upright: its left edge becomes the top."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :10] = 255
    _, jpeg = cv2.imencode(".jpg", image)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = jpeg.tobytes()
    path = tmp_path / "phone.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    upright = read_picture(path)
    assert upright.shape == (60, 40, 3) and upright[:8].mean() > 200 > 50 > upright[12:].mean()


BAD = {
    "empty folder": ("empty", "the folder contains no pictures"),
    "nothing there": ("nowhere.mp4", "no camera, file, folder or URL has this name"),
    "nothing matches": ("x*.jpg", "no picture matches"),
    "a text named .jpg": ("text.jpg", "not a readable video or picture"),
    "a text named .mp4": ("text.mp4", "cannot open it as a video"),
    "an empty picture": ("zero.png", "the file is empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_sources(name: str, tmp_path: Path) -> None:
    """Each bad source is an error in one sentence that says what was expected."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("words")
    (tmp_path / "text.mp4").write_text("words")
    (tmp_path / "zero.png").write_bytes(b"")
    what, sentence = BAD[name]
    with pytest.raises(SourceError, match=sentence) as caught, open_source(str(tmp_path / what)) as source:
        list(source)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(Path("/dev/video63").exists(), reason="this machine has 64 cameras")
def test_a_missing_camera() -> None:
    """A missing camera is an error that lists the existing ones."""
    with pytest.raises(SourceError, match=r"/dev/video63 does not exist \(cameras here"):
        open_source("63").open()


def test_a_permanent_camera_name_is_followed_at_each_connection(tmp_path: Path) -> None:
    """udev's link to a camera's node is followed whenever the camera is opened, so a camera that got another number is found again.
    The source keeps the name as typed."""
    door = tmp_path / "video-door"
    source = live_source(str(door))
    for number in (63, 62):
        door.unlink(missing_ok=True)
        door.symlink_to(tmp_path / f"video{number}")
        with pytest.raises(SourceError, match=rf"camera .*/video-door: .*/video{number} does not exist"):
            source.open()
    for name in ("/dev/video-door", "/dev/v4l/by-id/usb-door"):
        source = open_source(name)
        assert source.name == name
        with pytest.raises(SourceError, match=f"camera {name}: {name} does not exist"):
            source.open()
    (tmp_path / "disk").touch()
    with pytest.raises(SourceError, match="/disk is not a camera"):
        live_source(str(tmp_path / "disk")).open()


CUT = ".jpg", ".png", ".webp", ".bmp", ".tif", ".jp2", ".gif", ".avif"


@pytest.mark.parametrize("suffix", CUT)
def test_a_truncated_picture_is_refused(suffix: str, tmp_path: Path) -> None:
    """A photo cut at any place, within its EXIF thumbnail too, is an error and no picture; with bytes after its end it is read."""
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for extra in [{}, {"progressive": True}, {"exif": _with_thumbnail()}] if suffix == ".jpg" else [{}]:
        good = tmp_path / f"good{suffix}"
        pil.fromarray(noise).save(good, **extra)
        data = good.read_bytes()
        frames, error = _until_error(str(good))
        assert len(frames) == 1 and error == ""
        if suffix != ".gif":
            good.write_bytes(data + bytes(10))
            assert len(_until_error(str(good))[0]) == 1
        for share in (0.1, 0.2, 0.4, 0.6, 0.9):
            with pytest.raises(SourceError, match=r"not a readable image|the picture is truncated"):
                list(pictures_in(data[: int(len(data) * share)], "cut"))


def _with_thumbnail() -> bytes:
    """EXIF data with a JPEG, as cameras write them."""
    small = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    return b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + small


@pytest.mark.parametrize(("share", "read", "named"), [(1, 3, 3), (0.9, 2, 3), (0.5, 1, 2)])
def test_a_truncated_tiff_says_how_many_pages_it_has(share: float, read: int, named: int, tmp_path: Path) -> None:
    """Of three pages, those before the cut are read, and the error says how many are announced before it."""
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pages = [pil.fromarray(np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)) for i in range(3)]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    frames, error = _until_error(str(path))
    assert len(frames) == read
    assert share == 1 or f"expected at least {named} pictures, but only the first {read} can be decoded" in error


@functools.cache
def _avif(orientation: int) -> bytes:
    """`corners` with an EXIF orientation, which Pillow writes as the properties irot and imir."""
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    if not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    exif, file = pil.Exif(), io.BytesIO()
    exif[0x112] = orientation
    pil.fromarray(corners()).save(file, "avif", exif=exif, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_pictures_are_upright(orientation: int, tmp_path: Path) -> None:
    """An AVIF with each of the eight orientations gives the same picture from its path, its bytes and a PIL image."""
    path = tmp_path / "turned.avif"
    path.write_bytes(_avif(orientation))
    expected, *_ = picture_of(pytest.importorskip("PIL.Image").open(path))
    for form in (str(path), path.read_bytes()):
        image, *_ = picture_of(form)
        assert image.shape == expected.shape and int(np.abs(image.astype(int) - expected).max()) < 8


@given(data=st.data())
def test_a_damaged_avif_never_crashes_its_reader(data: st.DataObject) -> None:
    """Whatever bytes of an AVIF are changed or cut, its properties only turn the picture."""
    whole = bytearray(_avif(5))  # turned and mirrored
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    turned = turned_avif(image, bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert sorted(turned.ravel()) == sorted(image.ravel())
