"""All ROIs of a batch, cropped from every level at their own sizes, as one ragged batch (II-B).

Glossary: N images, R boxes asked for, A ROIs in the atlas (those with at least one level), L levels, finest first,
P pixels of one level over all ROIs, C channels.

Coordinates. A box is XYXY in input pixels. Its ROI has int(h / s) x int(w / s) points at stride s, laid by ``grid``:

- "edges" (released): evenly from edge to edge, both included, ``x1 + j (x2 - x1) / (w - 1)``, read at index
  ``x / s``, where index 0 is the middle of the first cell. Plain division, so maps of different strides are read half
  a cell apart from each other; the published numbers come from it.
- "centers": the middles of equal cells, ``x1 + (j + 1/2) (x2 - x1) / w``, in Detectron2's continuous coordinates (a
  pixel covers [x, x + 1)), read at index ``x / s - 1/2``. All levels then look at the same place, and the resize
  between levels (align_corners=False) keeps it so.

ROIs are ordered by number of levels, most first, so that those having a level are a prefix of every finer one.
"""

import torch
from torch import Tensor

from .ragged_grid import RaggedGrid
from .ragged_ops import weighted_gather

GRIDS = ("edges", "centers")


def expand_boxes(boxes: Tensor, factor: float, pixels: float = 0.0) -> Tensor:
    """Boxes (R, 4) XYXY enlarged about their centers by ``factor`` and then by ``pixels`` in width and height."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) * factor + pixels) / 2
    return torch.cat([center - half, center + half], 1)


def grid_sizes(boxes: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """int(h / s) and int(w / s) of boxes (R, 4): two (R,) int64."""
    size = (boxes[:, 2:] - boxes[:, :2]) / stride
    return size[:, 1].long(), size[:, 0].long()


def point_positions(low: Tensor, high: Tensor, count: Tensor, index: Tensor, grid: str) -> Tensor:
    """Index coordinates, at stride 1, of point ``index`` of ``count`` on [low, high]; all of one shape."""
    if grid == "edges":
        return low + index * ((high - low) / (count - 1).clamp(min=1))
    return low + (index + 0.5) * ((high - low) / count) - 0.5


def share_to_index(share: Tensor, count: Tensor, grid: str) -> Tensor:
    """Where a share of the box, 0 to 1 from edge to edge, lies among ``count`` points: the inverse of the grid.

    For "edges" 0 and 1 are the first and last point; for "centers" they are half a cell outside, where the border value
    is repeated.
    """
    place = share * (count - 1) if grid == "edges" else share * count - 0.5
    return torch.minimum(place.clamp(min=0), count - 1.0)


def image_of_boxes(counts: list[int], device: torch.device) -> Tensor:
    """(sum of counts,) int64: the image of each box of a batch whose images have ``counts`` boxes."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device, non_blocking=True)


def bilinear_corners(x: Tensor, y: Tensor, width: Tensor | int, height: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """The four neighbours of points on maps of height x width.

    Args:
        x, y: (P,) index coordinates (0 is the middle of the first cell).
        width, height: of the map that each point is read from, (P,) or int.

    Returns:
        corner_y, corner_x: (P, 4) int64, clamped to the map. weight: (P, 4), zero for neighbours outside it.
    """
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    left, top = left.long(), top.long()
    corner_x = torch.stack([left, left + 1, left, left + 1], 1)
    corner_y = torch.stack([top, top, top + 1, top + 1], 1)
    share_x = torch.stack([1 - right_share, right_share], 1).repeat(1, 2)
    share_y = torch.stack([1 - bottom_share, bottom_share], 1).repeat_interleave(2, 1)
    if isinstance(width, Tensor):
        width, height = width[:, None], height[:, None]
    inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
    clamped_x = torch.minimum(corner_x.clamp(min=0), torch.as_tensor(width - 1, device=x.device))
    clamped_y = torch.minimum(corner_y.clamp(min=0), torch.as_tensor(height - 1, device=x.device))
    return clamped_y, clamped_x, share_x * share_y * inside


class RoiAtlas:
    """The plan of a ragged batch: which ROI has which points on which level. Holds no features.

    Args:
        boxes: (R, 4) XYXY in input pixels, already enlarged; any device. Not clipped: outside the map is zero.
        image: (R,) int64, the image of each box.
        strides: of the L levels, finest first.
        min_size: a level whose crop has fewer points in either direction is left out, with all deeper ones.
        grid: "edges" or "centers" (see the module's text).

    Attributes:
        order: (A,) int64, the boxes that are in the atlas, in its order; ``host_order`` on the CPU.
        boxes, image: those of the ROIs, (A, 4) and (A,).
        grids: L :class:`RaggedGrid`; grid l covers the first ``len(grids[l])`` ROIs.
    """

    def __init__(self, boxes: Tensor, image: Tensor, strides: tuple[int, ...], min_size: int = 2, grid: str = "edges"):
        if grid not in GRIDS:
            raise ValueError(f"MODEL.ROI_MASK_HEAD.GRID must be one of {GRIDS}, not {grid!r}")
        self.strides, self.grid_kind = tuple(strides), grid
        # The one place where the host waits for the device: every shape below follows from these sizes.
        sizes = torch.stack([torch.stack(grid_sizes(boxes.detach(), s)) for s in strides]).cpu()
        has_level = (sizes >= min_size).all(1).long().cumprod(0)
        num_levels = has_level.sum(0)
        order = num_levels.argsort(descending=True, stable=True)
        order = order[: int((num_levels > 0).sum())]
        self.host_order = order
        self.order = order.to(boxes.device, non_blocking=True)
        self.boxes = boxes.detach().index_select(0, self.order)
        self.image = image.index_select(0, self.order)
        self.grids = []
        for level in range(len(strides)):
            inside = order[: int(has_level[level].sum())]
            self.grids.append(RaggedGrid(sizes[level, 0, inside], sizes[level, 1, inside], boxes.device))

    def __len__(self) -> int:
        return len(self.grids[0])

    def positions(self, level: int) -> tuple[Tensor, Tensor]:
        """Index coordinates x and y on the map of ``level`` of every pixel of its grid: two (P,) float."""
        grid = self.grids[level]
        roi, row, column = grid.pixels
        boxes = self.boxes.index_select(0, roi)
        x, y = (
            point_positions(boxes[:, axis], boxes[:, axis + 2], count.index_select(0, roi), index, self.grid_kind)
            for axis, count, index in ((0, grid.device_widths, column), (1, grid.device_heights, row))
        )
        stride = self.strides[level]
        if self.grid_kind == "edges":
            return x / stride, y / stride
        return (x + 0.5) / stride - 0.5, (y + 0.5) / stride - 0.5

    def crop(self, level: int, feature: Tensor) -> Tensor:
        """Read ``feature`` bilinearly at the grid of ``level``, zeros outside: (N, C, H, W) -> (P, C)."""
        _, channels, height, width = feature.shape
        x, y = self.positions(level)
        corner_y, corner_x, weight = bilinear_corners(x, y, width, height)
        image = self.image.index_select(0, self.grids[level].pixels.roi)
        index = (image[:, None] * height + corner_y) * width + corner_x
        return weighted_gather(feature.permute(0, 2, 3, 1).reshape(-1, channels), index, weight)

    def image_positions(self, roi: Tensor, point_coords: Tensor) -> tuple[Tensor, Tensor]:
        """Index coordinates x and y in the input image of points (Q, 2) of :meth:`read`: two (Q,)."""
        boxes = self.boxes.index_select(0, roi)
        x, y = (boxes[:, :2] + point_coords * (boxes[:, 2:] - boxes[:, :2])).unbind(1)
        return (x, y) if self.grid_kind == "edges" else (x - 0.5, y - 0.5)

    def resize(self, level: int, values: Tensor) -> Tensor:
        """Bilinear resize (align_corners=False) of every ROI from the grid of ``level + 1`` to that of ``level``.

        Args:
            values: (P of level + 1, C).

        Returns:
            (P', C): pixels on ``level`` of the ROIs that have ``level + 1``, the first of its list.
        """
        low = self.grids[level + 1]
        high = self.grids[level].prefix(len(low))
        roi, row, column = high.pixels
        low_height, low_width = low.device_heights.index_select(0, roi), low.device_widths.index_select(0, roi)
        high_height, high_width = high.device_heights.index_select(0, roi), high.device_widths.index_select(0, roi)
        y = ((row + 0.5) * (low_height / high_height) - 0.5).clamp(min=0)
        x = ((column + 0.5) * (low_width / high_width) - 0.5).clamp(min=0)
        # Points past the last row or column repeat it, as those before the first do.
        y, x = torch.minimum(y, low_height - 1.0), torch.minimum(x, low_width - 1.0)
        corner_y, corner_x, weight = bilinear_corners(x, y, low_width, low_height)
        index = low.starts.index_select(0, roi)[:, None] + corner_y * low_width[:, None] + corner_x
        return weighted_gather(values, index, weight)

    def read(self, level: int, values: Tensor, roi: Tensor, point_coords: Tensor) -> Tensor:
        """Read per-pixel values bilinearly at points of their ROIs.

        Args:
            values: (P, C) on ``level``.
            roi: (Q,) int64 ROIs that have ``level``.
            point_coords: (Q, 2), x first, 0 and 1 being the edges of the ROI's box (for the grid "edges" these are
                its first and last point; for "centers" half a cell outside them, where the border value is repeated).

        Returns:
            (Q, C).
        """
        grid = self.grids[level]
        height, width = grid.device_heights.index_select(0, roi), grid.device_widths.index_select(0, roi)
        size = torch.stack([width, height], 1)
        place = share_to_index(point_coords, size, self.grid_kind)
        corner_y, corner_x, weight = bilinear_corners(place[:, 0], place[:, 1], width, height)
        index = grid.starts.index_select(0, roi)[:, None] + corner_y * width[:, None] + corner_x
        return weighted_gather(values, index, weight)
