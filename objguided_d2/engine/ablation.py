"""Sampling strategies of the refinement compared (Table II): one run for each and seed, resumable, into a table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from tabulate import tabulate

from ..utils.atomic_write import write_json, write_text
from .errors import ConfigError
from .metrics_file import read_metrics
from .resume import check_same_settings
from .setup import merged_config, refuse_pairs
from .strategies import Strategy
from .suite import run_training

METRICS = ("segm/AP", "segm/AP50", "segm/AP75", "voc_seg/AP", "voc_dec/AP")
# They give METRICS.
EVALUATORS = ("coco", "voc2010")
RESULTS_FILE = "ablation.json"


class AblationError(ValueError):
    """A file or run without the results of an ablation. The message names it, what it lacks, and what to do."""


def run_ablation(
    config_file: Path, output: Path, strategies: Sequence[Strategy], seeds: Sequence[int], options: Sequence[str]
) -> str:
    """Train and evaluate what is not there yet, one run after the other, into ``table.md`` and ``ablation.json``.

    Args:
        config_file: of the model and data; the refinement's keys and SEED are overridden.
        output: holds ``<strategy>/seed_<seed>/`` for each run. A run with final results is not repeated, one that was
            interrupted goes on from its last checkpoint.
        options: further KEY VALUE pairs for all runs.

    Returns:
        The table, in Markdown.
    Raises:
        ConfigError: before anything is trained: for a config or pairs that do not give METRICS, pairs that the other
            arguments decide, and a folder that holds a run of other settings.
        AblationError: if there is nothing to run, or a run has ended without METRICS.
        subprocess.CalledProcessError: if a run fails; those that have ended are kept.
    """
    if not strategies or not seeds:
        raise AblationError("there is nothing to compare; give one strategy and one seed at least")
    refuse_pairs(
        options,
        {"OUTPUT_DIR": "give --output", "SEED": "give --seeds"}
        | {key: "give --strategies" for strategy in strategies for key in strategy.options[::2]},
    )
    results: dict[Strategy, list[dict]] = {strategy: [] for strategy in strategies}
    runs = []
    for seed in seeds:
        for strategy in results:
            folder = output / strategy.slug / f"seed_{seed}"
            pairs = [*options, *strategy.options, "SEED", str(seed)]
            cfg = merged_config(config_file, pairs)
            _check_evaluation(cfg)
            check_same_settings(folder, cfg)
            runs.append((strategy, seed, folder, pairs))
    for strategy, seed, folder, pairs in runs:
        if not _final_metrics(folder):
            run_training(config_file, folder, pairs)
        metrics = _final_metrics(folder) or {}
        names = (*METRICS, "images_seen")
        if missing := [name for name in names if name not in metrics]:
            raise AblationError(
                f"{folder} has ended without {', '.join(missing)} in its metrics.json; DATASETS.TEST must be one "
                "dataset with annotations"
            )
        results[strategy].append({"seed": seed, **{name: metrics[name] for name in names}})
        ended = {s: r for s, r in results.items() if r}
        table = format_table(ended)
        write_text(output / "table.md", table + "\n")
        write_json(output / RESULTS_FILE, {str(s): r for s, r in ended.items()}, indent=2)
    return table


def read_ablation(path: Path) -> dict[Strategy, list[dict[str, float]]]:
    """The final METRICS of every seed, by strategy, from a RESULTS_FILE.

    Raises:
        AblationError: if the file is missing or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = {
            Strategy.parse(name): [{metric: float(run[metric]) for metric in METRICS} for run in runs]
            for name, runs in content.items()
        }
        if not results or not all(results.values()):
            raise ValueError("a strategy without runs" if results else "no strategies")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AblationError(
            f"{path} does not hold the results of an ablation ({error!r}); give the {RESULTS_FILE} that "
            "tools/ablate.py writes beside its table.md, or run that again with the same --output, which keeps the "
            "runs that have ended"
        ) from error
    return results


def mean_and_spread(runs: Sequence[Mapping[str, float]], metric: str) -> tuple[float, float]:
    """Mean of a metric over seeds and its standard deviation (of the sample), nan of one seed."""
    values = np.array([run[metric] for run in runs])
    return values.mean(), values.std(ddof=1) if len(values) > 1 else np.nan


def format_mean(mean: float, spread: float) -> str:
    """As "48.7 ± 0.4", or "48.7" where the spread is nan."""
    return f"{mean:.1f}" if np.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"


def format_table(results: Mapping[Strategy, Sequence[Mapping[str, float]]]) -> str:
    """A row per strategy: mean and spread of each metric.

    Args:
        results: the final metrics of every seed.
    """
    rows = []
    for strategy, runs in results.items():
        row = [str(strategy), *((f"{strategy.k:g}", f"{strategy.beta:g}") if strategy.k else ("", "")), len(runs)]
        row += [format_mean(*mean_and_spread(runs, metric)) for metric in METRICS]
        row.append(f"{np.mean([run['images_seen'] for run in runs]):.0f}")
        rows.append(row)
    headers = ["strategy", "k", "beta", "runs", *METRICS, "images seen"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _check_evaluation(cfg: CfgNode) -> None:
    """Check that a run ends with METRICS.

    Raises:
        ConfigError: if it does not.
    """
    if missing := [name for name in EVALUATORS if name not in cfg.TEST.EVALUATORS]:
        raise ConfigError(
            f"TEST.EVALUATORS {list(cfg.TEST.EVALUATORS)} lacks {' and '.join(missing)}, which the table is made of; "
            "add what is missing"
        )
    if len(cfg.DATASETS.TEST) != 1:
        raise ConfigError(f"DATASETS.TEST has {len(cfg.DATASETS.TEST)} datasets; the table is of one: name one")


def _final_metrics(folder: Path) -> dict | None:
    """The last evaluation of a run that has ended, with the number of images seen; None of one that has not.

    Raises:
        AblationError: if its metrics cannot be read.
    """
    path = folder / "metrics.json"
    if not (folder / "model_final.pth").exists() or not path.exists():
        return None
    try:
        lines = read_metrics(path)
    except ValueError as error:
        raise AblationError(str(error)) from error
    merged = {key: value for line in lines for key, value in line.items()}
    evaluated = max((line["iteration"] for line in lines if METRICS[0] in line), default=-1)
    return merged if evaluated >= max((line["iteration"] for line in lines), default=0) - 1 else None
