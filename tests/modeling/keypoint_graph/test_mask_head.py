import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from objguided_d2 import get_cfg
from objguided_d2.modeling.keypoint_graph import KeypointGraphMaskHead
from tests.modeling.models import CHANNELS, disk_batch

NAMES = ("c1", "c2", "res2", "res3", "res4")
SHAPES = {name: ShapeSpec(channels=c, stride=2**i) for i, (name, c) in enumerate(zip(NAMES, CHANNELS.values()))}


def make_head(**settings) -> KeypointGraphMaskHead:
    settings = {"norm_affine": False, "seg_head_dim": 4, "box_expansion": 1.0, "grid": "centers"} | settings
    torch.manual_seed(0)
    head = KeypointGraphMaskHead(input_shape=SHAPES, ladder_channels=[0] * 4, **settings)
    torch.nn.init.normal_(head.seg_head.predictor.weight, std=0.1)
    return head


def make_features(num_images: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(num_images, c, 64 >> i, 96 >> i) for i, c in enumerate(CHANNELS.values())]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_a_mask_is_that_of_plain_convolutions_on_the_cropped_maps():
    head, features = make_head(), make_features()
    # On whole cells of stride 8, where the crops are slices of the maps; 16 would leave one cell.
    x1, y1, x2, y2 = 16, 8, 56, 32
    crops = [f[:, :, y1 // s : y2 // s, x1 // s : x2 // s] for f, s in zip(features, (1, 2, 4, 8))]
    e = crops[-1]
    for module, skip in zip(reversed(head.ladder[:3]), reversed(crops[:3])):
        low = F.interpolate(e, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        low = F.relu(F.conv2d(low, module.up.weight, module.up.bias, padding=1))
        e = F.relu(F.conv2d(torch.cat([skip, low], 1), module.merge.weight, module.merge.bias))
    hidden = F.relu(F.conv2d(e, head.seg_head.conv.weight, head.seg_head.conv.bias, padding=1))
    expected = F.conv2d(hidden, head.seg_head.predictor.weight, head.seg_head.predictor.bias, padding=1).sigmoid()

    box = torch.tensor([[x1 + 0.4, y1 - 0.3, x2 - 0.4, y2 + 0.2]])
    (masks,) = head(features, [Boxes(box)], [(64, 96)])
    assert torch.equal(masks.boxes, torch.tensor([[x1, y1, x2, y2]], dtype=torch.float32))
    torch.testing.assert_close(masks.probabilities.view(y2 - y1, x2 - x1), expected[0, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("counts", [[3, 0], [0, 0]])
def test_every_parameter_gets_a_gradient(counts):
    head, features = make_head(), make_features(2)
    with EventStorage():
        losses = head.losses(features, [x["instances"] for x in disk_batch([(64, 96)] * 2, counts)])
    assert set(losses) == {"loss_mask"}
    losses["loss_mask"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_a_refinement_is_refused():
    cfg = get_cfg()
    cfg.MODEL.ROI_MASK_HEAD.IN_FEATURES = list(NAMES)
    with pytest.raises(ValueError, match="set MODEL.ROI_MASK_HEAD.REFINE.ENABLED to False"):
        KeypointGraphMaskHead(cfg, SHAPES)
