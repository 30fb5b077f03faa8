"""What the processes of a local cluster load as they start: Ctrl-C in a terminal is for the one that started them."""

import signal


def dask_setup(worker: object) -> None:
    """Called by dask. Without this the file in work would be lost at the Ctrl-C that asks to end after it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
