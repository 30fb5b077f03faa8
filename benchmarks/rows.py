"""Rows of a benchmark suite: a claim, its target and what was measured for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.profiling.models import PRECISIONS
from objguided_d2.profiling.timing import Timing
from objguided_d2.structures.ragged_masks import RaggedROIMasks

CPU_PRECISIONS: Mapping[str, torch.dtype | None] = {name: PRECISIONS[name] for name in ("float32", "bfloat16")}


class Opponents(Protocol):
    """The plain programs, given from outside: what this package does not contain. Shapes and units as in its own."""

    def masks(self, head: ObjectGuidedMaskHead, maps: list[Tensor], boxes: Tensor) -> list[Tensor]:
        """Probabilities (h, w) of every box of one image, by a good loop over ROIs."""

    def losses(self, head: ObjectGuidedMaskHead, maps: list[Tensor], targets: Instances, seed: int) -> Sequence[Tensor]:
        """Mask loss and refinement loss, weighted as the head's, with points drawn from the same seed."""

    def postprocess(self, masks: RaggedROIMasks, scores: Tensor, threshold: float, nms: float) -> list[dict]:
        """RLEs of the instances kept, best first, by a loop over masks as large as the image."""

    def inference(self, model: nn.Module, image: dict, boxes: Tensor) -> list[dict]:
        """RLEs of one image's given boxes by the plain path."""


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
        rounds: turns that each opponent takes.
        configs: folder of config files.
        runs: run folders by config name, with the trained weights of the rows on real images.
        dataset, num_images: real images, evenly taken from a data set.
    """

    opponents: Opponents
    rounds: int
    configs: Path
    runs: Path
    dataset: str
    num_images: int


def speed_row(what: str, timings: Mapping[str, Timing], ours: str, least: float | None, theirs: str = "loop") -> Row:
    ratio, low, high = timings[ours].times_faster_than(timings[theirs])
    return Row(
        what,
        f">= {least} x" if least else "no target",
        f"{ratio:.2f} x ({low:.2f} - {high:.2f}), {1000 * timings[ours].median:.0f} ms",
        least is None or ratio >= least,
        {"ratio": ratio, "quartiles": [low, high], "seconds": {n: list(t.seconds) for n, t in timings.items()}},
    )
