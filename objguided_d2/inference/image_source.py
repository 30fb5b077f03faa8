"""One way to read an image of any format and size: windows of H x W pixels and C channels.

A file may hold several frames: time points, images beside each other (the series of a microscope's file, the fields of
a plate), pages of a plain stack, and slices of a z-stack where they were asked for one by one. The images of a file may
differ in channels and slices: what was asked for must fit the one whose frame is chosen, no other. Coordinates are
whole pixels of the level that was opened; windows are half-open.
"""

import math
import numbers
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.source_error import SourceError
from .readers import OpenFile, open_file
from .readers.stored_image import ImageLayout, as_source_error

_PROJECTIONS = ("max", "mean")
_BLOCK_PIXELS = 2**24


def open_image(
    path: str | Path,
    *,
    channels: str | int | Sequence[int | str] | None = None,
    level: int | None = None,
    z: str | int | None = None,
    frame: int | str | None = None,
) -> "ImageSource":
    """Open an image file, a Zarr folder or a whole slide.

    Args:
        path: of the image.
        channels: numbers from 0 or names of the channels to read, in this order; a text is split at commas. By default
            the single channel of a gray image or the three of a color image; needed for other numbers of channels.
        level: of a pyramid, 0 (the default) is the full resolution.
        z: what to do with a z-stack: "max" or "mean" projects it, a number from 0 takes one slice, "all" makes each
            slice a frame. Needed for z-stacks. Pages of a plain TIFF, which could be anything, are frames unless this
            or ``channels`` says what they are.
        frame: number from 0 or name of the frame to read, see ``ImageSource.frames``.

    Returns:
        the source, a context manager.
    Raises:
        SourceError: if the image cannot be read, or it takes a choice that was not made; it names the choices.
        ImportError: if reading it takes a library that is not installed.
    """
    path = Path(path)
    file = open_file(path, level)
    try:
        source = ImageSource(path, file, channels=channels, z=z)
        return source if frame is None else source.frame(frame)
    except BaseException:
        file.close()
        raise


class ImageSource:
    """Windows of one frame of an open file, see :func:`open_image`.

    Attributes:
        path: of the file.
        frames: names of the frames of the file, fit for file names; () if there is one only. While none is chosen,
            the attributes below are those of the first one, with all of its channels if the file holds several images,
            and pixels cannot be read.
        frame_name: name of this frame, "" if it is the only one or none is chosen.
        shape: (H, W).
        channel_names: C names.
        is_color: whether the channels are red, green and blue.
        dtype: of the pixels.
        pixel_size: micrometers per pixel (height, width), None if unknown.
    """

    def __init__(
        self,
        path: Path,
        file: OpenFile,
        *,
        channels: str | int | Sequence[int | str] | None = None,
        z: str | int | None = None,
        chosen: int | None = None,
    ) -> None:
        self.path = path
        self._file, self._channels_asked, self._z_asked = file, channels, z
        self._shown = str(path)
        self._places = [place for image in range(len(file.images)) for place in self._places_of(image)]
        names = _unique([self._name(*place) for place in self._places])
        self.frames = tuple(names) if len(names) > 1 else ()
        self._chosen = 0 if chosen is None and not self.frames else chosen
        self.frame_name = "" if self._chosen is None or not self.frames else self.frames[self._chosen]
        self._image, self._time, self._slices = self._places[self._chosen or 0]
        if self.frame_name:
            self._shown = f"{path}, frame {self.frame_name} (--frames),"
        if not self._slices and self._chosen is not None:
            self._slices_of(self._image)
        self._pages_are_channels = self._are_channels(self._image)
        layout = file.images[self._image].layout
        if not all(layout.shape):
            raise SourceError(f"{path} has no pixels: it claims {layout.shape[0]} x {layout.shape[1]}; export it again")
        if layout.dtype.kind not in "uif":
            raise SourceError(f"{path} holds {layout.dtype} values; save it as integers or floats")
        available = self._channel_names(layout)
        if self._chosen is None and len(file.images) > 1:
            self._channels = list(range(len(available)))
        else:
            self._channels = _choose_channels(self._shown, channels, available, layout.is_color)
        self.shape = layout.shape
        self.channel_names = tuple(available[channel] for channel in self._channels)
        self.is_color = layout.is_color and self._channels == [0, 1, 2]
        self.dtype = layout.dtype
        self.pixel_size = layout.pixel_size

    @property
    def num_channels(self) -> int:
        """C."""
        return len(self.channel_names)

    def frame(self, which: int | str) -> "ImageSource":
        """A frame by its number or name; it shares the open file.

        Raises:
            SourceError: if there is no such frame.
        """
        number = self.frame_number(which)
        return ImageSource(self.path, self._file, channels=self._channels_asked, z=self._z_asked, chosen=number)

    def frame_number(self, which: int | str) -> int:
        """The number, from 0, of a frame by its number or name.

        Raises:
            SourceError: if there is no such frame.
        """
        names = self.frames or ("",)
        number = names.index(which) if which in names else _number(which)
        if not 0 <= number < len(names):
            raise SourceError(f"{self.path} has no frame {which!r}; {_frame_choices(self.frames)}")
        return number

    def read(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        """Read rows y0 to y1 - 1 and columns x0 to x1 - 1; nothing outside them is kept.

        Returns:
            (y1 - y0, x1 - x0, C).
        Raises:
            ValueError: if the window is empty or leaves the image.
            SourceError: if the pixels cannot be read, or no frame is chosen.
        """
        height, width = self.shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise ValueError(f"window {y0}:{y1}, {x0}:{x1} is not within the {height} x {width} pixels of {self.path}")
        if self._chosen is None:
            raise SourceError(f"{self.path} holds {_frame_choices(self.frames)} (frame)")
        window = (int(y0), int(x0), int(y1), int(x1))
        with as_source_error(self.path):
            if self._pages_are_channels:
                pages = [self._read_slice(page, 0, [0], window) for page in self._channels]
                return np.concatenate(pages, axis=-1)
            return self._read_slices(window)

    def read_all(self) -> np.ndarray:
        """Read all pixels, (H, W, C)."""
        return self.read(0, 0, *self.shape)

    def sample(self, max_pixels: int) -> np.ndarray:
        """Every k-th row and column of the whole image, for percentiles; read in bands, so memory stays bounded.

        Args:
            max_pixels: k is the smallest number for which at most so many pixels are left.

        Returns:
            (h, w, C).
        """
        height, width = self.shape
        step = max(1, math.ceil(math.sqrt(height * width / max_pixels)))
        while math.ceil(height / step) * math.ceil(width / step) > max_pixels and step < max(height, width):
            step += 1
        rows = max(1, _BLOCK_PIXELS // (width * step)) * step
        bands = [self.read(y, 0, min(y + rows, height), width)[::step, ::step].copy() for y in range(0, height, rows)]
        return np.concatenate(bands)

    def close(self) -> None:
        """Close the file, of all its frames."""
        self._file.close()

    def __enter__(self) -> "ImageSource":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read_slices(self, window: tuple[int, int, int, int]) -> np.ndarray:
        first, last = self._slices[0], self._slices[-1]
        if first == last:
            return self._read_slice(self._time, first, self._channels, window)
        total: np.ndarray | None = None
        for z in self._slices:
            pixels = self._read_slice(self._time, z, self._channels, window)
            if self._z_asked == "mean":
                pixels = pixels.astype(np.float64)
                total = pixels if total is None else np.add(total, pixels, out=total)
            else:
                total = pixels if total is None else np.maximum(total, pixels)
        if self._z_asked == "mean":
            total /= len(self._slices)
            total = np.rint(total) if self.dtype.kind in "iu" else total
        return total.astype(self.dtype, copy=False)

    def _read_slice(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        image = self._file.images[self._image]
        if image.layout.pages_unknown and self._z_asked is not None:
            time, z = z, 0
        return image.read(time, z, channels, window)

    def _places_of(self, image: int) -> list[tuple[int, int, tuple[int, ...]]]:
        """(image, time, slices) of each frame; without slices where those asked for are none of the image's."""
        layout = self._file.images[image].layout
        if self._are_channels(image):
            return [(image, 0, (0,))]
        num_times = 1 if layout.pages_unknown and self._z_asked is not None else layout.num_times
        try:
            slices = self._slices_of(image)
        except SourceError:
            if len(self._file.images) == 1:
                raise
            slices = [()]
        return [(image, time, chosen) for time in range(num_times) for chosen in slices]

    def _slices_of(self, image: int) -> list[tuple[int, ...]]:
        layout = self._file.images[image].layout
        pages_are_slices = layout.pages_unknown and self._z_asked is not None
        return _choose_slices(self._shown, self._z_asked, layout.num_times if pages_are_slices else layout.num_slices)

    def _are_channels(self, image: int) -> bool:
        layout = self._file.images[image].layout
        asked = self._channels_asked is not None and self._z_asked is None
        return asked and layout.pages_unknown and len(layout.channel_names) == 1

    def _channel_names(self, layout: ImageLayout) -> tuple[str, ...]:
        return tuple(map(str, range(layout.num_times))) if self._pages_are_channels else layout.channel_names

    def _name(self, image: int, time: int, slices: tuple[int, ...]) -> str:
        layout = self._file.images[image].layout
        parts = []
        if len(self._file.images) > 1:
            parts.append(re.sub(r"[^\w.-]+", "_", layout.name).strip("._") or f"s{image:02d}")
        if layout.num_times > 1 and not (layout.pages_unknown and self._z_asked is not None):
            parts.append(f"{'p' if layout.pages_unknown else 't'}{time:03d}")
        if self._z_asked == "all" and max(layout.num_slices, layout.num_times * layout.pages_unknown) > 1:
            parts.append(f"z{slices[0]:03d}")
        return "_".join(parts)


def _choose_slices(shown: str, z: str | int | None, num_slices: int) -> list[tuple[int, ...]]:
    """The slices of each frame that a z-stack gives."""
    if num_slices == 1 and z in (None, "max", "mean", "all"):
        return [(0,)]
    if z in _PROJECTIONS:
        return [tuple(range(num_slices))]
    if z == "all":
        return [(index,) for index in range(num_slices)]
    index = _number(z)
    if not 0 <= index < num_slices:
        wrong = "" if z is None else f" and z cannot be {z!r}"
        raise SourceError(
            f"{shown} is a z-stack of {num_slices} slices{wrong}; choose max, mean, all or a number from 0 to "
            f"{num_slices - 1} (--z)"
        )
    return [(index,)]


def _number(value: object) -> int:
    """A whole number, by itself or as text; -1 for anything else."""
    if isinstance(value, numbers.Integral):
        return int(value)
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else -1


def _choose_channels(
    shown: str, asked: str | int | Sequence[int | str] | None, names: Sequence[str], is_color: bool
) -> list[int]:
    listed = ", ".join(str(i) if name == str(i) else f"{i} {name}" for i, name in enumerate(names))
    if asked is None:
        if len(names) == 1 or is_color:
            return list(range(len(names)))
        raise SourceError(f"{shown} has {len(names)} channels ({listed}); choose by number or name (--channels)")
    wanted = asked.split(",") if isinstance(asked, str) else list(asked) if np.iterable(asked) else [asked]
    lower = [name.lower() for name in names]
    chosen = []
    for channel in wanted:
        if isinstance(channel, str) and lower.count(channel.strip().lower()) == 1:
            chosen.append(lower.index(channel.strip().lower()))
        elif 0 <= _number(channel) < len(names):
            chosen.append(_number(channel))
        else:
            raise SourceError(f"{shown} has no channel {channel!r}; it has {listed} (--channels)")
    if not chosen:
        raise SourceError(f"{shown}: no channel is chosen; it has {listed} (--channels)")
    return chosen


def _unique(names: list[str]) -> list[str]:
    """Names with their number after those that occur before, ignoring case as some file systems do."""
    seen: set[str] = set()
    for i, name in enumerate(names):
        candidate, number = name, 1
        while candidate.lower() in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate.lower())
        names[i] = candidate
    return names


def _frame_choices(frames: Sequence[str]) -> str:
    if not frames:
        return "it holds one frame, 0"
    shown = ", ".join(frames[:6]) + (", ..." if len(frames) > 6 else "")
    return f"{len(frames)} frames; choose one by number or name: {shown}"
