"""A trained model as one file: a zip archive that says all that prediction needs, and runs nothing when it is loaded.

| part | what it is |
|---|---|
| manifest.json | format, version, and size and sha256 of every other part |
| config.yaml | the full config, without paths and datasets |
| weights.safetensors | parameters in float16; those of one dimension (biases, norms) and buffers in float32 |
| model.json | class names, score threshold, intensity mapping, sizes of the training data (``model_info.py``) |
| model_card.md | what the model is and was trained on, for people |

The archive of the same model is the same, byte for byte.
"""

import hashlib
import json
import os
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from safetensors import SafetensorError
from torch import Tensor, nn

from .. import __version__
from ..config import CONFIG_ERRORS, config_error_reason, get_cfg
from ..engine.weights import TRAINING_ONLY, misfits
from ..utils.atomic_write import atomic_write
from .model_info import ModelInfo

FORMAT, VERSION = "objguided_d2 bundle", 1
_CONFIG, _WEIGHTS, _INFO, _CARD, _MANIFEST = (
    "config.yaml",
    "weights.safetensors",
    "model.json",
    "model_card.md",
    "manifest.json",
)
# Far more than any model needs; what unpacks to more is refused before it is unpacked.
_LIMITS = {_CONFIG: 2**20, _WEIGHTS: 2**31, _INFO: 2**20, _CARD: 2**20, _MANIFEST: 2**20}


class BundleError(ValueError):
    """A bundle that cannot be used. The message names it and what to do."""


def write_bundle(
    cfg: CfgNode, model: nn.Module, info: ModelInfo, path: str | os.PathLike, *, card: str | None = None
) -> Path:
    """Write a model as a bundle.

    Args:
        card: Markdown; by default :func:`model_card` makes one.

    Raises:
        ValueError: see :func:`require_finite_weights`.
    """
    require_finite_weights(model)
    parts = {
        _CONFIG: shareable_config(cfg).dump().encode(),
        _WEIGHTS: safetensors.torch.save(_stored_weights(model)),
        _INFO: _json({**asdict(info), "intensity": cfg.INPUT.INTENSITY, "objguided_d2": __version__}),
        _CARD: (card or model_card(cfg, model, info)).encode(),
    }
    hashes = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in parts.items()}
    parts[_MANIFEST] = _json({"format": FORMAT, "version": VERSION, "parts": hashes})
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in (_MANIFEST, _CONFIG, _INFO, _CARD, _WEIGHTS):
            # Weights do not compress. A fixed date makes the file depend on the model alone.
            kind = zipfile.ZIP_STORED if name == _WEIGHTS else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = kind
            archive.writestr(entry, parts[name])
    return Path(path)


def load_bundle(path: str | os.PathLike, *, device: str) -> tuple[CfgNode, nn.Module, ModelInfo]:
    """Check a bundle and build its model, in eval mode on ``device``.

    Raises:
        BundleError: if the file is missing, damaged, of another kind or version, or does not fit this library.
    """
    parts = read_parts(path)
    cfg = _read_config(path, parts[_CONFIG], device)
    info = _read_info(path, parts[_INFO])
    model = build_model(cfg).eval()
    try:
        weights = safetensors.torch.load(parts[_WEIGHTS])
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"bundle {path}: {_WEIGHTS} cannot be read ({error}); export it again") from error
    _load_weights(path, model, weights)
    return cfg, model, info


def read_parts(path: str | os.PathLike) -> dict[str, bytes]:
    """The parts of a bundle by name, each checked against the manifest.

    Raises:
        BundleError: see :func:`load_bundle`.
    """
    damaged = "copy or export it again"
    if not os.path.isfile(path):
        raise BundleError(f"bundle {path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            missing = [name for name in _LIMITS if name not in sizes]
            if missing:
                raise BundleError(f"{path} is no bundle: it lacks {', '.join(missing)}; `objguided export` makes one")
            for name, limit in _LIMITS.items():
                if sizes[name] > limit:
                    raise BundleError(
                        f"bundle {path}: {name} unpacks to {sizes[name]:,} bytes, over {limit:,}; refused"
                    )
            parts = {name: archive.read(name) for name in _LIMITS}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError(f"bundle {path} is damaged or no zip file ({error}); {damaged}") from error
    manifest = _read_json(path, _MANIFEST, parts[_MANIFEST])
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{path} is no bundle: its manifest says {manifest.get('format')!r}, not {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise BundleError(
            f"bundle {path} has version {manifest.get('version')!r}, this objguided_d2 reads {VERSION}; update it"
        )
    listed = manifest.get("parts")
    for name, data in parts.items():
        entry = listed.get(name) if isinstance(listed, dict) else None
        if name != _MANIFEST and (not isinstance(entry, dict) or entry.get("sha256") != _sha256(data)):
            raise BundleError(f"bundle {path}: {name} is not what the manifest says (sha256); {damaged}")
    return parts


def model_card(cfg: CfgNode, model: nn.Module, info: ModelInfo) -> str:
    """A description of a model in Markdown, from its config."""
    unknown = "unknown"
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    size = str(list(cfg.INPUT.TEST_SIZE) or f"{cfg.INPUT.MIN_SIZE_TEST} pixels on the shorter side")
    if cfg.INPUT.MIN_SCALE_TEST > 0 and not cfg.INPUT.TEST_SIZE:
        size += f", at least {cfg.INPUT.MIN_SCALE_TEST:g} pixels per pixel of the image"
    if cfg.INPUT.TEST_SCALE > 0:
        size = f"{cfg.INPUT.TEST_SCALE:g} pixels per pixel of the image"
    rows = {
        "classes": ", ".join(info.class_names),
        "architecture": f"{cfg.MODEL.META_ARCHITECTURE}, ResNet-{cfg.MODEL.RESNETS.DEPTH}, {parameters:.1f} M weights",
        "trained on": ", ".join(cfg.DATASETS.TRAIN) or unknown,
        "size in the network": size,
        "intensity mapping": cfg.INPUT.INTENSITY or "none: images have 8 bits",
        "score threshold": f"{info.score_threshold:g}",
        "pixel size of training images": f"{info.pixel_size:g} micrometers" if info.pixel_size else unknown,
        "median diameter of training objects": (
            f"{info.object_diameter:g} pixels in the network" if info.object_diameter else unknown
        ),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"# Model of {', '.join(info.class_names)}\n\n"
        "Object-guided instance segmentation (Yi et al., IEEE TMI 2021).\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "It finds what looks like its training images, at like sizes in the network; measure on images of yours "
        "before you rely on it.\n"
    )


def shareable_config(cfg: CfgNode) -> CfgNode:
    """The config without what means something on one machine alone."""
    cfg, defaults = cfg.clone(), get_cfg()
    cfg.defrost()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = defaults.OUTPUT_DIR, ""
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TRAIN = (), (), ()
    cfg.DATASETS.PROPOSAL_FILES_TEST = ()
    return cfg


def require_finite_weights(model: nn.Module) -> None:
    """Refuse a model whose training went wrong, which would find nothing and not say why.

    Raises:
        ValueError: if a weight or statistic that prediction needs is NaN or infinite.
    """
    broken = [
        name
        for name, value in model.state_dict().items()
        if value.is_floating_point() and not name.startswith(TRAINING_ONLY) and not torch.isfinite(value).all()
    ]
    if broken:
        raise ValueError(
            f"the model has NaN or infinite values in {len(broken)} tensors, as {broken[0]}; "
            "take weights of an earlier step (--weights) or train again"
        )


def _stored_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: _stored(value) for name, value in model.state_dict().items() if not name.startswith(TRAINING_ONLY)}


def _stored(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value.clone().contiguous()
    half = value.to(torch.float16)
    fits = value.dim() >= 2 and bool(torch.isfinite(half).all())
    return (half if fits else value.to(torch.float32)).clone(memory_format=torch.contiguous_format)


def _read_config(path: str | os.PathLike, data: bytes, device: str) -> CfgNode:
    cfg = get_cfg()
    try:
        values = yaml.safe_load(data.decode())
        if not isinstance(values, dict):
            raise ValueError("it holds no keys")
        cfg.merge_from_other_cfg(CfgNode(values))
    except CONFIG_ERRORS as error:
        reason = config_error_reason(error)
        raise BundleError(f"bundle {path}: {_CONFIG} does not fit objguided_d2 {__version__}: {reason}") from error
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = device, ""
    cfg.freeze()
    return cfg


def _read_info(path: str | os.PathLike, data: bytes) -> ModelInfo:
    values = _read_json(path, _INFO, data)
    try:
        return ModelInfo(
            tuple(values["class_names"]),
            values["score_threshold"],
            values["pixel_size"],
            values["training_scale"],
            values["object_diameter"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"bundle {path}: {_INFO}: {error}; export it again") from error


def _load_weights(path: str | os.PathLike, model: nn.Module, weights: dict[str, Tensor]) -> None:
    if wrong := misfits(weights, model):
        raise BundleError(
            f"bundle {path}: {_WEIGHTS} does not fit the model of {_CONFIG} in {len(wrong)} tensors, as {wrong[0]}; "
            "export it again with this version of objguided_d2"
        )
    model.load_state_dict(weights, strict=False)


def _read_json(path: str | os.PathLike, name: str, data: bytes) -> dict:
    try:
        values = json.loads(data)
    except ValueError as error:
        raise BundleError(f"bundle {path}: {name} is no JSON ({error}); copy or export it again") from error
    if not isinstance(values, dict):
        raise BundleError(f"bundle {path}: {name} holds no keys; copy or export it again")
    return values


def _json(values: dict) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
