"""Analytic objects whose outlines, areas and overlaps are known, in an image that is not square."""

import numpy as np

from objguided_d2.inference.objects import SegmentedObjects

SHAPE = (24, 40)


def full_masks() -> dict[str, np.ndarray]:
    """Masks of SHAPE: all kinds of topology, none symmetric in x and y."""
    masks = {name: np.zeros(SHAPE, bool) for name in NAMES}
    masks["ring"][2:9, 3:13] = True
    masks["ring"][4:6, 5:9] = False
    masks["two pieces"][12:14, 2:7] = True
    masks["two pieces"][17:18, 9:11] = True
    masks["overlap"][6:12, 10:17] = True
    masks["pixel"][20, 31] = True
    masks["border"][0:3, 35:40] = True
    masks["diagonal pieces"][14:16, 20:23] = True
    masks["diagonal pieces"][16:19, 23:27] = True
    masks["hole that touches the outside"][4:8, 22:27] = True
    masks["hole that touches the outside"][5, 23] = masks["hole that touches the outside"][4, 22] = False
    masks["two holes that touch"][10:15, 30:36] = True
    masks["two holes that touch"][11, 31] = masks["two holes that touch"][12, 32] = False
    masks["full height"][:, 38:40] = True
    return masks


NAMES = (
    "ring", "two pieces", "overlap", "pixel", "border", "diagonal pieces", "hole that touches the outside",
    "two holes that touch", "full height",
)  # fmt: skip


def crop(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box x0, y0, x1, y1 of a mask, and the mask in it."""
    rows, columns = np.nonzero(mask)
    y0, x0, y1, x1 = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return np.array([x0, y0, x1, y1]), mask[y0:y1, x0:x1]


def segmented(masks: list[np.ndarray], pixel_size=None, class_names=("nucleus", "debris")) -> SegmentedObjects:
    """Whole-image masks as objects, scores falling from 0.95 by hundredths, classes in turn."""
    boxes, crops = zip(*(crop(mask) for mask in masks)) if masks else ((), ())
    return SegmentedObjects(
        shape=masks[0].shape if masks else SHAPE,
        boxes=np.array(boxes, np.int64).reshape(-1, 4),
        masks=list(crops),
        scores=(0.95 - 0.01 * np.arange(len(masks))).astype(np.float32),
        classes=np.arange(len(masks)) % len(class_names),
        class_names=tuple(class_names),
        pixel_size=pixel_size,
    )


def all_objects(pixel_size=None) -> SegmentedObjects:
    return segmented(list(full_masks().values()), pixel_size)


def fill(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centers lie inside rings of pixel corners, by the even-odd rule: a slow loop over the edges."""
    center_y, center_x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
            if y0 != y1:
                crosses = (y0 <= center_y) != (y1 <= center_y)
                inside ^= crosses & (center_x < x0 + (center_y - y0) * (x1 - x0) / (y1 - y0))
    return inside
