"""A model from whatever names one: a bundle file, a run folder, a config with weights, or a name that we ship."""

import dataclasses
import difflib
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import nn

from ..config_files import UnknownConfigError
from ..engine.class_names import read_class_names
from ..utils.device import check_device
from .bundle import BundleError, load_bundle, model_card, read_parts, write_bundle
from .image_source import open_image
from .loader import CONFIG_FILE, LoadError, load_model, run_folder
from .model_info import ModelInfo

SHIPPED = Path(__file__).parent.parent / "models"
# As their cards say.
SHIPPED_LICENSE = "CC0-1.0"


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
        model: a bundle file, the OUTPUT_DIR of a training or its ``config.yaml``, a config file or name, or the name of
            a shipped model, unless a file or a run folder in the working directory has that name.
        weights: for a config or a run folder, see :func:`.loader.load_model`.
        device: as ``cpu`` or ``cuda:1``; by default CUDA where there is any.

    Raises:
        BundleError, LoadError: if there is no such model or device, or the model is damaged; in one line.
    """
    device = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        check_device(device)
    except ValueError as error:
        raise LoadError(str(error)) from error
    if weights is not None and _is_bundle(model):
        raise BundleError(
            f"{model} is a model in one file, with its own weights; give its config or run folder, or no --weights"
        )
    if weights is None:
        path = model_path(model)
        if _is_bundle(model):
            return Pretrained(*load_bundle(path, device=device))
        if path.suffix == ".zip" and not path.exists():
            raise BundleError(f"bundle {path} does not exist{_shipped_hint(path.stem)}")
    try:
        loaded = load_model(model, weights, device=device)
    except ValueError as error:
        # A name that nothing has, not a model whose weights are at fault.
        if Path(model).exists() or not shipped_models() or not isinstance(error.__cause__, UnknownConfigError):
            raise
        raise type(error)(f"{error}{_shipped_hint(os.fspath(model))}") from error
    info = ModelInfo.from_config(loaded.cfg)
    folder = run_folder(model)
    names = read_class_names(folder) if folder else ()
    return Pretrained(loaded.cfg, loaded.model, info.with_class_names(names))


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
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    weights: str | os.PathLike | None = None,
    card: str | None = None,
    **facts: Any,
) -> Path:
    """Write a trained model as a bundle.

    Args:
        source: OUTPUT_DIR of a training, a config with ``weights``, or a bundle to change.
        out: path of the bundle.
        card: Markdown of the model card; by default that of the bundle, else one is made from the config.
        facts: see :func:`load_for_export`.

    Raises:
        BundleError, LoadError: if the model cannot be loaded.
        ValueError: for a pixel size, threshold or names that are none.
    """
    cfg, model, info = load_for_export(source, weights=weights, **facts)
    return write_bundle(cfg, model, info, out, card=card or _own_card(source))


def export_bioimageio(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    weights: str | os.PathLike | None = None,
    card: str | None = None,
    license_id: str | None = None,
    authors: Sequence[str] = (),
    test_image: str | os.PathLike | None = None,
    **facts: Any,
) -> Path:
    """Write a trained model as a package of the BioImage Model Zoo, see :func:`.bioimageio_package.write_bioimageio`.

    Args:
        source, card, facts: see :func:`export_bundle`.
        out: path of the package, a zip file.
        license_id: SPDX identifier of the license of the weights; by default that of a shipped model, else Apache-2.0.
        test_image: file with an image that shows objects of the model's kind.

    Raises:
        SourceError: if the test image cannot be read.
        PackageError: if the package cannot be written.
    """
    from .bioimageio_package import LICENSE, write_bioimageio

    cfg, model, info = load_for_export(source, weights=weights, **facts)
    pixels = None
    if test_image is not None:
        with open_image(Path(test_image)) as opened:
            pixels = opened.read_all()
    default = SHIPPED_LICENSE if model_path(source).parent == SHIPPED else LICENSE
    return write_bioimageio(
        cfg,
        model,
        info,
        out,
        card=card or _own_card(source) or model_card(cfg, model, info),
        license_id=license_id or default,
        authors=authors,
        test_image=pixels,
    )


def load_for_export(
    source: str | os.PathLike,
    *,
    weights: str | os.PathLike | None = None,
    pixel_size: float | None = None,
    score_threshold: float | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Pretrained:
    """A model on the CPU and what is to be told of it.

    Args:
        source, weights: see :func:`load_pretrained`.
        pixel_size: micrometers per pixel of the training images.
        score_threshold: by default the bundle's, or TEST.LABEL_MAP_SCORE_THRESH.
        class_names: by default the bundle's, or those of the training dataset.

    Raises:
        BundleError, LoadError: if the model cannot be loaded.
        ValueError: for a pixel size, threshold or names that are none, and names that are not told apart.
    """
    if class_names and (not all(class_names) or len(set(class_names)) < len(class_names)):
        raise ValueError(f"class names {', '.join(map(repr, class_names))}: give each class a name of its own")
    loaded = load_pretrained(source, weights=weights, device="cpu")
    info = loaded.info if _is_bundle(source) else loaded.info.with_training_sizes(loaded.cfg)
    given: dict[str, Any] = {"pixel_size": pixel_size, "score_threshold": score_threshold, "class_names": class_names}
    info = dataclasses.replace(info, **{name: value for name, value in given.items() if value is not None})
    if len(info.class_names) != loaded.cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ValueError(
            f"{len(info.class_names)} class names for a model of {loaded.cfg.MODEL.ROI_HEADS.NUM_CLASSES} classes"
        )
    return Pretrained(loaded.cfg, loaded.model, info)


def model_path(model: str | os.PathLike) -> Path:
    """The file of a shipped model for its name, where no other model is there under it."""
    path = Path(model)
    # A folder of images may well be named after what they show.
    is_free = not path.exists() or (path.is_dir() and not (path / CONFIG_FILE).is_file())
    if is_free and path.name == os.fspath(model) and (SHIPPED / f"{path.name}.zip").is_file():
        return SHIPPED / f"{path.name}.zip"
    return path


def _is_bundle(model: str | os.PathLike) -> bool:
    path = model_path(model)
    return path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path))


def _own_card(source: str | os.PathLike) -> str | None:
    return read_parts(model_path(source))["model_card.md"].decode() if _is_bundle(source) else None
