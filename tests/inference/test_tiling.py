"""Tiled prediction: no seams, at any scale."""

import math

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.inference import tiling
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.receptive_field import receptive_field
from objguided_d2.inference.tiling import Tile, _batches, _is_peak, _paste, tile_grid
from objguided_d2.modeling.center_targets import find_peaks
from objguided_d2.modeling.postprocess import InstancePostprocessor
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedROIMasks
from tests.inference.models import busy_cfg, busy_model, textured_image


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 150), st.integers(0, 100))
def test_cores_cover_every_pixel_once_and_tiles_begin_at_multiples_of_the_stride(height, width, core, halo):
    tiles = tile_grid((height, width), core, halo, 32)
    count = np.zeros((height, width), int)
    for tile in tiles:
        y0, x0, y1, x1 = tile.core
        count[y0:y1, x0:x1] += 1
        assert all(edge % 32 == 0 for edge in (y0, x0, *tile.reads[:2]))
        top, left, bottom, right = tile.reads
        assert 0 <= top <= max(0, y0 - halo) and bottom >= min(height, y1 + halo)
        assert 0 <= left <= max(0, x0 - halo) and right >= min(width, x1 + halo)
        assert bottom == height or bottom % 32 == 0
        assert right == width or right % 32 == 0
    assert (count == 1).all()


@pytest.fixture(scope="module")
def model():
    cfg = busy_cfg(num_classes=2)
    return cfg, busy_model(cfg)


def test_receptive_field_is_the_greatest_distance_of_an_influence(model):
    _, network = model
    reach = receptive_field(network)
    generator = network.proposal_generator

    def maps(image):
        with torch.no_grad():
            features = network.backbone(image)
            c3 = features[generator.in_feature]
            return [*features.values(), generator.head(c3), generator.head.wh(c3), generator.head.offset(c3)]

    width = 32 * math.ceil(2.5 * reach / 32)
    image = torch.randn(1, 3, 32, width)
    changed = image.clone()
    changed[..., 0] += 100
    for before, after in zip(maps(image), maps(changed)):
        stride = width // before.shape[-1]
        columns = torch.nonzero((before != after).any(2).any(1)[0])
        # A changed cell ends at most this far from the changed pixel's first edge.
        assert (int(columns.max()) + 0.5) * stride <= reach


def test_receptive_field_of_a_norm_over_the_whole_image_is_an_error():
    cfg = busy_cfg()
    cfg.MODEL.UNET.NORM = "GN"
    cfg.MODEL.UNET.DECODER_CHANNELS = [32, 32, 32]
    with pytest.raises(ValueError, match="GroupNorm takes statistics of the whole image"):
        receptive_field(busy_model(cfg))


@pytest.mark.parametrize(
    "shape, scale, paste_mode, largest_piece",
    [((64, 1000), 1.0, "bilinear", False), ((730, 40), 1.37, "bilinear", True), ((90, 1300), 0.77, "hough", False)],
)
def test_a_tiled_run_finds_the_instances_of_an_untiled_one(model, shape, scale, paste_mode, largest_piece, monkeypatch):
    cfg, network = model
    network.postprocessor.paste_mode = paste_mode
    monkeypatch.setattr(network.postprocessor, "largest_piece", largest_piece)
    image = textured_image(*shape)
    untiled = Predictor(cfg, network, score_threshold=0.3, tile=0)(image, scale=scale)
    predictor = Predictor(cfg, network, score_threshold=0.3, tile=256, halo="full")
    # Every image above one tile is cut up here, whatever its halo.
    predictor._needs_tiles = lambda size: True
    tiles = []
    tiled = predictor(image, scale=scale, on_tile=lambda done, total: tiles.append((done, total)))

    assert len(tiles) == 4 and tiles[-1][0] == tiles[-1][1]
    assert len(untiled) > 30 and len(tiled) == len(untiled)
    assert tiled.num_cut == 0
    np.testing.assert_allclose(tiled.objects.scores, untiled.objects.scores, atol=1e-5)
    # Scores that are equal but for rounding may change places.
    key = lambda objects: np.lexsort((*objects.boxes.T[:2], objects.classes))  # noqa: E731
    order, expected = key(tiled.objects), key(untiled.objects)
    differing = 0
    for i, j in zip(order, expected):
        assert tiled.objects.classes[i] == untiled.objects.classes[j]
        one, other = (np.zeros(shape, bool) for _ in range(2))
        for mask, objects, k in ((one, tiled.objects, i), (other, untiled.objects, j)):
            x0, y0, x1, y1 = objects.boxes[k]
            mask[y0:y1, x0:x1] = objects.masks[k]
        differing += (one != other).sum()
    assert differing <= 1e-3 * sum(mask.sum() for mask in untiled.objects.masks)


@pytest.mark.parametrize("tile", [0, 32])
def test_an_object_whose_score_is_the_threshold_is_kept(model, tile):
    cfg, network = model
    image = textured_image(64, 128)
    scores = Predictor(cfg, network, score_threshold=0.3, tile=tile, halo=32)(image).objects.scores
    threshold = float(np.sort(scores)[len(scores) // 2])
    kept = Predictor(cfg, network, score_threshold=threshold, tile=tile, halo=32)(image).objects.scores
    assert 0 < len(kept) == np.count_nonzero(scores >= threshold) and kept.min() == threshold


def test_images_above_a_tile_and_its_halos_alone_are_predicted_in_tiles(model):
    cfg, network = model
    predictor = Predictor(cfg, network, score_threshold=0.3, tile=32, halo=32)
    tiles = []
    for shape in ((96, 96), (96, 97)):
        predictor(textured_image(*shape), on_tile=lambda done, total: tiles.append((done, total)))
    assert tiles == [(done, 12) for done in range(1, 13)]


def test_freed_memory_goes_back_every_few_tiles_and_at_the_end(model, monkeypatch):
    cfg, network = model
    tiles, released = [], []
    monkeypatch.setattr(tiling, "release_freed_memory", lambda: released.append(len(tiles)))
    predictor = Predictor(cfg, network, tile=32, halo=32, tile_batch=3)
    image = predictor.prepare(textured_image(32, 640))
    predictor.detect_rows(image, on_tile=lambda done, total: tiles.extend(range(done - len(tiles))))
    assert len(tiles) == 20
    # Before the call of the batch in which the 8th and the 16th tile are, and of the last.
    assert released == [7, 13, 19]


def test_objects_larger_than_the_halo_are_counted_and_told(model, caplog):
    cfg, network = model
    network.postprocessor.paste_mode = "bilinear"
    predictor = Predictor(cfg, network, score_threshold=0.3, tile=32, halo=0)
    predictor._needs_tiles = lambda size: True
    prediction = predictor(textured_image(64, 128))
    assert 0 < prediction.num_cut < len(prediction)
    assert f"{prediction.num_cut} of {len(prediction)} objects reach beyond the halo of 0 pixels" in caplog.text


def test_percentiles_of_a_tiled_image_are_those_of_the_whole(model):
    cfg, network = model
    cfg = cfg.clone()
    cfg.INPUT.INTENSITY = "percentile:1,99"
    image = textured_image(32, 700)[..., 0].astype(np.uint16)
    image[:, 350:] *= 50
    untiled = Predictor(cfg, network, score_threshold=0.3, tile=0)(image)
    predictor = Predictor(cfg, network, score_threshold=0.3, tile=256, halo="full")
    predictor._needs_tiles = lambda size: True
    tiled = predictor(image)
    assert len(tiled) == len(untiled) > 0
    np.testing.assert_allclose(np.sort(tiled.objects.scores), np.sort(untiled.objects.scores), atol=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
def test_peaks_follow_the_rule_of_the_untiled_run_on_flat_areas_too(seed, height, width):
    heatmap = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (1, 2, height, width))).float()
    scores, classes, cell = find_peaks(heatmap, heatmap.numel())
    expected = torch.zeros_like(heatmap, dtype=torch.bool).flatten()
    is_found = scores[0] >= 0
    expected[(classes[0] * height * width + cell[0])[is_found]] = True
    assert torch.equal(_is_peak(heatmap).flatten(), expected)


def found_in_tile(boxes, reads, boxes_from_masks=False):
    """Rectangles found in a tile of a network's image of 100 x 200, put into an image of twice the rows and three times
    the columns."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    sides = (boxes[:, 2:] - boxes[:, :2]).long()
    grid = RaggedGrid(sides[:, 1].contiguous(), sides[:, 0].contiguous(), torch.device("cpu"))
    tile = Tile(reads, reads)
    instances = Instances(
        tile.size,
        pred_boxes=Boxes(boxes),
        pred_masks=RaggedROIMasks(torch.ones(grid.num_pixels), grid, boxes, "centers", tile.size),
        scores=torch.ones(len(boxes)),
        pred_classes=torch.zeros(len(boxes), dtype=torch.int64),
        at_limit=torch.zeros(len(boxes), dtype=torch.bool),
    )
    post = InstancePostprocessor(0.5, "bilinear", boxes_from_masks, 1.0)
    return _paste(instances, tile, (100, 200), (200, 600), post)


@pytest.mark.parametrize("boxes_from_masks", [False, True])
def test_objects_of_a_tile_come_to_their_place_in_the_image(boxes_from_masks):
    found = found_in_tile([[5, 3, 29, 15]], (16, 48, 80, 112), boxes_from_masks)
    assert found.image_size == (200, 600)
    assert found.pred_boxes.tensor.tolist() == [[3 * (48 + 5), 2 * (16 + 3), 3 * (48 + 29), 2 * (16 + 15)]]
    assert found.pred_masks.get_bounding_boxes().tensor.tolist() == found.pred_boxes.tensor.tolist()


def test_objects_at_the_border_of_a_tile_are_cut_unless_it_is_that_of_the_image():
    left, top, right, bottom, inside = [0, 9, 20, 20], [9, 0, 20, 20], [9, 9, 64, 20], [9, 9, 20, 64], [1, 1, 63, 63]
    boxes = [left, top, right, bottom, inside]
    for reads, expected in {
        (16, 48, 80, 112): [True, True, True, True, False],
        (0, 0, 64, 64): [False, False, True, True, False],
        (36, 136, 100, 200): [True, True, False, False, False],
        (0, 136, 64, 200): [True, False, False, True, False],
    }.items():
        assert found_in_tile(boxes, reads).is_cut.tolist() == expected


def test_batches_end_with_a_row_and_where_the_size_changes():
    rows = tile_grid((64, 96), core=32, halo=0, stride=32)
    assert [(done, len(batch)) for done, batch in _batches(((tile, None) for tile in rows), 4)] == [(3, 3), (6, 3)]
    narrow_end = tile_grid((32, 80), core=32, halo=0, stride=32)
    batches = [[tile.size for tile, _ in batch] for _, batch in _batches(((tile, None) for tile in narrow_end), 4)]
    assert batches == [[(32, 32), (32, 32)], [(32, 16)]]
