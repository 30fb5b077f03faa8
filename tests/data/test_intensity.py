import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.data.intensity import DEFAULT, IntensityMapping, num_not_finite, to_rgb8


@pytest.mark.parametrize("text", [DEFAULT, "range:0,65535", "percentile:2,98", "range:-3,4.5"])
def test_text_and_mapping_are_the_same_thing(text):
    assert str(IntensityMapping.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "percentile", "range:1", "range:2,1", "range:1,1", "percentile:-1,99", "percentile:1,101", "gamma:1,2"]
)
def test_texts_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="intensity mapping"):
        IntensityMapping.parse(text)


def test_range_is_linear_and_cut_off():
    mapped = IntensityMapping.parse("range:1000,2000")(np.array([[0, 1000, 1500, 2000, 60000]], np.uint16))
    assert mapped.dtype == np.uint8 and mapped.tolist() == [[0, 0, 128, 255, 255]]


def test_percentiles_are_those_of_the_image():
    values = np.arange(32995, 33996, dtype=np.uint16).reshape(7, 143)
    mapped = IntensityMapping.parse("percentile:10,90")(values)
    assert (mapped == 0).sum() == pytest.approx(101, abs=3) and (mapped == 255).sum() == pytest.approx(101, abs=3)


@pytest.mark.parametrize("unit", [1e-15, 1e-300])
def test_values_in_a_tiny_unit_are_mapped_as_any(unit):
    values = np.arange(100.0).reshape(10, 10)
    mapping = IntensityMapping.parse(DEFAULT)
    assert np.abs(mapping(values * unit).astype(int) - mapping(values)).max() <= 1


def test_what_is_above_percentiles_of_one_value_is_white():
    values = np.zeros((40, 40), np.uint16)
    values[3, 5] = 1
    assert np.array_equal(IntensityMapping.parse(DEFAULT)(values), values * 255)


@given(arrays(np.uint16, (5, 6)), st.sampled_from([DEFAULT, "range:100,60000"]))
def test_order_of_values_is_kept(image, text):
    mapped = IntensityMapping.parse(text)(image).ravel()
    assert (np.diff(mapped[np.argsort(image.ravel(), kind="stable")].astype(int)) >= 0).all()


def test_rgb():
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(to_rgb8(gray, None), np.stack([gray] * 3, axis=2))
    with pytest.raises(ValueError, match="uint16 values of 0 to 11 need an intensity mapping"):
        to_rgb8(gray.astype(np.uint16), None)
    assert to_rgb8(gray > 3, None).max() == 255


def test_nan_and_infinity_do_not_move_the_mapping_and_are_counted():
    values = np.linspace(0, 10, 100, dtype=np.float32).reshape(10, 10)
    odd = values.copy()
    odd[0, :3] = np.nan, np.inf, -np.inf
    mapping = IntensityMapping.parse("percentile:5,95")
    mapped = mapping(odd)
    assert mapped[0, :3].tolist() == [0, 255, 0]
    low, high = np.percentile(odd[np.isfinite(odd)], [5, 95])
    assert np.array_equal(mapped[1:], IntensityMapping("range", low, high)(values)[1:])
    assert num_not_finite(odd) == 3 and num_not_finite(values) == 0 and num_not_finite(np.uint8([1])) == 0


def test_image_without_a_finite_value_is_refused():
    with pytest.raises(ValueError, match="no value of it is a finite number"):
        to_rgb8(np.full((2, 2), np.nan), IntensityMapping.parse("percentile:5,95"))
    with pytest.raises(ValueError, match="float64 values of no finite number"):
        to_rgb8(np.full((2, 2), np.nan), None)
