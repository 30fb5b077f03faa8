"""Differentiable row operations for ragged batches: values are (P, C), one row a pixel, pixels of one ROI in a run.

Glossary: P output rows, S source rows, K rows read per output, C channels, R runs (ROIs).

``embedding_bag`` is the workhorse: it is a fused weighted sum of rows, on CPU and CUDA, and both directions of every
linear map here can be written as one call of it. Its own backward scatters row by row, which took ten times longer
than the forward; the functions below run the transposed map as a forward instead, which also makes it deterministic.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_gather(source: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows: ``out[p] = sum_k weight[p, k] * source[index[p, k]]``.

    Args:
        source: (S, C) float.
        index: (P, K) int64 in [0, S).
        weight: (P, K) float, constant (no gradient); cast to the dtype of ``source``.

    Returns:
        (P, C), dtype of ``source``.
    """
    return _WeightedGather.apply(source, index, weight.to(source.dtype))


def gather_rows(source: Tensor, index: Tensor) -> Tensor:
    """``source[index]`` for an ``index`` (P,) without repeats: (S, C) -> (P, C)."""
    return _GatherRows.apply(source, index)


def scatter_rows(values: Tensor, index: Tensor, num_rows: int) -> Tensor:
    """Zeros (num_rows, C) with ``values`` (P, C) written at ``index`` (P,), which has no repeats."""
    return _ScatterRows.apply(values, index, num_rows)


def segment_sum(values: Tensor, starts: Tensor, segment: Tensor) -> Tensor:
    """Sum the rows of each run.

    Args:
        values: (P, C) float.
        starts: (R + 1,) int64, run r being the rows [starts[r], starts[r + 1]).
        segment: (P,) int64, the run of every row.

    Returns:
        (R, C), dtype of ``values``; zeros for empty runs.
    """
    return _SegmentSum.apply(values, starts, segment)


def segment_mean(values: Tensor, starts: Tensor, segment: Tensor) -> Tensor:
    """Mean of the rows of each run, (P, C) -> (R, C); zeros for empty runs."""
    count = (starts[1:] - starts[:-1]).clamp(min=1)
    return segment_sum(values, starts, segment) / count[:, None].to(values.dtype)


def segment_instance_norm(
    values: Tensor, starts: Tensor, segment: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Instance norm (Eq. 6) of each run over its own rows, channels apart, with biased variance.

    Args:
        values: (P, C) float; half precisions are normalised in float32.
        starts, segment: as in :func:`segment_sum`.
        weight, bias: (C,) learned scale and shift, or None.
        eps: added to the variance.

    Returns:
        (P, C), dtype of ``values``.
    """
    normalised = _SegmentNormalise.apply(
        values.float() if values.dtype != torch.float64 else values, starts, segment, eps
    )
    if weight is not None:
        normalised = torch.addcmul(bias, normalised, weight)
    return normalised.to(values.dtype)


def _run_sums(values: Tensor, starts: Tensor) -> Tensor:
    rows = torch.arange(values.shape[0], device=values.device)
    return F.embedding_bag(rows, values, starts, mode="sum", include_last_offset=True)


class _WeightedGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, source, index, weight):
        ctx.save_for_backward(index, weight)
        ctx.num_rows = source.shape[0]
        return F.embedding_bag(index, source, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx, grad):
        index, weight = ctx.saved_tensors
        flat = index.reshape(-1)
        order = flat.argsort()
        count = torch.zeros(ctx.num_rows + 1, dtype=torch.int64, device=flat.device)
        count.scatter_add_(0, flat + 1, torch.ones_like(flat))
        # Zero weights mark reads outside a map; they stay in the bags, where they add nothing.
        grad_source = F.embedding_bag(
            order // index.shape[1],
            grad.contiguous(),
            count.cumsum(0),
            mode="sum",
            include_last_offset=True,
            per_sample_weights=weight.reshape(-1).index_select(0, order).to(grad.dtype),
        )
        return grad_source, None, None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, source, index):
        ctx.save_for_backward(index)
        ctx.num_rows = source.shape[0]
        return source.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.num_rows, grad.shape[1]).index_copy_(0, index, grad), None


class _ScatterRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, index, num_rows):
        ctx.save_for_backward(index)
        return values.new_zeros(num_rows, values.shape[1]).index_copy_(0, index, values)

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        return grad.index_select(0, index), None, None


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, starts, segment):
        ctx.save_for_backward(segment)
        return _run_sums(values, starts)

    @staticmethod
    def backward(ctx, grad):
        (segment,) = ctx.saved_tensors
        return grad.index_select(0, segment), None, None


class _SegmentNormalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, starts, segment, eps):
        count = (starts[1:] - starts[:-1]).clamp(min=1)[:, None].to(values.dtype)
        mean = _run_sums(values, starts) / count
        # Two passes: the mean of squares minus the square of the mean cancels for nearly constant crops.
        centered = values - mean.index_select(0, segment)
        inverse_std = (_run_sums(centered * centered, starts) / count + eps).rsqrt()
        normalised = centered.mul_(inverse_std.index_select(0, segment))
        ctx.save_for_backward(normalised, inverse_std, count, starts, segment)
        return normalised

    @staticmethod
    def backward(ctx, grad):
        normalised, inverse_std, count, starts, segment = ctx.saved_tensors
        grad = grad.contiguous()
        mean_grad = _run_sums(grad, starts) / count
        mean_product = _run_sums(grad * normalised, starts) / count
        grad_values = grad - mean_grad.index_select(0, segment)
        grad_values.addcmul_(normalised, mean_product.index_select(0, segment), value=-1)
        return grad_values.mul_(inverse_std.index_select(0, segment)), None, None, None
