"""A few of many, to look at or to measure on."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """``count`` of the items, evenly from the first to the last; all of them where there are fewer."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]
