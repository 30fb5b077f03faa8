"""The objects of one image from its label files, whatever their kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..label_plausibility import implausible_labels
from ..pixels import LOSSY_SUFFIXES, read_label_pixels
from ..source_error import SourceError
from .cellpose import read_npy_labels
from .conversion import ConversionNotes
from .geojson import geojson_classes, is_geojson, read_geojson
from .imagej_roi import read_rois
from .label_objects import clean_mask, label_objects, label_pieces
from .labelme import is_labelme, labelme_classes, read_labelme
from .pairing import LabelFile
from .text_files import read_json, read_text
from .yolo import read_yolo, yolo_classes

Reader = Callable[[str], bytes]
# Objects of one image: (class name, mask) in the order of the source; None instead of a class is a crowd region.
Objects = list[tuple[str | None, np.ndarray]]
ReadObjects = Callable[[tuple[int, int], ConversionNotes], Objects]

DEFAULT_CLASS = "object"
# Of label files of several kinds for one image, the first is taken where one program writes them: Cellpose any label
# image with these, `objguided predict` these kinds with these endings.
_CELLPOSE_KINDS = ("image", "npy", "roi")
_PREDICTED = (("image", ".labels"), ("geojson", ""), ("roi", ".rois"), ("coco", ""))


@dataclass(frozen=True)
class LabelContext:
    """What is the same for all label files of a source.

    Attributes:
        read: gives the bytes of a label file.
        class_of_label: (image's stem or "", label) -> class, of label images.
        yolo_names: class names by number.
        one_class_per_folder: whether the folders of label images are classes.
        split_components: make each connected piece of a label an object.
        read_image_file: gives the bytes of an image, to tell copies of it from labels.
    """

    read: Reader
    read_image_file: Reader
    class_of_label: Mapping[tuple[str, int], str] = field(default_factory=dict)
    yolo_names: dict[int, str] = field(default_factory=dict)
    one_class_per_folder: bool = False
    split_components: bool = False


def choose_files(
    files: Sequence[LabelFile], image: str, context: LabelContext, notes: ConversionNotes
) -> list[LabelFile]:
    """The files to be read for an image: one, or all its mask files, or one per class.

    Args:
        files: of the image.
        image: its path.
        context: see there.
        notes: takes which of several forms is read.

    Raises:
        SourceError: if there are several and nothing tells which of them are the labels.
    """
    by_kind: dict[str, list[LabelFile]] = {}
    for file in files:
        by_kind.setdefault(file.kind, []).append(file)
    if named := [file for file in by_kind.get("image", ()) if file.ending]:
        by_kind["image"] = named  # A name with an ending beats the bare one, which may be a copy of the image.
    elif len(by_kind) > 1 and "image" in by_kind:
        kept = [file for file in by_kind["image"] if context.read(file.name) != context.read_image_file(image)]
        by_kind["image"] = kept
        if not kept:
            del by_kind["image"]
    _keep_one_form(by_kind, notes)
    if len(by_kind) > 1:
        names = [of_kind[0].name for of_kind in by_kind.values()]
        raise SourceError(f"{image} has labels of several kinds, {' and '.join(names)}; keep one kind")
    ((kind, chosen),) = by_kind.items()
    if kind == "mask":
        return chosen
    folders = [file.folder for file in chosen]
    if kind == "image" and context.one_class_per_folder and len(set(folders)) == len(folders):
        if "" in folders:
            raise SourceError(
                f"{chosen[folders.index('')].name} is in no folder of a class, as other label images are; move it"
            )
        return sorted(chosen, key=lambda file: file.folder)
    if len(chosen) == 1:
        return chosen
    raise SourceError(f"{image} has several label files, {chosen[0].name} and {chosen[1].name}; keep one")


def _keep_one_form(by_kind: dict[str, list[LabelFile]], notes: ConversionNotes) -> None:
    """Drop label files that one program wrote beside others of the same objects."""
    forms = [kind for kind, ending in _PREDICTED if any(file.ending == ending for file in by_kind.get(kind, ()))]
    if len(forms) < len(by_kind):
        forms = [kind for kind in _CELLPOSE_KINDS if kind in by_kind] if "image" in by_kind else []
    for kind in forms[1:]:
        dropped = by_kind.pop(kind)
        notes.add("labels in several forms, one is read", f"{by_kind[forms[0]][0].name}, not {dropped[0].name}")


def find_reader(
    files: Sequence[LabelFile], key: str, context: LabelContext, notes: ConversionNotes
) -> tuple[set[str], ReadObjects]:
    """Class names that the files may have, and the function that reads their objects.

    Args:
        files: see :func:`choose_files`.
        key: name of the image.
        notes: takes what is unusual about text files.

    Raises:
        SourceError: if the files cannot be read as what they are.
    """
    file = files[0]
    read = context.read
    in_class_folders = file.kind == "image" and context.one_class_per_folder
    if file.kind in ("image", "npy") and not in_class_folders:
        # Rows for the image beat rows for all.
        classes = {
            label: name
            for of_image in ("", key)
            for (image, label), name in context.class_of_label.items()
            if image == of_image
        }
        return set(classes.values()) or {DEFAULT_CLASS}, partial(_read_labeled, context, file.name, classes)
    if context.class_of_label:
        notes.add("labels that the file of --classes is not for, it is for single label images", file.name)
    if in_class_folders:
        names = {f.folder: f.name for f in files}
        return set(names), partial(_read_class_images, context, names)
    if file.kind == "mask":
        return {DEFAULT_CLASS}, partial(_read_mask_files, read, [f.name for f in files])
    if file.kind == "roi":
        return {DEFAULT_CLASS}, partial(_read_roi_file, read, file.name)
    if file.kind == "yolo":
        text = read_text(read, file.name, notes)
        return yolo_classes(text, context.yolo_names), partial(_read_yolo_file, text, file.name, context.yolo_names)
    return _json_reader(read_json(read, file.name, notes), file.name)


def _json_reader(content: Any, name: str) -> tuple[set[str], ReadObjects]:
    if is_labelme(content):
        return labelme_classes(content, DEFAULT_CLASS), partial(_read_json_shapes, read_labelme, content, name)
    if is_geojson(content):
        return geojson_classes(content, DEFAULT_CLASS), partial(_read_json_shapes, read_geojson, content, name)
    raise SourceError(f"{name} is {_json_kind(content)}")


def _json_kind(content: Any) -> str:
    """What a JSON file that is neither LabelMe's nor GeoJSON seems to be, and what to do."""
    keys = set(content) if isinstance(content, dict) else set()
    if {"images", "annotations"} <= keys:
        return "a COCO file; give it as --labels"
    if "_via_img_metadata" in keys or "regions" in keys:
        return "of the VGG Image Annotator; export COCO from it"
    if isinstance(content, list) and content and isinstance(content[0], dict) and "data" in content[0]:
        return "of Label Studio; export COCO from it"
    if "objects" in keys:
        return "of Supervisely or Cityscapes; export COCO or label images"
    return "not a LabelMe, GeoJSON or COCO file; export the image's annotations again"


def _read_label_image(context: LabelContext, name: str, size: tuple[int, int], notes: ConversionNotes) -> np.ndarray:
    suffix = PurePosixPath(name).suffix.lower()
    labels = read_npy_labels(context.read, name) if suffix == ".npy" else read_label_pixels(context.read, name)
    _check_size(labels, name, size)
    is_lossy = suffix in LOSSY_SUFFIXES
    for text in implausible_labels(labels, is_lossy=is_lossy):
        kind, _, numbers = text.partition(": ")
        notes.add(f"labels that may be none, kept: {kind}", f"{name}: {numbers}")
    return label_pieces(labels) if context.split_components else labels


def _read_labeled(
    context: LabelContext, name: str, class_of_label: Mapping[int, str], size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    objects = []
    for label, mask in label_objects(_read_label_image(context, name, size, notes), name, notes):
        if class_of_label and label not in class_of_label:
            raise SourceError(f"{name}: label {label} has no row in the file of --classes; add it")
        objects.append((class_of_label.get(label, DEFAULT_CLASS), mask))
    return objects


def _read_class_images(
    context: LabelContext, file_of_class: Mapping[str, str], size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    return [
        (name, mask)
        for name, file in file_of_class.items()
        for _, mask in label_objects(_read_label_image(context, file, size, notes), file, notes)
    ]


def _read_mask_files(read: Reader, files: Sequence[str], size: tuple[int, int], notes: ConversionNotes) -> Objects:
    objects = []
    for file in files:
        mask = read_label_pixels(read, file) > 0
        _check_size(mask, file, size)
        if not mask.any():
            notes.add("empty mask, not an object", file)
        elif (kept := clean_mask(mask, file, notes)) is not None:
            objects.append((DEFAULT_CLASS, kept))
    return objects


def _read_json_shapes(
    read_shapes: Callable[..., list], content: Any, name: str, size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    return _cleaned(read_shapes(content, name, size, DEFAULT_CLASS, notes), name, notes)


def _read_roi_file(read: Reader, name: str, size: tuple[int, int], notes: ConversionNotes) -> Objects:
    return _cleaned([(DEFAULT_CLASS, mask) for mask in read_rois(read(name), name, size, notes)], name, notes)


def _read_yolo_file(
    text: str, name: str, class_names: dict[int, str], size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    return _cleaned(read_yolo(text, name, size, class_names, notes), name, notes)


def _cleaned(objects: Sequence[tuple[str, np.ndarray]], name: str, notes: ConversionNotes) -> Objects:
    """Objects without specks."""
    return [
        (label, kept)
        for number, (label, mask) in enumerate(objects, start=1)
        if (kept := clean_mask(mask, f"{name}, object {number} ({label})", notes)) is not None
    ]


def _check_size(labels: np.ndarray, name: str, size: tuple[int, int]) -> None:
    if labels.shape != size:
        raise SourceError(f"{name} is {labels.shape}, its image {size} (height, width); save both at one size")
