"""A prediction in every form, and models by whatever names them."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from objguided_d2.cli import main
from objguided_d2.data.source_error import SourceError
from objguided_d2.inference import image_source, pretrained
from objguided_d2.inference.bundle import BundleError
from objguided_d2.inference.export_command import main as export
from objguided_d2.inference.image_source import open_image
from objguided_d2.inference.loader import LoadError
from objguided_d2.inference.model_spec import ModelSpec
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.pretrained import load_pretrained
from tests.inference.models import save_run, textured_image


@pytest.fixture(scope="module")
def prediction(busy_run):
    cfg, model, _ = busy_run
    return Predictor(cfg, model)(textured_image(64, 80))


def write_image(path, pixels):
    """A file of (H, W, 3) uint8."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb")
    else:
        Image.fromarray(pixels).save(path)


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
    with pytest.raises(ValueError, match="^formats: 'labels' is a text; give a list"):
        prediction.save(tmp_path / "cells", "labels")
    with pytest.raises(ValueError, match="^stem: '' names no file"):
        prediction.save("")


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


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_the_file_of_a_path_is_closed_and_opened_again_for_its_pixels(busy_run, tmp_path, monkeypatch, name):
    cfg, model, _ = busy_run
    path, pixels = tmp_path / name, textured_image(64, 80)
    write_image(path, pixels)
    now_open = set()
    opened, close = image_source.open_image, image_source.ImageSource.close
    num_opened = itertools.count()

    def counted_open(*args, **kwargs):
        source = opened(*args, **kwargs)
        now_open.add(source)
        next(num_opened)
        return source

    monkeypatch.setattr(image_source, "open_image", counted_open)
    monkeypatch.setattr(image_source.ImageSource, "close", lambda self: (now_open.discard(self), close(self)))
    for tile in (1024, 32):  # In one piece, and in tiles for which the file is opened again, once.
        predictor = Predictor(cfg, model, tile=tile, halo=16)
        before = next(num_opened)
        (found,) = predictor.predict_stream([path])
        assert next(num_opened) - before == (2 if tile == 1024 else 3) and not now_open
        expected = predictor(pixels)
        assert found.objects.boxes.tolist() == expected.objects.boxes.tolist()
        assert np.array_equal(found.overlay(), expected.overlay())
        assert found.table().iloc[:, 1:].filter(like="mean").to_numpy().tolist() == (
            expected.table().filter(like="mean").to_numpy().tolist()
        )
        assert found.to_geojson()["features"]
        before = next(num_opened)
        found.save(tmp_path / "out" / str(tile), ("labels", "table", "overlay", "zarr"))
        assert next(num_opened) - before == 2 and not now_open
        assert np.array_equal(found.image.read(3, 4, 20, 30), pixels[3:20, 4:30]) and not now_open


def test_pixels_of_a_file_that_has_changed_or_gone_are_refused_and_what_needs_none_is_written(busy_run, tmp_path):
    cfg, model, _ = busy_run
    path = tmp_path / "a.tif"
    write_image(path, textured_image(64, 80))
    prediction = Predictor(cfg, model)(path)
    write_image(path, textured_image(64, 80, seed=1)[:60])
    with pytest.raises(SourceError, match="a.tif has changed since it was predicted"):
        prediction.table()
    path.unlink()
    with pytest.raises(SourceError, match="a.tif cannot be opened"):
        prediction.overlay()
    assert len(prediction.save(tmp_path / "a", ("labels", "coco", "rois"))) == 3


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


def test_a_shipped_name_is_the_model_unless_a_run_folder_has_it(busy_run, tmp_path, monkeypatch):
    cfg, model, folder = busy_run
    export([str(folder), str(tmp_path / "small.zip"), "--classes", "shipped"])
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    here = tmp_path / "here"
    (here / "small").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert load_pretrained("small", device="cpu").info.class_names == ("shipped",)
    with pytest.raises(LoadError, match="no config.yaml"):
        load_pretrained("./small", device="cpu")
    save_run(cfg, model, here / "small")
    (here / "small/class_names.json").write_text('["mine"]')
    assert load_pretrained("small", device="cpu").info.class_names == ("mine",)


def test_commands_tell_a_wrong_device_in_one_line(busy_run, tmp_path, capsys):
    folder = str(busy_run[2])
    image = str(tmp_path / "a.tif")
    write_image(Path(image), textured_image(32, 32))
    for command in (
        ["predict", image, "--model", folder, "--output", str(tmp_path / "out")],
        ["evaluate", "--model", folder, "--dataset", "no_matter"],
        ["finetune", "--model", folder, "--images", image, "--labels", image, "--output", str(tmp_path / "x.zip")],
    ):
        assert main([*command, "--device", "foo"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: device 'foo' is unknown") and error.count("\n") == 1


def test_export_of_what_is_no_run_is_an_error_of_one_line(busy_run, tmp_path, capsys):
    _, _, folder = busy_run
    assert export([str(tmp_path), str(tmp_path / "x.zip")]) == 1
    assert export([str(folder), str(tmp_path / "x.zip"), "--classes", "a", "b"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and "config.yaml" in lines[0] and "2 class names for a model of 1 classes" in lines[1]


def test_a_shipped_name_stays_a_name_for_other_processes(tmp_path, monkeypatch):
    (tmp_path / "nuclei").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ModelSpec("nuclei").absolute().model == "nuclei"
    assert ModelSpec("run").absolute().model == str(tmp_path.resolve() / "run")
