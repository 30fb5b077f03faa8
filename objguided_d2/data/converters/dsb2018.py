"""2018 Data Science Bowl, stage 1 train (BBBC038): Kaggle's layout to COCO JSON.

Kaggle stores ``<id>/images/<id>.png`` and one ``<id>/masks/<name>.png`` for each nucleus, zero outside of it.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from tqdm import tqdm

from ...utils.atomic_write import staged_folder
from ..source_error import SourceError
from .coco_writer import CocoWriter
from .conversion import ConversionNotes, open_source, read_image
from .instance_dataset import count_overlap

SPLITS = ("train", "val", "test")


def read_split_ids(split: str) -> list[str]:
    """Image ids of the paper's ``split``, sorted."""
    path = resources.files(__package__) / "splits" / "dsb2018" / f"{split}.txt"
    return sorted(path.read_text().split())


def convert_dsb2018(source: Path, output: Path) -> None:
    """Convert ``source`` to ``output/{train,val,test}/<id>.png`` and ``output/annotations/dsb2018_<split>.json``.

    Prints what was written, which ids are missing and which files needed care. Nothing is left behind on an error.

    Args:
        source: the zip archive or the folder it unpacks to, with or without one folder around the ids.
    Raises:
        SourceError: ``source`` is missing, damaged or laid out in another way.
    """
    kaggle = KaggleFolder.open(source)
    notes = ConversionNotes()
    listed: set[str] = set()
    with staged_folder(output) as staging:
        for split in SPLITS:
            ids = read_split_ids(split)
            listed.update(ids)
            writer = CocoWriter(staging / split, ["nucleus"])
            for image_id in tqdm([i for i in ids if i in kaggle.images], desc=split, unit="image", disable=None):
                _convert_image(kaggle, image_id, writer, notes)
            if writer.images:
                writer.write_json(staging / "annotations" / f"dsb2018_{split}.json")
            _print_split(split, ids, [i for i in ids if i not in kaggle.images], writer)
    for image_id in sorted(kaggle.images.keys() - listed):
        notes.add("image in no split list, left out", kaggle.images[image_id])
    for image_id in sorted(kaggle.masks.keys() - kaggle.images.keys()):
        notes.add("masks without their image, left out", image_id)
    print(f"Wrote {output}", notes, sep="\n")


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
                "give stage1_train.zip or the folder it unpacks to"
            )
        return cls(images, masks, read)


def _convert_image(kaggle: KaggleFolder, image_id: str, writer: CocoWriter, notes: ConversionNotes) -> None:
    name = kaggle.images[image_id]
    stored = read_image(kaggle.read, name)
    if stored is None:
        notes.add("unreadable image, left out", name)
        return
    image = _to_rgb(stored, name, notes)
    masks = [
        mask
        for mask_name in kaggle.masks[image_id]
        if (mask := _read_mask(kaggle.read, mask_name, image.shape[:2], notes)) is not None
    ]
    if not masks:
        # Kaggle's layout has no way to tell an unlabelled image from one without nuclei.
        notes.add("image without a usable mask, left out", name)
        return
    overlap = count_overlap(masks)
    if overlap:
        notes.add("image with overlapping masks, kept", f"{name} ({overlap} pixels)")
    writer.add(image_id, image, masks)


def _to_rgb(stored: np.ndarray, name: str, notes: ConversionNotes) -> np.ndarray:
    """(H, W[, 1..4]) of 8 or 16 bits, BGR(A) -> (H, W, 3) uint8 RGB."""
    if stored.dtype == np.uint16:
        notes.add("16-bit image, divided by 257", name)
        stored = np.rint(stored / 257).astype(np.uint8)
    if stored.ndim == 2:
        notes.add("gray image, converted to RGB", name)
        return cv2.cvtColor(stored, cv2.COLOR_GRAY2RGB)
    if stored.shape[2] == 4:
        notes.add("image with alpha channel, dropped", name)
        return cv2.cvtColor(stored, cv2.COLOR_BGRA2RGB)
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)


def _read_mask(
    read: Callable[[str], bytes], name: str, image_size: tuple[int, int], notes: ConversionNotes
) -> np.ndarray | None:
    """(H, W) bool, or None if the file cannot stand for a nucleus."""
    stored = read_image(read, name)
    if stored is None:
        notes.add("unreadable mask, left out", name)
        return None
    if stored.shape[:2] != image_size:
        notes.add("mask of another size than its image, left out", name)
        return None
    # A fourth channel is alpha: opaque everywhere.
    mask = stored > 0 if stored.ndim == 2 else (stored[..., :3] > 0).any(axis=2)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if width == 0:
        notes.add("empty mask, left out", name)
        return None
    pieces = cv2.connectedComponents(mask[y : y + height, x : x + width].astype(np.uint8), connectivity=8)[0] - 1
    if pieces > 1:
        notes.add("mask in several pieces, kept as one object", name)
    return mask


def _print_split(split: str, ids: list[str], missing: list[str], writer: CocoWriter) -> None:
    if not writer.images:
        print(f"{split}: not written, the source holds no usable image of its {len(ids)} ids")
        return
    print(f"{split}: {len(writer.images)} images, {len(writer.annotations)} nuclei")
    if missing:
        print(f"  {len(missing)} of {len(ids)} ids are not in the source:", *missing, sep="\n    ")
