"""Decoded samples kept in memory."""

from collections.abc import Callable, Hashable
from typing import TypeVar

Value = TypeVar("Value")


class BoundedCache:
    """Keeps what was loaded until ``max_bytes`` are used, then loads the rest anew each time.

    Nothing is ever thrown out: training visits every image once per epoch in random order, so what was used last is
    no likelier to come next than anything else.
    """

    def __init__(self, max_bytes: int) -> None:
        self.free_bytes = max_bytes
        self._values: dict = {}

    def get(self, key: Hashable, load: Callable[[], Value], num_bytes: Callable[[Value], int]) -> Value:
        """The value of ``key``: the one kept, or that of ``load()``, kept if its ``num_bytes`` are still free."""
        if key in self._values:
            return self._values[key]
        value = load()
        size = num_bytes(value)
        if size <= self.free_bytes:
            self.free_bytes -= size
            self._values[key] = value
        return value
