"""Memory of this process."""

import sys

try:
    import resource
except ImportError:  # Windows
    import psutil


def peak_process_megabytes() -> float:
    """MiB, the most that the process has held."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    # Bytes on macOS, KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
