"""The labeled images of a fine-tuning as registered datasets: converted once, some of them held out."""

import dataclasses
import json
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.builtin import register_objguided_instances
from ..data.coco_validation import read_coco
from ..data.converters.labelmaps import convert_labelmaps, image_groups
from ..data.converters.splitting import split_groups
from ..data.intensity import DEFAULT
from ..data.source_error import SourceError
from ..utils.atomic_write import write_json
from .errors import FinetuneError

TRAIN, HELD_OUT = "finetune_train", "finetune_held_out"
# Fewer images with objects are all trained on: what one image held out says would be chance.
MIN_IMAGES_TO_HOLD_OUT = 4


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """A COCO file of labeled images.

    Attributes:
        json_file: COCO instances with ``area``.
        image_root: folder of the images.
        intensity: INPUT.INTENSITY that they want still; empty for the 8 bits that a prediction sees.
    """

    json_file: Path
    image_root: Path
    intensity: str = ""


@dataclasses.dataclass(frozen=True)
class Split:
    """Names of images (file names without ending) and the numbers of their objects.

    Attributes:
        train, held_out: names; ``held_out`` is empty where there are too few images to judge by.
        num_train_objects, num_held_out_objects: without crowds.
        most_objects: in one image.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    num_train_objects: int
    num_held_out_objects: int
    most_objects: int


def prepare_images(images: Path, labels: Path, folder: Path, *, intensity: str) -> LabeledImages:
    """Convert images and labels of any usual kind, see :func:`..data.converters.labelmaps.convert_labelmaps`.

    Args:
        folder: for the converted images and their COCO file.
        intensity: INPUT.INTENSITY of the model. Images get the 8 bits that a prediction by it sees.

    Raises:
        FinetuneError: if nothing can be used; says why in one line.
    """
    try:
        convert_labelmaps(
            images,
            labels,
            folder,
            val_fraction=0.0,
            test_fraction=0.0,
            intensity=intensity or None,
            default_intensity=DEFAULT,
        )
    except (SourceError, OSError) as error:
        raise FinetuneError("; ".join(line.strip() for line in str(error).splitlines())) from error
    return LabeledImages(folder / "annotations" / f"{folder.name}_train.json", folder / "train")


def split_images(
    source: LabeledImages, folder: Path, *, held_out_fraction: float, seed: int, groups: str | None = None
) -> Split:
    """Write ``train.json`` and, where there are images enough, ``held_out.json`` to a folder.

    Images without objects are trained on: they judge nothing.

    Args:
        held_out_fraction: of the images with objects, in [0, 1); 0 trains on all.
        groups: see ``convert_labelmaps``; images of one group stay together.

    Raises:
        FinetuneError: if there is no object, the groups leave nothing to train on, or the fraction makes no sense.
    """
    content = json.loads(source.json_file.read_bytes())
    names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    counts = dict.fromkeys(names, 0)
    for annotation in content["annotations"]:
        counts[annotation["image_id"]] += not annotation.get("iscrowd", 0)
    with_objects = [image for image, count in counts.items() if count]
    if not with_objects:
        raise FinetuneError(f"there is no object in the labels of {len(names)} image(s): nothing to learn from")
    held_out: set[int] = set()
    try:
        group_of = image_groups(groups, [names[image] for image in with_objects])
        enough = len(with_objects) >= MIN_IMAGES_TO_HOLD_OUT and len(set(group_of)) > 1
        splits = split_groups(group_of, held_out_fraction if enough else 0.0, 0.0, seed)
        held_out = {image for image, split in zip(with_objects, splits) if split == "val"}
    except (ValueError, SourceError) as error:
        raise FinetuneError(str(error)) from error
    write_part(content, set(names) - held_out, folder / "train.json")
    write_part(content, held_out, folder / "held_out.json")
    return Split(
        tuple(name for image, name in names.items() if image not in held_out),
        tuple(name for image, name in names.items() if image in held_out),
        sum(count for image, count in counts.items() if image not in held_out),
        sum(counts[image] for image in held_out),
        max(counts.values()),
    )


def register_split(folder: Path, image_root: Path) -> tuple[str, ...]:
    """Register what :func:`split_images` wrote as TRAIN and HELD_OUT, in place of those of an earlier fine-tuning.

    Returns:
        The class names.
    """
    for name, file in ((TRAIN, "train.json"), (HELD_OUT, "held_out.json")):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)
        register_objguided_instances(name, str(folder / file), str(image_root))
    return tuple(read_coco(folder / "train.json").categories.values())


def write_part(content: dict, images: set[int], path: Path) -> None:
    """Write the part of a COCO file's content that is about some images, by id."""
    part = {
        **content,
        "images": [image for image in content["images"] if image["id"] in images],
        "annotations": [a for a in content["annotations"] if a["image_id"] in images],
    }
    write_json(path, part)
