"""Times of several calls in interleaved rounds, so that other load on the machine affects all of them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one call in each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.quantile(self.seconds, [0.25, 0.75])
        return float(low), float(high)

    def times_faster_than(self, other: "Timing") -> tuple[float, float, float]:
        """Median and quartiles of the ratio of the other's seconds to these, round by round."""
        low, median, high = np.quantile(np.divide(other.seconds, self.seconds), [0.25, 0.5, 0.75])
        return float(median), float(low), float(high)


def measure_once(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until all work that it has started on ``device`` is done."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1000
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved_rounds(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | str = "cpu", warmup: int = 1
) -> dict[str, Timing]:
    """Call everything once per round: A B C, A B C, ...

    Args:
        calls: by name.
        rounds: that are timed.
        device: whose work counts, see :func:`measure_once`.
        warmup: rounds before them, which are not timed.

    Returns:
        name -> its seconds in each timed round.
    """
    device = torch.device(device)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_index in range(warmup + rounds):
        for name, call in calls.items():
            elapsed = measure_once(call, device)
            if round_index >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
