"""Work in one thread ahead of another: reading never waits for the network, nor the network for reading."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def prefetch(items: Iterable[Item], ahead: int = 2) -> Generator[Item, None, None]:
    """Give the items of an iterable, in order, that a thread makes up to ``ahead`` before they are asked for.

    An error of the iterable is raised where its item would have come. When the reader stops early, so does the thread.
    """
    done = threading.Event()
    made: queue.Queue = queue.Queue(maxsize=ahead)

    def put(item: object) -> bool:
        while not done.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put(_END)
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (made_item := made.get()) is not _END:
            item, error = made_item
            if error is not None:
                raise error
            yield item
    finally:
        done.set()
        thread.join()
