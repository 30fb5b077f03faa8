"""A converted checkpoint of full size gives what the released program gives."""

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from benchmarks.reference.rois import enlarge_boxes, mask_ladder
from objguided_d2 import get_cfg
from objguided_d2.engine.released_checkpoint_file import convert_file
from objguided_d2.modeling.released_checkpoint import convert_released_state_dict
from tests.reference.released_program import ReleasedProgram

CONFIG = "configs/dsb2018/objguided_released_R_50.yaml"


@pytest.fixture(scope="module")
def program() -> ReleasedProgram:
    torch.manual_seed(0)
    program = ReleasedProgram()
    for module in program.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return program.eval()


@torch.no_grad()
def test_converted_model_equals_the_program(program, tmp_path):
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    state = {f"module.{name}": value for name, value in program.state_dict().items()}
    torch.save({"epoch": 7, "state_dict": state}, source)
    convert_file(str(source), str(target), CONFIG)

    cfg = get_cfg()
    cfg.merge_from_file(CONFIG)
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(target))
    image = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
    normalized = model.preprocess_image([{"image": image}]).tensor
    torch.testing.assert_close(normalized[0], image / 255 - 0.5)

    theirs = program.maps(image[None] / 255 - 0.5)
    ours = model.backbone(normalized)
    for name, their_map in zip(("c1", "c2", "c3", "c4", "c5"), theirs):
        assert (ours[name] - their_map).abs().max() < 1e-4 * their_map.abs().max()

    head, c3 = model.proposal_generator.head, ours["c3"]
    torch.testing.assert_close(head(c3).sigmoid(), program.hm(theirs[2]).sigmoid(), atol=1e-4, rtol=0)
    cell = torch.tensor([0, 39, 700, 1279])
    wh, offset = head.wh_and_offset(c3, cell)
    for at_cells, dense in ((wh, program.wh(theirs[2])), (offset, program.reg(theirs[2]))):
        torch.testing.assert_close(at_cells, dense[0].flatten(1).t()[cell], atol=1e-4, rtol=1e-4)

    boxes = torch.tensor([[20.0, 30, 61, 77], [100, 5, 118, 30], [4, 90, 9, 95]])
    given = Instances((128, 160), pred_boxes=Boxes(boxes))
    (result,) = model.roi_heads.forward_with_given_boxes(ours, [given])
    masks = result.pred_masks.grid.split(result.pred_masks.probabilities)
    for mask, box in zip(masks, enlarge_boxes(boxes, 1.1)):
        logits, _ = mask_ladder(theirs, box, program.state_dict())
        torch.testing.assert_close(mask, logits.sigmoid().reshape(mask.shape), atol=1e-4, rtol=0)


def test_a_foreign_parameter_is_named():
    with pytest.raises(ValueError, match="'encoder.weight' is not a parameter of the released program"):
        convert_released_state_dict({"encoder.weight": torch.zeros(1)})


def test_broken_files_are_refused_and_nothing_is_written(program, tmp_path):
    target = tmp_path / "out.pth"
    state = dict(program.state_dict())
    broken = {
        "has no 'state_dict'": {"model": state},
        "lacks backbone.c1.0.bias": {"state_dict": {k: v for k, v in state.items() if k != "c0_conv.0.bias"}},
        "in another shape roi_heads": {"state_dict": state | {"seg_head.0.weight": torch.zeros(64, 32, 3, 3)}},
    }
    for message, content in broken.items():
        source = tmp_path / "in.pth"
        torch.save(content, source)
        with pytest.raises(ValueError, match=message):
            convert_file(str(source), str(target), CONFIG)
    (tmp_path / "in.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="in.pth cannot be read: the file is no PyTorch checkpoint"):
        convert_file(str(tmp_path / "in.pth"), str(target), CONFIG)
    assert not target.exists()
