"""Suppression by mask IoU among all objects of a large image: only pairs whose boxes meet are looked at.

The rule is that of :func:`..structures.mask_nms.mask_nms`, which compares every box with every other: 400,000 nuclei
of a slide would be 80 billion pairs.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..structures.mask_nms import pairwise_iou
from ..structures.ragged_masks import RaggedMasks

# Height in pixels of the strips that boxes are sorted into: a few objects high.
_STRIP = 128
# Pairs of neighbors looked at at once.
_CHUNK = 2**22


def suppress(masks: RaggedMasks, order: Tensor, iou_threshold: float, groups: Tensor) -> Tensor:
    """Greedy suppression, with the result of ``mask_nms(masks, order, iou_threshold, groups)``.

    Args:
        masks: R masks on the CPU.
        order: (K,) int64, best first; masks that are left out are not kept.
        iou_threshold: a mask with more IoU than this with a kept one of its group is dropped.
        groups: (R,) int64, e.g. classes.

    Returns:
        (at most K,) int64 kept indices, best first.
    """
    far = torch.stack([masks.left + masks.grid.widths, masks.top + masks.grid.heights], 1)
    boxes = torch.cat([torch.stack([masks.left, masks.top], 1), far], 1)[order].numpy()
    better, worse = [], []
    group = groups[order].numpy()
    for first, second in meeting_pairs(boxes):
        alike = group[first] == group[second]
        first, second = torch.from_numpy(first[alike]), torch.from_numpy(second[alike])
        alike = pairwise_iou(masks, order[first], order[second]) > iou_threshold
        better.append(torch.minimum(first, second)[alike])
        worse.append(torch.maximum(first, second)[alike])
    kept = torch.ones(len(order), dtype=torch.bool)
    if not better:
        return order
    better, worse = torch.cat(better), torch.cat(worse)
    # Whether a mask is kept depends on better ones alone: each round settles at least the best that is open.
    while True:
        suppressed = torch.zeros_like(kept)
        suppressed[worse[kept[better]]] = True
        if torch.equal(kept, ~suppressed):
            return order[kept]
        kept = ~suppressed


def meeting_pairs(boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of boxes that share a pixel, each pair once, some at a time.

    Args:
        boxes: (N, 4) int64 x0, y0, x1, y1, far edges exclusive, none empty.

    Yields:
        first and second, (Q,) int64 indices.
    """
    if not len(boxes):
        return
    x0, y0, x1, y1 = boxes.T
    first_strip = y0 // _STRIP
    strips = (y1 - 1) // _STRIP - first_strip + 1
    owner = np.repeat(np.arange(len(boxes)), strips)
    strip = first_strip[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(strips) - strips, strips)
    by_place = np.lexsort((x0[owner], strip))
    owner, strip = owner[by_place], strip[by_place]
    # In a strip, boxes are sorted by their left edges: those that follow box i and begin left of its end may meet it.
    key = strip * (x1.max() + 1) + x0[owner]
    end = np.searchsorted(key, strip * (x1.max() + 1) + x1[owner])
    followers = end - np.arange(len(owner)) - 1
    total = np.cumsum(followers)
    begin = 0
    while begin < len(owner):
        done = total[begin - 1] if begin else 0
        stop = max(int(np.searchsorted(total, done + _CHUNK, side="right")), begin + 1)
        count = followers[begin:stop]
        row = np.repeat(np.arange(begin, stop), count)
        column = row + 1 + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        first, second = owner[row], owner[column]
        low = np.maximum(y0[first], y0[second])
        # Boxes that meet in several strips are a pair in the first of them.
        meets = (low < np.minimum(y1[first], y1[second])) & (low // _STRIP == strip[row])
        yield first[meets], second[meets]
        begin = stop
