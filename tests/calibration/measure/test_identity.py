"""How well outputs identify people: known separations are measured, a leaking control fails, one with only age passes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import numclip
from numclip.calibration import EvaluateOptions, Evaluation, evaluate
from numclip.calibration.data.datasets import open_data
from numclip.calibration.measure.degrade import second_look
from numclip.calibration.measure.identity import Identity, accepted, auc, separations
from numclip.cli.main import main
from numclip.errors import DataError
from numclip.runtime.sessions.model import Model
from numclip.runtime.sessions.session import Crops, Outputs, Session, SessionFacts

PERSONS, LOOKS = 120, 3


def test_known_separations() -> None:
    """Hand-computed: for normal scores two deviations apart, the AUC is Phi(2 / sqrt 2) = 0.9214, and the true accept rate at 1 %
    false accepts is Phi(2 - 2.3263) = 0.3721."""
    random = np.random.default_rng(0)
    genuine, impostor = random.normal(2, 1, 40_000), random.normal(0, 1, 40_000)
    assert auc(genuine, impostor) == pytest.approx(0.5 * math.erfc(-1.0), abs=0.004)
    assert accepted(genuine, impostor, 0.01) == pytest.approx(0.3721, abs=0.02)
    assert accepted(genuine, impostor[:99], 0.01) is None
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == (0.5 + 1 + 1 + 1) / 4
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra study")
    truth = np.repeat([1, 0], 40_000)
    assert auc(genuine, impostor) == pytest.approx(
        metrics.roc_auc_score(truth, np.concatenate([genuine, impostor])), abs=1e-12
    )


def _made(own: float, random: np.random.Generator) -> Identity:
    """Make people of 20 to 30 with three looks each; embeddings of 8 numbers; a share `own` of their variance is per person."""
    person = np.repeat(np.arange(PERSONS), LOOKS)
    ages = random.uniform(20, 30, PERSONS)[person]
    read = (ages + random.normal(0, 4, len(person)))[:, None]
    embedding = math.sqrt(own) * random.normal(size=(PERSONS, 8))[person] + math.sqrt(1 - own) * random.normal(
        size=(len(person), 8)
    )
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    words = np.exp(-np.abs(read - np.arange(0, 100, 10)[None]) / 5)
    probabilities = words / words.sum(axis=1, keepdims=True)
    return separations(
        {"embedding": embedding, "probabilities": probabilities, "age": read}, ages, [str(p) for p in person]
    )


def test_synthetic_persons_with_a_known_leak() -> None:
    """If half of the embedding's variance is per person, the AUC equals that computed directly from the draw, is above 0.85, and the
    test reports a leak."""
    found = _made(0.5, np.random.default_rng(1))
    (own,) = [s for s in found.separations if s.output == "embedding" and s.like_age]
    fresh = np.random.default_rng(2)
    u, v, w = (fresh.normal(size=(40_000, 8)) for _ in range(3))
    e, f = fresh.normal(size=(2, 40_000, 8))

    def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    expected = auc(cosine(u + e, u + f), cosine(v + e, w + f))
    assert own.auc == pytest.approx(expected, abs=0.03) and own.auc_low <= expected <= own.auc_high
    assert found.leaks == ("embedding",) and found.to_json()["passes"] is False
    assert found.persons == PERSONS and own.genuine == PERSONS * 3


def test_what_knows_only_age_passes() -> None:
    """Noise embeddings, and probabilities computed from the predicted age, leak nothing beyond age."""
    found = _made(0.0, np.random.default_rng(3))
    assert found.leaks == () and found.to_json()["passes"] is True
    (age,) = [s for s in found.separations if s.output == "age" and s.like_age]
    assert abs(age.auc - 0.5) < 0.1


def test_without_persons_it_is_refused() -> None:
    """Fewer than ten people with two pictures are an error in one sentence."""
    outputs = {"age": np.zeros((4, 1)), "embedding": np.zeros((4, 2))}
    with pytest.raises(DataError, match="needs at least 10 persons with two or more pictures"):
        separations(outputs, np.zeros(4), ["a", "a", "", ""])


@pytest.fixture(scope="module")
def people(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table with subjects: 40 people of UTKFace's test split, each in three simulated looks."""
    folder, random = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    data = open_data(f"utkface:{shared_data / 'data' / 'utkface.tar'}").select("test")
    rows = ["file,label,subject"]
    grown = [sample for sample in data.samples if 20 <= sample.label <= 30][:40]
    for person, sample in enumerate(grown):
        for look in range(3):
            name = f"{person}_{look}.png"
            cv2.imwrite(str(folder / name), second_look(data.read(sample), random))
            rows.append(f"{name},{sample.label:g},{person}")
    (folder / "people.csv").write_text("\n".join(rows) + "\n")
    return f"table:{folder / 'people.csv'}"


class Thumbnails:
    """A control that leaks by construction: its embedding is the grey crop at 8 x 8, made invariant to mirroring."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner

    @property
    def facts(self) -> SessionFacts:
        return self.inner.facts

    def run(self, crops: Crops) -> Outputs:
        out = self.inner.run(crops)
        grey = np.stack([cv2.resize(crop, (8, 8), interpolation=cv2.INTER_AREA).mean(axis=2).ravel() for crop in crops])
        both = grey.reshape(-1, 8, 8) + grey.reshape(-1, 8, 8)[:, :, ::-1]  # the same for a mirrored face
        grey = (both - both.mean(axis=(1, 2), keepdims=True)).reshape(-1, 64)
        return Outputs(
            out.value, out.probabilities, (grey / np.linalg.norm(grey, axis=1, keepdims=True)).astype(np.float32)
        )

    def close(self) -> None:
        self.inner.close()


def test_a_network_that_leaks_fails(people: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures as embeddings identify people and fail the test; the figures of the shipped model's outputs are printed."""
    model = numclip.load("age-nano", device="cpu")
    control = Model(replace(model.spec, calibration=None), Thumbnails(model.session))
    evaluation = evaluate(EvaluateOptions(control, people, identity=True))
    assert isinstance(evaluation, Evaluation)
    found = evaluation.identity
    assert found is not None and "embedding" in found.leaks
    assert main(["evaluate", "age-nano", "--data", people, "--identity", "--json", "-"]) == 0
    shipped = json.loads(capsys.readouterr().out)["identity"]
    assert {row["output"] for row in shipped["separations"]} == {"embedding", "probabilities", "age"}
    assert shipped["passes"] is (not shipped["leaks"]) and shipped["persons"] == 40
    assert main(["evaluate", "age-nano", "--data", people, "--identity"]) == 0
    print(text := capsys.readouterr().out)
    assert "telling 40 persons apart" in text and "embedding, like age" in text
