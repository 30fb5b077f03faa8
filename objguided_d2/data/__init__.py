"""Datasets, converters, augmentation and loaders; ``builtin`` registers the dataset names."""

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from .builtin import register_objguided_instances
    from .loader import build_test_loader, build_train_loader
    from .mapper import InstanceMapper
    from .root_folder import datasets_root

__getattr__ = lazy_attributes(
    __name__,
    {
        "InstanceMapper": ".mapper",
        "build_test_loader": ".loader",
        "build_train_loader": ".loader",
        "datasets_root": ".root_folder",
        "register_objguided_instances": ".builtin",
    },
)

__all__ = [
    "InstanceMapper",
    "build_test_loader",
    "build_train_loader",
    "datasets_root",
    "register_objguided_instances",
]
