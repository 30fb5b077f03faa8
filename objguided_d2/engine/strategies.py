"""The sampling strategies of the refinement that the paper compares (Table II)."""

from dataclasses import dataclass

# Table II of the paper: name -> (k, beta), no refinement first.
TABLE_II = {
    "none": (0, 0),
    "Uniform_small": (1, 1),
    "Biased_small": (1, 0.5),
    "Uniform": (3, 3),
    "Mildly Biased": (3, 2),
    "Slightly Biased": (3, 1),
    "Moderately Biased": (3, 0.75),
    "Greatly Biased": (5, 0.75),
    "Heavily Biased": (10, 0.75),
}


@dataclass(frozen=True)
class Strategy:
    """A row of Table II: k N points are drawn and the beta N most uncertain kept (II-C); beta = k is uniform, 0 none.

    Raises:
        ValueError: if (k, beta) is not in the table.
    """

    k: float
    beta: float

    def __post_init__(self) -> None:
        if (self.k, self.beta) not in TABLE_II.values():
            raise ValueError(f"strategy ({self.k:g}, {self.beta:g}) is not in Table II, which has {TABLE_II}")

    @classmethod
    def parse(cls, text: str) -> "Strategy":
        """The strategy of a name of Table II; case does not matter, and "_" may be written for a space.

        Raises:
            ValueError: for anything else.
        """
        pairs = {_slug(name): pair for name, pair in TABLE_II.items()}
        if _slug(text) not in pairs:
            raise ValueError(f"strategy {text!r} is not one of {', '.join(pairs)}")
        return cls(*pairs[_slug(text)])

    def __str__(self) -> str:
        return next(name for name, pair in TABLE_II.items() if pair == (self.k, self.beta))

    @property
    def slug(self) -> str:
        """The name as a file name: lower case, "_" for spaces."""
        return _slug(str(self))

    @property
    def kind(self) -> str:
        """What the points are chosen by: "no refinement", "uniform" or "uncertain"."""
        if not self.k:
            return "no refinement"
        return "uniform" if self.beta == self.k else "uncertain"

    @property
    def title(self) -> str:
        """The name with (k, beta), for pictures."""
        return f"{self} ({self.k:g}, {self.beta:g})" if self.k else "no refinement"

    @property
    def options(self) -> list[str]:
        """Config overrides, as KEY VALUE pairs."""
        if not self.k:
            return ["MODEL.ROI_MASK_HEAD.REFINE.ENABLED", "False"]
        key = "MODEL.ROI_MASK_HEAD.REFINE"
        return [f"{key}.ENABLED", "True", f"{key}.K", str(float(self.k)), f"{key}.BETA", str(float(self.beta))]


def _slug(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


STRATEGIES = tuple(Strategy(k, beta) for k, beta in TABLE_II.values())
