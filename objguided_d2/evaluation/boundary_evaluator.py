"""Boundary quality of a data set's objects, apart for small, medium and large ones."""

import numpy as np
from pycocotools.coco import COCO

from .boundary import boundary_f, boundary_iou
from .compared_image import ComparedImage
from .label_map import decode_in_box
from .label_map_evaluator import LabelMapEvaluator
from .matching import match

MATCH_IOU = 0.5
# COCO's sizes: from, below, in pixels.
SIZES = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, np.inf)}


class BoundaryEvaluator(LabelMapEvaluator):
    """Mean boundary IoU and boundary F over true objects: of all (0 where missed) and of those that were found.

    An object is found if it is paired with a prediction of its class at mask IoU 0.5 (:mod:`.matching`).
    """

    task = "boundary"

    def __init__(self, dataset_name: str, ground_truth: COCO, *, distance: int, **kwargs) -> None:
        """
        Args:
            distance: pixels (TEST.BOUNDARY_DISTANCE).
            Others: see :class:`LabelMapEvaluator`.
        """
        super().__init__(dataset_name, ground_truth, **kwargs)
        self._distance = distance

    def measure(self, image: ComparedImage) -> np.ndarray:
        """(G, 4): area, found, boundary IoU, boundary F."""
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
            found = of_size[of_size[:, 1] > 0]
            for name, values in (
                ("found", of_size[:, 1]),
                ("IoU", of_size[:, 2]),
                ("F", of_size[:, 3]),
                ("matched_IoU", found[:, 2]),
                ("matched_F", found[:, 3]),
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
