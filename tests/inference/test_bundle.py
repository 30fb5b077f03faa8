"""Bundles: the same model again, and nothing else than that."""

import copy
import io
import json
import zipfile

import numpy as np
import pytest
import torch
import yaml

from objguided_d2.inference import bundle as bundle_module
from objguided_d2.inference.bundle import BundleError, load_bundle, read_parts, write_bundle
from objguided_d2.inference.model_info import ModelInfo
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.pretrained import export_bundle, load_pretrained
from tests.inference.models import save_run, textured_image

INFO = ModelInfo(("nucleus",), 0.4, pixel_size=0.5, training_scale=1.5, object_diameter=12.0)


@pytest.fixture(scope="module")
def bundle(busy_run, tmp_path_factory):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    cfg.INPUT.INTENSITY = "percentile:1,99"
    cfg.DATASETS.TRAIN, cfg.OUTPUT_DIR = ("secret_train",), "somebodys/folder"
    return write_bundle(cfg, model, INFO, tmp_path_factory.mktemp("bundle") / "model.zip")


def test_a_bundle_holds_every_weight_and_statistic_within_the_rounding_of_float16(bundle, busy_run):
    _, model, _ = busy_run
    cfg, loaded, info = load_bundle(bundle, device="cpu")
    assert info == INFO and cfg.INPUT.INTENSITY == "percentile:1,99"
    assert not loaded.training and cfg.is_frozen()
    state = loaded.state_dict()
    for name, value in model.state_dict().items():
        if name.startswith("roi_heads.mask_head.refinement."):
            continue
        if value.dim() < 2:
            assert torch.equal(state[name], value), name
        else:
            torch.testing.assert_close(state[name], value, rtol=2**-11, atol=1e-7)
    assert not torch.equal(loaded.backbone.bottom_up.stem.conv1.norm.running_var, torch.ones(64))


def test_outputs_are_those_of_the_model_within_rounding(bundle, busy_run):
    cfg, model, _ = busy_run
    image = textured_image(96, 96)
    loaded_cfg, loaded, info = load_bundle(bundle, device="cpu")
    inputs = [{"image": torch.from_numpy(image.transpose(2, 0, 1).copy())}]
    with torch.no_grad():
        one, other = (m.backbone(m.preprocess_image(inputs).tensor)["c3"] for m in (model, loaded))
    torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(one.std()))
    original = Predictor(cfg, model, score_threshold=0.4)(image).objects
    again = Predictor(loaded_cfg, loaded, info=info)(image).objects
    assert abs(len(original) - len(again)) <= 0.1 * len(original)


def test_a_bundle_says_nothing_of_the_machine_it_was_made_on(bundle):
    text = b"".join(data for name, data in read_parts(bundle).items() if name != "weights.safetensors")
    assert b"somebodys/folder" not in text
    assert b"secret" not in read_parts(bundle)["config.yaml"]


def test_the_same_model_gives_the_same_file(bundle, busy_run, tmp_path):
    cfg, model, _ = busy_run
    one, other = (write_bundle(cfg, model, INFO, tmp_path / name) for name in ("a.zip", "b.zip"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_whose_training_went_wrong_is_not_written(busy_run, tmp_path, value):
    cfg, model, _ = busy_run
    broken = copy.deepcopy(model)
    broken.backbone.bottom_up.stem.conv1.norm.running_var[3] = value
    with pytest.raises(ValueError, match=r"in 1 tensors, as backbone.bottom_up.stem.conv1.norm.running_var; take"):
        write_bundle(cfg, broken, INFO, tmp_path / "model.zip")
    assert not list(tmp_path.iterdir())


def test_the_model_card_names_classes_and_sizes(bundle):
    card = read_parts(bundle)["model_card.md"].decode()
    assert "nucleus" in card and "0.5 micrometers" in card and "percentile:1,99" in card


def rewritten(bundle, path, changes, rehash=True):
    """A copy with other parts; None leaves a part out."""
    parts = {**read_parts(bundle), **changes}
    manifest = json.loads(parts["manifest.json"])
    if rehash and changes.get("manifest.json") is None:
        for name, data in parts.items():
            if name != "manifest.json" and data is not None:
                manifest["parts"][name]["sha256"] = bundle_module._sha256(data)
        parts["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_damaged_bundles_are_errors_of_one_line_that_name_the_file(bundle, tmp_path):
    config = yaml.safe_load(read_parts(bundle)["config.yaml"])
    narrow = {**config, "MODEL": {**config["MODEL"], "UNET": {**config["MODEL"]["UNET"], "C1_CHANNELS": 4}}}
    cases = {
        "missing": (None, "does not exist"),
        "empty": (b"", "damaged or no zip"),
        "cut off": (bundle.read_bytes()[: len(bundle.read_bytes()) // 2], "damaged or no zip"),
        "text": (b"not a bundle", "damaged or no zip"),
        "flipped": ({"weights.safetensors": b"x" * 100}, "weights.safetensors is not what the manifest says"),
        "no card": ({"model_card.md": None}, "lacks model_card.md"),
    }
    hashed = {
        "bad weights": ({"weights.safetensors": b"x" * 100}, "weights.safetensors cannot be read"),
        "bad config": ({"config.yaml": b"MODEL: [1, 2"}, "config.yaml does not fit"),
        "unknown key": ({"config.yaml": b"NO_SUCH_KEY: 1"}, "NO_SUCH_KEY"),
        "code": ({"config.yaml": b"A: !!python/object/apply:os.system ['true']"}, "config.yaml does not fit"),
        "other model": ({"config.yaml": yaml.dump(narrow).encode()}, "does not fit the model"),
        "bad info": ({"model.json": b"{}"}, "class_names"),
        "newer": (
            {"manifest.json": json.dumps({"format": "objguided_d2 bundle", "version": 99}).encode()},
            "version 99",
        ),
        "other format": ({"manifest.json": b'{"format": "x"}'}, "no bundle"),
    }
    for rehash, group in ((False, cases), (True, hashed)):
        for name, (content, message) in group.items():
            path = tmp_path / f"{name}.zip"
            if isinstance(content, dict):
                rewritten(bundle, path, content, rehash)
            elif content is not None:
                path.write_bytes(content)
            with pytest.raises(BundleError, match=message) as error:
                load_bundle(path, device="cpu")
            assert str(path) in str(error.value) and "\n" not in str(error.value), name


def test_a_part_that_unpacks_to_more_than_any_model_needs_is_refused_unread(bundle, tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    parts = read_parts(bundle)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, bytes(2**21) if name == "config.yaml" else data)
    opened = []
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name: opened.append(name) or io.BytesIO().read())
    with pytest.raises(BundleError, match="config.yaml unpacks to 2,097,152 bytes"):
        read_parts(path)
    assert "config.yaml" not in opened


@pytest.mark.parametrize(
    "field, value", [("class_names", ()), ("score_threshold", 2.0), ("pixel_size", -1.0), ("object_diameter", np.inf)]
)
def test_facts_that_no_model_has_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ModelInfo(**{"class_names": ("a",), "score_threshold": 0.3, field: value})


def test_class_names_come_from_the_run_folder_where_the_dataset_is_not(busy_run, tmp_path):
    cfg, model, _ = busy_run
    folder = save_run(cfg, model, tmp_path / "run")
    assert load_pretrained(folder, device="cpu").info.class_names == ("object",)
    (folder / "class_names.json").write_text('["nucleus"]')
    assert load_pretrained(folder / "config.yaml", device="cpu").info.class_names == ("nucleus",)
    bundle = export_bundle(folder, tmp_path / "model.zip")
    assert load_bundle(bundle, device="cpu")[2].class_names == ("nucleus",)
    renamed = export_bundle(bundle, tmp_path / "renamed.zip", class_names=("cell",), card="mine")
    assert load_bundle(renamed, device="cpu")[2].class_names == ("cell",)
    assert read_parts(export_bundle(renamed, tmp_path / "again.zip"))["model_card.md"] == b"mine"
    for content in ("[1", "[1]", "{}"):
        (folder / "class_names.json").write_text(content)
        with pytest.raises(ValueError, match=r"class_names\.json .* remove it") as error:
            load_pretrained(folder, device="cpu")
        assert "\n" not in str(error.value)
