"""Training runs as a user starts them, on four images drawn here."""

import json

import pytest

from tests.modeling.overfit import overfit

# Few proposals and narrow layers: they decide the time of the baselines, not whether the gradient flows.
SMALL = [
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "200", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100",
    "MODEL.RPN.PRE_NMS_TOPK_TEST", "200", "MODEL.RPN.POST_NMS_TOPK_TEST", "20",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "0.5",
    "MODEL.FPN.OUT_CHANNELS", "64", "MODEL.ROI_BOX_HEAD.FC_DIM", "128", "MODEL.ROI_MASK_HEAD.CONV_DIM", "64",
]  # fmt: skip
SMALL_POINT_HEAD = ["MODEL.ROI_MASK_HEAD.FC_DIM", "128", "MODEL.POINT_HEAD.FC_DIM", "64"]


def test_the_object_guided_model_trains_until_it_knows_four_images(tmp_path):
    results = overfit("dsb2018/objguided_small_R_18", tmp_path, 30)
    assert results["segm"]["AP50"] >= 90
    (written,) = (tmp_path / "run/inference").glob("four_images*/metrics.json")
    metrics = json.loads(written.read_text())
    assert metrics["results"]["segm/AP50"] == results["segm"]["AP50"] and metrics["num_images"] == 4


@pytest.mark.parametrize(
    ("method", "options"), [("mask_rcnn_R_18_FPN_256", []), ("pointrend_rcnn_R_18_FPN_256", SMALL_POINT_HEAD)]
)
def test_a_baseline_trains_until_it_finds_most_objects_of_four_images(method, options, tmp_path):
    results = overfit(f"dsb2018/{method}", tmp_path, 40, *SMALL, *options)
    assert results["segm"]["AP50"] >= 50
