"""How many objects a large image may hold."""

import contextlib
import math
from collections.abc import Iterator

from torch import Tensor, nn

from ..modeling.meta_arch import finds_centers


@contextlib.contextmanager
def object_limits(model: nn.Module, factor: float) -> Iterator[float]:
    """Meanwhile a model keeps ``factor`` times as many objects of an image, if that is more.

    CENTER_HEAD.TOPK and TEST.DETECTIONS_PER_IMAGE bound the objects of an image of the config's size. A larger image,
    or a tile of one, holds more of them by as much as it is larger: a bound meant for 256 x 256 pixels would drop most
    nuclei of a tile of 1280 x 1280 without a word.

    Args:
        model: those that are no ``ObjectGuidedRCNN`` with center proposals stay as they are.
        factor: pixels in the network by those of the config's size.

    Yields:
        the lower bound of the two, for :func:`may_hold_more`. Infinite for models whose bounds are unknown.
    """
    if not finds_centers(model):
        yield math.inf
        return
    generator = model.proposal_generator
    topk, max_detections = generator.topk, model.roi_heads.max_detections
    if factor > 1:
        generator.topk, model.roi_heads.max_detections = (math.ceil(factor * one) for one in (topk, max_detections))
    try:
        yield min(generator.topk, model.roi_heads.max_detections)
    finally:
        generator.topk, model.roi_heads.max_detections = topk, max_detections


def may_hold_more(scores: Tensor, limit: float, score_threshold: float) -> bool:
    """Whether an image may hold objects that the limits have left out.

    What is left out has weaker centers than all within the limits. Where even of these none of the weaker half becomes
    an object, as in noise that is full of weak centers, those beyond would not either.

    Args:
        scores: (N,) of the detections before post-processing, the best center first.
        limit: see :func:`object_limits`.
        score_threshold: of objects.
    """
    return len(scores) >= limit and bool((scores[len(scores) // 2 :] >= score_threshold).any())
