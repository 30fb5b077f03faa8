import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.data.intensity import DEFAULT, IntensityMapping, to_rgb8


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
