"""Where planes of a layer lie, without a viewer."""

import numpy as np
import pytest

layers = pytest.importorskip("napari.layers")

from objguided_d2.napari.planes import placed_labels  # noqa: E402

SKEWED = [[0.0, 1.0, 0.25, 3.0], [0.5, 0.0, 2.0, 1.0], [3.0, 0.5, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]]


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize(
    "placement",
    [
        {},
        {"rotate": (20, 30, 40)},
        {"affine": SKEWED},
        {"rotate": (20, 30, 40), "shear": (0.1, 0.2, 0.3), "affine": SKEWED},
    ],
)
def test_labels_of_a_plane_lie_on_it_however_the_layer_is_turned(placement):
    image = layers.Image(np.zeros((4, 6, 9)), scale=(2, 0.5, 0.25), translate=(3, 4, 5), **placement)
    array, arguments = placed_labels(image, [np.zeros((6, 9), np.int32)], [(2,)])
    labels = layers.Labels(array, **arguments)
    assert array.shape == (1, 6, 9)
    for row, column in ((0, 0), (5, 0), (1, 8)):
        np.testing.assert_allclose(labels.data_to_world((0, row, column)), image.data_to_world((2, row, column)))
