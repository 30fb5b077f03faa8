"""One reader a file format: it opens a file and gives windows of the images in it."""

from collections.abc import Callable
from pathlib import Path

from ...data.source_error import SourceError
from . import flat, slide, tiff
from .ome_zarr import is_zarr, open_zarr
from .stored_image import OpenFile, as_source_error

__all__ = ["IMAGE_SUFFIXES", "OpenFile", "is_image", "is_picture", "is_zarr", "open_file"]

Opener = Callable[[Path, int | None], OpenFile]

_OPENERS: dict[str, Opener] = {
    **dict.fromkeys(flat.SUFFIXES, flat.open_flat),
    **dict.fromkeys(tiff.SUFFIXES, tiff.open_tiff),
    **dict.fromkeys(slide.SUFFIXES, slide.open_slide),
}
IMAGE_SUFFIXES = tuple(_OPENERS)
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def is_image(path: Path) -> bool:
    """Whether a path has the ending of an image file or is a Zarr folder."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_zarr(path)


def open_file(path: Path, level: int | None = None) -> OpenFile:
    """Open a file with the reader of its ending; whether it is a TIFF is told by its contents.

    Raises:
        SourceError: if there is no such file, no reader for it, or it is damaged.
        ImportError: if its reader needs a library that is not installed.
    """
    try:
        path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be opened: {error.strerror or error}") from error
    if is_zarr(path):
        return open_zarr(path, level)
    if path.is_dir():
        raise SourceError(f"{path} is a folder, not an image file; give a file, or a folder that holds images")
    return _opener(path)(path, level)


def is_picture(path: Path) -> bool:
    """Whether a file holds one image that is decoded whole, as a PNG file does.

    Raises:
        SourceError: if there is no reader for it, or it cannot be opened.
    """
    return not is_zarr(path) and _opener(path) is flat.open_flat


def _opener(path: Path) -> Opener:
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        known = " ".join(IMAGE_SUFFIXES)
        raise SourceError(f"{path} has an ending that no reader knows; known are {known} and .zarr")
    if opener is slide.open_slide:
        return opener
    with as_source_error(path), path.open("rb") as file:
        return tiff.open_tiff if file.read(4) in _TIFF_MAGIC else flat.open_flat
