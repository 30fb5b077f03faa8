"""A training run as a user starts it, of a narrow model on four synthetic images."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.synthetic import write_synthetic_dataset
from objguided_d2.engine import Trainer, argument_parser, load_config

MAPS = "['c1', 'c2', 'res2', 'res3']"


@pytest.fixture
def four_images(tmp_path):
    write_synthetic_dataset(tmp_path / "data", kinds=("nuclei",), num_train=4, num_val=0, size=(64, 64), seed=4)
    annotations = tmp_path / "data/annotations/synthetic_train.json"
    register_objguided_instances("four_images", annotations, tmp_path / "data/train")
    yield "four_images"
    DatasetCatalog.remove("four_images")
    MetadataCatalog.remove("four_images")


def test_four_images_are_learned_by_heart(four_images, tmp_path):
    arguments = argument_parser().parse_args(
        [
            "--config-file", "dsb2018/keypoint_graph_R_18_256",
            "DATASETS.TRAIN", f"('{four_images}',)", "DATASETS.TEST", f"('{four_images}',)",
            "OUTPUT_DIR", str(tmp_path / "run"), "MODEL.DEVICE", "cpu",
            # Three scales and few channels.
            "MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3']",
            "MODEL.KEYPOINT_GRAPH.IN_FEATURES", MAPS, "MODEL.ROI_MASK_HEAD.IN_FEATURES", MAPS,
            "MODEL.KEYPOINT_GRAPH.DECODER_CHANNELS", "[32, 24, 16]", "MODEL.KEYPOINT_GRAPH.HEAD_KERNEL", "3",
            "MODEL.ROI_MASK_HEAD.LADDER_CHANNELS", "[32, 32, 16]", "MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM", "16",
            "MODEL.ROI_MASK_HEAD.BOX_JITTER_SHIFT", "0.0", "MODEL.ROI_MASK_HEAD.BOX_JITTER_SCALE", "0.0",
            "SOLVER.MAX_ITER", "140", "SOLVER.MAX_MINUTES", "0.0", "SOLVER.IMS_PER_BATCH", "4",
            "SOLVER.WARMUP_ITERS", "10", "SOLVER.BASE_LR", "0.005", "SOLVER.FREEZE_BN_AT", "1.0",
            "INPUT.SQUARE_CROP.RANGE", "[1.0, 1.0]", "INPUT.SQUARE_CROP.OUTPUT_SIZE", "64",
            "INPUT.MIN_SIZE_TEST", "64", "INPUT.RANDOM_FLIP", "none", "INPUT.VERTICAL_FLIP", "False",
            "INPUT.TRANSPOSE", "False", "TEST.DETECTIONS_PER_IMAGE", "100", "TEST.EVALUATORS", "['coco']",
        ]
    )  # fmt: skip
    trainer = Trainer(load_config(arguments))
    trainer.resume_or_load(resume=False)
    assert trainer.train()["segm"]["AP50"] >= 90
