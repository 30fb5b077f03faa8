from tests.modeling.overfit import overfit

MAPS = "['c1', 'c2', 'res2', 'res3']"


def test_trains_until_it_knows_four_images(tmp_path):
    # Three scales and few channels.
    results = overfit(
        "dsb2018/keypoint_graph_R_18_256", tmp_path, 60,
        "MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3']",
        "MODEL.KEYPOINT_GRAPH.IN_FEATURES", MAPS, "MODEL.ROI_MASK_HEAD.IN_FEATURES", MAPS,
        "MODEL.KEYPOINT_GRAPH.DECODER_CHANNELS", "[32, 24, 16]", "MODEL.KEYPOINT_GRAPH.HEAD_KERNEL", "3",
        "MODEL.ROI_MASK_HEAD.LADDER_CHANNELS", "[32, 32, 16]", "MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM", "16",
        "MODEL.ROI_MASK_HEAD.BOX_JITTER_SHIFT", "0.0", "MODEL.ROI_MASK_HEAD.BOX_JITTER_SCALE", "0.0",
        "SOLVER.BASE_LR", "0.005", "SOLVER.FREEZE_BN_AT", "1.0",
    )  # fmt: skip
    assert results["segm"]["AP50"] >= 90
