"""Label images of any size, written block by block: a tiled BigTIFF, or OME-Zarr with a ``labels`` group.

Only the rows of tiles that blocks are still missing from are held. Tiles of a TIFF go, compressed, to a file beside it
until all are there, because a TIFF is written in one go.
"""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile

from ...utils.atomic_write import atomic_folder, atomic_write
from .label_image import resolution
from .ome_zarr import add_levels, check_replaceable, create_labels, open_root


class LabelBlockWriter:
    """Takes blocks of a label image in row order; the file has its name once the ``with`` block ends without an error.

    Args:
        path: of the file, or of the folder of an OME-Zarr image.
        shape: (H, W).
        dtype: unsigned integers.
        kind: "tiff" or "zarr".
        tile: rows and columns of a tile of the file, a multiple of 16 for TIFF; blocks may have any size.
        pixel_size: micrometers per pixel (height, width), None if unknown.

    Raises:
        ImportError: for "zarr", if zarr is not installed.
        ValueError: for "zarr", if something is at ``path`` that this program did not write.
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, int],
        dtype: np.dtype | type,
        kind: Literal["tiff", "zarr"] = "tiff",
        tile: int = 512,
        pixel_size: tuple[float, float] | None = None,
    ) -> None:
        self._path, self._shape, self._dtype, self._tile = Path(path), shape, np.dtype(dtype), tile
        self._pixel_size = pixel_size
        if kind == "zarr":
            check_replaceable(self._path)
        self._bands: dict[int, np.ndarray] = {}
        self._num_missing: dict[int, int] = {}
        self._done: set[int] = set()
        self._context = atomic_write(path) if kind == "tiff" else atomic_folder(path)
        self._target: _TiffTiles | _ZarrBands  # from __enter__ on
        self._kind = kind

    def __enter__(self) -> "LabelBlockWriter":
        temporary = self._context.__enter__()
        kind = _TiffTiles if self._kind == "tiff" else _ZarrBands
        try:
            self._target = kind(temporary, self._shape, self._dtype, self._tile, self._pixel_size)
        except BaseException as error:
            self._context.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, block: np.ndarray, y0: int, x0: int) -> None:
        """Write a block whose first pixel is (y0, x0).

        Args:
            block: (h, w) labels; blocks do not overlap, and together cover the image.

        Raises:
            ValueError: if the block leaves the image, or reaches rows that are complete.
        """
        height, width = self._shape
        h, w = block.shape
        if not (0 <= y0 and y0 + h <= height and 0 <= x0 and x0 + w <= width):
            raise ValueError(f"a block of {h} x {w} at {y0}, {x0} leaves the label image of {height} x {width}")
        for index in range(y0 // self._tile, math.ceil((y0 + h) / self._tile)):
            if index in self._done:
                raise ValueError(f"the block at {y0}, {x0} overlaps rows of {self._path} that are complete")
            top = index * self._tile
            rows = min(self._tile, height - top)
            band = self._bands.setdefault(index, np.zeros((rows, width), self._dtype))
            missing = self._num_missing.setdefault(index, rows * width)
            first, last = max(y0, top), min(y0 + h, top + rows)
            band[first - top : last - top, x0 : x0 + w] = block[first - y0 : last - y0]
            self._num_missing[index] = missing - (last - first) * w
        self._flush()

    def _flush(self) -> None:
        """Hand over complete bands, from the top."""
        while self._num_missing.get(len(self._done)) == 0:
            index = len(self._done)
            self._target.write_band(index, self._bands.pop(index))
            del self._num_missing[index]
            self._done.add(index)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        num_bands = math.ceil(self._shape[0] / self._tile)
        try:
            if error is None:
                if len(self._done) < num_bands:
                    raise ValueError(f"blocks of {self._path} are missing from row {len(self._done) * self._tile} on")
                self._target.finish()
        except BaseException as failure:
            self._target.discard()
            self._context.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._target.discard()
        self._context.__exit__(kind, error, traceback)


class _TiffTiles:
    """Compressed tiles in a temporary file, then one BigTIFF."""

    def __init__(
        self, path: Path, shape: tuple[int, int], dtype: np.dtype, tile: int, pixel_size: tuple[float, float] | None
    ) -> None:
        self._path, self._shape, self._dtype, self._tile = path, shape, dtype, tile
        self._pixel_size = pixel_size
        self._spool = tempfile.TemporaryFile(dir=path.parent)
        self._sizes: list[int] = []

    def write_band(self, index: int, band: np.ndarray) -> None:
        rows, width = band.shape
        for x in range(0, width, self._tile):
            tile = np.zeros((self._tile, self._tile), self._dtype)
            part = band[:, x : x + self._tile]
            tile[:rows, : part.shape[1]] = part
            # Differences to the left neighbor (the tag Predictor, 2) compress label images to a few percent.
            data = imagecodecs.zlib_encode(imagecodecs.delta_encode(tile, axis=-1).tobytes())
            self._spool.write(data)
            self._sizes.append(len(data))

    def finish(self) -> None:
        tifffile.imwrite(
            self._path,
            self._encoded_tiles(),
            shape=self._shape,
            dtype=self._dtype,
            tile=(self._tile, self._tile),
            photometric="minisblack",
            compression="zlib",
            predictor=True,
            bigtiff=True,
            metadata={"axes": "YX"},
            **resolution(self._pixel_size),
        )

    def _encoded_tiles(self) -> Iterator[bytes]:
        self._spool.seek(0)
        for size in self._sizes:
            yield self._spool.read(size)

    def discard(self) -> None:
        self._spool.close()


class _ZarrBands:
    """Bands of chunks in the first level; the smaller levels follow at the end."""

    def __init__(
        self, path: Path, shape: tuple[int, int], dtype: np.dtype, tile: int, pixel_size: tuple[float, float] | None
    ) -> None:
        self._pixel_size, self._tile = pixel_size, tile
        self._group: Any = create_labels(open_root(path), shape, dtype, pixel_size, tile)

    def write_band(self, index: int, band: np.ndarray) -> None:
        self._group["0"][index * self._tile : index * self._tile + len(band)] = band

    def finish(self) -> None:
        add_levels(self._group, self._pixel_size)

    def discard(self) -> None:
        pass
