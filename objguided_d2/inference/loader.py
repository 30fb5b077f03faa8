"""A trained model from its run folder, or from a config and a weights file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..config import CONFIG_ERRORS, config_error_reason, get_cfg
from ..config_files import UnknownConfigError
from ..engine.weights import WeightsError, load_weights
from ..utils.device import device_here

CONFIG_FILE = "config.yaml"
# The best model by TEST.BEST_METRIC goes first; a run without evaluations has the last one alone.
WEIGHTS_FILES = ("model_best.pth", "model_final.pth")


class LoadError(ValueError):
    """Nothing that a model can be loaded from. The message names the folder or file and what to do."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict.

    Attributes:
        cfg: its frozen config; MODEL.WEIGHTS is ``weights`` and MODEL.DEVICE the model's device.
        model: in eval mode.
        weights: the file they came from.
    """

    cfg: CfgNode
    model: nn.Module
    weights: str


def load_model(
    run_folder_or_config: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    *,
    device: str | None = None,
    options: Sequence[object] = (),
) -> LoadedModel:
    """Build a model and load its weights.

    Args:
        run_folder_or_config: OUTPUT_DIR of a training or its ``config.yaml``, or a config by path or name
            (:func:`..config_files.get_config_file`).
        weights: for a config, the file; by default its MODEL.WEIGHTS. For a run folder a file, or the name of one in
            the folder; by default ``model_best.pth``, else ``model_final.pth``.
        device: as ``cpu`` or ``cuda:1``; by default MODEL.DEVICE, or the CPU where that is CUDA and there is none.
        options: KEY, VALUE pairs over the config.

    Raises:
        LoadError: for a folder or config that is missing or has no ``config.yaml``, a config that cannot be read, and
            weights that are missing, damaged or another model's.
    """
    source = run_folder(run_folder_or_config) or Path(run_folder_or_config)
    if source.is_dir():
        config = source / CONFIG_FILE
        if not config.is_file():
            raise LoadError(f"{source} has no {CONFIG_FILE}: give the OUTPUT_DIR of a training, or a config")
        weights = _weights_in(source, weights)
    else:
        config = source
    cfg = _read_config(config, options)
    weights = os.fspath(weights or cfg.MODEL.WEIGHTS)
    if not weights:
        raise LoadError(f"config {run_folder_or_config} has no MODEL.WEIGHTS: give a weights file, or a run folder")
    cfg.MODEL.WEIGHTS = weights
    cfg.MODEL.DEVICE = device or device_here(cfg.MODEL.DEVICE)
    cfg.freeze()
    model = build_model(cfg).eval()
    try:
        load_weights(model, weights)
    except WeightsError as error:
        raise LoadError(str(error)) from error
    return LoadedModel(cfg, model, weights)


def run_folder(path: str | os.PathLike) -> Path | None:
    """The OUTPUT_DIR of a training that a path names, by itself or by its ``config.yaml``; None where it is neither.

    MODEL.WEIGHTS of that config is what the training began with, not what it learned.
    """
    path = Path(path)
    if path.is_dir():
        return path
    return path.parent if path.name == CONFIG_FILE and weights_in(path.parent) else None


def weights_in(folder: Path, names: Sequence[str] = WEIGHTS_FILES) -> Path | None:
    """The first of ``names`` that is there in an OUTPUT_DIR, None without any."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _weights_in(folder: Path, weights: str | os.PathLike | None) -> str:
    if weights is not None:
        inside = folder / weights
        return os.fspath(inside if inside.is_file() else weights)
    found = weights_in(folder)
    if found is None:
        raise LoadError(f"{folder} has no weights ({' or '.join(WEIGHTS_FILES)}): the training has not ended yet")
    return str(found)


def _read_config(config: Path, options: Sequence[object]) -> CfgNode:
    try:
        cfg = get_cfg(config)
        cfg.merge_from_list(list(options))
    except UnknownConfigError as error:
        raise LoadError(f"{error}, and there is no such run folder") from error
    except CONFIG_ERRORS as error:
        raise LoadError(f"config {config} cannot be used: {config_error_reason(error)}") from error
    return cfg
