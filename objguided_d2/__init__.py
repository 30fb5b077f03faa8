"""Object-guided instance segmentation of biological images, as a Detectron2 extension.

Importing the package is cheap and changes nothing: each name below is imported when it is first used. Detectron2 knows
our model parts and dataset names from the first use of any of them on (``add_objguided_config`` is what every config of
ours needs anyway), or after :func:`register`. docs/api.md shows each in three lines.
"""

import importlib
from typing import TYPE_CHECKING

from .utils.lazy import lazy_attributes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .config import add_objguided_config, get_cfg
    from .config_files import get_config_file
    from .data.builtin import register_objguided_instances
    from .finetuning.finetune import finetune
    from .inference.loader import load_model
    from .inference.predictor import Predictor

__getattr__ = lazy_attributes(
    __name__,
    {
        "Predictor": ".inference.predictor",
        "add_objguided_config": ".config",
        "finetune": ".finetuning.finetune",
        "get_cfg": ".config",
        "get_config_file": ".config_files",
        "load_model": ".inference.loader",
        "register_objguided_instances": ".data.builtin",
    },
)

__all__ = [
    "Predictor",
    "__version__",
    "add_objguided_config",
    "finetune",
    "get_cfg",
    "get_config_file",
    "load_model",
    "register",
    "register_objguided_instances",
]


def register() -> None:
    """Make Detectron2's registries and catalogs know our model parts and dataset names; again does nothing."""
    for module in (".data.builtin", ".modeling"):
        importlib.import_module(module, __name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
