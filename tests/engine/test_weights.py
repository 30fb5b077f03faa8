"""Weights files of all kinds that people have: read, or refused in one line that names file, cause and remedy."""

import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from objguided_d2.engine.weights import SafeCheckpointer, WeightsError, load_weights, misfits, read_checkpoint


class RunsCode:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save({"model": nn.Linear(200, 100).state_dict(), "iteration": 4}, path)
    return path


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty, not written to its end; copy"),
        (b"learning rate 0.1\n", "no PyTorch checkpoint"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'\n{"images": []}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x80\x02}q\x00", "damaged or cut off .*copy or train them again"),
    ],
)
@pytest.mark.parametrize("mmap", [False, True])
def test_files_that_are_no_checkpoints(tmp_path, content, cause, mmap):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"weights .*bad.pth cannot be read: the file is {cause}") as error:
        read_checkpoint(path, mmap=mmap)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoint(whole, fraction, zipped):
    torch.save(torch.load(whole), whole, _use_new_zipfile_serialization=zipped)
    os.truncate(whole, int(fraction * whole.stat().st_size))
    with pytest.raises(WeightsError, match="whole.pth cannot be read: .* damaged or cut off .*copy or train") as error:
        read_checkpoint(whole)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ([torch.ones(1)], "the file holds a list"),
        (torch.ones(1), "the file holds a Tensor"),
        ({"epoch": 3, "names": {}}, "there are none under 'model' in the file, which holds epoch, names"),
        ({"model": {}}, "there are none"),
        ({"epoch": 1, "state_dict": {"a": torch.ones(1)}}, "there are none .*convert_released_checkpoint"),
    ],
)
def test_checkpoints_of_other_programs(tmp_path, content, cause):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=f"weights .*other.pth: {cause}"):
        read_checkpoint(tmp_path / "other.pth")


def test_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("word/document.xml", "x" * 100)
    with pytest.raises(WeightsError, match="a.pth cannot be read: the file is damaged"):
        read_checkpoint(tmp_path / "a.pth")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match=f"{path} cannot be read: "):
            read_checkpoint(path)


@pytest.mark.parametrize("save", [torch.save, lambda data, path: path.write_bytes(pickle.dumps(data))])
def test_no_code_in_a_file_runs(tmp_path, save):
    save({"model": nn.Linear(1, 1).state_dict(), "extra": RunsCode(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="evil.pth"):
        load_weights(nn.Linear(1, 1), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_weights_are_loaded_from_a_checkpoint_and_from_a_bare_state_dict(tmp_path):
    model = nn.Linear(2, 3)
    for name, content in (("a.pth", {"model": model.state_dict(), "epoch": 1}), ("b.pth", model.state_dict())):
        torch.save(content, tmp_path / name)
        other = nn.Linear(2, 3)
        load_weights(other, tmp_path / name)
        assert torch.equal(other.weight, model.weight)


def test_pickle_of_the_model_zoo_is_read_when_it_is_named(tmp_path):
    weights = {name: value.numpy() for name, value in nn.Linear(2, 3).state_dict().items()}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": weights, "__author__": "someone"}))
    model = nn.Linear(2, 3)
    load_weights(model, tmp_path / "zoo.pkl")
    assert model.weight.detach().numpy().tolist() == weights["weight"].tolist()
    (tmp_path / "zoo.pkl").write_bytes(b"cut")
    with pytest.raises(WeightsError, match="zoo.pkl cannot be read: the file is damaged"):
        load_weights(model, tmp_path / "zoo.pkl")


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="a.pth: nothing in them fits the model, as bias has another shape"):
        load_weights(nn.Linear(2, 4), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="a.pth: nothing in them fits the model, as 0.bias is missing"):
        load_weights(nn.Sequential(nn.Linear(2, 3)), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="weights nowhere.pth do not exist"):
        load_weights(nn.Linear(2, 3), "nowhere.pth")


def test_weights_that_lack_a_part_are_refused_unless_only_training_runs_it(tmp_path):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.roi_heads = nn.ModuleDict({"mask_head": nn.ModuleDict({"refinement": nn.Linear(1, 1)})})
            self.backbone = nn.Linear(1, 1)
            self.last = nn.Linear(1, 1)

    weights = Heads().state_dict()
    without_refinement = {name: value for name, value in weights.items() if "refinement" not in name}
    torch.save(without_refinement, tmp_path / "a.pth")
    load_weights(Heads(), tmp_path / "a.pth")
    torch.save({name: value for name, value in weights.items() if "last" not in name}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="b.pth: 2 of 4 parameters do not fit the model, as last.weight is missing"):
        load_weights(Heads(), tmp_path / "b.pth")


def test_misfits_are_other_names_and_shapes_but_rows_of_classes_and_what_only_training_runs():
    model = nn.ModuleDict({"body": nn.Linear(4, 3), "classes": nn.Linear(3, 2)})
    training = {"roi_heads.mask_head.refinement.weight": torch.zeros(1)}
    weights = {**nn.ModuleDict({"body": nn.Linear(4, 3), "classes": nn.Linear(3, 5)}).state_dict(), **training}
    assert misfits(weights, model) == ["classes.bias", "classes.weight"]
    assert misfits(weights, model, class_layer="classes.") == []
    assert misfits(weights, model, class_layer="classes.", training=True) == list(training)
    assert misfits({}, nn.Linear(4, 1)) == ["bias", "weight"]
    # An input that the layer of the classes has more of is no class.
    wider = nn.ModuleDict({"body": nn.Linear(4, 3), "classes": nn.Linear(4, 2)})
    assert misfits(wider.state_dict(), model, class_layer="classes.") == ["classes.weight"]


def test_a_failed_load_leaves_the_checkpointer_usable(whole, tmp_path):
    checkpointer = SafeCheckpointer(nn.Linear(200, 100))
    (tmp_path / "bad.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match="file is empty"):
        checkpointer.load(str(tmp_path / "bad.pth"))
    assert checkpointer.load(str(whole))["iteration"] == 4
