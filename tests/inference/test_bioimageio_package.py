"""Packages of the BioImage Model Zoo: its own library accepts them, and they hold the same objects."""

import copy
import io
import zipfile

import cv2
import numpy as np
import pytest
import torch
import yaml

core = pytest.importorskip("bioimageio.core")
spec = pytest.importorskip("bioimageio.spec")

from objguided_d2.inference.bioimageio_package import PackageError, write_bioimageio  # noqa: E402
from objguided_d2.inference.bundle import write_bundle  # noqa: E402
from objguided_d2.inference.export_command import main  # noqa: E402
from objguided_d2.inference.label_image_model import LabelImageModel  # noqa: E402
from objguided_d2.inference.model_info import ModelInfo  # noqa: E402
from objguided_d2.inference.predictor import Predictor  # noqa: E402
from tests.inference.models import textured_image  # noqa: E402

INFO = ModelInfo(("nucleus",), 0.3, pixel_size=0.5, training_scale=1.0)


def test_the_zoo_s_own_test_accepts_a_bundle_exported_with_a_color_image(busy_run, tmp_path):
    cfg, model, _ = busy_run
    image = textured_image(64, 80)
    cv2.imwrite(str(tmp_path / "image.png"), image[..., ::-1])
    bundle = write_bundle(cfg, model, INFO, tmp_path / "model.zip", card="# A card of its own")
    package = tmp_path / "zoo.zip"
    options = ["--format", "bioimageio", "--license", "CC-BY-4.0", "--author", "A. Nonymous"]
    assert main([str(bundle), str(package), *options, "--test-image", str(tmp_path / "image.png")]) == 0

    summary = core.test_model(package)
    assert summary.status == "passed", summary.display()
    description = spec.load_description(package)
    assert description.license == "CC-BY-4.0" and description.authors[0].name == "A. Nonymous"
    assert description.cite[0].doi == "10.1109/TMI.2021.3077285"
    (given,), (found,) = description.inputs, description.outputs
    assert [axis.id for axis in given.axes] == ["batch", "channel", "y", "x"] and given.data.type == "uint8"
    assert [(axis.scale, axis.unit) for axis in (*given.axes[2:], *found.axes[2:])] == [(0.5, "micrometer")] * 4
    with zipfile.ZipFile(package) as archive:
        assert archive.read("README.md").decode().startswith("# A card of its own\n\n## Validation")
        stored = np.load(io.BytesIO(archive.read("test_output.npy")))
    expected = Predictor.from_pretrained(bundle, device="cpu")(image, pixel_size=0.5).labels
    np.testing.assert_array_equal(stored[0, 0], expected)
    assert expected.max() > 5


def test_a_model_that_maps_intensities_takes_float_images_in_any_unit(busy_run):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    cfg.INPUT.INTENSITY = "percentile:1,99"
    module = LabelImageModel(yaml.safe_load(cfg.dump()), {"class_names": ["nucleus"], "score_threshold": 0.3})
    module.model.load_state_dict(model.state_dict())
    images = np.stack([textured_image(40, 48, seed)[..., :1] for seed in (0, 1)]).transpose(0, 3, 1, 2)
    labels = module(torch.from_numpy(images.astype(np.float32) / 1000))
    assert labels.shape == (2, 1, 40, 48) and labels.dtype == torch.int32
    predictor = Predictor(cfg, model, score_threshold=0.3)
    for one, image in zip(labels, images):
        np.testing.assert_array_equal(one[0], predictor(image[0].astype(np.float32) / 1000).labels)
    with pytest.raises(ValueError, match="2 channels"):
        module(torch.zeros(1, 2, 40, 48))
    with pytest.raises(RuntimeError, match="predicts only"):
        module.train()(torch.zeros(1, 1, 40, 48))


def test_a_package_that_would_prove_or_say_nothing_is_refused(busy_run, tmp_path):
    cfg, model, _ = busy_run
    info = ModelInfo(("object",), 0.3)
    for options, message in (
        ({"test_image": np.zeros((20, 40), np.uint8)}, "has 20 x 40 pixels; give --test-image one of 32 or more"),
        ({"test_image": np.zeros((40, 40), np.uint16)}, "images of 8 bits"),
        ({"test_image": textured_image(40, 40), "license_id": "mine"}, "^license 'mine' is no SPDX identifier"),
        ({"test_image": textured_image(40, 40), "name": "a/b"}, "^the description of the package is not valid: name: "),
        ({"authors": ["A. Nonymous", " "]}, "^author ' ': give --author a name"),
        ({"authors": ["A/B"]}, "^author 'A/B': give"),
    ):
        with pytest.raises(PackageError, match=message) as error:
            write_bioimageio(cfg, model, info, tmp_path / "zoo.zip", card="", **options)
        assert "\n" not in str(error.value) and len(str(error.value)) < 250
    with pytest.raises(PackageError, match="finds no object in the test image"):
        write_bioimageio(cfg, model, ModelInfo(("object",), 1.0), tmp_path / "zoo.zip", card="")
    broken = copy.deepcopy(model)
    broken.backbone.bottom_up.stem.conv1.norm.weight.data[0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values in 1 tensors"):
        write_bioimageio(cfg, broken, info, tmp_path / "zoo.zip", card="", test_image=textured_image(40, 40))
    assert not list(tmp_path.iterdir())
