"""Results of single images, brought together from all processes."""

import itertools
from collections.abc import Mapping

import detectron2.utils.comm as comm


def gather_by_image(results: Mapping, distributed: bool) -> dict | None:
    """What all processes have found, by image id; None on all processes but the main one.

    Args:
        results: image id -> anything that can be pickled, of this process.
        distributed: False to take this process alone for all there is.
    """
    if not distributed:
        return dict(results)
    comm.synchronize()
    gathered = comm.gather(dict(results), dst=0)
    if not comm.is_main_process():
        return None
    return dict(itertools.chain.from_iterable(part.items() for part in gathered))
