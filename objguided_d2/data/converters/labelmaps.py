"""Custom datasets: images with labels of any usual kind.

Labels belong to the image ``<stem>.<ending>`` by their name (pairing.py). They are one of

- a label image ``<stem>.png`` or ``.tif``, also ``<stem>_label``, ``_labels``, ``_mask``, ``_masks``, ``_cp_masks`` or
  ``.labels``, one value or color per object;
- a folder ``<stem>/`` or ``<stem>/masks/`` with one mask file per object;
- a label image in each of several folders, one per class: ``<class>/<stem>.png``;
- a LabelMe or GeoJSON file ``<stem>.json``, Cellpose's ``<stem>_seg.npy``, ImageJ's ``<stem>.zip``, YOLO's
  ``<stem>.txt``;

or COCO JSON files have those of all images.
"""

import copy
import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ..coco_validation import parse_coco, read_coco
from ..intensity import IntensityMapping, deep_to_rgb8, num_not_finite, to_rgb8
from ..pixels import IMAGE_SUFFIXES, read_image_pixels
from ..source_error import SourceError
from .coco_labels import coco_objects, is_coco, merge_classes
from .conversion import ConversionNotes, open_source
from .instance_dataset import EmptySplitError, LabeledImage, write_instance_dataset
from .label_files import LabelContext, Objects, Reader, ReadObjects, choose_files, find_reader
from .pairing import LABEL_ENDINGS, UNSUPPORTED, ImageIndex, LabelFile, Pairing, pair_files
from .splitting import SPLITS, split_groups
from .text_files import read_json
from .yolo import read_class_names

__all__ = ["LABEL_ENDINGS", "convert_labelmaps", "image_groups"]


def convert_labelmaps(
    images: Path,
    labels: Path,
    output: Path,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    groups: str | None = None,
    classes: Path | None = None,
    intensity: str | None = None,
    default_intensity: str | None = None,
    split_components: bool = False,
) -> ConversionNotes:
    """Pair images and labels by name and write them as a dataset.

    Args:
        images: folder or zip archive.
        labels: the same or another one, see the module, or a COCO JSON file.
        output: the dataset's folder.
        val_fraction, test_fraction, seed: see :func:`.splitting.split_groups`. Without fractions, folders called
            ``train`` and ``val`` or ``test`` (and the like) say the split of the images below them; else a fifth
            validates.
        groups: a regular expression, whose first group (or whole match) in a name is the group of that image, or the
            path of a CSV file with columns ``image`` and ``group``. Images of one group stay in one split.
        classes: CSV file with columns ``label`` and ``class``, and ``image`` where a label means different things in
            different images. For label images.
        intensity: see :mod:`..intensity`; None takes 8-bit images as they are, and leaves out others or
        default_intensity: maps those, as a prediction does.
        split_components: make each connected piece of a label an object, for binary masks.

    Returns:
        notes on what was unusual and left out.
    Raises:
        SourceError: if a source is missing or damaged or nothing can be paired. Files that cannot be used are left
            out and listed at the end; where a split would be empty without them, the others are split again.
        ValueError: for a mapping or fractions that make no sense.
    """
    mapping = IntensityMapping.parse(intensity) if intensity else None
    default = IntensityMapping.parse(default_intensity) if default_intensity else None
    notes = ConversionNotes()
    image_names, read_image = open_source(images)
    if labels.suffix.lower() == ".json" and labels.is_file():
        pairing = pair_files(image_names, [], False, notes)
        _check_images(pairing, images, image_names, notes)
        file = read_coco(labels, needs_size=False)
        categories, by_image = coco_objects(
            file, labels.name, PurePosixPath(), ImageIndex(list(pairing.images.values())), notes
        )
        objects_of = {key: by_image[name] for key, name in pairing.images.items() if name in by_image}
        if classes:
            raise SourceError(f"--classes {classes} is for label images; {labels} has its own classes")
    else:
        label_names, read_labels = open_source(labels)
        image_names, label_names = _apart(images, image_names, labels, label_names)
        pairing = pair_files(image_names, label_names, images.resolve() == labels.resolve(), notes)
        _check_images(pairing, images, image_names, notes)
        context = LabelContext(
            read_labels, read_image, _read_classes(classes), read_class_names(read_labels, label_names, notes), False,
            split_components,
        )  # fmt: skip
        categories, objects_of = _file_objects(pairing, context, notes)
    paired = [key for key in pairing.images if key in objects_of]
    left_out = set(pairing.labels) - set(objects_of)
    for key in sorted(set(pairing.images) - set(objects_of) - left_out):
        notes.leave_out(pairing.images[key], kind="image without labels, left out")
    if not paired:
        raise SourceError(
            f"none of the {len(pairing.images)} images in {images} has usable labels of its name in {labels}; name the "
            "labels <stem>.png, <stem>_mask.png, <stem>.json or <stem>/*.png, e.g. for "
            f"{next(iter(pairing.images.values()))}{_indented(notes)}"
        )
    group_of = dict(zip(paired, image_groups(groups, paired)))
    info = {"intensity": str(mapping)} if mapping else None
    unusable: dict[str, str] = {}
    while True:
        usable = [key for key in paired if key not in unusable]
        attempt = copy.deepcopy(notes)
        for reason in unusable.values():
            attempt.leave_out(reason)
        try:
            split_of = _splits(usable, pairing, group_of, val_fraction, test_fraction, seed)
        except ValueError as error:
            raise SourceError(f"{error}{_indented(attempt)}") from error
        found: dict[str, str] = {}
        readers: dict[str, list] = {split: [] for split in SPLITS if split in split_of.values()}
        for key in usable:
            source = pairing.images[key], key, objects_of[key]
            read = partial(_read_pair, read_image, *source, (mapping, default), categories, attempt)
            readers[split_of[key]].append(partial(_recorded, read, key, found))
        try:
            write_instance_dataset(output, readers, categories, attempt, info)
            return attempt
        except EmptySplitError:
            if len({group_of[key] for key in usable if key not in found}) < len(readers):
                raise
            print("A split would be empty: the images that can be used are split again")
            unusable |= found


def _recorded(read: Callable[[], LabeledImage], key: str, unusable: dict[str, str]) -> LabeledImage:
    """Read an image; one that cannot be used is recorded with the reason."""
    try:
        return read()
    except SourceError as error:
        unusable[key] = str(error)
        raise


def _check_images(pairing: Pairing, source: Path, names: Sequence[str], notes: ConversionNotes) -> None:
    if not pairing.images:
        found = sorted({PurePosixPath(name).suffix.lower() for name in names} & set(UNSUPPORTED))
        advice = "".join(f"; {suffix} files are not read: {UNSUPPORTED[suffix]}" for suffix in found)
        raise SourceError(
            f"{source} holds no image; it should have files ending in {', '.join(IMAGE_SUFFIXES)}{advice}"
            f"{_indented(notes) if not found else ''}"
        )


def _apart(images: Path, image_names: list[str], labels: Path, label_names: list[str]) -> tuple[list[str], list[str]]:
    """The files of both sources without those of a source that lies inside the other."""
    images, labels = images.resolve(), labels.resolve()
    if images != labels and labels.is_relative_to(images):
        inner = labels.relative_to(images).as_posix()
        image_names = [name for name in image_names if not f"{name}/".startswith(f"{inner}/")]
    if images != labels and images.is_relative_to(labels):
        inner = images.relative_to(labels).as_posix()
        label_names = [name for name in label_names if not f"{name}/".startswith(f"{inner}/")]
    return image_names, label_names


def _file_objects(
    pairing: Pairing, context: LabelContext, notes: ConversionNotes
) -> tuple[list[str], dict[str, ReadObjects]]:
    """Class names, and for each image with labels the function that reads its objects."""
    label_images = [[file for file in files if file.kind == "image"] for files in pairing.labels.values()]
    # Label images of one image in several folders, all named alike, are classes.
    context = replace(context, one_class_per_folder=any(map(_in_class_folders, label_images)))
    objects_of: dict[str, ReadObjects] = {}
    categories: set[str] = set()
    for key, files in pairing.labels.items():
        try:
            chosen = choose_files(files, pairing.images[key], context, notes)
            found, objects_of[key] = find_reader(chosen, key, context, notes)
        except SourceError as error:
            notes.leave_out(str(error))
            continue
        categories |= found
    if objects_of or not pairing.coco_files:
        for name in pairing.coco_files:
            notes.leave_out(name, kind="labels without an image, left out")
        return sorted(categories), objects_of
    return _coco_file_objects(pairing, context.read, notes)


def _in_class_folders(files: Sequence[LabelFile]) -> bool:
    folders = {file.folder for file in files}
    return len(folders) > 1 and "" not in folders and len({file.ending for file in files}) == 1


def _coco_file_objects(
    pairing: Pairing, read: Reader, notes: ConversionNotes
) -> tuple[list[str], dict[str, ReadObjects]]:
    """As :func:`_file_objects` from COCO files in the source of labels, one per split as a rule."""
    index, key_of = ImageIndex(list(pairing.images.values())), {name: key for key, name in pairing.images.items()}
    class_lists: list[list[str]] = []
    # Image -> file, classes and reader of each part of its objects.
    parts_of: dict[str, list[tuple[str, set[str], ReadObjects]]] = {}
    for name in pairing.coco_files:
        try:
            content = read_json(read, name, notes)
            if not is_coco(content):
                raise SourceError(f"{name} is no COCO file and is named like no image")
            file = parse_coco(content, name, needs_size=False)
            names, by_image = coco_objects(file, name, PurePosixPath(name).parent, index, notes)
        except SourceError as error:
            notes.leave_out(str(error))
            continue
        class_lists.append(names)
        for image, reader in by_image.items():
            parts = parts_of.setdefault(key_of[image], [])
            # Files may hold a class each of the same images; of the same classes one would be a copy.
            other = next((part for part, classes, _ in parts if classes.intersection(names)), None)
            if other is None:
                parts.append((name, set(names), reader))
            else:
                notes.leave_out(f"{name}: image {image} is in {other} too, with the same classes; keep one of them")
    objects_of = {key: partial(_read_all, [reader for _, _, reader in parts]) for key, parts in parts_of.items()}
    return merge_classes(class_lists), objects_of


def _read_all(readers: Sequence[ReadObjects], size: tuple[int, int], notes: ConversionNotes) -> Objects:
    return [labeled for read in readers for labeled in read(size, notes)]


def _splits(
    paired: Sequence[str],
    pairing: Pairing,
    group_of: Mapping[str, str],
    val_fraction: float | None,
    test_fraction: float | None,
    seed: int,
) -> dict[str, str]:
    """The split of each image: that of its folder, or by the fractions."""
    given = {key: pairing.splits[key] for key in paired}
    is_complete = {"train"} < set(given.values()) and None not in given.values()
    if is_complete and val_fraction is None and test_fraction is None:
        print("splits: as the folders of the images are called")
        return given
    fractions = 0.2 if val_fraction is None else val_fraction, test_fraction or 0.0
    return dict(zip(paired, split_groups([group_of[key] for key in paired], *fractions, seed)))


def _read_pair(
    read: Reader,
    image_name: str,
    key: str,
    read_objects: ReadObjects,
    mappings: tuple[IntensityMapping | None, IntensityMapping | None],
    categories: Sequence[str],
    notes: ConversionNotes,
) -> LabeledImage:
    pixels = read_image_pixels(read, image_name)
    of_all, of_deep = mappings
    try:
        image = to_rgb8(pixels, of_all) if of_all else deep_to_rgb8(pixels, of_deep)
    except ValueError as error:
        raise SourceError(f"{image_name}: {error}; give it as --intensity") from error
    if count := num_not_finite(pixels):
        notes.add("NaN or infinite values, not counted for the intensity mapping", f"{image_name} ({count} values)")
    objects = read_objects(image.shape[:2], notes)
    crowds = [mask for name, mask in objects if name is None]
    return LabeledImage(
        key,
        image,
        [mask for name, mask in objects if name is not None],
        [1 + categories.index(name) for name, _ in objects if name is not None],
        crowd=np.logical_or.reduce(crowds) if crowds else None,
    )


def _indented(notes: ConversionNotes) -> str:
    return f"\n{notes}" if notes.names else ""


def _read_classes(path: Path | None) -> dict[tuple[str, int], str]:
    """(image stem or "", label) -> class."""
    if path is None:
        return {}
    classes: dict[tuple[str, int], str] = {}
    for row in _read_csv(path, {"label", "class"}):
        image = row.get("image") or ""
        try:
            label = int(row["label"])
        except (TypeError, ValueError) as error:  # A short row has None.
            raise SourceError(f"{path}: a label is not a whole number ({error})") from error
        if classes.setdefault((_without_ending(image), label), row["class"]) != row["class"]:
            raise SourceError(
                f"{path}: label {label} has two classes{image and f' in image {image}'}, keep one of these rows"
            )
    return classes


def _without_ending(name: str) -> str:
    """The image's name as it is known by: a date in it (2024.01.05_a) is no ending."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def image_groups(groups: str | None, stems: Sequence[str]) -> list[str]:
    """The group of each image; without any, an image is its own.

    Args:
        groups: see :func:`convert_labelmaps`.
        stems: names of the images.

    Raises:
        SourceError: if an image has no group, or the CSV file is missing or lacks a column.
    """
    if groups is None:
        return list(stems)
    if groups.lower().endswith(".csv"):
        path = Path(groups)
        group_of = {_without_ending(row["image"]): row["group"] for row in _read_csv(path, {"image", "group"})}
        missing = [stem for stem in stems if stem not in group_of]
        if missing:
            raise SourceError(
                f"{path}: no row for image {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
            )
        return [group_of[stem] for stem in stems]
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise SourceError(f"--groups {groups!r} is no regular expression ({error})") from error
    found = [pattern.search(stem) for stem in stems]
    named = [match and match[min(1, pattern.groups)] for match in found]
    if None in named:
        raise SourceError(f"--groups {groups!r} matches nothing in the image name {stems[named.index(None)]!r}")
    return [name for name in named if name is not None]


def _read_csv(path: Path, columns: set[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise SourceError(f"{path} does not exist; give a CSV file with columns {', '.join(sorted(columns))}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, restval="")
        try:
            if not columns <= set(rows.fieldnames or ()):
                raise SourceError(f"{path} has columns {rows.fieldnames}; it needs {', '.join(sorted(columns))}")
            return list(rows)
        except UnicodeDecodeError as error:
            raise SourceError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
