from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objguided_d2.data.converters.splitting import split_groups


@given(st.lists(st.sampled_from("abcdefgh"), min_size=8).filter(lambda g: len(set(g)) > 2), st.integers(0, 5))
def test_groups_stay_together_and_order_does_not_matter(groups, seed):
    splits = split_groups(groups, 0.3, 0.2, seed)
    split_of = dict(zip(groups, splits))
    assert all(split_of[group] == split for group, split in zip(groups, splits))
    assert set(splits) == {"train", "val", "test"}
    assert split_groups(groups[::-1], 0.3, 0.2, seed) == splits[::-1]


def test_shares_of_single_images():
    splits = split_groups([f"{i:03d}" for i in range(200)], 0.2, 0.1, 0)
    assert Counter(splits) == {"train": 140, "val": 40, "test": 20}
    assert splits != split_groups([f"{i:03d}" for i in range(200)], 0.2, 0.1, 1)


def test_a_large_group_does_not_swallow_training():
    splits = split_groups(["a"] * 50 + ["b"] * 2 + ["c"] * 2, 0.1, 0.0, 0)
    assert set(splits) == {"train", "val"}


@pytest.mark.parametrize("seed", range(4))
def test_a_split_takes_the_groups_nearest_to_its_fraction(seed):
    assert Counter(split_groups(["a"] * 90 + ["b"] * 10, 0.1, 0.0, seed)) == {"train": 90, "val": 10}
    assert Counter(split_groups(["a"] * 90 + ["b"] * 5 + ["c"] * 5, 0.1, 0.0, seed)) == {"train": 90, "val": 10}


def test_no_held_out_images():
    assert split_groups(["a", "b"], 0, 0, 0) == ["train", "train"]


@pytest.mark.parametrize("fractions", [(-0.1, 0.2), (0.6, 0.4), (1.0, 0.0)])
def test_fractions_out_of_range(fractions):
    with pytest.raises(ValueError, match="fractions"):
        split_groups(["a", "b", "c"], *fractions, 0)


def test_too_few_groups():
    with pytest.raises(ValueError, match="2 group"):
        split_groups(["a", "a", "b"], 0.3, 0.3, 0)
