"""Where an image has objects without individual masks: its COCO crowd regions, as one mask.

Crowds of all classes make one region: a converter that knows no more than "not annotated here" says it of every class.

Shapes: (H, W) image, (H', W') transformed image.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import transforms as T


def merge_crowds(crowds: Sequence[dict], objects: Sequence[dict]) -> np.ndarray:
    """The union of crowd regions without the pixels of annotated objects.

    Args:
        crowds: one or more compressed RLEs of size (H, W).
        objects: any number of them.

    Returns:
        (H, W) uint8, 1 in the region.
    """
    region = mask_util.decode(mask_util.merge(crowds))
    if objects:
        region &= 1 - mask_util.decode(mask_util.merge(objects))
    return np.ascontiguousarray(region)


def transform_region(region: np.ndarray, transforms: T.Transform) -> np.ndarray:
    """(H, W) uint8 -> (H', W') bool, by nearest pixels. What the transform adds around the image is not in it."""
    # Detectron2 may pad segmentations with another value than 0.
    return np.ascontiguousarray(transforms.apply_segmentation(region) == 1)
