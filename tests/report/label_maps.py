"""Label maps as compared images."""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_util

from objguided_d2.evaluation.compared_image import ComparedImage


def encode(mask: np.ndarray) -> dict:
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def compared_label_maps(
    predicted: np.ndarray,
    true: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    predicted_classes: Sequence[int] | None = None,
    true_classes: Sequence[int] | None = None,
    crowd: np.ndarray | None = None,
) -> ComparedImage:
    """Labels from 1 on; one class and no crowd region unless given."""
    num_predicted, num_true = int(predicted.max()), int(true.max())
    return ComparedImage(
        {"file_name": "drawn.png", "height": true.shape[0], "width": true.shape[1]},
        predicted,
        np.ones(num_predicted) if scores is None else scores,
        np.zeros(num_predicted, int) if predicted_classes is None else np.asarray(predicted_classes),
        np.zeros(num_true, int) if true_classes is None else np.asarray(true_classes),
        [encode(true == label) for label in range(1, num_true + 1)],
        [] if crowd is None else [encode(crowd)],
    )
