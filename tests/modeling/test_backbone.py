import pytest
import torch
from detectron2.modeling import build_backbone

from objguided_d2.modeling.backbone import ModuleB
from tests.modeling.models import small_cfg


def test_module_b_equals_the_released_one(golden, device):
    data = golden("module_B")
    low, skip = data["low"], data["skip"]
    module = ModuleB(low.shape[1], skip.shape[1], skip.shape[1], "BN")
    renames = (("up.0.", "up."), ("up.1.", "up.norm."), ("cat_conv.0.", "merge."), ("cat_conv.1.", "merge.norm."))
    state = {}
    for name, value in data.items():
        if "__" in name:
            name = name.replace("__", ".")
            old, new = next(pair for pair in renames if name.startswith(pair[0]))
            state[name.replace(old, new)] = value
    module.load_state_dict(state)
    output = module.to(device).train()(low.to(device), skip.to(device))
    torch.testing.assert_close(output.cpu(), data["output"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth, norm", [(18, "BN"), (34, "GN"), (50, "FrozenBN"), (101, "BN")])
def test_maps_have_their_strides_and_channels(depth, norm):
    cfg = small_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.UNET.LATERAL, cfg.MODEL.UNET.DECODER_CHANNELS, cfg.MODEL.UNET.C1_CHANNELS = False, [0, 0, 0], 64
    backbone = build_backbone(cfg).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    expected = [64, 64, 64, 128, 256] if depth < 50 else [64, 64, 256, 512, 1024]
    assert list(maps) == ["c1", "c2", "c3", "c4", "c5"]
    for i, (name, feature) in enumerate(maps.items()):
        shape = backbone.output_shape()[name]
        assert (shape.channels, shape.stride) == (expected[i], 2**i)
        assert feature.shape == (1, expected[i], 64 >> i, 96 >> i)


def test_paper_model_has_the_released_number_of_parameters():
    from detectron2.modeling import build_model

    cfg = small_cfg()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 50, 256
    cfg.MODEL.UNET.LATERAL, cfg.MODEL.UNET.DECODER_CHANNELS, cfg.MODEL.UNET.C1_CHANNELS = False, [0, 0, 0], 64
    cfg.MODEL.CENTER_HEAD.CONV_DIM, cfg.MODEL.CENTER_HEAD.WH_KERNEL = 256, 7
    cfg.MODEL.ROI_MASK_HEAD.LADDER_CHANNELS, cfg.MODEL.ROI_MASK_HEAD.SEG_HEAD_DIM = [0, 0, 0, 0], 64
    cfg.MODEL.ROI_MASK_HEAD.NORM_AFFINE = False
    parameters = sum(p.numel() for p in build_model(cfg).parameters())
    assert round(parameters / 1e6, 2) == 62.29


def test_wrong_number_of_decoder_channels_is_refused():
    cfg = small_cfg()
    cfg.MODEL.UNET.DECODER_CHANNELS = [24, 24]
    with pytest.raises(ValueError, match="MODEL.UNET.DECODER_CHANNELS"):
        build_backbone(cfg)


def test_the_encoder_gives_the_maps_below_the_decoder():
    cfg = small_cfg()
    unet = build_backbone(cfg).eval()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS.OUT_FEATURES = "build_resnet_encoder_backbone", ["res3"]
    encoder = build_backbone(cfg).eval()
    state = unet.state_dict()
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    image = torch.randn(1, 3, 48, 72)
    with torch.no_grad():
        maps, whole = encoder(image), unet(torch.nn.functional.pad(image, (0, 24, 0, 16)))
    assert list(maps) == ["c1", "c2", "res2", "res3"] and encoder.size_divisibility == 8
    for i, (name, feature) in enumerate(maps.items()):
        shape = encoder.output_shape()[name]
        assert shape.stride == 2**i and feature.shape == (1, shape.channels, 48 >> i, 72 >> i)
    torch.testing.assert_close(maps["c2"][:, :, :22, :34], whole["c2"][:, :, :22, :34])
