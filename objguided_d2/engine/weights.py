"""Weights for a model that is to predict: all of them, or one line that says what is wrong with the file."""

import os
import pickle
import zipfile

from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

# Parts that only the training runs; a file without them fits all the same.
TRAINING_ONLY = ("roi_heads.mask_head.refinement.",)

# What torch and pickle raise for a file that is cut off or something else altogether.
_UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


class WeightsError(ValueError):
    """A weights file that is missing, damaged or another model's. The message names it and what to do."""


class _Checkpointer(DetectionCheckpointer):
    """Keeps what did not fit, in place of a log entry about it."""

    incompatible = _IncompatibleKeys([], [], [])

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        self.incompatible = incompatible


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
    checkpointer = _Checkpointer(model)
    try:
        checkpointer.load(path, checkpointables=[])
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"weights {path} cannot be read ({reason}); copy or train them again") from error
    # Those of another shape are among the missing ones.
    unfit = [name for name in checkpointer.incompatible.missing_keys if _is_needed(name)]
    misfit = {name for name, _, _ in checkpointer.incompatible.incorrect_shapes}
    if unfit:
        total = sum(map(_is_needed, model.state_dict()))
        fitting = "nothing in them fits" if len(unfit) == total else f"{len(unfit)} of {total} parameters do not fit"
        what = "has another shape" if unfit[0] in misfit else "is missing"
        raise WeightsError(
            f"weights {path}: {fitting} the model, as {unfit[0]} {what}; give the config that they were trained with"
        )


def _is_needed(name: str) -> bool:
    # Old versions of torch saved no batch counters, and nothing reads them at test time.
    return not name.endswith("num_batches_tracked") and not name.startswith(TRAINING_ONLY)
