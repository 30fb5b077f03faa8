"""Resuming with other settings and from damaged files."""

import json
import os
from argparse import Namespace

import pytest
import torch
from torch import nn

from objguided_d2 import get_cfg
from objguided_d2.engine import ConfigError, Trainer, WeightsError, run
from objguided_d2.engine.resume import check_same_settings, settings_to_resume_with
from tests.engine.toy import toy_cfg, weights

pytestmark = pytest.mark.usefixtures("toy_data")
SHORT = "SOLVER.MAX_ITER", 4, "DATASETS.TEST", ()


def train(cfg, resume=False) -> Trainer:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def arguments(**changes) -> Namespace:
    return Namespace(**{"config_file": "", "resume": False, "eval_only": False, **changes})


@pytest.fixture(scope="module")
def finished(toy_data, tmp_path_factory):
    """Folder of a run of four iterations, and the weights of one of eight."""
    folder = tmp_path_factory.mktemp("finished")
    train(toy_cfg(folder, *SHORT))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    for path in finished.iterdir():
        if path.is_file():
            os.link(path, tmp_path / path.name)
    return tmp_path


def test_what_the_checkpoint_overrides_is_told_and_kept(folder, caplog):
    changes = "SOLVER.BASE_LR", 0.5, "SEED", 9, "SOLVER.WEIGHT_DECAY", 0.2, "SOLVER.MAX_ITER", 5
    trainer = train(toy_cfg(folder, *SHORT, *changes), resume=True)
    (ignored,) = [message for message in caplog.messages if "--resume ignores" in message]
    for text in ("SEED 9 (was 3)", "SOLVER.BASE_LR 0.5 (was 0.01)", "SOLVER.WEIGHT_DECAY 0.2 (was 0.0001)"):
        assert text in ignored
    assert "MAX_ITER" not in ignored
    assert any("other settings: SOLVER.MAX_ITER 5 (was 4)" in message for message in caplog.messages)
    assert (trainer.cfg.SEED, trainer.cfg.SOLVER.BASE_LR, trainer.cfg.SOLVER.MAX_ITER) == (3, 0.01, 5)
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 0.01
    again = torch.load(folder / "model_final.pth")["trainer"]["config"]
    assert "BASE_LR: 0.01" in again and "SEED: 3" in again


def test_same_settings_are_resumed_without_a_word(folder, caplog):
    train(toy_cfg(folder, *SHORT), resume=True)
    assert not [message for message in caplog.messages if "--resume" in message]


def test_a_killed_run_that_left_half_a_line_of_metrics_goes_on_on_a_new_one(folder):
    with (folder / "metrics.json").open("a") as file:
        file.write('{"iterat')
    train(toy_cfg(folder, *SHORT, "SOLVER.MAX_ITER", 5), resume=True)
    assert [line["iteration"] for line in map(json.loads, (folder / "metrics.json").open())][-1] == 4


def test_images_are_counted_as_they_were_seen(folder):
    assert torch.load(folder / "model_final.pth")["trainer"]["images_seen"] == 16
    trainer = train(toy_cfg(folder, *SHORT, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 7), resume=True)
    assert trainer.images_seen == 4 * 4 + 3 * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("SOLVER.OPTIMIZER", "SGD"), r"SOLVER.OPTIMIZER SGD \(was AdamW\); set that back, or train into another"),
        (("MODEL.META_ARCHITECTURE", "ToyPlainDetector"), r"META_ARCHITECTURE ToyPlainDetector \(was ToyDetector\)"),
    ],
)
def test_what_cannot_fit_is_refused_and_the_config_file_stays(folder, changes, message):
    (folder / "config.yaml").write_text("former")
    with pytest.raises(ConfigError, match=f"--resume: .*model_final.pth does not fit these settings: .*{message}"):
        run(toy_cfg(folder, *SHORT, *changes), arguments(resume=True))
    assert (folder / "config.yaml").read_text() == "former"


def test_config_file_holds_the_settings_that_are_in_force(folder):
    run(toy_cfg(folder, *SHORT, "SOLVER.BASE_LR", 0.5), arguments(resume=True))
    written = get_cfg(folder / "config.yaml")
    assert (written.SOLVER.BASE_LR, written.SOLVER.OPTIMIZER) == (0.01, "AdamW")


def test_model_of_other_classes_is_refused_by_the_name_of_the_key():
    former, present = get_cfg(), get_cfg()
    former.MODEL.ROI_HEADS.NUM_CLASSES, present.MODEL.ROI_HEADS.NUM_CLASSES = 1, 2
    checkpoint = {"model": nn.Linear(4, 1).state_dict(), "trainer": {"config": former.dump()}}
    with pytest.raises(ConfigError, match=r"a.pth does not fit .*: MODEL.ROI_HEADS.NUM_CLASSES 2 \(was 1\)"):
        settings_to_resume_with("a.pth", checkpoint, present, nn.Linear(4, 2))
    # Older checkpoints have no settings.
    with pytest.raises(ConfigError, match="a.pth is of another model: 2 parameters differ, as bias"):
        settings_to_resume_with("a.pth", {**checkpoint, "trainer": {}}, present, nn.Linear(4, 2))
    assert settings_to_resume_with("a.pth", {**checkpoint, "trainer": {}}, present, nn.Linear(4, 1)) == present


def test_run_goes_on_from_the_checkpoint_before_a_damaged_one(folder, caplog):
    whole = weights(folder / "model_final.pth")
    (folder / "model_final.pth").unlink()  # A link to the file that other tests use.
    (folder / "model_final.pth").write_bytes(b"")
    (folder / "model_0000003.pth").unlink()
    trainer = train(toy_cfg(folder, *SHORT), resume=True)
    assert trainer.start_iter == 2 and "model_final.pth cannot be read: the file is empty" in caplog.text
    resumed = weights(folder / "model_final.pth")
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


@pytest.mark.parametrize("eval_only", [False, True])
def test_weights_of_which_nothing_fits_are_refused(tmp_path, eval_only):
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")
    cfg = toy_cfg(tmp_path / "run", "MODEL.WEIGHTS", str(tmp_path / "other.pth"))
    with pytest.raises(WeightsError, match="other.pth: nothing in them fits the model"):
        run(cfg, arguments(eval_only=eval_only))
    assert not (tmp_path / "run/config.yaml").exists()


def test_evaluation_of_the_last_checkpoint_needs_one(tmp_path):
    with pytest.raises(ConfigError, match="--eval-only --resume: no checkpoint in"):
        run(toy_cfg(tmp_path), arguments(eval_only=True, resume=True))


def test_evaluation_refuses_a_dataset_that_numbers_the_classes_otherwise_than_the_training(folder):
    run(toy_cfg(folder, *SHORT), arguments(resume=True))
    names = folder / "class_names.json"
    known = json.loads(names.read_text())
    cfg = toy_cfg(folder, "MODEL.WEIGHTS", str(folder / "model_final.pth"))
    try:
        names.write_text(json.dumps(["debris", *known]))
        with pytest.raises(ConfigError, match="model_final.pth has debris, .* ids in the same order"):
            run(cfg, arguments(eval_only=True))
        names.write_text("[")
        with pytest.raises(ConfigError, match="class_names.json is no JSON"):
            run(cfg, arguments(eval_only=True))
    finally:
        names.write_text(json.dumps(known))


def test_evaluation_in_the_folder_of_a_training_leaves_its_config(folder, tmp_path_factory):
    run(toy_cfg(folder, *SHORT), arguments(resume=True))
    written = (folder / "config.yaml").read_text()
    options = "SOLVER.MAX_ITER", 4, "MODEL.WEIGHTS", str(folder / "model_final.pth")
    run(toy_cfg(folder, *options), arguments(eval_only=True))
    assert (folder / "config.yaml").read_text() == written
    check_same_settings(folder, toy_cfg(folder, *SHORT))
    elsewhere = tmp_path_factory.mktemp("evaluation")
    run(toy_cfg(elsewhere, *options), arguments(eval_only=True))
    assert "model_final.pth" in (elsewhere / "config.yaml").read_text()
