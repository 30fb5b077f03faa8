import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from objguided_d2.data.synthetic import KINDS, make_image, write_synthetic_dataset
from objguided_d2.data.synthetic.imaging import MIN_OBJECT_PIXELS, expose, largest_piece, uneven_illumination


def pieces(mask, connectivity):
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)[0] - 1


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bytes(kind):
    first = make_image(kind, (96, 128), np.random.default_rng(5))
    np.random.seed(0)
    again = make_image(kind, (96, 128), np.random.default_rng(5))
    other = make_image(kind, (96, 128), np.random.default_rng(6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(32, 200), width=st.integers(32, 200))
def test_masks_keep_their_promises(kind, seed, height, width):
    image, masks = make_image(kind, (height, width), np.random.default_rng(seed))
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert masks.shape[1:] == (height, width) and masks.dtype == bool
    assert (masks.sum(axis=(1, 2)) >= MIN_OBJECT_PIXELS).all()
    if kind != "neurons":
        assert masks.sum(axis=0).max(initial=0) <= 1
    if kind != "leaves":
        assert all(pieces(mask, 4 if kind == "nuclei" else 8) == 1 for mask in masks)


@pytest.mark.parametrize("kind", KINDS)
def test_images_hold_objects_that_touch(kind):
    for seed in range(4):
        _, masks = make_image(kind, (256, 256), np.random.default_rng(seed))
        grown = [cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) for mask in masks]
        assert sum(grown).max() >= 2


def edge_contrast(image, mask):
    """Difference of the colors just inside and just outside a mask."""
    inside = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~mask
    return np.linalg.norm(image[inside].mean(axis=0) - image[near].mean(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_lie_where_the_image_shows_objects(kind):
    image, masks = make_image(kind, (256, 256), np.random.default_rng(3))
    union = masks.any(axis=0)
    aligned = edge_contrast(image, union)
    for shift in [(12, 0), (0, 12), (-12, 0), (0, -12)]:
        assert aligned > 1.3 * edge_contrast(image, np.roll(union, shift, axis=(0, 1)))


def test_unknown_kind_and_tiny_size_are_refused():
    with pytest.raises(ValueError, match="'worms'.*nuclei"):
        make_image("worms", (64, 64), np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least 32"):
        make_image("nuclei", (64, 31), np.random.default_rng(0))


def test_dataset_loads_as_coco_and_decodes_to_the_masks(tmp_path):
    root = tmp_path / "synthetic"
    write_synthetic_dataset(root, num_train=4, num_val=3, num_test=2, size=(72, 96), seed=7)
    for split_index, (split, count) in enumerate([("train", 4), ("val", 3), ("test", 2)]):
        coco = COCO(root / "annotations" / f"synthetic_{split}.json")
        assert [coco.cats[i]["name"] for i in sorted(coco.cats)] == list(KINDS)
        assert len(coco.imgs) == count
        for k, image_id in enumerate(sorted(coco.imgs)):
            kind = KINDS[k % 3]
            image, masks = make_image(kind, (72, 96), np.random.default_rng([7, split_index, k]))
            stored = cv2.imread(str(root / split / coco.imgs[image_id]["file_name"]))[..., ::-1]
            np.testing.assert_array_equal(stored, image)
            annotations = coco.loadAnns(coco.getAnnIds(image_id))
            assert {a["category_id"] for a in annotations} == {KINDS.index(kind) + 1}
            np.testing.assert_array_equal([coco.annToMask(a) for a in annotations], masks)
            assert [a["area"] for a in annotations] == masks.sum(axis=(1, 2)).tolist()


def test_first_images_stay_when_more_are_made(tmp_path):
    write_synthetic_dataset(tmp_path / "few", num_train=3, num_val=1, size=(64, 64), seed=1)
    write_synthetic_dataset(tmp_path / "many", num_train=5, num_val=2, size=(64, 64), seed=1)
    few, many = files(tmp_path / "few"), files(tmp_path / "many")
    images = [name for name in few if name.endswith(".png")]
    assert len(images) == 4
    assert all(few[name] == many[name] for name in images)
    assert many["train/00000_nuclei.png"] != many["val/00000_nuclei.png"]


def test_single_class(tmp_path):
    root = tmp_path / "plants"
    write_synthetic_dataset(root, ["leaves", "nuclei"], 2, 1, size=(64, 64))
    write_synthetic_dataset(root, ["leaves", "nuclei"], 2, 0, size=(64, 64), single_class=True)
    assert [path.name for path in root.rglob("*") if "val" in path.name] == []
    content = json.loads((root / "annotations" / "plants_train.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "object"}]
    assert {a["category_id"] for a in content["annotations"]} == {1}
    assert [i["file_name"] for i in content["images"]] == ["00000_leaves.png", "00001_nuclei.png"]


@pytest.mark.parametrize("kinds", [[], ["nuclei", "nuclei"], ["nuclei", "worms"]])
def test_bad_kinds_leave_nothing_behind(tmp_path, kinds):
    with pytest.raises(ValueError, match="expected one"):
        write_synthetic_dataset(tmp_path / "out", kinds, 2, 1, size=(64, 64))
    with pytest.raises(ValueError, match="expected at least 0 each, and one above"):
        write_synthetic_dataset(tmp_path / "out", ["nuclei"], -3, 1)
    assert not list(tmp_path.iterdir())


def test_exposure_of_a_flat_scene_has_the_stated_mean_and_noise():
    scene = np.full((200, 200), 0.5, dtype=np.float32)
    image = expose(scene, blur=0.5, photons=200, read_noise=0.02, rng=np.random.default_rng(0))
    assert image.shape == (200, 200, 3) and (image[..., 0] == image[..., 2]).all()
    assert image.mean() == pytest.approx(127.5, abs=0.5)
    assert image[..., 0].std() == pytest.approx(255 * np.sqrt(0.5 / 200 + 0.02**2), rel=0.02)


def test_illumination_spans_its_range():
    light = uneven_illumination((40, 60), 0.3, np.random.default_rng(0))
    assert light.max() == pytest.approx(1) and light.min() == pytest.approx(0.7)


def test_largest_piece_follows_the_connectivity():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(largest_piece(mask, 4).nonzero(), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(largest_piece(mask, 8).nonzero(), [[0, 0, 1], [0, 1, 2]])
    empty = np.zeros((3, 3), dtype=bool)
    np.testing.assert_array_equal(largest_piece(empty, 4), empty)
