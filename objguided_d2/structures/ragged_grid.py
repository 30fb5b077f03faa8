"""The sizes of R rectangles, whose pixels are one list.

Glossary as in ``roi_canvas``: R rectangles (ROIs), P pixels of all of them, C channels. Rectangle r holds
``heights[r] * widths[r]`` pixels in row-major order at rows [starts[r], starts[r + 1]) of the list.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .ragged_ops import segment_mean


def split_by_area(areas: Tensor, max_pixels: int) -> list[int]:
    """Lengths of consecutive chunks of R rectangles, each of at most ``max_pixels`` and what its last one adds to them.

    Args:
        areas: (R,) int64 on the CPU.
    """
    begin = areas.cumsum(0) - areas
    return torch.unique_consecutive(begin.div(max_pixels, rounding_mode="floor"), return_counts=True)[1].tolist()


class Pixels(NamedTuple):
    """The rectangle of each pixel of the list, and its row and column in it; each (P,) int64."""

    roi: Tensor
    y: Tensor
    x: Tensor


class RaggedGrid:
    """The sizes of R rectangles. They live on the host, so that no device has to be asked for a shape.

    Args:
        heights, widths: (R,) int64 tensors on the CPU, >= 1.
        device: where the index tensors go.
    """

    def __init__(self, heights: Tensor, widths: Tensor, device: torch.device):
        self.heights, self.widths, self.device = heights, widths, device
        starts = torch.zeros(len(heights) + 1, dtype=torch.int64, device="cpu")
        torch.cumsum(heights * widths, 0, out=starts[1:])
        self.num_pixels = int(starts[-1])
        self.starts = starts.to(device, non_blocking=True)
        self._prefixes: dict[int, RaggedGrid] = {}

    def __len__(self) -> int:
        return len(self.heights)

    def prefix(self, num_rois: int) -> "RaggedGrid":
        """The first ``num_rois`` rectangles, which are the first pixels of the list as well."""
        if num_rois == len(self):
            return self
        if num_rois not in self._prefixes:
            self._prefixes[num_rois] = RaggedGrid(self.heights[:num_rois], self.widths[:num_rois], self.device)
        return self._prefixes[num_rois]

    def slice(self, begin: int, end: int) -> tuple["RaggedGrid", slice]:
        """Rectangles ``begin`` to ``end`` as a grid, and where its pixels are in this one's list."""
        grid = RaggedGrid(self.heights[begin:end], self.widths[begin:end], self.device)
        first = int((self.heights[:begin] * self.widths[:begin]).sum())
        return grid, slice(first, first + grid.num_pixels)

    def select(self, index: Tensor) -> tuple["RaggedGrid", Tensor]:
        """The rectangles ``index`` (K,) int64 on the CPU as a grid, and where its pixels are in this one's list.

        Returns:
            the grid, and (P',) int64 rows of this grid's list.
        """
        grid = RaggedGrid(self.heights[index], self.widths[index], self.device)
        first = self.starts[index.to(self.device, non_blocking=True)] - grid.starts[:-1]
        return grid, torch.arange(grid.num_pixels, device=self.device) + first.index_select(0, grid.pixels.roi)

    @cached_property
    def device_heights(self) -> Tensor:
        return self.heights.to(self.device, non_blocking=True)

    @cached_property
    def device_widths(self) -> Tensor:
        return self.widths.to(self.device, non_blocking=True)

    @cached_property
    def pixels(self) -> Pixels:
        areas = self.starts[1:] - self.starts[:-1]
        roi = torch.arange(len(self), device=self.device).repeat_interleave(areas, output_size=self.num_pixels)
        position = torch.arange(self.num_pixels, device=self.device) - self.starts.index_select(0, roi)
        width = self.device_widths.index_select(0, roi)
        y = position.div(width, rounding_mode="floor")
        return Pixels(roi, y, position - y * width)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the pixels of every rectangle: (P, C) -> (R, C)."""
        return segment_mean(values, self.starts, self.pixels.roi)

    def split(self, values: Tensor) -> list[Tensor]:
        """(P, C) -> R views (height, width, C)."""
        parts = values.split((self.heights * self.widths).tolist())
        return [part.unflatten(0, (h, w)) for part, h, w in zip(parts, self.heights.tolist(), self.widths.tolist())]
