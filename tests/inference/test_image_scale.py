"""How large an image becomes in the network."""

import numpy as np
import pytest
import tifffile

from objguided_d2.inference.image_scale import warn_of_strong_reduction
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.model_info import ModelInfo
from objguided_d2.inference.predictor import Predictor
from tests.inference.models import textured_image


@pytest.fixture(scope="module")
def predictor(busy_run):
    cfg, model, _ = busy_run
    return Predictor(cfg, model, info=ModelInfo(("nucleus",), 0.3, 0.5, 1.0, 10.0))


def test_scale_pixel_size_and_diameter_size_the_image(predictor, busy_run):
    cfg, model, _ = busy_run
    image = textured_image(60, 80)
    assert predictor.prepare(image, scale=1.5).network_size == (90, 120)
    # The model saw 0.5 micrometers per pixel and objects of 10 pixels.
    assert predictor.prepare(image, pixel_size=1.0).network_size == (120, 160)
    assert predictor.prepare(image, pixel_size=(1.0, 0.5)).network_size == (120, 80)
    assert predictor.prepare(image, diameter=20).network_size == (30, 40)
    assert predictor.prepare(image, pixel_size=1.0, scale=1.0).network_size == (60, 80)
    assert predictor.prepare(image, pixel_size=1.0, scale="config").network_size == (60, 80)
    assert predictor(image, pixel_size=0.5).objects.pixel_size == (0.5, 0.5)
    unknowing = Predictor(cfg, model)
    assert unknowing.prepare(image, pixel_size=1.0).network_size == (60, 80)
    with pytest.raises(ValueError, match="does not know the diameter"):
        unknowing.prepare(image, diameter=20)


@pytest.mark.parametrize("size", [(353.0, 353.0), (5e-4, 5e-4), (0.5, 1e4), (0.0, 0.5)])
def test_an_absurd_pixel_size_that_a_file_claims_is_ignored_with_a_warning(predictor, tmp_path, caplog, size):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, textured_image(60, 80)[..., 0])
    with open_image(path) as source:
        source.pixel_size = size
        prepared = predictor.prepare(source)
        assert prepared.network_size == (60, 80) and prepared.pixel_size is None
        (warning,) = (record.getMessage() for record in caplog.records)
        for words in (str(path), "{:g} x {:g} micrometers".format(*size), "--pixel-size", "--scale"):
            assert words in warning
        caplog.clear()
        # What is asked for is done, and what is plausible believed.
        assert predictor.prepare(source, scale="config").pixel_size == size
        assert predictor.prepare(source, pixel_size=10.0).network_size == (1200, 1600)
        source.pixel_size = (7.0, 0.25)
        assert predictor.prepare(source).network_size == (840, 40)
        assert not caplog.records


def test_the_estimated_diameter_is_that_of_the_objects_found(predictor):
    image = textured_image(80, 80)
    prepared = predictor.prepare(image, diameter="auto")
    assert prepared.network_size[0] == prepared.network_size[1] != 0
    assert 20 <= prepared.network_size[0] <= 320


def test_a_scale_and_a_diameter_together_are_refused(predictor):
    with pytest.raises(ValueError, match=r"^scale=2 and diameter='auto' both decide the size"):
        predictor.prepare(textured_image(60, 80), scale=2, diameter="auto")


def test_an_image_without_objects_has_the_usual_size_in_place_of_an_estimate(predictor, caplog):
    blank = np.zeros((80, 80), np.uint8)
    assert predictor.prepare(blank, diameter="auto").network_size == predictor.prepare(blank).network_size
    assert "an image: no object is found that a diameter could be estimated from" in caplog.text


@pytest.mark.parametrize("shape, size, warned", [((60, 200), (40, 133), False), ((200, 60), (80, 24), True)])
def test_a_reduction_to_less_than_half_is_told(caplog, shape, size, warned):
    warn_of_strong_reduction(shape, size)
    assert ("is reduced to {} x {}".format(*size) in caplog.text) is warned
