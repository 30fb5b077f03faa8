"""Regions of ImageJ's ROI manager: a ``.zip`` of ``.roi`` files, or one of them, per image."""

import io
import zipfile

import numpy as np
import roifile

from ...utils.rle import decode_masks
from ..decode_limit import check_bytes
from ..segmentation import segmentation_to_rle
from ..source_error import SourceError
from .conversion import ConversionNotes

MAX_ROIS = 100_000
_AREAS = ("POLYGON", "FREEHAND", "TRACED", "OVAL", "RECT")


def read_rois(data: bytes, name: str, size: tuple[int, int], notes: ConversionNotes) -> list[np.ndarray]:
    """Fill the regions that have an area; points, lines and damaged ones are left out and noted.

    Args:
        data: of the file.
        name: for messages.
        size: height and width of the image. ImageJ's coordinates are corners of pixels.

    Returns:
        (H, W) bool masks.
    Raises:
        SourceError: if the file is neither a region nor an archive of regions.
    """
    members = {name: data} if data[:4] == b"Iout" else _unpack(data, name)
    masks = []
    for member, content in members.items():
        try:
            masks.append(_fill(roifile.ImagejRoi.frombytes(content), size))
        except Exception as error:  # of damaged files roifile raises whatever it stumbles over
            notes.leave_out(f"{name}, {member}: {error or type(error).__name__}", kind="shape left out")
    return masks


def _unpack(data: bytes, name: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if info.filename.lower().endswith(".roi")]
            if len(infos) > MAX_ROIS:
                raise SourceError(f"{name} has {len(infos):,} regions, more than {MAX_ROIS:,}; split it")
            check_bytes(sum(info.file_size for info in infos), name)
            members = {info.filename: archive.read(info) for info in infos if "__MACOSX" not in info.filename}
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{name} is no archive of ImageJ regions ({error}); save them again") from error
    if not members:
        raise SourceError(f"{name} is an archive without .roi files; save the ROI manager's regions again")
    return members


def _fill(roi: roifile.ImagejRoi, size: tuple[int, int]) -> np.ndarray:
    kind = roi.roitype.name
    is_composite = roi.multi_coordinates is not None
    if not is_composite and kind not in _AREAS:
        raise ValueError(f"is a {kind.lower()}, which has no area; draw its outline")
    rings = [np.asarray(ring, float)[:, :2] for ring in roi.coordinates(multi=True)]
    mask = np.zeros(size, bool)
    for ring in rings:
        if len(ring) >= 3:
            # Rings inside others are holes.
            mask ^= decode_masks([segmentation_to_rle([ring.ravel().tolist()], *size)], *size)[0]
    if not mask.any():
        raise ValueError("covers no pixel of the image; check that it was drawn on this image")
    return mask
