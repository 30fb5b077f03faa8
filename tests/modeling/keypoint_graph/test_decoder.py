import pytest
import torch

from objguided_d2.modeling.keypoint_graph.decoder import KeypointDecoder, KeypointHeads


def test_every_map_is_merged_from_the_deeper_one_and_the_encoders():
    decoder = KeypointDecoder([3, 4, 5, 6], [0, 7, 2])
    features = [torch.randn(1, c, 32 >> i, 48 >> i) for i, c in enumerate((3, 4, 5, 6))]
    maps = decoder(features)
    assert [tuple(m.shape[1:]) for m in maps] == [(2, 32, 48), (7, 16, 24), (5, 8, 12)]
    torch.testing.assert_close(maps[2], decoder.merges[2](features[3], features[2]))
    torch.testing.assert_close(maps[0], decoder.merges[0](maps[1], features[0]))
    with pytest.raises(ValueError, match="DECODER_CHANNELS takes 3 values >= 0"):
        KeypointDecoder([3, 4, 5, 6], [0, 7])


def test_values_keep_their_scale_through_layers_that_narrow():
    torch.manual_seed(0)
    channels = [64, 128, 256, 512]
    features = [torch.randn(1, c, 32 >> i, 32 >> i).relu() for i, c in enumerate(channels)]
    finest = KeypointDecoder(channels, [16, 16, 16])(features)[0]
    assert 0.2 < finest.std() / features[0].std() < 5


def test_heads_say_offsets_in_units_of_the_radius_and_in_float32():
    torch.manual_seed(0)
    feature = torch.randn(2, 8, 10, 12)
    one, five = KeypointHeads(8, 3, 3, radius=1.0), KeypointHeads(8, 3, 3, radius=5.0)
    five.load_state_dict(one.state_dict())
    maps, scaled = one(feature), five(feature)
    assert maps.keypoint.shape == (2, 3, 5, 10, 12) and maps.keypoint.sigmoid().mean().item() == pytest.approx(
        0.1, abs=0.02
    )
    assert maps.short.shape == (2, 5, 2, 10, 12) and maps.mid.shape == (2, 5, 4, 2, 10, 12)
    torch.testing.assert_close(scaled.short, 5 * maps.short)
    torch.testing.assert_close(scaled.mid, 5 * maps.mid)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(values.dtype == torch.float32 for values in one(feature))
