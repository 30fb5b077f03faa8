"""ImageJ ROIs, zipped as Fiji's ROI Manager saves them.

Area selections of ImageJ lie along pixel corners: an outline from (x, y) = (2, 3) to (6, 8) selects columns 2-5 and
rows 3-7. Each object is one ROI: a polygon with sub-pixel coordinates, or a composite where it has holes or several
pieces. Holes run against the outlines, so that both rules of filling (even-odd, nonzero) leave them out.
"""

import zipfile
from pathlib import Path

import numpy as np
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from ...utils.atomic_write import atomic_write
from ...utils.contact_sheet import PALETTE
from ..objects import SegmentedObjects
from .outlines import Piece, trace_pieces

_MOVE, _LINE, _CLOSE = 0, 1, 4  # of java.awt.geom.PathIterator
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def to_rois(objects: SegmentedObjects) -> list[ImagejRoi]:
    """One ROI an object, in their order.

    Returns:
        ROIs named by the number of the label image and the class, ``0001-nucleus``, with the score as property
        ``score`` and the class as group (from 1).
    """
    digits = max(4, len(str(len(objects))))
    rois = []
    for i, mask in enumerate(objects.masks):
        number = int(objects.classes[i])
        roi = _roi(trace_pieces(mask, (int(objects.boxes[i, 0]), int(objects.boxes[i, 1]))))
        roi.left, roi.top, roi.right, roi.bottom = objects.boxes[i].tolist()
        roi.name = f"{i + 1:0{digits}d}-{objects.class_names[number]}"
        roi.props = f"score: {float(objects.scores[i]):.6f}\n"
        roi.group = number + 1
        roi.stroke_color = bytes([255, *PALETTE[number % len(PALETTE)].tolist()])
        rois.append(roi)
    return rois


def _roi(pieces: list[Piece]) -> ImagejRoi:
    roi = ImagejRoi()
    if len(pieces) == 1 and not pieces[0].holes:
        corners = pieces[0].outer
        roi.roitype = ROI_TYPE.FREEHAND
        roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.n_coordinates = len(corners)
        roi.integer_coordinates = (corners - corners.min(axis=0)).astype(np.int32)
        roi.subpixel_coordinates = corners.astype(np.float32)
        return roi
    path: list[float] = []
    for piece in pieces:
        for ring in (piece.outer, *piece.holes):
            for operation, (x, y) in zip([_MOVE] + [_LINE] * (len(ring) - 1), ring.tolist()):
                path += [operation, x, y]
            path.append(_CLOSE)
    roi.roitype = ROI_TYPE.RECT
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi


def write_rois(objects: SegmentedObjects, path: Path, *, image: object = None) -> None:
    """Write :func:`to_rois` as a zip file; the same objects give the same bytes."""
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for roi in to_rois(objects):
            name = "".join(letter if letter not in '/\\:*?"<>|' else "_" for letter in roi.name)
            archive.writestr(zipfile.ZipInfo(f"{name}.roi", _EARLIEST), roi.tobytes(), zipfile.ZIP_DEFLATED)
