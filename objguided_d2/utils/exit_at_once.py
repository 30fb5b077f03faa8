"""The end of a process that a signal has stopped."""

import atexit
import os
import sys
from typing import NoReturn


def exit_at_once(status: int) -> NoReturn:
    """End this process as Python ends a forked one: exit functions run, and the system takes back the rest.

    Taking apart all that was imported may take longer than whoever sent the signal waits, on a machine that is busy
    with the other processes doing the same.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
