import math

import numpy as np
import pandas
import pytest
from skimage.measure import regionprops

from objguided_d2.inference.objects import SegmentedObjects
from objguided_d2.inference.writers import WRITERS, measure, to_geojson
from tests.inference.shapes import SHAPE, all_objects, full_masks, segmented


def rectangle(y0, x0, y1, x1, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_rectangle_measures_what_geometry_says():
    row = measure(segmented([rectangle(3, 2, 9, 14)])).iloc[0]
    assert row["label"] == 1 and row["class"] == "nucleus" and row["score"] == pytest.approx(0.95)
    assert (row["center_x_px"], row["center_y_px"]) == (8, 6)
    assert row[["x0_px", "y0_px", "x1_px", "y1_px"]].tolist() == [2, 3, 14, 9]
    assert row["area_px2"] == 72 and row["solidity"] == 1
    # A line through the centers of the border pixels: 11 and 5 steps, twice.
    assert row["perimeter_px"] == 32
    # n points at distance 1 have the variance (n^2 - 1) / 12, an ellipse a semi-axis of twice its root.
    assert row["major_axis_px"] == pytest.approx(4 * math.sqrt(143 / 12), rel=1e-6)
    assert row["minor_axis_px"] == pytest.approx(4 * math.sqrt(35 / 12), rel=1e-6)
    assert row["eccentricity"] == pytest.approx(math.sqrt(1 - 35 / 143))


def test_lengths_are_micrometers_where_the_pixel_size_is_known():
    pixels = measure(segmented([full_masks()["ring"]]))
    microns = measure(segmented([full_masks()["ring"]], pixel_size=(0.5, 0.5)))
    assert microns["area_um2"][0] == pixels["area_px2"][0] * 0.25
    for name in ("perimeter", "major_axis", "minor_axis"):
        assert microns[f"{name}_um"][0] == pytest.approx(pixels[f"{name}_px"][0] * 0.5)
    assert microns["eccentricity"][0] == pytest.approx(pixels["eccentricity"][0])
    assert microns["center_x_px"][0] == pixels["center_x_px"][0]


def test_pixels_that_are_not_square_turn_a_rectangle_into_a_square():
    row = measure(segmented([rectangle(0, 0, 4, 12)], pixel_size=(3.0, 1.0))).iloc[0]
    assert row["area_um2"] == 144 and row["perimeter_px"] == 28
    assert "perimeter_um" not in row
    assert row["eccentricity"] < 0.4 and row["major_axis_um"] == pytest.approx(row["minor_axis_um"], rel=0.1)


def test_intensities_are_means_over_the_whole_mask_even_under_another_object():
    masks = full_masks()
    image = np.random.default_rng(0).integers(0, 4000, (*SHAPE, 2)).astype(np.uint16)
    table = measure(segmented([masks["ring"], masks["overlap"]]), image, ["DAPI", "GFP"])
    assert table["mean_intensity_DAPI"][1] == pytest.approx(image[masks["overlap"]][:, 0].mean())
    assert table["mean_intensity_GFP"][0] == pytest.approx(image[masks["ring"]][:, 1].mean())


@pytest.mark.parametrize(
    "names, columns",
    [(["GFP", "GFP", "DAPI"], ["GFP", "GFP_2", "DAPI"]), (["GFP", "GFP", "GFP_2"], ["GFP", "GFP_3", "GFP_2"])],
)
def test_channels_of_the_same_name_have_a_column_each(names, columns):
    image = np.broadcast_to(np.array([10, 20, 30], np.uint8), (*SHAPE, 3))
    objects = segmented([full_masks()["ring"]])
    table = measure(objects, image, names)
    assert table[[f"mean_intensity_{name}" for name in columns]].to_numpy().tolist() == [[10, 20, 30]]
    measurements = to_geojson(objects, table)["features"][0]["properties"]["measurements"]
    assert [measurements[f"mean_intensity_{name}"] for name in columns] == [10, 20, 30]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"], []])
def test_a_name_more_or_less_than_channels_is_refused(names):
    with pytest.raises(ValueError, match="^names: .* image of 2 channels"):
        measure(all_objects(), np.zeros((*SHAPE, 2)), names)


def test_measurements_of_other_objects_are_no_properties_of_these():
    objects = all_objects()
    table = measure(objects)
    for other in (table[1:], table[::-1], pandas.concat([table, table])):
        with pytest.raises(ValueError, match="^measurements: .* not those of the"):
            to_geojson(objects, other)
    with pytest.raises(ValueError, match="^object_type: QuPath has no 'nucleus'"):
        to_geojson(objects, table, "nucleus")


def test_values_that_are_not_finite_are_ignored():
    image = np.ones(SHAPE, np.float32)
    image[3, 2], image[4, 2] = np.nan, np.inf
    table = measure(segmented([rectangle(3, 2, 9, 14), rectangle(3, 2, 4, 3)]), image)
    assert table["mean_intensity"][0] == 1 and math.isnan(table["mean_intensity"][1])


def test_a_large_image_is_read_in_bands_not_object_by_object():
    shape = (3000, 70)
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    masks = [rectangle(y, 3 * (i % 20), y + 7, 3 * (i % 20) + 5, shape) for i, y in enumerate(range(0, 2990, 20))]
    masks.append(rectangle(100, 60, 2800, 65, shape))
    windows = []

    class Source:
        channel_names = ("0",)

        def __init__(self):
            self.shape = shape

        def read(self, y0, x0, y1, x1):
            windows.append((y0, y1))
            return image[y0:y1, x0:x1, None]

    table = measure(segmented(masks), Source())
    np.testing.assert_allclose(table["mean_intensity"], [image[mask].mean() for mask in masks])
    assert len(windows) == 6


def test_single_pixel_and_border_objects_are_measured():
    table = measure(all_objects())
    assert table["area_px2"].tolist() == [mask.sum() for mask in full_masks().values()]
    pixel = table.iloc[3]
    assert (pixel["center_x_px"], pixel["center_y_px"], pixel["solidity"]) == (31.5, 20.5, 1)
    assert not table.isna().any().any()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_is_read_back(tmp_path, suffix):
    path = WRITERS["table"].path(tmp_path / "a", suffix=suffix)
    WRITERS["table"].write(all_objects((0.5, 0.5)), path)
    table = pandas.read_csv(path) if suffix == ".csv" else pandas.read_parquet(path)
    pandas.testing.assert_frame_equal(table, measure(all_objects((0.5, 0.5))), rtol=1e-5, check_dtype=False)


def test_csv_keeps_the_digits_of_large_positions_and_areas(tmp_path):
    box = np.array([[123_456, 20, 124_459, 1_021]])
    mask = np.ones((1_001, 1_003), bool)
    objects = SegmentedObjects((2_000, 200_000), box, [mask], np.array([0.9], np.float32), np.zeros(1, np.int64))
    WRITERS["table"].write(objects, tmp_path / "a.csv")
    row = pandas.read_csv(tmp_path / "a.csv").iloc[0]
    assert row["center_x_px"] == 123_957.5 and row["area_px2"] == 1_001 * 1_003


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="not the one of objects in 24 x 40"):
        measure(all_objects(), np.zeros((40, 24)))


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0), (0.5, 1.25)])
def test_shapes_measure_what_regionprops_says(spacing):
    table = measure(all_objects(spacing))
    unit, side = ("um", spacing) if spacing else ("px", (1, 1))
    for row, mask in zip(table.to_dict("records"), full_masks().values()):
        (region,) = regionprops(mask.astype(np.uint8), spacing=side)
        assert row[f"area_{unit}2"] == pytest.approx(region.area)
        assert row[f"major_axis_{unit}"] == pytest.approx(region.axis_major_length, abs=1e-6)
        assert row[f"minor_axis_{unit}"] == pytest.approx(region.axis_minor_length, abs=1e-6)
        assert row["eccentricity"] == pytest.approx(region.eccentricity, abs=1e-6)
        assert row["solidity"] == pytest.approx(region.solidity)
        assert (row["center_y_px"], row["center_x_px"]) == pytest.approx(np.argwhere(mask).mean(0) + 0.5)
        if side[0] == side[1]:
            assert row[f"perimeter_{unit}"] == pytest.approx(region.perimeter)
