import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances

from objguided_d2.modeling.keypoint_graph.decoder import KeypointMaps
from objguided_d2.modeling.keypoint_graph.proposal_generator import KeypointGraphProposals
from objguided_d2.modeling.keypoint_graph.targets import encode

WEIGHTS = {"loss_keypoint": 1.0, "loss_short_offset": 1.0, "loss_mid_offset": 0.25}
SIZES = [(128, 160), (110, 157)]
SHAPES = {name: ShapeSpec(channels=4, stride=2**i) for i, name in enumerate(("c1", "c2", "res2", "res3", "res4"))}


def make_proposals(**settings) -> KeypointGraphProposals:
    settings = {"num_classes": 2, "decoder_channels": [4] * 4, "head_kernel": 3, "loss_weights": WEIGHTS} | settings
    return KeypointGraphProposals(input_shape=SHAPES, **settings)


def truth() -> list[Instances]:
    boxes = [
        [[0.0, 0, 30, 24], [60, 3, 100, 80], [130, 90, 160, 128], [12, 60, 41, 103]],
        [[20.0, 10, 66, 25], [100, 60, 157, 110]],
    ]
    classes = [[0, 1, 1, 0], [1, 0]]
    return [
        Instances(size, gt_boxes=Boxes(torch.tensor(b)), gt_classes=torch.tensor(c))
        for size, b, c in zip(SIZES, boxes, classes)
    ]


def perfect_maps(instances: list[Instances], strides: list[int]) -> list[KeypointMaps]:
    """What the heads would say if they knew the truth."""
    boxes = torch.cat([i.gt_boxes.tensor for i in instances])
    image = torch.arange(len(instances)).repeat_interleave(torch.tensor([len(i) for i in instances]))
    maps = []
    for stride in strides:
        height, width = 128 // stride, 160 // stride
        shape = (len(instances), 2, height, width)
        targets = encode(boxes, image, torch.cat([i.gt_classes for i in instances]), shape, stride, radius=5.0)
        short, mid = torch.zeros(2 * 5 * height * width, 2), torch.zeros(2 * 5 * height * width, 4, 2)
        short[targets.cell], mid[targets.cell] = targets.short, targets.mid
        short, mid = short.view(2, 5, height, width, 2), mid.view(2, 5, height, width, 4, 2)
        maps.append(KeypointMaps((targets.keypoint - 0.5) * 40, short.movedim(-1, 2), mid.movedim((-2, -1), (2, 3))))
    return maps


def assert_same_boxes(found: Instances, expected: Instances, tolerance: float) -> None:
    assert len(found) == len(expected)
    for box, label in zip(expected.gt_boxes.tensor, expected.gt_classes):
        difference = (found.proposal_boxes.tensor - box).abs().amax(1) + 1000 * (found.proposal_classes != label)
        assert difference.min() <= tolerance


@pytest.mark.parametrize("scale", [0, 1, 2, None])
def test_perfect_maps_give_the_exact_boxes(scale):
    proposals = make_proposals(subcell_peaks=True, start_distance=3.0)
    maps = perfect_maps(truth(), proposals.strides)
    if scale is not None:
        for other in maps[:scale] + maps[scale + 1 :]:
            other.keypoint.fill_(-40.0)
    for found, expected in zip(proposals.propose(maps, SIZES), truth()):
        assert_same_boxes(found, expected, 1e-3)
        assert (found.objectness_logits.sigmoid() > 0.35).all() and found.image_size == expected.image_size
        assert torch.equal(found.objectness_logits, found.objectness_logits.sort(descending=True).values)


def test_keypoints_at_whole_cells_give_boxes_to_half_a_cell():
    proposals = make_proposals()
    maps = perfect_maps(truth(), proposals.strides)
    for found, expected in zip(proposals.propose(maps[:1], SIZES), truth()):
        assert_same_boxes(found, expected, 0.01)
    maps[0].keypoint.fill_(-40.0)
    for found, expected in zip(proposals.propose(maps[:2], SIZES), truth()):
        assert_same_boxes(found, expected, 1.01)


def test_proposals_under_the_score_threshold_are_dropped():
    maps = perfect_maps(truth(), [1, 2, 4, 8])
    assert [len(found) for found in make_proposals(score_thresh=0.3).propose(maps, SIZES)] == [4, 2]
    assert [len(found) for found in make_proposals(score_thresh=0.6).propose(maps, SIZES)] == [0, 0]


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf, 1e30])
def test_whatever_the_maps_hold_proposals_are_finite_and_bounded(value):
    generator = torch.Generator().manual_seed(0)
    proposals = make_proposals(topk=7)
    maps = [
        KeypointMaps(*(torch.randn(v.shape, generator=generator) * 5 for v in scale))
        for scale in perfect_maps(truth(), proposals.strides)
    ]
    for values in maps[0]:
        values.view(-1)[::2] = value
    for found in proposals.propose(maps, SIZES):
        assert len(found) <= 4 * 2 * 5 * 7 and found.proposal_boxes.tensor.isfinite().all()
        assert found.objectness_logits.isfinite().all()


def test_nothing_found_gives_empty_proposals_with_their_fields():
    proposals = make_proposals()
    maps = [KeypointMaps(*(torch.full_like(v, -50.0) for v in scale)) for scale in perfect_maps(truth(), [1, 2])]
    (found, _) = proposals.propose(maps, SIZES)
    assert len(found) == 0 and found.proposal_boxes.tensor.shape == (0, 4)
    assert found.objectness_logits.dtype == torch.float32 and found.proposal_classes.dtype == torch.int64


def test_perfect_maps_have_no_loss_and_scales_add_up():
    proposals = make_proposals()
    maps = perfect_maps(truth(), proposals.strides)
    assert all(loss < 1e-5 for loss in proposals.losses(maps, truth()).values())
    wrong = [KeypointMaps(m.keypoint, m.short + 2.5, m.mid - 2.5) for m in maps]
    losses = proposals.losses(wrong, truth())
    assert losses["loss_short_offset"] == pytest.approx(4 * 2.5 / 5, rel=1e-4)
    assert losses["loss_mid_offset"] == pytest.approx(0.25 * 4 * 2.5 / 5, rel=1e-4)


def test_a_class_that_the_model_lacks_is_refused_in_one_line():
    proposals = make_proposals(num_classes=1)
    maps = [KeypointMaps(m.keypoint[:, :1], m.short, m.mid) for m in perfect_maps(truth(), proposals.strides)]
    with pytest.raises(ValueError, match="class 1, but there are 1 classes.*MODEL.ROI_HEADS.NUM_CLASSES") as found:
        proposals.losses(maps, truth())
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "settings, key",
    [
        ({"decoder_channels": [4, 4]}, "DECODER_CHANNELS"),
        ({"head_kernel": 4}, "HEAD_KERNEL"),
        ({"radius": 0.5}, "RADIUS"),
        ({"blur_sigma": 0.0}, "BLUR_SIGMA"),
        ({"topk": 0}, "TOPK"),
        ({"box_nms_thresh": 1.5}, "BOX_NMS_THRESH"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_their_key(settings, key):
    with pytest.raises(ValueError, match=f"MODEL.KEYPOINT_GRAPH.{key}"):
        make_proposals(**settings)
