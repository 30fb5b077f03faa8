"""One label per pixel: from true masks, and to instances with scores.

Glossary: N images of H x W pixels, R objects of one image, K classes. A label is 0 for background, 1 + the index of an
object, or ``IGNORED``. Coordinates are whole pixels, far corners exclusive.
"""

from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from ..structures.ragged_grid import RaggedGrid
from ..structures.ragged_masks import RaggedMasks

IGNORED = -1


def label_true_masks(instances: Instances, ignore_region: Tensor | None, size: tuple[int, int]) -> Tensor:
    """The label map of one training image. Where masks overlap, the later object has the pixel.

    Args:
        instances: R objects with gt_masks of the image's own size, at most ``size``.
        ignore_region: (h, w) bool of the image's own size: where objects are not annotated.
        size: (H, W) of the padded image.

    Returns:
        (H, W) int64, ``IGNORED`` in the padding and, but for annotated objects, in the ignored region.
    """
    height, width = instances.image_size
    masks = instances.gt_masks
    if not isinstance(masks, BitMasks):
        masks = BitMasks.from_polygon_masks(masks.polygons, height, width)
    device = masks.tensor.device
    owner, row, column = masks.tensor.nonzero().unbind(1)
    labels = torch.zeros(height * width, dtype=torch.int64, device=device)
    # Of several labels for a pixel the maximum is the same on any device, unlike the last one written.
    labels.scatter_reduce_(0, row * width + column, owner + 1, "amax")
    labels = labels.view(height, width)
    if ignore_region is not None:
        labels = labels.masked_fill(ignore_region.to(device) & (labels == 0), IGNORED)
    padded = torch.full(size, IGNORED, dtype=torch.int64, device=device)
    padded[:height, :width] = labels
    return padded


def label_classes(label_maps: Tensor, classes: list[Tensor]) -> Tensor:
    """The class of every pixel.

    Args:
        label_maps: (N, H, W) int64.
        classes: of the objects of each image, (R,) int64 from 0.

    Returns:
        (N, H, W) int64: 0 for background, 1 + the class of an object, or ``IGNORED``.
    """
    # Column 0 of the table is IGNORED, column 1 the background.
    table = torch.nn.utils.rnn.pad_sequence([c + 1 for c in classes], batch_first=True)
    table = torch.cat([table.new_tensor([[IGNORED, 0]]).expand(len(classes), -1), table], 1)
    image = torch.arange(len(classes), device=label_maps.device).view(-1, 1, 1)
    return table[image, label_maps + 1]


def label_boxes(label_map: Tensor, num_labels: int) -> Tensor:
    """The tight box of every label.

    Args:
        label_map: (H, W) int64.
        num_labels: R.

    Returns:
        (R, 4) int64, XYXY with exclusive far corners; zeros for a label without a pixel.
    """
    rows, columns = (label_map > 0).nonzero().unbind(1)
    owner = (label_map[rows, columns] - 1)[:, None].expand(-1, 2)
    points = torch.stack([columns, rows], 1)
    low = torch.full((num_labels, 2), max(label_map.shape), device=label_map.device)
    high = torch.zeros(num_labels, 2, dtype=torch.int64, device=label_map.device)
    low.scatter_reduce_(0, owner, points, "amin")
    high.scatter_reduce_(0, owner, points + 1, "amax")
    return torch.cat([low, high], 1) * (high > 0).all(1, keepdim=True)


def drop_small_labels(label_map: np.ndarray, min_area: int) -> np.ndarray:
    """Set labels of fewer than ``min_area`` pixels to 0 and number the rest from 1 on, in their order: (H, W) int64."""
    kept = np.bincount(label_map.ravel()) >= max(min_area, 1)
    kept[0] = False
    return np.where(kept, kept.cumsum(), 0)[label_map]


def mean_over_labels(label_map: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The mean of every plane over the pixels of every label.

    Args:
        label_map: (H, W) with labels 0 to R, each of which has a pixel but for 0.
        planes: (C, H, W).

    Returns:
        (R, C) float32.
    """
    flat = label_map.ravel()
    sums = np.stack([np.bincount(flat, plane.ravel()) for plane in planes], 1)
    return (sums[1:] / np.bincount(flat)[1:, None]).astype(np.float32)


class LabeledObjects(NamedTuple):
    """The objects of one image.

    Attributes:
        label_map: (H, W) int64 with labels 0 to R; a label may have no pixel.
        scores: (R,) float32 in [0, 1].
        classes: (R,) int64.
    """

    label_map: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def label_map_to_instances(
    objects: LabeledObjects, output_size: tuple[int, int], max_instances: int, score_thresh: float = 0.0
) -> Instances:
    """Instances of an image of ``output_size`` on the CPU, best score first; ``pred_masks`` are :class:`RaggedMasks`.

    Labels without a pixel, before or after the resize by nearest pixels, are left out.

    Args:
        objects: of an image that may have another size.
        max_instances: the best that are kept.
        score_thresh: instances at or below it are left out.
    """
    label_map, scores, classes = (torch.from_numpy(array) for array in objects)
    boxes = label_boxes(label_map, len(scores))
    kept = ((boxes[:, 2] > 0) & (scores > score_thresh)).nonzero()[:, 0]
    kept = kept[scores[kept].argsort(descending=True, stable=True)][:max_instances]
    left, top, right, bottom = boxes[kept].unbind(1)
    grid = RaggedGrid(bottom - top, right - left, label_map.device)
    roi, row, column = grid.pixels
    bits = label_map[row + top[roi], column + left[roi]] == kept[roi] + 1
    masks = RaggedMasks(bits, grid, top, left, tuple(label_map.shape)).resize_nearest(output_size)
    result = Instances(
        output_size,
        pred_boxes=masks.get_bounding_boxes() if len(kept) else Boxes(torch.zeros(0, 4)),
        pred_masks=masks,
        scores=scores[kept],
        pred_classes=classes[kept],
    )
    return result[masks.area() > 0]
