"""The Leaf Segmentation Challenge's measures of a data set, means over its images."""

import numpy as np
import pycocotools.mask as mask_util

from .compared_image import ComparedImage
from .label_map_evaluator import LabelMapEvaluator
from .leaf import foreground_dice, symmetric_best_dice


class LeafEvaluator(LabelMapEvaluator):
    """SBD, DiC, |DiC| and FgBgDice of one plant an image, whatever the classes of its objects."""

    task = "leaf"

    def measure(self, image: ComparedImage) -> tuple[float, int, float]:
        """SBD, predicted minus true count, FgBgDice."""
        counted = ~image.uncounted
        # The challenge's own foreground where the data has it; leaves alone leave out stem and center.
        regions = [image.record["foreground"]] if "foreground" in image.record else image.true_masks
        foreground = mask_util.decode(mask_util.merge(regions)) > 0 if regions else np.zeros_like(image.label_map, bool)
        return (
            symmetric_best_dice(image.overlaps.dice[counted]),
            int(np.count_nonzero(counted)) - len(image.true_masks),
            foreground_dice(image.label_map > 0, foreground),
        )

    def summarize(self, records: list[tuple[float, int, float]]) -> dict[str, float]:
        sbd, difference, foreground = np.array(records, dtype=float).reshape(-1, 3).T
        return {
            "SBD": float(100 * sbd.mean()),
            "DiC": float(difference.mean()),
            "|DiC|": float(np.abs(difference).mean()),
            "FgBgDice": float(100 * foreground.mean()),
        }
