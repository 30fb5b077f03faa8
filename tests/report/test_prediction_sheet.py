"""What the sheet draws and counts."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.report import prediction_sheet
from tests.modeling.models import small_cfg

NAME = "prediction_sheet_cells"


class TwoGuesses(torch.nn.Module):
    """Predicts the whole image twice, with scores 0.9 and 0.1."""

    def forward(self, batched_inputs):
        size = batched_inputs[0]["height"], batched_inputs[0]["width"]
        boxes = torch.tensor([[0.0, 0.0, size[1], size[0]]] * 2)
        instances = Instances(size, pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.1]))
        instances.pred_masks = torch.ones(2, *size, dtype=torch.bool)
        return [{"instances": instances}]


@pytest.fixture
def cell_and_crowd(tmp_path):
    mask, crowd = np.zeros((48, 64), bool), np.zeros((48, 64), bool)
    mask[8:16, 4:20] = True
    crowd[40:] = True
    writer = CocoWriter(tmp_path / "val", ["cell"])
    writer.add("image", np.full((48, 64, 3), 90, np.uint8), [mask], crowd=crowd)
    writer.write_json(tmp_path / "cells.json")
    register_objguided_instances(NAME, str(tmp_path / "cells.json"), str(tmp_path / "val"))
    yield NAME
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.fixture
def tiles(monkeypatch):
    """Those of the sheets that are written."""
    tiles = []
    write = prediction_sheet.contact_sheet
    monkeypatch.setattr(
        prediction_sheet, "contact_sheet", lambda given, *args: tiles.extend(given) or write(given, *args)
    )
    return tiles


def test_crowds_are_no_objects_and_low_scores_are_left_out(cell_and_crowd, tmp_path, tiles):
    prediction_sheet.draw_prediction_sheet(small_cfg(), TwoGuesses(), cell_and_crowd, tmp_path / "sheet.png")
    assert [tile.caption for tile in tiles] == ["image.png", "truth: 1 objects", "predicted: 1 with score >= 0.3"]
    plain, truth, predicted = (tile.image for tile in tiles)
    zoom = 512 // 64
    changed = (plain != truth).any(axis=2)
    assert changed[8 * zoom : 16 * zoom, 4 * zoom : 20 * zoom].all() and not changed[40 * zoom :].any()
    assert (plain != predicted).any(axis=2).all()
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_each_model_is_drawn_from_its_own_score_threshold(cell_and_crowd, tmp_path, tiles):
    models = {"before": (TwoGuesses(), 0.3), "after": (TwoGuesses(), 0.05)}
    records = DatasetCatalog.get(cell_and_crowd)
    prediction_sheet.draw_predictions(small_cfg(), models, records, tmp_path / "sheet.png")
    captions = [tile.caption for tile in tiles][2:]
    assert captions == ["before: 1 with score >= 0.3", "after: 2 with score >= 0.05"]
