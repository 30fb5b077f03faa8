"""Runs over folders: what is written, skipped, reported and gone on with."""

import csv
import json
import os
import signal
import sys
import time

import cv2
import numpy as np
import pytest
import tifffile
import torch

from objguided_d2.data.source_error import SourceError
from objguided_d2.inference import file_pipeline
from objguided_d2.inference import run as run_module
from objguided_d2.inference.file_pipeline import PredictSettings
from objguided_d2.inference.filters import Filters
from objguided_d2.inference.predict_command import main
from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.run import list_files, of_shard, predict_files, watch_files
from tests.inference.models import textured_image


@pytest.fixture(scope="module")
def predictor(busy_run):
    cfg, model, _ = busy_run
    return Predictor(cfg, model)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "a b" / "ü").mkdir(parents=True)
    for i, name in enumerate(("one.png", "a b/two.png", "a b/ü/three.png")):
        cv2.imwrite(str(folder / name), textured_image(40, 48, i))
    return folder


def files_in(folder):
    """Outputs by name, without records and reports, which hold times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".objguided" not in path.parts and path.name != "run.json"
    }


def run(predictor, inputs, output, *save, **options):
    settings = PredictSettings(save=save or ("labels",))
    return predict_files([inputs], predictor, output, settings, progress=False, **options)


def test_outputs_keep_names_and_folders_and_hold_the_objects(predictor, images, tmp_path):
    summary = run(predictor, images, tmp_path / "out", "labels", "table")
    assert summary.exit_code == 0 and summary.count("done") == 3
    names = set(files_in(tmp_path / "out"))
    assert names == {
        f"{stem}{ending}" for stem in ("one", "a b/two", "a b/ü/three") for ending in (".labels.tif", ".csv")
    }
    labels = tifffile.imread(tmp_path / "out" / "a b" / "two.labels.tif")
    image = cv2.imread(str(images / "a b" / "two.png"))[..., ::-1]
    np.testing.assert_array_equal(labels, predictor(image).labels)
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert report["files"]["one.png"]["status"] == "done" and report["model"]["sha256"] == predictor.model_hash
    assert report["files"]["a b/two.png"]["num_objects"] == labels.max() > 0
    assert report["versions"]["torch"] and report["settings"]["score_threshold"] == predictor.score_threshold


def test_done_files_are_skipped_until_they_or_the_settings_change(predictor, images, tmp_path):
    output = tmp_path / "out"
    run(predictor, images, output)
    before = files_in(output)
    assert run(predictor, images, output).count("skipped") == 3
    cv2.imwrite(str(images / "one.png"), textured_image(40, 48, 7))
    (output / "a b" / "two.labels.tif").unlink()
    again = run(predictor, images, output)
    assert (again.count("skipped"), again.count("done")) == (1, 2)
    after = files_in(output)
    assert after["a b/two.labels.tif"] == before["a b/two.labels.tif"]
    assert after["one.labels.tif"] != before["one.labels.tif"]
    settings = PredictSettings(save=("labels",), filters=Filters(min_area=20))
    assert predict_files([images], predictor, output, settings, progress=False).count("done") == 3


def test_orientations_and_reached_limits_stand_in_run_json_and_other_orientations_predict_anew(
    busy_run, images, tmp_path, monkeypatch
):
    cfg, model, _ = busy_run
    monkeypatch.setattr(model.proposal_generator, "topk", 1)
    once, twice = (Predictor(cfg, model, orientations=count) for count in (1, 2))
    for predictor, status in ((once, "done"), (once, "skipped"), (twice, "done"), (twice, "skipped")):
        assert run(predictor, images, tmp_path / "out").count(status) == 3
        report = json.loads((tmp_path / "out" / "run.json").read_text())
        assert report["settings"]["orientations"] == predictor.orientations
        assert all(result["at_limit"] for result in report["files"].values())


def test_a_bad_file_is_reported_and_the_rest_goes_on(predictor, images, tmp_path):
    (images / "cut.png").write_bytes((images / "one.png").read_bytes()[:500])
    (images / "empty.png").write_bytes(b"")
    (images / "text.tif").write_text("text")
    tifffile.imwrite(images / "five.tif", np.zeros((32, 32, 5), np.uint8), planarconfig="contig")
    summary = run(predictor, images, tmp_path / "out")
    assert summary.exit_code == 2 and summary.count("done") == 3 and summary.count("failed") == 4
    with open(tmp_path / "out" / "errors.csv", newline="") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"cut.png", "empty.png", "text.tif", "five.tif"}
    assert "empty" in reasons["empty.png"] and all(reasons.values())
    for name in ("cut.png", "empty.png", "text.tif", "five.tif"):
        (images / name).unlink()
    assert run(predictor, images, tmp_path / "out").exit_code == 0
    assert not (tmp_path / "out" / "errors.csv").exists()


def test_a_failure_of_the_network_or_of_writing_is_one_of_its_file(predictor, images, tmp_path, monkeypatch):
    whole = Predictor.predict_prepared
    monkeypatch.setattr(
        Predictor,
        "predict_prepared",
        lambda self, batch: 1 / 0 if batch[0].source.path.name == "two.png" else whole(self, batch),
    )
    summary = run(predictor, images, tmp_path / "out")
    assert summary.files["a b/two.png"].reason == "division by zero" and summary.count("done") == 2


def test_an_image_that_is_too_much_for_the_gpu_fails_alone_with_what_takes_less(
    predictor, images, tmp_path, monkeypatch
):
    whole = Predictor.predict_prepared

    def predict(self, batch):
        if batch[0].source.path.name == "two.png":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        return whole(self, batch)

    monkeypatch.setattr(Predictor, "predict_prepared", predict)
    summary = run(predictor, images, tmp_path / "out")
    assert "give a smaller --tile or --device cpu" in summary.files["a b/two.png"].reason and summary.count("done") == 2


def test_a_killed_run_goes_on_to_the_outputs_of_an_uninterrupted_one(predictor, images, tmp_path, monkeypatch):
    run(predictor, images, tmp_path / "whole", "labels", "table")

    class Killed(BaseException):
        pass

    def write_half(objects, path, image=None):
        """What a process leaves that is killed while it writes the second file."""
        if "three" in path.name:
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_name(f".{path.stem}.123-0a1b2c3d4e5f6071{path.suffix}")
            half.write_bytes(b"half")
            os.utime(half, (0, 0))  # The next call comes later.
            raise Killed
        whole(objects, path, image=image)

    whole = file_pipeline.WRITERS["labels"].write
    with monkeypatch.context() as patch:
        patch.setattr(file_pipeline, "writer_of", lambda name, shape, write: write_half if name == "labels" else write)
        with pytest.raises(Killed):
            run(predictor, images, tmp_path / "out", "labels", "table")
    summary = run(predictor, images, tmp_path / "out", "labels", "table")
    assert summary.count("done") >= 1
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_shards_share_all_files_and_give_what_one_run_gives(predictor, images, tmp_path):
    run(predictor, images, tmp_path / "whole")
    shards = [run(predictor, images, tmp_path / "out", shard=(i, 2)) for i in (1, 2)]
    assert sum(shard.count("done") for shard in shards) == 3
    outputs = files_in(tmp_path / "out")
    assert {"run-1of2.json", "run-2of2.json"} <= set(outputs)
    labels = {name: data for name, data in outputs.items() if name.endswith(".tif")}
    assert labels == {name: data for name, data in files_in(tmp_path / "whole").items() if name.endswith(".tif")}


def test_ctrl_c_ends_after_the_file_in_work(predictor, images, tmp_path, monkeypatch):
    whole = Predictor.predict_prepared

    def interrupted(self, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict_prepared", interrupted)
        summary = run(predictor, images, tmp_path / "out")
    assert summary.interrupted and summary.exit_code == 130 and summary.count("done") == 1
    assert signal.getsignal(signal.SIGINT) is before
    assert run(predictor, images, tmp_path / "out").count("done") == 2


def test_frames_are_written_one_by_one_and_time_points_for_ctc_in_one_folder(predictor, tmp_path):
    stack = np.stack([textured_image(40, 48, i)[..., 0] for i in range(3)])
    tifffile.imwrite(tmp_path / "movie.ome.tif", stack, metadata={"axes": "TYX"})
    summary = run(predictor, tmp_path / "movie.ome.tif", tmp_path / "out", "labels", "ctc")
    assert summary.exit_code == 0, summary.files
    (result,) = summary.files.values()
    masks = [name for name in result.outputs if name.rpartition("/")[2].startswith("mask")]
    assert [name.rpartition("/")[2] for name in masks] == ["mask000.tif", "mask001.tif", "mask002.tif"]
    assert len(result.outputs) == 6
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / masks[1]), predictor(stack[1]).labels)
    cv2.imwrite(str(tmp_path / "t007.png"), textured_image(40, 48))
    (result,) = run(predictor, tmp_path / "t007.png", tmp_path / "other", "ctc").files.values()
    assert result.outputs == ["mask007.tif"]


def test_frames_can_be_chosen_where_the_others_lack_the_channel(predictor, tmp_path):
    stack = np.stack([textured_image(40, 48, i)[..., 0] for i in range(2)])
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(stack[0], metadata={"axes": "YX", "Name": "overview"})
        writer.write(stack, metadata={"axes": "CYX", "Name": "field"}, photometric="minisblack")
    settings = PredictSettings(save=("labels", "ctc"), channels="1", frames="field")
    (result,) = predict_files([tmp_path], predictor, tmp_path / "out", settings, progress=False).files.values()
    assert result.outputs == ["a.ome_field.labels.tif", "a.ome/mask001.tif"]
    labels = tifffile.imread(tmp_path / "out" / "a.ome_field.labels.tif")
    np.testing.assert_array_equal(labels, predictor(stack[1]).labels)
    for frames, reason in ((None, "frame overview (--frames), has no channel '1'"), ("0,9", "has no frame '9'")):
        settings = PredictSettings(channels="1", frames=frames)
        (result,) = predict_files([tmp_path], predictor, tmp_path / "out", settings, progress=False).files.values()
        assert result.status == "failed" and reason in result.reason


def test_results_below_the_inputs_are_no_inputs(predictor, images):
    assert run(predictor, images, images / "out", "overlay").count("done") == 3
    again = run(predictor, images, images / "out", "overlay")
    assert len(again.files) == 3 and again.count("skipped") == 3


def test_a_watched_folder_is_predicted_as_files_arrive(predictor, images, tmp_path, monkeypatch):
    past = time.time() - 60
    for path in images.rglob("*.png"):
        os.utime(path, (past, past))
    looks = []

    def arrive(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            cv2.imwrite(str(images / "late.png"), textured_image(40, 48, 5))
            cv2.imwrite(str(images / "growing.png"), textured_image(40, 48, 6))
            os.utime(images / "late.png", (past, past))

    monkeypatch.setattr(run_module.time, "sleep", arrive)
    settings = PredictSettings(save=("labels",))
    summary = watch_files([images], predictor, tmp_path / "out", settings, settle=30, max_rounds=3, progress=False)
    assert looks == [2.0, 2.0]
    assert summary.count("done") == 4 and "growing.png" not in summary.files
    report = json.loads((tmp_path / "out" / "run.json").read_text())
    assert len(report["files"]) == 4


def test_missing_inputs_and_unknown_formats_are_told(predictor, tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        run(predictor, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(ValueError, match="no output format jpeg; choose of labels"):
        PredictSettings(save=("jpeg",))
    for name, value in (
        ("diameter", -3),
        ("diameter", "35"),
        ("diameter", (30, 60)),
        ("scale", "2"),
        ("scale", "auto"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: .* above 0"):
            PredictSettings(**{name: value})
    with pytest.raises(ValueError, match="frames: no frame is named"):
        PredictSettings(frames="")
    with pytest.raises(ValueError, match="does not know the diameter"):
        predict_files([tmp_path], predictor, tmp_path / "out", PredictSettings(diameter="auto"), progress=False)


def test_the_command_predicts_with_a_run_folder(busy_run, images, tmp_path, capsys):
    _, _, folder = busy_run
    arguments = [str(images), "--model", str(folder), "--output", str(tmp_path / "out"), "--device", "cpu", "--quiet"]
    assert main([*arguments, "--save", "labels,table", "--score", "0.5"]) == 0
    assert "3 files predicted" in capsys.readouterr().out
    (images / "bad.png").write_bytes(b"")
    assert main([*arguments, "--save", "labels", "table", "--score", "0.5"]) == 2
    assert "3 done before, 1 failed" in capsys.readouterr().out
    (images / "bad.png").unlink()
    assert main([*arguments, "--save", "labels", "--score", "0.5", "--orientations", "2"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["orientations"] == 2


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--scale", "big"], 2, "--scale takes a number or config, not big"),
        (["--diameter", "-1"], 2, "diameter"),
        (["--shard", "3/2"], 2, "3/2 is not I/N"),
        (["--halo", "all"], 2, "all is neither a number of pixels nor full"),
        (["--watch", "--workers", "2"], 2, "--watch runs in one process"),
        (["--save", "jpeg"], 2, "invalid choice"),
        (["--workers", "²"], 2, "² is not a number of processes"),
        (["--orientations", "3"], 2, "invalid choice: 3"),
        ([], 1, "no_such_model"),
    ],
)
def test_arguments_that_cannot_work_are_errors_of_one_line(tmp_path, capsys, arguments, status, message):
    command = ["x.png", "--model", str(tmp_path / "no_such_model"), "--output", str(tmp_path / "out"), *arguments]
    try:
        code = main(command)
    except SystemExit as stop:
        code = stop.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == status and message in last


def test_two_files_never_write_one_output(predictor, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    tifffile.imwrite(pages / "a.tif", np.stack([textured_image(40, 48, i) for i in range(2)]), photometric="rgb")
    tifffile.imwrite(pages / "a_p000.tif", textured_image(24, 32, 2), photometric="rgb")
    for _ in range(2):
        summary = run(predictor, pages, tmp_path / "out")
        assert summary.count("failed") == 1 and summary.files["a.tif"].status in ("done", "skipped")
        assert "a_p000.labels.tif would be an output of a.tif and of a_p000.tif" in summary.files["a_p000.tif"].reason
        assert tifffile.imread(tmp_path / "out" / "a_p000.labels.tif").shape == (40, 48)
    times = tmp_path / "times"
    times.mkdir()
    for name in ("t001.png", "001.png"):
        cv2.imwrite(str(times / name), textured_image(40, 48, 1))
    summary = run(predictor, times, tmp_path / "ctc", "ctc")
    assert (summary.count("done"), summary.count("failed")) == (1, 1)


def test_shards_agree_on_the_file_that_keeps_an_output(predictor, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([textured_image(40, 48, i) for i in range(2)]), photometric="rgb")
    tifffile.imwrite(tmp_path / "a_p000.tif", textured_image(24, 32, 2), photometric="rgb")
    files = list_files([tmp_path], tmp_path / "out")
    assert all(len(of_shard(files, (i, 3))) < 2 for i in (1, 2, 3))
    for i in (3, 2, 1):
        summary = run(predictor, tmp_path, tmp_path / "out", shard=(i, 3))
        assert all((result.status == "failed") == (name == "a_p000.tif") for name, result in summary.files.items())
    assert tifffile.imread(tmp_path / "out" / "a_p000.labels.tif").shape == (40, 48)


def test_outputs_of_a_file_that_has_changed_go_and_those_of_others_stay(predictor, tmp_path, capsys):
    path, output = tmp_path / "in" / "a.tif", tmp_path / "out"
    path.parent.mkdir()

    def predict(pages, *save):
        tifffile.imwrite(path, np.stack([textured_image(40, 48, i) for i in range(pages)]), photometric="rgb")
        assert run(predictor, path.parent, output, *save).exit_code == 0
        return {name for name in files_in(output) if "labels" in name or "csv" in name}

    assert len(predict(4, "labels", "table")) == 8
    (output / "a_p003.csv").write_text("mine")
    path.write_bytes(b"damaged")
    assert run(predictor, path.parent, output).exit_code == 2
    assert "removed" not in capsys.readouterr().err
    assert predict(2, "labels") == {"a_p000.labels.tif", "a_p001.labels.tif", "a_p003.csv"}
    assert "a.tif has changed; outputs of what it was are removed: a_p000.csv" in capsys.readouterr().err
    run(predictor, path.parent, output, "table")
    assert (output / "a_p000.labels.tif").exists() and (output / "a_p000.csv").exists()


def test_a_file_that_goes_while_it_is_predicted_does_not_end_the_run(predictor, images, tmp_path, monkeypatch):
    write = Predictor.predict_prepared

    def move_first(self, prepared):
        (images / "one.png").unlink(missing_ok=True)
        return write(self, prepared)

    monkeypatch.setattr(Predictor, "predict_prepared", move_first)
    # The reading thread has opened it before.
    summary = run(predictor, images, tmp_path / "out")
    assert len(summary.files) == 3 and summary.count("done") >= 2
    assert (tmp_path / "out" / "run.json").exists()


def test_a_record_that_cannot_be_written_fails_its_file_alone(predictor, images, tmp_path):
    name = "n" * 236 + ".tif"  # Of the record, the temporary name is too long.
    (images / "one.png").unlink()
    tifffile.imwrite(images / name, textured_image(40, 48, 2), photometric="rgb")
    summary = predict_files([images], predictor, tmp_path / "out", PredictSettings(save=("ctc",)), progress=False)
    assert summary.count("done") == 2 and "record cannot be written" in summary.files[name].reason


def test_a_report_that_cannot_be_written_is_told_and_written_by_the_next_call(predictor, images, tmp_path, capsys):
    output = tmp_path / "out"
    (output / "run.json").mkdir(parents=True)
    summary = run(predictor, images, output)
    assert (summary.count("done"), summary.exit_code) == (3, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "out/run.json'" in line and "what is done stays done" in line
    watched = watch_files([images], predictor, output, settle=-1e9, max_rounds=1, progress=False)
    assert (watched.count("done"), watched.exit_code) == (3, 2)
    (output / "run.json").rmdir()
    again = run(predictor, images, output)
    assert (again.count("done"), again.exit_code) == (3, 0) and (output / "run.json").is_file()


@pytest.mark.parametrize("output", ["images", "."])
def test_an_output_folder_that_holds_all_inputs_is_refused(predictor, images, tmp_path, output):
    with pytest.raises(SourceError, match="all images lie in the output folder"):
        run(predictor, images, tmp_path / output)
    with pytest.raises(SourceError, match="all images lie in the output folder"):
        watch_files([images], predictor, tmp_path / output, progress=False, max_rounds=1)


def test_results_of_other_runs_below_the_inputs_are_no_inputs(predictor, images):
    run(predictor, images, images / "first", "labels", "overlay")
    assert len(run(predictor, images, images / "second").files) == 3


def test_coco_names_the_image_file(predictor, images, tmp_path):
    run(predictor, images, tmp_path / "out", "coco")
    content = json.loads((tmp_path / "out" / "a b" / "two.coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["two.png"]


def test_an_image_called_errors_keeps_its_table(predictor, images, tmp_path):
    (images / "one.png").rename(images / "errors.png")
    run(predictor, images, tmp_path / "out", "table")
    assert (tmp_path / "out" / "errors_png.csv").exists()
    assert run(predictor, images, tmp_path / "out", "table").count("skipped") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_bad_file_whose_name_is_no_utf_8_is_reported(predictor, images, tmp_path):
    (images / os.fsdecode(b"kaputt_\xe4.png")).write_bytes(b"")
    summary = run(predictor, images, tmp_path / "out", shard=(1, 1))
    assert (summary.count("done"), summary.exit_code) == (3, 2)
    assert "kaputt_\\udce4.png" in (tmp_path / "out" / "errors-1of1.csv").read_text()
    assert (tmp_path / "out" / "run-1of1.json").exists()


def test_a_zarr_whose_pixels_change_is_predicted_anew(predictor, tmp_path):
    zarr = pytest.importorskip("zarr")
    folder = tmp_path / "in"
    array = zarr.open_array(str(folder / "a.zarr"), mode="w", shape=(40, 48), chunks=(40, 48), dtype="u1")
    array[:] = textured_image(40, 48, 1)[..., 0]
    assert run(predictor, folder, tmp_path / "out").count("done") == 1
    assert run(predictor, folder, tmp_path / "out").count("skipped") == 1
    array[:] = 0
    assert run(predictor, folder, tmp_path / "out").count("done") == 1
