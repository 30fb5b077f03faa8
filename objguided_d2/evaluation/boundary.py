"""How well the outline of one mask follows that of another.

Masks are (H, W) bool of the same size; what lies beyond the array is background. Distances are in pixels between pixel
centers.
"""

import cv2
import numpy as np


def boundary_iou(predicted: np.ndarray, true: np.ndarray, distance: int) -> float:
    """IoU of the two inner bands along the outlines (Cheng et al., "Boundary IoU", CVPR 2021).

    The band of a mask is its pixels that ``distance`` steps of one pixel, diagonal ones too, lead out of it. A mask
    that is nowhere wider than twice the distance is all band, so its boundary IoU is its mask IoU.

    Returns:
        In [0, 1]; 0 where both are empty.
    """
    predicted_band, true_band = inner_band(predicted, distance), inner_band(true, distance)
    union = np.count_nonzero(predicted_band | true_band)
    return np.count_nonzero(predicted_band & true_band) / max(union, 1)


def boundary_f(predicted: np.ndarray, true: np.ndarray, distance: float) -> float:
    """F-measure of the outlines: parts of each that lie within ``distance`` (Euclidean) of the other one.

    The outline is the mask's pixels with an edge neighbour outside (Perazzi et al., CVPR 2016, with distances in place
    of a matching of pixels).

    Returns:
        In [0, 1]; 0 where either is empty.
    """
    predicted_outline, true_outline = inner_band(predicted, 1, cv2.MORPH_CROSS), inner_band(true, 1, cv2.MORPH_CROSS)
    if not predicted_outline.any() or not true_outline.any():
        return 0.0
    precision = np.mean(_distance_to(true_outline)[predicted_outline] <= distance)
    recall = np.mean(_distance_to(predicted_outline)[true_outline] <= distance)
    return float(2 * precision * recall / (precision + recall)) if precision + recall > 0 else 0.0


def inner_band(mask: np.ndarray, distance: int, neighbourhood: int = cv2.MORPH_RECT) -> np.ndarray:
    """Pixels of the mask that ``distance`` steps to a neighbour lead out of it, (H, W) bool."""
    kernel = cv2.getStructuringElement(neighbourhood, (3, 3))
    eroded = cv2.erode(
        mask.astype(np.uint8), kernel, iterations=distance, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return mask & (eroded == 0)


def _distance_to(outline: np.ndarray) -> np.ndarray:
    """(H, W) distance of each pixel to the nearest one of the outline."""
    return cv2.distanceTransform((~outline).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
