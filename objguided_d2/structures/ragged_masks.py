"""Masks of different sizes: as probabilities in floating-point ROIs, and as bits in windows of the image.

Glossary: R instances, P pixels of all of them, H x W the image.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, ROIMasks
from torch import Tensor

from .mask_pieces import largest_pieces
from .ragged_grid import RaggedGrid, split_by_area
from .ragged_ops import weighted_gather
from .roi_atlas import RoiAtlas, bilinear_corners, fraction_to_index, grid_sizes, point_positions, to_index
from .run_lengths import encode_runs

PASTE_MODES = ("hough", "bilinear")

# Operations on pixels take some hundred bytes for each while they last, so masks are processed in chunks of so many.
CHUNK_PIXELS = 2**18


def _in_chunks(join: Callable[[list], Any], to_size: bool = False) -> Callable:
    """Let a method process the masks in chunks.

    Args:
        join: makes one result of those of the chunks.
        to_size: the method's first argument is the size (H, W) of the image that it enlarges the masks to.
    """

    def decorate(method: Callable) -> Callable:
        @functools.wraps(method)
        def on_chunks(self, *args, **kwargs):
            growth = math.ceil(math.prod(args[0]) / math.prod(self.image_size)) if to_size else 1
            lengths = split_by_area(self.grid.heights * self.grid.widths * growth, CHUNK_PIXELS)
            if len(lengths) < 2:
                return method(self, *args, **kwargs)
            ends = list(itertools.accumulate(lengths))
            return join([method(self._slice(e - n, e), *args, **kwargs) for n, e in zip(lengths, ends)])

        return on_chunks

    return decorate


class RaggedMasks:
    """Binary masks of one image, each stored in its own window; behaves as a bool tensor (R, H, W) where it can.

    Indexing with an int, or a tensor or array that is one, gives a dense (H, W) bool tensor, with anything else another
    ``RaggedMasks``; iterating, ``numpy.asarray`` and ``.tensor`` give dense masks.

    Args:
        bits: (P,) bool, the pixels of ``grid``.
        grid: the windows' sizes.
        top, left: (R,) int64 on the CPU, the windows' first row and column; windows lie inside the image.
        image_size: (H, W).
    """

    def __init__(self, bits: Tensor, grid: RaggedGrid, top: Tensor, left: Tensor, image_size: tuple[int, int]):
        self.bits, self.grid, self.top, self.left, self.image_size = bits, grid, top, left, image_size

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.image_size))

    @property
    def device(self) -> torch.device:
        return self.bits.device

    def __repr__(self) -> str:
        return f"RaggedMasks(num_instances={len(self)}, image_size={self.image_size})"

    def to(self, *args, **kwargs) -> RaggedMasks:
        bits = self.bits.to(*args, **kwargs)
        grid = RaggedGrid(self.grid.heights, self.grid.widths, bits.device)
        return RaggedMasks(bits, grid, self.top, self.left, self.image_size)

    def __getitem__(self, item) -> Tensor | RaggedMasks:
        if _is_one_index(item):
            item = int(item)
            if not -len(self) <= item < len(self):
                raise IndexError(f"mask {item} of {len(self)}")
            return self[[item % len(self)]].tensor[0]
        index = _host_index(len(self), item)
        lengths = split_by_area(self.grid.heights[index] * self.grid.widths[index], CHUNK_PIXELS)
        bits = [self.bits[self.grid.select(chunk)[1]] for chunk in index.split(lengths)] if lengths else [self.bits[:0]]
        grid = RaggedGrid(self.grid.heights[index], self.grid.widths[index], self.device)
        return RaggedMasks(torch.cat(bits), grid, self.top[index], self.left[index], self.image_size)

    def _slice(self, begin: int, end: int) -> RaggedMasks:
        grid, pixels = self.grid.slice(begin, end)
        return RaggedMasks(self.bits[pixels], grid, self.top[begin:end], self.left[begin:end], self.image_size)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    @staticmethod
    def cat(masks: list[RaggedMasks]) -> RaggedMasks:
        heights, widths = (torch.cat([getattr(m.grid, side) for m in masks]) for side in ("heights", "widths"))
        bits = torch.cat([m.bits for m in masks])
        top, left = (torch.cat([getattr(m, side) for m in masks]) for side in ("top", "left"))
        return RaggedMasks(bits, RaggedGrid(heights, widths, bits.device), top, left, masks[0].image_size)

    def _image_index(self) -> tuple[Tensor, Tensor, Tensor]:
        roi, row, column = self.grid.pixels
        return roi, row + self.top.to(self.device)[roi], column + self.left.to(self.device)[roi]

    @property
    def tensor(self) -> Tensor:
        """Dense (R, H, W) bool."""
        dense = torch.zeros(self.shape, dtype=torch.bool, device=self.device)
        dense[self._image_index()] = self.bits
        return dense

    def to_bitmasks(self) -> BitMasks:
        return BitMasks(self.tensor)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.tensor.cpu().numpy(), dtype=dtype)

    @_in_chunks(torch.cat)
    def area(self) -> Tensor:
        """(R,) int64 pixels."""
        area = torch.zeros(len(self), dtype=torch.int64, device=self.device)
        return area.index_add_(0, self.grid.pixels.roi, self.bits.long())

    @_in_chunks(Boxes.cat)
    def get_bounding_boxes(self) -> Boxes:
        """Tight XYXY boxes with exclusive right and bottom edges, as ``BitMasks``; zeros for empty masks."""
        height, width = self.image_size
        roi, y, x = (index[self.bits] for index in self._image_index())
        low = torch.full((len(self), 2), max(height, width), device=self.device)
        high = torch.zeros(len(self), 2, dtype=torch.int64, device=self.device)
        points, owner = torch.stack([x, y], 1), roi[:, None].expand(-1, 2)
        low.scatter_reduce_(0, owner, points, "amin")
        high.scatter_reduce_(0, owner, points + 1, "amax")
        boxes = torch.cat([low, high], 1)
        return Boxes((boxes * (high > 0).all(1, keepdim=True)).float())

    @_in_chunks(lambda chunks: RaggedMasks.cat(chunks))
    def largest_pieces(self) -> RaggedMasks:
        """Each mask without its pixels outside its largest 8-connected piece."""
        return RaggedMasks(largest_pieces(self.bits, self.grid), self.grid, self.top, self.left, self.image_size)

    @_in_chunks(lambda chunks: RaggedMasks.cat(chunks), to_size=True)
    def resize_nearest(self, image_size: tuple[int, int]) -> RaggedMasks:
        """Nearest-neighbor resize of the image plane: output pixel i is input pixel floor(i * H / H_out)."""
        if tuple(image_size) == tuple(self.image_size):
            return self
        sides = []
        for first, count, old, new in (
            (self.top, self.grid.heights, self.image_size[0], image_size[0]),
            (self.left, self.grid.widths, self.image_size[1], image_size[1]),
        ):
            # Output pixels whose source lies in [first, first + count) are those in [ceil(first / s), ceil(end / s)).
            begin = -((-first * new) // old)
            end = -((-(first + count) * new) // old)
            sides.append((begin, (end - begin).clamp(min=0), old, new))
        (top, heights, old_h, new_h), (left, widths, old_w, new_w) = sides
        empty = (heights == 0) | (widths == 0)
        # A window must hold a pixel; one that no output pixel falls on becomes an unset pixel in the first corner.
        heights, widths = heights.masked_fill(empty, 1), widths.masked_fill(empty, 1)
        top, left = top.masked_fill(empty, 0), left.masked_fill(empty, 0)
        grid = RaggedGrid(heights, widths, self.device)
        roi, row, column = grid.pixels
        new_top, new_left, old_top, old_left = torch.stack([top, left, self.top, self.left]).to(self.device)[:, roi]
        row = (row + new_top) * old_h // new_h - old_top
        column = (column + new_left) * old_w // new_w - old_left
        unset = empty.to(self.device)[roi]
        source = self.grid.starts[:-1][roi] + row * self.grid.device_widths[roi] + column
        bits = self.bits[source.masked_fill(unset, 0)] & ~unset
        return RaggedMasks(bits, grid, top, left, tuple(image_size))

    @_in_chunks(lambda chunks: list(itertools.chain.from_iterable(chunks)))
    def to_rle(self) -> list[dict]:
        """COCO's compressed run-length encodings, with ``counts`` as str, one per mask."""
        height, width = self.image_size
        by_column = RaggedGrid(self.grid.widths, self.grid.heights, self.device)
        roi, column, row = by_column.pixels
        source = self.grid.starts.index_select(0, roi) + row * self.grid.device_widths.index_select(0, roi) + column
        index = (column + self.left.to(self.device)[roi]) * height + row + self.top.to(self.device)[roi]
        # Masks one after the other, with a pixel between that no run crosses.
        index = (index + roi * (height * width + 1))[self.bits[source]].cpu().numpy()
        is_first = np.diff(index, prepend=-2) != 1
        begin = index[is_first]
        end = index[np.roll(is_first, -1)] + 1
        owner = begin // (height * width + 1)
        offset = owner * (height * width + 1)
        return encode_runs(begin - offset, end - offset, owner, len(self), self.image_size)


def _is_one_index(item: Any) -> bool:
    if isinstance(item, Tensor):
        is_integer = not (item.is_floating_point() or item.is_complex() or item.dtype == torch.bool)
        return is_integer and item.dim() == 0
    if isinstance(item, np.ndarray):
        return item.dtype.kind in "iu" and item.ndim == 0
    return isinstance(item, (int, np.integer))


def _host_index(length: int, item: slice | Tensor | np.ndarray | list) -> Tensor:
    return torch.arange(length, device="cpu")[item.cpu() if isinstance(item, Tensor) else item]


def pixel_fractions(grid: RaggedGrid, spacing: str) -> Tensor:
    """Where each pixel of ``grid`` lies in its ROI's box, as a fraction from edge to edge: (P, 2), x first."""
    roi, row, column = grid.pixels
    zeros, ones = torch.zeros_like(roi), torch.ones_like(roi)
    x = point_positions(zeros, ones, grid.device_widths.index_select(0, roi), column, spacing)
    return torch.stack([x, point_positions(zeros, ones, grid.device_heights.index_select(0, roi), row, spacing)], 1)


class RaggedROIMasks(ROIMasks):
    """Mask probabilities of one image, each in its own ROI; ``ROIMasks`` for masks that are not square.

    Carries the boxes it was cropped with, since Detectron2 clips boxes before it pastes.

    Args:
        probabilities: (P,) float, of the pixels of ``grid``.
        grid: the sizes of the R ROIs.
        boxes: (R, 4) XYXY enlarged boxes in input pixels.
        spacing: how the pixels of a ROI lie in its box, see ``structures.roi_atlas``.
        image_size: (H, W) of the input image.
    """

    def __init__(
        self, probabilities: Tensor, grid: RaggedGrid, boxes: Tensor, spacing: str, image_size: tuple[int, int]
    ):
        self.probabilities, self.grid, self.boxes = probabilities, grid, boxes
        self.spacing, self.image_size = spacing, image_size

    @staticmethod
    def from_atlases(
        atlases: list[RoiAtlas], probabilities: list[Tensor], boxes: list[Tensor], image_sizes: list[tuple[int, int]]
    ) -> list[RaggedROIMasks]:
        """Split the ROIs of a batch into images, in the order of their boxes.

        Args:
            probabilities: (P,) of each atlas, its ROIs one after the other.
            boxes: the enlarged boxes of each image, (R, 4); one that is in no atlas gets an empty 1 x 1 mask.
        """
        grids = [atlas.grids[0] for atlas in atlases]
        order = torch.cat([atlas.host_order for atlas in atlases])
        sizes = [torch.cat([getattr(grid, side) for grid in grids]) for side in ("heights", "widths")]
        grid = RaggedGrid(*sizes, boxes[0].device)
        counts = [len(b) for b in boxes]
        heights, widths = torch.ones(2, sum(counts), dtype=torch.int64, device="cpu")
        heights[order], widths[order] = sizes
        # Boxes that are in no atlas take the zero appended here.
        first = torch.full((sum(counts),), grid.num_pixels, device=grid.device)
        first[torch.cat([atlas.order for atlas in atlases])] = grid.starts[:-1]
        whole = RaggedGrid(heights, widths, grid.device)
        first = first - whole.starts[:-1]
        source = torch.arange(whole.num_pixels, device=grid.device) + first.index_select(0, whole.pixels.roi)
        probabilities = torch.cat([*probabilities, probabilities[0].new_zeros(1)]).index_select(0, source)
        areas = [int(areas.sum()) for areas in (heights * widths).split(counts)]
        return [
            RaggedROIMasks(values, RaggedGrid(h, w, grid.device), b, atlases[0].spacing, size)
            for values, h, w, b, size in zip(
                probabilities.split(areas), heights.split(counts), widths.split(counts), boxes, image_sizes
            )
        ]

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def device(self) -> torch.device:
        return self.probabilities.device

    def to(self, *args, **kwargs) -> RaggedROIMasks:
        probabilities = self.probabilities.to(*args, **kwargs)
        grid = RaggedGrid(self.grid.heights, self.grid.widths, probabilities.device)
        return RaggedROIMasks(probabilities, grid, self.boxes.to(probabilities.device), self.spacing, self.image_size)

    def __getitem__(self, item) -> RaggedROIMasks:
        index = _host_index(len(self), item)
        grid, source = self.grid.select(index)
        boxes = self.boxes[index.to(self.device)]
        return RaggedROIMasks(self.probabilities[source], grid, boxes, self.spacing, self.image_size)

    @_in_chunks(torch.cat)
    def soft_iou(self, threshold: float) -> Tensor:
        """How certain each mask is: sum(p [p > threshold]) / sum(max(p, [p > threshold])), (R,) float32 in [0, 1].

        The IoU of the binary mask with the probabilities p of its ROI; zero for a mask without a pixel.
        """
        p = self.probabilities.float()
        inside = p > threshold
        intersection, union = self.grid.mean(torch.stack([p * inside, p.masked_fill(inside, 1.0)], 1)).unbind(1)
        return intersection / union.clamp(min=torch.finfo(union.dtype).tiny)

    def to_bitmasks(self, boxes: Boxes, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """Detectron2's interface: ``boxes`` are ignored in favor of the unclipped ones that were cropped."""
        return self.paste((height, width), threshold, "bilinear").to_bitmasks()

    def to_squares(self, boxes: Tensor, side: int) -> Tensor:
        """Probabilities on a regular grid over other boxes, as of masks that all have one size.

        Args:
            boxes: (R, 4) XYXY in input pixels, continuous coordinates; outside the masks is zero.

        Returns:
            (R, 1, side, side) float32, at the centers of equal parts of each box.
        """
        shape = torch.full((len(self),), side, device="cpu")
        roi, row, column = RaggedGrid(shape, shape, self.device).pixels
        fraction = (torch.stack([column, row], 1) + 0.5) / side
        boxes = boxes.float().index_select(0, roi)
        values = self._sample(roi, boxes[:, :2] + fraction * (boxes[:, 2:] - boxes[:, :2]))
        return values.view(-1, 1, side, side)

    def _sample(self, roi: Tensor, points: Tensor) -> Tensor:
        """Probabilities at points (K, 2), x first, in continuous coordinates of the input: (K,), zero outside."""
        boxes = (to_index(self.boxes, 1, self.spacing) + 0.5).index_select(0, roi)
        fraction = (points - boxes[:, :2]) / (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
        return self.at_fractions(roi, fraction) * ((fraction >= 0) & (fraction <= 1)).all(1)

    def at_fractions(self, roi: Tensor, fraction: Tensor) -> Tensor:
        """Probabilities by bilinear interpolation, (K,) float32.

        Args:
            roi: (K,) int64.
            fraction: (K, 2), x first, of the ROI's box from edge to edge; beyond 0 and 1 the border is repeated.
        """
        size = torch.stack([self.grid.device_widths, self.grid.device_heights], 1).index_select(0, roi)
        position = fraction_to_index(fraction, size, self.spacing)
        corner_y, corner_x, weight = bilinear_corners(position[:, 0], position[:, 1], size[:, 0], size[:, 1])
        index = self.grid.starts.index_select(0, roi)[:, None] + corner_y * size[:, :1] + corner_x
        return weighted_gather(self.probabilities.float()[:, None], index, weight)[:, 0]

    def _slice(self, begin: int, end: int) -> RaggedROIMasks:
        grid, pixels = self.grid.slice(begin, end)
        return RaggedROIMasks(self.probabilities[pixels], grid, self.boxes[begin:end], self.spacing, self.image_size)

    @_in_chunks(RaggedMasks.cat, to_size=True)
    def paste(self, output_size: tuple[int, int], threshold: float, mode: str) -> RaggedMasks:
        """Binary masks in the image.

        Args:
            output_size: (H, W) of the output, which shows the same scene as the input image.
            threshold: pixels above it belong to the object.
            mode: "hough" = votes at input resolution, then a nearest-neighbor resize (II-B); "bilinear" = every
                output pixel samples the mask at its center.
        """
        if mode == "hough":
            return self._at_input_resolution()._paste_by_votes(threshold).resize_nearest(output_size)
        return self._paste_by_sampling(output_size, threshold)

    def _at_input_resolution(self) -> RaggedROIMasks:
        """Interpolate the masks of ROIs that have fewer pixels than their boxes, as those of limited area have: votes
        of pixels far apart would leave holes."""
        sizes = torch.stack([self.grid.heights, self.grid.widths])
        full = torch.maximum(torch.stack(grid_sizes(self.boxes, 1)).cpu(), sizes)
        if torch.equal(full, sizes):
            return self
        grid = RaggedGrid(full[0].contiguous(), full[1].contiguous(), self.device)
        values = self.at_fractions(grid.pixels.roi, pixel_fractions(grid, self.spacing))
        return RaggedROIMasks(values, grid, self.boxes, self.spacing, self.image_size)

    def _windows(self, low: Tensor, high: Tensor, image_size: tuple[int, int]) -> tuple[RaggedGrid, Tensor, Tensor]:
        """Windows [low, high], (R, 2) x first, clipped to the image but never under one pixel."""
        last = torch.tensor([image_size[1] - 1, image_size[0] - 1], device=low.device)
        low, high = torch.minimum(low.long().clamp(min=0), last), torch.minimum(high.long().clamp(min=0), last)
        low, size = torch.stack([low, (high - low).clamp(min=0) + 1]).cpu()
        return RaggedGrid(size[:, 1].contiguous(), size[:, 0].contiguous(), self.device), low[:, 1], low[:, 0]

    def _paste_by_votes(self, threshold: float) -> RaggedMasks:
        height, width = self.image_size
        # One pixel more than the last neighbor needs, since the last pixel may round up past its edge. A box of
        # negative size has one pixel.
        corners = to_index(self.boxes, 1, self.spacing)
        first_corner, last_corner = torch.minimum(*corners.split(2, 1)), torch.maximum(*corners.split(2, 1))
        window, top, left = self._windows(first_corner.floor(), last_corner.floor() + 2, self.image_size)
        roi, row, column = self.grid.pixels
        boxes = self.boxes.index_select(0, roi)
        x = point_positions(boxes[:, 0], boxes[:, 2], self.grid.device_widths[roi], column, self.spacing)
        y = point_positions(boxes[:, 1], boxes[:, 3], self.grid.device_heights[roi], row, self.spacing)
        x, y = to_index(x, 1, self.spacing), to_index(y, 1, self.spacing)
        corner_y, corner_x, weight = bilinear_corners(x, y, width, height)
        first, top_of, left_of, width_of = torch.stack(
            [window.starts[:-1], top.to(roi), left.to(roi), window.device_widths]
        ).index_select(1, roi)[..., None]
        index = first + (corner_y - top_of) * width_of + corner_x - left_of
        votes = torch.zeros(window.num_pixels, device=self.device)
        votes.index_add_(0, index.flatten(), (self.probabilities.float()[:, None] * weight).flatten())
        return RaggedMasks(votes > threshold, window, top, left, self.image_size)

    def _paste_by_sampling(self, output_size: tuple[int, int], threshold: float) -> RaggedMasks:
        scale = torch.tensor([output_size[i] / self.image_size[i] for i in (1, 0)], device=self.device)
        # In continuous coordinates the center of pixel 0 is at 1/2.
        boxes = to_index(self.boxes, 1, self.spacing) + 0.5
        low, high = boxes[:, :2] * scale, boxes[:, 2:] * scale
        window, top, left = self._windows((low - 0.5).ceil(), (high - 0.5).floor(), output_size)
        roi, row, column = window.pixels
        pixel = torch.stack([column + left.to(roi)[roi], row + top.to(roi)[roi]], 1) + 0.5
        values = self._sample(roi, pixel / scale)
        return RaggedMasks(values > threshold, window, top, left, tuple(output_size))
