"""From labeled images to the PNG and COCO files of a dataset: what converters do once they have read their source."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...utils.atomic_write import staged_folder
from ..source_error import SourceError
from .coco_writer import CocoWriter
from .conversion import ConversionNotes

HUGE_SIDE = 4096


@dataclass
class LabeledImage:
    """One image with its objects.

    Attributes:
        name: of the PNG file to be written, without ending.
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool each, none empty.
        category_ids: of the masks, from 1; empty for all 1.
        crowd: (H, W) bool, where there may be objects without an individual mask.
        fields: further entries of the image's COCO record.
    """

    name: str
    image: np.ndarray
    masks: list[np.ndarray]
    category_ids: list[int] = field(default_factory=list)
    crowd: np.ndarray | None = None
    fields: dict = field(default_factory=dict)


def write_instance_dataset(
    output: Path,
    splits: Mapping[str, Sequence[Callable[[], LabeledImage]]],
    categories: Sequence[str],
    notes: ConversionNotes,
    info: Mapping[str, str] | None = None,
) -> None:
    """Write ``output/<split>/<name>.png`` and ``output/annotations/<folder>_<split>.json``; print what was done.

    Args:
        output: the dataset's folder; its name begins that of the annotation files.
        splits: split -> one function per image that reads it, called in this order. One that raises SourceError is
            left out and noted.
        categories: class names.
        notes: printed at the end.
        info: entries for the ``info`` of the JSON files.

    Raises:
        SourceError: if no image could be used. Nothing is left behind.
    """
    total = 0
    with staged_folder(output) as staging:
        for split, readers in splits.items():
            writer, num_objects = CocoWriter(staging / split, categories, info), 0
            for read in tqdm(readers, desc=split, unit="image", disable=None):
                try:
                    sample = read()
                except SourceError as error:
                    notes.add("left out", str(error))
                    continue
                _note_oddities(sample, notes)
                writer.add(
                    sample.name,
                    sample.image,
                    sample.masks,
                    sample.category_ids or 1,
                    crowd=sample.crowd,
                    fields=sample.fields,
                )
                num_objects += len(sample.masks)
            if writer.images:
                writer.write_json(staging / "annotations" / f"{output.name}_{split}.json")
            print(f"{split}: {len(writer.images)} of {len(readers)} images, {num_objects} objects")
            total += len(writer.images)
        if not total:
            raise SourceError(f"no image of the source could be used:\n{notes}")
    print(f"Wrote {output}", notes, sep="\n")


def _note_oddities(sample: LabeledImage, notes: ConversionNotes) -> None:
    if not sample.masks:
        notes.add("image without objects, kept", sample.name)
    if max(sample.image.shape[:2]) > HUGE_SIDE:
        notes.add(f"image with a side over {HUGE_SIDE} pixels, kept: consider cutting it into tiles", sample.name)
    overlap = count_overlap(sample.masks)
    if overlap:
        notes.add("image with overlapping masks, kept", f"{sample.name} ({overlap} pixels)")


def count_overlap(masks: Iterable[np.ndarray]) -> int:
    """Pixels that belong to more than one (H, W) bool mask."""
    covered = twice = None
    for mask in masks:
        if covered is None:
            covered, twice = np.zeros_like(mask), np.zeros_like(mask)
        twice |= covered & mask
        covered |= mask
    return int(twice.sum()) if twice is not None else 0
