"""A handful of runs on one dataset -> tables, figures and a page to look at."""

from collections.abc import Sequence
from pathlib import Path

from ..engine.ablation import read_ablation
from .collect import collect
from .options import Options
from .render import render_comparison

__all__ = ["Options", "compare"]


def compare(
    dataset_name: str, paths: Sequence[Path], output: Path, options: Options, ablation: Path | None = None
) -> Path:
    """Write ``index.html``, ``tables.md``, ``metrics.json`` and the figures into ``output``.

    Args:
        dataset_name, paths: see :func:`.collect.collect`.
        ablation: results of :func:`..engine.ablation.run_ablation` to show as well.

    Returns:
        The page.
    Raises:
        RunError: for a run that cannot be compared, or an unknown dataset.
        AblationError: if ``ablation`` is not such results.
    """
    strategies = read_ablation(ablation) if ablation else None  # First: the rest takes minutes.
    return render_comparison(collect(dataset_name, paths, output, options), output, strategies)
