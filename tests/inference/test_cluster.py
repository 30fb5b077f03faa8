"""Runs over processes: the outputs of one process, also when a worker dies."""

import os
import shutil
import signal
import threading
import time

import cv2
import pytest
import tifffile
import torch

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")

from objguided_d2.inference.cluster import ClusterError, connect, default_threads, predict_on_cluster  # noqa: E402
from objguided_d2.inference.file_pipeline import PredictSettings  # noqa: E402
from objguided_d2.inference.model_spec import ModelSpec  # noqa: E402
from objguided_d2.inference.run import predict_files  # noqa: E402
from tests.inference.models import save_run, textured_image  # noqa: E402


def test_a_local_cluster_gives_the_outputs_of_one_process_when_a_worker_is_killed(busy_run, tmp_path):
    _, _, folder = busy_run
    images = tmp_path / "images"
    images.mkdir()
    for i in range(6):
        cv2.imwrite(str(images / f"{i}.png"), textured_image(40, 48, i))
    (images / "broken.png").write_bytes(b"")
    # Three rows of tiles, which are tasks of their own; one of them cannot be read.
    large = textured_image(160, 128, 9)
    tifffile.imwrite(images / "large.tif", large, tile=(16, 16), compression="zlib", photometric="rgb")
    shutil.copy(images / "large.tif", images / "large_broken.tif")
    damage(images / "large_broken.tif", tile=-3)
    spec = ModelSpec(str(folder), device="cpu", tile=64, halo=32, tile_batch=2)
    settings = PredictSettings(save=("labels", "table"))
    predict_files([images], spec.load(), tmp_path / "one", settings, progress=False)

    output, threads = tmp_path / "many", torch.get_num_threads()
    with connect(workers=2) as client:
        victim = next(iter(client.run(os.getpid).values()))

        def kill_after_the_first_output() -> None:
            for _ in range(3000):
                if list(output.rglob("*.csv")):
                    break
                time.sleep(0.02)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill_after_the_first_output)
        killer.start()
        summary = predict_on_cluster([images], spec, output, settings, client=client, progress=False, threads=threads)
        killer.join()
        again = predict_on_cluster([images], spec, output, settings, client=client, progress=False, threads=threads)

    # A file whose worker died between its record and its report is found done by the next one.
    assert summary.count("done") + summary.count("skipped") == 7
    assert (summary.count("failed"), summary.exit_code) == (2, 2)
    assert "empty" in summary.files["broken.png"].reason
    assert again.count("skipped") == 7
    one, many = (
        {path.name: path.read_bytes() for path in place.iterdir() if path.is_file() and path.name != "run.json"}
        for place in (tmp_path / "one", output)
    )
    assert one == many and len(one) == 15


def test_ctrl_c_in_a_terminal_is_for_the_process_that_started_the_workers():
    with connect(workers=1) as client:
        assert list(client.run(signal.getsignal, signal.SIGINT).values()) == [signal.SIG_IGN]


def damage(path, tile):
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[tile]
    data = bytearray(path.read_bytes())
    data[offset : offset + 20] = bytes(20)
    path.write_bytes(data)


def test_processes_share_the_threads_that_this_one_may_have(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert [default_threads(workers) for workers in (1, 2, 4, 9)] == [6, 3, 1, 1]


def test_what_is_no_cluster_is_told():
    with pytest.raises(ClusterError, match="no scheduler answers at tcp://127.0.0.1:1"):
        with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), connect(scheduler="tcp://127.0.0.1:1"):
            pass
    with pytest.raises(ClusterError, match="--cluster slurm cannot start: .*jobqueue.yaml"):
        with connect(cluster="slurm"):
            pass


def test_one_model_is_loaded_once_until_its_files_change(busy_run, tmp_path):
    cfg, model, _ = busy_run
    folder = save_run(cfg, model, tmp_path / "run")
    spec = ModelSpec(str(folder), device="cpu")
    first = spec.load_once()
    assert spec.load_once() is first
    os.utime(folder / "model_final.pth", (1, 1))
    assert spec.load_once() is not first
