"""A full disk or GPU memory that ends a run, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode

from ..utils.full_disk import is_full_disk
from .errors import DeviceMemoryError, NoSpaceError

OutOfMemory = torch.cuda.OutOfMemoryError


def is_shortage(error: BaseException) -> bool:
    """Whether :func:`shortage_in_one_line` tells it."""
    return isinstance(error, OutOfMemory) or is_full_disk(error)


@contextmanager
def shortage_in_one_line(cfg: CfgNode, remedy: str) -> Iterator[None]:
    """A block of a run, whose results lie in OUTPUT_DIR.

    Args:
        remedy: how to go on once the cause is removed, as "start again".

    Raises:
        NoSpaceError: if the block finds the disk full.
        DeviceMemoryError: if the memory of the GPU is not enough for it.
    """
    try:
        yield
    except OutOfMemory as error:
        raise DeviceMemoryError(
            f"the memory of the GPU is not enough; lower SOLVER.IMS_PER_BATCH, {cfg.SOLVER.IMS_PER_BATCH}, if it was "
            f"training, or INPUT.MIN_SIZE_TEST, {cfg.INPUT.MIN_SIZE_TEST}, if it was evaluating, and {remedy}"
        ) from error
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise NoSpaceError(
            f"{error.filename or cfg.OUTPUT_DIR}: {error.strerror}; what was there before is kept. Free some space and "
            f"{remedy}"
        ) from error
