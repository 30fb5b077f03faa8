"""The true objects of a dataset in COCO's format, one source for all evaluators."""

import contextlib
import hashlib
import io
import logging
import os
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.utils.logger import log_first_n
from pycocotools.coco import COCO

from ..utils.atomic_write import write_json


@dataclass(frozen=True)
class Objects:
    """True objects of one image: boxes (G, 4), masks (G RLEs), class indices (G,), is_crowd (G,) bool.

    Boxes are (x, y, width, height) in pixels, the far corners exclusive.
    """

    boxes: np.ndarray
    masks: list[dict]
    classes: np.ndarray
    is_crowd: np.ndarray


def coco_json_file(dataset_name: str, folder: str) -> str:
    """Path of the annotations of a registered dataset in COCO's format.

    A dataset whose metadata names no ``json_file`` is converted from its registered records, once per process, to
    ``<folder>/<dataset_name>_coco_format.json``, which becomes its ``json_file`` (Detectron2's convention). A file
    left there by an earlier run is replaced: the data may have changed since.

    Raises:
        KeyError: if no dataset has this name.
    """
    metadata = MetadataCatalog.get(dataset_name)
    if not metadata.get("thing_classes") or not metadata.get("json_file"):
        DatasetCatalog.get(dataset_name)  # Classes and file are known once a COCO file has been read.
    if not metadata.get("json_file"):
        path = os.path.join(folder, f"{dataset_name}_coco_format.json")
        # Detectron2 leaves "annotations" out where there are none, which means "not annotated" to its evaluator.
        write_json(path, {"annotations": [], **convert_to_coco_dict(dataset_name)})
        metadata.json_file = path
    return metadata.json_file


def load_ground_truth(dataset_name: str, folder: str) -> COCO:
    """Read the annotations of a registered dataset, see :func:`coco_json_file`.

    Raises:
        KeyError: if no dataset has this name.
        ValueError: if an object has no segmentation.
    """
    path = coco_json_file(dataset_name, folder)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(path)
    for annotation in ground_truth.anns.values():
        if not annotation.get("segmentation"):
            file_name = ground_truth.imgs[annotation["image_id"]]["file_name"]
            raise ValueError(
                f"{path}: annotation {annotation['id']} of image '{file_name}' has no 'segmentation'; "
                "add its mask (RLE or polygons) or remove the annotation"
            )
    return ground_truth


def true_objects(ground_truth: COCO, image_id: Any, metadata: Metadata) -> Objects:
    """The annotations of one image.

    Args:
        ground_truth: see :func:`load_ground_truth`.
        image_id: one of ``ground_truth.imgs``.
        metadata: of the dataset, for the contiguous class indices.
    """
    annotations = ground_truth.imgToAnns[image_id]
    class_of = metadata.get("thing_dataset_id_to_contiguous_id")
    ids = [annotation["category_id"] for annotation in annotations]
    return Objects(
        boxes=np.array([annotation["bbox"] for annotation in annotations], dtype=float).reshape(-1, 4),
        masks=[ground_truth.annToRLE(annotation) for annotation in annotations],
        classes=np.array([class_of[i] for i in ids] if class_of else ids, dtype=int),
        is_crowd=np.array([annotation.get("iscrowd", 0) for annotation in annotations], dtype=bool),
    )


def images_digest(dataset_name: str) -> str:
    """Short text that changes with the ids, names and sizes of a registered dataset's images, and not with its objects.

    Predictions name images by their ids alone, and a dataset that is prepared anew can give them to other images.
    """
    root = MetadataCatalog.get(dataset_name).get("image_root")
    images = []
    for record in DatasetCatalog.get(dataset_name):
        path = PurePath(record["file_name"])
        name = path.relative_to(root) if root and path.is_relative_to(root) else path.name
        # A registered record may lack its size.
        images.append((record["image_id"], PurePath(name).as_posix(), record.get("height"), record.get("width")))
    return hashlib.sha256(repr(sorted(images, key=repr)).encode()).hexdigest()[:16]


def count_objects(ground_truth: COCO) -> dict[Any, int]:
    """Image id -> number of its objects; crowd regions are none."""
    return {
        image_id: sum(not annotation.get("iscrowd", 0) for annotation in ground_truth.imgToAnns[image_id])
        for image_id in ground_truth.imgs
    }


def warn_of_images_above_limit(ground_truth: COCO, dataset_name: str, limit: int) -> None:
    """Log, once per process, that some images hold more objects than ``limit`` detections can match."""
    counts = count_objects(ground_truth)
    above = [image_id for image_id, count in counts.items() if count > limit]
    if not above:
        return
    worst = max(above, key=counts.get)
    log_first_n(
        logging.WARNING,
        f"{dataset_name}: {len(above)} image(s) hold more objects than TEST.DETECTIONS_PER_IMAGE = {limit}, at most "
        f"{counts[worst]} (image '{ground_truth.imgs[worst]['file_name']}'). Those above the limit are "
        f"false negatives; raise TEST.DETECTIONS_PER_IMAGE to at least {counts[worst]}",
        name=__name__,
        key="message",
    )
