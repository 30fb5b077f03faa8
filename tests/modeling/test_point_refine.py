import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reference import refine as reference
from objguided_d2.modeling.mask_targets import ObjectMasks
from objguided_d2.modeling.point_refine import PointRefinement, most_uncertain
from objguided_d2.structures.roi_atlas import RoiAtlas


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=8), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_most_uncertain_keeps_the_top_of_every_roi(pairs, seed):
    counts = torch.tensor([drawn for drawn, _ in pairs])
    keep = torch.tensor([min(pair) for pair in pairs])
    roi = torch.arange(len(pairs)).repeat_interleave(counts)
    uncertainty = -torch.rand(len(roi), generator=torch.Generator().manual_seed(seed))
    parts = most_uncertain(uncertainty, roi, keep).split(keep.tolist())
    for number, part in enumerate(parts):
        own = torch.nonzero(roi == number)[:, 0]
        expected = own[uncertainty[own].argsort(descending=True, stable=True)][: keep[number]]
        assert part.tolist() == expected.tolist()


def make_refinement(**settings) -> PointRefinement:
    return PointRefinement(
        **({"e1_channels": 3, "e2_channels": 2, "k": 3, "beta": 0.75, "d": 8, "loss_weight": 1} | settings)
    )


def make_atlas() -> RoiAtlas:
    boxes = torch.tensor([[2.0, 3, 34, 27], [1, 1, 4, 4], [10, 5, 30, 37]])
    return RoiAtlas(boxes, torch.zeros(3, dtype=torch.int64), (1, 2, 4))


def test_sample_draws_kn_and_keeps_the_most_uncertain_beta_n():
    atlas = make_atlas()
    probabilities = torch.rand(atlas.grids[0].num_pixels)
    areas = atlas.grids[0].heights * atlas.grids[0].widths
    uniform = make_refinement(k=3, beta=3).sample(atlas, probabilities)
    kept = make_refinement(k=3, beta=0.75).sample(atlas, probabilities)
    assert uniform[2].tolist() == [max(1, int(a * 3 / 8)) for a in areas.tolist()]
    assert kept[2].tolist() == [max(1, int(a * 0.75 / 8)) for a in areas.tolist()]
    mean = []
    for roi, points, counts in (uniform, kept):
        assert torch.bincount(roi, minlength=3).tolist() == counts.tolist()
        assert (points >= 0).all() and (points <= 1).all()
        uncertainty = atlas.canvases[0].from_list(-(2 * probabilities - 1).abs()[:, None])
        mean.append(atlas.sample(0, uncertainty, roi, points).mean())
    assert mean[1] > mean[0] + 0.1


def test_loss_equals_a_loop_over_rois(monkeypatch):
    torch.manual_seed(0)
    atlas, refinement = make_atlas(), make_refinement()
    e1 = torch.randn(atlas.grids[0].num_pixels, 3)
    e2 = torch.randn(atlas.grids[1].num_pixels, 2)
    masks = BitMasks(torch.rand(3, 40, 40) > 0.5)
    targets = ObjectMasks([Instances((40, 40), gt_boxes=Boxes(torch.zeros(3, 4)), gt_masks=masks)]).select(atlas.order)
    probabilities = torch.rand(atlas.grids[0].num_pixels)
    fixed = refinement.sample(atlas, probabilities)
    monkeypatch.setattr(refinement, "sample", lambda *_: fixed)

    roi, points, _ = fixed
    fine_losses, both_losses = [], []
    for number, box in enumerate(atlas.boxes):
        p = points[roi == number]
        maps = [
            grid.split(e)[number].permute(2, 0, 1) if number < len(grid) else None
            for grid, e in ((atlas.grids[0], e1), (atlas.grids[1], e2))
        ]
        x, y = (box[:2] + p * (box[2:] - box[:2]) - 0.5).unbind(1)
        position = torch.stack([x, y], 1) / 39 * 2 - 1
        mask = masks.tensor[atlas.order[number]].float()[None, None]
        labels = F.grid_sample(mask, position[None, None], align_corners=True)[0, 0, 0]
        fine = reference.sample_points(maps[0], p)
        fine = fine.reshape(3, -1).t()
        fine_losses.append(F.binary_cross_entropy_with_logits(refinement.fine(fine)[:, 0], labels))
        if maps[1] is not None:
            both = torch.cat([fine, reference.sample_points(maps[1], p).reshape(2, -1).t()], 1)
            both_losses.append(F.binary_cross_entropy_with_logits(refinement.fine_and_coarse(both)[:, 0], labels))
    assert len(both_losses) == 2
    ladder = [canvas.from_list(e) for canvas, e in zip(atlas.canvases, (e1, e2))]
    losses = refinement.loss(atlas, probabilities, ladder, targets)
    torch.testing.assert_close(refinement.mean_loss([losses]), torch.stack(fine_losses + both_losses).mean())
    # Of two atlases the terms are those of both.
    torch.testing.assert_close(refinement.mean_loss([losses, losses]), refinement.mean_loss([losses]))
    refinement.reduction = "sum"
    both_means = torch.stack(fine_losses).mean() + torch.stack(both_losses).mean()
    torch.testing.assert_close(refinement.mean_loss([losses]), both_means)
    refinement.loss_weight = 3
    torch.testing.assert_close(refinement.mean_loss([losses]), 3 * both_means)
    refinement.reduction = "mean"
    torch.testing.assert_close(refinement.mean_loss([losses]), 3 * torch.stack(fine_losses + both_losses).mean())


@pytest.mark.parametrize(
    "key, settings",
    [("K", {"k": 0}), ("D", {"d": -1}), ("BETA", {"k": 1, "beta": 2}), ("REDUCTION", {"reduction": "max"})],
)
def test_invalid_settings_are_refused_by_their_key(key, settings):
    with pytest.raises(ValueError, match=f"REFINE.{key}"):
        make_refinement(**settings)
