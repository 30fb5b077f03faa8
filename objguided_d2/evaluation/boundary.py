"""How well the outlines of objects are met: boundary IoU and boundary F, apart for small, medium and large objects.

Masks are (H, W) bool of the same size; what lies beyond the array is background. Distances are in pixels between pixel
centers. G true objects of one image.
"""

import re
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from pycocotools.coco import COCO

from ..utils.rle import decode_in_box
from .base import LABEL_MAP, SIZE_NAMES, SIZES, LabelMapEvaluator, register_evaluator
from .compared_image import ComparedImage
from .matching import match

MATCH_IOU = 0.5


def boundary_iou(predicted: np.ndarray, true: np.ndarray, distance: int) -> float:
    """IoU of the two inner bands along the outlines (Cheng et al., "Boundary IoU", CVPR 2021).

    The band of a mask is its pixels that ``distance`` steps of one pixel, diagonal ones too, lead out of it. A mask
    that is nowhere wider than twice the distance is all band, so its boundary IoU is its mask IoU.

    Returns:
        In [0, 1]; 0 where both are empty.
    """
    predicted_band, true_band = inner_band(predicted, distance), inner_band(true, distance)
    union = np.count_nonzero(predicted_band | true_band)
    return np.count_nonzero(predicted_band & true_band) / max(union, 1)


def boundary_f(predicted: np.ndarray, true: np.ndarray, distance: float) -> float:
    """F-measure of the outlines: parts of each that lie within ``distance`` (Euclidean) of the other one.

    The outline is the mask's pixels with an edge neighbor outside (Perazzi et al., CVPR 2016, with distances in place
    of a matching of pixels).

    Returns:
        In [0, 1]; 0 where either is empty.
    """
    predicted_outline, true_outline = inner_band(predicted, 1, cv2.MORPH_CROSS), inner_band(true, 1, cv2.MORPH_CROSS)
    if not predicted_outline.any() or not true_outline.any():
        return 0.0
    precision = np.mean(_distance_to(true_outline)[predicted_outline] <= distance)
    recall = np.mean(_distance_to(predicted_outline)[true_outline] <= distance)
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0


def inner_band(mask: np.ndarray, distance: int, neighborhood: int = cv2.MORPH_RECT) -> np.ndarray:
    """Pixels of the mask that ``distance`` steps to a neighbor lead out of it, (H, W) bool."""
    kernel = cv2.getStructuringElement(neighborhood, (3, 3))
    eroded = cv2.erode(
        mask.astype(np.uint8), kernel, iterations=distance, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return mask & (eroded == 0)


def _distance_to(outline: np.ndarray) -> np.ndarray:
    """(H, W) distance of each pixel to the nearest one of the outline."""
    return cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


@register_evaluator("boundary")
class BoundaryEvaluator(LabelMapEvaluator):
    """Mean boundary IoU and boundary F over true objects: all (0 for false negatives), and true positives alone.

    An object is a true positive if it is paired with a prediction of its class at mask IoU 0.5 (:mod:`.matching`).
    """

    tasks = {"boundary": f"Agreement of outlines within TEST.BOUNDARY_DISTANCE pixels, percent, {LABEL_MAP}"}
    metrics = {
        "found": "recall, objects paired with an instance at mask IoU 0.5",
        "IoU": "boundary IoU (bands inside the outlines), mean over objects, 0 for false negatives",
        "F": "boundary F (outlines), mean over objects, 0 for false negatives",
        "matched_IoU": "boundary IoU, mean over the objects paired with an instance",
        "matched_F": "boundary F, mean over the objects paired with an instance",
    }

    def __init__(self, dataset_name: str, ground_truth: COCO, *, distance: int, **kwargs) -> None:
        """
        Args:
            distance: pixels (TEST.BOUNDARY_DISTANCE).
            Others: see :class:`LabelMapEvaluator`.
        """
        super().__init__(dataset_name, ground_truth, **kwargs)
        self._distance = distance

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        distance = cfg.TEST.BOUNDARY_DISTANCE
        if distance < 1:
            raise ValueError(f"TEST.BOUNDARY_DISTANCE is {distance}; it must be at least 1 pixel")
        return {**super().from_config(cfg), "distance": distance}

    @classmethod
    def definition(cls, metric: str) -> str | None:
        name, size = re.fullmatch("(.*?)([sml]?)", metric).groups()
        if name not in cls.metrics:
            return None
        return cls.metrics[name] + (f"; objects {SIZE_NAMES[size]}" if size else "")

    def measure(self, image: ComparedImage) -> np.ndarray:
        """(G, 4): area, 1 for a true positive, boundary IoU, boundary F."""
        rows = np.zeros((len(image.true_masks), 4))
        rows[:, 0] = image.overlaps.true_area
        for predicted, true in zip(*match(image.iou, MATCH_IOU)):
            masks = _masks_in_common_box(image, predicted, true)
            rows[true, 1:] = 1, boundary_iou(*masks, self._distance), boundary_f(*masks, self._distance)
        return rows

    def summarize(self, records: list[np.ndarray]) -> dict[str, float]:
        rows = np.concatenate([np.zeros((0, 4)), *records])
        summary = {}
        for size, (low, high) in {"": (0, np.inf), **SIZES}.items():
            of_size = rows[(rows[:, 0] >= low) & (rows[:, 0] < high)]
            matched = of_size[of_size[:, 1] > 0]
            for name, values in (
                ("found", of_size[:, 1]),
                ("IoU", of_size[:, 2]),
                ("F", of_size[:, 3]),
                ("matched_IoU", matched[:, 2]),
                ("matched_F", matched[:, 3]),
            ):
                empty = np.nan if size else 0.0
                summary[f"{name}{size}"] = float(100 * values.mean()) if len(values) else empty
        return summary


def _masks_in_common_box(image: ComparedImage, predicted: int, true: int) -> tuple[np.ndarray, np.ndarray]:
    """The two masks, cut to a box that holds both."""
    (rows, columns), true_mask = decode_in_box(image.true_masks[true])
    predicted_rows, predicted_columns = image.boxes[predicted]
    top, bottom = min(rows.start, predicted_rows.start), max(rows.stop, predicted_rows.stop)
    left, right = min(columns.start, predicted_columns.start), max(columns.stop, predicted_columns.stop)
    whole = np.zeros((bottom - top, right - left), bool)
    whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = true_mask
    return image.label_map[top:bottom, left:right] == predicted + 1, whole
