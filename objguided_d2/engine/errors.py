"""What ends a run and is no defect of the program: one line that says what is wrong and what to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..utils.full_disk import is_full_disk


class EngineError(Exception):
    """Base of these errors. The message is one line for the person who started the run.

    Attributes:
        exit_status: of the process; 2 is left to arguments that make no command.
    """

    exit_status = 1


class ConfigError(EngineError, ValueError):
    """A command line or config file that cannot work; the message names the key or file and what to do."""


class WeightsError(EngineError, ValueError):
    """A weights file that is missing, damaged or another model's; the message names it and what to do."""


class DivergenceError(EngineError, FloatingPointError):
    """A loss or a weight that is NaN or infinite; the message says where and when."""


class NoSpaceError(EngineError, OSError):
    """A full disk; the message names the file."""


class ProcessError(EngineError):
    """A process of a distributed run that died."""


class Interruption(BaseException):
    """A signal that ends a run, which can be resumed.

    No Exception, like KeyboardInterrupt: code that handles errors of its own must not take it for one.

    Args:
        number: of the signal.
        at_once: the other processes of the run may be at another point, and end by themselves.

    Attributes:
        exit_status: of the process, as a shell has it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int, at_once: bool = False) -> None:
        super().__init__(number, at_once)
        self.number, self.at_once = number, at_once
        self.exit_status = 128 + number


@contextmanager
def full_disk_in_one_line(folder: str | os.PathLike, remedy: str) -> Iterator[None]:
    """A block whose results lie in a folder.

    Args:
        remedy: what to do once there is space, as "start again".

    Raises:
        NoSpaceError: if the block finds the disk full.
    """
    try:
        yield
    except OSError as error:
        if not is_full_disk(error):
            raise
        raise NoSpaceError(
            f"{error.filename or os.fspath(folder)}: {error.strerror}; what was there before is kept. Free some space "
            f"and {remedy}"
        ) from error
