"""What a fine-tuning has done: for programs as JSON, for people as a few lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .dataset import Split
from .object_size import NetworkScale
from .recipe import METRICS

# Held-out objects below which the numbers are a rough sign alone.
_FEW_OBJECTS = 50


@dataclasses.dataclass(frozen=True)
class FinetuneReport:
    """
    Attributes:
        model: what the training started from.
        bundle, report, picture: the files.
        split: which images were trained on and held out.
        classes: of the fine-tuned model.
        new_classes: those of them that the model did not have.
        scale: of images in the network.
        settings: learning rate and the like, for the record.
        steps: that were trained.
        minutes: in all, with preparation and evaluations; of a resumed one, with those of the calls before.
        ended: "steps", "minutes" or "early".
        before, after: METRICS in percent on the held-out images, of the model as it was and of the best one after a
            step of training; None without held-out images, ``before`` also of a model without these classes. F1 is that
            at the model's own score threshold.
        score_thresholds: of the model as it was, and of the bundle.
        kept_step: the bundle holds the model after so many steps; 0 is the model as it was.
        history: METRICS after so many steps.
    """

    model: str
    bundle: Path
    report: Path
    picture: Path
    split: Split
    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    scale: NetworkScale
    settings: dict
    steps: int
    minutes: float
    ended: str
    before: dict[str, float] | None
    after: dict[str, float] | None
    score_thresholds: tuple[float, float]
    kept_step: int
    history: list[dict[str, float]]

    @property
    def is_better(self) -> bool | None:
        """Whether the bundle's model is better than the one that it started from; None if that was not measured."""
        return None if self.before is None else self.kept_step > 0

    def to_json(self) -> dict:
        """Plain values, with the verdict."""
        values = dataclasses.asdict(self)
        files = {name: getattr(self, name).name for name in ("bundle", "report", "picture")}
        return {**values, **files, "verdict": self.verdict()}

    def verdict(self) -> str:
        """A few sentences."""
        former, chosen = self.score_thresholds
        if former == chosen:
            return self._comparison()
        on = "held-out" if self.split.held_out else "training"
        return (
            f"{self._comparison()} Objects count from a score of {chosen:.2g} on, the best for the {on} images; it was "
            f"{former:.2g}."
        )

    def _comparison(self) -> str:
        images, held_out = len(self.split.train), len(self.split.held_out)
        if self.after is None:
            return (
                f"Trained on all {images} image(s), {self.split.num_train_objects} objects, for {self.steps} steps: "
                f"too few to hold any out, so nothing is measured. Look at {self.picture}, and at predictions of "
                "images that you know."
            )
        where = f"{held_out} held-out image(s) with {self.split.num_held_out_objects} objects"
        rough = ""
        if self.split.num_held_out_objects < _FEW_OBJECTS:
            rough = " So few objects are a rough sign only; label more to know better."
        if self.before is None:
            numbers = ", ".join(f"{name} {self.after[name]:.1f}" for name in METRICS)
            return f"On {where}: {numbers}, after {self.kept_step} steps on {images} images.{rough}"
        if self.kept_step == 0:
            return (
                f"Training made it no better on {where}: AP {self.before['AP']:.1f} before and {self.after['AP']:.1f} "
                f"at best after it. The bundle holds the model as it was.{rough}"
            )
        changes = ", ".join(f"{name} {self.before[name]:.1f} -> {self.after[name]:.1f}" for name in METRICS)
        return f"On {where}: {changes}, after {self.kept_step} steps on {images} images.{rough}"

    def card(self, card: str) -> str:
        """A model card with a section on the fine-tuning."""
        lines = [
            card.rstrip(),
            "",
            "## Fine-tuned",
            "",
            f"From {Path(self.model).name}, on {len(self.split.train)} images, {self.split.num_train_objects} objects.",
        ]
        if self.after is not None:
            lines.append(self.verdict())
        return "\n".join(lines) + "\n"
