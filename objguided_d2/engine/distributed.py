"""Training processes on GPUs or, where there are none, on CPU cores."""

import gc
import logging
import multiprocessing
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from detectron2.engine import create_ddp_model as create_cuda_ddp_model
from detectron2.engine import launch as launch_processes
from detectron2.utils import comm
from torch import nn

from .setup import ConfigError

logger = logging.getLogger(__name__)


def launch(main_func: Callable[..., Any], args: Namespace, main_args: tuple) -> None:
    """Run ``main_func(*main_args)`` in ``args.num_gpus`` processes on each of ``args.num_machines`` machines.

    Without CUDA these are CPU processes (gloo) that share the cores; one process per machine if ``num_gpus`` is 0.

    Raises:
        ConfigError: if more GPUs are asked for than there are.
    """
    num_processes = max(1, args.num_gpus)
    if torch.cuda.is_available() and num_processes > torch.cuda.device_count():
        raise ConfigError(f"--num-gpus {num_processes}: this machine has {torch.cuda.device_count()}")
    if num_processes * args.num_machines == 1:
        main_func(*main_args)
        return
    num_threads = max(1, torch.get_num_threads() // num_processes)
    former = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, _pass_on_to_children)
    try:
        launch_processes(
            _run_process,
            num_processes,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(num_threads, main_func, main_args),
        )
    finally:
        signal.signal(signal.SIGINT, former[0])
        signal.signal(signal.SIGTERM, former[1])


def _run_process(num_threads: int, main_func: Callable[..., Any], main_args: tuple) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not torch.cuda.is_available():
        torch.set_num_threads(num_threads)
    main_func(*main_args)
    comm.synchronize()
    _end_process_groups()


def _end_process_groups() -> None:
    """End the threads of the process groups: one that frees a tensor while Python exits would abort the process.

    They end once nothing refers to their group: neither a model that it trained nor what Detectron2 remembers.
    """
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()
    torch.distributed.destroy_process_group()


def _pass_on_to_children(number: int, frame: object) -> None:
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, number)


def create_ddp_model(model: nn.Module) -> nn.Module:
    """``model`` itself in a single process, else in DistributedDataParallel; unlike Detectron2's, also on a CPU."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return create_cuda_ddp_model(model, broadcast_buffers=False, **({"device_ids": None} if on_cpu else {}))


def broadcast_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of rank 0, i.e. the running statistics that its checkpoints hold."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
