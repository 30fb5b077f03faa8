import numpy as np
import pytest
import torch

from objguided_d2.modeling.keypoint_graph.decoder import KeypointMaps
from objguided_d2.modeling.keypoint_graph.hough import blur, find_keypoints, hough_votes
from tests.reference import keypoint_graph as plain

# Images of different sizes, the first with padding on its map.
SIZES = [(13, 17), (16, 20)]
SETTINGS = {"radius": 5.0, "sigma": 2.0, "threshold": 0.004, "topk": 50, "subcell": False}


@pytest.fixture
def noise() -> KeypointMaps:
    generator = torch.Generator().manual_seed(0)
    return KeypointMaps(
        torch.randn(2, 2, 5, 16, 20, generator=generator),
        torch.randn(2, 5, 2, 16, 20, generator=generator) * 4,
        torch.randn(2, 5, 4, 2, 16, 20, generator=generator) * 6,
    )


def test_votes_and_their_blur_equal_those_of_a_loop(noise, device):
    probability = noise.keypoint.sigmoid()
    votes = hough_votes(probability.to(device), noise.short.to(device), SIZES, radius=5.0)
    smooth = blur(votes, sigma=2.0).cpu()
    for image, label, kind in np.ndindex(2, 2, 5):
        given = probability[image, label, kind].numpy(), noise.short[image, kind].numpy()
        expected = plain.votes(*given, SIZES[image], 5.0)
        np.testing.assert_allclose(votes[image, label, kind].cpu(), expected, atol=1e-5)
        np.testing.assert_allclose(smooth[image, label, kind], plain.blurred(expected, 2.0), atol=1e-5)


@pytest.mark.parametrize("subcell", [False, True])
def test_keypoints_equal_the_peaks_of_a_loop(noise, subcell):
    found = find_keypoints(noise, SIZES, **SETTINGS | {"subcell": subcell})
    count = 0
    for image, label, kind in np.ndindex(2, 2, 5):
        votes = plain.votes(
            noise.keypoint[image, label, kind].sigmoid().numpy(), noise.short[image, kind].numpy(), SIZES[image], 5.0
        )
        expected = plain.peaks(plain.blurred(votes, 2.0)[: SIZES[image][0], : SIZES[image][1]], 0.004)
        count += len(expected)
        confidence, position, others = (values[image, label, kind] for values in found)
        assert (confidence > 0).sum() == len(expected)
        for i, (value, y, x) in enumerate(expected):
            assert confidence[i] == pytest.approx(value / 0.0398, rel=2e-2)
            short = noise.short[image, kind, :, y, x].clamp(-1, 1) if subcell else 0
            cell = torch.tensor([x, y]).float()
            torch.testing.assert_close(position[i], cell + short)
            torch.testing.assert_close(others[i], cell + noise.mid[image, kind, :, :, y, x])
    assert count > 20


def perfect_disc(x: int, y: int, height: int, width: int) -> KeypointMaps:
    """A disc of probability one around a keypoint of kind 2."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    keypoint = torch.full((1, 1, 5, height, width), -torch.inf)
    keypoint[0, 0, 2][(rows - y) ** 2 + (columns - x) ** 2 <= 25] = torch.inf
    short = torch.stack([x - columns, y - rows]).float().expand(1, 5, -1, -1, -1)
    return KeypointMaps(keypoint, short, torch.zeros(1, 5, 4, 2, height, width))


def test_a_perfect_disc_is_one_keypoint_of_confidence_one():
    found = find_keypoints(perfect_disc(12, 9, 20, 30), [(20, 30)], **SETTINGS)
    assert (found.confidence > 0).sum() == 1
    assert found.position[0, 0, 2, 0].tolist() == [12, 9]
    assert found.confidence[0, 0, 2, 0] == pytest.approx(81 / (25 * np.pi), rel=1e-4)


@pytest.mark.parametrize("x, y", [(0, 0), (29, 19), (29, 7)])
def test_a_keypoint_at_the_edge_of_its_image_is_found_there(x, y):
    found = find_keypoints(perfect_disc(x, y, 32, 48), [(20, 30)], **SETTINGS)
    assert (found.confidence > 0).sum() == 1 and found.position[0, 0, 2, 0].tolist() == [x, y]


def test_a_flat_map_is_one_keypoint_not_one_per_cell():
    maps = KeypointMaps(torch.zeros(1, 1, 5, 12, 12), torch.zeros(1, 5, 2, 12, 12), torch.zeros(1, 5, 4, 2, 12, 12))
    found = find_keypoints(maps, [(12, 12)], **SETTINGS)
    assert (found.confidence > 0).sum() < 5 * 40


def test_there_are_no_more_keypoints_than_topk_and_the_best_are_kept(noise):
    every, few = (find_keypoints(noise, SIZES, **SETTINGS | {"topk": topk}) for topk in (50, 3))
    assert few.confidence.shape == (2, 2, 5, 3) and few.others.shape == (2, 2, 5, 3, 4, 2)
    is_there = few.confidence > 0
    assert is_there.sum() > 30
    for one, other in zip(every, few):
        assert torch.equal(one[:, :, :, :3][is_there], other[is_there])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_maps_that_are_not_finite_give_finite_keypoints(noise, value):
    for values in noise:
        values.view(-1)[::3] = value
    found = find_keypoints(noise, SIZES, **SETTINGS | {"subcell": True})
    assert found.confidence.isfinite().all() and found.position.isfinite().all()
