"""Datasets, converters, augmentation and loaders. Importing it registers the dataset names."""

from .builtin import datasets_root, register_objguided_instances
from .loader import build_test_loader, build_train_loader
from .mapper import InstanceMapper

__all__ = [
    "InstanceMapper",
    "build_test_loader",
    "build_train_loader",
    "datasets_root",
    "register_objguided_instances",
]
