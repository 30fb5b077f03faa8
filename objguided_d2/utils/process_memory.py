"""Memory of this process."""

import resource
import sys


def peak_process_megabytes() -> float:
    """MiB, the most that the process has held."""
    # Bytes on macOS, KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
