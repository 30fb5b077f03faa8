"""Resuming with other settings: what is ignored is said, what cannot fit is refused."""

import logging
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from torch import nn

from ..config import CONFIG_ERRORS, config_error_reason, get_cfg
from .errors import ConfigError
from .weights import misfits

logger = logging.getLogger(__name__)

# Overridden by what the checkpoint holds: the states of the optimizer, its schedule and the random streams.
IGNORED = (
    "SEED",
    "MODEL.WEIGHTS",
    "SOLVER.ADAM_BETAS",
    "SOLVER.BASE_LR",
    "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.MOMENTUM",
    "SOLVER.NESTEROV",
    "SOLVER.WEIGHT_DECAY",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.WEIGHT_DECAY_NORM",
)
# May differ from machine to machine.
NOT_COMPARED = ("OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "VERSION")
# Nor do these change what a run that has ended has learned and how good it is.
NOT_OF_THE_RESULT = (
    *NOT_COMPARED,
    "CUDNN_BENCHMARK",
    "INPUT.CACHE_MEGABYTES",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.COCO_EVAL",
    "TEST.EVAL_PERIOD",
    "TEST.EXPECTED_RESULTS",
    "VIS_PERIOD",
)


def settings_to_resume_with(path: str, checkpoint: dict[str, Any], cfg: CfgNode, model: nn.Module) -> CfgNode:
    """Compare ``cfg`` with the settings that a checkpoint was written with, and say what differs.

    Args:
        path: of the checkpoint, for messages.
        checkpoint: its content, see :meth:`.trainer.Trainer.state_dict`. One of an older version has no settings.
        model: built by ``cfg``.

    Returns:
        The settings that hold from here on: ``cfg``, except that what is ignored keeps its former value.
    Raises:
        ConfigError: if the checkpoint is of another model or optimizer.
    """
    stored = checkpoint["trainer"].get("config")
    former = _flat(yaml.safe_load(stored)) if stored else {}
    present = _flat(yaml.safe_load(cfg.dump()))
    differing = [key for key in present if key in former and former[key] != present[key] and key not in NOT_COMPARED]
    if other := misfits(checkpoint["model"], model, training=True):
        keys = [key for key in differing if key.startswith("MODEL.") and key not in IGNORED]
        raise ConfigError(
            _refusal(path, keys, cfg, former)
            if keys
            else f"--resume: {path} is of another model: {len(other)} parameters differ, as {other[0]}; give the "
            "config that it was trained with, or train into another OUTPUT_DIR"
        )
    if "SOLVER.OPTIMIZER" in differing:
        raise ConfigError(_refusal(path, ["SOLVER.OPTIMIZER"], cfg, former))
    ignored = [key for key in differing if key in IGNORED and not (key == "SEED" and present[key] < 0)]
    changed = [key for key in differing if key not in IGNORED]
    if ignored:
        logger.warning("--resume ignores %s: the checkpoint goes on with its own", _describe(ignored, cfg, former))
    if changed:
        logger.warning("--resume goes on with other settings: %s", _describe(changed, cfg, former))
    kept = cfg.clone()
    kept.defrost()
    for key in (key for key in differing if key in IGNORED):
        kept.merge_from_list([key, former[key]])
    kept.freeze()
    return kept


def check_same_settings(folder: Path, cfg: CfgNode) -> None:
    """Check that the run of a folder, if it has weights, was made with the settings of ``cfg``.

    Keys that it does not know, as it is of an older version, count as their defaults.

    Raises:
        ConfigError: if not, with the keys and both values; or if its config.yaml does not tell.
    """
    if not any(folder.glob("model_*.pth")):
        return
    try:
        saved = _flat(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    except (*CONFIG_ERRORS, AttributeError) as error:
        raise ConfigError(
            f"{folder} holds a run whose config.yaml does not tell its settings ({config_error_reason(error)}); give "
            "another --output, or delete the folder"
        ) from error
    former, present = {**_flat(yaml.safe_load(get_cfg().dump())), **saved}, _flat(yaml.safe_load(cfg.dump()))
    differing = [key for key in present if former[key] != present[key] and key not in NOT_OF_THE_RESULT]
    if differing:
        changes = ", ".join(f"{key} {former[key]} (now {present[key]})" for key in differing)
        raise ConfigError(
            f"{folder} holds a run of other settings: {changes}; set that back, give another --output, or delete the "
            "folder to train it anew"
        )


def _refusal(path: str, keys: list[str], cfg: CfgNode, former: dict[str, Any]) -> str:
    return (
        f"--resume: {path} does not fit these settings: {_describe(keys, cfg, former)}; set that back, or train into "
        "another OUTPUT_DIR"
    )


def _describe(keys: list[str], cfg: CfgNode, former: dict[str, Any]) -> str:
    present = _flat(yaml.safe_load(cfg.dump()))
    return ", ".join(f"{key} {present[key]} (was {former[key]})" for key in keys)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
