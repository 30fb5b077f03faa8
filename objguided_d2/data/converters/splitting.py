"""Which images train and which are held out."""

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")


def split_groups(groups: Sequence[str], val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Assign items to splits so that items of one group stay together.

    Groups are shuffled by the seed; the test split takes each that brings it nearer to its fraction of the items, then
    the validation split. A split with a fraction above 0 gets at least one group, the smallest if all are too large.

    Args:
        groups: the group of each item; an item alone is a group by itself.
        val_fraction, test_fraction: fractions of the items, in [0, 1), their sum under 1.
        seed: not negative; the same groups and seed give the same splits, in whatever order the items come.

    Returns:
        "train", "val" or "test" for each item.
    Raises:
        ValueError: for fractions out of range, or fewer groups than splits.
    """
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            f"fractions {val_fraction} for val and {test_fraction} for test must be at least 0, under 1 in all"
        )
    names, counts = np.unique(groups, return_counts=True)
    wanted = [(split, fraction) for split, fraction in (("test", test_fraction), ("val", val_fraction)) if fraction > 0]
    if len(names) <= len(wanted):
        raise ValueError(
            f"{len(names)} group(s) cannot be split into {len(wanted) + 1} parts; give more images or groups"
        )
    left = np.random.default_rng(seed).permutation(len(names)).tolist()
    split_of = dict.fromkeys(names.tolist(), "train")
    for k, (split, fraction) in enumerate(wanted):
        # One group at least is left for each split to come, and for training.
        chosen = _choose(left, counts, fraction * len(groups), len(left) - (len(wanted) - k))
        split_of.update(dict.fromkeys(names[chosen].tolist(), split))
        left = [group for group in left if split_of[str(names[group])] == "train"]
    return [split_of[group] for group in groups]


def _choose(groups: Sequence[int], counts: np.ndarray, wanted: float, at_most: int) -> list[int]:
    """In their order the groups that bring the number of items nearer to ``wanted``; the smallest if none does."""
    chosen: list[int] = []
    taken = 0
    for group in groups:
        if len(chosen) < at_most and taken + counts[group] / 2 <= wanted:
            chosen.append(group)
            taken += counts[group]
    return chosen or [min(groups, key=lambda group: counts[group])]
