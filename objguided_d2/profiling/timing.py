"""Times of several calls in one run, taken in turns, so that what else the machine does hits all of them alike."""

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
    """Seconds of one call, with all that it has started on ``device`` done."""
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


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | str = "cpu", warmup: int = 1
) -> dict[str, Timing]:
    """Call everything once a round: A B C, A B C, ...

    Args:
        warmup: rounds that do not count.
    """
    device = torch.device(device)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            elapsed = measure_once(call, device)
            if turn >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
