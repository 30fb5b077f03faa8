"""Training and evaluation runs."""

from .distributed import launch
from .errors import ConfigError, EngineError, WeightsError
from .runner import run
from .setup import argument_parser, check_config, load_config
from .trainer import Trainer

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
