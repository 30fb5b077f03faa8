"""From probabilities of objects and contours to the objects of an image, with the steps of the paper in their order."""

import cv2
import numpy as np
from scipy import ndimage
from skimage.morphology import disk
from skimage.segmentation import expand_labels

from ..label_map import drop_small_labels

# From this probability on a pixel is of an object, or of a contour.
THRESHOLD = 0.5


def separate_objects(
    p_object: np.ndarray, p_contour: np.ndarray, *, contour_radius: int, smoothing_radius: int, min_area: int
) -> np.ndarray:
    """Objects are the connected pieces of what is object and not contour, grown back by what their contours took.

    Args:
        p_object, p_contour: (H, W) probabilities.
        contour_radius: that the contours were dilated with, in pixels.
        smoothing_radius: of the disc that opens the region of all pieces; 0 leaves it as it is.
        min_area: pieces of fewer pixels are no objects.

    Returns:
        (H, W) int64 with labels 0 to R. Two pieces that grow into each other meet halfway.
    """
    is_object = p_object >= THRESHOLD
    interior = is_object & (p_contour < THRESHOLD)
    opened = cv2.morphologyEx(interior.astype(np.uint8), cv2.MORPH_OPEN, disk(smoothing_radius))
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(opened))
    labels = drop_small_labels(pieces.astype(np.int64), min_area)
    # The outline and what its dilation covers inside it, and what the opening has taken of thin tips.
    grown = expand_labels(labels, distance=contour_radius + 1 + smoothing_radius)
    return np.where(is_object | (labels > 0), grown, 0)
