"""Long trials of the engine, for ``make soak``; tests/engine/test_soak.py runs a short form of each.

python -m tests.engine.soak --kills 10
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import torch

from objguided_d2.engine import Trainer, launch
from tests.engine.toy import last_checkpoint, register_toy_dataset, run_toy, toy_cfg, weights

ROOT = Path(__file__).parents[2]
START_SECONDS = 300  # until a process on a busy machine has made its first step


def kill_and_resume(folder: Path, data: Path, *, kills: int, iterations: int, seed: int = 0) -> list[str]:
    """Train once without a break, and once killed by SIGKILL again and again at a random moment and resumed.

    Args:
        folder: for the runs.
        data: folder of the toy datasets, which are made if they are not there.

    Returns:
        The names of the weights that differ in any bit: none.
    """
    rng = random.Random(seed)
    whole, parts = folder / "whole", folder / "parts"
    train_here(whole, data, iterations)
    for number in range(kills):
        command = [
            sys.executable,
            "-m",
            "tests.engine.soak",
            "--train",
            str(parts),
            str(data),
            str(iterations),
        ]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # Some checkpoints later, anywhere in a step, a checkpoint or the start.
            target = (number + rng.random()) * iterations / (kills + 1)
            deadline = time.monotonic() + START_SECONDS
            while _saved_iteration(parts) < target and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.01)
            time.sleep(0.1 * rng.random())
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (parts / "model_final.pth").exists():
            raise RuntimeError(f"the run had ended before kill {number + 1}; give more iterations")
    train_here(parts, data, iterations)
    first, second = (weights(path / "model_final.pth") for path in (whole, parts))
    return [name for name in first if not torch.equal(first[name], second[name])]


def processes_against_one(folder: Path, data: Path, num_processes: int, *, iterations: int) -> float:
    """Train a model whose loss is a mean over images in several processes and, on the joined batch, in one.

    Returns:
        The largest difference of a weight.
    """
    options = "MODEL.META_ARCHITECTURE", "ToyPlainDetector", "SOLVER.OPTIMIZER", "SGD", "DATASETS.TEST", ()
    options += "SOLVER.IMS_PER_BATCH", 6, "SOLVER.MAX_ITER", iterations
    register_toy_dataset(data)
    args = Namespace(
        config_file="",
        resume=False,
        eval_only=False,
        num_gpus=num_processes,
        num_machines=1,
        machine_rank=0,
        dist_url="auto",
    )
    one = Trainer(toy_cfg(folder / "one", *options))
    one.train()
    several = folder / f"{num_processes}_processes"
    launch(run_toy, args, (toy_cfg(several, *options), args))
    expected = one.model.state_dict()
    found = weights(several / "model_final.pth")
    return max(float((found[name] - value).abs().max()) for name, value in expected.items())


def train_here(output: Path, data: Path, iterations: int) -> None:
    """Train the toy in this process, on from the last checkpoint if there is one, which is written at each step."""
    torch.set_num_threads(1)  # The sums of several threads may differ in their last bit.
    register_toy_dataset(data)
    options = "SOLVER.MAX_ITER", iterations, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.FREEZE_BN_AT", 0.6
    cfg = toy_cfg(output, *options, "TEST.PRECISE_BN.NUM_ITER", 5, "DATASETS.TEST", ())
    run_toy(cfg, Namespace(config_file="", resume=True, eval_only=False))


def _saved_iteration(output: Path) -> int:
    """Of the last checkpoint, -1 without any."""
    try:
        name = last_checkpoint(output).stem
    except OSError:
        return -1
    return int(name.removeprefix("model_")) if name != "model_final" else sys.maxsize


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--train", nargs=3, metavar=("OUTPUT", "DATA", "ITERATIONS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        output, data, iterations = args.train
        train_here(Path(output), Path(data), int(iterations))
        return 0
    lines, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        differing = kill_and_resume(Path(folder) / "kills", data, kills=args.kills, iterations=40 * args.kills)
        outcome = f"{differing} differ" if differing else "weights equal in every bit"
        lines.append(f"{args.kills} times SIGKILL: {outcome}")
        failed |= bool(differing)
        for number in (1, 2, 3):
            difference = processes_against_one(Path(folder) / str(number), data, number, iterations=20)
            lines.append(f"{number} process(es) against one on the joined batch: {difference:.1e}")
            failed |= difference > 1e-5
    print("\n".join(lines))  # After the log of the runs.
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
