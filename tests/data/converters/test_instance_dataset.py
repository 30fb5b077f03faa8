"""What is written for a dataset, when something is left out, and when it is written again."""

import numpy as np
import pytest

from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.data.converters.conversion import ConversionNotes
from objguided_d2.data.converters.instance_dataset import NOTES_FILE, LabeledImage, write_instance_dataset
from objguided_d2.data.source_error import SourceError
from tests.data.sources import labels, random_image, read_split, write

MASK = labels((2, 2, 10, 9)) > 0


def good(name):
    return lambda: LabeledImage(name, random_image(), [MASK])


def bad(name):
    def read():
        raise SourceError(f"{name} is broken; fix it")

    return read


def files(output):
    return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}


def convert(output, **splits):
    notes = ConversionNotes()
    readers = {split: [bad(n[1:]) if n.startswith("!") else good(n) for n in names] for split, names in splits.items()}
    write_instance_dataset(output, readers, ["cell"], notes)
    return notes


def test_second_run_leaves_no_stale_split_and_no_stale_image(tmp_path):
    output = tmp_path / "cells"
    convert(output, train=["a", "b"], val=["c", "!d"], test=["e"])
    write(output / "val" / "mine.txt", "kept")
    convert(output, train=["a", "c", "e"])
    annotations = {"annotations/cells_train.json"}
    assert files(output) == annotations | {"train/a.png", "train/c.png", "train/e.png", "val/mine.txt"}
    assert not (output / "test").exists()


def test_failed_second_run_changes_nothing(tmp_path):
    output = tmp_path / "cells"
    convert(output, train=["a"], val=["b"])
    before = files(output)
    with pytest.raises(SourceError):
        convert(output, train=["a"], val=["!b"])
    assert files(output) == before and len(read_split(output, "val")["images"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"cells"}


def test_split_that_ends_empty_is_an_error_with_the_reasons(tmp_path):
    with pytest.raises(SourceError, match="no image of the split 'val' could be used(.|\\n)*b is broken; fix it"):
        convert(tmp_path / "cells", train=["a"], val=["!b"])
    with pytest.raises(SourceError, match="no image of the source could be used(.|\\n)*a is broken(.|\\n)*b is broken"):
        convert(tmp_path / "cells", train=["!a"], val=["!b"])
    assert not list(tmp_path.iterdir())


def test_whole_list_of_what_was_left_out_lies_beside_the_dataset(tmp_path, capsys):
    output = tmp_path / "cells"
    notes = convert(output, train=["a", *(f"!{n}" for n in range(8))])
    assert notes.num_left_out == 8
    text = (output / NOTES_FILE).read_text()
    assert text.splitlines() == [f"left out: {n} is broken; fix it" for n in range(8)]
    printed = capsys.readouterr().out
    assert "... and 3 more" in printed and f"All of these: {output / NOTES_FILE}" in printed


def test_image_name_cannot_lead_outside_of_the_folder(tmp_path):
    writer = CocoWriter(tmp_path / "a" / "train", ["cell"])
    with pytest.raises(SourceError, match="would be written outside of"):
        writer.add("../../evil", np.zeros((4, 4, 3), np.uint8), [])
    assert not list(tmp_path.rglob("*.png"))
