"""Predicted masks as run-length codes: encoded once, shared by every evaluator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch


class EncodedMasks:
    """The masks of N instances as compressed RLEs, a field of ``Instances``."""

    def __init__(self, rles: Sequence[dict]):
        self._rles = list(rles)

    def to_rle(self) -> list[dict]:
        """One ``{"size": [height, width], "counts": str}`` per instance."""
        return self._rles

    def __len__(self) -> int:
        return len(self._rles)

    def __getitem__(self, item: int | slice | torch.Tensor | np.ndarray) -> "EncodedMasks":
        kept = np.arange(len(self))[item.cpu().numpy() if isinstance(item, torch.Tensor) else item]
        return EncodedMasks([self._rles[i] for i in np.atleast_1d(kept)])


def encode_masks(masks: Any) -> list[dict]:
    """Encode masks of the size of their image.

    Args:
        masks: bool tensor (N, H, W), or an object whose ``to_rle()`` returns N compressed RLEs.

    Returns:
        N compressed RLEs with ``counts`` as str, which JSON can hold.

    Raises:
        TypeError: for anything else.
    """
    if hasattr(masks, "to_rle"):
        rles = masks.to_rle()
    elif isinstance(masks, torch.Tensor) and masks.dim() == 3 and masks.dtype == torch.bool:
        # One at a time: all masks of a crowded image at once would take hundreds of megabytes.
        rles = [mask_util.encode(np.asfortranarray(mask.numpy(force=True))) for mask in masks]
    else:
        what = f"{tuple(masks.shape)} {masks.dtype}" if isinstance(masks, torch.Tensor) else type(masks).__name__
        raise TypeError(f"pred_masks must be a bool tensor (N, H, W) or have to_rle(), got {what}")
    return [{**rle, "counts": _as_text(rle["counts"])} for rle in rles]


def _as_text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
