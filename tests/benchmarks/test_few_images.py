"""The curves over numbers of images, with one step each of a tiny model."""

import json

import cv2
import pytest

from benchmarks import few_images
from benchmarks.few_images import AS_IT_IS, FINETUNED, SCRATCH, Result, curves_figure, format_table, main, plot_curves
from tests.finetuning.models import save_tiny_run


def result(start, count, draw, ap):
    return Result(start, count, draw, 1, 0.1, {"AP": ap, "AP50": ap, "F1@0.5": ap})


RESULTS = [
    result(AS_IT_IS, 0, 0, 10.0),
    *(result(FINETUNED, 1, draw, ap) for draw, ap in enumerate((30.0, 40.0))),
    *(result(SCRATCH, 1, draw, ap) for draw, ap in enumerate((1.0, 3.0))),
    result(FINETUNED, 50, 0, 50.0),
    result(SCRATCH, 50, 0, 45.0),
]


def test_the_table_has_means_spreads_and_fractions():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in format_table(RESULTS).splitlines()[2:]]
    assert rows == [
        ["0", "10.0", "", "", "20"],
        ["1", "35.0 ± 7.1", "2.0 ± 1.4", "2", "70"],
        ["50", "50.0", "45.0", "1", "100"],
    ]


def test_the_plot_is_a_picture(tmp_path):
    plot_curves({"a kind": RESULTS}, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 1
    titles = ["a kind", "another", "a third"]
    figure = curves_figure(dict.fromkeys(titles, RESULTS))
    assert [axes.get_title() for axes in figure.axes] == titles and len(figure.legends) == 1


def test_runs_are_made_once_and_more_of_them_come_to_the_same_folder(toy_data, tmp_path, monkeypatch, capsys):
    model, output = save_tiny_run(tmp_path / "model"), tmp_path / "few"
    command = ["--model", str(model), "--train", "toy_train", "--test", "toy_val", "--output", str(output)]
    command += ["--draws", "1", "--steps", "1"]
    assert main([*command, "--counts", "1"]) == 0
    runs = json.loads((output / "few_images.json").read_text())["runs"]
    assert [(run["start"], run["count"]) for run in runs] == [(AS_IT_IS, 0), (FINETUNED, 1), (SCRATCH, 1)]
    assert (output / "few_images.png").is_file() and "| 1 " in (output / "few_images.md").read_text()

    asked = []

    def instead(model, data, output, **settings):
        asked.append((len(json.loads(data.json_file.read_text())["images"]), settings["from_scratch"]))
        raise few_images.FinetuneError("no time")

    monkeypatch.setattr(few_images, "finetune_coco", instead)
    assert main([*command, "--counts", "1"]) == 0 and not asked
    assert main([*command, "--draws", "2", "--scratch-draws", "1", "--counts", "1"]) == 1 and asked == [(1, False)]
    asked.clear()
    assert main([*command, "--counts", "1", "all"]) == 1 and asked == [(7, False)]
    assert "error: no time" in capsys.readouterr().err
    assert main([*command, "--counts", "1", "--only", "2"]) == 1
    assert "another only" in capsys.readouterr().err
    assert main([*command, "INPUT.COPY_PASTE_PROB", "0.5"]) == 1
    assert "another options" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--train", "--test"])
def test_a_dataset_that_is_not_there_is_one_line(tmp_path, toy_data, name, capsys):
    given = {"--model": "none", "--train": "toy_train", "--test": "toy_val", "--output": str(tmp_path), name: "nothing"}
    assert main([part for pair in given.items() for part in pair]) == 1
    assert "nothing" in capsys.readouterr().err
