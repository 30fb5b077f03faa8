import numpy as np
import pytest
import tifffile

from objguided_d2.data.source_error import SourceError
from objguided_d2.inference.image_source import open_image

RNG = np.random.default_rng(1)
STACK = RNG.integers(0, 4000, (2, 4, 3, 20, 30)).astype(np.uint16)  # T, Z, C, Y, X


def hyperstack(tmp_path, kind):
    path = tmp_path / "a.tif"
    if kind == "imagej":
        tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "TZCYX"})
    else:
        names = {"Channel": {"Name": ["DAPI", "GFP", "Cy5"]}, "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
        size = {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
        tifffile.imwrite(path, STACK, ome=True, compression="zlib", metadata={"axes": "TZCYX", **names, **size})
    return path


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_time_points_are_frames_and_channels_and_slices_are_chosen(tmp_path, kind):
    path = hyperstack(tmp_path, kind)
    with open_image(path, channels=[2, 0], z=1) as source:
        assert source.frames == ("t000", "t001") and source.shape == (20, 30) and source.num_channels == 2
        expected = np.moveaxis(STACK[1, 1][[2, 0]], 0, -1)
        assert np.array_equal(source.frame(1).read_all(), expected)
        assert np.array_equal(source.frame("t001").read(3, 5, 11, 29), expected[3:11, 5:29])
        assert source.frame(1).frame_name == "t001"
        with pytest.raises(SourceError, match="2 frames; choose one by number or name: t000, t001"):
            source.read_all()
        with pytest.raises(SourceError, match="no frame 2"):
            source.frame(2)


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_projections(tmp_path, kind):
    path = hyperstack(tmp_path, kind)
    with open_image(path, channels=1, z="max", frame=0) as source:
        assert np.array_equal(source.read_all()[..., 0], STACK[0, :, 1].max(axis=0))
    with open_image(path, channels=1, z="mean", frame=0) as source:
        mean = source.read_all()
        assert mean.dtype == np.uint16 and np.array_equal(mean[..., 0], np.rint(STACK[0, :, 1].mean(axis=0)))


def test_all_slices_are_frames(tmp_path):
    with open_image(hyperstack(tmp_path, "imagej"), channels=1, z="all") as source:
        assert source.frames[:2] == ("t000_z000", "t000_z001") and len(source.frames) == 8
        assert np.array_equal(source.frame("t001_z002").read_all()[..., 0], STACK[1, 2, 1])


def test_nothing_is_guessed(tmp_path):
    path = hyperstack(tmp_path, "ome")
    with pytest.raises(
        SourceError, match=r"z-stack of 4 slices; choose max, mean, all or a number from 0 to 3 \(--z\)"
    ):
        open_image(path, channels=0)
    with pytest.raises(SourceError, match=r"has 3 channels \(0 DAPI, 1 GFP, 2 Cy5\); choose by number or name"):
        open_image(path, z="max")
    with pytest.raises(SourceError, match="no channel 'RFP'"):
        open_image(path, z="max", channels="DAPI,RFP")
    with pytest.raises(SourceError, match="no channel 3"):
        open_image(path, z="max", channels=3)
    with pytest.raises(SourceError, match="z cannot be 4"):
        open_image(path, z=4, channels=0)


def test_ome_names_and_pixel_size(tmp_path):
    with open_image(hyperstack(tmp_path, "ome"), channels="cy5, DAPI", z=0, frame=0) as source:
        assert source.channel_names == ("Cy5", "DAPI") and source.pixel_size == pytest.approx((0.5, 0.25))
        assert np.array_equal(source.read_all()[..., 0], STACK[0, 0, 2])


def test_pages_of_a_plain_tiff_are_frames_unless_told_otherwise(tmp_path):
    pages = STACK[0, :, 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, metadata=None, contiguous=False, compression="zlib")
    with open_image(tmp_path / "a.tif") as source:
        assert source.frames == ("p000", "p001", "p002", "p003")
        assert np.array_equal(source.frame(2).read_all()[..., 0], pages[2])
    with open_image(tmp_path / "a.tif", z="max") as source:
        assert source.frames == () and np.array_equal(source.read_all()[..., 0], pages.max(axis=0))
    with open_image(tmp_path / "a.tif", channels="3,1") as source:
        assert source.frames == () and np.array_equal(source.read_all(), np.moveaxis(pages[[3, 1]], 0, -1))


@pytest.mark.parametrize("shape, options", [((40, 30, 5), {}), ((40, 30, 5), {"photometric": "minisblack"})])
def test_five_channels_need_a_choice(tmp_path, shape, options):
    array = RNG.integers(0, 255, shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(SourceError, match=r"a\.tif has 5 channels .*--channels"):
        open_image(tmp_path / "a.tif")
    with open_image(tmp_path / "a.tif", channels="4,1") as source:
        assert source.shape == (40, 30) and np.array_equal(source.read_all(), array[..., [4, 1]])
        assert np.array_equal(source.read(3, 4, 9, 20), array[3:9, 4:20, [4, 1]])


def test_channels_of_a_color_image_can_be_chosen(tmp_path):
    array = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array)
    with open_image(tmp_path / "a.tif", channels="green") as source:
        assert np.array_equal(source.read_all(), array[..., 1:2]) and not source.is_color


def test_images_beside_each_other_are_frames_of_their_own_size(tmp_path):
    first, second = STACK[0, 0, 0], STACK[0, 0, 1][:9, :11]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(first, metadata={"axes": "YX", "Name": "Well A/1"})
        writer.write(second, metadata={"axes": "YX", "Name": "Well A/1"})
    with open_image(tmp_path / "a.ome.tif") as source:
        assert source.frames == ("Well_A_1", "Well_A_1_2")
        assert source.frame(1).shape == (9, 11)
        assert np.array_equal(source.frame(0).read_all()[..., 0], first)
        assert np.array_equal(source.frame(1).read_all()[..., 0], second)


def test_what_is_asked_for_need_not_fit_the_images_beside_the_one_that_is_chosen(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(STACK[0, :, :2], metadata={"axes": "ZCYX", "Name": "stack"}, photometric="minisblack")
        writer.write(STACK[0, 0, 0], metadata={"axes": "YX", "Name": "overview"})
    with open_image(tmp_path / "a.ome.tif") as source:
        assert source.frames == ("stack", "overview")
        assert np.array_equal(source.frame("overview").read_all()[..., 0], STACK[0, 0, 0])
        with pytest.raises(SourceError, match=r"frame stack \(--frames\), is a z-stack of 4 slices; .*\(--z\)"):
            source.frame("stack")
    with open_image(tmp_path / "a.ome.tif", channels=1, z=2, frame="stack") as source:
        assert np.array_equal(source.read_all()[..., 0], STACK[0, 2, 1])
    with pytest.raises(SourceError, match=r"frame overview \(--frames\), has no channel 1; it has 0 \(--channels\)"):
        open_image(tmp_path / "a.ome.tif", channels=1, z="max", frame=1)


@pytest.mark.parametrize("channels", [np.int64(1), np.array([1]), (np.uint8(1),), " 1"])
def test_numbers_of_numpy_are_numbers(tmp_path, channels):
    with open_image(hyperstack(tmp_path, "ome"), channels=channels, z=np.int64(2), frame=np.int64(1)) as source:
        assert np.array_equal(source.read_all()[..., 0], STACK[1, 2, 1])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frame": 1.0}, "has no frame 1.0; 2 frames"),
        ({"frame": "²"}, "has no frame '²'; 2 frames"),
        ({"channels": "²"}, "has no channel '²'; it has 0 DAPI"),
        ({"channels": 1.0}, "has no channel 1.0; it has 0 DAPI"),
        ({"z": 1.0}, "z cannot be 1.0"),
        ({"level": 0.0}, "has no level 0.0; its levels are 0: 20 x 30"),
    ],
)
def test_what_is_no_whole_number_is_refused_in_one_line(tmp_path, options, message):
    with pytest.raises(SourceError, match=message):
        open_image(hyperstack(tmp_path, "ome"), **{"channels": 0, "z": 0, **options})


def test_metadata_of_each_image_in_a_file(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for size, name in ((0.5, "GFP"), (0.25, "DAPI")):
            metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size, "Channel": {"Name": name}}
            writer.write(STACK[0, 0, 0], metadata=metadata)
    with open_image(tmp_path / "a.ome.tif") as source:
        found = [(source.frame(i).pixel_size, source.frame(i).channel_names) for i in range(2)]
    assert found == [((0.5, 0.5), ("GFP",)), ((0.25, 0.25), ("DAPI",))]


def test_a_file_of_a_multi_file_dataset_gives_its_own_planes(tmp_path):
    names = [f"a_t{time}.ome.tif" for time in range(2)]
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{time}" for time in range(2)]
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{names[t]}">{uuids[t]}</UUID></TiffData>'
        for t in range(2)
    )
    for time in range(2):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[time]}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" '
            f'SizeZ="1" SizeC="1" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(tmp_path / names[time], STACK[time, 0, 0], description=xml, metadata=None)
    for time in range(2):
        with open_image(tmp_path / names[time]) as source:
            assert source.frames == () and np.array_equal(source.read_all()[..., 0], STACK[time, 0, 0])
