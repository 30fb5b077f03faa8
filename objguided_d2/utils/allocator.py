"""Freed memory stays with the process, for a CPU that would otherwise spend a good part of its time on page faults.

PyTorch takes the memory of every CPU tensor from the C library. glibc gives large blocks back to the system as soon as
they are freed and asks for them again for the next tensor; the system then clears every page anew. Feature maps are
such blocks: a forward pass of the mask head took 1.4 to 2.8 times as long with that as without.

Kept memory is a heap with holes, and what fits into none of them makes it grow: with blocks of any size kept, a process
that had trained Mask R-CNN grew to 12.7 GB as it evaluated it. Blocks of hundreds of megabytes are few, and go back.
"""

import ctypes
import os
import sys
from collections.abc import Callable

OPT_OUT = "OBJGUIDED_D2_KEEP_MALLOC"

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_NEVER = 2**31 - 1
# Feature maps of a tile of 1280 x 1280 pixels are smaller.
_LARGEST_KEPT = 2**27


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 128 MiB for the next tensors.

    Returns:
        whether it was done: not on other systems than Linux with glibc, and not where the environment variable
        ``OBJGUIDED_D2_KEEP_MALLOC`` is set.
    """
    mallopt = _glibc("mallopt")
    if os.environ.get(OPT_OUT) or mallopt is None:
        return False
    return all(
        [mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT), mallopt(_M_TRIM_THRESHOLD, _NEVER), mallopt(_M_TOP_PAD, 64 * 2**20)]
    )


def release_freed_memory() -> None:
    """Give what is freed back to the system, where it is kept: memory in use can be measured after that."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None on other systems. Windows does not even have this process as a library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
