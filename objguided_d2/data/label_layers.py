"""Instance masks of one image as a few label images, which transform in one go however many objects there are.

A label image holds at each pixel 0 or 1 + the index of an instance. One layer is enough where no masks overlap; an
instance that would cover another goes to the next layer.

Shapes: N instances, K of them left after a transform, (H, W) image, (H', W') transformed image.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import transforms as T
from scipy import ndimage

from ..utils.rle import decode_in_box

MAX_INSTANCES = np.iinfo(np.uint16).max - 1


def segmentation_to_rle(segmentation: list | dict | np.ndarray, height: int, width: int) -> dict:
    """COCO polygons, RLE (compressed or not) or an (H, W) mask -> compressed RLE.

    Raises:
        ValueError: another type, or a mask of another size.
    """
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    if isinstance(segmentation, dict):
        size = segmentation["size"]
        rle = segmentation
        if isinstance(rle["counts"], list):
            rle = mask_util.frPyObjects(rle, *size)
    elif isinstance(segmentation, np.ndarray):
        size = segmentation.shape
        rle = mask_util.encode(np.asfortranarray(segmentation, dtype=np.uint8))
    else:
        raise ValueError(f"segmentation is {type(segmentation).__name__}, not polygons, RLE or a mask array")
    if tuple(size) != (height, width):
        raise ValueError(f"mask of height x width {tuple(size)} in an image of {(height, width)}")
    return rle


def decode_masks(rles: Sequence[dict], height: int, width: int) -> np.ndarray:
    """N compressed RLEs of one size -> (N, height, width) bool."""
    masks = [mask_util.decode(rle).astype(bool) for rle in rles]
    return np.stack(masks) if masks else np.zeros((0, height, width), bool)


def pack_masks(rles: Iterable[dict], height: int, width: int) -> list[np.ndarray]:
    """Compressed RLEs of N instances -> (H, W) uint16 label layers, at least one."""
    layers = [np.zeros((height, width), np.uint16)]
    for label, rle in enumerate(rles, start=1):
        if label > MAX_INSTANCES:
            raise ValueError(f"more than {MAX_INSTANCES} instances")
        box, mask = decode_in_box(rle)
        layer = next((layer for layer in layers if not layer[box][mask].any()), None)
        if layer is None:
            layer = np.zeros_like(layers[0])
            layers.append(layer)
        layer[box][mask] = label
    return layers


def transform_layer(layer: np.ndarray, transforms: T.Transform) -> np.ndarray:
    """(H, W) uint16 labels -> (H', W') uint16 labels, by nearest pixels.

    The two bytes of a label travel as two uint8 channels: Detectron2's resize takes the nearest pixel center, as its
    box and polygon transforms imply, for uint8 only.
    """
    channels = transforms.apply_segmentation(layer.view(np.uint8).reshape(*layer.shape, 2))
    return np.ascontiguousarray(channels).view(np.uint16)[..., 0]


def unpack_masks(layers: Sequence[np.ndarray], num_instances: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H', W') label layers -> the instances with a pixel left.

    Returns:
        indices: (K,) int64 in ascending order.
        masks: (K, H', W') bool.
        boxes: (K, 4) float32, the tight XYXY box of the pixels, right and bottom edges exclusive.
    """
    found = [
        (index, layer, box)
        for layer in layers
        for index, box in enumerate(_find_objects(layer, num_instances))
        if box is not None
    ]
    found.sort(key=lambda item: item[0])
    indices = np.array([index for index, _, _ in found], dtype=np.int64)
    masks = np.zeros((len(found), *layers[0].shape), dtype=bool)
    for mask, (index, layer, box) in zip(masks, found):
        np.equal(layer[box], index + 1, out=mask[box])
    boxes = [(x.start, y.start, x.stop, y.stop) for _, _, (y, x) in found]
    return indices, masks, np.array(boxes, dtype=np.float32).reshape(-1, 4)


def _find_objects(layer: np.ndarray, num_instances: int) -> list[tuple[slice, slice] | None]:
    # Higher labels are no instances but Detectron2's padding of segmentations (255 in every byte). A max_label of 0
    # would mean all labels.
    return ndimage.find_objects(layer, max_label=num_instances) if num_instances else []
