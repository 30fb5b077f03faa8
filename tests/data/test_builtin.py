"""Dataset names: lazy, rooted where the environment says when they are loaded, errors that name file and fix."""

import importlib
import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from objguided_d2.data import builtin, register_objguided_instances
from objguided_d2.data.converters.coco_writer import CocoWriter


@pytest.fixture
def forget():
    """Put the catalogs back as they were after importing the package."""
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before | {"dsb2018_val"}:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)
    importlib.reload(builtin)


def write_dataset(folder, split="val", classes=("nucleus",)):
    writer = CocoWriter(folder / split, classes)
    writer.add("a", np.zeros((8, 6, 3), np.uint8), [np.eye(8, 6, dtype=bool)], category_id=len(classes))
    writer.write_json(folder / "annotations" / f"{folder.name}_{split}.json")


def test_root_is_read_when_the_data_is(tmp_path, monkeypatch, forget):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="prepare dsb2018") as error:
        DatasetCatalog.get("dsb2018_val")
    assert str(tmp_path / "dsb2018/annotations/dsb2018_val.json") in str(error.value)

    write_dataset(tmp_path / "dsb2018")
    (record,) = DatasetCatalog.get("dsb2018_val")
    assert record["file_name"] == str(tmp_path / "dsb2018/val/a.png")
    assert (record["height"], record["width"], record["image_id"]) == (8, 6, 1)
    assert [a["category_id"] for a in record["annotations"]] == [0]
    metadata = MetadataCatalog.get("dsb2018_val")
    assert metadata.json_file == str(tmp_path / "dsb2018/annotations/dsb2018_val.json")
    assert metadata.image_root == str(tmp_path / "dsb2018/val")
    assert metadata.thing_classes == ["nucleus"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0}
    assert metadata.evaluator_type == "coco"


def test_registering_again_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nowhere"))
    names = [f"dsb2018_{split}" for split in ("train", "val", "test")]
    loaders = [DatasetCatalog[name] for name in names]
    importlib.reload(builtin)
    assert [DatasetCatalog[name] for name in names] == loaders
    assert all(MetadataCatalog.get(name).thing_classes == ["nucleus"] for name in names)


def test_own_dataset_takes_its_classes_from_the_json(tmp_path, forget):
    write_dataset(tmp_path / "own", "train", ("cell", "wall"))
    json_file = tmp_path / "own/annotations/own_train.json"
    register_objguided_instances("own_train", json_file, tmp_path / "own/train")
    metadata = MetadataCatalog.get("own_train")
    assert (metadata.json_file, metadata.evaluator_type) == (str(json_file), "coco")
    (record,) = DatasetCatalog.get("own_train")
    assert metadata.thing_classes == ["cell", "wall"]
    assert [a["category_id"] for a in record["annotations"]] == [1]


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"images": [], "annotations": []})])
def test_what_is_not_coco_is_named(content, tmp_path, forget):
    json_file = tmp_path / "own.json"
    json_file.write_text(content)
    register_objguided_instances("own", json_file, tmp_path)
    with pytest.raises(ValueError, match="own.json is not (COCO instance )?JSON"):
        DatasetCatalog.get("own")


def test_every_preparation_script_has_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    names = {"plant_test", "lsc_val", "custom_train", "ctc_Fluo-N2DL-HeLa_train", "ctc_PhC-C2DH-U373_val"}
    names |= {"bbbc039_train", "dsb2018_extra_train"}
    assert names <= set(DatasetCatalog)
    with pytest.raises(FileNotFoundError, match="prepare ctc --source <download>/PhC-C2DL-PSC"):
        DatasetCatalog.get("ctc_PhC-C2DL-PSC_val")


def test_prepared_set_of_another_name_is_found_by_its_files(tmp_path, monkeypatch, forget):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    builtin.register_prepared("my_cells_train")
    assert "my_cells_train" not in DatasetCatalog
    write_dataset(tmp_path / "my_cells", "train", ("cell", "nucleus"))
    builtin.register_prepared("my_cells_train")
    builtin.register_prepared("my_cells_train")
    (record,) = DatasetCatalog.get("my_cells_train")
    assert [a["category_id"] for a in record["annotations"]] == [1]
    assert MetadataCatalog.get("my_cells_train").thing_classes == ["cell", "nucleus"]
