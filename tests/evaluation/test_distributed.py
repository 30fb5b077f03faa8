"""Two processes, each with half of the images, give the numbers of one."""

import json
from argparse import Namespace

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from objguided_d2.config import get_cfg
from objguided_d2.engine import launch
from objguided_d2.evaluation import build_evaluator
from tests.evaluation.rectangles import rectangle_instances, rectangle_record

NAME = "rectangles_split_between_processes"


def records_and_predictions():
    """Seven images whose predictions all have one of three scores, so that the order of ties shows."""
    generator = np.random.default_rng(1)
    records, predicted = [], []
    for image_id in range(7):
        boxes = [tuple(int(v) for v in (x, y, x + 12, y + 9)) for x, y in generator.integers(0, 48, (5, 2))]
        records.append(rectangle_record(image_id, [(box, 0) for box in boxes]))
        moved = [(box[0] + int(generator.integers(0, 5)), *box[1:]) for box in boxes]
        predicted.append(rectangle_instances([(box, 0, float(generator.choice([0.25, 0.5, 0.75]))) for box in moved]))
    return records, predicted


def evaluate_part(folder):
    """Evaluate this process's part of the images; every process must get here."""
    records, predicted = records_and_predictions()
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).thing_classes = ["cell"]
    evaluator = build_evaluator(get_cfg(), NAME, folder)
    evaluator.reset()
    for image_id in range(comm.get_rank(), len(records), comm.get_world_size()):
        evaluator.process([{"image_id": image_id}], [{"instances": predicted[image_id]}])
    results = evaluator.evaluate()
    with open(f"{folder}/rank_{comm.get_rank()}_of_{comm.get_world_size()}.json", "w") as file:
        json.dump(results, file)


def test_two_processes_give_the_numbers_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # Here it may have been asked before.
    two_processes = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    launch(evaluate_part, two_processes, (str(tmp_path),))
    try:
        evaluate_part(str(tmp_path))
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)

    main, other, alone = (
        json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in ("0_of_2", "1_of_2", "0_of_1")
    )
    np.testing.assert_equal(main, alone)
    assert 0 < alone["voc_seg"]["AP"] < 100
    assert other == {}
