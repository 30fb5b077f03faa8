"""Each output is read back by the library that its program uses, and holds the same objects."""

import json

import cv2
import numpy as np
import pandas
import pytest
import roifile
import shapely
import tifffile
from pycocotools.coco import COCO

from objguided_d2.inference.objects import SegmentedObjects
from objguided_d2.inference.writers import WRITERS, draw_overlay, paint_labels, to_geojson, to_rois
from objguided_d2.inference.writers.coco import encode_masks
from objguided_d2.inference.writers.measurements import measure
from tests.inference.shapes import NAMES, SHAPE, all_objects, fill, full_masks, segmented

IMAGE = (np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) * 7 % 251).astype(np.uint8)


def written(name, tmp_path, objects, suffix=None, **keywords):
    path = WRITERS[name].path(tmp_path / "deep" / "cell (1).a", suffix=suffix)
    WRITERS[name].write(objects, path, **keywords)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


@pytest.fixture(params=NAMES)
def one(request):
    mask = full_masks()[request.param]
    return mask, segmented([mask])


def test_labels_number_objects_from_1_and_the_better_score_covers_the_other(tmp_path):
    masks = full_masks()
    labels = tifffile.imread(written("labels", tmp_path, all_objects()))
    assert labels.dtype == np.uint16 and labels.shape == SHAPE
    expected = np.zeros(SHAPE, int)
    for number, mask in reversed(list(enumerate(masks.values(), start=1))):
        expected[mask] = number
    assert np.array_equal(labels, expected)
    both = masks["ring"] & masks["overlap"]
    assert both.any() and (labels[both] == 1).all()


@pytest.mark.parametrize("num_objects, dtype", [(65_535, np.uint16), (65_536, np.uint32)])
def test_labels_have_32_bits_from_65536_objects_on(num_objects, dtype):
    places = np.arange(num_objects)
    boxes = np.stack([places % 300, places // 300, places % 300 + 1, places // 300 + 1], axis=1)
    pixel = np.ones((1, 1), bool)
    objects = SegmentedObjects(
        (220, 300), boxes, [pixel] * num_objects, np.full(num_objects, 0.5, np.float32), np.zeros(num_objects, int)
    )
    labels = paint_labels(objects)
    assert labels.dtype == dtype and np.array_equal(labels.ravel()[:num_objects], places + 1)


def test_label_file_holds_the_pixel_size(tmp_path):
    with tifffile.TiffFile(written("labels", tmp_path, all_objects((0.5, 0.25)))) as file:
        assert file.pages[0].get_resolution("micrometer") == pytest.approx((4, 2))


def test_ctc_mask(tmp_path):
    path = WRITERS["ctc"].path(tmp_path / "01_RES", frame=7)
    assert path == tmp_path / "01_RES" / "mask007.tif"
    WRITERS["ctc"].write(all_objects(), path)
    labels = tifffile.imread(path)
    assert labels.dtype == np.uint16 and np.array_equal(labels, paint_labels(all_objects()))


def test_coco_holds_whole_masks_boxes_and_scores(tmp_path):
    path = written("coco", tmp_path, all_objects())
    coco = COCO(str(path))
    assert coco.dataset["images"] == [{"id": 1, "file_name": "cell (1).a", "height": SHAPE[0], "width": SHAPE[1]}]
    assert [category["name"] for category in coco.dataset["categories"]] == ["nucleus", "debris"]
    for number, mask in enumerate(full_masks().values(), start=1):
        annotation = coco.anns[number]
        assert np.array_equal(coco.annToMask(annotation), mask)
        rows, columns = np.nonzero(mask)
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert annotation["bbox"] == [columns.min(), rows.min(), width, height]
        assert annotation["area"] == mask.sum()
        assert annotation["score"] == pytest.approx(0.96 - 0.01 * number, abs=1e-5)
        assert annotation["category_id"] == 2 - number % 2
    found = coco.loadRes([{**annotation} for annotation in coco.dataset["annotations"]])
    assert len(found.anns) == len(NAMES)


def test_coco_encodes_as_pycocotools_does(one):
    from pycocotools import mask as mask_util

    mask, objects = one
    encoded = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_masks(objects) == [{"size": list(SHAPE), "counts": encoded["counts"].decode()}]


def test_geojson_is_valid_and_fills_to_the_mask(one):
    mask, objects = one
    (feature,) = json.loads(json.dumps(to_geojson(objects), allow_nan=False))["features"]
    shape = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert shapely.is_valid(shape), shapely.is_valid_reason(shape)
    assert shape.area == mask.sum()
    center_y, center_x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    assert np.array_equal(shapely.contains_xy(shape, center_x, center_y), mask)
    exteriors = [part.exterior for part in getattr(shape, "geoms", [shape])]
    assert all(exterior.is_ccw for exterior in exteriors)


def test_geojson_features_have_what_qupath_reads(tmp_path):
    content = json.loads(written("geojson", tmp_path, all_objects((0.5, 0.5)), image=IMAGE).read_text())
    assert content["type"] == "FeatureCollection" and len(content["features"]) == len(NAMES)
    properties = content["features"][1]["properties"]
    assert properties["objectType"] == "detection" and properties["name"] == "2"
    assert properties["classification"]["name"] == "debris" and len(properties["classification"]["color"]) == 3
    measurements = properties["measurements"]
    assert measurements["score"] == pytest.approx(0.94) and measurements["area_um2"] == 12 * 0.25
    assert measurements["mean_intensity"] == pytest.approx(IMAGE[full_masks()["two pieces"]].mean())
    assert all(isinstance(value, float) for value in measurements.values())


def test_roi_fills_to_the_mask_by_both_rules(one):
    mask, objects = one
    (roi,) = to_rois(objects)
    read = roifile.ImagejRoi.frombytes(roi.tobytes())
    rings = [np.asarray(ring, float) for ring in read.coordinates(multi=True)]
    assert np.array_equal(fill(rings, SHAPE), mask)
    nonzero = sum(np.sign(_signed_area(ring)) * fill([ring], SHAPE).astype(int) for ring in rings)
    assert np.array_equal(nonzero != 0, mask)
    assert (read.left, read.top, read.right, read.bottom) == tuple(objects.boxes[0])


def _signed_area(ring):
    following = np.roll(ring, -1, axis=0)
    return (ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum() / 2


def test_roi_zip_holds_names_scores_and_kinds(tmp_path):
    path = written("rois", tmp_path, all_objects())
    rois = roifile.roiread(path)
    assert [roi.name for roi in rois[:2]] == ["0001-nucleus", "0002-debris"]
    assert rois[0].properties["score"] == "0.950000" or float(rois[0].properties["score"]) == pytest.approx(0.95)
    assert [roi.group for roi in rois[:2]] == [1, 2]
    kinds = dict(zip(NAMES, rois))
    assert kinds["ring"].composite and kinds["two pieces"].composite and not kinds["pixel"].composite
    assert kinds["pixel"].subpixelresolution
    assert kinds["pixel"].subpixel_coordinates.tolist() == [[31, 20], [32, 20], [32, 21], [31, 21]]


def test_roi_beyond_16_bits_keeps_its_place():
    objects = SegmentedObjects(
        (70_000, 80_000),
        np.array([[40_000, 66_000, 40_003, 66_002]]),
        [np.ones((2, 3), bool)],
        np.array([0.5], np.float32),
        np.array([0]),
    )
    (roi,) = to_rois(objects)
    read = roifile.ImagejRoi.frombytes(roi.tobytes())
    assert read.coordinates().tolist() == [[40_000, 66_000], [40_003, 66_000], [40_003, 66_002], [40_000, 66_002]]


def test_the_same_objects_give_the_same_bytes(tmp_path):
    for name in ("labels", "table", "coco", "rois", "geojson", "overlay"):
        first = written(name, tmp_path / f"1{name}", all_objects(), image=IMAGE).read_bytes()
        assert first == written(name, tmp_path / f"2{name}", all_objects(), image=IMAGE).read_bytes()


def test_overlay_draws_the_border_of_the_better_object_on_top(tmp_path):
    objects = segmented([full_masks()["overlap"], full_masks()["ring"]])
    image = np.full(SHAPE, 77, np.uint8)
    picture = draw_overlay(objects, image)
    assert picture.shape == (*SHAPE, 3) and picture.dtype == np.uint8
    assert (picture[20:, :] == 77).all()
    read = cv2.imread(str(written("overlay", tmp_path, objects, image=image)))[..., ::-1]
    assert np.array_equal(read, picture)
    # The corner of the overlapping object lies inside the ring's area, away from both numbers.
    assert (picture[11, 16] != 77).any() and (picture[2, 3] != 77).any() and (picture[11, 16] != picture[2, 3]).any()


@pytest.mark.parametrize("shape, dtype", [((), np.uint16), ((1,), np.float32), ((2,), np.uint16), ((5,), np.uint8)])
def test_overlay_of_any_image(shape, dtype):
    rng = np.random.default_rng(0)
    picture = draw_overlay(all_objects(), (rng.random((*SHAPE, *shape)) * 200).astype(dtype))
    assert picture.shape == (*SHAPE, 3) and picture.dtype == np.uint8


def test_overlay_of_a_large_image_shows_every_kth_pixel(tmp_path, monkeypatch):
    objects, image = all_objects(), np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint8)
    monkeypatch.setattr("objguided_d2.inference.writers.overlay._MOST_PIXELS", 110)
    monkeypatch.setattr("objguided_d2.inference.writers.overlay._BAND_PIXELS", 40)
    picture = cv2.imread(str(written("overlay", tmp_path, objects, image=image)))
    covered = np.any(list(full_masks().values()), axis=0)[::3, ::3]
    gray = (picture == image[::3, ::3, None]).all(axis=2)
    assert picture.shape == (8, 14, 3) and (gray | covered | (picture == 0).all(axis=2)).sum() > 40
    small = segmented([full_masks()["overlap"]])
    monkeypatch.setattr("objguided_d2.inference.writers.overlay._draw_number", lambda *_: None)
    picture = cv2.imread(str(written("overlay", tmp_path / "b", small, image=np.zeros_like(image))))
    # Of rows 6-11 and columns 10-16, these are rows 6 and 9 and columns 12 and 15.
    assert np.argwhere(picture.any(axis=2)).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_overlay_without_or_with_another_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs the image"):
        WRITERS["overlay"].write(all_objects(), tmp_path / "a.overlay.png")
    with pytest.raises(ValueError, match="not the one of objects in 24 x 40"):
        draw_overlay(all_objects(), IMAGE.T)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "zarr"])
def test_an_image_without_objects_gives_an_empty_file_that_opens(tmp_path, name):
    path = written(name, tmp_path, segmented([]), image=IMAGE) if name != "ctc" else tmp_path / "mask000.tif"
    WRITERS[name].write(segmented([]), path, image=IMAGE)
    if name in ("labels", "ctc"):
        assert not tifffile.imread(path).any()
    elif name == "table":
        table = pandas.read_csv(path)
        assert len(table) == 0 and "area_px2" in table.columns
    elif name == "coco":
        assert COCO(str(path)).anns == {}
    elif name == "geojson":
        assert json.loads(path.read_text()) == {"type": "FeatureCollection", "features": []}
    elif name == "overlay":
        assert np.array_equal(cv2.imread(str(path)), np.repeat(IMAGE[..., None], 3, axis=2))


def test_the_classes_of_no_objects_are_text_as_those_of_objects():
    assert measure(segmented([]))["class"].dtype == measure(all_objects())["class"].dtype


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path):
    path = written("overlay", tmp_path, all_objects(), image=IMAGE)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        WRITERS["overlay"].write(all_objects(), path, image=IMAGE.T)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
