"""ROIs of one level laid out on a plane, so that one convolution serves all of them.

Glossary: R ROIs, P pixels of all of them, C channels, H x W the canvas, Q = H W its places. Values on a canvas are
(Q, C), row by row; the places between ROIs, the gutter, hold anything unless said otherwise.

A canvas consists of shelves, each with a run of ROIs side by side, one empty place between any two and between shelves.
The ROIs of the first part (those that have a deeper level too) have shelves of their own on top, so that the part is
the first rows of the canvas.

A pixel of an ROI lies on a line of pixels in either direction: ROI r has ``heights[r]`` row lines and ``widths[r]``
column lines. What depends on x or y alone is computed once a line and looked up by place.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .ragged_grid import RaggedGrid
from .ragged_ops import at_least_float32, gather_rows, pointwise_conv, segment_norm_relu

# Canvas widths that are tried: the length of all ROIs side by side, shared out to some shelves, and a bit more.
_MAX_SHELVES = 16
_STRETCHES = 1 + np.arange(8) / 32


class Lines(NamedTuple):
    """Lines of pixels of all ROIs in one direction, ROI after ROI: whose each is, and which of it; (K,) int64 each."""

    roi: Tensor
    position: Tensor


class RoiCanvas:
    """Where every pixel of R ROIs lies on a plane.

    Args:
        grid: sizes of the ROIs.
        num_first: how many of them, from the first on, make the first part.

    Attributes:
        height, width: H and W; first_height: rows of the first part.
        origin: (R,) int64, the place of each ROI's first pixel; on the device of the grid, as all tensors here.
    """

    def __init__(self, grid: RaggedGrid, num_first: int):
        self.grid, self.num_first = grid, num_first
        shelf, left, shelf_heights, self.first_height, self.width = _pack(grid.heights, grid.widths, num_first)
        # Every shelf but the last ends with an empty row; the last row of a part is not followed by one of its own.
        top = shelf_heights.cumsum(0) - shelf_heights
        self.height = max(int(shelf_heights.sum()) - 1, 0)
        self._shelf_heights = shelf_heights
        self._shelf, self._top, self._left = (
            torch.stack([shelf, top[shelf], left]).to(grid.device, non_blocking=True).unbind(0)
        )
        self.origin = self._top * self.width + self._left

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def num_places(self) -> int:
        return self.height * self.width

    @property
    def num_first_places(self) -> int:
        """Places of the first part, which come first."""
        return self.first_height * self.width

    @cached_property
    def rows(self) -> Lines:
        return self._lines(self.grid.heights, self.grid.device_heights)

    @cached_property
    def columns(self) -> Lines:
        return self._lines(self.grid.widths, self.grid.device_widths)

    def _lines(self, host_counts: Tensor, counts: Tensor) -> Lines:
        total = int(host_counts.sum())
        roi = torch.arange(len(self), device=self.grid.device).repeat_interleave(counts, output_size=total)
        first = counts.cumsum(0) - counts
        return Lines(roi, torch.arange(total, device=self.grid.device) - first.index_select(0, roi))

    @cached_property
    def lines_of_places(self) -> tuple[Tensor, Tensor]:
        """Row line and column line of every place: two (Q,) int64; past the last line in the gutter."""
        device = self.grid.device
        rows, columns = self.rows, self.columns
        num_rows, num_columns = len(rows.roi), len(columns.roi)
        num_shelves = len(self._shelf_heights)
        # Which column line is at each place of a shelf's first row.
        on_shelf = torch.full((num_shelves * self.width,), num_columns, device=device)
        place = self._shelf * self.width + self._left
        on_shelf[place.index_select(0, columns.roi) + columns.position] = torch.arange(num_columns, device=device)
        shelf_heights = self._shelf_heights.to(device, non_blocking=True)
        shelf = torch.arange(num_shelves, device=device).repeat_interleave(
            shelf_heights, output_size=int(self._shelf_heights.sum())
        )[: self.height]
        y = torch.arange(self.height, device=device) - (shelf_heights.cumsum(0) - shelf_heights).index_select(0, shelf)
        column = on_shelf.view(num_shelves, self.width).index_select(0, shelf)
        # The gutter belongs to an ROI without rows.
        roi = torch.cat([columns.roi, columns.roi.new_full((1,), len(self))])[column]
        heights = torch.cat([self.grid.device_heights, shelf.new_zeros(1)])
        first_row = heights.cumsum(0) - heights
        inside = y[:, None] < heights[roi]
        row = torch.where(inside, first_row[roi] + y[:, None], num_rows)
        return row.flatten(), torch.where(inside, column, num_columns).flatten()

    @cached_property
    def roi(self) -> Tensor:
        """(Q,) int64: the ROI of every place; R in the gutter."""
        rows = self.rows.roi
        return torch.cat([rows, rows.new_full((1,), len(self))]).index_select(0, self.lines_of_places[0])

    @cached_property
    def inside(self) -> Tensor:
        """(Q, 1) float: 1 where a pixel is, 0 in the gutter."""
        return (self.roi < len(self))[:, None].float()

    @cached_property
    def place(self) -> Tensor:
        """(P,) int64: the place of every pixel, ROI after ROI, each row by row."""
        rows = self.rows
        widths = self.grid.device_widths.index_select(0, rows.roi)
        first_place = self.origin.index_select(0, rows.roi) + rows.position * self.width
        first_pixel = widths.cumsum(0) - widths
        shift = (first_place - first_pixel).repeat_interleave(widths, output_size=self.grid.num_pixels)
        return torch.arange(self.grid.num_pixels, device=self.grid.device) + shift

    def corners(
        self, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], first_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What the four neighbours of every place are, from the two neighbours of its lines.

        Args:
            rows, columns: index (K, 2) int64 and weight (K, 2) of every row line and every column line.
            first_only: for the places of the first part alone.

        Returns:
            index (Q, 4), the sums, and weight (Q, 4), the products; zeros in the gutter.
        """
        row, column = (lines[: self.num_first_places] if first_only else lines for lines in self.lines_of_places)
        # As wide as the result, since short inner loops are slow.
        rows = [F.pad(values, (0, 0, 0, 1)).repeat_interleave(2, 1).index_select(0, row) for values in rows]
        columns = [F.pad(values, (0, 0, 0, 1)).repeat(1, 2).index_select(0, column) for values in columns]
        return rows[0].add_(columns[0]), rows[1].mul_(columns[1])

    def to_list(self, values: Tensor) -> Tensor:
        """(Q, C) -> (P, C), the pixels of one ROI after those of the other, each row by row."""
        return gather_rows(values, self.place)

    def from_list(self, values: Tensor) -> Tensor:
        """(P, C) -> (Q, C) with zeros in the gutter."""
        return values.new_zeros(self.num_places, *values.shape[1:]).index_copy_(0, self.place, values)

    def conv3x3(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """3x3 convolution, every ROI zero-padded at its own edges.

        Args:
            values: (rows x W, C), zero in the gutter; the canvas or its first part.
            weight: (C_out, C, 3, 3).

        Returns:
            (rows x W, C_out).
        """
        plane = values.view(1, -1, self.width, values.shape[1]).permute(0, 3, 1, 2)
        return F.conv2d(plane, weight, bias, padding=1).permute(0, 2, 3, 1).flatten(0, 2)

    def conv3x3_to_one(self, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """:meth:`conv3x3` to a single channel: (Q, C), zero in the gutter, -> (Q, 1), float32 or wider.

        Convolutions work on blocks of output channels, of which one channel would leave all but one unused. So the nine
        weights are nine channels of a 1x1 convolution, and the planes of these are shifted and added up.
        """
        taps = at_least_float32(pointwise_conv(values, weight[0].flatten(1).t(), None))
        taps = F.pad(taps.view(self.height, self.width, 9), (0, 0, 1, 1, 1, 1))
        rows, columns = ([slice(k, k + size) for k in range(3)] for size in (self.height, self.width))
        return sum(taps[rows[k // 3], columns[k % 3], k] for k in range(9)).view(-1, 1) + bias

    def norm_relu(self, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """ReLU of the instance norm (Eq. 6) of every ROI over its own pixels; on the canvas or its first part."""
        first_only = len(values) == self.num_first_places
        count = self.num_first if first_only else len(self)
        place, roi, starts = self.place, self.roi, self.grid.starts[: count + 1]
        if first_only:
            place, roi = place[: self.grid.prefix(count).num_pixels], roi[: self.num_first_places]
        # The gutter's index is R, and that of no ROI of the first part.
        return segment_norm_relu(values, place, starts, roi.clamp(max=count), weight, bias, eps)


def _pack(heights: Tensor, widths: Tensor, num_first: int) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Put rectangles on shelves, the tallest first, each shelf filled before the next is begun, in the canvas width
    that leaves the least empty.

    Args:
        heights, widths: (R,) int64 on the CPU.
        num_first: the first ones get shelves of their own, on top.

    Returns:
        shelf and left (R,) of each, the heights of shelves (S,) with an empty row each, the rows of the first part, and
        the width of the canvas.
    """
    number = len(heights)
    if not number:
        return heights, heights, heights, 0, 0
    # With the empty place that follows each.
    height, width = heights.numpy() + 1, widths.numpy() + 1
    is_rest = np.arange(number) >= num_first
    order = np.lexsort((-height, is_rest))
    height, end = height[order], np.concatenate([[0], np.cumsum(width[order])])
    longest = max(end[num_first], end[-1] - end[num_first])
    lengths = longest / np.arange(1, min(_MAX_SHELVES, number) + 1)
    lengths = np.maximum(np.outer(lengths, _STRETCHES).ravel(), width.max())
    # All lengths are tried at once, shelf by shelf.
    begin = np.zeros(len(lengths), np.int64)
    begins, used_width, used_height = [begin], np.zeros_like(begin), np.zeros_like(begin)
    padded_height = np.append(height, 0)
    while begin.min() < number:
        stop = np.searchsorted(end, end[begin] + lengths, side="right") - 1
        stop = np.where(begin < num_first, np.minimum(stop, num_first), stop)
        used_width = np.maximum(used_width, end[stop] - end[begin])
        used_height += padded_height[begin]
        begins.append(stop)
        begin = stop
    best = (used_width * used_height).argmin()
    opens = np.unique(np.stack(begins)[:, best])[:-1]
    shelf_of_ordered = np.repeat(np.arange(len(opens)), np.diff(opens, append=number))
    shelf, left = np.empty(number, np.int64), np.empty(number, np.int64)
    shelf[order], left[order] = shelf_of_ordered, end[:-1] - end[opens][shelf_of_ordered]
    shelf_heights = height[opens]
    first_height = max(int(shelf_heights[opens < num_first].sum()) - 1, 0)
    return *(torch.from_numpy(v) for v in (shelf, left, shelf_heights)), first_height, int(used_width[best]) - 1
