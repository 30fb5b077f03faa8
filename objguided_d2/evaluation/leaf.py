"""Measures of the Leaf Segmentation Challenge (Minervini et al., Pattern Recognition Letters 2016), per image."""

import numpy as np


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
