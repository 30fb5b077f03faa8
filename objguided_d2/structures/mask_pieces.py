"""Connected pieces of many masks at once. Glossary as in ``ragged_grid``."""

import cv2
import numpy as np
import torch
from torch import Tensor

from .ragged_grid import RaggedGrid


def largest_pieces(bits: Tensor, grid: RaggedGrid) -> Tensor:
    """Of each mask the 8-connected piece with the most pixels, one of equal ones.

    The masks lie below each other on one canvas, an empty row between them, so that one pass finds all pieces.

    Args:
        bits: (P,) bool, the pixels of ``grid``.

    Returns:
        (P,) bool, on the device of ``bits``.
    """
    if not len(grid):
        return bits
    roi, y, x = (index.cpu().numpy() for index in grid.pixels)
    rows = grid.heights.numpy() + 1
    y = y + (rows.cumsum() - rows)[roi]
    canvas = np.zeros((rows.sum(), int(grid.widths.max())), np.uint8)
    canvas[y, x] = bits.cpu().numpy()
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(canvas, connectivity=8)
    owner = np.arange(len(grid)).repeat(rows)[stats[1:, cv2.CC_STAT_TOP]]
    # By ascending area: of the pieces of one mask the last that is written stays.
    order = np.argsort(stats[1:, cv2.CC_STAT_AREA], kind="stable")
    largest = np.full(len(grid), -1)
    largest[owner[order]] = order + 1
    return torch.from_numpy(pieces[y, x] == largest[roi]).to(bits.device)
