"""What ends a run and is no defect of the program: one line that says what is wrong and what to do."""


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


class DeviceMemoryError(EngineError, RuntimeError):
    """A GPU whose memory is not enough; the message names what takes less."""


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
