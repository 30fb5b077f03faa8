"""2018 Data Science Bowl, stage 1 (BBBC038): Kaggle's layout to COCO JSON.

Kaggle stores ``<id>/images/<id>.png`` and one ``<id>/masks/<name>.png`` for each nucleus, zero outside of it.
"""

import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath

import numpy as np

from ..intensity import IntensityMapping, to_rgb8
from ..pixels import read_image_pixels, read_label_pixels
from ..source_error import SourceError
from .conversion import ConversionNotes, open_source
from .instance_dataset import LabeledImage, write_instance_dataset
from .label_objects import clean_mask
from .splitting import SPLITS


def read_split_ids(split: str) -> list[str]:
    """Image ids of the paper's ``split``, sorted."""
    path = resources.files(__package__) / "splits" / "dsb2018" / f"{split}.txt"
    return sorted(path.read_text().split())


def read_names_in_dsb2018(dataset: str) -> set[str]:
    """Names (without ending) of those images of ``dataset`` that are also in the paper's splits, so far as is known."""
    path = resources.files(__package__) / "splits" / dataset / "in_dsb2018.tsv"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {row["image"] for row in csv.DictReader(lines, delimiter="\t")}


def convert_dsb2018(source: Path, output: Path) -> ConversionNotes:
    """Convert ``source`` to ``output/{train,val,test}/<id>.png`` and ``output/annotations/<folder>_<split>.json``.

    Prints what was written, which ids are missing and which files needed care. Nothing is left behind on an error.

    Args:
        source: the zip archive or the folder it unpacks to, with or without one folder around the ids.

    Returns:
        notes on what was unusual and left out.
    Raises:
        SourceError: ``source`` is missing, damaged, laid out in another way or has none of the listed ids.
    """
    kaggle = KaggleFolder.open(source)
    notes = ConversionNotes()
    readers = {}
    listed: set[str] = set()
    for split in SPLITS:
        ids = read_split_ids(split)
        listed.update(ids)
        for image_id in ids:
            if image_id not in kaggle.images:
                notes.add(f"id of the {split} list that the source does not have", image_id)
        if present := [image_id for image_id in ids if image_id in kaggle.images]:
            readers[split] = [partial(_read_sample, kaggle, image_id, notes) for image_id in present]
    if not readers:
        raise SourceError(
            f"{source} has none of the {len(listed)} ids of stage1_train.zip; for images of your own in this layout "
            f"run `objguided prepare labelmaps --images {source} --labels {source}`"
        )
    for image_id in sorted(kaggle.images.keys() - listed):
        notes.leave_out(kaggle.images[image_id], kind="image in no split list, left out")
    _note_masks_without_image(kaggle, notes)
    write_instance_dataset(output, readers, ["nucleus"], notes)
    return notes


def convert_dsb2018_extra(source: Path, output: Path) -> ConversionNotes:
    """Convert the competition's ``stage1_test`` with its masks to one split, ``train``.

    Not to be confused with the paper's test split, which is a part of ``stage1_train``. Images that are also in the
    paper's training or validation split are not taken.

    Args:
        source: as for :func:`convert_dsb2018`. Kaggle's own ``stage1_test.zip`` has no masks.
        output: the dataset's folder.

    Returns:
        notes on what was unusual and left out.
    Raises:
        SourceError: ``source`` is missing, damaged, laid out in another way or has ids of the paper's splits.
    """
    kaggle = KaggleFolder.open(source)
    if listed := sorted(kaggle.images.keys() & {name for split in SPLITS for name in read_split_ids(split)}):
        raise SourceError(
            f"{source} holds {len(listed)} images of stage1_train, as {listed[0]}; give stage1_train as --source, and "
            "stage1_test alone as --stage1-test"
        )
    notes = ConversionNotes()
    _note_masks_without_image(kaggle, notes)
    in_dsb2018 = kaggle.images.keys() & read_names_in_dsb2018("dsb2018_extra")
    for image_id in sorted(in_dsb2018):
        notes.add("image that is also in stage1_train, not taken", image_id)
    ids = sorted(kaggle.images.keys() - in_dsb2018)
    readers = {"train": [partial(_read_sample, kaggle, image_id, notes) for image_id in ids]}
    write_instance_dataset(output, readers, ["nucleus"], notes)
    return notes


def _note_masks_without_image(kaggle: "KaggleFolder", notes: ConversionNotes) -> None:
    for image_id in sorted(kaggle.masks.keys() - kaggle.images.keys()):
        notes.leave_out(image_id, kind="masks without their image, left out")


@dataclass
class KaggleFolder:
    """File names of a source by image id, and the function that reads them."""

    images: dict[str, str]
    masks: dict[str, list[str]]
    read: Callable[[str], bytes]

    @classmethod
    def open(cls, source: Path) -> "KaggleFolder":
        names, read = open_source(source)
        images: dict[str, str] = {}
        masks: dict[str, list[str]] = defaultdict(list)
        for name in names:
            path = PurePosixPath(name)
            if path.suffix.lower() != ".png" or len(path.parts) < 3 or path.name.startswith("."):
                continue
            image_id, kind = path.parts[-3:-1]
            if kind == "masks":
                masks[image_id].append(name)
            elif kind == "images" and path.stem == image_id:
                if image_id in images:
                    raise SourceError(f"{source} holds image {image_id} twice: {images[image_id]} and {name}; keep one")
                images[image_id] = name
        if not images or not masks:
            raise SourceError(
                f"{source} holds no <id>/images/<id>.png with <id>/masks/*.png; "
                "give stage1_train.zip, or stage1_test with its masks, or the folder it unpacks to"
            )
        return cls(images, masks, read)


def _read_sample(kaggle: KaggleFolder, image_id: str, notes: ConversionNotes) -> LabeledImage:
    name = kaggle.images[image_id]
    pixels = read_image_pixels(kaggle.read, name)
    if pixels.dtype == np.uint16:
        notes.add("16-bit image, divided by 257", name)
        pixels = IntensityMapping.parse("range:0,65535")(pixels)
    try:
        image = to_rgb8(pixels, None)
    except ValueError as error:
        raise SourceError(f"{name}: {error}; the challenge has images of 8 and 16 bits only") from error
    masks, num_read = [], 0
    for mask_name in kaggle.masks.get(image_id, ()):
        try:
            mask = read_label_pixels(kaggle.read, mask_name) > 0
        except SourceError as error:
            notes.leave_out(str(error), kind="unreadable mask, left out")
            continue
        if mask.shape != image.shape[:2]:
            notes.leave_out(mask_name, kind="mask of another size than its image, left out")
            continue
        num_read += 1
        if not mask.any():
            notes.add("empty mask, not an object", mask_name)
        elif (kept := clean_mask(mask, mask_name, notes)) is not None:
            masks.append(kept)
    if not num_read:
        # An image that nobody has labeled is not one without nuclei, which has at least an empty mask.
        raise SourceError(f"{name} has no readable mask file; add an empty mask if it has no nuclei")
    return LabeledImage(image_id, image, masks)
