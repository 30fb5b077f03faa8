"""Output files: one module a format, one name each in ``WRITERS``.

Object i of :class:`~objguided_d2.inference.objects.SegmentedObjects` has the number i + 1 in all of them. The
coordinate convention of each format stands at the head of its module.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from .coco import to_coco
    from .geojson import to_geojson
    from .label_blocks import LabelBlockWriter
    from .label_image import paint_labels
    from .measurements import measure
    from .overlay import draw_overlay
    from .rois import to_rois

__getattr__ = lazy_attributes(
    __name__,
    {
        "LabelBlockWriter": ".label_blocks",
        "draw_overlay": ".overlay",
        "measure": ".measurements",
        "paint_labels": ".label_image",
        "to_coco": ".coco",
        "to_geojson": ".geojson",
        "to_rois": ".rois",
    },
)

__all__ = [
    "WRITERS",
    "LabelBlockWriter",
    "Writer",
    "draw_overlay",
    "measure",
    "paint_labels",
    "to_coco",
    "to_geojson",
    "to_rois",
]


@dataclass(frozen=True)
class Writer:
    """An output format.

    Attributes:
        name: as users ask for it.
        suffixes: endings of its files, the default first.
        function: ``module.name`` of :attr:`write` in this package, imported when it is first used.
        needs_image: whether ``write`` refuses to go without.
    """

    name: str
    suffixes: tuple[str, ...]
    function: str
    needs_image: bool = False

    @property
    def write(self) -> Callable[..., None]:
        """``write(objects, path, image=None)``; the image is (H, W) or (H, W, C), or an open image source.

        The file appears under its name when it is complete.
        """
        module, _, name = self.function.partition(".")
        return getattr(importlib.import_module(f".{module}", __name__), name)

    def path(self, stem: str | Path, frame: int = 0, suffix: str | None = None) -> Path:
        """Where the output of an image belongs.

        Args:
            stem: the output path without an ending; its folder holds the output (CTC: it is the folder).
            frame: time point, which CTC's file names hold.
            suffix: one of ``suffixes``, by default the first.
        """
        ending = (suffix or self.suffixes[0]).format(frame=frame)
        return Path(stem) / ending if self.name == "ctc" else Path(f"{stem}{ending}")


WRITERS: dict[str, Writer] = {
    writer.name: writer
    for writer in (
        Writer("labels", (".labels.tif",), "label_image.write_labels"),
        Writer("table", (".csv", ".parquet"), "measurements.write_table"),
        Writer("coco", (".coco.json",), "coco.write_coco"),
        Writer("rois", (".rois.zip",), "rois.write_rois"),
        Writer("geojson", (".geojson",), "geojson.write_geojson"),
        Writer("zarr", (".zarr",), "ome_zarr.write_ome_zarr"),
        Writer("overlay", (".overlay.png",), "overlay.write_overlay", needs_image=True),
        Writer("ctc", ("mask{frame:03d}.tif",), "label_image.write_ctc"),
    )
}
