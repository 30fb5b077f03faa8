"""Section II-A: center targets, their losses, and the way back from maps to boxes.

M objects of an image, K classes, H x W cells of the stride-n map. Everything is in units of n input pixels.
"""

import itertools
import math

import torch


def gaussian_radius_cornernet(height: float, width: float, min_overlap: float) -> float:
    """Radius by CornerNet's program: its three quadratic equations are divided by 2 in place of 2a."""
    total, area, o = height + width, height * width, min_overlap
    shifted = (total + math.sqrt(total**2 - 4 * area * (1 - o) / (1 + o))) / 2
    shrunk = (2 * total + math.sqrt(4 * total**2 - 16 * (1 - o) * area)) / 2
    grown = (-2 * o * total + math.sqrt(4 * o**2 * total**2 + 16 * o * (1 - o) * area)) / 2
    return min(shifted, shrunk, grown)


def box_iou(a: tuple, b: tuple) -> float:
    """IoU of two XYXY boxes of real-valued corners (a width is x2 - x1)."""
    overlap_w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    overlap_h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    intersection = overlap_w * overlap_h
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def worst_iou_of_moved_corners(height: float, width: float, radius: float) -> float:
    """Lowest IoU of a box with itself after each of its four edges moved by up to ``radius``, in or out.

    The IoU falls as an edge moves in either direction, so only the 16 extremes need a look. Among them are
    the three cases of CornerNet: both corners out (grown), both in (shrunk), both to the same side (shifted).
    """
    if 2 * radius >= min(height, width):
        return 0.0
    box = (0.0, 0.0, width, height)
    moves = itertools.product((-radius, radius), repeat=4)
    return min(box_iou(box, tuple(edge + by for edge, by in zip(box, move))) for move in moves)


def gaussian_radius_iou(height: float, width: float, min_overlap: float) -> float:
    """Largest radius by which all edges may move with IoU >= ``min_overlap`` left, by bisection (II-A.1)."""
    low, high = 0.0, min(height, width) / 2
    for _ in range(60):
        mean = (low + high) / 2
        if worst_iou_of_moved_corners(height, width, mean) >= min_overlap:
            low = mean
        else:
            high = mean
    return low


GAUSSIAN_RADIUS = {"cornernet": gaussian_radius_cornernet, "iou": gaussian_radius_iou}


def center_targets(
    boxes: torch.Tensor,
    classes: torch.Tensor,
    num_classes: int,
    height: int,
    width: int,
    min_overlap: float = 0.7,
    rule: str = "cornernet",
    sigma_rule: str = "diameter_sixth",
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets of one image (Eq. 1, 2, 4).

    Args:
        boxes: (M, 4) CXCYWH in cells; every center lies on the map.
        classes: (M,) in [0, K).

    Returns:
        heatmap (K, H, W): 1 at the center cells; around one exp(-d^2 / 2 sigma^2) on the square of cells within
        ``reach`` in x and in y, zero outside it; where blobs of a class overlap, the maximum. The radius r is that of
        the box with its sides rounded up. "diameter_sixth": r is cut to an integer, sigma = (2 r + 1) / 6, reach = r.
        "radius_third": sigma = r / 3, reach = r rounded up.
        wh (M, 2), offset (M, 2) of the center from its cell, both (x, y); index (M,) = y W + x of the cell.
    """
    heatmap = torch.zeros(num_classes, height, width)
    wh, offset, index = torch.zeros(len(boxes), 2), torch.zeros(len(boxes), 2), torch.zeros(len(boxes)).long()
    for m, (cx, cy, w, h) in enumerate(boxes):
        x, y = math.floor(cx), math.floor(cy)
        wh[m], offset[m], index[m] = torch.stack([w, h]), torch.stack([cx - x, cy - y]), y * width + x
        radius = GAUSSIAN_RADIUS[rule](math.ceil(h), math.ceil(w), min_overlap)
        sigma, reach = {
            "diameter_sixth": ((2 * int(radius) + 1) / 6, int(radius)),
            "radius_third": (radius / 3, math.ceil(radius)),
        }[sigma_rule]
        for v in range(max(0, y - reach), min(height, y + reach + 1)):
            for u in range(max(0, x - reach), min(width, x + reach + 1)):
                value = math.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
                heatmap[classes[m], v, u] = max(float(heatmap[classes[m], v, u]), value)
    return heatmap, wh, offset, index


def heatmap_focal_loss(
    probability: torch.Tensor, target: torch.Tensor, alpha: float = 2.0, beta: float = 4.0
) -> torch.Tensor:
    """Eq. 1 summed over all cells of (N, K, H, W), divided by the number of center cells (target equal to 1).

    Without any center there is nothing to divide by, and the sum over the background stays as it is.
    """
    is_center = target == 1
    at_centers = torch.log(probability) * (1 - probability) ** alpha
    elsewhere = torch.log(1 - probability) * probability**alpha * (1 - target) ** beta
    total = at_centers[is_center].sum() + elsewhere[~is_center].sum()
    return -total / max(1, int(is_center.sum()))


def heatmap_focal_loss_loop(
    probability: torch.Tensor, target: torch.Tensor, ignored: torch.Tensor, alpha: float = 2.0, beta: float = 4.0
) -> torch.Tensor:
    """Eq. 1 cell by cell; cells of ``ignored``, (N, H, W) bool, count at centers only."""
    total, num_centers = probability.new_zeros(()), 0
    for n, k, y, x in itertools.product(*map(range, probability.shape)):
        p, t = probability[n, k, y, x], target[n, k, y, x]
        if t == 1:
            total, num_centers = total - torch.log(p) * (1 - p) ** alpha, num_centers + 1
        elif not ignored[n, y, x]:
            total = total - torch.log(1 - p) * p**alpha * (1 - t) ** beta
    return total / max(1, num_centers)


def center_smooth_l1_loss(
    maps: torch.Tensor, targets: list[torch.Tensor], indices: list[torch.Tensor], beta: float = 1.0
) -> torch.Tensor:
    """Eq. 3 and 5: smooth L1 at center cells only, averaged over the centers and their two coordinates.

    Args:
        maps: (N, 2, H, W), the width-height or the offset map.
        targets, indices: per image (M, 2) and (M,), as :func:`center_targets` returns them.
    """
    total, count = maps.sum() * 0, 0
    for image, (target, index) in enumerate(zip(targets, indices)):
        for value, cell in zip(target, index.tolist()):
            y, x = divmod(cell, maps.shape[-1])
            for axis in range(2):
                error = (maps[image, axis, y, x] - value[axis]).abs()
                total = total + (0.5 * error**2 / beta if error < beta else error - 0.5 * beta)
                count += 1
    return total / max(1, count)


def decode_centers(
    heatmap: torch.Tensor, wh: torch.Tensor, offset: torch.Tensor, topk: int, score_thresh: float
) -> torch.Tensor:
    """Section II-A.4 on one image.

    Args:
        heatmap: (K, H, W) probabilities; wh, offset: (2, H, W), channels (x, y).

    Returns:
        (D, 6) rows (center x, center y, width, height, score, class) in cells, best score first. A cell is a peak if
        none of its neighbors in its own class is larger. The ``topk`` best peaks over all classes are kept (of equal
        ones the lowest class, then the first in reading order), and of these the ones above ``score_thresh``. Boxes
        are neither clipped nor dropped for their size.
    """
    num_classes, height, width = heatmap.shape
    peaks = []
    for k, y, x in itertools.product(range(num_classes), range(height), range(width)):
        if heatmap[k, y, x] == heatmap[k, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max():
            peaks.append((float(heatmap[k, y, x]), k, y, x))
    peaks.sort(key=lambda peak: -peak[0])
    rows = [
        [x + float(offset[0, y, x]), y + float(offset[1, y, x]), float(wh[0, y, x]), float(wh[1, y, x]), score, k]
        for score, k, y, x in peaks[:topk]
        if score > score_thresh
    ]
    return torch.tensor(rows).reshape(-1, 6)
