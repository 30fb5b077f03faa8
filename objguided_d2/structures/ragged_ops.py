"""Differentiable row operations for ragged batches: values are (P, C), one row a pixel, pixels of one ROI in a run.

Glossary: P output rows, S source rows, K rows read per output, C channels, R runs (ROIs).

``embedding_bag`` is the workhorse: it is a fused weighted sum of rows, on CPU and CUDA, and both directions of every
linear map here can be written as one call of it. Its own backward scatters row by row, which took ten times longer
than the forward; the functions below run the transposed map as a forward instead, which also makes it deterministic.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


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


def pointwise_conv(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1x1 convolution of pixels in a list: values (P, C), weight (C_out, C) -> (P, C_out)."""
    if values.device.type != "cpu" or not len(values):
        return F.linear(values, weight, bias)
    # PyTorch's matrix products of float32 go through MKL, which was four times slower than oneDNN's convolutions on
    # processors that are not Intel's.
    plane = values[None, None].permute(0, 3, 1, 2)
    return F.conv2d(plane, weight[:, :, None, None], bias).permute(0, 2, 3, 1).flatten(0, 2)


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


def segment_norm_relu(
    values: Tensor,
    place: Tensor,
    starts: Tensor,
    segment: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """ReLU of the instance norm (Eq. 6) of each run over its own rows, channels apart, with biased variance.

    Args:
        values: (Q, C) float, rows in any order, some of no run; half precisions are normalised in float32.
        place: (P,) int64, the rows of all runs, one run after the other.
        starts: (R + 1,) int64, run r having the entries [starts[r], starts[r + 1]) of ``place``.
        segment: (Q,) int64, the run of every row; R for rows of none, which get the ReLU of ``bias``.
        weight, bias: (C,) learned scale and shift, or None.
        eps: added to the variance.

    Returns:
        (Q, C), dtype of ``values``.
    """
    return _SegmentNormRelu.apply(values, place, starts, segment, weight, bias, eps)


def _run_sums(values: Tensor, place: Tensor, starts: Tensor) -> Tensor:
    return F.embedding_bag(place, values, starts, mode="sum", include_last_offset=True)


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


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, starts, segment):
        ctx.save_for_backward(segment)
        return _run_sums(values, torch.arange(len(values), device=values.device), starts)

    @staticmethod
    def backward(ctx, grad):
        (segment,) = ctx.saved_tensors
        return grad.index_select(0, segment), None, None


class _SegmentNormRelu(torch.autograd.Function):
    """Few passes over memory: what differs from run to run is looked up in a table that ends with zeros, for rows of no
    run."""

    @staticmethod
    def forward(ctx, values, place, starts, segment, weight, bias, eps):
        is_half = values.dtype in (torch.float16, torch.bfloat16)
        wide = at_least_float32(values)
        count = (starts[1:] - starts[:-1]).clamp(min=1)[:, None].to(wide.dtype)
        mean = _run_sums(wide, place, starts) / count
        if is_half:
            # The mean of squares minus the square of the mean, in float32, keeps what half precision has had.
            variance = (_run_sums(wide * wide, place, starts) / count - mean * mean).clamp(min=0)
        else:
            # That difference would cancel for nearly constant crops.
            centered = _look_up(mean, segment)
            torch.sub(wide, centered, out=centered)
            variance = _run_sums(centered * centered, place, starts) / count
        inverse_std = (variance + eps).rsqrt()
        scale = inverse_std if weight is None else inverse_std * weight
        if is_half:
            # A mean rounded to half precision, taken off first, leaves small differences as they are; what the rounding
            # has changed is part of the shift.
            middle = mean.to(values.dtype)
            shift = (middle - mean) * scale if bias is None else torch.addcmul(bias, middle - mean, scale)
            output = _look_up(middle, segment)
            torch.sub(values, output, out=output)
            of_scale, of_shift = (_look_up(table.to(values.dtype), segment) for table in (scale, shift))
            output = torch.addcmul(of_shift, output, of_scale, out=output)
        else:
            output = _look_up(scale, segment).mul_(centered)
            output = output if bias is None else output.add_(bias)
        output.relu_()
        ctx.save_for_backward(output, values, mean, inverse_std, count, scale, place, starts, segment)
        ctx.has_weight, ctx.has_bias = weight is not None, bias is not None
        return output

    @staticmethod
    def backward(ctx, grad):
        output, values, mean, inverse_std, count, scale, place, starts, segment = ctx.saved_tensors
        centered = _look_up(mean, segment)
        torch.sub(values, centered, out=centered)
        grad = (grad * (output > 0)).to(centered.dtype)
        of_shift = _run_sums(grad, place, starts)
        of_scale = _run_sums(grad * centered, place, starts) * inverse_std
        factor = scale / count
        grad_values = _look_up(scale, segment).mul_(grad).sub_(_look_up(factor * of_shift, segment))
        grad_values.addcmul_(centered, _look_up(factor * of_scale * inverse_std, segment), value=-1)
        grad_weight = of_scale.sum(0) if ctx.has_weight else None
        grad_bias = of_shift.sum(0) if ctx.has_bias else None
        return grad_values.to(output.dtype), None, None, None, grad_weight, grad_bias, None


def _look_up(of_runs: Tensor, segment: Tensor) -> Tensor:
    """(R, C) -> (Q, C): the value of each row's run, zeros for rows of none."""
    return F.pad(of_runs, (0, 0, 0, 1)).index_select(0, segment)
