"""Coordinate convention of the crop, by hand and by properties; which augmentations a config asks for."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation as detectron2_build_augmentation
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2 import get_cfg
from objguided_d2.data.transforms import (
    ObjectSizeAugInput,
    RandomSquareCrop,
    RandomTranspose,
    SquareCropTransform,
    TransposeTransform,
    build_augmentation,
    clip_polygon,
)


def box_mask(height, width, x0, y0, x1, y1):
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def tight_box(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def test_enlarging_by_hand():
    """Crop 2 x 2 pixels at (x, y) = (1, 0) to 4 x 4: a source pixel becomes 2 x 2, corners map to corners."""
    image = np.array([[10, 20, 40], [50, 60, 80]], np.uint8)
    crop = SquareCropTransform(x0=1, y0=0, side=2, output_size=4)
    assert crop.apply_segmentation(image).tolist() == [
        [20, 20, 40, 40], [20, 20, 40, 40], [60, 60, 80, 80], [60, 60, 80, 80]
    ]  # fmt: skip
    # Output centers lie at 0.25, 0.75, 1.25, 1.75 of the crop, source centers at 0.5 and 1.5.
    assert crop.apply_image(image)[0].tolist() == [20, 25, 35, 40]
    points = np.array([[1.0, 0.0], [3.0, 2.0], [2.5, 1.5]])
    assert crop.apply_coords(points).tolist() == [[0, 0], [4, 4], [3, 3]]


def test_shrinking_by_hand():
    """Crop 4 x 4 pixels at (1, 1), one column and row of it outside the image, to 2 x 2: means of 2 x 2 pixels."""
    image = np.arange(16, dtype=np.uint8).reshape(4, 4) * 4
    crop = SquareCropTransform(x0=1, y0=1, side=4, output_size=2)
    inside = image[1:, 1:].astype(float)
    expected = [
        [inside[:2, :2].mean(), inside[:2, 2].sum() / 4],
        [inside[2, :2].sum() / 4, inside[2, 2] / 4],
    ]
    assert crop.apply_image(image).tolist() == expected
    # The centers of the output pixels lie on corners between pixels, which belong to the pixel after them.
    assert crop.apply_segmentation(image).tolist() == [[image[2, 2], 0], [0, 0]]


def test_a_crop_of_so_many_pixels_whatever_the_image():
    image = np.zeros((30, 50, 3), np.uint8)
    assert RandomSquareCrop("pixels", (12, 12), 24).get_transform(image).side == 12


@pytest.mark.parametrize("side, offsets", [(9, {0, 1}), (10, {0}), (11, {-1, 0})])
def test_a_crop_may_lie_at_either_end_of_the_image(side, offsets):
    crop = RandomSquareCrop("pixels", (side, side), 8)
    drawn = [crop.get_transform(np.zeros((10, 10, 3), np.uint8)) for _ in range(60)]
    assert {transform.x0 for transform in drawn} == {transform.y0 for transform in drawn} == offsets


def test_test_images_of_any_size_are_resized_by_one_factor():
    cfg = get_cfg()
    cfg.INPUT.TEST_SCALE = 0.5
    (resize,) = build_augmentation(cfg, is_train=False)
    for height, width in ((31, 50), (1000, 3), (1, 1)):
        transform = resize.get_transform(np.zeros((height, width, 3), np.uint8))
        expected = tuple(max(1, int(side / 2 + 0.5)) for side in (height, width))
        assert (transform.new_h, transform.new_w) == expected
    cfg.INPUT.TEST_SCALE = -1.0
    with pytest.raises(ValueError, match="INPUT.TEST_SCALE or MIN_SCALE_TEST is -1.0"):
        build_augmentation(cfg, is_train=False)


def test_large_test_images_keep_a_scale():
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SCALE_TEST = 40, 100, 0.5
    (resize,) = build_augmentation(cfg, is_train=False)
    for shape, expected in {(20, 30): (40, 60), (40, 60): (40, 60), (60, 90): (40, 60), (200, 100): (100, 50)}.items():
        image = np.zeros((*shape, 3), np.uint8)
        assert resize.get_transform(image).apply_image(image).shape[:2] == expected
    cfg.INPUT.MIN_SCALE_TEST = -1.0
    with pytest.raises(ValueError, match="INPUT.TEST_SCALE or MIN_SCALE_TEST is -1.0"):
        build_augmentation(cfg, is_train=False)


def test_zeros_outside_on_every_side():
    image = np.full((2, 4, 3), 7, np.uint8)
    crop = SquareCropTransform(x0=-1, y0=-2, side=6, output_size=6)
    for result in (crop.apply_image(image), crop.apply_segmentation(image)):
        assert result.shape == (6, 6, 3)
        assert np.array_equal(result[..., 0] > 0, box_mask(6, 6, 1, 2, 5, 4))


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 3)])
@pytest.mark.parametrize("side", [10, 20, 50])
def test_shape_and_type_are_kept(shape, side):
    crop = SquareCropTransform(3, 2, side, 20)
    for dtype in (np.uint8, np.float32):
        result = crop.apply_image(np.ones(shape, dtype))
        assert result.shape == (20, 20, *shape[2:]) and result.dtype == dtype
    assert crop.apply_segmentation(np.ones(shape[:2], bool)).dtype == bool


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    box=st.tuples(*[st.floats(0, 1)] * 4),
    scale=st.floats(0.4, 2.0),
    relative_to=st.sampled_from(["longer", "shorter"]),
    output_size=st.integers(8, 64),
    transpose=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_mask_image_and_box_agree(size, box, scale, relative_to, output_size, transpose, seed):
    """The transformed box is the box of the transformed mask to half an output pixel, and the image follows."""
    height, width = size
    x0, x1 = sorted(round(box[i] * width) for i in (0, 1))
    y0, y1 = sorted(round(box[i] * height) for i in (2, 3))
    mask = box_mask(height, width, x0, y0, x1, y1)
    np.random.seed(seed)
    crop = RandomSquareCrop(relative_to, (scale, scale), output_size).get_transform(mask)
    transforms = T.TransformList([crop] + [TransposeTransform()] * transpose)
    result = transforms.apply_segmentation(mask)
    assert result.shape == (output_size, output_size)

    expected = transforms.apply_box(np.array([[x0, y0, x1, y1]], float))[0].clip(0, output_size)
    if result.any():
        assert np.abs(tight_box(result) - expected).max() <= 0.5 + 1e-9
    else:
        # No pixel center inside.
        assert (expected[2:] - expected[:2]).min() <= 1 + 1e-9
    # Pixels of the mask whose neighbors are as well are unaffected by interpolation, unless they shrink.
    if crop.side <= output_size and (y1 - y0) > 2 and (x1 - x0) > 2:
        inner = transforms.apply_segmentation(box_mask(height, width, x0 + 1, y0 + 1, x1 - 1, y1 - 1))
        assert (transforms.apply_image(mask * 255)[inner > 0] == 255).all()

    for offset, image_side in ((crop.x0, width), (crop.y0, height)):
        low, high = sorted((0, image_side - crop.side))
        assert low <= offset <= high


def test_crop_side_follows_its_reference():
    image = np.zeros((100, 300, 3), np.uint8)
    np.random.seed(0)
    for relative_to, reference in (("longer", 300), ("shorter", 100)):
        sides = [RandomSquareCrop(relative_to, (0.6, 1.4), 64).get_transform(image).side for _ in range(200)]
        assert 0.6 * reference <= min(sides) < 0.65 * reference
        assert 1.35 * reference < max(sides) <= 1.4 * reference


@pytest.mark.parametrize(
    "arguments",
    [
        ("width", (0.5, 1), 8),
        ("longer", (0, 1), 8),
        ("longer", (1, 0.5), 8),
        ("longer", (1, 1), 0),
        ("longer", (1, 1), 10**6),
    ],
)
def test_bad_crop_settings_name_their_key(arguments):
    with pytest.raises(ValueError, match="INPUT.SQUARE_CROP"):
        RandomSquareCrop(*arguments)


def test_transpose_by_hand():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    transpose = TransposeTransform()
    assert transpose.apply_image(image).tolist() == image.T.tolist()
    assert transpose.apply_image(np.zeros((2, 3, 4))).shape == (3, 2, 4)
    assert transpose.apply_coords(np.array([[2.5, 0.5]])).tolist() == [[0.5, 2.5]]


def test_random_transpose_takes_half():
    np.random.seed(0)
    image = np.zeros((2, 3))
    transposed = sum(isinstance(RandomTranspose().get_transform(image), TransposeTransform) for _ in range(400))
    assert 160 < transposed < 240


def polygon_area(polygon):
    x, y = polygon.T
    return 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def test_clip_polygon_by_hand():
    # Right angle at (2, 2); the long side x + y = 1 cuts half a pixel off the square [0, 2] x [0, 2].
    triangle = np.array([[-1.0, 2.0], [2.0, 2.0], [2.0, -1.0]])
    clipped = clip_polygon(triangle, 4)
    assert polygon_area(clipped) == 3.5
    assert clipped.min(axis=0).tolist() == [0, 0] and clipped.max(axis=0).tolist() == [2, 2]
    assert len(clip_polygon(triangle - 3, 4)) == 0
    assert np.array_equal(clip_polygon(triangle + 2, 8), triangle + 2)


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(-10, 20)] * 4))
def test_clip_polygon_is_the_box_intersection_for_boxes(box):
    (x0, x1), (y0, y1) = sorted(box[:2]), sorted(box[2:])
    clipped = clip_polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), 10)
    width, height = min(x1, 10) - max(x0, 0), min(y1, 10) - max(y0, 0)
    expected = max(width, 0) * max(height, 0)
    assert (polygon_area(clipped) if len(clipped) else 0) == pytest.approx(expected, abs=1e-9)


def names(augmentations):
    return [type(augmentation).__name__ for augmentation in augmentations]


def test_build_augmentation_of_detectron2_by_default():
    cfg = get_cfg()
    for is_train in (True, False):
        assert str(build_augmentation(cfg, is_train)) == str(detectron2_build_augmentation(cfg, is_train))
    cfg.INPUT.CROP.ENABLED = True
    assert names(build_augmentation(cfg, True)) == ["RandomCrop", "ResizeShortestEdge", "RandomFlip"]


def test_build_augmentation_with_everything():
    cfg = get_cfg()
    cfg.INPUT.SQUARE_CROP.ENABLED = cfg.INPUT.VERTICAL_FLIP = cfg.INPUT.TRANSPOSE = True
    cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE = 48
    crop, horizontal, vertical, transpose = build_augmentation(cfg, True)
    assert (crop.relative_to, crop.scale_range, crop.output_size) == ("longer", (0.6, 1.4), 48)
    assert (horizontal.horizontal, horizontal.vertical) == (True, False)
    assert (vertical.horizontal, vertical.vertical) == (False, True)
    assert isinstance(transpose, RandomTranspose)
    assert names(build_augmentation(cfg, False)) == ["ResizeShortestEdge"]
    cfg.INPUT.RANDOM_FLIP = "none"
    assert names(build_augmentation(cfg, True)) == ["RandomSquareCrop", "RandomFlip", "RandomTranspose"]


def test_a_fixed_test_size_does_not_keep_the_aspect():
    cfg = get_cfg()
    cfg.INPUT.TEST_SIZE = [20, 50]
    (resize,) = build_augmentation(cfg, is_train=False)
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    assert resize.get_transform(image).apply_image(image).shape == (20, 50, 3)


@pytest.mark.parametrize(
    ("object_size", "bound", "side"),
    [(8.0, 5.0, 40), (8.0, 0.0, 80), (8.0, 20.0, 80), (0.0, 5.0, 80)],
    ids=["small objects in a large image", "no bound", "large objects", "no objects"],
)
def test_a_crop_holds_no_more_objects_side_by_side_than_the_bound(object_size, bound, side):
    augmentation = RandomSquareCrop("shorter", (1.0, 1.0), 32, max_objects_per_side=bound)
    aug_input = ObjectSizeAugInput(np.zeros((80, 120, 3), np.uint8), object_size)
    transform = augmentation(aug_input)
    assert transform.side == side and aug_input.image.shape == (32, 32, 3)
