"""Suppression by mask IoU, on masks in windows of the image (II-B, released).

Glossary: R masks, K pairs.
"""

import torch
from torch import Tensor

from .ragged_grid import RaggedGrid, split_by_area
from .ragged_masks import CHUNK_PIXELS, RaggedMasks

# Of the dense maps of all masks at once; counts of as many pixels are exact in float32.
_BAND_PIXELS = 2**24
# Nanoseconds: of a pixel that two windows share, of a pixel put on a dense map, and of a product of two pixels.
_PAIR_COST, _DENSE_COST, _PRODUCT_COST = 100.0, 10.0, 0.05


def mask_nms(masks: RaggedMasks, order: Tensor, iou_threshold: float, groups: Tensor) -> Tensor:
    """Greedy suppression: the best are kept, those too much like a kept one are not.

    Args:
        order: (M,) int64, best first; masks that are left out are not kept.
        iou_threshold: a mask with more IoU than this with a kept one of its group is dropped.
        groups: (R,) int64, e.g. classes.

    Returns:
        (at most M,) int64 kept indices, best first.
    """
    index, group = order.cpu(), groups[order].cpu()
    low = torch.stack([masks.left, masks.top], 1)[index]
    high = low + torch.stack([masks.grid.widths, masks.grid.heights], 1)[index]
    meets = torch.minimum(high[:, None], high[None]) > torch.maximum(low[:, None], low[None])
    better, worse = torch.nonzero((meets.all(2) & (group[:, None] == group[None])).triu(1), as_tuple=True)
    alike = (pairwise_iou(masks, index[better], index[worse]) > iou_threshold).cpu()
    better, worse = better[alike], worse[alike]
    # Whether a mask is kept depends on better ones alone: each round settles at least the best that is open.
    kept = torch.ones(len(order), dtype=torch.bool, device="cpu")
    while True:
        suppressed = torch.zeros_like(kept)
        suppressed[worse[kept[better]]] = True
        if torch.equal(kept, ~suppressed):
            return order[kept.to(order.device)]
        kept = ~suppressed


def pairwise_iou(masks: RaggedMasks, first: Tensor, second: Tensor) -> Tensor:
    """IoU of pairs of masks.

    Args:
        first, second: (K,) int64 indices on the CPU; the windows of each pair share a pixel.

    Returns:
        (K,) float; 0 for pairs of empty masks.
    """
    if not len(first):
        return torch.zeros(0, device=masks.device)
    bottom, right = masks.top + masks.grid.heights, masks.left + masks.grid.widths
    top = torch.maximum(masks.top[first], masks.top[second])
    left = torch.maximum(masks.left[first], masks.left[second])
    heights = torch.minimum(bottom[first], bottom[second]) - top
    widths = torch.minimum(right[first], right[second]) - left
    used = torch.unique(torch.cat([first, second]))
    area = int((bottom[used].max() - masks.top[used].min()) * (right[used].max() - masks.left[used].min()))
    # Many large windows on top of each other are many times the image.
    if _PAIR_COST * int((heights * widths).sum()) > (_DENSE_COST + _PRODUCT_COST * len(used)) * len(used) * area:
        rank = torch.zeros(len(masks), dtype=torch.int64, device="cpu")
        rank[used] = torch.arange(len(used), device="cpu")
        pairs = torch.stack([rank[first], rank[second]]).to(masks.device, non_blocking=True)
        intersection = _intersection_matrix(masks, used)[pairs[0], pairs[1]]
    else:
        pairs = torch.stack([first, second, top, left, heights, widths])
        lengths = split_by_area(heights * widths, CHUNK_PIXELS)
        intersection = torch.cat([_shared_pixels(masks, *chunk) for chunk in pairs.split(lengths, 1)])
    areas = masks.area()
    union = areas[first.to(masks.device)] + areas[second.to(masks.device)] - intersection
    return intersection / union.clamp(min=1)


def _shared_pixels(
    masks: RaggedMasks, first: Tensor, second: Tensor, top: Tensor, left: Tensor, heights: Tensor, widths: Tensor
) -> Tensor:
    """(K,) int64: pixels of both masks of each pair, compared where their windows meet."""
    shared = RaggedGrid(heights, widths, masks.device)
    pair, row, column = shared.pixels
    both = torch.ones(shared.num_pixels, dtype=torch.bool, device=masks.device)
    for index in (first, second):
        shift = torch.stack([top - masks.top[index], left - masks.left[index], masks.grid.widths[index], index])
        down, across, width, mask = shift.to(masks.device).index_select(1, pair)
        both &= masks.bits[masks.grid.starts[mask] + (row + down) * width + column + across]
    return torch.zeros(len(first), dtype=torch.int64, device=masks.device).index_add_(0, pair, both.long())


def _intersection_matrix(masks: RaggedMasks, index: Tensor) -> Tensor:
    """(M, M) int64: pixels that each two of the masks ``index`` (M,) share, as a product of dense maps, band by band of
    the image."""
    tops, lefts, heights = masks.top[index], masks.left[index], masks.grid.heights[index]
    left = int(lefts.min())
    width = int((lefts + masks.grid.widths[index]).max()) - left
    band = max(1, _BAND_PIXELS // (len(index) * width))
    total = torch.zeros(len(index), len(index), dtype=torch.int64, device=masks.device)
    for top in range(int(tops.min()), int((tops + heights).max()), band):
        begin = (top - tops).clamp(min=0)
        rows = torch.minimum(top + band - tops, heights) - begin
        (inside,) = torch.nonzero(rows > 0, as_tuple=True)
        widths = masks.grid.widths[index[inside]]
        table = torch.stack([inside, index[inside], begin[inside], (begin + tops)[inside] - top, lefts[inside] - left])
        table = torch.cat([table, torch.stack([rows[inside], widths])])
        dense = torch.zeros(len(index), band * width, device=masks.device)
        for chunk in table.split(split_by_area(rows[inside] * widths, CHUNK_PIXELS), 1):
            part = RaggedGrid(chunk[5].contiguous(), chunk[6].contiguous(), masks.device)
            roi, row, column = part.pixels
            owner, mask, first_row, down, across, _, mask_width = chunk.to(masks.device).index_select(1, roi)
            bits = masks.bits[masks.grid.starts[mask] + (row + first_row) * mask_width + column]
            dense[owner, (row + down) * width + column + across] = bits.float()
        # The types of autocast would round the counts.
        with torch.autocast(masks.device.type, enabled=False):
            total += (dense @ dense.t()).long()
    return total
