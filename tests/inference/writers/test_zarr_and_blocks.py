import tracemalloc

import numpy as np
import pytest
import tifffile

from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.writers import WRITERS, LabelBlockWriter, paint_labels
from tests.inference.shapes import SHAPE, all_objects

ome_zarr_io = pytest.importorskip("ome_zarr.io")
ome_zarr_reader = pytest.importorskip("ome_zarr.reader")
zarr = pytest.importorskip("zarr")


def nodes(path):
    return list(ome_zarr_reader.Reader(ome_zarr_io.parse_url(str(path), mode="r"))())


def test_ome_zarr_holds_image_and_labels(tmp_path):
    image = np.random.default_rng(0).integers(0, 999, (*SHAPE, 2)).astype(np.uint16)
    WRITERS["zarr"].write(all_objects((0.5, 0.25)), tmp_path / "a.zarr", image=image)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr"]
    found = {node.zarr.basename(): node for node in nodes(tmp_path / "a.zarr")}
    assert np.array_equal(np.asarray(found["a.zarr"].data[0]), np.moveaxis(image, -1, 0))
    labels = found["objects"]
    assert np.array_equal(np.asarray(labels.data[0]), paint_labels(all_objects()))
    assert labels.metadata["coordinateTransformations"][0][0]["scale"] == [0.5, 0.25]
    assert [axis["unit"] for axis in labels.metadata["axes"]] == ["micrometer"] * 2


def test_ome_zarr_metadata_are_valid(tmp_path):
    from ome_zarr_models.v04 import Image, ImageLabel

    WRITERS["zarr"].write(all_objects(), tmp_path / "a.zarr", image=np.zeros(SHAPE, np.uint8))
    Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    ImageLabel.from_zarr(zarr.open_group(tmp_path / "a.zarr/labels/objects", mode="r"))


def test_labels_alone_open_too_and_replace_what_was_there(tmp_path):
    for _ in range(2):
        WRITERS["zarr"].write(all_objects(), tmp_path / "a.zarr")
    (labels,) = [node for node in nodes(tmp_path / "a.zarr/labels/objects") if node.data]
    assert np.array_equal(np.asarray(labels.data[0]), paint_labels(all_objects()))
    assert len(list(tmp_path.iterdir())) == 1


def write_blocks(path):
    with LabelBlockWriter(path, SHAPE, np.uint16, "zarr") as writer:
        writer.write(np.ones(SHAPE, np.uint16), 0, 0)


def test_a_zarr_of_another_program_is_never_replaced(tmp_path):
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", data=np.ones((3, *SHAPE), np.uint8))
    with pytest.raises(ValueError, match="a.zarr exists and is no output of this program; choose another output"):
        WRITERS["zarr"].write(all_objects(), path)
    with pytest.raises(ValueError, match="a.zarr exists"):
        write_blocks(path)
    assert zarr.open_array(str(path / "0"), mode="r").shape == (3, *SHAPE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr"]


def test_an_output_replaces_an_earlier_one_but_not_the_image_it_is_made_of(tmp_path):
    path, image = tmp_path / "a.zarr", np.ones((*SHAPE, 3), np.uint8)
    write_blocks(path)
    WRITERS["zarr"].write(all_objects(), path, image=image)
    with open_image(path, channels=0) as source:
        with pytest.raises(ValueError, match="a.zarr is the image itself; choose another output"):
            WRITERS["zarr"].write(all_objects(), path, image=source)
    assert zarr.open_array(str(path / "0"), mode="r").shape == (3, *SHAPE)
    write_blocks(path)
    assert sorted(file.name for file in path.iterdir() if file.is_dir()) == ["labels"]


def labels_of(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y // 9) * 1000 + x // 7 + 1).astype(np.uint32)


def blocks_of(labels, size):
    for y in range(0, labels.shape[0], size):
        for x in range(0, labels.shape[1], size):
            yield labels[y : y + size, x : x + size], y, x


def read_back(path, kind):
    return tifffile.imread(path) if kind == "tiff" else zarr.open_array(path / "labels/objects/0", mode="r")[:]


@pytest.mark.parametrize("kind", ["tiff", "zarr"])
@pytest.mark.parametrize("size", [17, 64, 150, 1000])
def test_blocks_of_any_size_make_the_image(tmp_path, kind, size):
    labels = labels_of((211, 333))
    path = tmp_path / "a.tif"
    with LabelBlockWriter(path, labels.shape, np.uint32, kind, tile=64, pixel_size=(0.5, 0.5)) as writer:
        for block in blocks_of(labels, size):
            writer.write(*block)
        assert not path.exists()
    assert np.array_equal(read_back(path, kind), labels)
    assert len(list(tmp_path.iterdir())) == 1
    if kind == "tiff":
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff and file.pages[0].tile == (64, 64) and file.pages[0].compression == 8
            assert file.pages[0].get_resolution("micrometer") == pytest.approx((2, 2))
    else:
        (node,) = [node for node in nodes(path / "labels/objects") if node.data]
        assert [level.shape for level in node.data] == [(211, 333), (106, 167)]
        assert np.array_equal(np.asarray(node.data[1]), labels[::2, ::2])


@pytest.mark.parametrize("kind", ["tiff", "zarr"])
def test_an_error_or_missing_blocks_leave_no_file(tmp_path, kind):
    labels = labels_of((100, 100))
    with pytest.raises(KeyboardInterrupt):
        with LabelBlockWriter(tmp_path / "a", labels.shape, np.uint32, kind, tile=32) as writer:
            writer.write(labels[:50], 0, 0)
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="missing from row 32 on"):
        with LabelBlockWriter(tmp_path / "a", labels.shape, np.uint32, kind, tile=32) as writer:
            writer.write(labels[:50], 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_blocks_outside_or_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match="leaves the label image"):
        with LabelBlockWriter(tmp_path / "a", (100, 100), np.uint16, tile=32) as writer:
            writer.write(np.zeros((50, 50), np.uint16), 60, 0)
    with pytest.raises(ValueError, match="that are complete"):
        with LabelBlockWriter(tmp_path / "a", (100, 100), np.uint16, tile=32) as writer:
            writer.write(np.zeros((32, 100), np.uint16), 0, 0)
            writer.write(np.zeros((32, 100), np.uint16), 0, 0)


@pytest.mark.parametrize("kind", ["tiff", "zarr"])
def test_memory_is_that_of_a_few_rows_of_tiles(tmp_path, kind):
    shape, block = (8192, 2048), np.ones((256, 2048), np.uint32)
    tracemalloc.start()
    try:
        with LabelBlockWriter(tmp_path / "a", shape, np.uint32, kind, tile=256) as writer:
            for y in range(0, shape[0], 256):
                writer.write(block, y, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < shape[0] * shape[1] * 4 / 4
