"""Center targets and their inverse. The coordinate convention of the detection head is stated here alone.

Boxes are XYXY in input pixels, continuous coordinates as in Detectron2 (a pixel covers [x, x + 1)). On a map of stride
n, an object with box center (u, v) belongs to the cell (floor(v / n), floor(u / n)) and its offset is what the floor
leaves over, so that ``center = n * (cell + offset)`` (Eq. 4); sizes are (w / n, h / n). Cell (i, j) thus covers the
n x n pixels [n i, n (i + 1)) x [n j, n (j + 1)).

Glossary: N images, M objects of the batch, K classes, H x W the map.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

GAUSSIAN_RULES = ("cornernet", "iou")
GAUSSIAN_SIGMAS = ("diameter_sixth", "radius_third")


class CenterTargets(NamedTuple):
    """heatmap (N, K, H, W) in [0, 1]; cell (M,) flat index into N * H * W; wh and offset (M, 2), x first, in cells."""

    heatmap: Tensor
    cell: Tensor
    wh: Tensor
    offset: Tensor


def gaussian_radius(heights: Tensor, widths: Tensor, min_overlap: float, rule: str = "cornernet") -> Tensor:
    """How far the corners of a box may move, at most, and leave it at an IoU of ``min_overlap`` (II-A.1, [33]).

    Three cases are solved for the radius: both corners move outwards, both inwards, both the same way; the smallest
    one counts. ``rule="iou"`` solves them exactly. CornerNet's program leaves out the division by the leading
    coefficient in two of them, which draws larger blobs; ``rule="cornernet"`` gives its values.

    Args:
        heights, widths: (M,) float, any unit.
        min_overlap: in (0, 1).

    Returns:
        (M,) radius in the same unit.
    """
    if rule not in GAUSSIAN_RULES:
        raise ValueError(f"rule must be one of {GAUSSIAN_RULES}, not {rule!r}")
    total, area, t = heights + widths, heights * widths, min_overlap
    # Each case is a r^2 - b r + c = 0.
    cases = (
        (torch.ones_like(area), total, area * (1 - t) / (1 + t), -1),
        (torch.full_like(area, 4.0), 2 * total, area * (1 - t), -1),
        (torch.full_like(area, 4.0 * t), -2 * t * total, -area * (1 - t), 1),
    )
    radii = []
    for a, b, c, sign in cases:
        root = (b * b - 4 * a * c).clamp(min=0).sqrt()
        if rule == "cornernet":
            radii.append((b + root) / 2)
        else:
            radii.append((b + sign * root) / (2 * a))
    return torch.stack(radii).amin(0)


def draw_gaussians(
    shape: tuple[int, int, int, int], image: Tensor, classes: Tensor, centers: Tensor, radius: Tensor, sigma: Tensor
) -> Tensor:
    """Heatmap with a Gaussian around each center cell, cut at ``radius``; overlaps of a class take the maximum.

    Args:
        shape: (N, K, H, W).
        image, classes: (M,) int64.
        centers: (M, 2) int64 cells, x first, inside the map.
        radius: (M,) int64 >= 0.
        sigma: (M,) float > 0.

    Returns:
        (N, K, H, W) float32.

    Raises:
        ValueError: a class that is not in [0, K); it would be drawn into another image's heatmap.
    """
    _, num_classes, height, width = shape
    heatmap = sigma.new_zeros(shape)
    if not len(image):
        return heatmap
    # Row and column profiles of all objects, then one scatter-maximum of their outer products over the windows.
    reach, lowest, highest = torch.stack([radius.max(), classes.min(), classes.max()]).tolist()
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"an object has class {wrong}, but the heatmap has {num_classes} classes, counted from 0")
    step = torch.arange(-reach, reach + 1, device=image.device)
    profile = torch.exp(-(step.to(sigma.dtype) ** 2) / (2 * sigma[:, None] ** 2))
    peak = profile[:, :, None] * profile[:, None, :]
    x, y = centers[:, 0, None] + step, centers[:, 1, None] + step
    near = step.abs() <= radius[:, None]
    inside_x, inside_y = near & (x >= 0) & (x < width), near & (y >= 0) & (y < height)
    peak = peak * (inside_y[:, :, None] & inside_x[:, None, :])
    plane = (image * num_classes + classes)[:, None, None] * (height * width)
    index = plane + y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    heatmap.view(-1).scatter_reduce_(0, index.flatten(), peak.flatten(), "amax")
    return heatmap


def encode(
    boxes: Tensor,
    image: Tensor,
    classes: Tensor,
    shape: tuple[int, int, int, int],
    stride: int,
    *,
    min_overlap: float = 0.7,
    rule: str = "cornernet",
    sigma_rule: str = "diameter_sixth",
) -> CenterTargets:
    """Targets of the three maps for all objects of a batch (II-A).

    Args:
        boxes: (M, 4) XYXY in input pixels, w > 0 and h > 0.
        image, classes: (M,) int64.
        shape: (N, K, H, W) of the heatmap.
        stride: n.

    Raises:
        ValueError: unknown ``rule`` or ``sigma_rule``, or a class that is not in [0, K).
    """
    if sigma_rule not in GAUSSIAN_SIGMAS:
        raise ValueError(f"sigma_rule must be one of {GAUSSIAN_SIGMAS}, not {sigma_rule!r}")
    _, _, height, width = shape
    boxes = boxes.float() / stride
    wh = boxes[:, 2:] - boxes[:, :2]
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    cell = center.floor().long()
    cell = torch.stack([cell[:, 0].clamp(0, width - 1), cell[:, 1].clamp(0, height - 1)], 1)
    offset = center - cell
    # The released program rounds sizes up before it asks for the radius, in double precision: float32 misses radii that
    # are whole numbers from below.
    radius = gaussian_radius(wh[:, 1].double().ceil(), wh[:, 0].double().ceil(), min_overlap, rule).clamp(min=0)
    if sigma_rule == "diameter_sixth":
        sigma, reach = (2 * radius.floor() + 1).float() / 6, radius.long()
    else:
        sigma, reach = radius.float().clamp(min=1e-3) / 3, radius.ceil().long()
    heatmap = draw_gaussians(shape, image, classes, cell, reach, sigma)
    flat = (image * height + cell[:, 1]) * width + cell[:, 0]
    return CenterTargets(heatmap, flat, wh, offset)


def ignored_cells(region: Tensor, stride: int) -> Tensor:
    """The cells whose pixels all lie in a region that the heatmap's loss ignores.

    All, not most: a cell with a pixel of an annotated object, or of annotated background, counts.

    Args:
        region: (N, H n, W n) bool.
        stride: n.

    Returns:
        (N, H, W) bool.
    """
    num_images, height, width = region.shape
    cells = region.view(num_images, height // stride, stride, width // stride, stride)
    return cells.all(dim=4).all(dim=2)


def inside_cells(image_sizes: list[tuple[int, int]], height: int, width: int, stride: int, device) -> Tensor:
    """The cells that have a pixel of their image; the others lie in the padding of the batch.

    Args:
        image_sizes: (height, width) of the N images in pixels.
        height, width: H and W of the map.
        stride: n.

    Returns:
        (N, H, W) bool.
    """
    sizes = torch.tensor(image_sizes, device="cpu").to(device, non_blocking=True)
    y, x = (stride * torch.arange(count, device=device) for count in (height, width))
    return (y < sizes[:, :1])[:, :, None] & (x < sizes[:, 1:])[:, None]


def find_peaks(heatmap: Tensor, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """The cells that are the maximum of their 3 x 3 cells, best ``topk`` per image over all classes (II-A.4).

    Of neighbors with the same value the first in reading order is the maximum, so that a flat area is one peak (several
    if its outline has several upper corners), not as many as it has cells.

    Args:
        heatmap: (N, K, H, W) scores or logits; the order of peaks is the same. Cells of -inf are no peaks.

    Returns:
        scores (N, T) in the unit of ``heatmap`` (cells that are no peak have the lowest value of its dtype),
        classes (N, T), cell (N, T) flat index into H * W; T = min(topk, K * H * W).
    """
    num_images, num_classes, height, width = heatmap.shape
    padded = F.pad(heatmap, (1, 1, 1, 1), value=-torch.inf)
    before = torch.maximum(padded[..., :-2, 1:-1], padded[..., 1:-1, :-2])
    before = torch.maximum(before, torch.maximum(padded[..., :-2, :-2], padded[..., :-2, 2:]))
    after = torch.maximum(padded[..., 2:, 1:-1], padded[..., 1:-1, 2:])
    after = torch.maximum(after, torch.maximum(padded[..., 2:, 2:], padded[..., 2:, :-2]))
    is_peak = (heatmap > before) & (heatmap >= after)
    peaks = heatmap.masked_fill(~is_peak, torch.finfo(heatmap.dtype).min).flatten(1)
    scores, index = peaks.topk(min(topk, peaks.shape[1]), dim=1)
    return scores, index.div(height * width, rounding_mode="floor"), index % (height * width)


def decode(cell: Tensor, wh: Tensor, offset: Tensor, width: int, stride: int) -> Tensor:
    """Boxes of cells: the inverse of :func:`encode` (II-A.4).

    Args:
        cell: (...) int64 flat index into H * W.
        wh, offset: (..., 2), x first, stride-n units.
        width: W of the map.

    Returns:
        (..., 4) XYXY in input pixels.
    """
    x = (cell % width).to(offset.dtype) + offset[..., 0]
    y = cell.div(width, rounding_mode="floor").to(offset.dtype) + offset[..., 1]
    center, half = torch.stack([x, y], -1), wh / 2
    return torch.cat([center - half, center + half], -1) * stride
