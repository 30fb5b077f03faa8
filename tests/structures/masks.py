"""Masks for the tests of this folder."""

import numpy as np
import torch
from hypothesis import strategies as st
from scipy import ndimage

from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedMasks

HEIGHT, WIDTH = 12, 17
rectangles = st.lists(
    st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(1, 8), st.integers(1, 8)),
    min_size=1,
    max_size=6,
)


def random_masks(windows, seed: int = 0) -> RaggedMasks:
    """Random bits in windows (top, left, height, width), cut to the image."""
    top, left, height, width = torch.tensor(windows).unbind(1)
    height, width = torch.minimum(height, HEIGHT - top), torch.minimum(width, WIDTH - left)
    grid = RaggedGrid(height, width, torch.device("cpu"))
    bits = torch.rand(grid.num_pixels, generator=torch.Generator().manual_seed(seed)) > 0.5
    return RaggedMasks(bits, grid, top, left, (HEIGHT, WIDTH))


def from_dense(masks: torch.Tensor) -> RaggedMasks:
    number, height, width = masks.shape
    grid = RaggedGrid(torch.full((number,), height), torch.full((number,), width), masks.device)
    zeros = torch.zeros(number, dtype=torch.int64)
    return RaggedMasks(masks.flatten(), grid, zeros, zeros, (height, width))


def largest_pieces_of(mask: np.ndarray) -> list[np.ndarray]:
    """The largest piece of a mask, or all those of equal area."""
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = [(pieces == n).sum() for n in range(1, count + 1)]
    return [pieces == n for n, area in enumerate(areas, start=1) if area == max(areas)] or [mask]
