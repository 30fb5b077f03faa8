"""Which model to predict with and how: what a process needs to build its own predictor."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

from .options import HALO, TILE
from .predictor import Predictor
from .pretrained import model_path


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Arguments of :meth:`Predictor.from_pretrained`, which can be sent to another process."""

    model: str
    weights: str | None = None
    device: str | None = None
    score_threshold: float | None = None
    tile: int = TILE
    halo: int | str = HALO
    tile_batch: int = 1
    precision: str | None = None
    orientations: int | None = None

    def load(self) -> Predictor:
        """Build the predictor.

        Raises:
            ValueError: if there is no such model, in one line.
        """
        return Predictor.from_pretrained(
            self.model,
            weights=self.weights,
            device=self.device,
            score_threshold=self.score_threshold,
            tile=self.tile,
            halo=self.halo,
            tile_batch=self.tile_batch,
            precision=self.precision,
            orientations=self.orientations,
        )

    def load_once(self) -> Predictor:
        """The same predictor again as long as the files it was built from are the same."""
        return _load(self, self._stamp())

    def absolute(self) -> ModelSpec:
        """With paths that hold in any folder."""
        is_path = Path(self.model).exists() and model_path(self.model) == Path(self.model)
        model = str(Path(self.model).resolve()) if is_path else self.model
        weights = str(Path(self.weights).resolve()) if self.weights and Path(self.weights).exists() else self.weights
        return dataclasses.replace(self, model=model, weights=weights)

    def _stamp(self) -> tuple:
        paths = [Path(name) for name in (self.model, self.weights) if name and Path(name).exists()]
        files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        return tuple((os.fspath(file), file.stat().st_mtime_ns) for file in files if file.is_file())


@functools.lru_cache(maxsize=1)
def _load(spec: ModelSpec, stamp: tuple) -> Predictor:
    return spec.load()
