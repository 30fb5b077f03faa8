"""A training process before it knows of torch: importing that takes seconds, in which the launcher may die."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path

GRACE_SECONDS = 8  # for a checkpoint, once the launcher or another process has ended


def start_processes(
    function: Callable[..., None], arguments: Sequence[tuple], queue: SimpleQueue, folder: Path
) -> tuple[list[BaseProcess], list[str]]:
    """Call ``function(queue, *arguments[i])`` in new processes, which end with this one.

    Args:
        folder: for the pickled tracebacks of processes that errors end.

    Returns:
        The processes and the files of their tracebacks, which ``torch.multiprocessing.ProcessContext`` joins.
    """
    processes: list[BaseProcess] = []
    error_files = [str(folder / f"error_{index}.pickle") for index in range(len(arguments))]
    for own, error_file in zip(arguments, error_files):
        # Bytes, which import nothing before the process asks for what they hold.
        call = pickle.dumps((function, own))
        process = multiprocessing.get_context("spawn").Process(target=_run, args=(call, queue, error_file))
        process.start()
        processes.append(process)
    return processes, error_files


def _run(call: bytes, queue: SimpleQueue, error_file: str) -> None:
    end_with_launcher()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ends imports without a traceback.
    try:
        function, arguments = pickle.loads(call)
        function(queue, *arguments)
    except Exception:
        Path(error_file).write_bytes(pickle.dumps(traceback.format_exc()))
        sys.exit(1)


def end_with_launcher() -> None:
    """End this process once the one that started it is gone, be it by SIGKILL.

    It gets SIGTERM then, upon which a training saves a checkpoint. If that is of no effect, as in a call that waits for
    other processes, it is ended.
    """
    launcher = multiprocessing.parent_process()
    assert launcher is not None

    def wait_and_end() -> None:
        launcher.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=wait_and_end, name="launcher watch", daemon=True).start()
