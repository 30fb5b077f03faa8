"""Post-processing as it is usually written: one object after the other, each on a mask as large as the image.

Nothing in it is slower than it must be: an object's votes are added in four calls, and its masks are compared as bits.
"""

import numpy as np
import pycocotools.mask as mask_util
import torch

from benchmarks.reference.rois import grid_positions


def vote(probability: torch.Tensor, box: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Sum of the Hough votes of one ROI, all its pixels at once: (h, w) probabilities -> (H, W)."""
    h, w = probability.shape
    y, x = torch.meshgrid(grid_positions(box[1], box[3], h), grid_positions(box[0], box[2], w), indexing="ij")
    top, left = y.floor(), x.floor()
    votes = torch.zeros(height * width)
    for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
        for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            cell = (row * width + column)[inside].long()
            votes.index_add_(0, cell, (probability * weight_y * weight_x)[inside])
    return votes.view(height, width)


def postprocess_loop(
    probabilities: list[torch.Tensor],
    boxes: torch.Tensor,
    scores: torch.Tensor,
    size: tuple[int, int],
    mask_thresh: float,
    nms_thresh: float,
) -> tuple[list[int], list[tuple[int, int, int, int]], list[dict]]:
    """Paste, threshold, recompute boxes, suppress, encode.

    Args:
        probabilities: R of (h, w). boxes: (R, 4) XYXY that they were cropped with.
        size: (H, W) of the image.

    Returns:
        kept, best score first; their XYXY boxes and run-length codes, in that order. Empty masks are dropped.
    """
    masks = [vote(p, box, *size) > mask_thresh for p, box in zip(probabilities, boxes)]
    kept: list[int] = []
    for candidate in torch.sort(scores, descending=True, stable=True).indices.tolist():
        mask = masks[candidate]
        if not mask.any():
            continue
        for better in kept:
            intersection = int((mask & masks[better]).sum())
            if intersection / int((mask | masks[better]).sum()) > nms_thresh:
                break
        else:
            kept.append(candidate)
    new_boxes, rles = [], []
    for index in kept:
        rows, columns = torch.nonzero(masks[index].any(1))[:, 0], torch.nonzero(masks[index].any(0))[:, 0]
        new_boxes.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
        rle = mask_util.encode(np.asfortranarray(masks[index].numpy().view(np.uint8)))
        rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return kept, new_boxes, rles
