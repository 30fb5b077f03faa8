"""One reader a file format: it opens a file and gives windows of the images in it."""

from collections.abc import Callable
from pathlib import Path

from ...data.source_error import SourceError
from . import flat, slide, tiff
from .ome_zarr import is_zarr, open_zarr
from .stored_image import MAX_PIXELS, OpenFile

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "OpenFile", "is_image", "is_zarr", "open_file"]

Opener = Callable[[Path, int | None, int], OpenFile]

_OPENERS: dict[str, Opener] = {
    **dict.fromkeys(flat.SUFFIXES, flat.open_flat),
    **dict.fromkeys(tiff.SUFFIXES, tiff.open_tiff),
    **dict.fromkeys(slide.SUFFIXES, slide.open_slide),
}
IMAGE_SUFFIXES = tuple(_OPENERS)


def is_image(path: Path) -> bool:
    """Whether a path has the ending of an image file or is a Zarr folder."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_zarr(path)


def open_file(path: Path, level: int | None = None, max_pixels: int = MAX_PIXELS) -> OpenFile:
    """Open a file with the reader of its ending.

    Raises:
        SourceError: if there is no such file, no reader for it, or it is damaged.
        ImportError: if its reader needs a library that is not installed.
    """
    try:
        path.stat()
    except OSError as error:
        raise SourceError(f"{path} cannot be opened: {error.strerror or error}") from error
    if is_zarr(path):
        return open_zarr(path, level, max_pixels)
    if path.is_dir():
        raise SourceError(f"{path} is a folder, not an image file; give a file, or a folder that holds images")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        known = " ".join(IMAGE_SUFFIXES)
        raise SourceError(f"{path} has an ending that no reader knows; known are {known} and .zarr")
    return opener(path, level, max_pixels)
