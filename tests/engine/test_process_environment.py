import pytest

from objguided_d2.engine.errors import ConfigError
from objguided_d2.engine.process_environment import ProcessPlacement, placement_from_environment

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_JOB_ID": "123456",
    "MASTER_ADDR": "node0",
}


def test_nothing_is_read_where_no_launcher_has_set_it():
    assert placement_from_environment({"HOME": "/", "WORLD_SIZE": "4"}) is None
    # A batch script of Slurm, in which one process runs, whatever the job has.
    assert placement_from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}) is None


def test_torchrun():
    assert placement_from_environment(TORCHRUN) == ProcessPlacement(5, 8, 1, 4, "env://")


def test_srun_of_two_machines():
    assert placement_from_environment(SRUN) == ProcessPlacement(5, 8, 1, 4, "tcp://node0:23456")
    assert placement_from_environment({**SRUN, "MASTER_PORT": "1234"}).init_method == "tcp://node0:1234"


def test_srun_of_one_machine_meets_there():
    one = {**SRUN, "SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_LOCALID": "5"}
    del one["MASTER_ADDR"]
    assert placement_from_environment(one) == ProcessPlacement(5, 8, 5, 8, "tcp://127.0.0.1:23456")


def test_variables_set_by_hand_for_one_machine():
    by_hand = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    assert placement_from_environment(by_hand) == ProcessPlacement(1, 2, 1, 2, "env://")
    assert placement_from_environment({"RANK": "0", "WORLD_SIZE": "1"}).world_size == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "five"}, "RANK is 'five', not a whole number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"RANK": "8"}, "RANK 8 of WORLD_SIZE 8"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK 4 of LOCAL_WORLD_SIZE 4"),
        ({"LOCAL_WORLD_SIZE": "3"}, "every machine must have the same"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set for 8 processes"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        placement_from_environment({**TORCHRUN, **changes})


def test_srun_with_uneven_machines_or_no_address_is_refused():
    with pytest.raises(ConfigError, match="srun has 5,3 processes on its machines"):
        placement_from_environment({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "5,3"})
    without = {key: value for key, value in SRUN.items() if key != "MASTER_ADDR"}
    with pytest.raises(ConfigError, match="MASTER_ADDR is not set"):
        placement_from_environment(without)
