"""The rows of the paper's Table I on every kind of data: the systems of this package, peers, and a page of all.

    make peers
    python -m benchmarks.table1 --output output/table1 --threads 2 --peers-python .venv-peers/bin/python

Minutes of training are those of ``configs/suite_table1.yaml``. One run at a time; what has ended is kept, so a second
call goes on. With ``--images`` each system of this package sees as many images instead, and peers are left out.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from objguided_d2.config_files import get_config_file
from objguided_d2.data.builtin import dataset_files
from objguided_d2.engine.errors import Interruption
from objguided_d2.engine.suite import Suite, read_suite_file, run_command, train_suite

from .peers.methods import TRAINED_HERE


@dataclass(frozen=True)
class Kind:
    """A kind of data. suite: its dataset and configs; minutes: of training steps for each system."""

    suite: Suite
    minutes: float

    @property
    def name(self) -> str:
        """Of the dataset without its split."""
        return self.suite.dataset.rpartition("_")[0]


@dataclass(frozen=True)
class Table:
    """What ``suite_table1.yaml`` names."""

    kinds: tuple[Kind, ...]
    peers: tuple[str, ...]

    @classmethod
    def read(cls, name: str) -> "Table":
        """Read ``kinds: [{suite: NAME, minutes: NUMBER}, ...]`` and ``peers: [METHOD, ...]``.

        Raises:
            ValueError: if the file cannot be read, something is missing, a suite does not exist or a peer is unknown.
        """
        path = get_config_file(name)
        content = read_suite_file(Path(path))
        try:
            kinds = tuple(Kind(Suite.read(entry["suite"]), float(entry["minutes"])) for entry in content["kinds"])
            peers = tuple(content["peers"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} must have kinds, each with a suite and minutes, and peers ({error})") from error
        if unknown := set(peers) - set(TRAINED_HERE):
            raise ValueError(f"{path}: peers are {', '.join(TRAINED_HERE)}, not {', '.join(sorted(unknown))}")
        return cls(kinds, peers)


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing and write the pages; the exit status is 1 if a run failed."""
    args = _parser().parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    try:
        table = Table.read(args.suite)
        kinds = [kind for kind in table.kinds if not args.only or kind.name in args.only]
        if not kinds:
            raise ValueError(f"--only takes {', '.join(kind.name for kind in table.kinds)}")
        for kind in kinds:
            _compare(kind, _train(kind, table.peers, args), args.output / kind.name / "comparison")
    except Interruption as interruption:
        print(f"{interruption}; the same command goes on", file=sys.stderr)
        return interruption.exit_status
    except (ValueError, KeyError) as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: a run failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    return 0


def _train(kind: Kind, peers: Sequence[str], args: argparse.Namespace) -> list[Path]:
    """Runs and folders of label images, in the order of the table."""
    folder = args.output / kind.name
    options = ["TEST.EVAL_PERIOD", "0"]  # Only the last weights count.
    if args.images:
        return train_suite(kind.suite, folder, minutes=None, images=args.images, options=options)
    minutes = kind.minutes if args.minutes is None else args.minutes
    runs = train_suite(kind.suite, folder, minutes=minutes, images=None, options=options)
    if args.peers_python:
        runs += [_train_peer(peer, kind, minutes, folder, args) for peer in peers]
    return runs


def _train_peer(peer: str, kind: Kind, minutes: float, folder: Path, args: argparse.Namespace) -> Path:
    train, val = (_coco_options(name) for name in (f"{kind.name}_train", kind.suite.dataset))
    model, labels = folder / f"{peer}_model", folder / peer
    common = ["--threads", str(args.threads)]
    python = [args.peers_python, "-m"]
    _run_into(model, [*python, "benchmarks.peers.train", peer, *train, *common, "--minutes", str(minutes)])
    predict = [*python, "benchmarks.peers.predict", peer, *val, *common, "--model", str(model)]
    _run_into(labels, [*predict, "--resume"], resume=True)
    return labels


def _coco_options(dataset: str) -> list[str]:
    annotations, images = dataset_files(dataset)
    return ["--annotations", str(annotations), "--images", str(images)]


def _run_into(folder: Path, command: Sequence[str], *, resume: bool = False) -> None:
    """Run ``command --output folder`` unless it has ended before; the folder appears when it ends.

    resume: the command goes on from what an interrupted call has written.
    """
    if folder.exists():
        return
    unfinished = folder.with_name(f".{folder.name}")
    if not resume:
        shutil.rmtree(unfinished, ignore_errors=True)
    run_command([*command, "--output", str(unfinished)])
    unfinished.rename(folder)


def _compare(kind: Kind, runs: Sequence[Path], output: Path) -> None:
    paths = [*map(str, runs), "--dataset", kind.suite.dataset, "--output", str(output)]
    run_command([sys.executable, "-m", "objguided_d2", "compare", *paths])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table1", description="The rows of the paper's Table I.")
    parser.add_argument("--suite", default="suite_table1", help="kinds of data and peers (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="DATASET", help="these kinds of data (default: all)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="of training steps for each (default: the suite's)")
    budget.add_argument("--images", type=int, help="to be seen by each system of this package, without peers")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--peers-python", help="of the environment that make peers made (default: no peers)")
    parser.add_argument("--output", type=Path, required=True, help="folder for DATASET/METHOD and DATASET/comparison")
    return parser


if __name__ == "__main__":
    sys.exit(main())
