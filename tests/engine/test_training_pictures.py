import numpy as np
import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from objguided_d2.engine import Trainer
from objguided_d2.engine.training_pictures import TrainingPictures, draw_training_pictures
from tests.engine.toy import toy_cfg
from tests.modeling.models import disk_batch, small_cfg


@pytest.fixture(scope="module")
def model():
    cfg = small_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.CENTER_HEAD.TOPK = 20
    torch.manual_seed(0)
    return build_model(cfg).train()


def test_pictures_are_drawn_every_period(model):
    batch = disk_batch([(64, 80)], [3])
    trainer = SimpleTrainer(model, [batch] * 4, torch.optim.SGD(model.parameters(), lr=0.0))
    drawn = []

    class Watch(TrainingPictures):
        def after_step(self):
            super().after_step()
            drawn.append(sorted(name.split(";")[0] for name, _, _ in self.trainer.storage._vis_data))
            self.trainer.storage.clear_images()

    trainer.register_hooks([Watch(model, period=2)])
    trainer.train(0, 4)
    expected = ["left: true boxes and masks", "left: true center heatmap", "refinement points on a predicted mask"]
    assert drawn == [expected, [], expected, []]


def test_drawing_changes_nothing_of_the_model(model):
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    norm.eval()  # as a frozen one is
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with EventStorage() as storage:
        draw_training_pictures(model, disk_batch([(50, 70)], [2])[0])
    picture = next(image for name, image, _ in storage._vis_data if "boxes" in name)
    assert picture.shape == (3, 50, 140) and picture.dtype == np.uint8
    assert modes == [module.training for module in model.modules()] and not norm.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_image_without_objects_is_drawn_too(model):
    with EventStorage() as storage:
        draw_training_pictures(model, disk_batch([(64, 80)], [0])[0])
    assert len(storage._vis_data) == 2


@pytest.mark.usefixtures("toy_data")
def test_the_trainer_draws_models_of_ours_alone(tmp_path):
    def pictures(cfg):
        return [h for h in Trainer(cfg)._hooks if isinstance(h, TrainingPictures)]

    ours = toy_cfg(tmp_path, "VIS_PERIOD", 5)
    ours.defrost()
    ours.MODEL.update(small_cfg().MODEL)
    assert len(pictures(ours)) == 1
    ours.VIS_PERIOD = 0
    assert not pictures(ours)
    assert not pictures(toy_cfg(tmp_path, "VIS_PERIOD", 5))
