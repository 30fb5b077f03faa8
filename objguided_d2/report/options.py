"""The options of a comparison, without what imports the models."""

from dataclasses import dataclass
from typing import Literal

BEST: Literal["best"] = "best"


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        limit: detections of an image that count for AP (TEST.DETECTIONS_PER_IMAGE); of label images all do.
        score_threshold: of label maps, panels and the viewer's start; None is that of each run
            (TEST.LABEL_MAP_SCORE_THRESH), BEST the one with which each run has its best F1 at IoU 0.5 here.
        boundary_distance: pixels (TEST.BOUNDARY_DISTANCE).
        resamples: of the bootstrap.
        max_side: larger images are shrunk to it in the viewer.
        with_speed: measure speed and memory here.
    """

    limit: int = 500
    score_threshold: float | Literal["best"] | None = None
    boundary_distance: int = 2
    resamples: int = 1000
    max_side: int = 640
    with_speed: bool = True
