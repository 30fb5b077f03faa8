"""What a COCO file and its images hold, and what training would fail or go wrong on."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from tabulate import tabulate
from tqdm import tqdm

from ...utils.contact_sheet import Tile, contact_sheet, draw_instances
from ...utils.evenly_spaced import evenly_spaced
from ...utils.rle import decode_masks
from ..coco_file import CocoFile, CocoImage, Problems
from ..coco_validation import read_coco, size_mismatch
from ..intensity import IntensityMapping
from ..label_plausibility import implausible_labels
from ..pixels import read_image
from ..segmentation import segmentation_to_rle
from ..source_error import SourceError

MAX_LISTED = 10
STRIDE = 4  # pixels of the input that a cell of the center map represents
SHEET_IMAGES = 12
SHEET_TILE = (384, 512)  # height, width
# Object sizes, as the square root of the area in pixels: lower bounds of the rows of the table.
SIZE_BOUNDS = (0, 4, 8, 16, 32, 64, 96, 128, 256)
POLYGON_AREA_TOLERANCE = 0.2  # fraction; outlines run through pixels, which rasterizing counts whole or not


@dataclass
class Report:
    """What was found in a COCO file.

    Attributes:
        errors: what training or evaluation would fail or go wrong on; each names the file, the entry and the fix.
        warnings: what may be meant as it is.
        objects_per_class: class name -> objects.
        sizes: square root of each object's area, pixels.
        objects_per_image: image file name -> objects.
        collisions: objects that share their center's cell with another object of their class, by image file name.
        info: the ``info`` entry of the file.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    objects_per_class: Counter = field(default_factory=Counter)
    sizes: list[float] = field(default_factory=list)
    objects_per_image: dict[str, int] = field(default_factory=dict)
    collisions: dict[str, int] = field(default_factory=dict)
    info: dict = field(default_factory=dict)


def check_coco_file(
    json_file: Path,
    image_root: Path,
    *,
    limit: int,
    stride: int = STRIDE,
    scale: float = 1.0,
    intensity: str | None = None,
) -> Report:
    """Read a COCO instance file as registration does, and every image it names as training does.

    Args:
        json_file, image_root: as for ``register_objguided_instances``.
        limit: TEST.DETECTIONS_PER_IMAGE, detections that an image can have.
        stride: of the center map, in pixels of the network's input.
        scale: input pixels per image pixel, where images are resized on their way to the network.
        intensity: INPUT.INTENSITY of the training to come.

    Raises:
        ValueError: for an intensity mapping that is none.
    """
    mapping = IntensityMapping.parse(intensity) if intensity else None
    try:
        file = read_coco(json_file)
    except SourceError as error:
        return Report(errors=[str(error)])
    report = Report(errors=file.all_errors(), warnings=file.warnings.lines(), info=file.info)
    if not file.is_annotated:
        report.warnings.append(f"{json_file} has no 'annotations': it can be predicted on, not trained or scored")
    report.objects_per_class.update(dict.fromkeys(file.categories.values(), 0))
    areas, plausibility = Problems(), Problems()
    for image in tqdm(file.images, desc="check", unit="image", disable=None):
        if image.file_name is None or image.height is None or image.width is None:
            continue
        if error := _image_error(image, image_root, mapping):
            report.errors.append(error)
        labels = np.zeros((image.height, image.width), np.int32)
        measured = [_measure(a, image, file, report, areas, labels) for a in image.annotations]
        centers = [center for center in measured if center is not None]
        name = image.file_name
        for text in implausible_labels(labels):
            kind, _, numbers = text.partition(": ")
            plausibility.add(f"masks that may be none: {kind}", f"{name}: {numbers}")
        report.objects_per_image[name] = len(centers)
        cells = Counter((c, int(scale * x // stride), int(scale * y // stride)) for c, x, y in centers)
        if collided := sum(n for n in cells.values() if n > 1):
            report.collisions[name] = collided
        if len(centers) > limit:
            report.warnings.append(
                f"{name}: {len(centers)} objects, more than the {limit} detections an image can have; "
                "raise TEST.DETECTIONS_PER_IMAGE"
            )
    report.warnings += areas.lines() + plausibility.lines()
    empty = [name for name, number in report.objects_per_image.items() if not number]
    if empty and file.is_annotated:
        report.warnings.append(f"{len(empty)} image(s) without objects, as {empty[0]}: background alone in training")
    return report


def format_report(report: Report, stride: int, scale: float) -> str:
    """Tables of what the file holds, then warnings, then errors."""
    per_image = np.array(list(report.objects_per_image.values()) or [0])
    sizes = np.array(report.sizes)
    collided = sum(report.collisions.values())
    rows = [
        ("images", len(report.objects_per_image)),
        ("objects", len(sizes)),
        ("objects per image: median, most", f"{np.median(per_image):g}, {per_image.max()}"),
        (
            f"objects whose center shares a cell of {stride / scale:g} x {stride / scale:g} px",
            f"{collided} in {len(report.collisions)} image(s)"
            + (f", most in {max(report.collisions, key=report.collisions.get)}" if collided else ""),
        ),
        *((f"info: {key}", value) for key, value in sorted(report.info.items())),
    ]
    bounds = [*SIZE_BOUNDS, np.inf]
    counts = [np.count_nonzero((sizes >= low) & (sizes < high)) for low, high in zip(bounds, bounds[1:])]
    size_rows = [
        (f"{low} - {high:g}" if np.isfinite(high) else f"from {low}", number, f"{scale * low / stride:g}")
        for low, high, number in zip(bounds, bounds[1:], counts)
    ]
    parts = [
        tabulate(rows, tablefmt="plain"),
        tabulate(sorted(report.objects_per_class.items()), headers=("class", "objects")),
        tabulate(size_rows, headers=("sqrt(area), px", "objects", "cells from")),
    ]
    for title, lines in (("warnings", report.warnings), ("errors", report.errors)):
        more = [f"... and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
        parts.append("\n".join([f"{title}: {len(lines)}", *(f"  {line}" for line in [*lines[:MAX_LISTED], *more])]))
    return "\n\n".join(parts)


def draw_check_sheet(json_file: Path, image_root: Path, path: Path, intensity: str | None = None) -> None:
    """Write a sheet of images spread evenly over the file, with all their masks."""
    mapping = IntensityMapping.parse(intensity) if intensity else None
    tiles = []
    for record in evenly_spaced(read_coco(json_file).images, SHEET_IMAGES):
        height, width = record.height, record.width
        image = read_image(str(image_root / record.file_name), "RGB", mapping)
        objects = [a for a in record.annotations if not a["iscrowd"]]
        masks = decode_masks([segmentation_to_rle(a["segmentation"], height, width) for a in objects], height, width)
        zoom = max(1, int(min(SHEET_TILE[0] / height, SHEET_TILE[1] / width)))
        caption = f"{Path(record.file_name).name}: {len(objects)} objects"
        tiles.append(Tile(draw_instances(image, masks, zoom=zoom), caption))
    contact_sheet(tiles, 3, path, tile_size=SHEET_TILE)


def _image_error(image: CocoImage, image_root: Path, mapping: IntensityMapping | None) -> str | None:
    """Why training could not use the image's file."""
    path = image_root / image.file_name
    if not path.is_file():
        return f"image {path} does not exist; put it there or correct 'file_name'"
    try:
        size = read_image(str(path), "RGB", mapping).shape[:2]
    except SourceError as error:
        return f"image {error}"
    if size != (image.height, image.width):
        return f"image {path} {size_mismatch(size, (image.height, image.width))}"
    return None


def _measure(
    annotation: dict, image: CocoImage, file: CocoFile, report: Report, areas: Problems, labels: np.ndarray
) -> tuple[int, float, float] | None:
    """Class id and center (x, y) of an object's mask, drawn into the (H, W) labels; None for crowd regions."""
    if annotation["iscrowd"]:
        return None
    segmentation = annotation["segmentation"]
    rle = segmentation_to_rle(segmentation, image.height, image.width)
    area = int(mask_util.area(rle))
    tolerance = POLYGON_AREA_TOLERANCE * area + 2 * np.sqrt(area) if isinstance(segmentation, list) else 0.5
    if abs(annotation["area"] - area) > tolerance:
        areas.add(
            "COCO's size classes follow 'area'; write the mask's",
            f"annotation {annotation['id']} of {image.file_name}: 'area' is {annotation['area']}, its mask has {area} "
            "pixels",
        )
    report.objects_per_class[file.categories[annotation["category_id"]]] += 1
    report.sizes.append(float(np.sqrt(area)))
    x, y, w, h = mask_util.toBbox(rle)
    box = np.s_[int(y) : int(y + h), int(x) : int(x + w)]
    labels[box][mask_util.decode(rle)[box] > 0] = len(report.sizes)
    return annotation["category_id"], x + w / 2, y + h / 2
