"""Training processes on GPUs or, where there are none, on CPU cores."""

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import create_ddp_model as create_cuda_ddp_model
from detectron2.engine.launch import _find_free_port
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing import ProcessContext, ProcessExitedException, ProcessRaisedException

from ..utils.allocator import keep_freed_memory
from ..utils.exit_at_once import exit_at_once
from .child_process import GRACE_SECONDS, start_processes
from .errors import ConfigError, EngineError, Interruption, ProcessError
from .process_environment import ProcessPlacement, placement_from_environment
from .registrations import Registration, register_missing, registrations

TIMEOUT = timedelta(minutes=30)


def launch(main_func: Callable[..., Any], args: Namespace, main_args: tuple) -> None:
    """Run ``main_func(*main_args)`` in all processes of the run.

    Below torchrun and srun this process is one of them (:mod:`.process_environment`). Otherwise ``args.num_gpus``
    processes start here, on each of ``args.num_machines`` machines that this is called on; one process per machine if
    ``num_gpus`` is 0. Without CUDA these are CPU processes (gloo) that share the cores.

    The processes know the datasets that this one has registered from COCO files. If one dies, all end; so they do if
    this one is killed.

    Raises:
        SystemExit: with 130 or 143, if SIGINT or SIGTERM ended the run, see :class:`.errors.Interruption`.
        ConfigError: if more GPUs are asked for than there are, or the environment and ``args`` contradict each other.
        EngineError: what ``main_func`` raised in any of the processes.
        ProcessError: if a process was killed.
    """
    try:
        _launch(main_func, args, main_args)
    except Interruption as interruption:
        sys.exit(interruption.exit_status)


def _launch(main_func: Callable[..., Any], args: Namespace, main_args: tuple) -> None:
    num_processes = max(1, args.num_gpus)
    placement = placement_from_environment(os.environ)
    if placement is not None and placement.world_size > 1:
        if num_processes * args.num_machines > 1:
            raise ConfigError(
                f"--num-gpus {args.num_gpus} --num-machines {args.num_machines} starts processes, but this is one of "
                f"{placement.world_size} that torchrun or srun has started; leave out one of the two"
            )
        _check_gpus(placement.local_world_size, "LOCAL_WORLD_SIZE")
        # While it waits for the others, Python code has no turn.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            _run_in_group(placement, main_func, main_args)
        except Interruption as interruption:
            _end_process_groups()
            # torchrun ends the others once one has failed, and the first of them may still be saving.
            if placement.rank == 0 or not interruption.at_once:
                raise
        return
    _check_gpus(num_processes, "--num-gpus")
    if num_processes * args.num_machines == 1:
        main_func(*main_args)
        return
    if args.dist_url == "auto" and args.num_machines > 1:
        raise ConfigError("--num-machines above 1 needs --dist-url tcp://HOST:PORT of the first machine")
    url = f"tcp://127.0.0.1:{_find_free_port()}" if args.dist_url == "auto" else args.dist_url
    first_rank, world_size = args.machine_rank * num_processes, args.num_machines * num_processes
    placements = [
        ProcessPlacement(first_rank + local_rank, world_size, local_rank, num_processes, url)
        for local_rank in range(num_processes)
    ]
    _start_processes(placements, main_func, main_args)


def _check_gpus(wanted: int, name: str) -> None:
    if torch.cuda.is_available() and wanted > torch.cuda.device_count():
        raise ConfigError(f"{name} {wanted}: this machine has {torch.cuda.device_count()}")


def _start_processes(placements: Sequence[ProcessPlacement], main_func: Callable[..., Any], main_args: tuple) -> None:
    ends = multiprocessing.get_context("spawn").SimpleQueue()
    num_threads = max(1, torch.get_num_threads() // len(placements))
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)

    def pass_on_to_children(number: int, frame: object) -> None:
        received.append(number)
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)

    # A terminal sends SIGINT to the children, too.
    former = signal.signal(signal.SIGINT, note), signal.signal(signal.SIGTERM, pass_on_to_children)
    folder = tempfile.TemporaryDirectory(prefix="objguided-")
    try:
        same_for_all = num_threads, registrations(), main_func, main_args
        arguments = [(placement, *same_for_all) for placement in placements]
        _wait_for_all(ProcessContext(*start_processes(_run_process, arguments, ends, Path(folder.name))))
    except (ProcessExitedException, ProcessRaisedException) as error:
        if not ends.empty():
            raise ends.get() from None
        if isinstance(error, ProcessExitedException) and received:  # Before it could wait for the end of a step.
            raise Interruption(received[0]) from None
        if isinstance(error, ProcessExitedException) and error.signal_name:
            raise ProcessError(
                f"process {error.error_index} of {len(placements)} was killed by {error.signal_name} (out of memory?), "
                "and the others were ended; go on with --resume"
            ) from error
        raise
    else:
        if not ends.empty():
            raise ends.get()
    finally:
        signal.signal(signal.SIGINT, former[0])
        signal.signal(signal.SIGTERM, former[1])
        folder.cleanup()


def _wait_for_all(context: ProcessContext) -> None:
    """Until all processes have ended. Those that run on after the first of them, which saves, hang and are killed."""
    deadline = None
    while not context.join(timeout=1.0, grace_period=GRACE_SECONDS):
        if context.processes[0].is_alive():
            continue
        deadline = deadline or time.monotonic() + GRACE_SECONDS
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
                process.join()
            return


def _run_process(
    ends: SimpleQueue,
    placement: ProcessPlacement,
    num_threads: int,
    datasets: Sequence[Registration],
    main_func: Callable[..., Any],
    main_args: tuple,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_freed_memory()
    if not torch.cuda.is_available():
        torch.set_num_threads(num_threads)
    register_missing(datasets)
    try:
        _run_in_group(placement, main_func, main_args)
    except Interruption as interruption:
        # Not by the exit status: once a process has failed, all others are ended, and one may still be saving.
        ends.put(interruption)
        exit_at_once(0)
    except KeyboardInterrupt:
        ends.put(Interruption(signal.SIGINT))
        sys.exit(1)
    except EngineError as error:
        ends.put(error)
        sys.exit(1)


def _run_in_group(placement: ProcessPlacement, main_func: Callable[..., Any], main_args: tuple) -> None:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(placement.local_rank)
    try:
        torch.distributed.init_process_group(
            backend="NCCL" if on_gpu else "GLOO",
            init_method=placement.init_method,
            world_size=placement.world_size,
            rank=placement.rank,
            timeout=TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        where = f"{placement.init_method} {os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        raise ProcessError(
            f"process {placement.rank} of {placement.world_size} does not reach the others at "
            f"{where if placement.init_method == 'env://' else placement.init_method} "
            f"({str(error).splitlines()[0]}); check --dist-url, or MASTER_ADDR and MASTER_PORT"
        ) from error
    comm.create_local_process_group(placement.local_world_size)
    # Else a process that comes late may run into a timeout of the group's first use.
    comm.synchronize()
    try:
        main_func(*main_args)
    except Interruption as interruption:
        if not interruption.at_once:
            comm.synchronize()
        raise
    comm.synchronize()
    _end_process_groups()


def _end_process_groups() -> None:
    """End the threads of the process groups: one that frees a tensor while Python exits would abort the process.

    They end once nothing refers to their group: neither a model that it trained nor what Detectron2 remembers.
    """
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    comm.create_local_process_group.cache_clear()
    gc.collect()
    torch.distributed.destroy_process_group()


def create_ddp_model(model: nn.Module) -> nn.Module:
    """``model`` itself in a single process, else in DistributedDataParallel; unlike Detectron2's, also on a CPU."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return create_cuda_ddp_model(model, broadcast_buffers=False, **({"device_ids": None} if on_cpu else {}))


def broadcast_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of rank 0, i.e. the running statistics that its checkpoints hold."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
