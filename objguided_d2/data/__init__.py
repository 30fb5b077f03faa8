"""Datasets, converters, augmentation and loaders. Importing it registers the dataset names."""

from .builtin import datasets_root, register_objguided_instances

__all__ = ["datasets_root", "register_objguided_instances"]
