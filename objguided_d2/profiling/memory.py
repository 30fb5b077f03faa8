"""Peak memory of a call, measured in a new process, since the peak of a process never goes down."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from ..utils.allocator import keep_freed_memory, release_freed_memory
from ..utils.process_memory import peak_process_megabytes


def peak_megabytes(prepare: Callable[..., Callable[[], object]], *args: Any) -> float:
    """Memory that a call needs above what its preparation left in use, in MiB; of the device if there is one.

    Args:
        prepare: a function of a module, which returns the call; both run in the new process.
        args: of ``prepare``, picklable.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_prepare_and_measure, (prepare, args))


def _prepare_and_measure(prepare: Callable[..., Callable[[], object]], args: tuple) -> float:
    keep_freed_memory()  # As the processes that run models do.
    call = prepare(*args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    release_freed_memory()
    before = psutil.Process().memory_info().rss / 2**20
    _reset_peak()
    call()
    return _peak_since_reset() - before


def _reset_peak() -> None:
    """On Linux the peak is counted from now on; elsewhere it remains that of the whole process."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="ascii")


def _peak_since_reset() -> float:
    """MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_process_megabytes()
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
