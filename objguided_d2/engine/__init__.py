"""Training and evaluation runs."""

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from .arguments import argument_parser
    from .distributed import launch
    from .errors import ConfigError, EngineError, WeightsError
    from .runner import run
    from .setup import check_config, load_config
    from .trainer import Trainer

__getattr__ = lazy_attributes(
    __name__,
    {
        "ConfigError": ".errors",
        "EngineError": ".errors",
        "Trainer": ".trainer",
        "WeightsError": ".errors",
        "argument_parser": ".arguments",
        "check_config": ".setup",
        "launch": ".distributed",
        "load_config": ".setup",
        "run": ".runner",
    },
)

__all__ = [
    "ConfigError",
    "EngineError",
    "Trainer",
    "WeightsError",
    "argument_parser",
    "check_config",
    "launch",
    "load_config",
    "run",
]
