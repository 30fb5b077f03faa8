"""Loading a trained model, on a detector of two layers."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from objguided_d2 import get_cfg
from objguided_d2.inference.loader import LoadError, load_model
from tests.engine.toy import toy_cfg


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """OUTPUT_DIR of a training that ended: the best model's biases are 1, the last one's 2."""
    cfg = toy_cfg(tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    model = build_model(cfg)
    for name, bias in (("model_best.pth", 1.0), ("model_final.pth", 2.0)):
        torch.nn.init.constant_(model.head.bias, bias)
        torch.save({"model": model.state_dict(), "iteration": 7}, tmp_path / name)
    return tmp_path


def bias_of(loaded) -> float:
    return loaded.model.head.bias.item()


def test_run_folder_gives_its_best_model_ready_to_predict(run_folder):
    loaded = load_model(run_folder)
    assert bias_of(loaded) == 1 and not loaded.model.training
    assert loaded.weights == loaded.cfg.MODEL.WEIGHTS == str(run_folder / "model_best.pth")
    assert loaded.cfg.is_frozen() and loaded.cfg.MODEL.DEVICE == "cpu"


def test_run_without_evaluations_gives_its_last_model(run_folder):
    (run_folder / "model_best.pth").unlink()
    assert bias_of(load_model(str(run_folder))) == 2


def test_weights_may_be_a_file_of_the_run_folder_or_any_other(run_folder, tmp_path_factory):
    assert bias_of(load_model(run_folder, "model_final.pth")) == 2
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.pth"
    (run_folder / "model_final.pth").rename(elsewhere)
    assert bias_of(load_model(run_folder, elsewhere)) == 2


def test_config_of_a_run_gives_what_the_run_learned_not_what_it_began_with(run_folder, tmp_path_factory):
    start = tmp_path_factory.mktemp("start") / "start.pth"
    (run_folder / "model_final.pth").rename(start)
    config = run_folder / "config.yaml"
    config.write_text(config.read_text().replace(" WEIGHTS: ''", f" WEIGHTS: {start}"))
    assert bias_of(load_model(config)) == 1
    (run_folder / "model_best.pth").unlink()
    assert bias_of(load_model(config)) == 2  # No run: a config with weights.


def test_config_with_weights_and_options(run_folder):
    options = ["TEST.DETECTIONS_PER_IMAGE", 7]
    loaded = load_model(run_folder / "config.yaml", run_folder / "model_final.pth", options=options)
    assert bias_of(loaded) == 2 and loaded.cfg.TEST.DETECTIONS_PER_IMAGE == 7


def test_cuda_in_the_config_is_the_cpu_where_there_is_none(run_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_model(run_folder, options=["MODEL.DEVICE", "cuda"]).cfg.MODEL.DEVICE == "cpu"


def test_parts_that_only_the_training_runs_may_be_missing(tmp_path):
    name, weights = "dsb2018/objguided_small_R_18", tmp_path / "model.pth"
    cfg = get_cfg(name)
    cfg.MODEL.DEVICE = "cpu"
    state = build_model(cfg).state_dict()
    kept = {key: value for key, value in state.items() if ".refinement." not in key}
    assert len(kept) < len(state)
    torch.save({"model": kept}, weights)
    loaded = load_model(name, weights, device="cpu").model.state_dict()
    assert all(torch.equal(loaded[parameter], value) for parameter, value in kept.items())


def remove_config(folder: Path) -> Path:
    (folder / "config.yaml").unlink()
    return folder


def remove_weights(folder: Path) -> Path:
    for file in folder.glob("*.pth"):
        file.unlink()
    return folder


def truncate_weights(folder: Path) -> Path:
    file = folder / "model_best.pth"
    file.write_bytes(file.read_bytes()[:-100])
    return folder


def write_text_as_weights(folder: Path) -> Path:
    (folder / "model_best.pth").write_text("404: Not Found")
    return folder


def write_weights_of_another_model(folder: Path) -> Path:
    torch.save({"model": {"other.weight": torch.ones(3)}}, folder / "model_best.pth")
    return folder


def remove_a_parameter(folder: Path) -> Path:
    content = torch.load(folder / "model_best.pth")
    del content["model"]["head.bias"]
    torch.save(content, folder / "model_best.pth")
    return folder


def change_a_shape(folder: Path) -> Path:
    content = torch.load(folder / "model_best.pth")
    content["model"]["head.bias"] = torch.zeros(9)
    torch.save(content, folder / "model_best.pth")
    return folder


def add_a_key_to_the_config(folder: Path) -> Path:
    with open(folder / "config.yaml", "a") as file:
        file.write("NO_SUCH_KEY: 1\n")
    return folder


def break_the_config(folder: Path) -> Path:
    (folder / "config.yaml").write_text("SOLVER: [\n")
    return folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder / "absent", "absent does not exist; .* no such run folder"),
        (remove_config, "has no config.yaml: give the OUTPUT_DIR"),
        (remove_weights, "has no weights"),
        (truncate_weights, "model_best.pth cannot be read: the file is damaged or cut off .*copy or train them again"),
        (write_text_as_weights, "model_best.pth cannot be read: the file is no PyTorch checkpoint"),
        (write_weights_of_another_model, "nothing in them fits the model"),
        (remove_a_parameter, "1 of .* parameters do not fit the model, as head.bias is missing"),
        (change_a_shape, "1 of .* parameters do not fit the model, as head.bias has another shape"),
        (add_a_key_to_the_config, "config.yaml cannot be used: .*NO_SUCH_KEY"),
        (break_the_config, "config.yaml cannot be used"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(run_folder, spoil, message):
    with pytest.raises(LoadError, match=message) as info:
        load_model(spoil(run_folder))
    assert "\n" not in str(info.value)


def test_weights_file_that_is_not_there(run_folder):
    with pytest.raises(LoadError, match="weights no.pth do not exist"):
        load_model(run_folder, "no.pth")


def test_config_without_weights():
    with pytest.raises(LoadError, match="no MODEL.WEIGHTS: give a weights file"):
        load_model("dsb2018/objguided_small_R_18")
