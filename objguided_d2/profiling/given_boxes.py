"""Boxes that a mask stage gets in place of detections, so that models do the same work there.

Glossary: R boxes of an image.
"""

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

# Key of a mapped image: which of the given sets of boxes is its own.
INDEX_KEY = "benchmark_index"
# Scores of the boxes, falling from the first to the last.
FIRST_SCORE, LAST_SCORE = 0.99, 0.5


class GivenBoxes(nn.Module):
    """A model of Detectron2's ``GeneralizedRCNN`` family whose mask stage gets other boxes than the detected ones.

    Args:
        model: see above.
        given: sets of boxes (R, 4), XYXY in input pixels; an image names its own by ``INDEX_KEY``.
    """

    def __init__(self, model: nn.Module, given: Sequence[Tensor]):
        super().__init__()
        self.model, self.given = model, [boxes.to(model.device) for boxes in given]

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        model = self.model
        images = model.preprocess_image(batched_inputs)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        if hasattr(model.roi_heads, "_forward_box"):
            model.roi_heads._forward_box(features, proposals)
        else:
            proposals = [model.roi_heads.select(p) for p in proposals]
        instances = [
            given_instances(self.given[inputs[INDEX_KEY]], size)
            for inputs, size in zip(batched_inputs, images.image_sizes)
        ]
        instances = model.roi_heads.forward_with_given_boxes(features, instances)
        return model._postprocess(instances, batched_inputs, images.image_sizes)


def given_instances(boxes: Tensor, image_size: tuple[int, int]) -> Instances:
    """Detections of class 0 with boxes (R, 4) and falling scores."""
    return Instances(
        image_size,
        pred_boxes=Boxes(boxes.clone()),
        scores=torch.linspace(FIRST_SCORE, LAST_SCORE, len(boxes), device=boxes.device),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device),
    )


def random_boxes(count: int, side: float, image_size: int, seed: int = 0, spread: float = 0.25) -> Tensor:
    """(count, 4) XYXY inside a square image; sides are uniform in ``side`` x [1 - spread, 1 + spread]."""
    generator = torch.Generator().manual_seed(seed)
    size = side * (1 + spread * (2 * torch.rand(count, 2, generator=generator) - 1))
    low = torch.rand(count, 2, generator=generator) * (image_size - size)
    return torch.cat([low, low + size], 1)
