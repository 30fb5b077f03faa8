"""Training and evaluation runs."""

from .distributed import launch
from .run import run
from .setup import ConfigError, argument_parser, check_config, load_config
from .trainer import Trainer

__all__ = ["ConfigError", "Trainer", "argument_parser", "check_config", "launch", "load_config", "run"]
