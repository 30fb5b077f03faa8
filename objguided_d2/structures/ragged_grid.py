"""The pixels of R rectangles of different sizes as one list, and the canvas that lets a convolution run over them.

Glossary: R rectangles (ROIs), P pixels of all of them, C channels. Rectangle r holds ``heights[r] * widths[r]`` pixels
in row-major order at rows [starts[r], starts[r + 1]) of the list.
"""

from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .ragged_ops import gather_rows, scatter_rows, segment_instance_norm, segment_mean


class Pixels(NamedTuple):
    """Where each pixel of the list lies: its rectangle, and its row and column in it; each (P,) int64."""

    roi: Tensor
    y: Tensor
    x: Tensor


class Canvas(NamedTuple):
    """A plane that holds all rectangles apart from each other; ``index`` (P,) is each pixel's flat place on it."""

    height: int
    width: int
    index: Tensor


class RaggedGrid:
    """R rectangles of pixels. Sizes live on the host, so that no device has to be asked for a shape.

    Args:
        heights, widths: (R,) int64 tensors on the CPU, >= 1.
        device: where the index tensors go.
    """

    def __init__(self, heights: Tensor, widths: Tensor, device: torch.device):
        self.heights, self.widths, self.device = heights, widths, device
        starts = torch.zeros(len(heights) + 1, dtype=torch.int64)
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

    def select(self, index: Tensor) -> tuple["RaggedGrid", Tensor]:
        """The rectangles ``index`` (K,) int64 on the CPU as a grid of their own, and where its pixels are in this one.

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

    @cached_property
    def canvas(self) -> Canvas:
        """Rectangles on shelves, tallest first, with one empty pixel between any two."""
        heights, widths = self.heights + 1, self.widths + 1
        order = heights.argsort(descending=True, stable=True)
        widths_by_height = widths[order]
        begin = widths_by_height.cumsum(0) - widths_by_height
        shelf_length = max(int((heights * widths).sum().sqrt()), int(widths.max()))
        shelf = begin.div(shelf_length, rounding_mode="floor")
        opens_shelf = torch.ones_like(shelf, dtype=torch.bool)
        opens_shelf[1:] = shelf[1:] != shelf[:-1]
        shelf = opens_shelf.cumsum(0) - 1
        left, top = torch.empty_like(begin), torch.empty_like(begin)
        left[order] = begin - begin[opens_shelf][shelf]
        shelf_heights = heights[order][opens_shelf]
        top[order] = (shelf_heights.cumsum(0) - shelf_heights)[shelf]
        height, width = int(shelf_heights.sum()) - 1, int((left + widths).max()) - 1
        origin = (top * width + left).to(self.device, non_blocking=True)
        roi, y, x = self.pixels
        return Canvas(height, width, origin.index_select(0, roi) + y * width + x)

    def conv2d(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Stride-1 convolution of every rectangle by itself, zero-padded at its own edges.

        Args:
            values: (P, C).
            weight: (C_out, C, 1, 1) or (C_out, C, 3, 3); the gutters of the canvas are one pixel wide.
            bias: (C_out,) or None.

        Returns:
            (P, C_out).
        """
        if weight.shape[2:] == (1, 1):
            return F.linear(values, weight.flatten(1), bias)
        if weight.shape[2:] != (3, 3):
            raise ValueError(f"kernels of 1x1 and 3x3 are supported, not {tuple(weight.shape[2:])}")
        if not self.num_pixels:
            return F.linear(values, weight.sum((2, 3)), bias)
        height, width, index = self.canvas
        plane = scatter_rows(values, index, height * width)
        plane = plane.unflatten(0, (1, height, width)).permute(0, 3, 1, 2)
        plane = F.conv2d(plane, weight, bias, padding=1)
        return gather_rows(plane.permute(0, 2, 3, 1).flatten(0, 2), index)

    def instance_norm(self, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        """Instance norm (Eq. 6) of every rectangle over its own pixels: (P, C) -> (P, C)."""
        return segment_instance_norm(values, self.starts, self.pixels.roi, weight, bias, eps)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the pixels of every rectangle: (P, C) -> (R, C)."""
        return segment_mean(values, self.starts, self.pixels.roi)

    def split(self, values: Tensor) -> list[Tensor]:
        """(P, C) -> R views (height, width, C)."""
        parts = values.split((self.heights * self.widths).tolist())
        return [part.unflatten(0, (h, w)) for part, h, w in zip(parts, self.heights.tolist(), self.widths.tolist())]
