"""Cosine embeddings as a Detectron2 meta-architecture: backbone -> stacked hourglass -> clusters of embeddings."""

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import Conv2d
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ..label_map import IGNORED, LabeledObjects, label_classes, mean_over_labels
from ..label_map_model import LabelMapModel
from ..valid_values import check_values
from .grouping import group_embeddings
from .hourglass import BackboneTop, Hourglass, StackedHourglass
from .loss import cosine_embedding_loss
from .neighbors import find_neighbors


@META_ARCH_REGISTRY.register()
class CosineEmbedding(LabelMapModel):
    """Each pixel gets an embedding, alike within an object and orthogonal to others near it (Payer et al., MedIA 2019).

    The backbone takes the place of the first hourglass' way down. With K > 1 classes a classifier of the pixels of
    objects names the clusters (ours: the paper has one class). The score of an object is the mean cosine of its
    embeddings with their mean, times the mean probability of its class (ours, which AP needs).

    Args:
        hourglasses: see :class:`StackedHourglass`.
        channels: of the map that it gives.
        neighbor_distance: of the loss, in input pixels.
        coordinate_scale, min_area, max_samples: of :func:`group_embeddings`.
        Others: see :class:`LabelMapModel`.
    """

    @configurable
    def __init__(
        self,
        *,
        hourglasses: nn.Module,
        channels: int,
        neighbor_distance: int,
        coordinate_scale: float,
        min_area: int,
        max_samples: int,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_values(
            "MODEL.COSINE_EMBEDDING",
            (
                ("NEIGHBOR_DISTANCE", neighbor_distance, neighbor_distance >= 1),
                ("COORDINATE_SCALE", coordinate_scale, coordinate_scale > 0),
                ("MIN_AREA", min_area, min_area >= 0),
                ("MAX_SAMPLES", max_samples, max_samples >= 100),
            ),
        )
        self.hourglasses = hourglasses
        self.classifier = Conv2d(channels, self.num_classes, 1) if self.num_classes > 1 else None
        self.neighbor_distance = neighbor_distance
        self.grouping = {"coordinate_scale": coordinate_scale, "min_area": min_area, "max_samples": max_samples}

    @classmethod
    def from_config(cls, cfg) -> dict:
        own = cfg.MODEL.COSINE_EMBEDDING
        base = super().from_config(cfg)
        shapes = base["backbone"].output_shape()
        if not {"c1", "c2", "c3"} <= set(shapes):
            raise ValueError(
                f"MODEL.BACKBONE.NAME = {cfg.MODEL.BACKBONE.NAME!r} has maps {list(shapes)}; CosineEmbedding needs "
                "those of build_resnet_unet_backbone"
            )
        if own.NUM_LEVELS < 1:
            raise ValueError(f"MODEL.COSINE_EMBEDDING.NUM_LEVELS must be at least 1, not {own.NUM_LEVELS}")
        channels, embedding = own.CHANNELS, own.EMBEDDING_CHANNELS
        return {
            **base,
            "hourglasses": StackedHourglass(
                BackboneTop(shapes, channels, own.NORM),
                Hourglass(channels + embedding, channels, own.NUM_LEVELS, own.NORM),
                channels,
                embedding,
            ),
            "size_divisibility": max(base["size_divisibility"], 2 ** (own.NUM_LEVELS - 1)),
            "channels": channels,
            "neighbor_distance": own.NEIGHBOR_DISTANCE,
            "coordinate_scale": own.COORDINATE_SCALE,
            "min_area": own.MIN_AREA,
            "max_samples": own.MAX_SAMPLES,
        }

    def losses(self, images: Tensor, label_maps: list[Tensor], classes: list[Tensor]) -> dict[str, Tensor]:
        """ "loss_embedding" of the second hourglass, "loss_embedding_first", and "loss_class" if there are classes."""
        neighbors = [
            find_neighbors(labels.cpu(), len(c), self.neighbor_distance).to(self.device)
            for labels, c in zip(label_maps, classes)
        ]
        labels = torch.stack(label_maps).to(self.device)
        (first, second), x = self.hourglasses(self.backbone(images))
        losses = {
            "loss_embedding": cosine_embedding_loss(second, labels, neighbors),
            "loss_embedding_first": cosine_embedding_loss(first, labels, neighbors),
        }
        if self.classifier is not None:
            # The background has no class here.
            target = (label_classes(labels, [c.to(self.device) for c in classes]) - 1).clamp(min=IGNORED)
            loss = F.cross_entropy(self.classifier(x).float(), target, ignore_index=IGNORED, reduction="sum")
            losses["loss_class"] = loss / (target != IGNORED).sum().clamp(min=1)
        return losses

    def segment(self, image: Tensor, size: tuple[int, int]) -> LabeledObjects:
        """See :meth:`LabelMapModel.segment`."""
        height, width = size
        (_, embeddings), x = self.hourglasses(self.backbone(image))
        label_map, scores = group_embeddings(embeddings[0, :, :height, :width].cpu().numpy(), **self.grouping)
        if self.classifier is None:
            return LabeledObjects(label_map, scores, np.zeros(len(scores), np.int64))
        p_classes = self.classifier(x).float()[0, :, :height, :width].softmax(0).cpu().numpy()
        means = mean_over_labels(label_map, p_classes)
        return LabeledObjects(label_map, scores * means.max(1), means.argmax(1))
