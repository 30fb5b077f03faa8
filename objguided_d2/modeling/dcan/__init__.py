"""Deep contour-aware networks: Chen et al., "DCAN: Deep Contour-Aware Networks for Object Instance Segmentation from
Histology Images", Medical Image Analysis 2017 (CVPR 2016)."""

from .model import DCAN

__all__ = ["DCAN"]
