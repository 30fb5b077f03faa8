"""One image's predictions as a label map beside its true objects, the common ground of measures and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import Metadata
from pycocotools.coco import COCO
from scipy import ndimage

from .ground_truth import true_objects
from .label_map import Overlaps, count_overlaps, paint_label_map


@dataclass(frozen=True)
class ComparedImage:
    """P predicted instances as a label map, beside the G true objects that are no crowd.

    Attributes:
        record: the image in the dataset's COCO file.
        label_map: (H, W) int32, see :func:`.label_map.paint_label_map`.
        scores: (P,).
        predicted_classes, true_classes: (P,) and (G,) contiguous class indices.
        true_masks: G compressed RLEs; they may overlap.
        crowds: compressed RLEs of regions whose objects are not annotated one by one.
    """

    record: dict
    label_map: np.ndarray
    scores: np.ndarray
    predicted_classes: np.ndarray
    true_classes: np.ndarray
    true_masks: list[dict]
    crowds: list[dict]

    @cached_property
    def overlaps(self) -> Overlaps:
        return count_overlaps(self.label_map, len(self.predicted_classes), self.true_masks)

    @cached_property
    def overlaps_in_class(self) -> Overlaps:
        """The same where a prediction and an object of different classes share no pixel."""
        same = self.predicted_classes[:, None] == self.true_classes
        return replace(self.overlaps, intersection=self.overlaps.intersection * same)

    @cached_property
    def iou(self) -> np.ndarray:
        """(P, G) mask IoU, 0 between different classes."""
        return self.overlaps_in_class.iou

    @cached_property
    def boxes(self) -> list[tuple[slice, slice] | None]:
        """P boxes of the predictions in the label map, as rows and columns; None for those without a pixel."""
        number = len(self.predicted_classes)
        return ndimage.find_objects(self.label_map, max_label=number) if number else []  # 0 would mean all labels.

    @cached_property
    def ignored(self) -> np.ndarray:
        """(P,) bool: predictions without a pixel, and those that lie in crowd regions by more than half."""
        areas = self.overlaps.predicted_area
        if not self.crowds:
            return areas == 0
        in_crowd = count_overlaps(self.label_map, len(areas), [mask_util.merge(self.crowds)]).intersection[:, 0]
        return (areas == 0) | (2 * in_crowd > areas)


def compare_image(
    ground_truth: COCO, metadata: Metadata, image_id: Any, rles: Sequence[dict], scores: np.ndarray, classes: np.ndarray
) -> ComparedImage:
    """Paint the predictions into a label map and look up the truth.

    Args:
        ground_truth, metadata: of the dataset, see :func:`.ground_truth.load_ground_truth`.
        image_id: one of ``ground_truth.imgs``.
        rles: P compressed RLEs.
        scores, classes: (P,), contiguous class indices.
    """
    record = ground_truth.imgs[image_id]
    truth = true_objects(ground_truth, image_id, metadata)
    objects = np.flatnonzero(~truth.is_crowd)
    return ComparedImage(
        record,
        paint_label_map(rles, scores, (record["height"], record["width"])),
        scores,
        classes,
        truth.classes[objects],
        [truth.masks[i] for i in objects],
        [truth.masks[i] for i in np.flatnonzero(truth.is_crowd)],
    )
