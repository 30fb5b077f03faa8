"""The mapper against Detectron2's own functions, applied to one annotation after the other."""

import copy

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from objguided_d2 import get_cfg
from objguided_d2.data import InstanceMapper, datasets_root
from objguided_d2.data.mapper import BoundedCache, median_object_size
from objguided_d2.data.source_error import SourceError
from objguided_d2.data.transforms import RandomSquareCrop, SquareCropTransform, TransposeTransform

HEIGHT, WIDTH = 48, 64
POLYGONS = [
    [[3.0, 2.0, 30.0, 2.0, 30.0, 20.0, 16.0, 12.0, 3.0, 20.0]],
    [[25.0, 10.0, 50.0, 10.0, 50.0, 40.0, 25.0, 40.0], [55.0, 1.0, 62.0, 1.0, 62.0, 9.0]],
    [[0.0, 30.0, 12.0, 30.0, 12.0, 48.0, 0.0, 48.0]],
]
FLIPS = [T.HFlipTransform(WIDTH), T.VFlipTransform(HEIGHT), TransposeTransform()]


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    return str(path)


def rle(polygons):
    return mask_util.merge(mask_util.frPyObjects(polygons, HEIGHT, WIDTH))


def make_dict(image_file, kind):
    convert = {"polygon": lambda p: p, "rle": rle, "bitmask": lambda p: mask_util.decode(rle(p))}[kind]
    box = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYXY_ABS}
    annotations = [
        {"segmentation": convert(polygons), "category_id": i, "iscrowd": 0, **box}
        for i, polygons in enumerate(POLYGONS)
    ]
    return {"file_name": image_file, "height": HEIGHT, "width": WIDTH, "image_id": 7, "annotations": annotations}


def make_mapper(augmentations, **kwargs):
    return InstanceMapper(is_train=True, augmentations=augmentations, image_format="BGR", **kwargs)


def detectron2_instances(dataset_dict, transforms, mask_format="bitmask"):
    transforms = T.TransformList(transforms)
    shape = transforms.apply_segmentation(np.zeros((HEIGHT, WIDTH), np.uint8)).shape
    annotations = [
        detection_utils.transform_instance_annotations(copy.deepcopy(annotation), transforms, shape)
        for annotation in dataset_dict["annotations"]
    ]
    instances = detection_utils.annotations_to_instances(annotations, shape, mask_format)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    return instances


def assert_same(a, b):
    assert a.image_size == b.image_size
    assert torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor)
    assert torch.equal(a.gt_classes, b.gt_classes)
    assert torch.equal(a.gt_masks.tensor, b.gt_masks.tensor)


@pytest.mark.parametrize("kind", ["rle", "bitmask"])
@pytest.mark.parametrize("transforms", [[], FLIPS[:1], FLIPS, [T.ResizeTransform(HEIGHT, WIDTH, 70, 100), *FLIPS[2:]]])
def test_same_as_detectron2(image_file, kind, transforms):
    dataset_dict = make_dict(image_file, kind)
    sample = make_mapper(transforms)(dataset_dict)
    assert_same(sample["instances"], detectron2_instances(make_dict(image_file, "rle"), transforms))
    image = T.TransformList(transforms).apply_image(cv2.imread(image_file))
    assert np.array_equal(sample["image"].numpy(), image.transpose(2, 0, 1))
    assert {k: v for k, v in sample.items() if k not in ("image", "instances")} == {
        "file_name": image_file, "height": HEIGHT, "width": WIDTH, "image_id": 7
    }  # fmt: skip


def test_polygons_become_the_masks_that_detectron2_makes(image_file):
    dataset_dict = make_dict(image_file, "polygon")
    assert_same(make_mapper([])(dataset_dict)["instances"], detectron2_instances(dataset_dict, []))
    # All corners are whole pixels here, but the slanted edges are rasterized before a flip instead of after it.
    got = make_mapper(FLIPS)(dataset_dict)["instances"].gt_masks.tensor
    expected = detectron2_instances(dataset_dict, FLIPS).gt_masks.tensor
    assert ((got != expected).flatten(1).sum(1) <= 0.1 * expected.flatten(1).sum(1)).all()


def test_polygon_format_is_detectron2s(image_file):
    dataset_dict = make_dict(image_file, "polygon")
    transforms = [T.ResizeTransform(HEIGHT, WIDTH, 70, 100), *FLIPS[2:]]
    got = make_mapper(transforms, mask_format="polygon")(dataset_dict)["instances"]
    expected = detectron2_instances(dataset_dict, transforms, "polygon")
    torch.testing.assert_close(got.gt_boxes.tensor, expected.gt_boxes.tensor)
    assert torch.equal(got.gt_classes, expected.gt_classes)
    for a, b in zip(got.gt_masks.polygons, expected.gt_masks.polygons, strict=True):
        for part_a, part_b in zip(a, b, strict=True):
            np.testing.assert_allclose(part_a, part_b)


def test_both_formats_agree_in_a_crop(image_file):
    dataset_dict = make_dict(image_file, "polygon")
    crop = [SquareCropTransform(10, 8, 30, 90)]
    bitmask = make_mapper(crop)(dataset_dict)["instances"]
    polygon = make_mapper(crop, mask_format="polygon")(dataset_dict)["instances"]
    assert bitmask.gt_classes.tolist() == polygon.gt_classes.tolist() == [0, 1, 2]
    # A source pixel is 3 x 3 here.
    assert (bitmask.gt_boxes.tensor - polygon.gt_boxes.tensor).abs().max() <= 3
    assert polygon.gt_boxes.tensor.min() >= 0 and polygon.gt_boxes.tensor.max() <= 90
    areas = bitmask.gt_masks.tensor.flatten(1).sum(1)
    assert ((areas - polygon.gt_masks.area()).abs() <= 0.1 * areas).all()


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
def test_objects_outside_the_crop_and_crowds_are_dropped(image_file, mask_format):
    dataset_dict = make_dict(image_file, "polygon")
    dataset_dict["annotations"][0]["iscrowd"] = 1
    instances = make_mapper([SquareCropTransform(20, 0, 44, 44)], mask_format=mask_format)(dataset_dict)["instances"]
    assert instances.gt_classes.tolist() == [1]
    nothing = make_mapper([SquareCropTransform(54, 20, 10, 20)], mask_format=mask_format)(dataset_dict)["instances"]
    assert len(nothing) == 0 and nothing.image_size == (20, 20)
    assert nothing.gt_boxes.tensor.shape == (0, 4)
    assert nothing.gt_classes.dtype == torch.int64
    assert len(nothing.gt_masks) == 0
    if mask_format == "bitmask":
        assert nothing.gt_masks.tensor.shape == (0, 20, 20)


def with_crowd(dataset_dict, x1, y1, x2, y2):
    """A further annotation: a crowd over a box, as compressed RLE."""
    crowd = rle([[x1, y1, x2, y1, x2, y2, x1, y2]])
    annotation = {"segmentation": crowd, "category_id": 0, "iscrowd": 1, "bbox": [0, 0, 1, 1]}
    return {**dataset_dict, "annotations": [annotation, *dataset_dict["annotations"]]}


@pytest.mark.parametrize("mask_format", ["bitmask", "polygon"])
def test_crowds_become_the_ignored_region_without_the_objects(image_file, mask_format):
    plain = make_dict(image_file, "polygon")
    dataset_dict = with_crowd(plain, 20, 0, 64, 12)
    objects = np.any([mask_util.decode(rle(polygons)) for polygons in POLYGONS], axis=0)
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[:12, 20:] = True
    region &= ~objects
    # A horizontal flip, then columns 0 - 39 and rows 2 - 41 of the flipped image.
    transforms = [T.HFlipTransform(WIDTH), SquareCropTransform(0, 2, 40, 40)]
    sample = make_mapper(transforms, mask_format=mask_format)(dataset_dict)
    assert sample["ignore_region"].dtype == torch.bool
    assert np.array_equal(sample["ignore_region"].numpy(), region[:, ::-1][2:42, :40])
    expected = make_mapper(transforms, mask_format=mask_format)(plain)
    assert sample["instances"].gt_classes.tolist() == expected["instances"].gt_classes.tolist()
    assert torch.equal(sample["instances"].gt_boxes.tensor, expected["instances"].gt_boxes.tensor)
    assert torch.equal(sample["image"], expected["image"])


def test_no_region_without_a_crowd_in_sight(image_file):
    plain = make_dict(image_file, "rle")
    dataset_dict = with_crowd(plain, 40, 30, 64, 48)
    assert "ignore_region" in make_mapper([])(dataset_dict)
    assert "ignore_region" not in make_mapper([])(plain)
    assert "ignore_region" not in make_mapper([T.CropTransform(0, 0, 40, 48)])(dataset_dict)
    # A crowd that is a box alone, as Detectron2 reads it from a JSON without its mask.
    del dataset_dict["annotations"][0]["segmentation"]
    assert "ignore_region" not in make_mapper([])(dataset_dict)
    assert "ignore_region" not in InstanceMapper(is_train=False, augmentations=[], image_format="BGR")(dataset_dict)


def test_crowds_are_dropped_if_the_config_says_so(image_file):
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = "bitmask", (48,), "none"
    dataset_dict = with_crowd(make_dict(image_file, "rle"), 40, 30, 64, 48)
    assert "ignore_region" in InstanceMapper(cfg)(dataset_dict)
    cfg.INPUT.IGNORE_CROWD_IN_TRAINING = False
    sample, expected = InstanceMapper(cfg)(dataset_dict), InstanceMapper(cfg)(make_dict(image_file, "rle"))
    assert set(sample) == set(expected)
    assert torch.equal(sample["image"], expected["image"])
    assert_same(sample["instances"], expected["instances"])


def test_image_without_objects(image_file):
    instances = make_mapper(FLIPS)({**make_dict(image_file, "rle"), "annotations": []})["instances"]
    assert set(instances.get_fields()) == {"gt_boxes", "gt_classes", "gt_masks"}
    assert instances.gt_masks.tensor.shape == (0, WIDTH, HEIGHT)


@pytest.mark.parametrize("image_format", ["BGR", "L"])
def test_cache_changes_nothing(image_file, image_format):
    dataset_dict = with_crowd(make_dict(image_file, "rle"), 5, 0, 64, 30)
    before = copy.deepcopy(dataset_dict)
    augmentations = [RandomSquareCrop("longer", (0.5, 1.5), 40), T.RandomFlip(), TransposeTransform()]
    mappers = [
        InstanceMapper(is_train=True, augmentations=augmentations, image_format=image_format, cache_bytes=cache_bytes)
        for cache_bytes in (0, 2**20)
    ]
    for seed in range(5):
        samples = []
        for mapper in mappers:
            np.random.seed(seed)
            samples.append(mapper(dataset_dict))
        assert torch.equal(samples[0]["image"], samples[1]["image"])
        assert_same(samples[0]["instances"], samples[1]["instances"])
        assert torch.equal(samples[0]["ignore_region"], samples[1]["ignore_region"])
        # A model that writes into its input must not reach the cached image.
        samples[1]["image"].zero_()
        samples[1]["ignore_region"].zero_()
        samples[1]["instances"].gt_masks.tensor.zero_()
    assert mappers[1].cache.free_bytes < 2**20
    assert dataset_dict == before


def test_nothing_but_the_first_read_touches_the_file(image_file, tmp_path):
    mapper = make_mapper([], cache_bytes=2**20)
    first = mapper(make_dict(image_file, "rle"))
    (tmp_path / "image.png").unlink()
    assert torch.equal(mapper(make_dict(image_file, "rle"))["image"], first["image"])
    with pytest.raises(SourceError, match="image.png does not exist"):
        make_mapper([])(make_dict(image_file, "rle"))


def test_another_dataset_of_the_same_image_has_its_own_objects(image_file):
    mapper = make_mapper([], cache_bytes=2**20)
    first, second = make_dict(image_file, "rle"), make_dict(image_file, "rle")
    second["annotations"] = second["annotations"][1:]
    mapper(first)
    assert_same(mapper(second)["instances"], make_mapper([])(second)["instances"])


def test_testing_gives_the_resized_image_alone(image_file):
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 1000
    cfg.INPUT.SQUARE_CROP.ENABLED, cfg.INPUT.CACHE_MEGABYTES = True, 10
    mapper = InstanceMapper(cfg, is_train=False)
    sample = mapper(make_dict(image_file, "rle"))
    assert sample["image"].shape == (3, 96, 128) and sample["image"].dtype == torch.uint8
    assert set(sample) == {"file_name", "height", "width", "image_id", "image"}
    assert mapper.cache.free_bytes == 0


def test_config_reaches_the_mapper():
    cfg = get_cfg()
    cfg.INPUT.CACHE_MEGABYTES, cfg.INPUT.MASK_FORMAT, cfg.INPUT.FORMAT = 3, "bitmask", "RGB"
    mapper = InstanceMapper(cfg)
    assert mapper.is_train
    assert (mapper.cache.free_bytes, mapper.mask_format, mapper.image_format) == (3 * 2**20, "bitmask", "RGB")
    cfg.INPUT.MASK_FORMAT = "rle"
    with pytest.raises(ValueError, match="INPUT.MASK_FORMAT"):
        InstanceMapper(cfg)


def test_bad_annotations_name_file_and_fix(image_file):
    dataset_dict = make_dict(image_file, "rle")
    with pytest.raises(ValueError, match="image.png, annotation 0: no polygons; set INPUT.MASK_FORMAT"):
        make_mapper([], mask_format="polygon")(dataset_dict)
    dataset_dict["annotations"][1]["segmentation"] = np.ones((3, 3), np.uint8)
    with pytest.raises(ValueError, match="image.png, annotation 1: mask of height x width"):
        make_mapper([])(dataset_dict)
    del dataset_dict["annotations"][1]["segmentation"]
    with pytest.raises(ValueError, match="image.png, annotation 1: .*segmentation"):
        make_mapper([])(dataset_dict)
    bad_crowd = with_crowd(make_dict(image_file, "rle"), 0, 0, 9, 9)
    bad_crowd["annotations"][0]["segmentation"] = np.ones((3, 3), np.uint8)
    with pytest.raises(ValueError, match="image.png, crowd region 0: mask of height x width"):
        make_mapper([])(bad_crowd)
    with pytest.raises(detection_utils.SizeMismatchError, match="image.png is .*annotations are for"):
        make_mapper([])({**dataset_dict, "width": 9})


def test_real_images_keep_their_masks():
    """Without augmentation, masks, boxes and areas are those of the JSON."""
    if not (datasets_root() / "dsb2018" / "annotations" / "dsb2018_val.json").is_file():
        pytest.skip(f"no dsb2018_val under the datasets root {datasets_root()}; see datasets/README.md")
    mapper = make_mapper([])
    for dataset_dict in DatasetCatalog.get("dsb2018_val")[::20]:
        instances = mapper(dataset_dict)["instances"]
        annotations = dataset_dict["annotations"]
        assert len(instances) == len(annotations)
        boxes = BoxMode.convert(torch.tensor([a["bbox"] for a in annotations]), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        assert torch.equal(instances.gt_boxes.tensor, boxes)
        areas = [mask_util.area(annotation["segmentation"]) for annotation in annotations]
        assert instances.gt_masks.tensor.flatten(1).sum(1).tolist() == areas


def test_cache_loads_once_what_fits_and_always_what_does_not():
    loaded = []

    def get(cache, key):
        return cache.get(key, lambda: loaded.append(key) or key * 2, num_bytes=lambda value: value)

    cache = BoundedCache(max_bytes=10)
    assert [get(cache, key) for key in (3, 4, 2, 3, 4, 2)] == [6, 8, 4, 6, 8, 4]
    # 6 bytes fit, 8 more do not, 4 more just do.
    assert loaded == [3, 4, 2, 4]
    assert cache.free_bytes == 0


def test_cache_without_memory_keeps_nothing():
    loaded = []
    cache = BoundedCache(max_bytes=0)
    for _ in range(2):
        cache.get("key", lambda: loaded.append(1), num_bytes=lambda _: 1)
    assert loaded == [1, 1]


def test_object_size_is_the_median_root_of_width_times_height():
    boxes = [([10, 20, 14, 29], BoxMode.XYXY_ABS), ([3, 5, 2, 8], BoxMode.XYWH_ABS), ([0, 0, 90, 10], BoxMode.XYXY_ABS)]
    annotations = [{"bbox": box, "bbox_mode": mode} for box, mode in boxes]
    assert median_object_size(annotations) == pytest.approx(6.0)
    assert median_object_size([]) == 0


def test_the_crop_follows_the_size_of_the_objects(image_file):
    sample = make_dict(image_file, "bitmask")
    for annotation in sample["annotations"]:
        annotation["bbox"] = [4, 4, 8, 8]
    crop = RandomSquareCrop("shorter", (1.0, 1.0), 24, max_objects_per_side=6.0)
    image = make_mapper([crop])(sample)["image"].numpy()
    source = cv2.imread(image_file).transpose(2, 0, 1)
    # 6 objects of 4 px are 24 px: the crop is a piece of the image, pixel by pixel.
    windows = np.lib.stride_tricks.sliding_window_view(source, image.shape)
    assert (windows == image).all(axis=(-3, -2, -1)).any()
