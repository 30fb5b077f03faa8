"""The process group that a launcher of a cluster has laid out in the environment: torchrun's, or srun's."""

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ConfigError


@dataclass(frozen=True)
class ProcessPlacement:
    """Which process of a group this one is.

    Attributes:
        rank: of all, from 0.
        world_size: number of all.
        local_rank: of those on this machine, from 0.
        local_world_size: number of those on this machine, the same on every machine.
        init_method: where the processes meet, for ``torch.distributed.init_process_group``.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    init_method: str


def placement_from_environment(environment: Mapping[str, str]) -> ProcessPlacement | None:
    """Read RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, which torchrun sets.

    Below srun, what is missing of these is taken from SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID,
    SLURM_STEP_TASKS_PER_NODE and, for MASTER_PORT, SLURM_JOB_ID. MASTER_ADDR is this machine unless srun has started
    processes on several.

    Args:
        environment: ``os.environ``.

    Returns:
        None where no launcher has started this process.
    Raises:
        ConfigError: if a variable is missing or no whole number in its range, or machines have different numbers of
            processes.
    """
    values = dict(environment)
    # Set in the steps of srun alone: in a batch script, SLURM_PROCID is 0 for the one process that there is.
    in_slurm_step = "SLURM_STEP_NUM_TASKS" in values and "SLURM_PROCID" in values
    if "RANK" not in values and not in_slurm_step:
        return None
    if in_slurm_step and "RANK" not in values:
        _add_slurm(values)
    rank, world_size = _number(values, "RANK"), _number(values, "WORLD_SIZE")
    local_rank = _number(values, "LOCAL_RANK", default=rank if world_size == 1 else None)
    local_world_size = _number(values, "LOCAL_WORLD_SIZE", default=world_size if local_rank == rank else None)
    if not (0 <= rank < world_size and 0 <= local_rank < local_world_size <= world_size):
        raise ConfigError(
            f"RANK {rank} of WORLD_SIZE {world_size} and LOCAL_RANK {local_rank} of LOCAL_WORLD_SIZE "
            f"{local_world_size} do not fit together; unset them, or start this by torchrun or srun"
        )
    if world_size % local_world_size or rank % local_world_size != local_rank:
        raise ConfigError(
            f"{world_size} processes, {local_world_size} of them on this machine: every machine must have the same "
            "number, with ranks that follow each other"
        )
    if world_size > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not values.get(name):
                raise ConfigError(f"{name} is not set for {world_size} processes; export it before torchrun or srun")
    url = f"tcp://{values.get('MASTER_ADDR', '127.0.0.1')}:{values.get('MASTER_PORT', '0')}"
    # torchrun's agent holds the store already, which "env://" knows.
    method = "env://" if "RANK" in environment else url
    return ProcessPlacement(rank, world_size, local_rank, local_world_size, method)


def _add_slurm(values: dict[str, str]) -> None:
    values["RANK"], values["WORLD_SIZE"] = values["SLURM_PROCID"], values["SLURM_STEP_NUM_TASKS"]
    values.setdefault("LOCAL_RANK", values.get("SLURM_LOCALID", ""))
    # As "4", "4(x2)" or "4,3".
    tasks = values.get("SLURM_STEP_TASKS_PER_NODE", values["WORLD_SIZE"])
    if "," in tasks:
        raise ConfigError(f"srun has {tasks} processes on its machines; give each the same number (--ntasks-per-node)")
    values.setdefault("LOCAL_WORLD_SIZE", tasks.partition("(")[0])
    if values["LOCAL_WORLD_SIZE"] == values["WORLD_SIZE"]:
        values.setdefault("MASTER_ADDR", "127.0.0.1")
    if job := values.get("SLURM_JOB_ID", ""):
        # Jobs on one machine must not meet each other.
        values.setdefault("MASTER_PORT", str(20000 + int(job) % 20000) if job.isdigit() else "")


def _number(values: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = values.get(name, "" if default is None else str(default))
    if not text.isdigit():
        raise ConfigError(f"{name} is {text!r}, not a whole number; unset RANK, or start this by torchrun or srun")
    return int(text)
