"""Shapes of many masks at once against scikit-image's functions, one mask at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import perimeter
from skimage.morphology import convex_hull_image

from objguided_d2.inference.writers import mask_shapes
from objguided_d2.inference.writers.mask_shapes import measure_shapes
from tests.inference.shapes import crop, full_masks

any_mask = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any)


def check(masks):
    shapes = measure_shapes(masks)
    np.testing.assert_array_equal(shapes.area, [mask.sum() for mask in masks])
    np.testing.assert_array_equal(shapes.hull_area, [convex_hull_image(mask).sum() for mask in masks])
    np.testing.assert_allclose(shapes.perimeter, [perimeter(mask) for mask in masks], rtol=1e-12)
    for i, mask in enumerate(masks):
        points = np.argwhere(mask).astype(float)
        np.testing.assert_allclose((shapes.center_y[i], shapes.center_x[i]), points.mean(0), rtol=1e-12)
        (yy, xy), (_, xx) = np.cov(points.T, ddof=0)
        np.testing.assert_allclose((shapes.yy[i], shapes.xx[i], shapes.xy[i]), (yy, xx, xy), rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(st.lists(any_mask, min_size=1, max_size=4))
def test_any_masks_have_the_shapes_of_scikit_image(masks):
    check(masks)


def test_masks_are_measured_in_chunks_with_the_same_result(monkeypatch):
    masks = [crop(mask)[1] for mask in full_masks().values()]
    y, x = np.mgrid[:90, :70]
    masks.append((y - 44.5) ** 2 / 45**2 + (x - 34.5) ** 2 / 35**2 <= 1)
    check(masks)
    whole = measure_shapes(masks)
    monkeypatch.setattr(mask_shapes, "_CHUNK_PIXELS", 60)
    np.testing.assert_allclose(measure_shapes(masks), whole, rtol=1e-12)


def test_no_masks_have_no_shapes():
    assert all(len(values) == 0 for values in measure_shapes([]))
