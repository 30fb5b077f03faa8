"""Between Detectron2's ``Instances`` and the objects that files are written from."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ..structures.ragged_grid import RaggedGrid
from ..structures.ragged_masks import RaggedMasks
from .objects import SegmentedObjects


def to_objects(
    instances: Instances,
    class_names: tuple[str, ...],
    pixel_size: tuple[float, float] | None = None,
) -> tuple[SegmentedObjects, np.ndarray]:
    """Objects with a mask pixel, in the order of the instances.

    Args:
        instances: with scores, pred_classes and pred_masks of the image's size, ``RaggedMasks`` or (N, H, W) bool.

    Returns:
        the objects, and which instances they are, (N,) int64.
    """
    instances = instances.to("cpu")
    boxes, masks, kept = [], [], []
    for index, (mask, left, top) in enumerate(_windows(instances.pred_masks)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            continue
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        boxes.append((left + x0, top + y0, left + x1, top + y1))
        masks.append(mask[y0:y1, x0:x1].copy())
        kept.append(index)
    kept = np.array(kept, np.int64)
    objects = SegmentedObjects(
        shape=tuple(instances.image_size),
        boxes=np.array(boxes, np.int64).reshape(-1, 4),
        masks=masks,
        scores=instances.scores.float().numpy()[kept],
        classes=instances.pred_classes.long().numpy()[kept],
        class_names=tuple(class_names),
        pixel_size=pixel_size,
    )
    return objects, kept


def _windows(masks: RaggedMasks | torch.Tensor):
    """(mask, left, top) of each instance: bool arrays, where they lie in the image."""
    if not isinstance(masks, RaggedMasks):
        for mask in masks:
            yield mask.numpy(), 0, 0
        return
    windows = masks.grid.split(masks.bits[:, None])
    for window, left, top in zip(windows, masks.left.tolist(), masks.top.tolist()):
        yield window[..., 0].numpy(), left, top


def to_instances(objects: SegmentedObjects, boxes: np.ndarray | None = None) -> Instances:
    """Detectron2's Instances on the CPU: pred_boxes, pred_masks (:class:`RaggedMasks`), scores, pred_classes.

    Args:
        boxes: (N, 4) float XYXY of the model; None takes those of the masks.
    """
    corners = torch.from_numpy(objects.boxes)
    widths, heights = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    bits = np.concatenate([mask.ravel() for mask in objects.masks] or [np.zeros(0, bool)])
    masks = RaggedMasks(
        torch.from_numpy(bits),
        RaggedGrid(heights, widths, torch.device("cpu")),
        corners[:, 1].contiguous(),
        corners[:, 0].contiguous(),
        objects.shape,
    )
    return Instances(
        objects.shape,
        pred_boxes=Boxes(torch.as_tensor(objects.boxes if boxes is None else boxes, dtype=torch.float32)),
        pred_masks=masks,
        scores=torch.from_numpy(objects.scores),
        pred_classes=torch.from_numpy(objects.classes),
    )
