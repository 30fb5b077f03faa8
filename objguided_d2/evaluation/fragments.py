"""Objects that come out in pieces, per 1,000 and by width: what overlap hardly sees and a count of objects does.

P predicted instances and G true objects of one image. A piece is an 8-connected component. The failure is the paper's
own (IV-H.1); an instance that a better-scored one crosses is in pieces too, as it is in a label image.
"""

import cv2
import numpy as np

from ..utils.rle import decode_in_box
from .base import LABEL_MAP, LabelMapEvaluator, register_evaluator
from .compared_image import ComparedImage
from .matching import match

PAIR_IOU = 0.5
# From, below, in pixels of :func:`mean_width`.
WIDTHS = {"thin": (0.0, 4.0), "medium": (4.0, 8.0), "thick": (8.0, np.inf)}
WIDTH_NAMES = {"thin": "of a width under 4 pixels", "medium": "of 4 to 8 pixels", "thick": "of 8 pixels or more"}


def count_pieces(mask: np.ndarray) -> int:
    """8-connected components of a mask (H, W) bool."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1


def mean_width(mask: np.ndarray) -> float:
    """Four times the mean distance of a mask's pixels to its edge: the width of a long strip, 2/3 of a disk's diameter.

    A mean, so that a cell with long, thin processes is thin, however thick its body is.

    Args:
        mask: (H, W) bool; what lies beyond the array is background.

    Returns:
        Pixels, at least 2 (a line of one pixel); 0 without a pixel.
    """
    if not mask.any():
        return 0.0
    padded = np.pad(mask.astype(np.uint8), 1)
    # To the center of the nearest pixel outside, which is half a pixel beyond the edge.
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[padded > 0]
    return float(4 * (distance.mean() - 0.5))


@register_evaluator("fragments")
class FragmentsEvaluator(LabelMapEvaluator):
    """Instances in several pieces, and true objects that are not found whole.

    An object is broken if the instance that it is paired with, at mask IoU 0.5 (:mod:`.matching`), has more pieces than
    itself, or if two or more instances of its class lie in it by more than half of their pixels each. An object that no
    instance is paired with and that is not covered so is missed, not broken.
    """

    tasks = {"fragments": f"Objects in pieces, per 1,000, {LABEL_MAP}; width is 4 x the mean distance to the edge"}
    metrics = {
        "predicted": "instances in more than one piece, per 1,000 instances",
        "broken": "objects whose paired instance has more pieces or that hold several instances, per 1,000 objects",
    }

    @classmethod
    def definition(cls, metric: str) -> str | None:
        name, _, width = metric.partition("_")
        if name not in cls.metrics or (width and width not in WIDTHS):
            return None
        return cls.metrics[name] + (f"; those {WIDTH_NAMES[width]}, undefined without any" if width else "")

    def measure(self, image: ComparedImage) -> tuple[np.ndarray, np.ndarray]:
        """Width, and 1 if in pieces or broken: (P', 2) of the instances that count, and (G, 2)."""
        number = len(image.predicted_classes)
        pieces, predicted = np.zeros(number, int), np.zeros((number, 2))
        for p in np.flatnonzero(image.overlaps.predicted_area):
            mask = image.label_map[image.boxes[p]] == p + 1
            pieces[p] = count_pieces(mask)
            predicted[p] = mean_width(mask), pieces[p] > 1

        true = np.zeros((len(image.true_masks), 2))
        shared, area = image.overlaps_in_class.intersection, image.overlaps.predicted_area[:, None]
        true[:, 1] = (2 * shared > area).sum(axis=0) >= 2
        paired = dict(zip(*reversed(match(image.iou, PAIR_IOU))))
        for g, rle in enumerate(image.true_masks):
            _, mask = decode_in_box(rle)
            true[g, 0] = mean_width(mask)
            if g in paired and pieces[paired[g]] > count_pieces(mask):
                true[g, 1] = 1
        return predicted[~image.ignored], true

    def summarize(self, records: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        summary = {}
        for name, tables in zip(("predicted", "broken"), zip((np.zeros((0, 2)),) * 2, *records)):
            rows = np.concatenate(tables)
            summary[name] = float(1000 * rows[:, 1].mean()) if len(rows) else 0.0
            for width, (low, high) in WIDTHS.items():
                values = rows[(rows[:, 0] >= low) & (rows[:, 0] < high), 1]
                summary[f"{name}_{width}"] = float(1000 * values.mean()) if len(values) else np.nan
        return summary
