"""Recipes: the trainings that made a shipped model, or are to make the next one, one after the other.

A recipe is a list of TrainOptions whose `out`, `start` and `teachers` are names of its stages or checkpoints that ship, and whose
`pretrained` is the name of the tower that start weights are for. What is left to the user is where things lie: the faces, those
weights, the folder.
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
SHIPPED = Path(__file__).parent / "checkpoints"
YOUNG_AND_OLD = ((10, 19, 2), (60, 120, 2))  # ages that stand twice in an epoch
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
    only: str | None = None
    """The one kind of data set that may be given, for the sake of its licence; None: any."""


DLIB = {"face-resnet": f"{CONVERT} dlib --out face-resnet.safetensors"}
MOBILENET = {"nano": f"{CONVERT} mobilenetv2 MOBILENET.tflite --out nano.safetensors"}
FACES = stage(
    Path("faces"), pretrained="face-resnet", model="face-resnet", epochs=9, lr=3e-4, rates={"image": 1e-4}, augment="light", amp="bf16"
)  # fmt: skip
NANO = (
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
)
BASE_WEIGHTS = {"base": f"{CONVERT} dlib-base --out base.safetensors"}
BASE = stage(
    Path("base"),
    model="base",
    pretrained="base",
    coverage=9 / 7,
    batch=128,
    epochs=12,
    lr=6e-4,
    rates={"image": 2e-4},
    repeat=YOUNG_AND_OLD,
    amp="bf16",
    seed=63,
)
RECIPES = {
    "age-nano": Recipe(
        "From ImageNet's MobileNetV2 20 epochs at 112 px under strong augmentation and 14 under light, because the tower was "
        "still underfit; then at 96 px, a quarter cheaper, taught by the first stage of age-small.",
        {**MOBILENET, **DLIB},
        NANO,
    ),
    "age-open": Recipe(
        "Not trained yet. The stages of age-nano on FairFace alone, whose ages are bands, from starts whose licences allow commercial "
        "use: ImageNet's MobileNetV2 (Apache-2.0) and, for the teacher, dlib's network (CC0-1.0).",
        {**MOBILENET, **DLIB},
        NANO,
        only="fairface",
    ),
    "age-nano-more": Recipe(
        "Not trained yet. The next age-nano: from the shipped one, on exact ages and bands together, 8 epochs in which 10 to 19 and "
        "60 and over come twice, taught by age-small, which sees more of each face and is asked once.",
        {},
        (
            stage(
                Path("more"),
                start=SHIPPED / "age-nano.safetensors",
                teachers=(SHIPPED / "age-small.safetensors",),
                teach_once=True,
                epochs=8,
                lr=5e-4,
                augment="light",
                repeat=YOUNG_AND_OLD,
                seed=61,
            ),
        ),
    ),
    "age-small-more": Recipe(
        "Not trained yet. The next age-small: from the shipped one, on exact ages and bands together, where 10 to 19 and 60 and over "
        "come twice, taught on every crop by a network of age-base's size that learned the same before.",
        BASE_WEIGHTS,
        (
            BASE,
            _small(
                Path("more"),
                start=SHIPPED / "age-small.safetensors",
                teachers=(Path("base"),),
                coverage=9 / 7,
                repeat=YOUNG_AND_OLD,
                epochs=10,
                lr=4e-4,
                rates={"image": 2.5e-4},
                seed=62,
            ),
        ),
    ),
    "age-base": Recipe(
        "Not trained yet. dlib's network with seven blocks more (12 million weights) at 168 px, as much around the face as age-small "
        "sees: 12 epochs under strong augmentation, then 5 under light, taught on every crop by itself as it was and by age-small.",
        BASE_WEIGHTS,
        (
            BASE,
            replace(
                BASE,
                out=Path("again"),
                pretrained=None,
                start=Path("base"),
                teachers=(Path("base"), SHIPPED / "age-small.safetensors"),
                epochs=5,
                lr=4e-4,
                rates={"image": 1.5e-4},
                augment="light",
                seed=64,
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
    foreign = [d for d in options.data if recipe.only is not None and d.partition(":")[0] != recipe.only]
    if foreign:
        raise UsageError(
            f"expected --recipe {name} with {recipe.only}: alone, whose licence the model is to have, got {foreign[0]}"
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
                start=None if one.start is None else _checkpoint(one.start, options.out),
                teachers=tuple(_checkpoint(teacher, options.out) for teacher in one.teachers),
                resume=options.resume and (out / LAST).exists(),
                smoke=options.smoke,
                **shorter,
            )
        )
    return found


def _checkpoint(named: Path, out: Path) -> Path:
    """That of a stage below `out`, or one that ships."""
    return named if named.is_absolute() else out / named / BEST
