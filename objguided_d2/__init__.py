"""Object-guided instance segmentation of biological images, as a Detectron2 extension.

Importing the package registers every model part and every dataset name.
"""

__version__ = "0.1.0"

from . import data, modeling  # noqa: F401  (registration)
from .config import add_objguided_config, get_cfg

__all__ = ["__version__", "add_objguided_config", "get_cfg"]
