import pytest
import torch
import torch.nn.functional as F

from objguided_d2.modeling.cosine_embedding.loss import cosine_embedding_loss
from objguided_d2.modeling.cosine_embedding.neighbors import find_neighbors
from objguided_d2.modeling.label_map import IGNORED


def loss_one_by_one(embeddings, label_maps, neighbors) -> torch.Tensor:
    """The definition, with a loop over images, objects and pixels."""
    images = []
    for e, label_map, pairs in zip(embeddings.flatten(2), label_maps.flatten(1), neighbors):
        objects = []
        for label in sorted({*label_map.tolist()} - {IGNORED}):
            own = [e[:, p] for p in range(len(label_map)) if label_map[p] == label]
            mean = torch.stack(own).mean(0)
            loss = 1 - torch.stack([F.cosine_similarity(mean, one, 0) for one in own]).mean()
            near = [e[:, p] for of, p in zip(pairs.label.tolist(), pairs.pixel.tolist()) if of == label]
            if near:
                loss = loss + torch.stack([F.cosine_similarity(mean, one, 0) ** 2 for one in near]).mean()
            objects.append(loss)
        if objects:
            images.append(torch.stack(objects).mean())
    return torch.stack(images).mean()


def batch_of(label_maps: torch.Tensor, seed: int = 0):
    torch.manual_seed(seed)
    raw = torch.randn(len(label_maps), 4, *label_maps.shape[1:], requires_grad=True)
    neighbors = [find_neighbors(one, int(one.max().clamp(min=0)), 2) for one in label_maps]
    return raw, neighbors


@pytest.fixture
def label_maps() -> torch.Tensor:
    """Three objects, the second missing, and padding; one object; none."""
    maps = torch.zeros(3, 6, 7, dtype=torch.int64)
    maps[0, 1:3, 1:4], maps[0, 2:6, 4], maps[0, :, 6] = 1, 3, IGNORED
    maps[1, :, 5:] = 1
    return maps


def test_the_loss_and_its_gradient_are_those_of_the_definition(label_maps):
    raw, neighbors = batch_of(label_maps)
    unit = F.normalize(raw, dim=1)
    loss, expected = cosine_embedding_loss(unit, label_maps, neighbors), loss_one_by_one(unit, label_maps, neighbors)
    torch.testing.assert_close(loss, expected)
    (gradient,), (expected_gradient,) = (torch.autograd.grad(one, raw, retain_graph=True) for one in (loss, expected))
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-4)


def test_objects_of_one_direction_each_orthogonal_to_their_neighbors_cost_nothing(label_maps):
    raw, neighbors = batch_of(label_maps)
    perfect = torch.eye(4)[label_maps.clamp(min=0)].permute(0, 3, 1, 2)
    assert abs(cosine_embedding_loss(perfect, label_maps, neighbors)) < 1e-6
    # A neighbor may not be opposite instead.
    perfect[:, 1][label_maps == 1] = 0
    perfect[:, 0][label_maps == 1] = -1
    assert cosine_embedding_loss(perfect, label_maps, neighbors) > 0.3


def test_an_image_of_background_is_pulled_together_alone():
    label_maps = torch.zeros(1, 4, 5, dtype=torch.int64)
    raw, neighbors = batch_of(label_maps)
    unit = F.normalize(raw, dim=1)
    length = unit.mean((2, 3)).norm()
    torch.testing.assert_close(cosine_embedding_loss(unit, label_maps, neighbors), 1 - length)


def test_where_all_is_ignored_the_loss_is_zero_and_keeps_the_graph():
    label_maps = torch.full((2, 4, 5), IGNORED)
    raw, neighbors = batch_of(label_maps)
    loss = cosine_embedding_loss(F.normalize(raw, dim=1), label_maps, neighbors)
    loss.backward()
    assert loss == 0 and not raw.grad.any()


def test_embeddings_that_cancel_have_a_finite_gradient():
    embeddings = torch.tensor([[[[1.0, -1.0]], [[0.0, 0.0]]]], requires_grad=True)
    label_maps = torch.ones(1, 1, 2, dtype=torch.int64)
    loss = cosine_embedding_loss(embeddings, label_maps, [find_neighbors(label_maps[0], 1, 2)])
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-5) and embeddings.grad.isfinite().all()
