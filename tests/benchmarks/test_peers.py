"""What the peers share: data, label images, and workers that are timed in turn. The methods themselves need their own
environment (benchmarks/peers/README.md)."""

import io
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from benchmarks.peers import predict
from benchmarks.peers.dataset import LabeledImage, hold_out, image_files, paint_labels, read_dataset, write_labels
from benchmarks.peers.drawn_cells import draw_cells, write_cells
from benchmarks.peers.methods import count_steps
from benchmarks.peers.time_inference import HEADERS, main, measure
from benchmarks.peers.worker import Worker, serve
from objguided_d2.utils.rle import encode_mask

# Answers each line with its number of characters and a peak of 7 MiB, and ends without an answer when it reads "end".
ECHO = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "end":
        sys.exit(3)
    print(len(line.strip()), 7, flush=True)
"""


def rectangle(top, bottom, left, right, size=(10, 14)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def coco(tmp_path):
    """Two images, the second without objects, and their annotations with a crowd."""
    masks = [rectangle(0, 6, 0, 6), rectangle(2, 4, 4, 9), rectangle(5, 9, 9, 14)]
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "iscrowd": int(k == 3), "segmentation": encode_mask(mask)}
        | {"area": int(mask.sum()), "bbox": [0, 0, 1, 1]}
        for k, mask in enumerate(masks, start=1)
    ]
    images = [{"id": n, "file_name": f"image_{n}.png", "height": 10, "width": 14} for n in (1, 2)]
    (tmp_path / "images").mkdir()
    for n in (1, 2):
        cv2.imwrite(str(tmp_path / "images" / f"image_{n}.png"), np.full((10, 14, 3), (3, 2, n), np.uint8))
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "cells.json").write_text(json.dumps(content))
    return tmp_path / "cells.json", tmp_path / "images"


def test_dataset_holds_rgb_images_and_labels_without_crowds(coco):
    first, second = read_dataset(*coco)
    assert first.image[0, 0].tolist() == [1, 2, 3] and second.image[0, 0].tolist() == [2, 2, 3]
    assert np.array_equal(first.labels == 2, rectangle(2, 4, 4, 9))
    assert np.array_equal(first.labels == 1, rectangle(0, 6, 0, 6) & ~rectangle(2, 4, 4, 9))
    assert first.labels.max() == 2 and not second.labels.any()
    assert len(read_dataset(*coco, limit=1)) == 1
    assert [file.name for file in image_files(*coco)] == ["image_1.png", "image_2.png"]


def test_an_image_of_another_size_and_one_that_is_none_are_refused(coco):
    cv2.imwrite(str(coco[1] / "image_2.png"), np.zeros((11, 14, 3), np.uint8))
    with pytest.raises(ValueError, match=r"image_2.png is \(11, 14\)"):
        read_dataset(*coco)
    (coco[1] / "image_2.png").write_text("text")
    with pytest.raises(ValueError, match="image_2.png cannot be read"):
        read_dataset(*coco)


def test_the_smaller_object_lies_above_and_keeps_its_number():
    large, small = rectangle(0, 8, 0, 8), rectangle(2, 5, 2, 5)
    for masks in ([large, small], [small, large]):
        labels = paint_labels(masks, (10, 14))
        assert (labels[small] == 1 + [m is small for m in masks].index(True)).all()
        assert np.count_nonzero(labels) == 64
    assert not paint_labels([], (10, 14)).any()


@pytest.mark.parametrize("number, held", [(2, [1]), (10, [9]), (25, [9, 19]), (30, [9, 19, 29])])
def test_every_tenth_image_is_held_out_and_one_at_least(number, held):
    data = [LabeledImage(np.full(1, k), np.zeros(1)) for k in range(number)]
    training, validation = hold_out(data)
    assert [int(one.image[0]) for one in validation] == held and len(training) + len(held) == number
    assert not {int(one.image[0]) for one in training} & set(held)
    with pytest.raises(ValueError, match="one more to validate with"):
        hold_out(data[:1])


def test_label_images_are_16_bits_deep(tmp_path):
    labels = np.arange(12, dtype=np.int32).reshape(3, 4) * 5000
    write_labels(tmp_path / "new" / "a.tif", labels)
    written = tifffile.imread(tmp_path / "new" / "a.tif")
    assert written.dtype == np.uint16 and np.array_equal(written, labels)
    with pytest.raises(ValueError, match="65536 objects"):
        write_labels(tmp_path / "b.tif", np.array([[65536]]))


def test_a_resumed_call_predicts_what_the_first_left_and_any_other_all(coco, tmp_path, monkeypatch):
    seen = []

    def find_one_object(image):
        seen.append(int(image[0, 0, 0]))
        if len(seen) == 2:
            raise OSError("no space left")
        return np.ones(image.shape[:2], np.int32)

    monkeypatch.setattr(predict, "load", lambda *_: find_one_object)
    paths = ["--annotations", str(coco[0]), "--images", str(coco[1]), "--output", str(tmp_path / "out")]
    arguments = ["stardist", "--model", "m", "--resume", *paths]
    assert [predict.main(arguments), predict.main(arguments)] == [1, 0]
    assert seen == [1, 2, 2]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["image_1.tif", "image_2.tif"]
    arguments.remove("--resume")
    assert predict.main(arguments) == 0 and seen == [1, 2, 2, 1, 2]


def test_steps_fill_the_minutes():
    assert count_steps(2400, 6.5) == 369 and count_steps(1, 6.5) == 1
    with pytest.raises(ValueError, match="quiet machine"):
        count_steps(60, -0.1)


def test_a_worker_reads_each_image_once_and_answers_with_the_number_of_objects():
    read, answers = [], io.StringIO()

    def read_image(path):
        read.append(path)
        return np.full((4, 4, 3), int(path.name))

    serve(lambda image: np.arange(16).reshape(4, 4) % image[0, 0, 0], read_image, io.StringIO("3\n5\n3\n"), answers)
    ready, *lines = answers.getvalue().splitlines()
    objects, peaks = zip(*map(str.split, lines))
    assert ready == "ready" and objects == ("2", "4", "2") and read == [Path("3"), Path("5")]
    assert 1 < float(peaks[0]) <= float(peaks[2])


def test_workers_answer_in_interleaved_rounds():
    workers = {name: Worker([sys.executable, "-c", ECHO]) for name in ("a", "b")}
    rows = [
        dict(zip(HEADERS, row, strict=True))
        for row in measure(workers, "two", [Path("x/abc"), Path("x/abcde")], rounds=2)
    ]
    for worker in workers.values():
        worker.close()
    assert [row["method"] for row in rows] == ["a", "b"] and rows[0]["of the first"] == "1.00 x"
    for row in rows:
        assert (row["images"], row["objects"], row["peak MiB"]) == ("two", "12", "7") and float(row["images/s"]) > 0


@pytest.mark.parametrize("side, number, diameter", [(96, 5, 19.2), (256, 20, 30)])
def test_drawn_images_have_so_many_separate_objects(tmp_path, side, number, diameter):
    ((name, (file,)),) = write_cells(tmp_path, [side], [number]).items()
    assert name == f"{side} x {side}, {number} objects"
    image = cv2.imread(str(file))
    assert image.shape == (side, side, 3) and np.array_equal(image, draw_cells(side, number))
    count, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 55).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    assert count - 1 == number
    assert np.median(areas) == pytest.approx(np.pi * diameter**2 / 4, rel=0.3)


def test_a_worker_that_ends_is_an_error():
    worker = Worker([sys.executable, "-c", ECHO])
    with pytest.raises(RuntimeError, match="ended with status 3"):
        worker.predict(Path("end"))
    worker.close()
    with pytest.raises(RuntimeError, match="ended with status 1"):
        Worker([sys.executable, "-c", "raise SystemExit(1)"])


def test_unknown_methods_and_empty_folders_are_refused(tmp_path, capsys):
    for arguments, text in ((["python", "other", "m"], "no method other"), (["python", "stardist", "m"], "no images")):
        with pytest.raises(SystemExit):
            main(["--images", str(tmp_path), "--method", *arguments])
        assert text in capsys.readouterr().err
