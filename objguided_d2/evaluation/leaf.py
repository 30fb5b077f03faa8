"""The measures of the Leaf Segmentation Challenge (Minervini et al., Pattern Recognition Letters 2016)."""

import numpy as np
import pycocotools.mask as mask_util

from ..utils.rle import decode_mask
from .base import LABEL_MAP, LabelMapEvaluator, register_evaluator
from .compared_image import ComparedImage


def symmetric_best_dice(dice: np.ndarray) -> float:
    """SBD: the mean over one side of the best Dice with the other side, of both directions the smaller.

    Args:
        dice: (P, G) of P predicted and G true leaves.

    Returns:
        In [0, 1]. 1 with no leaf on either side, which is a perfect answer; 0 with none on one side.
    """
    if 0 in dice.shape:
        return float(dice.shape == (0, 0))
    return float(min(dice.max(axis=0).mean(), dice.max(axis=1).mean()))


def foreground_dice(predicted: np.ndarray, true: np.ndarray) -> float:
    """FgBgDice: Dice of the whole plant.

    Args:
        predicted, true: (H, W) bool, the union of all leaves.

    Returns:
        In [0, 1]; 1 where both are empty.
    """
    total = np.count_nonzero(predicted) + np.count_nonzero(true)
    return 2 * np.count_nonzero(predicted & true) / total if total else 1.0


@register_evaluator("leaf")
class LeafEvaluator(LabelMapEvaluator):
    """SBD, DiC, |DiC| and FgBgDice of one plant per image, whatever the classes of its objects."""

    tasks = {"leaf": f"Leaf Segmentation Challenge, means over images, percent and counts, {LABEL_MAP}"}
    metrics = {
        "SBD": "symmetric best Dice (bestDice)",
        "DiC": "difference in count, predicted - true (diffFG)",
        "|DiC|": "absolute difference in count (absDiffFG)",
        "FgBgDice": "Dice of foreground and background",
    }

    def measure(self, image: ComparedImage) -> tuple[float, int, float]:
        """SBD, predicted minus true count, FgBgDice."""
        counted = ~image.ignored
        # The challenge's own foreground where the data has it; leaves alone leave out stem and center.
        regions = [image.record["foreground"]] if "foreground" in image.record else image.true_masks
        foreground = decode_mask(mask_util.merge(regions)) if regions else np.zeros_like(image.label_map, bool)
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
