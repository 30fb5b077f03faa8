import numpy as np
from detectron2.data import MetadataCatalog

from objguided_d2.report.panels import ERROR_KIND_COLORS, choose_images, panel_row
from objguided_d2.report.runs import load_run
from tests.report.conftest import DATASET


def test_each_rule_chooses_its_image_and_none_twice():
    accuracy = np.array([[0.9, 0.5, 0.1, 0.8, 0.6, 1.0, 0.55], [0.9, 0.5, 0.1, 0.2, 0.6, 1.0, 0.55]])
    chosen = choose_images(accuracy, np.array([5, 6, 7, 8, 90, 0, 9]))
    # By the mean: 0.9, 0.6, 0.55, 0.5, 0.5, 0.1 of images 0, 4, 6, 1, 3, 2; the last but one is empty.
    assert chosen == {"best": 0, "median": 6, "worst": 2, "largest disagreement": 3, "most crowded": 4}
    assert len(set(chosen.values())) == len(chosen) and 5 not in chosen.values()


def test_the_image_of_another_rule_gives_way_to_the_next_one_which_is_said():
    accuracy = np.array([[0.9, 0.5, 0.1, 0.4], [0.9, 0.5, 0.1, 0.4]])
    chosen = choose_images(accuracy, np.array([5, 6, 30, 20]))
    assert chosen == {"best": 0, "median": 1, "worst": 2, "next largest disagreement": 3}
    chosen = choose_images(np.append(accuracy, [[0.2], [0.3]], axis=1), np.array([5, 6, 30, 20, 25]))
    assert chosen["largest disagreement"] == 4 and chosen["next most crowded"] == 1


def test_few_images_give_few_rows():
    assert choose_images(np.array([[0.5, 0.7]]), np.array([0, 3])) == {"best": 1}
    assert choose_images(np.array([[0.5]]), np.array([0])) == {}


def test_row_has_truth_first_and_colors_by_kind(cells, tmp_path):
    _, ground_truth, paths = cells
    metadata = MetadataCatalog.get(DATASET)
    compared = {
        path.name: load_run(path, path.name, DATASET, ground_truth).compared_image(
            1, ground_truth, metadata, limit=500, score_threshold=0.3
        )
        for path in paths
    }
    for zoomed in (False, True):
        tiles = panel_row(compared, tmp_path / "val", "worst", zoomed=zoomed)
        assert [tile.caption for tile in tiles] == ["worst: image0, truth", "perfect", "shifted", "cellpose"]
        pixels = [set(map(tuple, tile.image.reshape(-1, 3).tolist())) for tile in tiles]
        assert (255, 255, 255) in pixels[0]
        assert ERROR_KIND_COLORS["correct"].rgb in pixels[1] and ERROR_KIND_COLORS["boundary"].rgb in pixels[2]
        assert ERROR_KIND_COLORS["merged"].rgb in pixels[3] or len(ground_truth.imgToAnns[1]) == 1
