"""Cosine embeddings, on single images without the recurrence: Payer et al., "Segmenting and tracking cell instances
with cosine embeddings and recurrent hourglass networks", Medical Image Analysis 2019 (MICCAI 2018)."""

from .model import CosineEmbedding

__all__ = ["CosineEmbedding"]
