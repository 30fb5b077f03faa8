"""Runs over many processes and machines by dask.distributed: one task a file, and of a large image one a row of tiles.

A task reads a file, predicts it and commits outputs and record, so it can be done again at any time: one whose worker
dies is, on another. A large image is planned first; then each row of its tiles is a task, and a last one merges what
they found and commits. Each worker process loads the model once. Inputs, outputs and model must lie on a file system
that all machines share.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.structures import Instances
from tqdm import tqdm

from .clashes import find_clashes
from .file_pipeline import FilePipeline, PlannedImage, PredictSettings
from .model_spec import ModelSpec
from .records import FileResult
from .run import Files, RunSummary, execute_and_report, list_files, of_shard

if TYPE_CHECKING:
    from distributed import Client

CLUSTERS = {"slurm": "SLURMCluster", "lsf": "LSFCluster", "pbs": "PBSCluster"}


class ClusterError(ValueError):
    """A cluster that cannot be used. The message says what to do."""


@contextlib.contextmanager
def connect(workers: int | None = None, scheduler: str | None = None, cluster: str | None = None) -> Iterator[Client]:
    """A client of a dask cluster.

    Args:
        workers: processes of this machine, or jobs of ``cluster``.
        scheduler: address of a cluster that runs already, as tcp://host:8786.
        cluster: "slurm", "lsf" or "pbs": start ``workers`` jobs, with dask-jobqueue's settings
            (~/.config/dask/jobqueue.yaml).

    Raises:
        ClusterError: if dask is not installed, or the scheduler does not answer.
    """
    try:
        import distributed
    except ImportError as error:
        raise ClusterError("more than one process needs dask: pip install 'objguided_d2[cluster]'") from error
    with contextlib.ExitStack() as stack:
        if scheduler:
            try:
                yield stack.enter_context(distributed.Client(scheduler))
            except OSError as error:
                raise ClusterError(f"no scheduler answers at {scheduler}: {error}") from error
            return
        if cluster:
            started = stack.enter_context(_jobs(cluster))
            started.scale(jobs=workers or 1)
        else:
            started = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                    preload=["objguided_d2.inference.worker_signals"],
                )
            )
        yield stack.enter_context(distributed.Client(started))


def predict_on_cluster(
    inputs: Sequence[str | Path],
    model: ModelSpec,
    output: str | Path,
    settings: PredictSettings | None = None,
    *,
    client: Client,
    shard: tuple[int, int] | None = None,
    progress: bool = True,
    threads: int | None = None,
) -> RunSummary:
    """:func:`.run.predict_files` with the processes of a dask cluster; the outputs are the same.

    Args:
        client: of :func:`connect`, or your own.
        threads: of PyTorch in each process; None leaves its default.

    Raises:
        SourceError: if there is no input.
        ValueError: if the model cannot be loaded.
    """
    settings, output, model = settings or PredictSettings(), Path(output).resolve(), model.absolute()
    files = [(path.absolute(), relative) for path, relative in list_files(inputs, output)]
    clashes = find_clashes(files, output, settings)
    description = client.submit(_describe, model, settings, output, threads, pure=False).result()

    def execute(files: Files, stop: Callable[[], bool], progress: bool) -> dict[str, FileResult]:
        from distributed import as_completed

        names: dict[Any, str] = {}
        paths = {relative.as_posix(): (path, relative) for path, relative in files}
        for name, (path, relative) in paths.items():
            names[client.submit(_predict_file, model, settings, output, threads, path, relative, pure=False)] = name
        results: dict[str, FileResult] = {}
        with tqdm(total=len(files), unit="image", disable=not progress, smoothing=0.1) as bar:
            tasks = as_completed(names)
            for task in tasks:
                result = _result(task)
                if isinstance(result, PlannedImage):
                    path, relative = paths[names[task]]
                    rows = [
                        client.submit(_detect_row, model, settings, output, threads, path, result, row, pure=False)
                        for row in range(result.num_rows)
                    ]
                    last = client.submit(
                        _finish, model, settings, output, threads, path, relative, result, rows, pure=False
                    )
                    names[last] = names[task]
                    tasks.add(last)
                    continue
                results[names[task]] = result
                bar.update()
                if stop():
                    client.cancel([task for task in names if names[task] not in results])
                    break
        return {
            relative.as_posix(): results[relative.as_posix()] for _, relative in files if relative.as_posix() in results
        }

    return execute_and_report(
        of_shard(files, shard), execute, description, output, clashes, shard=shard, progress=progress
    )


def _jobs(cluster: str) -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ClusterError(f"--cluster {cluster} needs dask-jobqueue: pip install 'objguided_d2[cluster]'") from error
    try:
        return getattr(dask_jobqueue, CLUSTERS[cluster])()
    except (ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(
            f"--cluster {cluster} cannot start: {reason}; set cores, memory and queue in ~/.config/dask/jobqueue.yaml"
        ) from error


def _result(task: Any) -> FileResult | PlannedImage:
    try:
        return task.result()
    except Exception as error:
        # Its workers have died again and again; errors of the file itself are results.
        return FileResult("failed", reason=" ".join(str(error).split()) or type(error).__name__)


def _pipeline(model: ModelSpec, settings: PredictSettings, output: Path, threads: int | None) -> FilePipeline:
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return FilePipeline(model.load_once(), output, settings)


def _describe(model: ModelSpec, settings: PredictSettings, output: Path, threads: int | None) -> dict:
    return _pipeline(model, settings, output, threads).description


def _predict_file(
    model: ModelSpec, settings: PredictSettings, output: Path, threads: int | None, path: Path, relative: Path
) -> FileResult | PlannedImage:
    return _pipeline(model, settings, output, threads).predict_or_plan(path, relative)


def _detect_row(
    model: ModelSpec,
    settings: PredictSettings,
    output: Path,
    threads: int | None,
    path: Path,
    plan: PlannedImage,
    row: int,
) -> list[Instances] | Exception:
    return _pipeline(model, settings, output, threads).detect_row(path, plan, row)


def _finish(
    model: ModelSpec,
    settings: PredictSettings,
    output: Path,
    threads: int | None,
    path: Path,
    relative: Path,
    plan: PlannedImage,
    rows: Sequence[list[Instances] | Exception],
) -> FileResult:
    return _pipeline(model, settings, output, threads).finish_planned(path, relative, plan, rows)


def default_threads(workers: int) -> int:
    """Threads of each of some processes: together those that PyTorch takes, which are those that a scheduler allows."""
    return max(1, torch.get_num_threads() // workers)
