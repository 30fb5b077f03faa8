"""A file is complete or as it was, whatever goes wrong while it is written."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
import torch

from objguided_d2.utils import atomic_write as atomic_write_module
from objguided_d2.utils.atomic_write import atomic_folder, atomic_write, staged_folder, write_json, write_text


def test_file_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "picture.png"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".png" and temporary.name.startswith(".")
        temporary.write_bytes(b"pixels")
        assert not path.exists()
    assert path.read_bytes() == b"pixels"
    assert list(path.parent.iterdir()) == [path]


def test_error_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_files_only():
    """Writing more than 64 kB to a file fails in this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def save_tensor(path):
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        torch.save(torch.zeros(2**18), file)


@pytest.mark.parametrize("write", [lambda path: write_text(path, "a" * 2**17), save_tensor])
def test_write_that_the_system_refuses_names_the_file(tmp_path, small_files_only, write):
    path = tmp_path / "large"
    path.write_text("old")
    with pytest.raises(OSError) as caught:
        write(path)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.txt"), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "missing.txt").read_text()


def test_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.txt"), atomic_write(tmp_path / "a.txt"):
        pass


def test_json_is_strict_and_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"AP": 1})
    for content, error in (({"AP": float("nan")}, ValueError), ({"AP": object()}, TypeError)):
        with pytest.raises(error):
            write_json(path, content)
    assert json.loads(path.read_text()) == {"AP": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


def test_files_are_published_images_first_and_others_stay(tmp_path, monkeypatch):
    target = tmp_path / "set"
    (target / "train").mkdir(parents=True)
    (target / "train" / "own.txt").write_text("mine")
    (target / "train" / "a.png").write_text("old")
    order = []
    monkeypatch.setattr(os, "replace", lambda a, b, replace=os.replace: (order.append(b.name), replace(a, b)))
    with staged_folder(target) as staging:
        for name in ("annotations/x.json", "train/a.png", "val/b.png"):
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text("new")
        assert (target / "train" / "a.png").read_text() == "old"
    assert order == ["a.png", "b.png", "x.json"]
    assert (target / "train" / "a.png").read_text() == "new"
    assert (target / "train" / "own.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_published_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "set") as staging:
        (staging / "a.png").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [atomic_folder, staged_folder])
def test_write_into_a_folder_that_the_system_refuses_names_the_folder_to_be(tmp_path, small_files_only, folder):
    target = tmp_path / "set"
    with pytest.raises(OSError) as caught, folder(target) as temporary:
        (temporary / "image.png").write_bytes(bytes(2**17))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(target))
    with pytest.raises(OSError) as caught, folder(target) as temporary:
        (temporary / "no" / "image.png").write_bytes(b"")
    assert caught.value.filename == str(target / "no" / "image.png")
    with pytest.raises(OSError) as caught, folder(target):
        (tmp_path / "input.png").read_bytes()
    assert caught.value.filename == str(tmp_path / "input.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", [atomic_folder, staged_folder])
def test_folder_that_cannot_be_made_is_named(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught, folder(tmp_path / "file" / "set"):
        pass
    assert str(tmp_path / "file") in caught.value.filename and "/." not in caught.value.filename


def test_folder_goes_while_other_threads_still_write_to_it(tmp_path, monkeypatch):
    remove, calls = shutil.rmtree, []

    def removed_and_written_to(folder, ignore_errors):
        remove(folder, ignore_errors=ignore_errors)
        calls.append(folder)
        if len(calls) < 4:
            (folder / "0.0").mkdir(parents=True)

    monkeypatch.setattr(shutil, "rmtree", removed_and_written_to)
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "a.zarr") as temporary:
        (temporary / "0.0").mkdir()
        raise RuntimeError
    assert len(calls) == 4 and not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from objguided_d2.utils import atomic_write

target = Path(sys.argv[2])
with getattr(atomic_write, sys.argv[1])(target) as temporary:
    if sys.argv[1] == "atomic_write":
        temporary.write_text("half")
    else:
        (temporary / "a.png").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("write", "name"), [(atomic_write, "a.txt"), (atomic_folder, "a.zarr"), (staged_folder, "set.1")]
)
def test_leftovers_of_a_killed_process_go_when_the_same_is_written_again(tmp_path, write, name):
    program = [sys.executable, "-c", KILLED, write.__name__, str(tmp_path / name)]
    subprocess.run(program, timeout=60)
    (half,) = tmp_path.iterdir()
    others = [half.with_name(half.name.replace(half.name.split(".")[1], "other")), half.with_name(f".{name}")]
    for other in others:
        other.write_text("of somebody else")
    with pytest.raises(RuntimeError), write(tmp_path / name):
        raise RuntimeError
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("touched", ["", "train/a.png", None])
def test_what_another_machine_may_still_write_is_no_leftover(tmp_path, touched):
    half = tmp_path / ".set.999999999-0a1b2c3d4e5f6071"
    (half / "train").mkdir(parents=True)
    (half / "train/a.png").write_text("half")
    for path in (half, half / "train", half / "train/a.png"):
        os.utime(path, None if touched is not None and path == half / touched else (0, 0))
    with staged_folder(tmp_path / "set"):
        pass
    assert half.exists() == (half / "train/a.png").exists() == (touched is not None)


def test_what_a_running_process_of_this_machine_writes_is_no_leftover(tmp_path):
    with staged_folder(tmp_path / "set") as staging, atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        atomic_write_module._leftovers.clear()
        with staged_folder(tmp_path / "set"):
            write_text(tmp_path / "a.txt", "of a thread")
        assert staging.exists() and temporary.exists()


def test_folder_that_cannot_be_listed_is_written_to_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda self: (_ for _ in ()).throw(PermissionError()))
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
