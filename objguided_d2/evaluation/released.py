"""VOC2010 AP as the authors' released program reads it, so that ours and the paper's can stand in one table.

The program (github.com/yijingru/ObjGuided-Instance-Segmentation) read the rows of its own method in Table I of Yi et
al., IEEE TMI 2021. It differs from :mod:`.voc2010` in this:

- A mask of the network's input is resized to the image bilinearly, since the flag for nearest-neighbor is passed in the
  place of another argument. So it is fractional along its outline.
- The box of an instance runs from the first to the last pixel that equals 1, and the mask is cut to it. Instances
  without such a pixel are dropped.
- The intersection of masks counts every pixel of the object where the mask is not zero; the union is the sum of the
  mask and the area of the object less the intersection. So IoU may exceed 1. It must exceed the threshold.
- The extents of boxes are differences of first and last pixels, of true boxes too: one pixel less than they cover.
- Objects of fewer than three rows or columns are left out.

The rest of the paper's setting is its input of 512 x 512 pixels, whatever the aspect (INPUT.TEST_SIZE), and its score
threshold of 0.3 (MODEL.ROI_HEADS.SCORE_THRESH_TEST).

D detections and G objects of one image, H x W. Boxes are (x1, y1, x2, y2), first and last column and row.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import Instances
from detectron2.utils.logger import log_first_n

from ..utils.rle import decode_in_box, encode_masks
from .base import IOU_THRESHOLDS, gather_by_image, register_evaluator
from .ground_truth import Objects, true_objects
from .voc2010 import (
    AveragePrecisionEvaluator,
    ComparedDetections,
    average_precision_of_compared,
    best_of,
    summarize_average_precision,
)

# The smallest extent, last - first pixel, that an object may have.
MIN_EXTENT = 2
# Of masks that are sums of products of weights.
_ROUNDING = 1e-6

_TASK = (
    "AP of {} as the authors' released program reads it, percent: masks resized bilinearly and cut to the box of "
    "pixels that equal 1, fractional pixels counted in full where masks intersect; not comparable with VOC2010 AP"
)


@dataclass(frozen=True)
class FractionalMask:
    """The values (h, w) in [0, 1] of the pixels of ``box``, both ends included."""

    box: np.ndarray
    values: np.ndarray


def resize_weights(old: int, new: int) -> np.ndarray:
    """Weights (new, old) of a bilinear resize of one axis, as cv2.INTER_LINEAR: pixel centers, the border repeated."""
    position = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    first = position.astype(int)
    rows, fraction = np.arange(new), position - first
    weights = np.zeros((new, old))
    weights[rows, first] = 1 - fraction
    weights[rows, np.minimum(first + 1, old - 1)] += fraction
    return weights


def resize_mask(rle: dict, row_weights: np.ndarray, column_weights: np.ndarray) -> FractionalMask | None:
    """A whole mask of the input, resized to the image and cut to its pixels that equal 1; None without any.

    Args:
        rle: of a mask (h, w).
        row_weights: (H, h). column_weights: (W, w). See :func:`resize_weights`.
    """
    (rows, columns), mask = decode_in_box(rle)
    row_weights, column_weights = row_weights[:, rows], column_weights[:, columns]
    # Elsewhere no pixel can equal 1.
    y, x = (np.flatnonzero(weights.sum(1) > 1 - _ROUNDING) for weights in (row_weights, column_weights))
    values = row_weights[y] @ mask @ column_weights[x].T
    full_y, full_x = np.nonzero(values > 1 - _ROUNDING)
    if not len(full_y):
        return None
    top, bottom, left, right = full_y.min(), full_y.max(), full_x.min(), full_x.max()
    return FractionalMask(np.array([x[left], y[top], x[right], y[bottom]]), values[top : bottom + 1, left : right + 1])


def compare_masks(masks: Sequence[FractionalMask], objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    """IoU of boxes and of masks by the rules above, each (D, G); with a crowd the part of the detection in it."""
    boxes = np.array([mask.box for mask in masks], float).reshape(-1, 4)
    true = [decode_in_box(rle) for rle in objects.masks]
    true_boxes = np.array([(c.start, r.start, c.stop - 1, r.stop - 1) for (r, c), _ in true], float).reshape(-1, 4)
    if not len(masks) or not true:
        nothing = np.zeros((len(masks), len(true)))
        return nothing, nothing
    box_iou = mask_util.iou(_with_extents(boxes), _with_extents(true_boxes), objects.is_crowd.astype(np.uint8))
    mask_iou = np.zeros_like(box_iou)
    for d, g in zip(*np.nonzero(box_iou)):
        mask_iou[d, g] = _mask_iou(masks[d], *true[g], bool(objects.is_crowd[g]))
    return box_iou, mask_iou


def _with_extents(boxes: np.ndarray) -> np.ndarray:
    """(K, 4) x, y, and the differences of last and first pixels."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _mask_iou(mask: FractionalMask, where: tuple[slice, slice], true: np.ndarray, is_crowd: bool) -> float:
    x1, y1, x2, y2 = mask.box
    rows, columns = where
    top, bottom = max(y1, rows.start), min(y2 + 1, rows.stop)
    left, right = max(x1, columns.start), min(x2 + 1, columns.stop)
    values = mask.values[top - y1 : bottom - y1, left - x1 : right - x1]
    object_part = true[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]
    if is_crowd:
        return values[object_part].sum() / mask.values.sum()
    intersection = np.count_nonzero((values > _ROUNDING) & object_part)
    return intersection / (mask.values.sum() + np.count_nonzero(true) - intersection)


@register_evaluator("released")
class ReleasedEvaluator(AveragePrecisionEvaluator):
    """AP^seg and AP^dec as the released program reads them.

    ``instances.input_masks`` are the masks at the size of the network's input; an ``ObjectGuidedRCNN`` adds them if its
    config names this evaluator. Masks of other models are whole at the size of the image and stay so.
    """

    tasks = {"released_seg": _TASK.format("masks"), "released_dec": _TASK.format("boxes")}

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Returns:
            ``{"released_seg": {"AP": mean, "AP50": ..., "AP95": ...}, "released_dec": {...}}``, as of
            :class:`.voc2010.VOC2010Evaluator`. On all processes but the main one an empty dict.
        """
        compared = gather_by_image(self._kept, self._distributed)
        if compared is None:
            return {}
        images = [
            compared[image_id] if image_id in compared else self._keep(image_id, None)
            for image_id in self._ground_truth.imgs
        ]
        if not any(len(one.scores) for boxes, _ in images for one in boxes.values()):
            logging.getLogger(__name__).warning(f"{self._dataset_name}: no predictions for any image, so AP is 0")
        boxes, masks = zip(*images) if images else ((), ())
        # An IoU that equals the threshold passes for boxes, not for masks.
        per_class = {
            "released_seg": average_precision_of_compared(masks, np.nextafter(IOU_THRESHOLDS, 1)),
            "released_dec": average_precision_of_compared(boxes),
        }
        names = self._metadata.thing_classes
        return {task: summarize_average_precision(values, names) for task, values in per_class.items()}

    def _keep(
        self, image_id: Any, instances: Instances | None
    ) -> tuple[dict[int, ComparedDetections], dict[int, ComparedDetections]]:
        """Class index -> overlaps, of boxes and of masks."""
        record = self._ground_truth.imgs[image_id]
        objects = _large_enough(true_objects(self._ground_truth, image_id, self._metadata))
        masks, scores, classes = [], np.zeros(0), np.zeros(0, int)
        if instances is not None and len(instances):
            rles = self._rles(instances)
            weights = [resize_weights(*sides) for sides in zip(rles[0]["size"], (record["height"], record["width"]))]
            resized = [resize_mask(rle, *weights) for rle in rles]
            kept = np.array([mask is not None for mask in resized])
            masks = [mask for mask in resized if mask is not None]
            scores, classes = instances.scores.numpy(force=True)[kept], instances.pred_classes.numpy(force=True)[kept]
        box_iou, mask_iou = compare_masks(masks, objects)
        return _by_class(box_iou, scores, classes, objects), _by_class(mask_iou, scores, classes, objects)

    def _rles(self, instances: Instances) -> list[dict]:
        if instances.has("input_masks"):
            return encode_masks(instances.input_masks)
        log_first_n(
            logging.WARNING,
            f"{self._dataset_name}: the predictions have no input_masks, masks at the size of the network's input, so "
            "the evaluator 'released' takes their masks as they are: whole",
            name=__name__,
            key="message",
        )
        return encode_masks(instances.pred_masks)


def _large_enough(objects: Objects) -> Objects:
    """The objects that count, and the crowds."""
    extent = mask_util.toBbox(objects.masks).reshape(-1, 4)[:, 2:] - 1 if objects.masks else np.zeros((0, 2))
    kept = np.flatnonzero((extent >= MIN_EXTENT).all(1) | objects.is_crowd)
    return Objects(objects.boxes[kept], [objects.masks[k] for k in kept], objects.classes[kept], objects.is_crowd[kept])


def _by_class(
    overlaps: np.ndarray, scores: np.ndarray, classes: np.ndarray, objects: Objects
) -> dict[int, ComparedDetections]:
    compared = {}
    for index in np.union1d(classes, objects.classes).tolist():
        detected, true = classes == index, objects.classes == index
        is_crowd = objects.is_crowd[true]
        best = best_of(overlaps[detected][:, true], is_crowd)
        compared[index] = ComparedDetections(scores[detected], best, int(np.count_nonzero(~is_crowd)))
    return compared
