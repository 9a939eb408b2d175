"""Recipes: the sequence of trainings that made each shipped model, and recipes for models to come.

A recipe is a list of TrainOptions. Its `out`, `start` and `teachers` are names of its stages or of shipped checkpoints; its
`pretrained` is the name of the tower that needs start weights. The user gives only paths: faces, start weights, output folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

from ..errors import UsageError
from ..runtime.places import write_whole
from .fit import BEST, LAST, TrainResult, train
from .mix import mix
from .options import BY_FLAG, TrainOptions
from .teacher import is_table
from .tower_weights import read_start
from .training_data import check_names

LEFT_TO_THE_USER = ("data", "out", "resume", "smoke")
CONVERT = "python -m numclip.research.start_weights"
PREDICT = "python -m numclip.research.faceres_ages"
PREDICTIONS = Path("predictions.json")  # stands for the file of predictions that the user gives
SHIPPED = Path(__file__).parent / "checkpoints"
YOUNG_AND_OLD = ((10, 19, 2), (60, 120, 2))  # ages that appear twice in an epoch
stage = partial(TrainOptions, ())  # a stage of a recipe; the user gives the faces
_face = partial(stage, model="face-resnet", batch=128, lr=6e-4, rates={"image": 2e-4}, amp="bf16")
_small = partial(stage, model="small", batch=64, augment="light")


@dataclass(frozen=True)
class Recipe:
    """How a shipped model was trained."""

    about: str
    """What the recipe does and why, for people."""
    weights: dict[str, str]
    """By tower: the command that converts its start weights; by "predictions": the command that writes the teacher's predictions."""
    stages: tuple[TrainOptions, ...]
    """The stages, in order; the last one is the model, unless `mixed` is set."""
    only: str | None = None
    """The only kind of data set allowed, because of its licence; None: any."""
    mixed: tuple[tuple[str, float], ...] = ()
    """The model is the weighted mean of these stages' weights (stage, share); empty: it is the last stage."""
    joins: dict[str, str] = field(default_factory=dict[str, str])
    """By kind of data set: the first stage that learns from it. The stages before it leave such data out."""


DLIB = {"face-resnet": f"{CONVERT} dlib --out face-resnet.safetensors"}
FACERES = {"small": f"{CONVERT} faceres faceres-deep.json --out small.safetensors"}
MOBILENET = {"nano": f"{CONVERT} mobilenetv2 MOBILENET.tflite --out nano.safetensors"}
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
        "The student starts from age-small as it ships. Its last two blocks are cut from 1,024 to 640 channels, and its crop is the "
        "task's own at 80 px instead of a wider one at 144 px: less than a third of the work. It trains 6 epochs on all three data "
        "sets. Each picture of All-Age-Faces appears twice, ages 10 to 19 three times, and ages from 60 on twice. The teacher is "
        "age-small, run once per face and its mirror image, on its own crop.",
        {},
        (
            stage(
                Path("slim"),
                model="slim",
                start=SHIPPED / "age-small.safetensors",
                teachers=(SHIPPED / "age-small.safetensors",),
                teach_once=True,
                balance=True,
                repeat=((10, 19, 3), (60, 120, 2)),
                batch=64,
                epochs=6,
                lr=6e-4,
                rates={"image": 4e-4},
                augment="light",
                amp="bf16",
                seed=81,
            ),
        ),
        joins={"fairface": "slim"},
    ),
    "age-open": Recipe(
        "FairFace alone, whose labels are age bands. The first teacher is HSE-FaceRes as published (MIT): its "
        "predicted ages are clipped into the bands. A network that starts from HSE-FaceRes's weights learns these targets and is the "
        "second teacher. The model, of age-nano's size, starts from ImageNet's MobileNetV2 (Apache-2.0) and learns from the mean of "
        "both, clipped into the bands; ages from 60 on appear twice. Clipping also teaches the errors of the people who guessed the "
        "bands. So a stage follows with the first teacher alone and bands that are 20 years wider on both sides.",
        {
            **MOBILENET,
            **FACERES,
            "predictions": f"{PREDICT} faceres-deep.json --data fairface:fairface.tar --out faceres.json",
        },
        (
            _small(
                Path("ages"),
                pretrained="small",
                coverage=9 / 7,
                teachers=(PREDICTIONS,),
                teach_once=True,
                epochs=3,
                lr=6e-4,
                rates={"image": 3e-4},
                amp="bf16",
                seed=71,
            ),
            stage(
                Path("taught"),
                pretrained="nano",
                coverage=9 / 7,
                teachers=(PREDICTIONS, Path("ages")),
                teach_once=True,
                epochs=14,
                small_side_px=72,
                small_epochs=6,
                augment="light",
                repeat=((60, 120, 2),),
                amp="bf16",
                seed=72,
            ),
            stage(
                Path("wider"),
                start=Path("taught"),
                coverage=9 / 7,
                teachers=(PREDICTIONS,),
                teach_once=True,
                band_slack=20,
                epochs=4,
                lr=6e-4,
                augment="light",
                repeat=((60, 120, 2),),
                amp="bf16",
                seed=74,
            ),
        ),
        only="fairface",
    ),
    "age-base": Recipe(
        "Not trained yet. dlib's network with seven more blocks (12 million weights) at 168 px, with as wide a crop as age-small: "
        "12 epochs with strong augmentation, then 5 with light. The teachers of the last 5, run on every crop, are its own earlier "
        "weights and age-small.",
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
        "The student is the MobileNet of HSE-FaceRes, pre-trained to recognise faces and then to estimate ages. The teacher is dlib's "
        "face recognition network at 132 px: 9 epochs with light augmentation (its pre-trained weights at a third of the learning "
        "rate), then two runs of 15 epochs from there (strong and light), then one of these distilled from both. The student "
        "trains 4 epochs at 112 px, then 3 at 144 px with the face at the same size in a wider crop, both with that teacher. The "
        "next 6 epochs show All-Age-Faces as often as UTKFace; the teachers are dlib's network and the student's own earlier "
        "weights. The stage more adds FairFace, whose labels are bands; ages 10 to 19 and 60 or older appear twice, and the only "
        "teacher is the student before it. The model is 0.7 times the weights before that stage plus 0.3 times those after it: the "
        "share with the lowest mean error on the three val splits, of 0, 0.3, 0.5, 0.7 and 1. Epochs selected on val: 13 of "
        "strong, 11 of light, 6 of distilled (stopped after its 7th) and 6 of balanced; ages was planned for 7 epochs and stopped after its 4th, more was planned for 4 and stopped after its 2nd.",
        {**FACERES, **DLIB},
        (
            stage(
                Path("faces"),
                pretrained="face-resnet",
                model="face-resnet",
                epochs=9,
                lr=3e-4,
                rates={"image": 1e-4},
                augment="light",
                amp="bf16",
            ),
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
            _small(
                Path("more"),
                start=Path("balanced"),
                teachers=(Path("balanced"),),
                teach_once=True,
                coverage=9 / 7,
                small_side_px=112,
                small_epochs=2,
                repeat=YOUNG_AND_OLD,
                epochs=4,
                lr=4e-4,
                rates={"image": 2.5e-4},
                amp="bf16",
                seed=62,
            ),
        ),
        mixed=(("balanced", 0.7), ("more", 0.3)),
        joins={"fairface": "more"},
    ),
}


def train_recipe(name: str, options: TrainOptions, weights: Sequence[Path]) -> TrainResult:
    """Train all stages in folders below `options.out`, and write the last checkpoint, or the mix of several, there; returns its result.

    weights: converted start weights, one file per tower of the recipe, and the predictions that it needs; optional with `smoke`.
    Raises UsageError if start weights are missing, or if an option is set that the recipe fixes.
    """
    result = [train(one) for one in stages(name, options, weights)][-1]
    mixed = RECIPES[name].mixed
    if mixed and result.first_process:
        return mix([(_checkpoint(Path(one), options.out), share) for one, share in mixed], options)
    if result.first_process:
        write_whole(options.out / BEST, (result.out / BEST).read_bytes())
    return result


def stages(name: str, options: TrainOptions, weights: Sequence[Path]) -> list[TrainOptions]:
    """Return the options of each stage, with the user's faces, folder and start weights; raises UsageError."""
    recipe, plain = RECIPES[name], TrainOptions(options.data, options.out)
    for option in fields(options):
        if option.name not in LEFT_TO_THE_USER and getattr(options, option.name) != getattr(plain, option.name):
            name_of_flag = next((flag for flag, renamed in BY_FLAG.items() if renamed == option.name), option.name)
            flag = f"--{name_of_flag.replace('_', '-')}"
            raise UsageError(f"--recipe {name} sets {flag} itself; leave {flag} out")
    check_names(options.data)
    foreign = [d for d in options.data if recipe.only is not None and _kind(d) != recipe.only]
    if foreign:
        raise UsageError(
            f"expected only {recipe.only}: data with --recipe {name}, because the model gets the licence of that data set, "
            f"got {foreign[0]}; leave it out"
        )
    given = {start.model: str(path) for path in weights if (start := read_start(path)) is not None}
    predictions = next((path for path in weights if is_table(path)), None)
    if predictions is not None:
        given["predictions"] = str(predictions)
    needless = next((part for part in given if part not in recipe.weights), None)
    if needless is not None:
        raise UsageError(
            f"--recipe {name} does not start from weights for {needless}; leave {given[needless]} out of --pretrained"
        )
    missing = [command for tower, command in recipe.weights.items() if tower not in given]
    # Without this check the tower would start from random weights, which shows only after hours.
    if missing and not options.smoke:
        towers = " and ".join(recipe.weights)
        raise UsageError(
            f"expected --pretrained with start weights for {towers}, which --recipe {name} needs; "
            f"make them with: {'; '.join(missing)}"
        )
    kinds = set(map(_kind, options.data))
    for kind, first in recipe.joins.items():
        if kind not in kinds and not options.smoke:
            raise UsageError(
                f"expected also {kind}: data with --recipe {name}, whose stage {first} learns from it, got only "
                f"{' and '.join(f'{k}:' for k in sorted(kinds))}; add it to --data"
            )
    found: list[TrainOptions] = []
    names = [str(one.out) for one in recipe.stages]
    for number, one in enumerate(recipe.stages):
        out = options.out / one.out
        later = {kind for kind, first in recipe.joins.items() if number < names.index(first)}
        data = tuple(d for d in options.data if _kind(d) not in later)
        if not data:
            raise UsageError(
                f"expected further --data for the stage {one.out} of --recipe {name}, which does not learn from "
                f"{' and '.join(sorted(later))}: data; add a data set with exact labels, such as utkface:"
            )
        named = [
            predictions if teacher == PREDICTIONS else _checkpoint(teacher, options.out) for teacher in one.teachers
        ]
        teachers = tuple(path for path in named if path is not None)
        shorter = {"epochs": 1, "small_epochs": 0, "small_side_px": None} if options.smoke else {}
        found.append(
            replace(
                one,
                data=data,
                out=out,
                pretrained=None if one.pretrained is None else given.get(one.pretrained),
                start=None if one.start is None else _checkpoint(one.start, options.out),
                teachers=teachers,
                teach_once=one.teach_once and bool(teachers),
                resume=options.resume and (out / LAST).exists(),
                smoke=options.smoke,
                **shorter,
            )
        )
    return found


def _kind(data: str) -> str:
    """Return the kind of data set that a DATA text names: utkface of utkface:PATH."""
    return data.partition(":")[0]


def _checkpoint(named: Path, out: Path) -> Path:
    """Return the path of a stage's checkpoint below `out`, or of a shipped one."""
    return named if named.is_absolute() else out / named / BEST
