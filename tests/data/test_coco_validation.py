"""One validator for ``check``, registration and preparation: odd entries are repaired or refused in all three."""

import copy
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2.data import register_objguided_instances
from objguided_d2.data.check import check_coco_file
from objguided_d2.data.coco_validation import read_coco
from objguided_d2.data.source_error import SourceError
from objguided_d2.evaluation.ground_truth import load_ground_truth
from tests.data.sources import random_image, write

SQUARE = [2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0]
NAME = "validated"


@pytest.fixture
def content(tmp_path):
    for stem in "ab":
        write(tmp_path / f"{stem}.png", random_image())
    annotation = {"category_id": 3, "iscrowd": 0, "bbox": [2, 2, 8, 7], "area": 56, "segmentation": [SQUARE]}
    return {
        "categories": [{"id": 3, "name": "cell"}, {"id": 8, "name": "debris"}],
        "images": [
            {"id": n, "file_name": f"{stem}.png", "height": 24, "width": 40} for n, stem in ((1, "a"), (2, "b"))
        ],
        "annotations": [{**copy.deepcopy(annotation), "id": n, "image_id": n} for n in (1, 2)],
    }


def load(content, folder):
    """What registration gives, and the ground truth of the evaluators; the file's own name is x.json."""
    register_objguided_instances(NAME, write(folder / "x.json", content), folder)
    try:
        records = DatasetCatalog.get(NAME)
        return records, load_ground_truth(NAME, str(folder / "out"))
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def first(content):
    return content["annotations"][0]


def mask(height=24, width=40):
    array = np.zeros((height, width), np.uint8, order="F")
    array[2:9, 2:10] = 1
    return array


def runs(array):
    flat = np.concatenate([[0], array.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges]).tolist()


# What is odd, the change, and what the warning says.
REPAIRED = {
    "flat polygon": (lambda c: first(c).update(segmentation=SQUARE), "polygon is not wrapped"),
    "ring of one point beside another": (
        lambda c: first(c).update(segmentation=[[3.0, 4.0], SQUARE, []]),
        "rings of less than 3 points",
    ),
    "area null": (lambda c: first(c).update(area=None), "'area' is no positive number"),
    "area missing": (lambda c: first(c).pop("area"), "'area' is no positive number"),
    "area of text": (lambda c: first(c).update(area="56"), "'area' is no positive number"),
    "box missing": (lambda c: first(c).pop("bbox"), "'bbox' (x, y, width, height) is not the box of its mask"),
    "box of corners": (lambda c: first(c).update(bbox=[2, 2, 10, 9]), "'bbox' (x, y, width, height) is not"),
    "box null": (lambda c: first(c).update(bbox=None), "'bbox' (x, y, width, height) is not"),
    "category as text": (lambda c: first(c).update(category_id="3"), "'category_id' is text"),
    "all ids as text": (
        lambda c: (
            [a.update(id=str(a["id"]), image_id=str(a["image_id"])) for a in c["annotations"]],
            [category.update(id=str(category["id"])) for category in c["categories"]],
        ),
        "matched",
    ),
    "area of a hundred digits": (lambda c: first(c).update(area=10**400), "'area' is no positive number"),
    "box of a hundred digits": (lambda c: first(c).update(bbox=[10**400, 2, 8, 7]), "'bbox' (x, y, width"),
    "supercategory of a list": (lambda c: c["categories"][0].update(supercategory=["cell"]), None),
    "crowd null": (lambda c: first(c).update(iscrowd=None), "'iscrowd' is null"),
    "annotation id twice": (lambda c: first(c).update(id=2), "'id' is missing or there twice"),
    "annotation id missing": (lambda c: first(c).pop("id"), "'id' is missing or there twice"),
    "Windows separators": (
        lambda c: c["images"][0].update(file_name=".\\a.png"),
        "Windows separators",
    ),
    "sides as text and float": (lambda c: c["images"][0].update(height="24", width=40.0), "no whole numbers as JSON"),
    "the same image twice": (lambda c: c["images"].append(dict(c["images"][0])), "the same image twice"),
    "group of categories": (
        lambda c: (
            c["categories"].append({"id": 0, "name": "things", "supercategory": "none"}),
            [category.update(supercategory="things") for category in c["categories"][:2]],
        ),
        "groups other categories",
    ),
    "class that is its own group": (
        lambda c: [category.update(supercategory="debris") for category in c["categories"]],
        None,
    ),
    "annotations by id": (
        lambda c: c.update(annotations={str(a["id"]): a for a in c["annotations"]}),
        None,
    ),
    "runs not compressed": (
        lambda c: first(c).update(segmentation={"size": [24, 40], "counts": runs(mask())}),
        None,
    ),
    "categories with gaps": (lambda c: None, None),
}


@pytest.mark.parametrize("kind", REPAIRED)
def test_what_has_one_meaning_is_repaired_for_training_and_evaluation(content, tmp_path, kind):
    change, warning = REPAIRED[kind]
    change(content)
    records, ground_truth = load(content, tmp_path)
    report = check_coco_file(tmp_path / "x.json", tmp_path, limit=100)
    assert not report.errors
    assert not warning or any(warning in line for line in report.warnings), report.warnings
    assert [len(record["annotations"]) for record in records] == [1, 1]
    assert {a["category_id"] for record in records for a in record["annotations"]} == {0}
    assert len(ground_truth.anns) == 2 and sorted(ground_truth.cats) == [3, 8]
    for annotation in ground_truth.anns.values():
        assert np.array_equal(ground_truth.annToMask(annotation), mask())
        assert annotation["bbox"] == [2, 2, 8, 7] and annotation["area"] == pytest.approx(56)


# What is odd, the change, and what the error says.
REFUSED = {
    "empty ring": (lambda c: first(c).update(segmentation=[[]]), "annotation 1 of a.png, segmentation: it has no ring"),
    "two numbers": (lambda c: first(c).update(segmentation=[[3.0, 4.0]]), "it has no ring of 3 points"),
    "four numbers": (lambda c: first(c).update(segmentation=[[5.0, 5.0, 20.0, 20.0]]), "it has no ring of 3 points"),
    "odd count": (lambda c: first(c)["segmentation"][0].append(3.0), "a ring of its polygon has 9 numbers"),
    "not finite": (lambda c: first(c)["segmentation"][0].__setitem__(0, float("nan")), "a number that is not finite"),
    "number beyond any": (lambda c: first(c)["segmentation"][0].__setitem__(0, 10**400), "that is not finite"),
    "text": (lambda c: first(c)["segmentation"][0].__setitem__(0, "2"), "is no list of numbers"),
    "box alone": (lambda c: first(c).update(segmentation=[]), "a box is no mask"),
    "no segmentation": (lambda c: first(c).pop("segmentation"), "it is None, neither polygons nor RLE"),
    "mask of another size": (
        lambda c: first(c).update(segmentation={"size": [9, 9], "counts": [81]}),
        "mask of height x width [9, 9] in an image of (24, 40)",
    ),
    "runs beyond the image": (
        lambda c: first(c).update(segmentation={"size": [24, 40], "counts": [5, 2000]}),
        "its runs cover 2005 pixels where 24 x 40 are 960",
    ),
    "negative runs": (
        lambda c: first(c).update(segmentation={"size": [24, 40], "counts": [-5, 965]}),
        "no whole numbers of at least 0",
    ),
    "text of runs cut off": (
        lambda c: first(c).update(segmentation={"size": [24, 40], "counts": "zzz"}),
        "its RLE text is damaged",
    ),
    "image id null": (
        lambda c: first(c).update(image_id=None),
        "annotation 1, image_id None: 'image_id' names no image",
    ),
    "image id of a list": (lambda c: first(c).update(image_id=[1]), "'image_id' names no image"),
    "unknown class": (lambda c: first(c).update(category_id=9), "annotation 1 of a.png, category_id 9"),
    "class null": (lambda c: first(c).update(category_id=None), "category_id None"),
    "crowd of text": (lambda c: first(c).update(iscrowd="no"), "'iscrowd' must be 0 or 1"),
    "no file name": (lambda c: c["images"][0].pop("file_name"), "images, entry 0, file_name None"),
    "height null": (lambda c: c["images"][0].update(height=None), "no usable 'height'"),
    "image of text": (lambda c: c["images"].append("a.png"), "images, entry 2, id None"),
    "category of text": (lambda c: c["categories"].append("cell"), "categories, entry 2"),
    "category without name": (lambda c: c["categories"][0].pop("name"), "categories, entry 0, name None"),
    "annotation of text": (lambda c: c["annotations"].append("cell"), "annotations, entry 2"),
    "ids of joined files": (
        lambda c: c["images"].append({**c["images"][0], "file_name": "c.png"}),
        "images, id 1, a.png and c.png: two images have one id, as when files are joined",
    ),
    "one file under two ids": (
        lambda c: c["images"].append({**c["images"][0], "id": 7}),
        "images, ids 1 and 7, a.png: two images have one file name",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_train_wrong_is_refused_by_check_and_registration_alike(content, tmp_path, kind):
    change, message = REFUSED[kind]
    change(content)
    with pytest.raises(ValueError) as error:
        load(content, tmp_path)
    assert message in str(error.value) and "x.json" in str(error.value) and "\n" not in str(error.value)
    errors = check_coco_file(tmp_path / "x.json", tmp_path, limit=100).errors
    assert any(message in line for line in errors), errors


NOTHING = {
    "outside": [[60.0, 60.0, 70.0, 60.0, 70.0, 70.0]],
    "far outside": [[1e12, 1e12, 2e12, 1e12, 2e12, 2e12]],
    "numbers at the end of the scale": [[1e308, -1e308, 1e308, 1e308, 0.5e308, 1e308]],
    "flat": [[5.0, 5.0, 9.0, 5.0, 13.0, 5.0]],
    "runs of nothing": {"size": [24, 40], "counts": [960]},
}


@pytest.mark.parametrize("kind", NOTHING)
def test_object_without_a_pixel_is_left_out_with_a_warning(content, tmp_path, kind):
    first(content)["segmentation"] = NOTHING[kind]
    records, ground_truth = load(content, tmp_path)
    assert [len(record["annotations"]) for record in records] == [0, 1] and len(ground_truth.anns) == 1
    assert "annotation 1 of a.png: its mask covers no pixel" in "\n".join(
        read_coco(tmp_path / "x.json").warnings.lines()
    )


def test_slip_of_the_mouse_is_left_out_but_an_object_without_mask_is_not(content, tmp_path):
    first(content).update(segmentation=[[3.0, 4.0]], bbox=[3, 4, 0, 0])
    records, _ = load(content, tmp_path)
    assert [len(record["annotations"]) for record in records] == [0, 1]


def test_polygon_far_beyond_the_image_is_cut_at_its_border(content, tmp_path):
    first(content).update(segmentation=[[2.0, 2.0, 1e9, 2.0, 1e9, 9.0, 2.0, 9.0]])
    read = read_coco(write(tmp_path / "x.json", content))
    assert read.images[0].annotations[0]["bbox"] == [2, 2, 38, 7]
    report = check_coco_file(tmp_path / "x.json", tmp_path, limit=100)
    assert report.sizes[0] == pytest.approx(np.sqrt(38 * 7), rel=0.1)


def test_annotation_of_an_image_that_is_not_listed_is_a_warning(content, tmp_path):
    first(content)["image_id"] = 77
    records, _ = load(content, tmp_path)
    assert [len(record["annotations"]) for record in records] == [0, 1]
    lines = read_coco(tmp_path / "x.json").warnings.lines()
    assert lines == ["annotation 1, image_id 77: its image is not in 'images'; not used"]


def test_one_line_for_each_kind_counts_its_cases(content, tmp_path):
    for annotation in content["annotations"]:
        annotation["category_id"] = 9
    (line,) = read_coco(write(tmp_path / "x.json", content)).all_errors()
    assert line.startswith("annotation 1 of a.png, category_id 9 (and 1 more): category_id is not in 'categories'")


def test_ignored_objects_become_crowd_regions(content, tmp_path):
    first(content)["ignore"] = 1
    records, _ = load(content, tmp_path)
    assert [a["iscrowd"] for record in records for a in record["annotations"]] == [1, 0]


def test_file_without_annotations_can_be_predicted_on(content, tmp_path):
    del content["annotations"]
    register_objguided_instances(NAME, write(tmp_path / "x.json", content), tmp_path)
    try:
        assert [record["annotations"] for record in DatasetCatalog.get(NAME)] == [[], []]
        assert MetadataCatalog.get(NAME).json_file == str(tmp_path / "x.json")
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    report = check_coco_file(tmp_path / "x.json", tmp_path, limit=100)
    assert not report.errors and "has no 'annotations'" in report.warnings[0]


@pytest.mark.parametrize(
    "text", ["{", "[" * 100000, "\x00", '{"images": 3}', "[]", '{"images": [{}], "categories": []}']
)
def test_no_coco_file_is_a_source_error(tmp_path, text):
    with pytest.raises(SourceError, match="x.json"):
        read_coco(write(tmp_path / "x.json", text))


def test_valid_file_is_handed_on_as_it_is(content, tmp_path):
    rle = mask_util.encode(mask())
    first(content)["segmentation"] = {"size": [24, 40], "counts": rle["counts"].decode()}
    read = read_coco(write(tmp_path / "x.json", content))
    assert not read.is_repaired and not read.warnings and not read.all_errors()
    assert json.loads(json.dumps(read.images[0].annotations[0])) == first(content)
