"""Label images that may be no labels: told with numbers, never changed."""

import numpy as np
from scipy import ndimage

MIN_PIECES = 3  # separate pieces of a single label, from which on a binary mask of many objects is likelier
MIN_BLENDED_LABELS, MIN_BLENDED_FRACTION = 3, 0.2
BACKGROUND_FRACTION = 0.5
_SPECK = 2


def implausible_labels(labels: np.ndarray, *, is_lossy: bool = False) -> list[str]:
    """What speaks against a label image, one text for each; none where all is well.

    Args:
        labels: (H, W) integers, 0 = background.
        is_lossy: whether its file was compressed with loss.

    Returns:
        texts of the kind "<what>: <numbers>; <what to do>".
    """
    values, dense, counts = np.unique(labels, return_inverse=True, return_counts=True)
    dense = dense.reshape(labels.shape)
    is_object = values != 0
    num_objects = int(is_object.sum())
    texts = []
    if is_lossy:
        texts.append(f"a lossy format has changed labels: {num_objects} values; save them as PNG or TIFF")
    if not num_objects:
        return texts
    if background := _colored_background(dense, values, counts):
        texts.append(background)
    if num_objects == 1:
        sizes = np.bincount(ndimage.label(labels != 0, np.ones((3, 3)))[0].ravel())[1:]
        pieces = int((sizes > _SPECK).sum())
        if pieces >= MIN_PIECES:
            texts.append(
                f"a binary mask rather than labels: {pieces} separate pieces of the one value {values[is_object][0]}, "
                "which make one object; --components makes each piece an object"
            )
        return texts
    blended = _num_blended(dense, is_object)
    if blended >= max(MIN_BLENDED_LABELS, MIN_BLENDED_FRACTION * num_objects):
        texts.append(
            f"interpolated or smoothed edges: {blended} of {num_objects} values lie only between a lower and a higher "
            "one; resize labels with nearest neighbors, and save them without anti-aliasing"
        )
    return texts


def _colored_background(dense: np.ndarray, values: np.ndarray, counts: np.ndarray) -> str | None:
    largest = int(counts.argmax())
    border = np.concatenate([dense[0], dense[-1], dense[:, 0], dense[:, -1]])
    fraction = counts[largest] / dense.size
    on_border = np.mean(border == largest)
    if values[largest] == 0 or fraction < BACKGROUND_FRACTION or on_border < BACKGROUND_FRACTION:
        return None
    return (
        f"a background that is not 0: the value {values[largest]} covers {100 * fraction:.0f} % of the image and "
        f"{100 * on_border:.0f} % of its border; save the background as 0"
    )


def _num_blended(dense: np.ndarray, is_object: np.ndarray) -> int:
    """Labels of which every pixel has both a lower and a higher value among its 8 neighbors."""
    low, high = ndimage.minimum_filter(dense, 3), ndimage.maximum_filter(dense, 3)
    plain = np.bincount(dense[(low == dense) | (high == dense)], minlength=len(is_object))
    return int(np.count_nonzero(is_object & (plain == 0)))
