"""Runs of pixels -> COCO's compressed run-length encodings, for all masks of an image at once.

COCO counts pixels column by column: first those before the first run, then those in it, then those before the next, and
so on. From the fourth count on it keeps the difference from the count two before it, and writes each number five bits
a character, the lowest bits first; bit 5 of a character says that another follows.
"""

import numpy as np

_BITS = 5
_CHARACTERS = 7  # of a number of 32 bits
_FIRST_CHARACTER = 48


def encode_runs(
    begin: np.ndarray, end: np.ndarray, owner: np.ndarray, num_masks: int, size: tuple[int, int]
) -> list[dict]:
    """Encode masks that are given as runs.

    Args:
        begin, end: (M,) int64, flat indices in column-major order where each run begins and where it has ended;
            runs of one mask are in rising order with a pixel or more between them.
        owner: (M,) int64, the mask of each run, in rising order.
        num_masks: R.
        size: (height, width) of the image.

    Returns:
        R dicts ``{"size": [height, width], "counts": str}``, as pycocotools writes them.
    """
    height, width = size
    num_runs = np.bincount(owner, minlength=num_masks)
    last_run = np.cumsum(num_runs) - 1
    previous_end = np.concatenate([[0], end])[:-1]
    first_run = last_run[num_runs > 0] - num_runs[num_runs > 0] + 1
    previous_end[first_run] = 0
    covered = np.zeros(num_masks, np.int64)
    covered[num_runs > 0] = end[last_run[num_runs > 0]]
    rest = height * width - covered

    # Two counts a run, then what is left after the last one, if there is any; a mask without runs has the rest alone.
    has_rest = (rest > 0) | (num_runs == 0)
    num_counts = 2 * num_runs + has_rest
    first_count = np.cumsum(num_counts) - num_counts
    counts = np.empty(int(num_counts.sum()), np.int64)
    run_count = first_count[owner] + 2 * (np.arange(len(owner)) - (last_run - num_runs + 1)[owner])
    counts[run_count] = begin - previous_end
    counts[run_count + 1] = end - begin
    counts[(first_count + num_counts - 1)[has_rest]] = rest[has_rest]

    count_mask = np.repeat(np.arange(num_masks), num_counts)
    rank = np.arange(len(counts)) - first_count[count_mask]
    numbers = counts.copy()
    late = np.flatnonzero(rank > 2)
    numbers[late] -= counts[late - 2]
    characters, written = _write_numbers(numbers)
    text = characters[written].tobytes().decode("ascii")
    ends = np.cumsum(np.bincount(count_mask, weights=written.sum(axis=1), minlength=num_masks)).astype(np.int64)
    return [
        {"size": [height, width], "counts": text[first:last]}
        for first, last in zip([0, *ends[:-1].tolist()], ends.tolist())
    ]


def _write_numbers(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 -> characters (N, 7) uint8, and which of them are written, (N, 7) bool."""
    characters = np.empty((len(numbers), _CHARACTERS), np.uint8)
    written = np.empty((len(numbers), _CHARACTERS), bool)
    rest, is_written = numbers, np.ones(len(numbers), bool)
    for k in range(_CHARACTERS):
        bits = rest & (2**_BITS - 1)
        rest = rest >> _BITS
        # The highest bit written is the sign.
        more = np.where(bits & 2 ** (_BITS - 1), rest != -1, rest != 0)
        characters[:, k] = bits + (more << _BITS) + _FIRST_CHARACTER
        written[:, k] = is_written
        is_written = is_written & more
    return characters, written
