"""Masks as COCO's compressed run-length encodings (RLEs), and back.

An RLE is ``{"size": [height, width], "counts": str}``; the counts are text, which JSON can hold. Shapes: N instances,
(H, W) pixels of one image. Masks that are sparse runs already are encoded by :mod:`..structures.run_lengths`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch


def encode_mask(mask: np.ndarray) -> dict:
    """(H, W) bool or 0 and 1 of any integer type -> RLE."""
    return _as_text(mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)))


def encode_masks(masks: Any) -> list[dict]:
    """Encode the ``pred_masks`` of one image.

    Args:
        masks: bool tensor (N, H, W), or an object whose ``to_rle()`` returns N RLEs (their counts may be bytes).

    Returns:
        N RLEs.

    Raises:
        TypeError: for anything else.
    """
    if hasattr(masks, "to_rle"):
        return [_as_text(rle) for rle in masks.to_rle()]
    if isinstance(masks, torch.Tensor) and masks.dim() == 3 and masks.dtype == torch.bool:
        # One at a time: all masks of a crowded image at once would take hundreds of megabytes.
        return [encode_mask(mask.numpy(force=True)) for mask in masks]
    what = f"{tuple(masks.shape)} {masks.dtype}" if isinstance(masks, torch.Tensor) else type(masks).__name__
    raise TypeError(f"pred_masks must be a bool tensor (N, H, W) or have to_rle(), got {what}")


def decode_mask(rle: dict) -> np.ndarray:
    """RLE -> (H, W) bool."""
    return mask_util.decode(rle).astype(bool)


def decode_in_box(rle: dict) -> tuple[tuple[slice, slice], np.ndarray]:
    """The rows and columns of a mask's tight box, and the (h, w) bool mask inside it."""
    x, y, w, h = mask_util.toBbox(rle).astype(int)
    box = np.s_[y : y + h, x : x + w]
    return box, mask_util.decode(rle)[box].astype(bool)


class EncodedMasks:
    """The masks of N instances as RLEs, a field of ``Instances``: encoded once, whoever reads them."""

    def __init__(self, rles: Sequence[dict]):
        self._rles = list(rles)

    def to_rle(self) -> list[dict]:
        """N RLEs."""
        return self._rles

    def __len__(self) -> int:
        return len(self._rles)

    def __getitem__(self, item: int | slice | torch.Tensor | np.ndarray) -> "EncodedMasks":
        kept = np.arange(len(self))[item.cpu().numpy() if isinstance(item, torch.Tensor) else item]
        return EncodedMasks([self._rles[i] for i in np.atleast_1d(kept)])


def _as_text(rle: dict) -> dict:
    counts = rle["counts"]
    return {**rle, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
