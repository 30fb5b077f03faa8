import numpy as np
import pytest

from objguided_d2.evaluation.boundary import boundary_f, boundary_iou, inner_band
from tests.evaluation.rectangles import rectangle_mask

SQUARE = rectangle_mask((10, 10, 40, 40))


def disk(center, radius, size=(90, 90)):
    y, x = np.indices(size)
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def test_band_of_a_square():
    assert inner_band(SQUARE, 2).sum() == 30**2 - 26**2
    assert inner_band(SQUARE, 15).sum() == 30**2


def test_a_diagonal_step_leads_out_of_a_mask():
    notched = SQUARE & ~rectangle_mask((10, 10, 20, 20))
    assert inner_band(notched, 1)[20, 20] and not inner_band(notched, 1)[21, 21]
    assert inner_band(notched, 2)[21, 21] and not inner_band(notched, 2)[22, 22]


def test_edge_of_the_image_bounds_a_mask():
    whole = np.ones((20, 20), bool)
    assert inner_band(whole, 1).sum() == 20**2 - 18**2


def test_perfect_empty_and_apart():
    far, nothing = rectangle_mask((60, 10, 80, 40)), np.zeros_like(SQUARE)
    for measure in (boundary_iou, boundary_f):
        assert measure(SQUARE, SQUARE, 2) == 1
        assert measure(SQUARE, far, 2) == 0
        assert measure(SQUARE, nothing, 2) == measure(nothing, SQUARE, 2) == measure(nothing, nothing, 2) == 0


def test_boundary_iou_of_nested_squares():
    # Bands one pixel wide, one inside the other, share nothing though mask IoU is 28^2 / 30^2.
    inner = rectangle_mask((11, 11, 39, 39))
    assert boundary_iou(inner, SQUARE, 1) == 0
    # At two pixels they share the ring of one pixel.
    ring = 28**2 - 26**2
    assert boundary_iou(inner, SQUARE, 2) == pytest.approx(ring / (30**2 - 24**2))


def test_boundary_iou_of_a_thin_mask_is_its_mask_iou():
    thin, longer = rectangle_mask((10, 10, 60, 13)), rectangle_mask((10, 10, 85, 13))
    assert boundary_iou(thin, longer, 2) == pytest.approx(50 / 75)


@pytest.mark.parametrize("shift", [1, 2, 3, 5])
def test_f_of_a_shifted_disk_counts_the_parts_of_the_circle_within_reach(shift):
    # A circle moved by k along x: the point at angle a lies about k |cos a| from the other circle, so the fraction of
    # it within d is that of the angles with |cos a| <= d / k.
    distance = 2
    expected = 1.0 if shift <= distance else 1 - 2 / np.pi * np.arccos(distance / shift)
    assert boundary_f(disk((45, 40), 30), disk((45, 40 + shift), 30), distance) == pytest.approx(expected, abs=0.1)


def test_outlines_exactly_at_the_distance_meet():
    shifted = rectangle_mask((13, 10, 43, 40))
    assert boundary_f(SQUARE, shifted, 3) == 1
    # Of 116 pixels: 29 of either horizontal side, and 4 near the corners of the vertical one inside the other square.
    assert boundary_f(SQUARE, shifted, 2) == pytest.approx((2 * 29 + 4) / 116)


def test_symmetric():
    a, b = disk((40, 40), 20), disk((43, 45), 18)
    for measure in (boundary_iou, boundary_f):
        assert measure(a, b, 2) == pytest.approx(measure(b, a, 2))
