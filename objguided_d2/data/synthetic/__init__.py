"""Synthetic images of nuclei, neurons and leaves with exact masks: data for demos and tests that need no download."""

from .dataset import KINDS, make_image, write_synthetic_dataset
from .imaging import SyntheticImage

__all__ = ["KINDS", "SyntheticImage", "make_image", "write_synthetic_dataset"]
