"""Which images train and which are held out."""

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")


def split_groups(groups: Sequence[str], val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Assign items to splits so that items of one group stay together.

    Groups are shuffled by the seed; the test split takes them until it has its fraction of the items, then the
    validation split. A split with a fraction above 0 gets at least one group.

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
    order = np.random.default_rng(seed).permutation(len(names))
    split_of = dict.fromkeys(names.tolist(), "train")
    position = 0
    for k, (split, fraction) in enumerate(wanted):
        taken = 0
        # One group at least is left for each split to come, and for training.
        last = len(names) - (len(wanted) - k)
        while position < last and (taken == 0 or taken + counts[order[position]] / 2 <= fraction * len(groups)):
            split_of[str(names[order[position]])] = split
            taken += counts[order[position]]
            position += 1
    return [split_of[group] for group in groups]
