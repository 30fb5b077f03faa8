import json
import sys

import numpy as np
import pytest
import tifffile

from objguided_d2.data.source_error import SourceError
from objguided_d2.inference.image_source import open_image

zarr = pytest.importorskip("zarr")
writer = pytest.importorskip("ome_zarr.writer")

pytestmark = pytest.mark.filterwarnings("ignore:The 'coordinate_transformations' argument:DeprecationWarning")
RNG = np.random.default_rng(2)
STACK = RNG.integers(0, 4000, (2, 3, 4, 64, 96)).astype(np.uint16)  # t, c, z, y, x
RGB = RNG.integers(0, 256, (300, 420, 3)).astype(np.uint8)


def ome_zarr(path, version, array=STACK, axes="tczyx"):
    from ome_zarr.format import FormatV04, FormatV05

    fmt = FormatV04() if version == "0.4" else FormatV05()
    group = zarr.open_group(str(path), mode="w", zarr_format=fmt.zarr_format)
    kinds = {"t": "time", "c": "channel"}
    axes_given = [
        {"name": axis, "type": kinds.get(axis, "space"), **({"unit": "nanometer"} if axis in "zyx" else {})}
        for axis in axes
    ]
    levels = [array, array[..., ::2, ::2]]
    scales = [[1.0] * (len(axes) - 2) + [500.0 * factor, 250.0 * factor] for factor in (1, 2)]
    writer.write_multiscale(
        levels,
        group,
        axes=axes_given,
        fmt=fmt,
        coordinate_transformations=[[{"type": "scale", "scale": scale}] for scale in scales],
    )
    omero = {"channels": [{"label": name, "color": "FFFFFF"} for name in ("DAPI", "GFP", "Cy5")]}
    attributes = dict(group.attrs)
    if "ome" in attributes:
        group.attrs["ome"] = {**attributes["ome"], "omero": omero}
    else:
        group.attrs["omero"] = omero
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_both_formats(tmp_path, version):
    path = ome_zarr(tmp_path / "a.zarr", version)
    with open_image(path, channels="GFP,0", z="max") as source:
        assert source.frames == ("t000", "t001") and source.channel_names == ("GFP", "DAPI")
        assert source.pixel_size == pytest.approx((0.5, 0.25)) and source.dtype == np.uint16
        expected = np.moveaxis(STACK[1][[1, 0]].max(axis=1), 0, -1)
        assert np.array_equal(source.frame(1).read_all(), expected)
        assert np.array_equal(source.frame(1).read(3, 5, 40, 90), expected[3:40, 5:90])
    with open_image(path, channels=2, z=3, level=1, frame=0) as source:
        assert np.array_equal(source.read_all()[..., 0], STACK[0, 2, 3, ::2, ::2])
        assert source.pixel_size == pytest.approx((1.0, 0.5))
    with pytest.raises(SourceError, match=r"3 channels \(0 DAPI, 1 GFP, 2 Cy5\)"):
        open_image(path, z="max")
    with pytest.raises(SourceError, match="z-stack of 4 slices"):
        open_image(path, channels=0)
    with pytest.raises(SourceError, match="no level 2"):
        open_image(path, channels=0, z=0, level=2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_bare_arrays(tmp_path, zarr_format):
    gray, color, pages = STACK[0, 0, 0], RGB, STACK[0, 0]
    for name, array in {"gray": gray, "color": color, "pages": pages}.items():
        made = zarr.open_array(
            str(tmp_path / name), mode="w", shape=array.shape, chunks=array.shape, dtype=array.dtype,
            zarr_format=zarr_format,
        )  # fmt: skip
        made[:] = array
    with open_image(tmp_path / "gray") as source:
        assert np.array_equal(source.read(3, 4, 30, 50)[..., 0], gray[3:30, 4:50])
    with open_image(tmp_path / "color") as source:
        assert source.is_color and np.array_equal(source.read_all(), color)
    with open_image(tmp_path / "pages") as source:
        assert source.frames == ("p000", "p001", "p002", "p003")
        assert np.array_equal(source.frame(3).read_all()[..., 0], pages[3])


def test_series_of_a_converted_file_and_fields_of_a_plate_are_frames(tmp_path):
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    plate = zarr.open_group(str(tmp_path / "p.zarr"), mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/2"}]}
    for index, well in enumerate(("A/1", "B/2")):
        ome_zarr(tmp_path / "a.zarr" / str(index), "0.4", STACK[index, index, 0], "yx")
        plate.create_group(well).attrs["well"] = {"images": [{"path": "0"}]}
        ome_zarr(tmp_path / "p.zarr" / well / "0", "0.4", STACK[index, index, 0], "yx")
    for name, frames in {"a.zarr": ("0", "1"), "p.zarr": ("A_1_0", "B_2_0")}.items():
        with open_image(tmp_path / name) as source:
            assert source.frames == frames
            assert np.array_equal(source.frame(1).read_all()[..., 0], STACK[1, 1, 0])


def test_zarr_folders_without_an_image_say_what_to_open(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("raw", shape=(4, 4), dtype=np.uint8)
    with pytest.raises(SourceError, match="holds no OME-Zarr image; give one of its arrays: .*a.zarr/raw"):
        open_image(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "zarr.json").write_text("{")
    with pytest.raises(SourceError, match="b.zarr cannot be read"):
        open_image(tmp_path / "b.zarr")


def test_a_damaged_chunk_is_one_line(tmp_path):
    path = ome_zarr(tmp_path / "a.zarr", "0.4", STACK[0, 0, 0], "yx")
    level = json.loads((path / ".zattrs").read_text())["multiscales"][0]["datasets"][0]["path"]
    chunks = [file for file in (path / level).rglob("*") if file.is_file() and not file.name.startswith(".")]
    chunks[0].write_bytes(b"broken")
    with open_image(path) as source, pytest.raises(SourceError, match="a.zarr cannot be read"):
        source.read_all()


def slide(path):
    """A file with the tags of an Aperio scanner: full resolution, thumbnail, one level."""
    description = "Aperio Image Library v1\n420x300 [0,0 420x300] (64x64)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "compression": "zlib", "metadata": None}
        file.write(RGB, tile=(64, 64), description=description, **options)
        file.write(RGB[::8, ::8], description="Aperio Image Library v1\nthumbnail", **options)
        file.write(RGB[::2, ::2], tile=(64, 64), description="Aperio Image Library v1\nlevel", **options)
    return path


def test_whole_slide_through_tiffslide(tmp_path):
    pytest.importorskip("tiffslide")
    path = slide(tmp_path / "a.svs")
    with open_image(path) as source:
        assert source.shape == (300, 420) and source.is_color and source.pixel_size == (0.5, 0.5)
        assert np.array_equal(source.read(130, 70, 290, 415), RGB[130:290, 70:415])
    with open_image(path, level=1) as source:
        assert source.shape == (150, 210) and source.pixel_size == (1.0, 1.0)
        assert np.array_equal(source.read(11, 33, 99, 200), RGB[::2, ::2][11:99, 33:200])


@pytest.mark.parametrize(
    "name, hidden, needed",
    [
        ("a.svs", ["tiffslide", "openslide"], r"objguided_d2\[slides\]"),
        ("a.mrxs", ["openslide"], "openslide-python"),
        ("a.zarr", ["zarr"], r"objguided_d2\[zarr\]"),
    ],
)
def test_a_missing_library_is_named(tmp_path, monkeypatch, name, hidden, needed):
    path = tmp_path / name
    if name.endswith("zarr"):
        zarr.open_group(str(path), mode="w")
    else:
        path.write_bytes(b"x")
    for module in hidden:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=needed):
        open_image(path)
