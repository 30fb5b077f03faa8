"""``python -m objguided_d2.data.check NAME|JSON``: is this COCO file fit for training, and what does it hold?"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate
from tqdm import tqdm

from ..utils.contact_sheet import Tile, contact_sheet, draw_instances
from ..utils.evenly_spaced import evenly_spaced
from .builtin import register_prepared
from .label_layers import decode_masks, segmentation_to_rle

MAX_LISTED = 10
STRIDE = 4  # pixels of the input that a cell of the center map stands for
SHEET_IMAGES = 12
SHEET_TILE = (384, 512)  # height, width
# Object sizes, as the square root of the area in pixels: lower bounds of the rows of the table.
SIZE_BOUNDS = (0, 4, 8, 16, 32, 64, 96, 128, 256)
BOX_TOLERANCE = 1.5  # pixels; annotation programs round boxes in several ways
POLYGON_AREA_TOLERANCE = 0.2  # share; outlines run through pixels, which rasterising counts whole or not


@dataclass
class Report:
    """What was found in a COCO file.

    Attributes:
        errors: what training or evaluation would fail or go wrong on; each names the place and the fix.
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
    json_file: Path, image_root: Path, *, limit: int, stride: int = STRIDE, scale: float = 1.0
) -> Report:
    """Read a COCO instance file and every image it names.

    Args:
        json_file, image_root: as for ``register_objguided_instances``.
        limit: TEST.DETECTIONS_PER_IMAGE, detections that an image can have.
        stride: of the center map, in pixels of the network's input.
        scale: input pixels per image pixel, where images are resized on their way to the network.
    """
    report = Report()
    content = _load(json_file, report)
    if content is None:
        return report
    report.info = content.get("info") if isinstance(content.get("info"), dict) else {}
    classes = _index(content["categories"], "categories", ("id", "name"), report)
    images = _index(content["images"], "images", ("id", "file_name", "height", "width"), report)
    _index(content["annotations"], "annotations", ("id", "image_id", "category_id", "segmentation"), report)
    if len({c["name"] for c in classes.values()}) < len(classes):
        report.errors.append("categories: two have one name; merge or rename them")
    of_image = defaultdict(list)
    for annotation in content["annotations"]:
        if annotation.get("image_id") in images:
            of_image[annotation["image_id"]].append(annotation)
        else:
            report.errors.append(
                f"annotation {annotation.get('id')}: image_id {annotation.get('image_id')} is not in 'images'; drop it"
            )
    report.objects_per_class.update({c["name"]: 0 for c in classes.values()})
    for image_id, image in tqdm(images.items(), desc="check", unit="image", disable=None):
        _check_image_file(image, image_root, report)
        boxes = [b for a in of_image[image_id] if (b := _check_annotation(a, image, classes, report)) is not None]
        name = image["file_name"]
        report.objects_per_image[name] = len(boxes)
        cells = Counter((c, int(scale * x // stride), int(scale * y // stride)) for c, x, y in boxes)
        if collided := sum(n for n in cells.values() if n > 1):
            report.collisions[name] = collided
        if len(boxes) > limit:
            report.warnings.append(
                f"{name}: {len(boxes)} objects, more than the {limit} detections an image can have; "
                "raise TEST.DETECTIONS_PER_IMAGE"
            )
    if empty := [name for name, number in report.objects_per_image.items() if not number]:
        report.warnings.append(f"{len(empty)} image(s) without objects, as {empty[0]}: background alone in training")
    return report


def format_report(report: Report, stride: int, scale: float) -> str:
    """Tables of what the file holds, then warnings, then errors."""
    counts = np.array(list(report.objects_per_image.values()) or [0])
    sizes = np.array(report.sizes)
    collided = sum(report.collisions.values())
    rows = [
        ("images", len(report.objects_per_image)),
        ("objects", len(sizes)),
        ("objects an image: median, most", f"{np.median(counts):g}, {counts.max()}"),
        (
            f"objects whose center shares a cell of {stride / scale:g} x {stride / scale:g} px",
            f"{collided} in {len(report.collisions)} image(s)"
            + (f", most in {max(report.collisions, key=report.collisions.get)}" if collided else ""),
        ),
        *((f"info: {key}", value) for key, value in sorted(report.info.items())),
    ]
    bounds = [*SIZE_BOUNDS, np.inf]
    share = [np.count_nonzero((sizes >= low) & (sizes < high)) for low, high in zip(bounds, bounds[1:])]
    size_rows = [
        (f"{low} - {high:g}" if np.isfinite(high) else f"from {low}", number, f"{scale * low / stride:g}")
        for low, high, number in zip(bounds, bounds[1:], share)
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


def draw_check_sheet(json_file: Path, image_root: Path, path: Path) -> None:
    """Write a sheet of images spread evenly over the file, with all their masks drawn."""
    content = json.loads(json_file.read_bytes())
    of_image = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    tiles = []
    for record in evenly_spaced(content["images"], SHEET_IMAGES):
        height, width = record["height"], record["width"]
        image = cv2.cvtColor(cv2.imread(str(image_root / record["file_name"])), cv2.COLOR_BGR2RGB)
        annotations = [a for a in of_image[record["id"]] if not a.get("iscrowd", 0)]
        rles = [segmentation_to_rle(a["segmentation"], height, width) for a in annotations]
        masks = decode_masks(rles, height, width)
        zoom = max(1, int(min(SHEET_TILE[0] / height, SHEET_TILE[1] / width)))
        caption = f"{Path(record['file_name']).name}: {len(rles)} objects"
        tiles.append(Tile(draw_instances(image, masks, zoom=zoom), caption))
    contact_sheet(tiles, 3, path, tile_size=SHEET_TILE)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Check what the command line names; returns 1 if the file has errors."""
    parser = argparse.ArgumentParser(prog=prog, description="Is a COCO dataset fit for training, and what is in it?")
    parser.add_argument("dataset", help="registered name, or path of a COCO JSON file")
    parser.add_argument("--images", type=Path, help="folder of the images of a JSON file (default: the file's own)")
    parser.add_argument("--limit", type=int, default=500, help="TEST.DETECTIONS_PER_IMAGE (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="input pixels per image pixel (default: %(default)s)")
    parser.add_argument("--sheet", type=Path, help="picture to write (default: <dataset>_check.png here)")
    args = parser.parse_args(argv)
    json_file, image_root = _locate(args.dataset, args.images)
    report = check_coco_file(json_file, image_root, limit=args.limit, scale=args.scale)
    print(json_file, format_report(report, STRIDE, args.scale), sep="\n\n")
    if report.errors:
        return 1
    sheet = args.sheet or Path(f"{json_file.stem}_check.png")
    draw_check_sheet(json_file, image_root, sheet)
    print(f"\nLook at {sheet}")
    return 0


def _locate(dataset: str, images: Path | None) -> tuple[Path, Path]:
    if dataset.lower().endswith(".json"):
        json_file = Path(dataset)
        if not json_file.is_file():
            sys.exit(f"error: {json_file} does not exist")
        return json_file, images or json_file.parent
    register_prepared(dataset)
    try:
        DatasetCatalog.get(dataset)
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"error: {error.args[0] if isinstance(error, KeyError) else error}")
    metadata = MetadataCatalog.get(dataset)
    return Path(metadata.json_file), Path(metadata.image_root)


def _load(json_file: Path, report: Report) -> dict | None:
    try:
        content = json.loads(json_file.read_bytes())
    except (ValueError, OSError) as error:
        report.errors.append(f"{json_file} is not JSON ({error}); write it again")
        return None
    for key in ("categories", "images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            report.errors.append(f"{json_file} has no list '{key}'; it should be a COCO instance file")
            return None
    for key in ("categories", "images"):
        if not content[key]:
            report.errors.append(f"{json_file}: '{key}' is empty; there is nothing to train on")
    return content


def _index(entries: Iterable[dict], kind: str, needed: tuple[str, ...], report: Report) -> dict:
    """Entries by id; those without what is needed are errors and left out."""
    by_id: dict = {}
    for number, entry in enumerate(entries):
        missing = [key for key in needed if key not in entry]
        if missing:
            report.errors.append(f"{kind}, entry {number}: no {' and no '.join(repr(key) for key in missing)}; add it")
        elif entry["id"] in by_id:
            report.errors.append(f"{kind}: id {entry['id']} is there twice; number them anew")
        else:
            by_id[entry["id"]] = entry
    return by_id


def _check_image_file(image: dict, image_root: Path, report: Report) -> None:
    path = image_root / image["file_name"]
    if not path.is_file():
        report.errors.append(f"image {path} does not exist; put it there or correct 'file_name'")
        return
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        report.errors.append(f"image {path} cannot be read; copy it again")
    elif pixels.shape[:2] != (image["height"], image["width"]):
        report.errors.append(
            f"image {path} is {pixels.shape[:2]}, the file says {(image['height'], image['width'])} (height, width); "
            "correct the file or the image"
        )
    elif pixels.dtype != np.uint8:
        report.errors.append(
            f"image {path} has {pixels.dtype} values, which Detectron2 would cut to 8 bits; prepare it with --intensity"
        )


def _check_annotation(annotation: dict, image: dict, classes: dict, report: Report) -> tuple[int, float, float] | None:
    """Class id and center (x, y) of an object's box; None for crowd regions and what cannot be used."""
    where = f"annotation {annotation.get('id')} of {image['file_name']}"
    if annotation.get("category_id") not in classes:
        report.errors.append(f"{where}: category_id {annotation.get('category_id')} is not in 'categories'; add it")
        return None
    segmentation = annotation.get("segmentation")
    if not segmentation:
        report.errors.append(f"{where}: no segmentation; add its mask or remove it")
        return None
    try:
        rle = segmentation_to_rle(segmentation, image["height"], image["width"])
        area = int(mask_util.area(rle))
        decoded = int(np.count_nonzero(mask_util.decode(rle)))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        report.errors.append(f"{where}: segmentation cannot be read ({error}); export it again")
        return None
    if area == 0 or decoded != area:
        report.errors.append(f"{where}: its mask has {decoded} pixels where its runs say {area}; export or remove it")
        return None
    if annotation.get("iscrowd", 0):
        return None
    x, y, w, h = mask_util.toBbox(rle)
    box = annotation.get("bbox")
    if box is None or len(box) != 4:
        report.errors.append(f"{where}: 'bbox' is {box}, expected x, y, width, height; the mask's is {[x, y, w, h]}")
    elif (
        np.abs(np.array([box[0] - x, box[1] - y, box[0] + box[2] - x - w, box[1] + box[3] - y - h])).max()
        > BOX_TOLERANCE
    ):
        report.errors.append(f"{where}: 'bbox' is {box}, its mask spans {[x, y, w, h]}; write the mask's box")
    stated = annotation.get("area", area)
    tolerance = POLYGON_AREA_TOLERANCE * area + 2 * np.sqrt(area) if isinstance(segmentation, list) else 0.5
    if abs(stated - area) > tolerance:
        report.warnings.append(
            f"{where}: 'area' is {stated}, its mask has {area} pixels; COCO's size classes go by 'area'"
        )
    report.objects_per_class[classes[annotation["category_id"]]["name"]] += 1
    report.sizes.append(float(np.sqrt(area)))
    return annotation["category_id"], x + w / 2, y + h / 2


if __name__ == "__main__":
    sys.exit(main(prog="python -m objguided_d2.data.check"))
