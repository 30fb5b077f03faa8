"""COCO instance files of other programs, checked once for preparation, ``check`` and registration.

What has one clear meaning is repaired and told as a warning (a missing area, ids written as text, Windows separators, a
grouping category without objects). What would train or evaluate something wrong is an error: of the file (ids of joined
files), or of one image (an object without a usable mask).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from .coco_file import CocoFile, CocoImage
from .segmentation import NoMaskError, checked_runs, clip_far, is_flat_ring, polygon_rings, segmentation_to_rle
from .source_error import SourceError

BOX_TOLERANCE = 1.5  # pixels; annotation programs round boxes in several ways
MAX_SLIP_SIDE = 2  # pixels; an outline without area whose box is no larger was never an object
_TOO_LARGE = 1e300  # numbers from here on, whole ones of any length too, count as not finite
SMALL_AREA = 4  # pixels; polygons under it are rasterized, to see whether they have a pixel at all


def read_coco(path: Path, *, needs_size: bool = True) -> CocoFile:
    """Read and check a COCO instance file. Images are not opened.

    Args:
        needs_size: whether an image without ``height`` and ``width`` is an error; otherwise its masks are not checked.

    Raises:
        SourceError: if the file is no JSON, or lacks one of COCO's lists.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON ({error}); export it again") from error
    return parse_coco(content, str(path), needs_size=needs_size)


def parse_coco(content: Any, name: str, *, needs_size: bool = True) -> CocoFile:
    """As :func:`read_coco`, of the content of a file called ``name``."""
    for key in ("categories", "images"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise SourceError(f"{name} is not COCO instance JSON: it has no list '{key}'; export it again")
        if not content[key]:
            raise SourceError(f"{name}: '{key}' is empty; export it with all images and classes")
    file = CocoFile(is_annotated=content.get("annotations") is not None)
    file.info = content["info"] if isinstance(content.get("info"), dict) else {}
    annotations = _annotation_list(name, content, file)
    _read_categories(content["categories"], annotations, file)
    by_id = _read_images(content["images"], file, needs_size)
    seen: set = set()
    for number, annotation in enumerate(annotations):
        _read_annotation(number, annotation, by_id, seen, file)
    return file


def size_mismatch(actual: tuple[int, int], stated: tuple[int, int]) -> str:
    """What to say of an image whose file does not have the size that its annotations are for; (height, width) each."""
    if actual == stated[::-1]:
        fix = "annotate it upright, as its orientation tag (EXIF) shows it, or export it without the tag"
    else:
        fix = "the masks would lie elsewhere; export annotations and image at one size"
    return f"is {actual}, its annotations are for {stated} (height, width); {fix}"


def _annotation_list(name: str, content: dict, file: CocoFile) -> list:
    annotations = content.get("annotations")
    if isinstance(annotations, dict):  # as early releases of LIVECell have them
        file.is_repaired = True
        file.warnings.add("it is no list but an object of annotations by id; its values taken", "'annotations'")
        return list(annotations.values())
    if annotations is not None and not isinstance(annotations, list):
        raise SourceError(f"{name} is not COCO instance JSON: its 'annotations' is no list; export it again")
    return annotations or []


def _read_categories(categories: list, annotations: list, file: CocoFile) -> None:
    entries = {}
    for number, category in enumerate(categories):
        where = f"categories, entry {number}"
        if not isinstance(category, dict):
            file.errors.add("it is no object with 'id' and 'name'; export the file again", where)
            continue
        key, name = _number(category.get("id")), category.get("name")
        if key is None:
            file.errors.add("'id' must be a whole number; write one", f"{where}, id {category.get('id')!r}")
        elif not isinstance(name, str) or not name:
            file.errors.add("'name' must be text; write one", f"{where}, name {name!r}")
        elif key in entries:
            file.errors.add("the id is there twice; number the categories anew", f"categories, id {key}")
        else:
            if key != category["id"] or isinstance(category["id"], (str, float)):
                file.is_repaired = True
                file.warnings.add(
                    "the id is text or a fraction; taken as a whole number", f"categories, id {category['id']!r}"
                )
            entries[key] = category
    used = {_number(a.get("category_id")) for a in annotations if isinstance(a, dict)}
    groups = {str(c.get("supercategory")) for c in entries.values() if c.get("supercategory") != c["name"]}
    for key in sorted(entries):
        name = entries[key]["name"]
        # One that is its own group is a class, which in another file of the same classes may well have objects.
        is_group = name in groups and entries[key].get("supercategory") != name
        if is_group and key not in used and len(entries) > 1:
            file.is_repaired = True
            file.warnings.add(
                "it groups other categories and no object has it; not taken as a class",
                f"category {key} ({name!r})",
            )
        else:
            file.categories[key] = name
    if not entries and not file.errors:
        file.errors.add("it has no category; add one", "categories")
    for name, count in Counter(file.categories.values()).items():
        if count > 1:
            file.errors.add("the name is there twice; merge or rename the categories", f"categories, name {name!r}")


def _read_images(images: list, file: CocoFile, needs_size: bool) -> dict:
    by_id: dict = {}
    names: dict[str, Any] = {}
    for number, entry in enumerate(images):
        where = f"images, entry {number}"
        key = entry.get("id") if isinstance(entry, dict) else None
        if not _is_id(key):
            file.errors.add("'id' must be a number or text; write one", f"{where}, id {key!r}")
            continue
        name = entry.get("file_name")
        image = CocoImage(key, None, _side(entry.get("height")), _side(entry.get("width")))
        for side in ("height", "width"):
            if _side(entry.get(side)) is not None and type(entry[side]) is not int:
                file.is_repaired = True
                kind = "'height' and 'width' are no whole numbers as JSON has them; read as such"
                file.warnings.add(kind, f"{where}, {side} {entry[side]!r}")
        if not isinstance(name, str) or not name:
            _image_error(file, image, "'file_name' must be text; write the image's", f"{where}, file_name {name!r}")
        else:
            image.file_name = name.replace("\\", "/")
            if image.file_name != name:
                file.is_repaired = True
                file.warnings.add("'file_name' has Windows separators; taken as /", f"{where}, {name}")
        if needs_size and (image.height is None or image.width is None):
            missing = "height" if image.height is None else "width"
            _image_error(
                file,
                image,
                f"no usable '{missing}'; write the image's height and width in pixels",
                f"{where}, {name}, {missing} {entry.get(missing)!r}",
            )
        if key in by_id:
            first = by_id[key]
            if (first.file_name, first.height, first.width) == (image.file_name, image.height, image.width):
                file.is_repaired = True
                file.warnings.add("the same image twice; kept once", f"images, id {key}, {name}")
            else:
                file.errors.add(
                    "two images have one id, as when files are joined: whose objects are whose cannot be told; give "
                    "each file's images and annotations new ids before joining, or prepare the files one by one",
                    f"images, id {key}, {first.file_name} and {name}",
                )
            continue
        if image.file_name in names and image.file_name is not None:
            file.errors.add(
                "two images have one file name; merge their annotations or correct the name",
                f"images, ids {names[image.file_name]} and {key}, {name}",
            )
        names[image.file_name] = key
        by_id[key] = image
    file.images = list(by_id.values())
    return by_id


def _read_annotation(number: int, annotation: Any, by_id: dict, seen: set, file: CocoFile) -> None:
    if not isinstance(annotation, dict):
        file.unassigned.add("it is no object with 'image_id'; export the file again", f"annotations, entry {number}")
        return
    key = annotation.get("id")
    where = f"annotation {key!r}" if _is_id(key) else f"annotations, entry {number}"
    image_id = annotation.get("image_id")
    if not _is_id(image_id):
        file.unassigned.add("'image_id' names no image; write the image's id", f"{where}, image_id {_short(image_id)}")
        return
    image = by_id.get(image_id)
    if image is None and (other := _other_spelling(image_id)) in by_id:
        image = by_id[other]
        file.is_repaired = True
        file.warnings.add("'image_id' is text where 'images' have numbers or the reverse; matched", where)
    if image is None:
        file.is_repaired = True
        file.warnings.add("its image is not in 'images'; not used", f"{where}, image_id {_short(image_id)}")
        return
    where = f"{where} of {image.file_name}"
    if not _is_id(key) or key in seen:
        file.is_repaired = True
        file.warnings.add("'id' is missing or there twice; numbered anew", f"{where}, id {_short(key)}")
        key = None
    seen.add(key)
    category_id = _number(annotation.get("category_id"))
    if category_id not in file.categories:
        _image_error(
            file,
            image,
            "category_id is not in 'categories'; add the category or correct the id",
            f"{where}, category_id {_short(annotation.get('category_id'))}",
        )
        return
    if isinstance(annotation["category_id"], (str, float)):
        file.is_repaired = True
        file.warnings.add("'category_id' is text or a fraction; taken as a whole number", where)
    iscrowd = annotation.get("iscrowd", 0)
    if iscrowd not in (0, 1):
        if iscrowd is not None:
            _image_error(file, image, "'iscrowd' must be 0 or 1; write one", f"{where}, iscrowd {_short(iscrowd)}")
            return
        file.is_repaired = True
        file.warnings.add("'iscrowd' is null; taken as 0", where)
    result = {"id": key, "image_id": image.id, "category_id": category_id, "iscrowd": int(iscrowd or 0)}
    if annotation.get("ignore") and not result["iscrowd"]:
        result["iscrowd"] = 1
        file.is_repaired = True
        file.warnings.add("'ignore' is set, which COCO does not know; taken as a crowd region", where)
    try:
        region = _read_region(annotation, image, where, file)
    except ValueError as error:
        _image_error(file, image, f"{error}; export it again", f"{where}, segmentation")
        return
    if region is not None:
        image.annotations.append({**result, **region})


def _read_region(annotation: dict, image: CocoImage, where: str, file: CocoFile) -> dict | None:
    """Repaired ``segmentation``, ``bbox`` and ``area``; None for an outline that covers nothing.

    Raises:
        ValueError: if there is an object and no usable mask of it.
    """
    segmentation, box = annotation.get("segmentation"), _box(annotation.get("bbox"))
    if not segmentation or not isinstance(segmentation, (list, dict)):
        raise ValueError(f"it is {_short(segmentation)}, neither polygons nor RLE, and a box is no mask")
    try:
        if isinstance(segmentation, list):
            rings = polygon_rings(segmentation)
            if is_flat_ring(segmentation):
                file.is_repaired = True
                file.warnings.add("its polygon is not wrapped in a list; taken as one ring", where)
            elif len(rings) < len(segmentation):
                file.is_repaired = True
                file.warnings.add("rings of less than 3 points; not used", where)
    except NoMaskError as error:
        if box is None or max(box[2:]) > MAX_SLIP_SIDE:
            raise ValueError(f"{error}, and a box is no mask") from error
        return _nothing(where, file)
    if image.height is None or image.width is None:
        return {"segmentation": segmentation}
    if isinstance(segmentation, list):
        clipped = [clip_far(ring, image.height, image.width) for ring in rings]
        if any(after is not before for after, before in zip(clipped, rings)):
            file.is_repaired = True
            file.warnings.add("its polygon reaches far beyond the image; cut at the border", where)
        region = _polygon_region([ring for ring in clipped if len(ring) >= 3], image)
    else:
        region = _rle_region(segmentation, image)
    if region is None:
        return _nothing(where, file)
    _compare_box(annotation.get("bbox"), box, region, where, file)
    stated = annotation.get("area")
    if not _is_finite(stated) or stated <= 0:
        file.is_repaired = True
        file.warnings.add("'area' is no positive number; taken from the mask", f"{where}, area {_short(stated)}")
    else:
        region["area"] = stated
    return region


def _polygon_region(rings: list[np.ndarray], image: CocoImage) -> dict | None:
    if not rings:
        return None
    points = np.concatenate(rings)
    size = np.array([image.width, image.height], dtype=float)
    low, high = points.min(axis=0).clip(0, size), points.max(axis=0).clip(0, size)
    area = sum(abs(_shoelace(ring)) for ring in rings)
    if min(area, *(high - low)) < SMALL_AREA:
        rle = segmentation_to_rle([ring.ravel().tolist() for ring in rings], image.height, image.width)
        if not mask_util.area(rle):
            return None
        area = float(mask_util.area(rle))
    return {
        "segmentation": [ring.ravel().tolist() for ring in rings],
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": area,
    }


def _rle_region(segmentation: dict, image: CocoImage) -> dict | None:
    runs = checked_runs(segmentation, image.height, image.width)
    area = sum(runs[1::2])
    if not area:
        return None
    rle = (
        segmentation
        if isinstance(segmentation["counts"], str)
        else segmentation_to_rle(segmentation, *segmentation["size"])
    )
    counts = rle["counts"]
    text = counts if isinstance(counts, str) else counts.decode("ascii")
    return {
        "segmentation": {"size": [image.height, image.width], "counts": text},
        "bbox": mask_util.toBbox(rle).tolist(),
        "area": area,
    }


def _compare_box(stated: Any, box: list[float] | None, region: dict, where: str, file: CocoFile) -> None:
    """Keep the stated box if it is the mask's."""
    x, y, w, h = region["bbox"]
    if box is not None:
        distances = (box[0] - x, box[1] - y, box[0] + box[2] - x - w, box[1] + box[3] - y - h)
        if max(map(abs, distances)) <= BOX_TOLERANCE:
            region["bbox"] = box
            return
    file.is_repaired = True
    file.warnings.add(
        "'bbox' (x, y, width, height) is not the box of its mask, which is used",
        f"{where}, bbox {_short(stated)} where the mask spans {[round(v, 1) for v in region['bbox']]}",
    )


def _nothing(where: str, file: CocoFile) -> None:
    file.is_repaired = True
    file.warnings.add("its mask covers no pixel of the image; not used", where)


def _image_error(file: CocoFile, image: CocoImage, kind: str, where: str) -> None:
    file.image_errors.add(kind, where)
    image.errors.append(f"{where}: {kind}")


def _shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _box(value: Any) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    return value if all(map(_is_finite, value)) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _TOO_LARGE


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _number(value: Any) -> int | None:
    """A whole number, also as text or float; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value) if float(value) == int(value) else None
    except (ValueError, OverflowError):
        return None


def _other_spelling(image_id: int | str) -> int | str | None:
    return str(image_id) if isinstance(image_id, int) else _number(image_id)


def _side(value: Any) -> int | None:
    number = _number(value)
    return number if number is not None and 0 < number < 1 << 20 else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
