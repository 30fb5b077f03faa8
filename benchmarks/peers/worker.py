"""A method in a process of its own, which predicts when it is asked to.

    python -m benchmarks.peers.worker METHOD MODEL THREADS

Says that it is ready, then reads the path of an image from each line of its standard input and answers with the number
of its objects and the most memory that the process has held so far. An image is read once, however often it is asked
for. :class:`Worker` is the other end.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from objguided_d2.utils.process_memory import peak_process_megabytes

READY = "ready"


class Answer(NamedTuple):
    """Objects in an image, and MiB of memory: the process's peak so far."""

    objects: int
    peak: float


class Worker:
    """The method in another process, perhaps with another Python.

    Args:
        command: runs this module.

    Raises:
        RuntimeError: if it ends before it is ready, or before it answers; what it said is on standard error.
    """

    def __init__(self, command: Sequence[str]):
        self._command = list(command)
        # Threads that wait for work must not take the cores from the method whose turn it is.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._answer() != READY:
            raise RuntimeError(f"{' '.join(self._command)} said something else than '{READY}'")

    def predict(self, path: Path) -> Answer:
        """Predict an image."""
        print(path, file=self._process.stdin, flush=True)
        objects, peak = self._answer().split()
        return Answer(int(objects), float(peak))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with status {self._process.wait()}")
        return line.strip()


def serve(
    predict: Callable[[np.ndarray], np.ndarray], read: Callable[[Path], np.ndarray], lines: TextIO, answers: TextIO
) -> None:
    """Answer each line for the image that it names, see the module; images are read once."""
    read = cache(read)
    print(READY, file=answers, flush=True)
    for line in lines:
        objects = len(np.setdiff1d(predict(read(Path(line.strip()))), [0]))
        print(objects, peak_process_megabytes(), file=answers, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Load the method and serve until standard input ends."""
    method, model, threads = sys.argv[1:] if argv is None else argv
    # What libraries print must not reach the other end.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from .dataset import read_image
    from .methods import load

    serve(load(method, model, int(threads)), read_image, sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
