"""From command line to a checked config: what is wrong with it is said before anything is built."""

import difflib
import os
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
)

from ..config import CONFIG_ERRORS, config_error_reason, get_cfg
from ..config_files import UnknownConfigError, get_config_file
from ..data.transforms import build_augmentation
from ..evaluation import EVALUATORS
from ..utils.device import check_device, device_here
from .amp import autocast_dtype
from .dataset_checks import check_best_metric, check_datasets, is_annotated
from .errors import ConfigError


def load_config(args: Namespace) -> CfgNode:
    """Merge ``args.config_file`` and ``args.opts`` into the defaults, choose the device and check the result.

    A config given by name is replaced by its path in ``args``, which Detectron2's ``default_setup`` reads again.

    Returns:
        The frozen config; MODEL.DEVICE is ``cpu`` where it was ``cuda`` and this machine has none.

    Raises:
        ConfigError: see :func:`check_config`; also for a missing or malformed file, unknown keys and devices.
    """
    if args.config_file:
        try:
            args.config_file = get_config_file(args.config_file)
        except UnknownConfigError as error:
            raise ConfigError(f"--config-file: {error}") from error
    return checked_config(args.config_file, args.opts or [], eval_only=args.eval_only, resume=args.resume)


def checked_config(
    file: str | os.PathLike | None, options: Sequence[str], *, eval_only: bool = False, resume: bool = False
) -> CfgNode:
    """As :func:`load_config`, from the path of a config file and KEY VALUE pairs."""
    cfg = merged_config(file, options)
    try:
        cfg.MODEL.DEVICE = device_here(cfg.MODEL.DEVICE)
        check_device(cfg.MODEL.DEVICE)
    except ValueError as error:
        raise ConfigError(f"MODEL.DEVICE: {error}") from error
    check_config(cfg, eval_only=eval_only, resume=resume)
    cfg.freeze()
    return cfg


def merged_config(file: str | os.PathLike | None, options: Sequence[str]) -> CfgNode:
    """A config file and KEY VALUE pairs merged into the defaults.

    Args:
        file: its path; None for the defaults alone.
        options: KEY VALUE pairs, which win over the file.

    Raises:
        ConfigError: for a malformed file, unknown keys, with those that are alike, and values that do not fit.
    """
    cfg = get_cfg()
    if file:
        _merge(cfg, cfg.merge_from_file, file, f"config file {file}")
    merge_options(cfg, options)
    return cfg


def check_config(cfg: CfgNode, *, eval_only: bool = False, resume: bool = False) -> None:
    """Check what would otherwise fail late or without naming its cause.

    Raises:
        ConfigError: for parts of the model and evaluators that there are not, datasets that are not registered, not on
            disk, empty or of other classes than the model's, a TEST.BEST_METRIC that no evaluation gives, weights that
            are not there, sizes, periods and augmentations that make no sense, and precisions the device does not have.
    """
    _check_names(cfg)
    check_datasets(cfg, eval_only=eval_only)
    if cfg.DATALOADER.NUM_WORKERS < 0:
        raise ConfigError(f"DATALOADER.NUM_WORKERS {cfg.DATALOADER.NUM_WORKERS}: set it to 0 or more")
    if not eval_only:
        check_best_metric(cfg, [name for name in cfg.DATASETS.TEST if is_annotated(name)])
        if cfg.SOLVER.CHECKPOINT_PERIOD < 1:
            raise ConfigError(
                f"SOLVER.CHECKPOINT_PERIOD {cfg.SOLVER.CHECKPOINT_PERIOD}: set it to a number of iterations, 1 or more"
            )
    weights = cfg.MODEL.WEIGHTS
    if eval_only and not weights and not resume:
        raise ConfigError("--eval-only needs MODEL.WEIGHTS <file>, or --resume for the last checkpoint in OUTPUT_DIR")
    # What a training began with may be gone once its own checkpoints are there.
    goes_on = resume and os.path.isfile(os.path.join(cfg.OUTPUT_DIR, "last_checkpoint"))
    if weights and not goes_on and "://" not in weights and not os.path.isfile(weights):
        raise ConfigError(f"MODEL.WEIGHTS {weights} does not exist")
    try:
        build_augmentation(cfg, is_train=not eval_only)
        autocast_dtype(cfg)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_names(cfg: CfgNode) -> None:
    """
    Raises:
        ConfigError: for a part of the model or an evaluator that there is not, with names that are alike.
    """
    parts = (
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY),
        ("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, BACKBONE_REGISTRY),
        ("MODEL.PROPOSAL_GENERATOR.NAME", cfg.MODEL.PROPOSAL_GENERATOR.NAME, PROPOSAL_GENERATOR_REGISTRY),
        ("MODEL.ROI_HEADS.NAME", cfg.MODEL.ROI_HEADS.NAME, ROI_HEADS_REGISTRY),
        ("MODEL.ROI_MASK_HEAD.NAME", cfg.MODEL.ROI_MASK_HEAD.NAME, ROI_MASK_HEAD_REGISTRY),
    )
    # Detectron2 builds nothing for this name.
    named = [(key, name, [*dict(registry), "PrecomputedProposals"]) for key, name, registry in parts]
    named += [("TEST.EVALUATORS", name, list(EVALUATORS)) for name in cfg.TEST.EVALUATORS]
    for key, name, known in named:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3) or sorted(known)
            raise ConfigError(f"{key}: there is no {name!r}; did you mean {' or '.join(close)}?")


def merge_options(cfg: CfgNode, options: Sequence[str]) -> None:
    """Merge KEY VALUE pairs of a command line.

    Raises:
        ConfigError: for unknown keys, with those that are alike, and values that do not fit.
    """
    values = with_float_values(cfg, list(options))
    _merge(cfg, cfg.merge_from_list, values, "KEY VALUE pairs at the end of the command line")


def refuse_pairs(options: Sequence[str], remedies: Mapping[str, str]) -> None:
    """Check that KEY VALUE pairs leave alone what something else decides.

    Args:
        remedies: for each such key what to do in place of a pair.

    Raises:
        ConfigError: names the first pair that does not.
    """
    for key in options[::2]:
        if key in remedies:
            raise ConfigError(f"KEY VALUE pairs cannot set {key}: {remedies[key]}")


def _merge(cfg: CfgNode, merge: Callable[[Any], None], source: Any, source_name: str) -> None:
    try:
        merge(source)
    except CONFIG_ERRORS as error:
        message = config_error_reason(error)
        hint = ""
        if message.startswith("Non-existent"):
            close = difflib.get_close_matches(message.rpartition(" ")[2], _keys(cfg), n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"{source_name}: {message}{hint}") from error


def with_float_values(cfg: CfgNode, opts: list[str]) -> list[str]:
    """``SOLVER.MAX_MINUTES 15`` as ``15.0``: a float key takes no whole number otherwise."""
    values = list(opts)
    for index in range(0, len(values) - 1, 2):
        default: Any = cfg
        for part in values[index].split("."):
            default = default.get(part) if isinstance(default, CfgNode) else None
        if isinstance(default, float) and re.fullmatch(r"[+-]?\d+", values[index + 1]):
            values[index + 1] += ".0"
    return values


def _keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, value in cfg.items():
        keys += _keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else [prefix + name]
    return keys
