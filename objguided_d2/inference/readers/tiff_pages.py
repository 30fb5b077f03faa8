"""Windows of TIFF pages: only the strips or tiles that a window touches are read and decoded."""

import math
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import tifffile

from ...data.source_error import SourceError
from .stored_image import check_num_pixels

# Neighboring windows read the same tiles again: their halos overlap, and a strip spans the whole width.
_CACHE_BYTES = 2**28
_JPEG_COMPRESSIONS = (6, 7, 33007, 34892)


class PageReader:
    """Reads windows of the pages of one file, from several threads if need be.

    Args:
        path: of the file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._segments: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def read(self, page: tifffile.TiffPage, window: tuple[int, int, int, int]) -> np.ndarray:
        """Read a window as it is stored.

        Args:
            page: a 2D page (or frame), of S samples a pixel, side by side or in planes.
            window: y0, x0, y1, x1.

        Returns:
            (y1 - y0, x1 - x0, S) in native byte order.
        Raises:
            SourceError: if a strip or tile is cut off, or larger than the limit.
        """
        y0, x0, y1, x1 = window
        keyframe = page.keyframe
        planes, depth, height, width, samples = keyframe.shaped
        if depth != 1:
            raise SourceError(f"{self._path} holds volumes in one page; save each slice as a page of its own")
        if keyframe.is_memmappable:
            return self._read_mapped(page, window)
        rows, columns = (
            (keyframe.tilelength, keyframe.tilewidth)
            if keyframe.is_tiled
            else (min(keyframe.rowsperstrip, height), width)
        )
        check_num_pixels(self._path, (rows, columns))
        grid = math.ceil(height / rows), math.ceil(width / columns)
        out = np.empty((y1 - y0, x1 - x0, planes * samples), keyframe.dtype)
        for plane in range(planes):
            target = out[..., plane * samples : (plane + 1) * samples]
            for i in range(y0 // rows, math.ceil(y1 / rows)):
                for j in range(x0 // columns, math.ceil(x1 / columns)):
                    segment = self._segment(page, (plane * grid[0] + i) * grid[1] + j)
                    top, left = i * rows, j * columns
                    bottom, right = min(top + rows, y1), min(left + columns, x1)
                    part = np.s_[max(top, y0) - y0 : bottom - y0, max(left, x0) - x0 : right - x0]
                    if segment is None:
                        target[part] = keyframe.nodata
                    else:
                        target[part] = segment[max(y0 - top, 0) : bottom - top, max(x0 - left, 0) : right - left]
        return out

    def _read_mapped(self, page: tifffile.TiffPage, window: tuple[int, int, int, int]) -> np.ndarray:
        """Read an uncompressed page that lies in the file in one piece."""
        y0, x0, y1, x1 = window
        keyframe, file = page.keyframe, page.parent.filehandle
        offset = page.dataoffsets[0]
        dtype = np.dtype(page.parent.byteorder + keyframe.dtype.char)
        if offset + math.prod(keyframe.shaped) * dtype.itemsize > file.size:
            raise self._cut_off(offset)
        mapped = np.memmap(file.path, dtype, "r", offset, keyframe.shaped)
        pixels = np.concatenate([plane[0, y0:y1, x0:x1] for plane in mapped], axis=-1)
        return pixels.astype(dtype.newbyteorder("="), copy=False)

    def _segment(self, page: tifffile.TiffPage, index: int) -> np.ndarray | None:
        """(rows, columns, S) of a strip or tile; None if the file leaves it out."""
        keyframe, file = page.keyframe, page.parent.filehandle
        offset, num_bytes = page.dataoffsets[index], page.databytecounts[index]
        if not offset or not num_bytes:
            return None
        key = (file.path, offset)
        with self._lock:
            if key in self._segments:
                self._segments.move_to_end(key)
                return self._segments[key]
        with file.lock:
            file.seek(offset)
            data = file.read(num_bytes)
        if len(data) < num_bytes:
            raise self._cut_off(offset)
        tables = (
            {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
            if keyframe.compression in _JPEG_COMPRESSIONS
            else {}
        )
        segment = keyframe.decode(data, index, **tables)[0]
        if segment is None:
            return None
        segment = segment[0]
        with self._lock:
            self._segments[key] = segment
            self._num_bytes += segment.nbytes
            while self._num_bytes > _CACHE_BYTES and len(self._segments) > 1:
                self._num_bytes -= self._segments.popitem(last=False)[1].nbytes
        return segment

    def _cut_off(self, offset: int) -> SourceError:
        return SourceError(
            f"{self._path} is cut off: pixels from byte {offset} on are missing; copy it again from where it came from"
        )
