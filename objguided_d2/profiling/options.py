"""The choices of a benchmark and the error about wrong ones, without what imports torch."""

# float32, and those that autocast computes in: names of torch's types.
PRECISIONS = ("float32", "bfloat16", "float16")
DEFAULT_ROUNDS = 7


class BenchmarkError(ValueError):
    """Something given that cannot be measured. The message names it and what to do."""
