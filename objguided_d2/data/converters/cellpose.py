"""Label arrays in NumPy's files, and Cellpose's ``_seg.npy``, read without running what a pickle may name."""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ..decode_limit import check_bytes
from ..source_error import SourceError

_RECONSTRUCT = ("numpy.core.multiarray", "numpy._core.multiarray")


def read_npy_labels(read: Callable[[str], bytes], name: str) -> np.ndarray:
    """(H, W) labels of an array of whole numbers, or the ``masks`` of Cellpose's dictionary.

    Raises:
        SourceError: if the file is damaged or holds something else.
    """
    try:
        masks = _load(read(name), name)
    except SourceError:
        raise
    except Exception as error:  # a damaged pickle raises whatever it stumbles over
        raise SourceError(f"{name} cannot be read ({error!r}); save the masks as TIFF or PNG") from error
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "biuf":
        raise SourceError(f"{name} holds no array of labels; save the masks from Cellpose again, or as TIFF")
    masks = masks.squeeze()
    if masks.ndim != 2:
        raise SourceError(f"{name} holds labels of shape {masks.shape}, not of one 2D image; save each plane by itself")
    if masks.dtype.kind == "f" and (not np.isfinite(masks).all() or (masks != np.floor(masks)).any()):
        raise SourceError(f"{name} holds fractions where labels are whole numbers; save it as integers")
    if masks.size and masks.min() < 0:
        raise SourceError(f"{name} holds negative labels; save the background as 0 and objects as 1, 2, ...")
    return masks.astype(np.int64)


def _load(data: bytes, name: str) -> Any:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.kind != "O":
        check_bytes(int(np.prod(shape, dtype=object)) * dtype.itemsize, name)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    content = _DataUnpickler(file).load()
    if isinstance(content, np.ndarray) and content.size == 1:
        content = content.item()
    if not isinstance(content, dict) or "masks" not in content:
        raise SourceError(f"{name} is not Cellpose's _seg.npy: it has no 'masks'; save the masks as TIFF or PNG")
    return content["masks"]


class _Inert:
    """Takes the place of every class and function that a pickle names, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def _empty_array(*_: Any) -> np.ndarray:
    # The shape comes with the state, which has as many bytes as it says.
    return np.ndarray((0,), "u1")


class _DataUnpickler(pickle.Unpickler):
    """Builds arrays and Python's own containers, numbers and texts; anything else becomes inert."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _RECONSTRUCT and name == "_reconstruct":
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if (module, name) == ("_codecs", "encode"):  # bytes in pickles of protocol 2
            return _encode
        return _Inert


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")
