import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Instances

from objguided_d2.config import get_cfg
from objguided_d2.data import InstanceMapper
from objguided_d2.data.copy_paste import paste_instances
from tests.data.sources import labels, random_image, write


def instances_of(array):
    masks = BitMasks(torch.from_numpy(np.stack([array == i for i in range(1, array.max() + 1)])))
    count = len(masks)
    return Instances(array.shape, gt_boxes=masks.get_bounding_boxes(), gt_classes=torch.arange(count), gt_masks=masks)


def test_pasted_objects_cover_what_is_there():
    image, source = np.zeros((24, 40, 3), np.uint8), np.full((24, 40, 3), 200, np.uint8)
    here = instances_of(labels((0, 0, 10, 10), (20, 0, 30, 10)))
    there = instances_of(labels((5, 0, 15, 10), (19, 0, 32, 12), (34, 12, 38, 20)))
    pasted_image, pasted, _ = paste_instances(image, here, None, source, there, np.array([True, True, False]))
    covered = labels((5, 0, 15, 10), (19, 0, 32, 12)) > 0
    assert np.array_equal(pasted_image == 200, np.repeat(covered[..., None], 3, axis=2))
    # Of the first object the left half stays, the second is hidden altogether; then come the pasted ones.
    assert pasted.gt_boxes.tensor.tolist() == [[0, 0, 5, 10], [5, 0, 15, 10], [19, 0, 32, 12]]
    assert pasted.gt_classes.tolist() == [0, 0, 1]
    assert not (pasted.gt_masks.tensor.sum(dim=0) > 1).any()
    assert image.max() == 0 and len(here) == 2


def test_nothing_chosen_changes_nothing():
    image, here = random_image(), instances_of(labels((0, 0, 10, 10)))
    region = labels((3, 4, 9, 8)) > 0
    pasted_image, pasted, left = paste_instances(image, here, region, random_image(), here, np.array([False]))
    assert pasted_image is image and pasted is here and left is region


def test_pasted_objects_leave_the_ignored_region():
    image, here = random_image(), instances_of(labels((0, 0, 10, 10)))
    there = instances_of(labels((12, 2, 20, 6), (30, 10, 38, 20)))
    region = labels((10, 0, 40, 5)) > 0
    _, _, left = paste_instances(image, here, region, random_image(), there, np.array([True, False]))
    expected = region.copy()
    expected[2:5, 12:20] = False
    assert left.dtype == bool and np.array_equal(left, expected)
    assert region[2, 12]


def test_mapper_pastes_by_the_config(tmp_path):
    dicts = []
    for number, boxes in enumerate([[(0, 0, 20, 20)], [(20, 2, 38, 22), (1, 1, 18, 18)]]):
        path = write(tmp_path / f"{number}.png", np.full((24, 40, 3), 50 + 100 * number, np.uint8))
        array = labels(*boxes)
        annotations = [
            {"segmentation": (array == i).astype(np.uint8), "category_id": 0} for i in range(1, array.max() + 1)
        ]
        dicts.append(
            {"file_name": str(path), "image_id": number, "height": 24, "width": 40, "annotations": annotations}
        )
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.COPY_PASTE_PROB = 1.0
    with pytest.raises(ValueError, match="INPUT.COPY_PASTE_PROB needs images of one size"):
        InstanceMapper(cfg, is_train=True)
    cfg.INPUT.SQUARE_CROP.ENABLED = True
    cfg.INPUT.SQUARE_CROP.OUTPUT_SIZE = 32
    mapper = InstanceMapper(cfg, is_train=True, paste_source=dicts[1:])
    np.random.seed(0)
    samples = [mapper(dicts[0]) for _ in range(8)]
    assert any((sample["image"] == 150).any() for sample in samples)
    assert all((sample["image"] == 150).any() <= (len(sample["instances"]) > 0) for sample in samples)
    for sample in samples:
        instances = sample["instances"]
        assert not (instances.gt_masks.tensor.sum(dim=0) > 1).any()
        assert torch.equal(instances.gt_boxes.tensor, instances.gt_masks.get_bounding_boxes().tensor)
    np.random.seed(0)
    assert all(torch.equal(mapper(dicts[0])["image"], sample["image"]) for sample in samples)
    assert not any((InstanceMapper(cfg, is_train=False)(dicts[0])["image"] == 150).any() for _ in range(4))


def test_mapper_ignores_the_crowds_of_the_image_below_only(tmp_path):
    paths = [write(tmp_path / f"{n}.png", np.full((24, 40, 3), n * 100, np.uint8)) for n in range(2)]
    crowd, whole = labels((8, 3, 30, 20)), labels((0, 0, 40, 24))
    thing = labels((20, 0, 25, 10))
    dicts = [
        {"file_name": str(path), "height": 24, "width": 40, "annotations": [
            {"segmentation": mask, "category_id": 0, "iscrowd": is_crowd} for mask, is_crowd in masks
        ]}
        for path, masks in zip(paths, [[(crowd, 1)], [(thing, 0), (whole, 1)]])
    ]  # fmt: skip
    mapper = InstanceMapper(
        is_train=True, augmentations=[], image_format="RGB", copy_paste_prob=1.0, paste_source=dicts[1:]
    )
    regions = {}
    np.random.seed(0)
    for _ in range(12):
        sample = mapper(dicts[0])
        regions[len(sample["instances"])] = sample["ignore_region"].numpy()
    assert np.array_equal(regions[0], crowd > 0)
    assert np.array_equal(regions[1], (crowd > 0) & (thing == 0))
