"""One image, many images, and the numbers of an evaluation."""

import contextlib
import json
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from PIL import Image

from objguided_d2.data import register_objguided_instances
from objguided_d2.engine.trainer import Trainer
from objguided_d2.evaluation import build_evaluator
from objguided_d2.inference import preparation
from objguided_d2.inference.filters import Filters
from objguided_d2.inference.instances import to_instances, to_objects
from objguided_d2.inference.model_info import ModelInfo
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.preparation import ArraySource
from objguided_d2.inference.resample import MOST_PIXELS
from tests.inference.models import textured_image


@pytest.fixture(scope="module")
def predictor(busy_run):
    cfg, model, _ = busy_run
    return Predictor(cfg, model, info=ModelInfo(("nucleus",), 0.3, 0.5, 1.0, 10.0))


def boxes(prediction):
    return prediction.objects.boxes.tolist()


def test_axes_and_types_of_the_same_image_give_the_same_objects(predictor):
    gray = textured_image(64, 80)[..., 0]
    expected = boxes(predictor(gray))
    assert expected
    color = np.repeat(gray[..., None], 3, axis=2)
    for image, axis in (
        (gray[..., None], None),
        (color, None),
        (color.transpose(2, 0, 1), 0),
        (color.transpose(0, 2, 1), 1),
        (torch.from_numpy(color), -1),
    ):
        assert boxes(predictor(image, channel_axis=axis)) == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.uint64, np.float16, np.float32, np.float64, ">u2"])
def test_deeper_images_are_mapped_by_their_percentiles(predictor, dtype):
    gray = textured_image(64, 80)[..., 0]
    low, high = np.percentile(gray, [0.1, 99.9])
    mapped = np.rint(np.clip((gray.astype(np.float32) - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    expected = predictor(mapped)
    deep = predictor(gray.astype(dtype))
    assert abs(len(deep) - len(expected)) <= 2 and len(expected) > 5


def test_what_is_no_image_is_told(predictor):
    image = textured_image(32, 32)
    for bad, options, message in (
        (np.zeros((2, 3, 4, 5)), {}, "neither .H, W. nor"),
        (np.zeros(5), {}, "neither .H, W. nor"),
        (image.transpose(2, 0, 1), {}, "channel_axis=0"),
        (np.zeros((32, 32, 5)), {}, "5 channels"),
        (np.zeros((32, 32, 4), np.uint8), {}, "4 channels.*of RGBA the first 3"),
        (np.zeros((0, 32)), {}, "no pixels"),
        (np.zeros((32, 32), complex), {}, "complex"),
        (np.array([["a"]]), {}, "holds numbers"),
        ([[1, 2], [3]], {}, "image of type list cannot be read as an array"),
        (torch.zeros(32, 32, requires_grad=True), {}, "image of type Tensor cannot .*detach"),
        (torch.zeros(32, 32, dtype=torch.bfloat16), {}, "image of type Tensor cannot .*BFloat16"),
        (Image.fromarray(image).quantize(4), {}, "palette.*convert"),
        (image, {"channel_axis": 5}, "channel_axis=5"),
        (np.full((32, 32), np.nan), {}, "finite"),
        (np.ma.masked_greater(image, 100), {}, "masked array .*filled"),
        (image, {"scale": -1.0}, "^scale: -1.0 must be a number above 0"),
        (image, {"pixel_size": "x"}, "^pixel_size: .* above 0"),
        (image, {"pixel_size": "25"}, "^pixel_size: '25' must be a number above 0"),
        (image, {"scale": "12"}, "^scale: '12' must be a number above 0"),
        (image, {"diameter": "35"}, "^diameter: '35' must be one number above 0, or 'auto'"),
        (image, {"diameter": (30, 60)}, "^diameter: .30, 60. must be one number above 0"),
        (image, {"channel_axis": "0"}, "^channel_axis='0' is not valid"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor(bad, **options)


def test_a_constant_image_and_one_pixel_are_predicted(predictor):
    for image in (np.zeros((40, 40)), np.zeros((1, 1), np.uint8), np.full((33, 1, 3), 7, np.uint16)):
        assert predictor(image).objects.shape == image.shape[:2]


def test_nan_is_black(predictor):
    image = textured_image(64, 64)[..., 0].astype(np.float32)
    image[:8] = np.nan
    filled = np.where(np.isnan(image), np.nanmin(image) - 1, image)
    prepared, expected = predictor.prepare(image), predictor.prepare(filled)
    assert (prepared.whole[:, :8] == 0).all()
    assert (prepared.whole[:, 8:].float() - expected.whole[:, 8:].float()).abs().max() <= 3


def test_a_band_of_nan_alone_is_black(predictor, monkeypatch):
    image = textured_image(64, 64)[..., 0].astype(np.float32)
    image[:16] = np.nan
    expected = predictor.prepare(image).whole
    monkeypatch.setattr(preparation, "MOST_PIXELS", 8 * 64)
    assert torch.equal(predictor.prepare(image).whole, expected)


def test_threads_that_share_a_model_take_turns_and_leave_it_as_it_was(predictor):
    model, running, most = predictor.model, [], []

    def begin(*_):
        running.append(None)
        most.append(len(running))
        time.sleep(0.05)

    image, settings = textured_image(40, 40), model.proposal_generator.score_thresh
    hooks = [model.register_forward_pre_hook(begin), model.register_forward_hook(lambda *_: running.pop())]
    threads = [threading.Thread(target=predictor, args=(image,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for hook in hooks:
        hook.remove()
    assert most == [1, 1]
    assert (model.mask_format, model.proposal_generator.score_thresh) == ("dense", settings)


def test_batches_and_streams_give_what_single_calls_give(predictor):
    images = [textured_image(64, 64, seed) for seed in range(3)] + [textured_image(40, 70, 9)]
    single = [boxes(predictor(image)) for image in images]
    assert [boxes(p) for p in predictor.predict_batch(images)] == single
    assert [boxes(p) for p in predictor.predict_stream(iter(images), batch_size=2)] == single
    assert predictor.predict_batch([]) == []


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "2"])
def test_a_stream_without_whole_batches_is_refused(predictor, batch_size):
    with pytest.raises(ValueError, match="^batch_size="):
        next(predictor.predict_stream([textured_image(32, 32)], batch_size=batch_size))


@pytest.mark.parametrize("ahead", [0, -1, "2"])
def test_a_stream_that_prepares_no_image_ahead_is_refused(predictor, ahead):
    with pytest.raises(ValueError, match="^ahead="):
        next(predictor.predict_stream([textured_image(32, 32)], ahead=ahead))


def test_an_error_in_a_stream_comes_at_its_image_and_ends_the_thread(predictor):
    stream = predictor.predict_stream([textured_image(32, 32), np.zeros(3), textured_image(32, 32)])
    next(stream)
    with pytest.raises(ValueError, match="neither"):
        next(stream)


def test_a_larger_image_and_its_tiles_may_hold_more_objects_than_one_of_the_config_s_size(busy_run):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.CENTER_HEAD.TOPK, cfg.TEST.DETECTIONS_PER_IMAGE = 32, 3, 2
    few = build_model(cfg).eval()
    few.load_state_dict(model.state_dict())
    image = textured_image(128, 96)
    untiled, tiled = (Predictor(cfg, few, tile=tile, halo=32) for tile in (0, 32))
    assert len(untiled(image)) <= 2
    assert len(untiled(image, scale=1)) > 10 < len(tiled(image, scale=1))
    assert (few.proposal_generator.topk, few.roi_heads.max_detections) == (3, 2)
    for key in ("TEST_SCALE", "MIN_SCALE_TEST"):
        keeps_scale = cfg.clone()
        keeps_scale.INPUT[key] = 1.0
        for tile in (0, 32):
            assert len(Predictor(keeps_scale, few, tile=tile, halo=32)(image)) > 10


def test_an_image_that_reaches_the_limits_is_told_in_one_piece_and_in_tiles(busy_run, caplog):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    # The config's size has an eighth of the image's pixels.
    cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.CENTER_HEAD.TOPK, cfg.TEST.DETECTIONS_PER_IMAGE = 34, 1, 500
    few = build_model(cfg).eval()
    few.load_state_dict(model.state_dict())
    image = textured_image(128, 96)
    for tile in (0, 32):
        caplog.clear()
        predictor = Predictor(cfg, few, tile=tile, halo=32)
        prediction = predictor(image, scale=1)
        assert prediction.at_limit
        (message,) = [record.getMessage() for record in caplog.records if "limits" in record.getMessage()]
        assert f"An image of 128 x 96 may hold more than the {len(prediction)} objects found" in message
    caplog.clear()
    assert not Predictor(cfg, model)(image, scale=1).at_limit and "limits" not in caplog.text


def test_orientations_are_averaged_while_a_predictor_predicts_and_no_longer(busy_run, monkeypatch):
    cfg, model, _ = busy_run
    # Averages of a model of random weights are near the mean.
    monkeypatch.setattr(model.proposal_generator, "score_thresh", 0.05)
    image = textured_image(64, 64)
    # The average over all eight ways to lay an image is the same for the image laid in another.
    predictor, every = (Predictor(cfg, model, score_threshold=0.0, orientations=count) for count in (None, 8))
    straight, turned = every(image), every(np.ascontiguousarray(np.rot90(image)))
    assert len(straight) == len(turned) > 5
    np.testing.assert_allclose(np.sort(straight.objects.scores), np.sort(turned.objects.scores), atol=1e-4)
    assert len(model.orientations) == predictor.orientations == 1 and every.orientations == 8
    one = predictor(image)
    assert len(one) != len(straight) or not np.allclose(one.objects.scores, straight.objects.scores, atol=1e-4)
    with pytest.raises(ValueError, match="orientations=3"):
        Predictor(cfg, model, orientations=3)


def test_masks_survive_the_way_to_instances_and_back(predictor):
    prediction = predictor(textured_image(64, 80))
    objects, kept = to_objects(to_instances(prediction.objects), ("nucleus",))
    assert kept.tolist() == list(range(len(prediction)))
    assert objects.boxes.tolist() == boxes(prediction)
    assert all((a == b).all() for a, b in zip(objects.masks, prediction.objects.masks))
    dense = to_instances(prediction.objects)
    dense.pred_masks = dense.pred_masks.tensor
    again, _ = to_objects(dense, ("nucleus",))
    assert again.boxes.tolist() == boxes(prediction)


def test_filters_do_what_they_say():
    image = np.zeros((20, 30), bool)
    ring = image.copy()
    ring[5:12, 5:12] = True
    ring[7:9, 7:9] = False
    pieces = image.copy()
    pieces[2:5, 15:18] = pieces[10:11, 25:27] = True
    border = image.copy()
    border[15:20, 0:4] = True
    masks = torch.from_numpy(np.stack([ring, pieces, border]))
    instances = Instances(
        (20, 30),
        pred_masks=masks,
        pred_boxes=Boxes(torch.zeros(3, 4)),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        pred_classes=torch.zeros(3, dtype=torch.int64),
    )
    objects, _ = to_objects(instances, ("a",))

    def left(**options):
        filtered, kept = Filters(**options)(objects)
        return kept.tolist(), [int(mask.sum()) for mask in filtered.masks], filtered.boxes.tolist()

    assert left() == ([0, 1, 2], [45, 11, 20], [[5, 5, 12, 12], [15, 2, 27, 11], [0, 15, 4, 20]])
    assert left(fill_holes=True)[1] == [49, 11, 20]
    assert left(largest_piece=True)[1:] == ([45, 9, 20], [[5, 5, 12, 12], [15, 2, 18, 5], [0, 15, 4, 20]])
    assert left(exclude_border=True)[0] == [0, 1]
    assert left(min_area=12, max_area=40)[0] == [2]
    assert [mask.sum() for mask in objects.masks] == [45, 11, 20]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Name of a registered dataset of two images of random squares."""
    folder = tmp_path_factory.mktemp("dataset")
    images, annotations = [], []
    for i in (1, 2):
        cv2.imwrite(str(folder / f"{i}.png"), textured_image(64, 80, i))
        images.append({"id": i, "file_name": f"{i}.png", "width": 80, "height": 64})
        for x, y in ((5, 5), (30, 14), (50, 40)):
            corners = [x, y, x + 13, y, x + 13, y + 13, x, y + 13]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": 1, "bbox": [x, y, 13, 13], "area": 169}
                | {"iscrowd": 0, "segmentation": [corners]}
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    name = f"squares_of_{folder.name}"
    register_objguided_instances(name, str(folder / "annotations.json"), str(folder))
    return name


@pytest.mark.parametrize("intensity, min_size", [("", 0), ("percentile:1,99", 90)])
def test_predicting_a_test_set_and_evaluating_gives_the_numbers_of_an_evaluation(
    busy_run, dataset, tmp_path, intensity, min_size
):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    cfg.DATASETS.TEST, cfg.OUTPUT_DIR, cfg.DATALOADER.NUM_WORKERS = (dataset,), str(tmp_path), 0
    cfg.TEST.EVALUATORS = ["coco", "matching"]
    cfg.INPUT.INTENSITY, cfg.INPUT.MIN_SIZE_TEST = intensity, min_size
    expected = Trainer.test(cfg, model)

    evaluator = build_evaluator(cfg, dataset, str(tmp_path / "again"))
    evaluator.reset()
    predictor = Predictor(cfg, model, score_threshold=0)
    for record in DatasetCatalog.get(dataset):
        image = cv2.imread(record["file_name"], cv2.IMREAD_COLOR)[..., ::-1]
        evaluator.process([record], [{"instances": predictor(image).instances}])
    results = evaluator.evaluate()

    assert json.dumps(results) == json.dumps(expected)
    files = [
        folder / "coco_instances_results.json" for folder in (tmp_path / "inference" / dataset, tmp_path / "again")
    ]
    one, other = (json.loads(file.read_text()) for file in files)
    assert one == other and len(one) > 10


def test_float16_of_the_training_is_left_out_where_there_is_no_gpu(busy_run):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    cfg.SOLVER.AMP.ENABLED = True
    predictor = Predictor(cfg, model)
    if predictor.device.type == "cpu":
        assert isinstance(predictor._precision(), contextlib.nullcontext)
    cfg.SOLVER.AMP.PRECISION = "bfloat16"
    assert isinstance(predictor._precision(), torch.autocast)


def test_the_hash_tells_models_apart(busy_run):
    cfg, model, _ = busy_run
    other = cfg.clone()
    other.INPUT.MIN_SIZE_TEST = 99
    moved = cfg.clone()
    moved.OUTPUT_DIR, moved.MODEL.WEIGHTS = "/elsewhere", "x.pth"
    hashes = [Predictor(c, model).model_hash for c in (cfg, other, moved)]
    assert hashes[0] == hashes[2] != hashes[1]


def test_settings_that_cannot_work_are_refused(busy_run):
    cfg, model, _ = busy_run
    for name, values in (
        ("score_threshold", (1.5, "0.5", float("nan"))),
        ("tile", (-1, "512", 64.5)),
        ("halo", (-1, "128", 0.5)),
        ("tile_batch", (0, "1", 1.5)),
        ("orientations", ("8", 8.0)),
    ):
        for value in values:
            with pytest.raises(ValueError, match=f"^{name}={value!r} is not valid"):
                Predictor(cfg, model, **{name: value})
    assert Predictor(cfg, model, score_threshold=np.float32(0.5), tile=np.int64(64)).tile == 64


def test_a_small_reduction_is_silent_and_a_strong_one_told(busy_run, caplog):
    cfg, model, _ = busy_run
    cfg = cfg.clone()
    cfg.INPUT.MIN_SIZE_TEST = 32
    predictor = Predictor(cfg, model)
    predictor.prepare(textured_image(40, 40))
    assert "reduced" not in caplog.text
    predictor.prepare(textured_image(100, 100))
    assert "100 x 100 is reduced to 32 x 32" in caplog.text


def test_a_large_image_that_is_reduced_to_one_piece_is_read_in_parts(predictor, monkeypatch):
    sizes = []

    class Recorded(ArraySource):
        def read(self, y0, x0, y1, x1):
            sizes.append((y1 - y0) * (x1 - x0))
            return super().read(y0, x0, y1, x1)

    image = np.kron(textured_image(160, 160)[..., 0], np.ones((16, 16), np.uint8))
    in_parts = predictor.prepare(Recorded(image), scale=1 / 16).whole
    assert len(sizes) > 1 and max(sizes) <= MOST_PIXELS < image.size
    monkeypatch.setattr(preparation, "MOST_PIXELS", image.size)
    assert torch.equal(in_parts, predictor.prepare(image, scale=1 / 16).whole)
