"""Several configs trained one after another under the same budget."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from ..config import CONFIG_ERRORS, config_error_reason
from ..config_files import get_config_file
from .errors import ConfigError, Interruption
from .resume import check_same_settings
from .schedule import shortened_warmup
from .setup import checked_config, merged_config, refuse_pairs


@dataclass(frozen=True)
class Suite:
    """What a suite file names.

    Attributes:
        dataset: the comparison's dataset.
        configs: config files, the first is what the others are compared with.
    """

    dataset: str
    configs: tuple[Path, ...]

    @classmethod
    def read(cls, name: str | Path) -> "Suite":
        """Read ``dataset: NAME`` and ``configs: [FILE, ...]``, files relative to the suite's folder.

        Args:
            name: of the suite file, see :func:`..config_files.get_config_file`.

        Raises:
            ValueError: if the file cannot be read, something is missing or a config does not exist.
        """
        path = Path(get_config_file(name))
        content = read_suite_file(path)
        content = content if isinstance(content, dict) else {}
        dataset, names = content.get("dataset"), content.get("configs")
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not isinstance(dataset, str) or not dataset or not is_list or not names:
            raise ValueError(f"suite {path} must have 'dataset: NAME' and 'configs: [FILE, ...]'")
        configs = tuple(path.parent / name for name in names)
        for config in configs:
            if not config.is_file():
                raise ValueError(f"suite {path}: {config} does not exist")
        if len({config.stem for config in configs}) < len(configs):
            raise ValueError(f"suite {path}: two configs have one name, which is that of their runs; rename one")
        return cls(dataset, configs)


def read_suite_file(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ValueError: if it cannot be read, in one line with the place.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except CONFIG_ERRORS as error:
        raise ValueError(f"suite {path} cannot be read: {config_error_reason(error)}") from error


def train_suite(
    suite: Suite, output: Path, *, minutes: float | None, images: int | None, options: Sequence[str] = ()
) -> list[Path]:
    """Train every config of the suite that has not ended yet.

    Args:
        output: holds a run folder for each config, named as the file.
        minutes: of training steps for each (SOLVER.MAX_MINUTES); or
        images: to be seen by each, in whole batches (SOLVER.MAX_ITER).
        options: further KEY VALUE pairs for all.

    Returns:
        The run folders. One with final weights is taken as it is, one that was interrupted goes on.
    Raises:
        ValueError: unless one budget is given.
        ConfigError: before anything is trained: for pairs that other arguments decide, a config that cannot be read or
            trained with or does not end with what the comparison reads, and a folder with a run of other settings.
        subprocess.CalledProcessError: if a run fails.
    """
    if (minutes is None) == (images is None):
        raise ValueError("give either minutes or images as the budget")
    if (minutes or images or 0) <= 0:
        raise ValueError(f"a budget of {minutes if images is None else images} trains nothing; give more than 0")
    refuse_pairs(options, {"OUTPUT_DIR": "give --output"})
    folders, left = [], []
    for config in suite.configs:
        budget = _budget(config, options, minutes, images)
        refuse_pairs(options, dict.fromkeys(budget[::2], "give --minutes or --images"))
        folder, pairs = output / config.stem, [*options, *budget]
        if (folder / "model_final.pth").exists():
            cfg = merged_config(config, pairs)
        else:
            cfg = _checked(config, [*pairs, "OUTPUT_DIR", str(folder)], suite.dataset)
            left.append((config, folder, pairs))
        check_same_settings(folder, cfg)
        folders.append(folder)
    for config, folder, pairs in left:
        run_training(config, folder, pairs)
    return folders


def _checked(config: Path, pairs: Sequence[str], dataset: str) -> CfgNode:
    """The config of a run, which can be trained with and evaluates on the dataset of the comparison.

    Raises:
        ConfigError: if not; names the file.
    """
    try:
        cfg = checked_config(config, pairs, resume=True)
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from error
    if dataset not in cfg.DATASETS.TEST:
        raise ConfigError(f"{config}: DATASETS.TEST {tuple(cfg.DATASETS.TEST)} lacks the suite's dataset, {dataset}")
    if "coco" not in cfg.TEST.EVALUATORS:
        raise ConfigError(
            f"{config}: TEST.EVALUATORS {list(cfg.TEST.EVALUATORS)} lacks coco, which writes what the comparison reads"
        )
    return cfg


def run_training(config_file: Path, output_dir: Path, options: Sequence[str]) -> None:
    """Train in a process of its own, from the last checkpoint in ``output_dir`` on if there is one.

    Args:
        options: KEY VALUE pairs.

    Raises:
        subprocess.CalledProcessError: if it fails.
        Interruption: if a signal ended it.
    """
    command = [sys.executable, "-m", "objguided_d2", "train", "--resume", "--config-file", str(config_file)]
    run_command([*command, *options, "OUTPUT_DIR", str(output_dir)])


def run_command(command: Sequence[str]) -> None:
    """Run a program that saves its state at SIGINT and SIGTERM; this process ends after it.

    Raises:
        subprocess.CalledProcessError: if it fails.
        Interruption: if a signal ended it.
    """
    process: subprocess.Popen | None = None
    received: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        if process is not None:
            process.send_signal(number)

    # A terminal sends SIGINT to both; other programs send SIGTERM to this process alone.
    handlers = {signal.SIGINT: lambda number, frame: None, signal.SIGTERM: pass_on}
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        process = subprocess.Popen(command)
        if received:
            process.send_signal(received[0])
        status = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    for number in handlers:
        # Negative where the run had no time to handle it.
        if status in (Interruption(number).exit_status, -number):
            raise Interruption(number)
    if status:
        raise subprocess.CalledProcessError(status, command)


def _budget(config: Path, options: Sequence[str], minutes: float | None, images: int | None) -> list[str]:
    if minutes is not None:
        return ["SOLVER.MAX_MINUTES", str(float(minutes)), "SOLVER.MAX_ITER", str(10**9)]
    solver = merged_config(config, options).SOLVER
    steps = max(1, images // solver.IMS_PER_BATCH)
    warmup = shortened_warmup(solver.WARMUP_ITERS, steps)
    return ["SOLVER.MAX_MINUTES", "0.0", "SOLVER.MAX_ITER", str(steps), "SOLVER.WARMUP_ITERS", str(warmup)]
