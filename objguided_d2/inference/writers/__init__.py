"""Output files: one module a format, one name each in ``WRITERS``.

Object i of :class:`~objguided_d2.inference.objects.SegmentedObjects` has the number i + 1 in all of them. The
coordinate convention of each format stands at the head of its module.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .coco import to_coco, write_coco
from .geojson import to_geojson, write_geojson
from .label_blocks import LabelBlockWriter
from .label_image import paint_labels, write_ctc, write_labels
from .measurements import measure, write_table
from .ome_zarr import write_ome_zarr
from .overlay import draw_overlay, write_overlay
from .rois import to_rois, write_rois

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
        write: ``write(objects, path, image=None)``; the image is (H, W) or (H, W, C), or an open image source. The file
            appears under its name when it is complete.
        needs_image: whether ``write`` refuses to go without.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Callable[..., None]
    needs_image: bool = False

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
        Writer("labels", (".labels.tif",), write_labels),
        Writer("table", (".csv", ".parquet"), write_table),
        Writer("coco", (".coco.json",), write_coco),
        Writer("rois", (".rois.zip",), write_rois),
        Writer("geojson", (".geojson",), write_geojson),
        Writer("zarr", (".zarr",), write_ome_zarr),
        Writer("overlay", (".overlay.png",), write_overlay, needs_image=True),
        Writer("ctc", ("mask{frame:03d}.tif",), write_ctc),
    )
}
