"""Annotations of a COCO file for images that are converted."""

from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

from ...utils.rle import decode_mask
from ..coco_file import CocoFile, CocoImage
from ..coco_validation import size_mismatch
from ..segmentation import segmentation_to_rle
from ..source_error import SourceError
from .conversion import ConversionNotes
from .label_files import Objects, ReadObjects
from .label_objects import clean_mask
from .pairing import ImageIndex, plain_folders


def coco_objects(
    file: CocoFile, name: str, folder: PurePosixPath, index: ImageIndex, notes: ConversionNotes
) -> tuple[list[str], dict[str, ReadObjects]]:
    """Class names, and for each image of the source the function that decodes its annotations.

    Args:
        file: the COCO file.
        name: of it, for messages.
        folder: path of the file in the source of images, which file names may be relative to.
        index: of the images.
        notes: takes what is repaired or left out.

    Raises:
        SourceError: for errors of the file as a whole.
    """
    if file.errors:
        raise SourceError(f"{name}: {file.errors.lines()[0]}")
    for line in file.warnings.lines():
        notes.add(f"repaired in {name}", line)
    for line in file.unassigned.lines():
        notes.leave_out(f"{name}, {line}")
    readers: dict[str, ReadObjects] = {}
    names = [file.categories[key] for key in sorted(file.categories)]
    paths = [PurePosixPath(image.file_name or "") for image in file.images]
    found_by_path = [index.same_path(folder / path, path.stem) or index.same_path(path, path.stem) for path in paths]
    # Names with folders that are those of the images never mean an image of another folder.
    share_folders = any(found and plain_folders(path) for found, path in zip(found_by_path, paths))
    for image, path, found in zip(file.images, paths, found_by_path):
        if image.file_name is None:
            notes.leave_out(f"{name}, {image.errors[0]}")
            continue
        if not (share_folders and plain_folders(path)):
            found = found or index.same_stem(path.stem)
        if found is None:
            notes.leave_out(f"{name}: image {image.file_name}", kind="labels without an image, left out")
        elif found in readers:
            raise SourceError(f"{name} has several images called {path.stem}; give them unique names")
        else:
            readers[found] = partial(_read_image, image, file.categories, name)
    return names, readers


def _read_image(
    image: CocoImage, categories: dict[int, str], name: str, size: tuple[int, int], notes: ConversionNotes
) -> Objects:
    if image.errors:
        more = f" (and {len(image.errors) - 1} more)" if len(image.errors) > 1 else ""
        raise SourceError(f"{name}, {image.errors[0]}{more}")
    if image.height is not None and image.width is not None and size != (image.height, image.width):
        raise SourceError(f"{image.file_name} {size_mismatch(size, (image.height, image.width))} ({name})")
    objects: Objects = []
    for number, annotation in enumerate(image.annotations):
        where = f"{name}, annotation {annotation['id'] or number} of {image.file_name}"
        try:
            mask = decode_mask(segmentation_to_rle(annotation["segmentation"], *size))
        except ValueError as error:
            raise SourceError(f"{where}, segmentation: {error}; export it again") from error
        if annotation["iscrowd"]:
            objects.append((None, mask))
        elif (kept := clean_mask(mask, where, notes)) is not None:
            objects.append((categories[annotation["category_id"]], kept))
    return objects


def is_coco(content: object) -> bool:
    return isinstance(content, dict) and {"images", "categories"} <= content.keys()


def merge_classes(class_lists: Sequence[Sequence[str]]) -> list[str]:
    """Class names of several files, in the order of their first appearance."""
    return list(dict.fromkeys(name for names in class_lists for name in names))
