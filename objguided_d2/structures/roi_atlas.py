"""All ROIs of a batch, cropped from every level at their own sizes, as one ragged batch (II-B).

Glossary: N images, R boxes asked for, A ROIs in the atlas (those with at least one level), L levels, finest first,
K points; P pixels and Q cells of one level as in ``roi_canvas``, C channels.

Coordinates. A box is XYXY in input pixels, in Detectron2's continuous coordinates: a pixel covers [x, x + 1). Its ROI
has int(h / s) x int(w / s) pixels at stride s, which sample the map of stride s at index ``x / s - 1/2``, where index 0
is the center of the first cell. All levels thus sample the same positions, the resize between levels
(align_corners=False) keeps them, and the crop of a flipped image is the flipped crop. Where the pixels lie in the box
follows ``spacing``:

- "edges": evenly from edge to edge, both included: ``x1 + j (x2 - x1) / (w - 1)``.
- "centers": the centers of equal parts: ``x1 + (j + 1/2) (x2 - x1) / w``.
- "released": as "edges", but sampled at index ``x / s``, as the released program does. Its boxes run from the center of
  an object's first pixel to that of its last, in index coordinates: x here is x - 1/2 in the coordinates above. So at
  stride 1 "released" with a box B samples what "edges" does with B + 1/2; maps of different strides are sampled up to
  half a cell apart from each other.

ROIs are ordered by number of levels, most first, so that those having a level are a prefix of every finer one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .ragged_grid import RaggedGrid, split_by_area
from .ragged_ops import weighted_gather
from .roi_canvas import Lines, RoiCanvas

SPACINGS = ("edges", "centers", "released")


def expand_boxes(boxes: Tensor, factor: float, pixels: float = 0.0) -> Tensor:
    """Boxes (R, 4) XYXY enlarged about their centers by ``factor`` and then by ``pixels`` in width and height."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) * factor + pixels) / 2
    return torch.cat([center - half, center + half], 1)


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (R, 4) XYXY cut to an image of (height, width); one with a coordinate that is not finite becomes empty."""
    height, width = image_size
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype, device="cpu")
    limit = limit.to(boxes.device, non_blocking=True)
    finite = boxes.isfinite().all(1, keepdim=True)
    return torch.minimum(boxes.nan_to_num().clamp(min=0), limit).masked_fill(~finite, 0)


def grid_sizes(boxes: Tensor, stride: int, max_pixels: int = 0) -> tuple[Tensor, Tensor]:
    """int(h / s) and int(w / s) of boxes (R, 4): two (R,) int64.

    A box with more than ``max_pixels`` at stride 1 gets that many on every level, as if it were smaller; 0 = no limit.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    if max_pixels:
        size = size * (max_pixels / size.prod(1, keepdim=True)).nan_to_num(1).clamp(0, 1).sqrt()
    size = size / stride
    return size[:, 1].long(), size[:, 0].long()


def point_positions(low: Tensor, high: Tensor, count: Tensor, index: Tensor, spacing: str) -> Tensor:
    """Coordinates of pixel ``index`` of ``count`` on [low, high], those of a box; all of one shape."""
    if spacing == "centers":
        return low + (index + 0.5) * ((high - low) / count)
    # A single pixel lies at the center.
    return low + (index + 0.5 * (count == 1)) * ((high - low) / (count - 1).clamp(min=1))


def to_index(coordinate: Tensor, stride: int, spacing: str) -> Tensor:
    """From the coordinates of boxes to index coordinates on the map of a stride (see the module's text)."""
    return coordinate / stride if spacing == "released" else coordinate / stride - 0.5


def fraction_to_index(fraction: Tensor, count: Tensor, spacing: str) -> Tensor:
    """Index among ``count`` pixels of a fraction of the box, 0 to 1 from edge to edge: the inverse of the spacing.

    For "centers" 0 and 1 are half a pixel outside the first and last pixel, where the border value is repeated; else
    they are those pixels.
    """
    index = fraction * count - 0.5 if spacing == "centers" else fraction * (count - 1)
    return torch.minimum(index.clamp(min=0), count - 1.0)


def image_of_boxes(counts: list[int], device: torch.device) -> Tensor:
    """(sum of counts,) int64: the image of each box of a batch whose images have ``counts`` boxes."""
    counts = torch.tensor(counts, dtype=torch.int64, device="cpu")
    return torch.arange(len(counts), device="cpu").repeat_interleave(counts).to(device, non_blocking=True)


def linear_neighbors(position: Tensor, count: Tensor | int) -> tuple[Tensor, Tensor]:
    """The two neighbors of positions on lines of ``count`` values.

    Args:
        position: (K,) index coordinates (0 is the center of the first value).
        count: of the line that each is sampled on, (K,) or int.

    Returns:
        index (K, 2) int64, clamped to the line, and weight (K, 2), zero for neighbors outside it.
    """
    first = position.floor()
    fraction = position - first
    index = torch.stack([first, first + 1], 1).long()
    last = count[:, None] - 1 if isinstance(count, Tensor) else torch.as_tensor(count - 1, device=position.device)
    inside = (index >= 0) & (index <= last)
    return torch.minimum(index.clamp(min=0), last), torch.stack([1 - fraction, fraction], 1) * inside


def bilinear_corners(x: Tensor, y: Tensor, width: Tensor | int, height: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """The four neighbors of points on maps of height x width.

    Args:
        x, y: (K,) index coordinates (0 is the center of the first value).
        width, height: of the map that each point is sampled on, (K,) or int.

    Returns:
        corner_y, corner_x: (K, 4) int64, clamped to the map. weight: (K, 4), zero for neighbors outside it.
    """
    index_x, weight_x = linear_neighbors(x, width)
    index_y, weight_y = linear_neighbors(y, height)
    weight = (weight_y[:, :, None] * weight_x[:, None]).flatten(1)
    return index_y.repeat_interleave(2, 1), index_x.repeat(1, 2), weight


class RoiAtlas:
    """The plan of a ragged batch: which ROI has which pixels on which level. Holds no features.

    Args:
        boxes: (R, 4) XYXY in input pixels, already enlarged; any device. Not clipped: outside the map is zero.
        image: (R,) int64, the image of each box.
        strides: of the L levels, finest first.
        min_size: a level whose crop has fewer pixels in either direction is left out, with all deeper ones.
        spacing: "edges", "centers" or "released" (see the module's text).

    Attributes:
        order: (A,) int64, the boxes that are in the atlas, in its order; ``host_order`` on the CPU.
        boxes, image: those of the ROIs, (A, 4) and (A,).
        canvases: L :class:`RoiCanvas`; that of level l holds the first ``len(canvases[l])`` ROIs, those with a
            deeper level as its prefix.
    """

    def __init__(
        self, boxes: Tensor, image: Tensor, strides: tuple[int, ...], min_size: int = 2, spacing: str = "edges"
    ):
        self._set_up(boxes, image, strides, spacing, *_levels(boxes, strides, min_size, spacing))

    @classmethod
    def within_area(
        cls,
        boxes: Tensor,
        image: Tensor,
        strides: tuple[int, ...],
        min_size: int = 2,
        spacing: str = "edges",
        max_pixels: int = 0,
    ) -> list["RoiAtlas"]:
        """The same ROIs in one or more atlases, each of at most ``max_pixels`` at stride 1 and what its last ROI adds;
        0 sets no limit. ROIs of like size share an atlas. An ROI that is larger by itself has fewer pixels, further
        apart: no atlas has more than twice the limit."""
        sizes, order, has_level = _levels(boxes, strides, min_size, spacing, max_pixels)
        area = sizes[0].prod(0)
        chunks = [order]
        if max_pixels and int(area[order].sum()) > max_pixels:
            order = order[area[order].argsort(descending=True, stable=True)]
            chunks = order.split(split_by_area(area[order], max_pixels))
        atlases = []
        for chunk in chunks:
            atlas = cls.__new__(cls)
            chunk = chunk[has_level.sum(0)[chunk].argsort(descending=True, stable=True)]
            atlas._set_up(boxes, image, strides, spacing, sizes, chunk, has_level)
            atlases.append(atlas)
        return atlases

    def _set_up(self, boxes, image, strides, spacing, sizes, order, has_level) -> None:
        self.strides, self.spacing = tuple(strides), spacing
        self.host_order = order
        self.order = order.to(boxes.device, non_blocking=True)
        self.boxes = boxes.detach().index_select(0, self.order)
        self.image = image.index_select(0, self.order)
        counts = [int(has_level[level, order].sum()) for level in range(len(strides))]
        self.canvases = [
            RoiCanvas(RaggedGrid(*sizes[level][:, order[:count]].contiguous(), boxes.device), deeper)
            for level, (count, deeper) in enumerate(zip(counts, [*counts[1:], 0]))
        ]

    def __len__(self) -> int:
        return len(self.canvases[0])

    @property
    def grids(self) -> list[RaggedGrid]:
        """Sizes of the ROIs on every level."""
        return [canvas.grid for canvas in self.canvases]

    def line_positions(self, level: int) -> tuple[Tensor, Tensor]:
        """Index coordinates on the map of ``level``: y of every row line and x of every column line of its canvas."""
        canvas = self.canvases[level]
        stride = self.strides[level]
        positions = []
        for axis, lines, counts in (
            (1, canvas.rows, canvas.grid.device_heights),
            (0, canvas.columns, canvas.grid.device_widths),
        ):
            low, high = (
                self.boxes[:, axis].index_select(0, lines.roi),
                self.boxes[:, axis + 2].index_select(0, lines.roi),
            )
            position = point_positions(low, high, counts.index_select(0, lines.roi), lines.position, self.spacing)
            positions.append(to_index(position, stride, self.spacing))
        return tuple(positions)

    def positions(self, level: int) -> tuple[Tensor, Tensor]:
        """Index coordinates x and y on the map of ``level`` of every pixel, ROI after ROI: two (P,) float."""
        canvas = self.canvases[level]
        y, x = self.line_positions(level)
        row, column = (lines.index_select(0, canvas.pixel_cells) for lines in canvas.lines_of_cells)
        return x.index_select(0, column), y.index_select(0, row)

    def crop(self, level: int, feature: Tensor) -> Tensor:
        """Sample ``feature`` bilinearly at the pixels of ``level``, zeros outside the map and in the gutter.

        Args:
            feature: (N, C, H, W).

        Returns:
            (Q, C).
        """
        _, channels, height, width = feature.shape
        canvas = self.canvases[level]
        y, x = self.line_positions(level)
        column, column_weight = linear_neighbors(x, width)
        row, row_weight = linear_neighbors(y, height)
        row = (self.image.index_select(0, canvas.rows.roi)[:, None] * height + row) * width
        index, weight = canvas.corners((row, row_weight), (column, column_weight))
        return weighted_gather(feature.permute(0, 2, 3, 1).reshape(-1, channels), index, weight)

    def image_positions(self, roi: Tensor, point_coords: Tensor) -> tuple[Tensor, Tensor]:
        """Index coordinates x and y in the input image of points (K, 2) of :meth:`sample`: two (K,)."""
        boxes = self.boxes.index_select(0, roi)
        coordinates = boxes[:, :2] + point_coords * (boxes[:, 2:] - boxes[:, :2])
        return to_index(coordinates, 1, self.spacing).unbind(1)

    def resize(self, level: int, values: Tensor) -> Tensor:
        """Bilinear resize (align_corners=False) of every ROI from the grid of ``level + 1`` to that of ``level``.

        Args:
            values: (Q of level + 1, C).

        Returns:
            (Q', C) on the prefix of the canvas of ``level``, zeros in the gutter.
        """
        low, high = self.canvases[level + 1], self.canvases[level]
        dtype = torch.promote_types(values.dtype, torch.float32)
        row, row_weight = _resize_lines(high.rows, low.grid.device_heights, high.grid.device_heights, dtype)
        column, column_weight = _resize_lines(high.columns, low.grid.device_widths, high.grid.device_widths, dtype)
        # Lines of ROIs without a deeper level are not looked up.
        row = row * low.width + F.pad(low.origin, (0, len(high) - len(low))).index_select(0, high.rows.roi)[:, None]
        index, weight = high.corners((row, row_weight), (column, column_weight), prefix_only=True)
        return weighted_gather(values, index, weight)

    def sample(self, level: int, values: Tensor, roi: Tensor, point_coords: Tensor) -> Tensor:
        """Sample values of a canvas bilinearly at points of their ROIs.

        Args:
            values: (Q, C) on ``level``.
            roi: (K,) int64 ROIs that have ``level``.
            point_coords: (K, 2), x first, 0 and 1 being the edges of the ROI's box (for "centers" these are half
                a pixel outside its first and last pixel, where the border value is repeated; else those pixels).

        Returns:
            (K, C).
        """
        canvas = self.canvases[level]
        height, width = (n.index_select(0, roi) for n in (canvas.grid.device_heights, canvas.grid.device_widths))
        position = fraction_to_index(point_coords, torch.stack([width, height], 1), self.spacing)
        corner_y, corner_x, weight = bilinear_corners(position[:, 0], position[:, 1], width, height)
        index = canvas.origin.index_select(0, roi)[:, None] + corner_y * canvas.width + corner_x
        return weighted_gather(values, index, weight)


def _resize_lines(lines: Lines, low_counts: Tensor, high_counts: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The neighbors on the coarser grid of every line of the finer one, see :func:`linear_neighbors`."""
    low = F.pad(low_counts, (0, len(high_counts) - len(low_counts)), value=1).index_select(0, lines.roi)
    high = high_counts.index_select(0, lines.roi)
    position = ((lines.position.to(dtype) + 0.5) * (low.to(dtype) / high) - 0.5).clamp(min=0)
    # Points past the last value repeat it, as those before the first do.
    return linear_neighbors(torch.minimum(position, (low - 1).to(dtype)), low)


def _levels(
    boxes: Tensor, strides: tuple[int, ...], min_size: int, spacing: str, max_pixels: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """On the CPU: heights and widths on every level (L, 2, R), the boxes with at least one level by their number of
    levels, most first (A,), and which levels each has (L, R)."""
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {SPACINGS}, not {spacing!r}")
    # Here alone the host waits for the device: every shape follows from these sizes.
    sizes = torch.stack([torch.stack(grid_sizes(boxes.detach(), s, max_pixels)) for s in strides]).cpu()
    has_level = (sizes >= min_size).all(1)  # Deeper levels are smaller.
    num_levels = has_level.sum(0)
    order = num_levels.argsort(descending=True, stable=True)
    return sizes, order[: int((num_levels > 0).sum())], has_level
