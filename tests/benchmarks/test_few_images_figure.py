"""One picture of the results in several folders."""

from dataclasses import asdict

import cv2
import pytest

from benchmarks.few_images_figure import main, read_results
from objguided_d2.utils.atomic_write import write_json
from tests.benchmarks.test_few_images import RESULTS


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / "few" / "few_images.json", {"runs": [asdict(result) for result in RESULTS]})
    return tmp_path / "few"


def test_a_panel_for_each_folder(folder, tmp_path):
    assert read_results(folder) == RESULTS
    widths = []
    for titles in (["a = b"], ["a = b", "cells"]):
        path = tmp_path / "curves.png"
        assert main([*(f"{title}={folder}" for title in titles), "--output", str(path)]) == 0
        widths.append(cv2.imread(str(path)).shape[1])
    assert widths[1] > widths[0]


def test_what_cannot_be_drawn_is_one_line(folder, tmp_path, capsys):
    output = ["--output", str(tmp_path / "curves.png")]
    assert main([str(folder), *output]) == 1
    assert f"TITLE={folder}" in capsys.readouterr().err
    assert main(["a=none", *output]) == 1
    assert "none/few_images.json" in capsys.readouterr().err
    (folder / "few_images.json").write_text('{"runs": [{}]}')
    assert main([f"a={folder}", *output]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()
