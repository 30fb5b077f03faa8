"""Checkpoint files read without running code from them; what is wrong with one is said in one line."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from .errors import ConfigError, WeightsError

__all__ = ["WeightsError", "load_weights", "read_checkpoint", "read_pth"]

# Parts that only the training runs; a file without them fits all the same.
TRAINING_ONLY = ("roi_heads.mask_head.refinement.",)
_REMEDY = "copy or train them again"
# First bytes -> what the file is instead.
_FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"<", "a web page or XML; download the file itself"),
    (b"{", "JSON, not weights"),
    (b"\x89HDF", "HDF5, not a PyTorch checkpoint"),
)
# Zip archives and pickles, in which torch.save writes.
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")
# What torch raises for a file that is cut off or damaged.
_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
    zipfile.BadZipFile,
)


def read_checkpoint(path: str | os.PathLike, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint, or the bare weights of a model by name, see :func:`read_pth`.

    Raises:
        WeightsError: see :func:`read_pth`; also if there are no weights in the file.
    """
    content = read_pth(path, mmap=mmap)
    weights = content.get("model", content)
    if not isinstance(weights, dict) or not any(isinstance(value, Tensor) for value in weights.values()):
        names = ", ".join(map(str, list(content)[:5])) or "nothing"
        hint = ": convert it with tools/convert_released_checkpoint.py" if "state_dict" in content else ""
        raise WeightsError(f"weights {path}: there are none under 'model' in the file, which holds {names}{hint}")
    return content


def read_pth(path: str | os.PathLike, *, mmap: bool = False) -> dict[str, Any]:
    """Read a dict saved by torch on the CPU, tensors and plain values alone: nothing in it can run code.

    Args:
        mmap: read tensors when they are used; for a look at the rest.

    Raises:
        WeightsError: if it is missing, empty, cut off, no such file, or holds other objects than tensors.
    """
    path = os.fspath(path)
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(32)
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read: {error.strerror}") from error
    if not size:
        raise WeightsError(f"weights {path} cannot be read: the file is empty, not written to its end; {_REMEDY}")
    if not start.startswith(_TORCH_MAGIC):
        what = next((what for magic, what in _FOREIGN if start.lstrip().startswith(magic)), "no PyTorch checkpoint")
        raise WeightsError(f"weights {path} cannot be read: the file is {what} (it begins with {start[:16]!r})")
    try:
        # The old format of torch.save cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and start.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        if start.startswith(b"PK") or "GLOBAL" in str(error):
            raise WeightsError(
                f"weights {path} cannot be read: there are Python objects besides tensors, which could run code; save "
                "model.state_dict() alone where they come from"
            ) from error
        raise WeightsError(_damaged(path, error)) from error
    except _UNREADABLE as error:
        raise WeightsError(_damaged(path, error)) from error
    if not isinstance(content, dict):
        raise WeightsError(
            f"weights {path}: the file holds a {type(content).__name__}, not the weights of a model by name"
        )
    return content


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that reads ``.pth`` files with :func:`read_checkpoint`.

    ``.pkl`` and ``.pyth`` files, which only unpickling can read, are for those who name one, as Detectron2's model zoo.

    Attributes:
        incompatible: what did not fit the model at the last :meth:`load`, see Detectron2's ``_load_model``.
    """

    incompatible: Any = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """
        Raises:
            WeightsError: see :func:`read_checkpoint`; also for a ``.pkl`` that is damaged.
        """
        try:
            return super().load(path, *args, **kwargs)
        except WeightsError:
            raise
        except (pickle.UnpicklingError, EOFError) as error:
            raise WeightsError(_damaged(path, error)) from error
        except ValueError as error:
            raise WeightsError(f"weights {path}: {_first_line(error)}") from error
        finally:
            self._parsed_url_during_load = None  # Else a failed load forbids any other.

    def _torch_load(self, f: str) -> dict[str, Any]:
        content = read_checkpoint(f)
        if "model" not in content:  # A bare state dict; what is no tensor in it is no weight.
            content = {"model": {name: value for name, value in content.items() if isinstance(value, Tensor)}}
        return content

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible

    def check_that_something_fits(self, path: str) -> None:
        """
        Raises:
            WeightsError: if no parameter of the last file, which was ``path``, went into the model.
        """
        missing = set(self.incompatible.missing_keys)
        names = {name for name, _ in self.model.named_parameters()}
        if names and names <= missing:
            misfit = {name for name, _, _ in self.incompatible.incorrect_shapes}
            why = "has another shape" if misfit else "is missing"
            raise WeightsError(
                f"weights {path}: nothing in them fits the model, as {min(misfit or names)} {why}; give the config "
                "that they were trained with"
            )


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Load every parameter and buffer that ``model`` predicts with from a file.

    Detectron2's checkpointer alone leaves what it does not find at random values and goes on.

    Args:
        path: a checkpoint of Detectron2's formats, or an address that its path manager knows.

    Raises:
        WeightsError: if the file is not there, cannot be read, or lacks a parameter.
    """
    path = os.fspath(path)
    if "://" not in path and not os.path.isfile(path):
        raise WeightsError(f"weights {path} do not exist")
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(path, checkpointables=[])
    checkpointer.check_that_something_fits(path)
    # Those of another shape are among the missing ones.
    lacking = [name for name in checkpointer.incompatible.missing_keys if _is_needed(name)]
    if lacking:
        misfit = {name for name, _, _ in checkpointer.incompatible.incorrect_shapes}
        total = sum(map(_is_needed, model.state_dict()))
        what = "has another shape" if lacking[0] in misfit else "is missing"
        raise WeightsError(
            f"weights {path}: {len(lacking)} of {total} parameters do not fit the model, as {lacking[0]} {what}; give "
            "the config that they were trained with"
        )


def misfits(
    weights: Mapping[str, Tensor], model: nn.Module, *, class_layer: str | None = None, training: bool = False
) -> list[str]:
    """Names of parameters and buffers that only one of the two has, or in another shape.

    Args:
        class_layer: prefix of the names of the layer that has a row for each class, whose number may differ.
        training: compare what only the training runs, too.
    """

    def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
        return {
            name: value.shape[1 if class_layer and name.startswith(class_layer) else 0 :]
            for name, value in state.items()
            if training or not name.startswith(TRAINING_ONLY)
        }

    given, expected = shapes(weights), shapes(model.state_dict())
    return sorted(name for name in given.keys() | expected.keys() if given.get(name) != expected.get(name))


def check_same_layers(weights: Mapping[str, Tensor], model: nn.Module, *, class_layer: str | None = None) -> None:
    """Check that a model built with KEY VALUE pairs over a config has the layers of the weights.

    Args:
        class_layer: see :func:`misfits`.

    Raises:
        ConfigError: if not, with the name of a weight.
    """
    if other := misfits(weights, model, class_layer=class_layer):
        raise ConfigError(
            f"KEY VALUE pairs: with them, {other[0]} and {len(other) - 1} more weights are not those of the model; "
            "leave out pairs of MODEL that change its layers"
        )


def _is_needed(name: str) -> bool:
    # Old versions of torch saved no batch counters, and nothing reads them at test time.
    return not name.endswith("num_batches_tracked") and not name.startswith(TRAINING_ONLY)


def _damaged(path: str, error: Exception) -> str:
    return f"weights {path} cannot be read: the file is damaged or cut off ({_first_line(error)}); {_REMEDY}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
