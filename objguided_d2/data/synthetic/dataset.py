"""Write a synthetic dataset to disk, in the layout that all datasets here have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..converters.conversion import ConversionNotes
from ..converters.instance_dataset import LabeledImage, write_instance_dataset
from ..converters.splitting import SPLITS
from .imaging import SyntheticImage
from .leaves import make_leaves
from .neurons import make_neurons
from .nuclei import make_nuclei

_MAKERS = {"nuclei": make_nuclei, "neurons": make_neurons, "leaves": make_leaves}
KINDS = tuple(_MAKERS)
MIN_SIDE = 32


def make_image(kind: str, size: tuple[int, int], rng: np.random.Generator) -> SyntheticImage:
    """Draw one image with the exact mask of every object.

    An object that shows fewer than :data:`imaging.MIN_OBJECT_PIXELS` pixels is left out, so no object lacks a mask.
    Masks of nuclei and leaves do not overlap; those of neurons do where one crosses another.

    Args:
        kind: one of :data:`KINDS`.
        size: (height, width) in pixels. The sizes of nuclei and neurons are in pixels too, so a larger image holds
            more of them; a plant fills its image.
        rng: the only source of randomness.

    Raises:
        ValueError: if the kind is unknown or a side is under 32 pixels.
    """
    if kind not in _MAKERS:
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if min(size) < MIN_SIDE:
        raise ValueError(f"size is {size}, expected (height, width) of at least {MIN_SIDE} pixels each")
    return _MAKERS[kind]((int(size[0]), int(size[1])), rng)


def write_synthetic_dataset(
    root: str | os.PathLike,
    kinds: Sequence[str] = KINDS,
    num_train: int = 200,
    num_val: int = 40,
    num_test: int = 0,
    *,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    single_class: bool = False,
) -> ConversionNotes:
    """Write ``root/<split>/<number>_<kind>.png`` and COCO JSON ``root/annotations/<name of root>_<split>.json``.

    Splits are those of train, val and test that have images; one that an earlier call wrote and this one does not is
    removed.
    The kinds alternate. For given kinds and size, image k of a split depends on the seed, the split and k alone: a
    larger dataset begins with the images of a smaller one. Files appear only once all are complete, the JSON last.

    Args:
        root: the dataset's folder, created if need be.
        kinds: which kinds to draw; the categories are these, in this order, with ids 1, 2, ...
        num_train: number of training images.
        num_val: number of validation images.
        num_test: number of test images.
        size: (height, width) of each image in pixels.
        seed: not negative.
        single_class: file all objects under one category, "object".

    Returns:
        notes on images without objects and overlaps.
    Raises:
        ValueError: if ``kinds`` is empty, repeats or holds an unknown one, ``size`` is too small, a number of images
            is negative or all are 0.
    """
    if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds is {list(kinds)}, expected one or more of {', '.join(KINDS)}, each once")
    counts = dict(zip(SPLITS, (num_train, num_val, num_test), strict=True))
    if min(counts.values()) < 0 or not any(counts.values()):
        raise ValueError(f"numbers of images are {counts}, expected at least 0 each, and one above")

    def draw(split: str, k: int) -> LabeledImage:
        kind = kinds[k % len(kinds)]
        image, masks = make_image(kind, size, np.random.default_rng([seed, SPLITS.index(split), k]))
        category_id = 1 if single_class else 1 + kinds.index(kind)
        return LabeledImage(f"{k:05d}_{kind}", image, list(masks), [category_id] * len(masks))

    notes = ConversionNotes()
    readers = {split: [partial(draw, split, k) for k in range(count)] for split, count in counts.items() if count}
    write_instance_dataset(Path(root), readers, ["object"] if single_class else kinds, notes)
    return notes
