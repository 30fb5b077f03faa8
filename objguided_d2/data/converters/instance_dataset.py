"""From labeled images to the PNG and COCO files of a dataset: what converters do once they have read their source."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...utils.atomic_write import staged_folder
from ..source_error import SourceError
from .coco_writer import CocoWriter
from .conversion import ConversionNotes
from .splitting import SPLITS

HUGE_SIDE = 4096
NOTES_FILE = "conversion_notes.txt"


class EmptySplitError(SourceError):
    """None of the images that were meant for a split could be used, but others could."""


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

    Splits and images that an earlier run wrote and this one does not are removed. All notes go to
    ``output/conversion_notes.txt``, the first of each kind to the screen.

    Args:
        output: the dataset's folder; its name begins that of the annotation files.
        splits: split -> one function per image that reads it, called in this order. One that raises SourceError is
            left out and noted.
        categories: class names.
        notes: on what was left out so far.
        info: entries for the ``info`` of the JSON files.

    Raises:
        EmptySplitError: if no image of a split could be used. Nothing is left behind.
        SourceError: if no image at all could be used. Nothing is left behind.
    """
    written: set[Path] = set()
    empty: list[str] = []
    objects_by_class = [0] * len(categories)
    with staged_folder(output, lambda: _stale_files(output, written)) as staging:
        for split, readers in splits.items():
            writer, num_objects = CocoWriter(staging / split, categories, info), 0
            for read in tqdm(readers, desc=split, unit="image", disable=None):
                try:
                    sample = read()
                except SourceError as error:
                    notes.leave_out(str(error))
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
                for category_id in sample.category_ids or [1] * len(sample.masks):
                    objects_by_class[category_id - 1] += 1
            print(f"{split}: {len(writer.images)} of {len(readers)} images, {num_objects} objects")
            if not writer.images:
                empty.append(split)
                continue
            writer.write_json(staging / "annotations" / f"{output.name}_{split}.json")
            written.add(Path("annotations") / f"{output.name}_{split}.json")
            written.update(Path(split) / image["file_name"] for image in writer.images)
        if not written:
            raise SourceError(f"no image of the source could be used:\n{notes}")
        if empty:
            raise EmptySplitError(
                f"no image of the split '{empty[0]}' could be used; correct the files below, or choose other fractions "
                f"or another seed:\n{notes}"
            )
        if notes.names:
            (staging / NOTES_FILE).write_text(notes.full_text(), encoding="utf-8")
            written.add(Path(NOTES_FILE))
    if len(categories) > 1:
        print("classes:", ", ".join(f"{name} {count}" for name, count in zip(categories, objects_by_class)))
    print(f"Wrote {output}", notes, sep="\n")
    if notes.names:
        print(f"All of these: {output / NOTES_FILE}")


def _stale_files(output: Path, written: set[Path]) -> list[Path]:
    """What an earlier run wrote to ``output`` and this one does not, annotation files first. Others' files stay."""
    stale = [Path(NOTES_FILE)] if (output / NOTES_FILE).is_file() else []
    for split in SPLITS:
        json_file = Path("annotations") / f"{output.name}_{split}.json"
        try:
            images = json.loads((output / json_file).read_bytes())["images"]
            names = [Path(split) / str(image["file_name"]) for image in images]
        except (OSError, ValueError, KeyError, TypeError):
            names = []
        names = [name for name in names if (output / name).is_file() and ".." not in name.parts]
        stale += [json_file, *names] if (output / json_file).is_file() else []
    return [path for path in sorted(stale, key=lambda path: path.suffix != ".json") if path not in written]


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
