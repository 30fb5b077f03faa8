"""Rows of an acceptance suite: a claim, its target and what was measured for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from objguided_d2.profiling.model_under_test import DTYPES
from objguided_d2.profiling.timing import Timing

CPU_PRECISIONS: Mapping[str, torch.dtype | None] = {name: DTYPES[name] for name in ("float32", "bfloat16")}
# Name of the reference implementation among the calls of a row.
BASELINE = "loop"
# Largest difference from it, absolute of probabilities and relative of losses and gradients.
TOLERANCE_TEXT = "1e-4"
TOLERANCE = float(TOLERANCE_TEXT)


@dataclass
class Row:
    """One claim.

    Attributes:
        what, target: in words.
        measured: in words, with the spread.
        met: whether the target is reached.
        numbers: what was measured, for the JSON file.
    """

    what: str
    target: str
    measured: str
    met: bool
    numbers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """Of one run of the suite.

    Attributes:
        rounds: interleaved rounds that each call is timed in.
        configs: folder of config files.
        runs: run folders by config name, with the trained weights of the rows on a dataset.
        dataset, num_images: images of the rows on a dataset, evenly spaced.
    """

    rounds: int
    configs: Path
    runs: Path
    dataset: str
    num_images: int


def speed_row(
    what: str, timings: Mapping[str, Timing], ours: str, min_speedup: float | None, baseline: str = BASELINE
) -> Row:
    """How many times faster one call is than another; no target for a ``min_speedup`` of None."""
    ratio, low, high = timings[ours].times_faster_than(timings[baseline])
    return Row(
        what,
        f">= {min_speedup} x" if min_speedup else "no target",
        f"{ratio:.2f} x ({low:.2f} - {high:.2f}), {1000 * timings[ours].median:.0f} ms",
        min_speedup is None or ratio >= min_speedup,
        {"ratio": ratio, "quartiles": [low, high], "seconds": {n: list(t.seconds) for n, t in timings.items()}},
    )
