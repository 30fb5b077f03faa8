"""The cosine embedding loss (Payer et al.): alike within an object, orthogonal to what is near it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..label_map import IGNORED
from .neighbors import Neighbors


def cosine_embedding_loss(embeddings: Tensor, label_maps: Tensor, neighbors: list[Neighbors]) -> Tensor:
    """Mean over images of the mean over their objects, background being one, of

        1 - mean over the object's pixels p of cos(m, e_p) + mean over its neighbors q of cos(m, e_q)^2,

    where m is the mean of the object's embeddings. An object without neighbors has no second term.

    Args:
        embeddings: (N, E, H, W) float32 of length 1.
        label_maps: (N, H, W) int64, see ``modeling/label_map.py``.
        neighbors: of each image.
    """
    num_images, channels, height, width = embeddings.shape
    device = embeddings.device
    flat = embeddings.permute(0, 2, 3, 1).reshape(-1, channels)
    # One list of segments for the batch: every image has as many as the one with most objects, and its background.
    per_image = int(label_maps.max().clamp(min=0)) + 1
    num_segments = num_images * per_image
    first = torch.arange(num_images, device=device) * per_image
    # A last segment takes what is ignored.
    owner = torch.where(label_maps == IGNORED, num_segments, label_maps + first.view(-1, 1, 1)).flatten()
    sums = flat.new_zeros(num_segments + 1, channels).index_add(0, owner, flat)[:-1]
    counts = torch.bincount(owner, minlength=num_segments + 1)[:-1]
    # The cosines with the mean of unit vectors add up to the length of their sum.
    length = sums.square().sum(1).clamp(min=1e-12).sqrt()
    present = counts > 0
    pull = 1 - length / counts.clamp(min=1)
    means = sums / length[:, None]

    pair_segment = torch.cat([n.label + offset for n, offset in zip(neighbors, first)])
    pair_pixel = torch.cat([n.pixel + i * height * width for i, n in enumerate(neighbors)])
    cosine = (F.embedding(pair_segment, means) * F.embedding(pair_pixel, flat)).sum(1)
    push = length.new_zeros(num_segments).index_add(0, pair_segment, cosine.square())
    push = push / torch.bincount(pair_segment, minlength=num_segments).clamp(min=1)

    per_object = ((pull + push) * present).view(num_images, per_image)
    per_image_count = present.view(num_images, per_image).sum(1)
    return (per_object.sum(1) / per_image_count.clamp(min=1)).sum() / (per_image_count > 0).sum().clamp(min=1)
