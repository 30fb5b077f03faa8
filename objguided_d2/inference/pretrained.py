"""A model from whatever names one: a bundle file, a run folder, a config with weights, or a name that we ship."""

import dataclasses
import difflib
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import nn

from .bundle import BundleError, load_bundle, write_bundle
from .loader import load_model
from .model_info import ModelInfo

SHIPPED = Path(__file__).parent.parent / "models"


class Pretrained(NamedTuple):
    """A model in eval mode on its device, its frozen config and what else is known of it."""

    cfg: CfgNode
    model: nn.Module
    info: ModelInfo


def load_pretrained(
    model: str | os.PathLike, *, weights: str | os.PathLike | None = None, device: str | None = None
) -> Pretrained:
    """Load a model.

    Args:
        model: a bundle file, the OUTPUT_DIR of a training, a config file or name, or the name of a shipped model.
        weights: for a config or a run folder, see :func:`.loader.load_model`.
        device: as ``cpu`` or ``cuda:1``; by default CUDA where there is any.

    Raises:
        BundleError, LoadError: if there is no such model, or it is damaged; in one line.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if weights is None:
        path = Path(model)
        if not path.exists() and path.name == os.fspath(model) and (SHIPPED / f"{path.name}.zip").is_file():
            path = SHIPPED / f"{path.name}.zip"
        if path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path)):
            return Pretrained(*load_bundle(path, device=device))
        if path.suffix == ".zip" and not path.exists():
            raise BundleError(f"bundle {path} does not exist{_shipped_hint(path.stem)}")
    try:
        loaded = load_model(model, weights, device=device)
    except ValueError as error:
        names = shipped_models()
        if Path(model).exists() or not names:
            raise
        raise type(error)(f"{error}{_shipped_hint(os.fspath(model))}") from error
    return Pretrained(loaded.cfg, loaded.model, ModelInfo.from_config(loaded.cfg))


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.zip"))


def _shipped_hint(name: str) -> str:
    names = shipped_models()
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; the shipped models are {', '.join(names)}"


def export_bundle(
    run: str | os.PathLike,
    out: str | os.PathLike,
    *,
    weights: str | os.PathLike | None = None,
    pixel_size: float | None = None,
    score_threshold: float | None = None,
    class_names: tuple[str, ...] | None = None,
    card: str | None = None,
) -> Path:
    """Write the trained model of a run as a bundle.

    Args:
        run: OUTPUT_DIR of a training, or a config with ``weights``.
        out: path of the bundle.
        pixel_size: micrometers per pixel of the training images.
        score_threshold: by default TEST.LABEL_MAP_SCORE_THRESH.
        class_names: by default those of the training dataset.
        card: Markdown of the model card; by default one is made from the config.

    Raises:
        LoadError: if the model cannot be loaded.
        ValueError: for a pixel size, threshold or names that are none.
    """
    loaded = load_model(run, weights, device="cpu")
    info = ModelInfo.from_config(loaded.cfg).with_training_sizes(loaded.cfg)
    given: dict[str, Any] = {"pixel_size": pixel_size, "score_threshold": score_threshold, "class_names": class_names}
    info = dataclasses.replace(info, **{name: value for name, value in given.items() if value is not None})
    if len(info.class_names) != loaded.cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ValueError(
            f"{len(info.class_names)} class names for a model of {loaded.cfg.MODEL.ROI_HEADS.NUM_CLASSES} classes"
        )
    return write_bundle(loaded.cfg, loaded.model, info, out, card=card)
