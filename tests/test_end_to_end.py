"""Training runs as a user starts them, on data drawn here."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.synthetic import write_synthetic_dataset
from objguided_d2.engine import Trainer, argument_parser, load_config

ITERATIONS = {"objguided_small_R_18": 70, "mask_rcnn_R_18_FPN_256": 20, "pointrend_rcnn_R_18_FPN_256": 20}
# Few proposals: their number decides the time of the baselines, not whether the gradient flows.
FEW_PROPOSALS = [
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "200", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100",
    "MODEL.RPN.PRE_NMS_TOPK_TEST", "200", "MODEL.RPN.POST_NMS_TOPK_TEST", "50",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "0.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def four_images(tmp_path_factory):
    """Four synthetic images of nuclei, registered for training and testing alike."""
    folder = tmp_path_factory.mktemp("four_images")
    write_synthetic_dataset(folder, kinds=("nuclei",), num_train=4, num_val=0, size=(96, 96), seed=3)
    register_objguided_instances("four_images", folder / "annotations/synthetic_train.json", folder / "train")
    yield "four_images"
    DatasetCatalog.remove("four_images")
    MetadataCatalog.remove("four_images")


@pytest.mark.parametrize("method", ITERATIONS)
def test_every_method_overfits_four_images(method, four_images, tmp_path):
    """The gradient flows: a few steps on four images bring the loss down, and ours finds most of their objects."""
    is_ours = method.startswith("objguided")
    arguments = argument_parser().parse_args(
        [
            "--config-file", f"configs/dsb2018/{method}.yaml",
            "DATASETS.TRAIN", f"('{four_images}',)", "DATASETS.TEST", f"('{four_images}',)" if is_ours else "()",
            "OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu",
            "SOLVER.MAX_ITER", str(ITERATIONS[method]), "SOLVER.MAX_MINUTES", "0.0", "SOLVER.IMS_PER_BATCH", "4",
            "SOLVER.WARMUP_ITERS", "10", "SOLVER.BASE_LR", "0.002" if is_ours else "0.001",
            "INPUT.SQUARE_CROP.RANGE", "[1.0, 1.0]", "INPUT.SQUARE_CROP.OUTPUT_SIZE", "96",
            "INPUT.MIN_SIZE_TEST", "96", "INPUT.RANDOM_FLIP", "none", "INPUT.VERTICAL_FLIP", "False",
            "INPUT.TRANSPOSE", "False", "TEST.DETECTIONS_PER_IMAGE", "100",
            "TEST.PRECISE_BN.NUM_ITER", "4", *FEW_PROPOSALS,
        ]
    )  # fmt: skip
    cfg = load_config(arguments)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    # The baselines make few of their slow steps.
    assert np.mean(losses[-3:]) < (0.7 if is_ours else 0.9) * losses[0]
    if is_ours:
        assert results["segm"]["AP50"] >= 75
        written = json.loads((tmp_path / "inference/four_images/metrics.json").read_text())
        assert written["results"]["segm/AP50"] == results["segm"]["AP50"] and written["num_images"] == 4
