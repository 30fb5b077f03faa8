"""How a command ends at Ctrl-C or SIGTERM wherever nothing else handles them."""

import os
import signal
import time
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)
REPEAT_SECONDS = 2.0  # Before, a signal may be the same once more: launchers and ``timeout`` pass it on.
_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


def end_on_signals() -> None:
    """Let Ctrl-C raise KeyboardInterrupt and SIGTERM SystemExit, so that what is half written is removed.

    In the midst of an import the process ends at once. A signal that it was started to ignore stays ignored.
    """
    last = float("-inf")

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before < REPEAT_SECONDS:
            return
        if _is_importing(frame):
            # There is nothing to remove yet, and Python's import system may swallow an exception with a lock held, for
            # which other threads then wait forever.
            os._exit(128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    _set(receive)


def end_at_once_on_signals() -> None:
    """Let them end the process as the system does by itself."""
    _set(signal.SIG_DFL)


def _set(handler: object) -> None:
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
