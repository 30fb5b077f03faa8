"""End of Section II-B: from ROI masks to instances on the image."""

import math

import torch

from benchmarks.reference.rois import grid_positions


def hough_paste(probability: torch.Tensor, box: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Sum of the votes of one ROI's pixels.

    Args:
        probability: (h, w) of the ROI.
        box: (4,) XYXY, already enlarged: the one the crop was sampled with.

    Returns:
        (H, W). A ROI pixel sits where its crop was sampled, at a real-valued position between pixel centers. It gives
        its probability to the four pixels around with bilinear weights. Votes for pixels outside the image are lost;
        the others of the same ROI pixel count. The sum is not divided by the sum of the weights.
    """
    votes = torch.zeros(height, width)
    xs = grid_positions(box[0], box[2], probability.shape[1])
    ys = grid_positions(box[1], box[3], probability.shape[0])
    for row, y in enumerate(ys.tolist()):
        for column, x in enumerate(xs.tolist()):
            left, top = math.floor(x), math.floor(y)
            for v, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
                for u, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                    if 0 <= u < width and 0 <= v < height:
                        votes[v, u] += weight_y * weight_x * probability[row, column]
    return votes


def resize_nearest(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(H, W) -> (height, width): output pixel (x, y) is input pixel (floor(x W / width), floor(y H / height))."""
    resized = mask.new_zeros(height, width)
    for y in range(height):
        for x in range(width):
            resized[y, x] = mask[y * mask.shape[0] // height, x * mask.shape[1] // width]
    return resized


def mask_iou(a: torch.Tensor, b: torch.Tensor) -> float:
    """Intersection over union of two (H, W) boolean masks; 0 if both are empty."""
    return int((a & b).sum()) / max(1, int((a | b).sum()))


def mask_nms(masks: torch.Tensor, scores: torch.Tensor, iou_thresh: float) -> list[int]:
    """Indices kept, best score first: a mask goes if its IoU with one kept before is above ``iou_thresh``.

    Args:
        masks: (M, H, W) boolean; scores: (M,), equal ones in the order given.
    """
    kept: list[int] = []
    for candidate in torch.sort(scores, descending=True, stable=True).indices.tolist():
        if all(mask_iou(masks[candidate], masks[better]) <= iou_thresh for better in kept):
            kept.append(candidate)
    return kept
