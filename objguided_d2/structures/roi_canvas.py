"""ROIs of one level laid out on a plane, so that one convolution serves all of them.

Glossary, for all of ``structures``:

- R ROIs: rectangles of different sizes. A *grid* (:class:`RaggedGrid`) is their sizes, nothing else.
- P *pixels*: those of all ROIs in a list, ROI after ROI, each row by row. Values of pixels are (P, C).
- Q *cells*: those of the canvas, H x W, row by row. Values on a canvas are (Q, C). A cell holds one pixel or lies in
  the gutter, whose values are anything unless said otherwise.
- C channels.

A canvas of four ROIs, the first two of them the prefix (those that have a deeper level too)::

              columns ->                      ROI 0 is 3 x 4, ROI 1 is 2 x 3, ROI 2 is 2 x 5, ROI 3 is 1 x 2.
    rows  0   0 0 0 0 . 1 1 1                 A digit is a cell that holds a pixel of that ROI, a dot is gutter.
      |   1   0 0 0 0 . 1 1 1                 Rows 0-2 and rows 4-5 are the two shelves, row 3 lies between them.
      v   2   0 0 0 0 . . . .
          3   . . . . . . . .                 height 6, width 8, prefix_height 3
          4   2 2 2 2 2 . 3 3                 origin 0, 5, 32, 38: the cell of each ROI's first pixel
          5   2 2 2 2 2 . . .

Every ROI has gutter between it and the next one, on all sides: a 3x3 convolution with zeros in the gutter is then the
zero-padded convolution of each. The prefix has shelves of its own on top, so that it is the first rows of the canvas.

A *line* is a row or a column of one ROI: ROI r has ``heights[r]`` row lines and ``widths[r]`` column lines. What
depends on x or y alone is computed once for each line and looked up by cell.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .ragged_grid import RaggedGrid
from .ragged_ops import at_least_float32, gather_rows, pointwise_conv, segment_norm_relu

# Widths of the canvas that are tried: that of all ROIs side by side, over a number of shelves, times a stretch.
_MAX_SHELVES = 16
_STRETCHES = 1 + np.arange(8) / 32


class Lines(NamedTuple):
    """The row lines or the column lines of all ROIs, ROI after ROI: the ROI of each and its index in it; (L,) int64."""

    roi: Tensor
    position: Tensor


class RoiCanvas:
    """Which cell every pixel of R ROIs is in.

    Args:
        grid: sizes of the ROIs.
        num_prefix: how many of them, from the first on, make the prefix.

    Attributes:
        height, width: H and W; prefix_height: rows of the prefix.
        origin: (R,) int64, the cell of each ROI's first pixel; on the device of the grid, as all tensors here.
    """

    def __init__(self, grid: RaggedGrid, num_prefix: int):
        self.grid, self.num_prefix = grid, num_prefix
        shelf, left, shelf_heights, self.prefix_height, self.width = _pack(grid.heights, grid.widths, num_prefix)
        # Shelf heights count the gutter row below each; the last one has none.
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
    def num_cells(self) -> int:
        return self.height * self.width

    @property
    def num_prefix_cells(self) -> int:
        """Cells of the prefix, which come first."""
        return self.prefix_height * self.width

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
    def lines_of_cells(self) -> tuple[Tensor, Tensor]:
        """Row line and column line of every cell: two (Q,) int64; one past the last line in the gutter."""
        device = self.grid.device
        rows, columns = self.rows, self.columns
        num_rows, num_columns = len(rows.roi), len(columns.roi)
        num_shelves = len(self._shelf_heights)
        # The column line of each cell of a shelf's first row.
        on_shelf = torch.full((num_shelves * self.width,), num_columns, device=device)
        first_cell = self._shelf * self.width + self._left
        on_shelf[first_cell.index_select(0, columns.roi) + columns.position] = torch.arange(num_columns, device=device)
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
        """(Q,) int64: the ROI of every cell; R in the gutter."""
        rows = self.rows.roi
        return torch.cat([rows, rows.new_full((1,), len(self))]).index_select(0, self.lines_of_cells[0])

    @cached_property
    def inside(self) -> Tensor:
        """(Q, 1) float: 1 where a pixel is, 0 in the gutter."""
        return (self.roi < len(self))[:, None].float()

    @cached_property
    def pixel_cells(self) -> Tensor:
        """(P,) int64: the cell of every pixel."""
        rows = self.rows
        widths = self.grid.device_widths.index_select(0, rows.roi)
        first_cell = self.origin.index_select(0, rows.roi) + rows.position * self.width
        first_pixel = widths.cumsum(0) - widths
        shift = (first_cell - first_pixel).repeat_interleave(widths, output_size=self.grid.num_pixels)
        return torch.arange(self.grid.num_pixels, device=self.grid.device) + shift

    def corners(
        self, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], prefix_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The four neighbors of every cell from the two neighbors of its row line and of its column line.

        Args:
            rows, columns: index (K, 2) int64 and weight (K, 2) of every row line and every column line.
            prefix_only: for the cells of the prefix alone.

        Returns:
            index (Q, 4), the sums, and weight (Q, 4), the products; zeros in the gutter.
        """
        row, column = (lines[: self.num_prefix_cells] if prefix_only else lines for lines in self.lines_of_cells)
        # As wide as the result, since short inner loops are slow.
        rows = [F.pad(values, (0, 0, 0, 1)).repeat_interleave(2, 1).index_select(0, row) for values in rows]
        columns = [F.pad(values, (0, 0, 0, 1)).repeat(1, 2).index_select(0, column) for values in columns]
        return rows[0].add_(columns[0]), rows[1].mul_(columns[1])

    def to_list(self, values: Tensor) -> Tensor:
        """(Q, C) -> (P, C)."""
        return gather_rows(values, self.pixel_cells)

    def from_list(self, values: Tensor) -> Tensor:
        """(P, C) -> (Q, C) with zeros in the gutter."""
        return values.new_zeros(self.num_cells, *values.shape[1:]).index_copy_(0, self.pixel_cells, values)

    def conv3x3(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """3x3 convolution, every ROI zero-padded at its own edges.

        Args:
            values: (rows x W, C), zero in the gutter; of the canvas or of its prefix.
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
        """ReLU of the instance norm (Eq. 6) of every ROI over its own pixels; on the canvas or its prefix."""
        prefix_only = len(values) == self.num_prefix_cells
        count = self.num_prefix if prefix_only else len(self)
        cells, roi, starts = self.pixel_cells, self.roi, self.grid.starts[: count + 1]
        if prefix_only:
            cells, roi = cells[: self.grid.prefix(count).num_pixels], roi[: self.num_prefix_cells]
        # The gutter's index is R, which is no ROI of the prefix either.
        return segment_norm_relu(values, cells, starts, roi.clamp(max=count), weight, bias, eps)


def _pack(heights: Tensor, widths: Tensor, num_prefix: int) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """A shelf packer with a choice of width: next-fit by decreasing height, in the width of least canvas area.

    Rectangles are sorted by height, tallest first. Each is put on the current shelf, right of the one before, if it
    fits into the width, else a new shelf is opened below, as high as that rectangle. This is done for all candidate
    widths at once, and the width with the smallest product of used width and height wins.

    Args:
        heights, widths: (R,) int64 on the CPU.
        num_prefix: the first ones get shelves of their own, on top.

    Returns:
        shelf (R,) of each rectangle and its first column (R,), the heights of shelves (S,) with the gutter row below
        each, the rows of the prefix, and the width of the canvas.
    """
    number = len(heights)
    if not number:
        return heights, heights, heights, 0, 0
    # With the gutter right of and below each.
    height, width = heights.numpy() + 1, widths.numpy() + 1
    is_rest = np.arange(number) >= num_prefix
    order = np.lexsort((-height, is_rest))
    height, end = height[order], np.concatenate([[0], np.cumsum(width[order])])
    longest = max(end[num_prefix], end[-1] - end[num_prefix])
    candidates = longest / np.arange(1, min(_MAX_SHELVES, number) + 1)
    candidates = np.maximum(np.outer(candidates, _STRETCHES).ravel(), width.max())
    # Shelf by shelf: `begin` is the rectangle that opens the next shelf, for each candidate width.
    begin = np.zeros(len(candidates), np.int64)
    begins, used_width, used_height = [begin], np.zeros_like(begin), np.zeros_like(begin)
    padded_height = np.append(height, 0)
    while begin.min() < number:
        stop = np.searchsorted(end, end[begin] + candidates, side="right") - 1
        stop = np.where(begin < num_prefix, np.minimum(stop, num_prefix), stop)
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
    prefix_height = max(int(shelf_heights[opens < num_prefix].sum()) - 1, 0)
    return *(torch.from_numpy(v) for v in (shelf, left, shelf_heights)), prefix_height, int(used_width[best]) - 1
