"""Recipes: the trainings that made a shipped model, one after the other, each started from the one before.

A recipe is a list of TrainOptions whose `out`, `start` and `teachers` are names of its stages, and whose `pretrained` is the
name of the tower that start weights are for. What is left to the user is where things lie: the faces, those weights, the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from ..errors import UsageError
from ..runtime.places import write_whole
from .fit import BEST, LAST, TrainResult, train
from .options import TrainOptions
from .tower_weights import read_start

LEFT_TO_THE_USER = ("data", "out", "resume", "smoke")
CONVERT = "python -m numclip.research.start_weights"
stage = partial(TrainOptions, ())  # a stage of a recipe; the faces are the user's
_face = partial(stage, model="face-resnet", batch=128, lr=6e-4, rates={"image": 2e-4}, amp="bf16")
_small = partial(stage, model="small", batch=64, augment="light")


@dataclass(frozen=True)
class Recipe:
    """How a shipped model was trained."""

    about: str
    """What was done and why, for people."""
    weights: dict[str, str]
    """Tower: the command that converts the weights it starts from."""
    stages: tuple[TrainOptions, ...]
    """In order; the last one is the model."""


DLIB = {"face-resnet": f"{CONVERT} dlib --out face-resnet.safetensors"}
FACES = stage(
    Path("faces"), pretrained="face-resnet", model="face-resnet", epochs=9, lr=3e-4, rates={"image": 1e-4}, augment="light", amp="bf16"
)  # fmt: skip
RECIPES = {
    "age-nano": Recipe(
        "From ImageNet's MobileNetV2 20 epochs at 112 px under strong augmentation and 14 under light, because the tower was "
        "still underfit; then at 96 px, a quarter cheaper, taught by the first stage of age-small.",
        {"nano": f"{CONVERT} mobilenetv2 MOBILENET.tflite --out nano.safetensors", **DLIB},
        (
            FACES,
            stage(Path("first"), pretrained="nano", side_px=112, small_side_px=80, small_epochs=8),
            stage(
                Path("longer"),
                start=Path("first"),
                side_px=112,
                epochs=14,
                lr=7e-4,
                small_side_px=88,
                small_epochs=8,
                augment="light",
                seed=1,
            ),
            stage(
                Path("taught"),
                start=Path("longer"),
                teachers=(Path("faces"),),
                epochs=8,
                lr=5e-4,
                augment="light",
                seed=21,
            ),
        ),
    ),
    "age-small": Recipe(
        "A MobileNet that HSE-FaceRes taught to know faces and to guess ages, 4 epochs at 112 px, then 3 at 144 px with the "
        "face as large and more around it, both taught by another network that knows faces: dlib's at 132 px, 9 epochs under "
        "light augmentation, its weights a third as fast as what is new, from there twice 15 epochs, and one of the two goes "
        "on, taught by both. At last 6 epochs in which All-Age-Faces counts as much as UTKFace, taught by that network and by "
        "itself as it was. Chosen on val: epoch 13 of strong, 11 of light, 6 of distilled, which was stopped after its 7th, 6 "
        "of balanced; ages was planned for 7 epochs and stopped after its 4th.",
        {"small": f"{CONVERT} faceres faceres-deep.json --out small.safetensors", **DLIB},
        (
            FACES,
            _face(Path("strong"), start=Path("faces"), epochs=15, seed=31),
            _face(Path("light"), start=Path("faces"), epochs=15, augment="light", seed=35),
            _face(
                Path("distilled"), start=Path("strong"), teachers=(Path("strong"), Path("light")), epochs=10, seed=41
            ),
            _small(
                Path("ages"),
                pretrained="small",
                side_px=112,
                teachers=(Path("distilled"),),
                epochs=4,
                lr=6e-4,
                rates={"image": 3e-4},
                seed=51,
            ),
            _small(
                Path("wider"),
                start=Path("ages"),
                teachers=(Path("distilled"),),
                coverage=9 / 7,
                epochs=3,
                lr=4e-4,
                rates={"image": 2.5e-4},
                seed=52,
            ),
            _small(
                Path("balanced"),
                start=Path("wider"),
                teachers=(Path("wider"), Path("distilled")),
                coverage=9 / 7,
                balance=True,
                epochs=6,
                lr=4e-4,
                rates={"image": 2.5e-4},
                seed=53,
            ),
        ),
    ),
}


def train_recipe(name: str, options: TrainOptions, weights: Sequence[Path]) -> TrainResult:
    """Train all stages below `options.out`, where the last one's checkpoint is copied to; returns the last one's result.

    weights: converted start weights, each for one tower of the recipe; with `smoke` they may be left out.
    Raises UsageError where a weight is missing, or where the options say more than the recipe leaves to the user.
    """
    result = [train(one) for one in stages(name, options, weights)][-1]
    if result.first_process:
        write_whole(options.out / BEST, (result.out / BEST).read_bytes())
    return result


def stages(name: str, options: TrainOptions, weights: Sequence[Path]) -> list[TrainOptions]:
    """The options of each stage, with the user's faces, folder and start weights; raises UsageError."""
    recipe, plain = RECIPES[name], TrainOptions(options.data, options.out)
    for field in fields(options):
        if field.name not in LEFT_TO_THE_USER and getattr(options, field.name) != getattr(plain, field.name):
            raise UsageError(
                f"expected --recipe {name} without another {field.name}, which the recipe fixes; leave it out"
            )
    given = {start.model: str(path) for path in weights if (start := read_start(path)) is not None}
    missing = [command for tower, command in recipe.weights.items() if tower not in given]
    if missing and not options.smoke:  # which would start at random, and show after hours
        towers = " and ".join(recipe.weights)
        raise UsageError(
            f"expected --recipe {name} with --pretrained and start weights for {towers}; make them: {'; '.join(missing)}"
        )
    found: list[TrainOptions] = []
    for one in recipe.stages:
        out = options.out / one.out
        shorter = {"epochs": 1, "small_epochs": 0} if options.smoke else {}
        found.append(
            replace(
                one,
                data=options.data,
                out=out,
                pretrained=None if one.pretrained is None else given.get(one.pretrained),
                start=None if one.start is None else options.out / one.start / BEST,
                teachers=tuple(options.out / teacher / BEST for teacher in one.teachers),
                resume=options.resume and (out / LAST).exists(),
                smoke=options.smoke,
                **shorter,
            )
        )
    return found
