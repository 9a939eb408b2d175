"""The network's parts: prompts, text tower, adapter, start weights, and the torchvision workaround."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from numclip.calibration.data.datasets import open_data  # noqa: E402
from numclip.errors import ModelError, UsageError  # noqa: E402
from numclip.train.network import Adapter, Method, NumCLIP  # noqa: E402
from numclip.train.prompts import EOT, SOT, Prompt, token_ids  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402
from numclip.train.towers import build_towers, open_clip, rebuild_towers  # noqa: E402

PICTURES = torch.zeros(2, 112, 112, 3, dtype=torch.uint8)


def _through(trunk: nn.Module, convolution: str, norm: str, x: Tensor) -> Tensor:
    """Run x through two layers of a trunk, given by name."""
    return trunk.get_submodule(norm)(trunk.get_submodule(convolution)(x))


@pytest.fixture(scope="module")
def clip():
    """A small complete CLIP with random weights, built by open_clip."""
    from numclip.train.towers import TOWERS

    open_clip.add_model_config(TOWERS)
    torch.manual_seed(0)
    return open_clip.create_model("nano").eval()


def test_paper_tokens() -> None:
    """The five MORPH words and their context give the token ids listed with the method."""
    tokenize, task = open_clip.get_tokenizer("nano"), load_task("age-morph")
    assert token_ids(tokenize, task.context) == [805, 8904, 656, 281, 518, 2533, 533, 320]
    ids = [token_ids(tokenize, word) for word in task.spec.words]
    assert ids == [[2913], [19338], [1888, 7115], [3694, 7115], [7700, 7115]]


def test_prompts_are_the_sentence(clip) -> None:
    """An untrained prompt with its text tower gives open_clip's embedding of the written sentence, although it uses fewer slots."""
    from numclip.train.towers import TextTower

    task, tokenize = load_task("age-morph"), open_clip.get_tokenizer("nano")
    prompt = Prompt.from_words(tokenize, clip.token_embedding, task.context, task.spec.words, 77)
    with torch.no_grad():
        got = TextTower(clip)(*prompt())
        sentences = tokenize([f"{task.context} {word} ." for word in task.spec.words])
        expected = clip.encode_text(sentences)
    assert (sentences[:, 0] == SOT).all() and (sentences == EOT).any(1).all()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert prompt.end.tolist() == [11, 11, 12, 12, 12] and got.shape == (5, 256)


def test_a_sentence_too_long_is_refused(clip) -> None:
    """A word with too many tokens for the tower is an error in one sentence."""
    with pytest.raises(ModelError, match="expected at most 77 tokens"):
        Prompt.from_words(
            open_clip.get_tokenizer("nano", context_length=200), clip.token_embedding, "a", ("x " * 90,), 77
        )


def test_adapter_by_hand() -> None:
    """The adapter computes ratio * relu(W2 relu(W1 v)) + (1 - ratio) * v, without biases."""
    adapter = Adapter(2, 1, 0.8)
    with torch.no_grad():
        adapter.down.weight.copy_(torch.tensor([[1.0, -1]]))
        adapter.up.weight.copy_(torch.tensor([[2.0], [-2]]))
    got = adapter(torch.tensor([[3.0, 1], [1.0, 3]]))
    torch.testing.assert_close(got, torch.tensor([[0.8 * 4 + 0.2 * 3, 0.2], [0.2, 0.6]]))


def test_towers_rebuild(clip) -> None:
    """A checkpoint's record is enough to rebuild the same architecture, without weights, with another number of bins."""
    towers = build_towers("nano", None, PICTURES)
    again = rebuild_towers(towers.record)
    assert {n: p.shape for n, p in towers.image.named_parameters()} == {
        n: p.shape for n, p in again.image.named_parameters()
    }
    task = load_task("age")
    network = NumCLIP(task, again, Prompt(77, [1] * task.spec.num_bins, 3, 128), Method()).eval()
    out = network(PICTURES)
    assert out.value.shape == (2,) and out.probabilities.shape == (2, 11) and out.embedding.shape == (2, 256)
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(2))


def test_as_released_switches() -> None:
    """As released, labels are shifted by one year and back, weights are inside the exponent, the refinement sees only logits, and one
    step changes every active parameter."""
    from numclip.train.loop import loss_parts

    task, method = load_task("age-morph"), Method.as_released()
    network = NumCLIP(task, build_towers("nano", None, PICTURES), Prompt(77, [1] * 5, 3, 128), method).train()
    torch.nn.init.normal_(network.prompt.words)
    crops = torch.randint(0, 255, (4, 112, 112, 3), dtype=torch.uint8)
    outputs = network(crops)
    parts = loss_parts(outputs, torch.tensor([0.0, 16, 40, 70]), task, method)
    torch.stack(parts).sum().backward()
    assert method.label_offset == 1 and network.refinement.get_parameter("hidden.weight").shape[1] == 5
    assert network.adapter.ratio == 0.8 and all(torch.isfinite(p) for p in parts)
    lost = [n for n, p in network.named_parameters() if p.grad is None]
    assert not lost, f"parameters without a gradient: {lost}"


def test_a_local_clip_checkpoint_is_loaded(clip, tmp_path: Path) -> None:
    """`--pretrained FILE` loads a CLIP state dict into both towers, and the text tower counts as language pre-trained."""
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    towers = build_towers("nano", str(tmp_path / "clip.pt"), PICTURES)
    assert torch.equal(towers.token_embedding.weight, clip.token_embedding.weight)
    assert torch.equal(towers.image.get_parameter("head.proj.weight"), clip.visual.head.proj.weight)
    assert towers.record.language_pretrained and towers.record.pretrained == "clip.pt"


def test_unknown_names_are_refused() -> None:
    """An unknown tower, tag or task is an error that lists the known ones."""
    with pytest.raises(UsageError, match="expected --model base, face-resnet, nano, slim, small or an open_clip"):
        build_towers("nanoo", None, PICTURES)
    with pytest.raises(UsageError, match="a tag of nano"):
        build_towers("nano", "openai", PICTURES)
    with pytest.raises(UsageError, match="age-morph"):
        load_task("height")


def test_start_weights_answer_like_their_file(shared_data: Path, tmp_path: Path) -> None:
    """The dequantised MobileNetV2 with rebuilt batch norms gives the same outputs as without them, in training mode too."""
    pytest.importorskip("tflite", reason="needs the extra train")
    from numclip.research.start_weights import convert, read_tflite

    path = shared_data / "models" / "mobilenetv2_imagenet_int8.tflite"
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (8, 112, 112, 3), np.uint8))
    convert("mobilenetv2", path, tmp_path / "nano.safetensors")
    towers = build_towers("nano", str(tmp_path / "nano.safetensors"), pictures)
    assert towers.record.pretrained == path.name and not towers.record.language_pretrained
    trunk = towers.image.get_submodule("trunk")
    stem = read_tflite(path)[0]
    x = pictures.permute(0, 3, 1, 2) / 127.5 - 1
    expected = torch.nn.functional.conv2d(x, stem.kernel, stem.offset, stride=2, padding=1).clamp(0, 6)
    with torch.no_grad():
        for training in (False, True):
            first = _through(trunk.train(training), "conv_stem", "bn1", x)
            torch.testing.assert_close(first, expected, atol=2e-3, rtol=1e-3)


def test_face_resnet_starts_as_a_network_that_knows_faces(shared_data: Path, yunet_model: Path, tmp_path: Path) -> None:
    """In dlib's features a face and its mirror image are almost always closer than any two of 40 people; with random weights they are
    not. The rebuilt batch norms give the same outputs in training mode and in eval mode."""
    from numclip.calibration.data.crop_cache import face_crops
    from numclip.calibration.data.datasets import open_data

    persons = open_data(f"aaf:{shared_data / 'data' / 'aaf.tar'}").select("val")
    faces = face_crops(replace(persons, samples=persons.samples[::12][:40]), load_task("age").crop(132))
    crops = torch.from_numpy(np.array(faces.crops))
    from numclip.research.start_weights import convert

    dlib = tmp_path / "face-resnet.safetensors"
    convert("dlib", None, dlib)
    right = {}
    for pretrained in (str(dlib), None):
        trunk = build_towers("face-resnet", pretrained, crops).image.get_submodule("trunk")
        views = [x.permute(0, 3, 1, 2) / 127.5 - 1 for x in (crops, crops.flip(2))]
        with torch.no_grad():
            plain, mirrored = (trunk.eval()(x) for x in views)
            if pretrained:
                torch.testing.assert_close(trunk.train()(views[0]), plain, atol=0.02, rtol=0.02)
        plain, mirrored = plain - plain.mean(0), mirrored - plain.mean(0)
        nearest = torch.cdist(plain, mirrored).argmin(dim=1)
        right[pretrained] = int((nearest == torch.arange(len(crops))).sum())
    assert right[str(dlib)] >= 36, right
    assert right[str(dlib)] > (right[None] or 0), right


def _write_tfjs(folder: Path, kind: str) -> tuple[Path, dict[str, np.ndarray]]:
    """Write HSE-FaceRes's layers in TensorFlow.js format, with two weight files; returns their values.

    27 convolutions with folded norms, and two dense layers, the last of which gives ages 1 and 30 a probability of one half.
    """
    random, channels = np.random.default_rng(0), (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    shapes: dict[str, tuple[int, ...]] = {"relu/Const": (), "conv1/merged_input": (3, 3, 3, 32), "conv1_bn/sub": (32,)}
    for i, (inputs, outputs) in enumerate(pairwise(channels), 1):
        shapes |= {f"conv_dw_{i}/depthwise_kernel": (3, 3, inputs, 1), f"dw_{i}_bn/mul": (inputs,)}
        shapes |= {f"dw_{i}_bn/sub": (inputs,), f"conv_pw_{i}/merged_input": (1, 1, inputs, outputs)}
        shapes[f"pw_{i}_bn/sub"] = (outputs,)
    for name, inputs, outputs in (("feats", 1024, 256), ("age_pred", 256, 100)):
        shapes |= {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}
    dtype = np.float16 if kind == "float16" else np.float32
    values = {name: np.asarray(random.normal(size=shape) * 0.05, dtype) for name, shape in shapes.items()}
    values["age_pred/kernel"][:] = 0
    values["age_pred/bias"][:] = -100
    values["age_pred/bias"][[0, 29]] = 0
    stored = {"quantization": {"dtype": kind}} if kind != "float32" else {}
    weights = [{"name": n, "shape": list(s), "dtype": "float32"} | stored for n, s in shapes.items()]
    data = b"".join(values[name].tobytes() for name in shapes)
    (folder / "a.bin").write_bytes(data[:1001])
    (folder / "b.bin").write_bytes(data[1001:])
    path = folder / "faces.json"
    path.write_text(json.dumps({"weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": weights}]}))
    return path, values


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_small_starts_from_a_tensorflow_js_graph(tmp_path: Path, kind: str) -> None:
    """The tower's first two convolutions give the outputs of the file's on BGR minus its training mean: with the kernel axes
    reordered, gain and offset after the depthwise convolution, clipped to [0, 6]."""
    from numclip.research.start_weights import convert

    path, values = _write_tfjs(tmp_path, kind)
    pictures = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (8, 32, 32, 3), np.uint8))
    convert("faceres", path, tmp_path / "small.safetensors")
    towers = build_towers("small", str(tmp_path / "small.safetensors"), pictures)
    trunk = towers.image.get_submodule("trunk").eval()
    like_the_file = pictures.permute(0, 3, 1, 2).float().flip(1) - torch.tensor([103.939, 116.779, 123.68]).view(
        3, 1, 1
    )
    weights = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in values.items()}
    inside = (
        slice(None),
        slice(None),
        slice(2, -2),
        slice(2, -2),
    )  # at the border our padding is grey, the file's is its mean
    with torch.no_grad():
        first = _through(trunk, "conv_stem", "bn1", pictures.permute(0, 3, 1, 2) / 127.5 - 1)
        kernel = weights["conv1/merged_input"].permute(3, 2, 0, 1)
        expected = functional.conv2d(like_the_file, kernel, weights["conv1_bn/sub"], stride=2, padding=1).clamp(0, 6)
        torch.testing.assert_close(first[inside], expected[inside], atol=2e-3, rtol=1e-3)
        second = _through(trunk, "blocks.0.0.conv_dw", "blocks.0.0.bn1", first)
        kernel = weights["conv_dw_1/depthwise_kernel"].permute(2, 3, 0, 1)
        seen = functional.conv2d(first, kernel, padding=1, groups=32)
        scaled = seen * weights["dw_1_bn/mul"].view(-1, 1, 1) + weights["dw_1_bn/sub"].view(-1, 1, 1)
        torch.testing.assert_close(second, scaled.clamp(0, 6), atol=2e-3, rtol=1e-3)


def test_predictions_of_the_published_network(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that gives ages 1 and 30 a probability of one half predicts 15.5 years, half `baby` and half `adult`, for every
    training face; the file names the network and its licence. A graph without the age layers is an error."""
    from numclip.research.faceres_ages import main

    source = open_data(f"fairface:{shared_data / 'data' / 'fairface.tar'}").select("val")
    rows = ["file,age_low,age_high,split"]
    for i, sample in enumerate(source.samples[:6]):
        (tmp_path / f"{i}.webp").write_bytes(source.read_bytes(sample.file))
        rows.append(f"{i}.webp,20,29,{'val' if i == 5 else 'train'}")
    (tmp_path / "faces.csv").write_text("\n".join(rows) + "\n")
    path, _ = _write_tfjs(tmp_path, "float32")
    flags = ["--data", f"table:{tmp_path / 'faces.csv'}", "--out", str(tmp_path / "ages.json")]
    assert main([str(path), *flags]) == 0
    found = json.loads((tmp_path / "ages.json").read_text())
    assert (found["name"], found["licence"]["spdx"]) == ("faces.json", "MIT")
    assert set(found["faces"]) <= {f"{i}.webp" for i in range(5)} and found["faces"]
    halves = {"value": 15.5, "baby": 0.5, "adult": 0.5}
    for row in found["faces"].values():
        got = dict(zip(["value", *found["words"]], row, strict=True))
        assert {name: value for name, value in got.items() if value} == pytest.approx(halves, abs=1e-4)
    path.write_text(path.read_text().replace("age_pred", "other"))
    assert main([str(path), *flags]) == 1
    assert "expected the weights of HSE-FaceRes's age output" in capsys.readouterr().err


def test_a_tensorflow_js_graph_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """A missing .json, a missing or truncated .bin, integer weights and another network are errors in one sentence with the file."""
    from numclip.research.start_weights import fill_layers, read_tfjs

    with pytest.raises(ModelError, match=r"none\.json: expected a TensorFlow.js graph"):
        read_tfjs(tmp_path / "none.json")
    path, _ = _write_tfjs(tmp_path, "float32")
    with pytest.raises(
        ModelError, match=r"faces\.json: expected \d+ convolutions|faces\.json: convolution 0: expected"
    ):
        fill_layers(build_towers("face-resnet", None, PICTURES).image.get_submodule("trunk"), read_tfjs(path), path)
    (tmp_path / "b.bin").write_bytes((tmp_path / "b.bin").read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"faces\.json: expected a TensorFlow.js graph"):
        read_tfjs(path)
    (tmp_path / "b.bin").unlink()
    with pytest.raises(ModelError, match=r"faces\.json: expected a TensorFlow.js graph.*b.bin"):
        read_tfjs(path)
    path, _ = _write_tfjs(tmp_path, "uint8")
    with pytest.raises(ModelError, match=r"faces\.json: expected a TensorFlow.js graph.*stored as uint8"):
        read_tfjs(path)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    """A .dat without dlib's layers, start weights for another tower, and an unconverted file are errors; the last one gives the
    conversion command."""
    from numclip.research.start_weights import convert, read_dlib

    (tmp_path / "other.dat").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="expected dlib's face recognition network"):
        read_dlib(tmp_path / "other.dat")
    convert("dlib", None, tmp_path / "dlib.safetensors")
    with pytest.raises(ModelError, match="expected start weights for nano, got those for face-resnet"):
        build_towers("nano", str(tmp_path / "dlib.safetensors"), PICTURES)
    for given, command in {
        "dlib": "dlib --out",
        "a/m.tflite": "mobilenetv2 a/m.tflite",
        "f.json": "faceres f.json",
    }.items():
        with pytest.raises(UsageError, match=f"python -m numclip.research.start_weights {command}"):
            build_towers("nano", given, PICTURES)


def test_torchvision_gap_is_closed() -> None:
    """After importing torchvision_gap, torchvision, timm and open_clip can be imported."""
    code = "import numclip.train.torchvision_gap, open_clip, timm, torchvision"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
