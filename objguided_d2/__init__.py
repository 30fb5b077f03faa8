"""Object-guided instance segmentation of biological images, as a Detectron2 extension.

Importing the package registers every model part and every dataset name, and lets freed memory stay with the process
(``allocator.py``).
"""

import sys

from .utils.allocator import keep_freed_memory

__version__ = "0.1.0"

keep_freed_memory()

try:
    from . import data, modeling  # noqa: F401  (registration)
    from .config import add_objguided_config, get_cfg
except ImportError:
    # `python -m objguided_d2.doctor` imports this first and must live to say what is missing.
    if "objguided_d2.doctor" not in sys.orig_argv:
        raise

__all__ = ["__version__", "add_objguided_config", "get_cfg"]
