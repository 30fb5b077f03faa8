import numpy as np
import pytest

from objguided_d2.evaluation.leaf import foreground_dice, symmetric_best_dice
from tests.evaluation.rectangles import rectangle_mask


def test_best_dice_by_hand():
    # Prediction 0 has 0.8 with leaf 0, prediction 1 has 0.5 with leaf 0; leaf 1 is a false negative.
    dice = np.array([[0.8, 0.1], [0.5, 0.0]])
    over_predictions, over_leaves = (0.8 + 0.5) / 2, (0.8 + 0.1) / 2
    assert symmetric_best_dice(dice) == pytest.approx(min(over_predictions, over_leaves))
    assert symmetric_best_dice(dice.T) == symmetric_best_dice(dice)


def test_perfect_is_one_and_one_side_empty_is_zero():
    assert symmetric_best_dice(np.eye(3)) == 1
    assert symmetric_best_dice(np.zeros((0, 0))) == 1
    assert symmetric_best_dice(np.zeros((2, 0))) == symmetric_best_dice(np.zeros((0, 2))) == 0


def test_foreground_dice_of_shifted_squares():
    square, shifted = rectangle_mask((10, 10, 20, 20)), rectangle_mask((13, 10, 23, 20))
    assert foreground_dice(square, shifted) == pytest.approx(0.7)
    assert foreground_dice(square, square) == 1
    nothing = np.zeros_like(square)
    assert foreground_dice(nothing, nothing) == 1 and foreground_dice(square, nothing) == 0
