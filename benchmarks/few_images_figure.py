"""The curves of several few-images experiments in one picture.

python -m benchmarks.few_images_figure "leaves=output/few_lsc" "cells=output/few_psc" --output few-images.svg
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from .few_images import Result, plot_curves


def read_results(folder: Path) -> list[Result]:
    """What :mod:`benchmarks.few_images` wrote to a folder.

    Raises:
        OSError, ValueError: if there are no results, or damaged ones.
    """
    path = folder / "few_images.json"
    try:
        return [Result(**run) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); run benchmarks.few_images again") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Write the picture; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.few_images_figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiments", nargs="+", metavar="TITLE=FOLDER", help="folders of benchmarks.few_images")
    parser.add_argument("--output", type=Path, required=True, help="picture, .png or .svg")
    args = parser.parse_args(argv)
    matplotlib.use("Agg")
    try:
        pairs = [experiment.rpartition("=") for experiment in args.experiments]
        if unnamed := [folder for _, equals, folder in pairs if not equals]:
            raise ValueError(f"give {unnamed[0]} a title: TITLE={unnamed[0]}")
        plot_curves({title: read_results(Path(folder)) for title, _, folder in pairs}, args.output)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
