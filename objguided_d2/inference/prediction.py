"""What was found in one image, in the forms that people and programs take."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.structures import Instances

from ..data.source_error import SourceError
from .filters import Filters
from .image_scale import PixelSize, as_pair
from .instances import to_instances
from .large_labels import writer_of
from .objects import SegmentedObjects
from .records import identity

if TYPE_CHECKING:
    import pandas
    from roifile import ImagejRoi

    from .image_source import ImageSource


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Objects of one image, best score first; object i has the number i + 1 in every output.

    Attributes:
        objects: masks, scores and classes.
        image: as it was given, (H, W) or (H, W, C) or an open source, for intensities and pictures; for a path a
            :class:`FileImage`.
        boxes: (N, 4) float32 XYXY of the model, which differ from those of the masks where it predicts boxes apart.
        network_size: (height, width) of the image in the network.
        num_cut: objects of a tiled image whose region reached beyond what their tile read: a mask may lack a part.
        at_limit: there were as many detections as the model's limits allow, and there may be more objects, see
            :func:`.object_limits.may_hold_more`.
    """

    objects: SegmentedObjects
    image: Any = dataclasses.field(repr=False)
    boxes: np.ndarray = dataclasses.field(repr=False)
    network_size: tuple[int, int]
    num_cut: int = 0
    at_limit: bool = False

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def labels(self) -> np.ndarray:
        """(H, W) uint16, or uint32 from 65,536 objects: i + 1 where object i is, 0 elsewhere; where objects overlap,
        the one with the better score."""
        from .writers import paint_labels

        return paint_labels(self.objects)

    @property
    def instances(self) -> Instances:
        """Detectron2's, on the CPU: pred_boxes, pred_masks (``structures.ragged_masks.RaggedMasks``), scores and
        pred_classes."""
        return to_instances(self.objects, self.boxes)

    def table(self, pixel_size: PixelSize = None) -> pandas.DataFrame:
        """Measurements, a row an object; lengths in micrometers where the pixel size is known, the unit in the header.

        Args:
            pixel_size: micrometers per pixel, or (height, width) of a pixel; None takes the image's own.
        """
        from .writers import measure

        with kept_open(self.image) as image:
            return measure(self._with_pixel_size(pixel_size), image)

    def to_geojson(self) -> dict:
        """A GeoJSON FeatureCollection with measurements, as QuPath imports it."""
        from .writers import to_geojson

        return to_geojson(self.objects, self.table())

    def to_rois(self) -> list[ImagejRoi]:
        """ImageJ's regions of interest."""
        from .writers import to_rois

        return to_rois(self.objects)

    def overlay(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the image with numbered outlines."""
        from .writers import draw_overlay

        return draw_overlay(self.objects, self._pixels())

    def save(
        self,
        stem: str | Path,
        formats: Sequence[str] = ("labels", "table"),
        pixel_size: PixelSize = None,
    ) -> list[Path]:
        """Write files of the output formats that :data:`.writers.WRITERS` names.

        Args:
            stem: their path without an ending: "out/a" gives out/a.labels.tif and out/a.csv.

        Returns:
            their paths.
        Raises:
            ValueError: for a format that there is not, and a path that names no file.
        """
        from .writers import WRITERS

        check_formats(formats)
        if not Path(stem).name:
            raise ValueError(f"stem: {str(stem)!r} names no file; give a path without its ending, as 'out/a'")
        objects = self._with_pixel_size(pixel_size)
        paths = []
        with kept_open(self.image) as image:
            for name in formats:
                path = WRITERS[name].path(stem)
                writer_of(name, objects.shape, WRITERS[name].write)(objects, path, image=image)
                paths.append(path)
        return paths

    def filtered(self, filters: Filters) -> Prediction:
        """The same without what the filters leave out."""
        objects, kept = filters(self.objects)
        boxes = objects.boxes.astype(np.float32) if filters.changes_masks else self.boxes[kept]
        return dataclasses.replace(self, objects=objects, boxes=boxes)

    def _with_pixel_size(self, pixel_size: PixelSize) -> SegmentedObjects:
        if pixel_size is None:
            return self.objects
        return dataclasses.replace(self.objects, pixel_size=as_pair(pixel_size, "pixel_size"))

    def _pixels(self) -> np.ndarray:
        return self.image if isinstance(self.image, np.ndarray) else self.image.read(0, 0, *self.image.shape)


class FileImage:
    """An image file that is open only while pixels of it are read, so that predictions of any number of files can be
    kept. Every window opens the file, see :func:`kept_open`.

    Args:
        source: of the whole file.

    Attributes:
        path: absolute.
        shape, dtype, num_channels, channel_names, is_color, pixel_size: see :class:`.image_source.ImageSource`.
    """

    def __init__(self, source: ImageSource) -> None:
        self.path = source.path.absolute()
        self.shape, self.dtype, self.pixel_size = source.shape, source.dtype, source.pixel_size
        self.num_channels, self.channel_names = source.num_channels, source.channel_names
        self.is_color = source.is_color
        self._identity = self._identity_now()
        self._opened: Callable[[], contextlib.AbstractContextManager[ImageSource]] = self._open

    def read(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        """Rows y0 to y1 - 1 and columns x0 to x1 - 1, (y1 - y0, x1 - x0, C).

        Raises:
            SourceError: if the file cannot be read, or has changed since it was predicted.
        """
        with self._opened() as source:
            return source.read(y0, x0, y1, x1)

    def read_all(self) -> np.ndarray:
        """All pixels, (H, W, C)."""
        return self.read(0, 0, *self.shape)

    def sample(self, max_pixels: int) -> np.ndarray:
        """Every k-th row and column, see :meth:`.image_source.ImageSource.sample`."""
        with self._opened() as source:
            return source.sample(max_pixels)

    def _open(self) -> ImageSource:
        from .image_source import open_image

        source = open_image(self.path)
        if self._identity_now() != self._identity:
            source.close()
            raise SourceError(f"{self.path} has changed since it was predicted; predict it again")
        return source

    def _identity_now(self) -> dict | None:
        # What is written beside the pixels of a Zarr folder, labels as an example, changes it.
        return None if self.path.is_dir() else identity(self.path)


@contextlib.contextmanager
def kept_open(image: Any) -> Iterator[Any]:
    """The same image, of a :class:`FileImage` one whose file stays open from its first window to the end of the
    context."""
    if not isinstance(image, FileImage):
        yield image
        return
    with contextlib.ExitStack() as stack:
        kept = copy.copy(image)
        opened = functools.cache(lambda: stack.enter_context(image._open()))
        kept._opened = lambda: contextlib.nullcontext(opened())
        yield kept


def check_formats(formats: Sequence[str]) -> None:
    """Raise ValueError for an output format that there is not, or for a text in place of a list of them."""
    from .writers import WRITERS

    if isinstance(formats, str):
        raise ValueError(f"formats: {formats!r} is a text; give a list of names, as [{formats!r}]")
    unknown = [name for name in formats if name not in WRITERS]
    if unknown or not formats:
        raise ValueError(f"no output format {', '.join(unknown) or 'is named'}; choose of {', '.join(WRITERS)}")
