"""GeoJSON as QuPath imports and exports it: one feature an object, in pixel corners of the full image, y down.

An outline from (x, y) = (2, 3) to (6, 8) covers columns 2-5 and rows 3-7 (``outlines.py``). Holes are inner rings,
objects in several pieces MultiPolygons; the geometries are valid in the sense of OGC's simple features, which JTS in
QuPath requires.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas

from ...utils.atomic_write import atomic_write
from ...utils.contact_sheet import PALETTE
from ..objects import SegmentedObjects
from .image_crops import Image
from .measurements import NAMING_COLUMNS, measure
from .outlines import trace_pieces

_OBJECT_TYPES = ("detection", "annotation", "cell")


def to_geojson(
    objects: SegmentedObjects, measurements: pandas.DataFrame | None = None, object_type: str = "detection"
) -> dict:
    """Objects as a GeoJSON FeatureCollection.

    Args:
        measurements: a row an object, as :func:`measure` gives; numbers become QuPath's measurements, beside the score.
        object_type: QuPath's "detection" (fast with many objects), "annotation" (can be edited) or "cell".

    Returns:
        a dict that ``json.dumps`` accepts with ``allow_nan=False``; feature i is named by number i + 1 of the label
        image. Measurements that are no finite number are left out.
    Raises:
        ValueError: if the rows of ``measurements`` are not those of the objects in their order, or for another type.
    """
    if object_type not in _OBJECT_TYPES:
        raise ValueError(f"object_type: QuPath has no {object_type!r}; give {', '.join(_OBJECT_TYPES)}")
    rows: Sequence[Mapping] = [{}] * len(objects)
    if measurements is not None:
        numbers = list(range(1, len(objects) + 1))
        if len(measurements) != len(objects) or measurements.get("label", pandas.Series(numbers)).tolist() != numbers:
            raise ValueError(
                f"measurements: {len(measurements)} rows are not those of the {len(objects)} objects in their order; "
                "measure these objects, and do not sort or filter the table"
            )
        rows = measurements.drop(columns=NAMING_COLUMNS, errors="ignore").to_dict("records")
    features = []
    for i, mask in enumerate(objects.masks):
        values = {
            "score": round(float(objects.scores[i]), 6),
            **{name: float(value) for name, value in rows[i].items()},
        }
        number = int(objects.classes[i])
        features.append(
            {
                "type": "Feature",
                "geometry": _geometry(mask, objects.boxes[i]),
                "properties": {
                    "objectType": object_type,
                    "name": str(i + 1),
                    "classification": {
                        "name": objects.class_names[number],
                        "color": PALETTE[number % len(PALETTE)].tolist(),
                    },
                    "measurements": {name: value for name, value in values.items() if math.isfinite(value)},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _geometry(mask: np.ndarray, box: np.ndarray) -> dict:
    polygons = [
        [_closed(ring) for ring in (piece.outer, *piece.holes)]
        for piece in trace_pieces(mask, (int(box[0]), int(box[1])))
    ]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: np.ndarray) -> list[list[int]]:
    corners = ring.tolist()
    return [*corners, corners[0]]


def write_geojson(objects: SegmentedObjects, path: Path, *, image: Image | None = None) -> None:
    """Write :func:`to_geojson` with all measurements."""
    content = to_geojson(objects, measure(objects, image))
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
