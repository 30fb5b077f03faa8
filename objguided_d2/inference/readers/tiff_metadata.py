"""Pixel size and names that a TIFF keeps beside its pixels: OME-XML, ImageJ's description, the resolution tags."""

import dataclasses
import xml.etree.ElementTree as ElementTree
from fractions import Fraction

import tifffile

# A resolution tag of more than this is the dots per inch of a printer, not the size of a pixel in a specimen.
_LARGEST_PIXEL = 50.0

_MICROMETERS = {
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometre": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OmeImage:
    """What OME-XML says of one image; empty or None where it says nothing."""

    name: str = ""
    channel_names: tuple[str, ...] = ()
    pixel_size: tuple[float, float] | None = None


def micrometers(unit: str | None) -> float | None:
    """Micrometers in a unit of length, by its name or sign in any case; None for other units ("pixel", "inch")."""
    return _MICROMETERS.get((unit or "").strip().lower())


def ome_images(xml: str) -> list[OmeImage]:
    """Read the images of OME-XML, in their order; [] if it is no XML."""
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return []
    found = []
    for image in root.findall("{*}Image"):
        pixels = image.find("{*}Pixels")
        if pixels is None:
            continue
        names = []
        for channel in pixels.findall("{*}Channel"):
            name = channel.get("Name") or ""
            samples = int(channel.get("SamplesPerPixel") or 1)
            names += [name] if samples == 1 else [f"{name}{i}" for i in range(samples)]
        sizes = [_ome_length(pixels, f"PhysicalSize{axis}") for axis in "YX"]
        size = (sizes[0], sizes[1]) if sizes[0] and sizes[1] else None
        found.append(OmeImage(image.get("Name") or "", tuple(names), size))
    return found


def _ome_length(pixels: ElementTree.Element, key: str) -> float | None:
    factor = micrometers(pixels.get(f"{key}Unit", "µm"))
    try:
        length = float(pixels.get(key, ""))
    except ValueError:
        return None
    return length * factor if factor and length > 0 else None


def resolution_pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Pixel size (height, width) in micrometers by the tags XResolution and YResolution.

    ImageJ names the unit in its description; elsewhere only centimeters are believed, and only for pixels of up to 50
    micrometers: many programs write the 72 dots per inch of a screen.
    """
    per_unit = [_resolution(page, name) for name in ("YResolution", "XResolution")]
    if not all(per_unit):
        return None
    if file.is_imagej:
        factor = micrometers(str((file.imagej_metadata or {}).get("unit", "")))
    else:
        unit = page.tags.get("ResolutionUnit")
        factor = 1e4 if unit is not None and unit.value == tifffile.RESUNIT.CENTIMETER else None
    if factor is None:
        return None
    height, width = factor / per_unit[0], factor / per_unit[1]
    return (height, width) if file.is_imagej or max(height, width) <= _LARGEST_PIXEL else None


def _resolution(page: tifffile.TiffPage, name: str) -> float:
    tag = page.tags.get(name)
    try:
        return float(Fraction(*tag.value)) if tag is not None else 0.0
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
