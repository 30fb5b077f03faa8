"""Images and label images of a COCO file, without Detectron2; an image is RGB (H, W, 3) uint8, labels are (H, W)."""

import argparse
import contextlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from pycocotools.coco import COCO

from objguided_d2.utils.atomic_write import atomic_write


class LabeledImage(NamedTuple):
    """An image, (H, W, 3) uint8, and its objects, (H, W) int32: 0 or 1 + the index of one."""

    image: np.ndarray
    labels: np.ndarray


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """``--annotations``, ``--images``, ``--limit``, and ``--threads`` for what is done with them."""
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--limit", type=int, help="the first images only (default: all)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")


def read_dataset(annotations: Path, images: Path, limit: int | None = None) -> list[LabeledImage]:
    """The images of a COCO file with their objects; crowd regions are left out.

    Args:
        annotations: COCO JSON with masks.
        images: folder of its images.
        limit: take the first ones only.

    Raises:
        ValueError: for an image that cannot be read, or whose size is not that of the annotations.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
    labeled = []
    for record in list(coco.imgs.values())[:limit]:
        image = read_image(images / record["file_name"])
        size = (record["height"], record["width"])
        if image.shape[:2] != size:
            raise ValueError(f"{record['file_name']} is {image.shape[:2]} (height, width), {annotations} says {size}")
        objects = [a for a in coco.imgToAnns[record["id"]] if not a.get("iscrowd", 0)]
        labeled.append(LabeledImage(image, paint_labels((coco.annToMask(a) for a in objects), size)))
    return labeled


def read_image(path: Path) -> np.ndarray:
    """RGB (H, W, 3) uint8.

    Raises:
        ValueError: if it is no image.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path} cannot be read as an image")
    return pixels[..., ::-1].copy()


def paint_labels(masks: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Masks (H, W) as one label image (H, W) int32; where they overlap, the smaller object lies above."""
    masks = [np.asarray(mask, bool) for mask in masks]
    labels = np.zeros(size, np.int32)
    for index in sorted(range(len(masks)), key=lambda k: -np.count_nonzero(masks[k])):
        labels[masks[index]] = index + 1
    return labels


def hold_out(data: list[LabeledImage], every: int = 10) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """Training images, and every so-manieth one for a method's own validation (one at least, of two or more).

    Raises:
        ValueError: for fewer than two images.
    """
    if len(data) < 2:
        raise ValueError(f"{len(data)} image(s) to train with; a method needs one more to validate with")
    held = set(range(min(every, len(data)) - 1, len(data), every))
    return [d for k, d in enumerate(data) if k not in held], [d for k, d in enumerate(data) if k in held]


def image_files(annotations: Path, images: Path) -> Iterator[Path]:
    """The files of a COCO file's images, in its order."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(annotations))
    return (images / record["file_name"] for record in coco.imgs.values())


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as a 16-bit TIFF.

    Raises:
        ValueError: for more than 65535 objects.
    """
    if labels.max(initial=0) > np.iinfo(np.uint16).max:
        raise ValueError(f"{path.name}: {labels.max()} objects, a 16-bit label image holds {np.iinfo(np.uint16).max}")
    with atomic_write(path) as temporary:
        tifffile.imwrite(temporary, labels.astype(np.uint16), compression="zlib")
