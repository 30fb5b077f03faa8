"""Masks only of what can count."""

import contextlib
from collections.abc import Iterator

from torch import nn

from ..modeling.meta_arch import finds_centers


@contextlib.contextmanager
def centers_that_count(model: nn.Module, score_threshold: float) -> Iterator[None]:
    """Meanwhile a model makes masks only of centers that can become instances of this score or more.

    MODEL.ROI_HEADS.SCORE_THRESH_TEST is low, since AP counts the worst detections too. Those under the threshold are
    left out of a prediction, and none of them suppresses one above it: the instances from the threshold on stay the
    same.

    Args:
        model: those that are no ``ObjectGuidedRCNN`` with center proposals stay as they are.
    """
    if not finds_centers(model):
        yield
        return
    generator = model.proposal_generator
    own = generator.score_thresh
    # Scores are rounded: those that are just enough must not be lost.
    generator.score_thresh = max(own, (1 - 1e-5) * model.roi_heads.least_center_score(score_threshold))
    try:
        yield
    finally:
        generator.score_thresh = own
