"""A prediction in every form, and models by whatever names them."""

import json

import numpy as np
import pytest
import tifffile

from objguided_d2.data.source_error import SourceError
from objguided_d2.inference import pretrained
from objguided_d2.inference.bundle import BundleError
from objguided_d2.inference.export_command import main as export
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.predictor import Predictor
from tests.inference.models import textured_image


@pytest.fixture(scope="module")
def prediction(busy_run):
    cfg, model, _ = busy_run
    return Predictor(cfg, model)(textured_image(64, 80))


def test_labels_table_rois_and_geojson_hold_the_same_objects(prediction):
    count = len(prediction)
    assert count > 5
    labels = prediction.labels
    assert labels.dtype == np.uint16 and labels.shape == (64, 80) and labels.max() <= count
    first = prediction.objects.masks[0]
    assert (labels == 1).sum() == first.sum()
    assert len(prediction.table()) == len(prediction.to_rois()) == len(prediction.to_geojson()["features"]) == count
    assert prediction.overlay().shape == (64, 80, 3)
    json.dumps(prediction.to_geojson(), allow_nan=False)


def test_table_is_in_micrometers_where_the_pixel_size_is_given(prediction):
    pixels, micrometers = prediction.table(), prediction.table(pixel_size=0.5)
    (area,) = [name for name in micrometers.columns if name.startswith("area")]
    (plain,) = [name for name in pixels.columns if name.startswith("area")]
    assert area != plain
    np.testing.assert_allclose(micrometers[area], pixels[plain] / 4)


def test_save_writes_the_formats_it_is_asked_for(prediction, tmp_path):
    paths = prediction.save(tmp_path / "cells", ("labels", "coco", "rois"))
    assert [path.name for path in paths] == ["cells.labels.tif", "cells.coco.json", "cells.rois.zip"]
    np.testing.assert_array_equal(tifffile.imread(paths[0]), prediction.labels)
    with pytest.raises(ValueError, match="no output format jpeg"):
        prediction.save(tmp_path / "cells", ("jpeg",))


def test_an_open_source_gives_the_objects_and_pixel_size_of_its_file(busy_run, tmp_path):
    cfg, model, _ = busy_run
    image = textured_image(64, 80)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    predictor = Predictor(cfg, model)
    with open_image(tmp_path / "a.tif") as source:
        found = predictor(source)
        assert found.objects.boxes.tolist() == predictor(image).objects.boxes.tolist()
        assert found.objects.pixel_size == pytest.approx((0.5, 0.5))
    tifffile.imwrite(tmp_path / "two.ome.tif", np.zeros((2, 40, 48), np.uint8), metadata={"axes": "CYX"})
    with open_image(tmp_path / "two.ome.tif", channels="0,1") as source:
        with pytest.raises(ValueError, match="2 channels; choose 1 or 3"):
            predictor(source)


def test_a_path_gives_what_its_open_file_gives(busy_run, tmp_path):
    cfg, model, _ = busy_run
    predictor = Predictor(cfg, model)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, textured_image(64, 80), photometric="rgb")
    with open_image(path) as source:
        found = predictor(source)
    (streamed,) = predictor.predict_stream([path])
    for prediction in (predictor(path), predictor(str(path)), streamed):
        assert prediction.objects.boxes.tolist() == found.objects.boxes.tolist()
        assert np.array_equal(prediction.overlay(), predictor(textured_image(64, 80)).overlay())
    tifffile.imwrite(tmp_path / "stack.ome.tif", np.zeros((2, 40, 48), np.uint8), metadata={"axes": "TYX"})
    for name, message in (("stack.ome.tif", "2 frames"), ("no_such.tif", "no_such.tif")):
        with pytest.raises(SourceError, match=message):
            predictor(tmp_path / name)


def test_a_run_folder_its_bundle_and_a_shipped_name_give_one_model(busy_run, tmp_path, monkeypatch, capsys):
    cfg, model, folder = busy_run
    assert export([str(folder), str(tmp_path / "small.zip"), "--classes", "nucleus", "--pixel-size", "0.65"]) == 0
    assert "small.zip" in capsys.readouterr().out
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    image = textured_image(64, 80)
    original = Predictor(cfg, model)(image).objects
    from_run = Predictor.from_pretrained(folder, device="cpu")(image).objects
    assert from_run.boxes.tolist() == original.boxes.tolist()
    by_name = Predictor.from_pretrained("small", device="cpu")
    assert by_name.info.class_names == ("nucleus",) and by_name.info.pixel_size == 0.65
    by_path = Predictor.from_pretrained(tmp_path / "small.zip", device="cpu")
    assert by_name(image).objects.boxes.tolist() == by_path(image).objects.boxes.tolist()
    assert abs(len(by_path(image)) - len(original)) <= 2
    assert pretrained.shipped_models() == ["small"]
    with pytest.raises(ValueError, match="did you mean small"):
        Predictor.from_pretrained("smal")
    with pytest.raises(BundleError, match="does not exist; did you mean small"):
        Predictor.from_pretrained("smal.zip")


def test_export_of_what_is_no_run_is_an_error_of_one_line(busy_run, tmp_path, capsys):
    _, _, folder = busy_run
    assert export([str(tmp_path), str(tmp_path / "x.zip")]) == 1
    assert export([str(folder), str(tmp_path / "x.zip"), "--classes", "a", "b"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "config.yaml" in lines[0] and "2 class names for a model of 1 classes" in lines[1]
