"""Train the face finder from labelled pictures and a teacher: the one recipe, from Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ...errors import DataError
from ..checkpoint import STATE_FAULTS, reading_state
from .canvases import Stock
from .fit import Recipe, fit
from .network import FacesNetwork, FacesShape
from .pictures import Image, Portrait, portrait_files, read_pictures, read_scenes
from .teacher import Teacher, suppress

CHECKPOINT = "faces.pt"
SURE_PORTRAIT = 0.5  # the teacher's score from which a portrait's face is believed
SMOKE = Recipe(steps=4, warm_up=1, plan=((128, 2),), workers=0)


@dataclass(frozen=True)
class FacesTrainOptions:
    """What to train the face finder on, and for how long."""

    scenes: Path  # PATH.tar, PATH.csv and PATH_boxes.csv: photographs with boxes of faces
    portraits: tuple[Path, ...]  # PATH.tar and PATH.csv each: pictures of one face
    teacher: Path  # YuNet's .onnx
    out: Path  # folder for faces.pt; a training that was cut off goes on from there
    minutes: float = math.inf  # the schedule ends after this time at the latest
    steps: int = Recipe.steps
    rate: float = Recipe.rate  # the highest learning rate; it falls to nothing over the steps
    start: Path | None = None  # a faces.pt to go on from; None: random weights
    workers: int = 1  # processes that make pictures
    seed: int = 0
    smoke: bool = False  # a few pictures and steps, to see that everything runs


def train_faces(options: FacesTrainOptions) -> Path:
    """Train, and return the checkpoint; raises DataError for pictures that are not there, ModelError for a damaged checkpoint."""
    out, state = options.out / CHECKPOINT, None
    if out.exists():
        with reading_state(out):
            state = torch.load(out, weights_only=True)
    start = None if options.start is None else load_network(options.start)
    stock = read_stock(options, Teacher(options.teacher))
    recipe = Recipe(options.steps, options.minutes, options.rate, workers=options.workers, seed=options.seed)
    if options.smoke:
        recipe = replace(SMOKE, seed=options.seed)
    fit(stock, options.teacher, out, FacesShape(), recipe, start, state)
    return out


def read_stock(options: FacesTrainOptions, teacher: Teacher) -> Stock:
    """The training pictures; of each portrait the face that the teacher sees."""
    scenes = read_scenes(options.scenes, "train")
    with_faces, empty = ([s for s in scenes if bool(len(s.boxes_xyxy)) is wanted] for wanted in (True, False))
    if options.smoke:
        with_faces, empty = with_faces[:8], empty[:4]
    portraits: list[Portrait] = []
    for path in options.portraits:
        files = portrait_files(path, "train")[: 16 if options.smoke else None]
        pictures = [picture for _, picture in read_pictures(path, files)]
        for picture in tqdm(pictures, desc=path.name, unit="portrait", leave=False, disable=None):
            portrait = portrait_of(picture, teacher)
            if portrait is not None:
                portraits.append(portrait)
    for what, found in (("scenes with faces", with_faces), ("scenes without a face", empty), ("portraits", portraits)):
        if not found:
            raise DataError(
                f"expected {what} to train the face detector on, found none; add some to --scenes or --portraits"
            )
    return Stock(with_faces, empty, portraits)


def portrait_of(picture: Image, teacher: Teacher) -> Portrait | None:
    """A picture of one face with the largest face that the teacher sees in it, or None."""
    height, width = picture.shape[:2]
    scale = (
        max(1.0, 192 / max(height, width)) if max(height, width) < 100 else 1.0
    )  # a small face is seen better larger
    large = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
    top, left = ((-large.shape[0]) % 64) // 2, ((-large.shape[1]) % 64) // 2
    bottom, right = (-large.shape[0]) % 64 - top, (-large.shape[1]) % 64 - left
    padded = cv2.copyMakeBorder(large, top, bottom, left, right, cv2.BORDER_CONSTANT)
    targets = teacher.targets(np.asarray(padded, np.uint8))
    kept = suppress(targets, SURE_PORTRAIT)
    if not len(kept):
        return None
    sizes = (targets.boxes_xyxy[kept, 2:] - targets.boxes_xyxy[kept, :2]).prod(axis=1) * targets.scores[kept]
    best, corner = kept[int(sizes.argmax())], np.array([left, top], np.float32)
    return Portrait(
        picture,
        ((targets.boxes_xyxy[best] - np.tile(corner, 2)) / scale).astype(np.float32),
        ((targets.landmarks[best] - corner) / scale).astype(np.float32),
        float(targets.scores[best]),
    )


def load_network(checkpoint: Path) -> FacesNetwork:
    """The averaged network of a checkpoint; raises DataError for another file."""
    try:
        state = torch.load(checkpoint, weights_only=True)
        shape = FacesShape(**{k: tuple(v) for k, v in state["shape"].items()})
        network = FacesNetwork(shape)
        network.load_state_dict(state["averaged"])
    except STATE_FAULTS as error:
        raise DataError(
            f"{checkpoint}: expected a checkpoint of the face detector ({' '.join(str(error).split())[:100]}); "
            "give a faces.pt that numclip train-faces wrote"
        ) from None
    return network.eval()
