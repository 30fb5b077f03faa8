"""Label layers against the plain way: one full mask an instance, transformed alone."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks
from PIL import Image

from objguided_d2.data.label_layers import pack_masks, segmentation_to_rle, transform_layer, unpack_masks
from objguided_d2.data.transforms import SquareCropTransform, TransposeTransform

HEIGHT, WIDTH = 37, 52


def random_masks(count, seed=0):
    """Rotated ellipses with holes, many of them overlapping."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    masks = []
    for _ in range(count):
        cy, cx, a, b = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(1, 5), rng.uniform(3, 12)
        angle = rng.uniform(0, np.pi)
        u, v = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle), (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        masks.append(((u / a) ** 2 + (v / b) ** 2 < 1) & (rng.random((HEIGHT, WIDTH)) > 0.1))
    return np.array(masks)


def encode(masks):
    return [mask_util.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


TRANSFORMS = {
    "none": T.NoOpTransform(),
    "enlarge": T.ResizeTransform(HEIGHT, WIDTH, 61, 90),
    "shrink": T.ResizeTransform(HEIGHT, WIDTH, 20, 31),
    "flips": T.TransformList([T.HFlipTransform(WIDTH), T.VFlipTransform(HEIGHT)]),
    "crop": T.CropTransform(10, 5, 20, 15),
    "rotate": T.RotationTransform(HEIGHT, WIDTH, 33),
    "extent": T.ExtentTransform((-5, 3, 30, 50), (40, 40), interp=Image.NEAREST),
    "pad": T.PadTransform(2, 3, 4, 5, seg_pad_value=255),
    "square": T.TransformList([SquareCropTransform(-7, 4, 45, 64), T.HFlipTransform(64), TransposeTransform()]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_same_as_transforming_each_mask_alone(name):
    transform = TRANSFORMS[name]
    masks = random_masks(30)
    layers = pack_masks(encode(masks), HEIGHT, WIDTH)
    indices, got, boxes = unpack_masks([transform_layer(layer, transform) for layer in layers], len(masks))

    expected = np.array([transform.apply_segmentation(mask.astype(np.uint8)) == 1 for mask in masks])
    kept = expected.any(axis=(1, 2))
    assert 0 < kept.sum()
    assert indices.tolist() == np.flatnonzero(kept).tolist()
    assert np.array_equal(got, expected[kept])
    assert got.dtype == bool and boxes.dtype == np.float32
    assert torch.equal(torch.from_numpy(boxes), BitMasks(torch.from_numpy(got)).get_bounding_boxes().tensor)


def test_one_layer_where_nothing_overlaps_and_one_more_for_each_overlap():
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, :5], masks[1, 5:9], masks[2, 20:] = True, True, True
    assert len(pack_masks(encode(masks), HEIGHT, WIDTH)) == 1
    masks[1, 4] = True
    assert [np.unique(layer).tolist() for layer in pack_masks(encode(masks), HEIGHT, WIDTH)] == [[0, 1, 3], [0, 2]]


def test_no_instances():
    layers = pack_masks([], HEIGHT, WIDTH)
    indices, masks, boxes = unpack_masks([transform_layer(layer, TRANSFORMS["enlarge"]) for layer in layers], 0)
    assert indices.shape == (0,) and masks.shape == (0, 61, 90) and boxes.shape == (0, 4)


def test_more_than_255_instances_keep_their_labels():
    masks = np.zeros((600, HEIGHT, WIDTH), bool)
    masks[np.arange(600), np.arange(600) // WIDTH, np.arange(600) % WIDTH] = True
    layers = pack_masks(encode(masks), HEIGHT, WIDTH)
    indices, got, _ = unpack_masks([transform_layer(layer, TRANSFORMS["flips"]) for layer in layers], 600)
    assert indices.tolist() == list(range(600))
    assert np.array_equal(got, masks[:, ::-1, ::-1])


def test_every_kind_of_segmentation_gives_the_same_rle():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:9, 10:30] = True
    mask[20:22, 10:13] = True
    polygons = [[10, 4, 30, 4, 30, 9, 10, 9], [10, 20, 13, 20, 13, 22, 10, 22]]
    compressed = encode([mask])[0]
    text = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    uncompressed = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *changes, mask.size]).tolist()}
    for segmentation in (polygons, compressed, text, uncompressed, mask, mask.astype(np.uint8)):
        assert np.array_equal(mask_util.decode(segmentation_to_rle(segmentation, HEIGHT, WIDTH)), mask)


@pytest.mark.parametrize("segmentation", [np.ones((3, 4)), {"size": [3, 4], "counts": [12]}, "text"])
def test_wrong_size_and_type_are_errors(segmentation):
    with pytest.raises(ValueError, match="height x width|not polygons"):
        segmentation_to_rle(segmentation, 4, 3)
