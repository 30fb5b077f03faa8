"""People's own images with labels of any usual kind.

The labels of the image ``<stem>.<ending>`` are one of

- a label image ``<stem>.png`` or ``.tif``, also ``<stem>_label``, ``_labels``, ``_mask``, ``_masks`` or ``_cp_masks``,
  one value or colour an object;
- a folder ``<stem>/`` with one mask file an object;
- a LabelMe file ``<stem>.json``;
- a label image in each of several folders, one a class: ``<class>/<stem>.png``;

or one COCO JSON file has those of all images.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pycocotools.mask as mask_util

from ..intensity import IntensityMapping, to_rgb8
from ..label_layers import segmentation_to_rle
from ..pixels import IMAGE_SUFFIXES, read_image_pixels, read_label_pixels
from ..source_error import SourceError
from .conversion import ConversionNotes, open_source
from .instance_dataset import LabelledImage, write_instance_dataset
from .label_objects import clean_mask, label_objects
from .labelme import labelme_classes, read_labelme
from .splitting import SPLITS, split_groups

Reader = Callable[[str], bytes]
# Objects of one image: (class name, mask) in the order of the source.
Objects = list[tuple[str, np.ndarray]]
ReadObjects = Callable[[tuple[int, int], ConversionNotes], Objects]

LABEL_ENDINGS = ("_cp_masks", "_labels", "_label", "_masks", "_mask", "")
DEFAULT_CLASS = "object"


def convert_labelmaps(
    images: Path,
    labels: Path,
    output: Path,
    *,
    val_fraction: float = 0.2,
    test_fraction: float = 0.0,
    seed: int = 0,
    groups: str | None = None,
    classes: Path | None = None,
    intensity: str | None = None,
) -> None:
    """Pair images and labels by stem and write them as a dataset.

    Args:
        images: folder or zip archive.
        labels: folder or zip archive, see the module, or a COCO JSON file.
        output: the dataset's folder.
        val_fraction, test_fraction, seed: see :func:`.splitting.split_groups`.
        groups: a regular expression, whose first group (or whole match) in a stem is the group of that image, or the
            path of a CSV file with columns ``image`` and ``group``. Images of one group stay in one split.
        classes: CSV file with columns ``label`` and ``class``, and ``image`` where a label means different things in
            different images. For label images.
        intensity: see :mod:`.intensity`; None takes 8-bit images as they are and leaves out others.

    Raises:
        SourceError: if a source is missing or damaged or nothing can be paired. Files that cannot be used are left
            out and listed at the end.
        ValueError: for a mapping or fractions that make no sense.
    """
    mapping = IntensityMapping.parse(intensity) if intensity else None
    notes = ConversionNotes()
    image_names, read_image = open_source(images)
    by_stem = _images_by_stem(image_names, images)
    if labels.suffix.lower() == ".json" and labels.is_file():
        categories, objects_of = _coco_objects(labels)
    else:
        categories, objects_of = _file_objects(*open_source(labels), set(by_stem), _read_classes(classes), notes)
    paired = [stem for stem in by_stem if stem in objects_of]
    for stem in sorted(by_stem.keys() - objects_of.keys()):
        notes.add("image without labels, left out", by_stem[stem])
    for stem in sorted(objects_of.keys() - by_stem.keys()):
        notes.add("labels without an image, left out", stem)
    if not paired:
        raise SourceError(
            f"none of the {len(by_stem)} images in {images} has labels of its name in {labels}; name the labels "
            f"<stem>.png, <stem>_mask.png, <stem>.json or <stem>/*.png, e.g. for {next(iter(by_stem.values()))}"
        )
    split_of = dict(zip(paired, split_groups(_groups(groups, paired), val_fraction, test_fraction, seed)))
    readers = {
        split: [
            partial(_read_pair, read_image, by_stem[stem], objects_of[stem], mapping, categories, notes)
            for stem in paired
            if split_of[stem] == split
        ]
        for split in SPLITS
        if split in split_of.values()
    }
    write_instance_dataset(output, readers, categories, notes, {"intensity": str(mapping)} if mapping else None)


def _images_by_stem(names: Sequence[str], source: Path) -> dict[str, str]:
    """Stem -> file name of every image, sorted."""
    by_stem: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in by_stem:
            raise SourceError(f"{source} holds {by_stem[path.stem]} and {name}; give images names of their own")
        by_stem[path.stem] = name
    if not by_stem:
        raise SourceError(f"{source} holds no image; it should have files ending in {', '.join(IMAGE_SUFFIXES)}")
    return dict(sorted(by_stem.items()))


def _file_objects(
    names: Sequence[str],
    read: Reader,
    stems: set[str],
    class_of_label: Mapping[tuple[str, int], str],
    notes: ConversionNotes,
) -> tuple[list[str], dict[str, ReadObjects]]:
    """Class names, and for each stem with labels the function that reads its objects."""
    label_images: dict[str, dict[str, str]] = defaultdict(dict)  # stem -> folder -> file
    mask_files: dict[str, list[str]] = defaultdict(list)
    labelme: dict[str, str] = {}
    for name in names:
        path = PurePosixPath(name)
        if path.name.startswith("."):
            continue
        if path.suffix.lower() == ".json":
            labelme[path.stem] = name
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            if path.parent.name in stems:
                mask_files[path.parent.name].append(name)
            else:
                stem = _image_stem(path.stem, stems)
                folder = path.parent.name
                if folder in label_images[stem]:
                    raise SourceError(f"{label_images[stem][folder]} and {name} both label the image {stem}; keep one")
                label_images[stem][folder] = name

    objects_of: dict[str, ReadObjects] = {}
    folders = sorted({folder for of_stem in label_images.values() for folder in of_stem})
    one_class_a_folder = any(len(of_stem) > 1 for of_stem in label_images.values())
    categories: set[str] = set()
    for stem, of_stem in label_images.items():
        if one_class_a_folder:
            objects_of[stem] = partial(_read_class_images, read, dict(sorted(of_stem.items())))
            categories.update(folders)
        else:
            classes = {label: name for (image, label), name in class_of_label.items() if image in ("", stem)}
            objects_of[stem] = partial(_read_label_image, read, next(iter(of_stem.values())), classes)
            categories.update(classes.values() or [DEFAULT_CLASS])
    for stem, files in mask_files.items():
        objects_of[stem] = partial(_read_mask_files, read, files)
        categories.add(DEFAULT_CLASS)
    for stem, name in labelme.items():
        if stem in objects_of:
            raise SourceError(f"{stem} has both a LabelMe file {name} and label images; keep one kind")
        try:
            categories.update(labelme_classes(read, name))
        except SourceError as error:
            notes.add("left out", str(error))
            continue
        objects_of[stem] = partial(_read_labelme_objects, read, name)
    return sorted(categories), objects_of


def _image_stem(label_stem: str, stems: set[str]) -> str:
    """The image that a label file is for: its name without one of the usual endings."""
    for ending in LABEL_ENDINGS:
        if label_stem.endswith(ending) and label_stem.removesuffix(ending) in stems:
            return label_stem.removesuffix(ending)
    return label_stem


def _read_label_image(
    read: Reader, name: str, class_of_label: Mapping[int, str], size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    labels = _read_labels(read, name, size)
    objects = []
    for label, mask in label_objects(labels, name, notes):
        if class_of_label and label not in class_of_label:
            raise SourceError(f"{name}: label {label} has no row in the file of --classes; add it")
        objects.append((class_of_label.get(label, DEFAULT_CLASS), mask))
    return objects


def _read_class_images(
    read: Reader, file_of_class: Mapping[str, str], size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    return [
        (name, mask)
        for name, file in file_of_class.items()
        for _, mask in label_objects(_read_labels(read, file, size), file, notes)
    ]


def _read_mask_files(read: Reader, files: Sequence[str], size: tuple[int, int], notes: ConversionNotes) -> Objects:
    return _cleaned(((DEFAULT_CLASS, _read_labels(read, file, size) > 0, file) for file in files), notes)


def _read_labelme_objects(read: Reader, name: str, size: tuple[int, int], notes: ConversionNotes) -> Objects:
    return _cleaned(((label, mask, f"{name}, {label}") for label, mask in read_labelme(read, name, size)), notes)


def _cleaned(found: Iterable[tuple[str, np.ndarray, str]], notes: ConversionNotes) -> Objects:
    """Objects without specks, from class name, mask, and what to call the object in the notes."""
    return [(name, kept) for name, mask, where in found if (kept := clean_mask(mask, where, notes)) is not None]


def _read_labels(read: Reader, name: str, size: tuple[int, int]) -> np.ndarray:
    labels = read_label_pixels(read, name)
    if labels.shape != size:
        raise SourceError(f"{name} is {labels.shape}, its image {size} (height, width); save both at one size")
    return labels


def _coco_objects(path: Path) -> tuple[list[str], dict[str, ReadObjects]]:
    """Class names and functions that decode the annotations of an image, from a COCO JSON file."""
    try:
        content = json.loads(path.read_bytes())
        names = {category["id"]: category["name"] for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        annotations = content["annotations"]
        annotations = list(annotations.values()) if isinstance(annotations, dict) else annotations
        of_image: dict = defaultdict(list)
        for annotation in annotations:
            of_image[annotation["image_id"]].append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not a COCO instance file ({error!r}); export it again") from error
    unknown = of_image.keys() - images.keys()
    if unknown:
        raise SourceError(
            f"{path}: annotations name image_id {min(unknown)}, which is not in 'images'; export it again"
        )
    stems = [PurePosixPath(image["file_name"]).stem for image in images.values()]
    if len(set(stems)) < len(stems):
        raise SourceError(
            f"{path} has several images called {max(stems, key=stems.count)}; give them names of their own"
        )
    readers = {
        stem: partial(_read_coco_image, path, of_image[image_id], names) for stem, image_id in zip(stems, images)
    }
    return [names[i] for i in sorted(names)], readers


def _read_coco_image(
    path: Path, annotations: Sequence[dict], names: Mapping[int, str], size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    found = []
    for annotation in annotations:
        where = f"{path.name}, annotation {annotation.get('id')}"
        if annotation.get("iscrowd", 0):
            notes.add("crowd region, dropped", where)
            continue
        if annotation.get("category_id") not in names:
            raise SourceError(f"{where}: category_id {annotation.get('category_id')} is not in 'categories'; add it")
        try:
            mask = mask_util.decode(segmentation_to_rle(annotation["segmentation"], *size)).astype(bool)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise SourceError(f"{where}: segmentation cannot be read ({error}); export it again") from error
        found.append((names[annotation["category_id"]], mask, where))
    return _cleaned(found, notes)


def _read_pair(
    read: Reader,
    image_name: str,
    read_objects: ReadObjects,
    mapping: IntensityMapping | None,
    categories: Sequence[str],
    notes: ConversionNotes,
) -> LabelledImage:
    try:
        image = to_rgb8(read_image_pixels(read, image_name), mapping)
    except ValueError as error:
        raise SourceError(f"{image_name}: {error}; give it as --intensity") from error
    objects = read_objects(image.shape[:2], notes)
    return LabelledImage(
        PurePosixPath(image_name).stem,
        image,
        [mask for _, mask in objects],
        [1 + categories.index(name) for name, _ in objects],
    )


def _read_classes(path: Path | None) -> dict[tuple[str, int], str]:
    """(image stem or "", label) -> class."""
    if path is None:
        return {}
    rows = _read_csv(path, {"label", "class"})
    try:
        return {(PurePosixPath(row.get("image") or "").stem, int(row["label"])): row["class"] for row in rows}
    except ValueError as error:
        raise SourceError(f"{path}: a label is not a whole number ({error})") from error


def _groups(groups: str | None, stems: Sequence[str]) -> list[str]:
    """The group of each image; an image alone is its own."""
    if groups is None:
        return list(stems)
    if groups.lower().endswith(".csv"):
        path = Path(groups)
        group_of = {PurePosixPath(row["image"]).stem: row["group"] for row in _read_csv(path, {"image", "group"})}
        missing = [stem for stem in stems if stem not in group_of]
        if missing:
            raise SourceError(
                f"{path}: no row for image {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
            )
        return [group_of[stem] for stem in stems]
    found = [re.search(groups, stem) for stem in stems]
    if None in found:
        raise SourceError(f"--groups {groups!r} matches nothing in the image name {stems[found.index(None)]!r}")
    return [match[1] if match.re.groups else match[0] for match in found]


def _read_csv(path: Path, columns: set[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise SourceError(f"{path} does not exist; give a CSV file with columns {', '.join(sorted(columns))}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if not columns <= set(rows.fieldnames or ()):
            raise SourceError(f"{path} has columns {rows.fieldnames}; it needs {', '.join(sorted(columns))}")
        return list(rows)
