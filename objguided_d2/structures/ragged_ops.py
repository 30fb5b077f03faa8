"""Differentiable row operations for ragged batches: values are (rows, C), the rows of one ROI being a segment.

Glossary: M rows, S source rows, K rows gathered per output, C channels, R segments (ROIs); P pixels and Q cells as in
``roi_canvas``.

``embedding_bag`` is the workhorse: it is a fused weighted sum of rows, on CPU and CUDA, and both directions of every
linear map here can be written as one call of it. Its own backward scatters row by row, which on a CPU took ten times
longer than the forward; the functions below run the transposed map as a forward instead, which also makes it
deterministic. A CUDA thread sums a whole bag, one row after the other: there, long bags are summed in parts, and the
transposed map adds by atomics, as that of Detectron2's ROIAlign does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows that one CUDA thread sums: a bag of thousands, an ROI's pixels say, made it take 90 % of a training step.
ROWS_PER_PART = 32


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions as float32; float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weighted_gather(source: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows: ``out[m] = sum_k weight[m, k] * source[index[m, k]]``.

    Args:
        source: (S, C) float.
        index: (M, K) int64 in [0, S).
        weight: (M, K) float, constant (no gradient); cast to the dtype of ``source``.

    Returns:
        (M, C), dtype of ``source``.
    """
    return _WeightedGather.apply(source, index, weight.to(source.dtype))


def gather_rows(source: Tensor, index: Tensor) -> Tensor:
    """``source[index]`` for an ``index`` (M,) without repeats: (S, C) -> (M, C)."""
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
    """Sum the rows of each segment.

    Args:
        values: (M, C) float.
        starts: (R + 1,) int64, segment r being the rows [starts[r], starts[r + 1]).
        segment: (M,) int64, the segment of every row.

    Returns:
        (R, C), dtype of ``values``; zeros for empty segments.
    """
    return _SegmentSum.apply(values, starts, segment)


def segment_mean(values: Tensor, starts: Tensor, segment: Tensor) -> Tensor:
    """Mean of the rows of each segment, (M, C) -> (R, C); zeros for empty segments."""
    count = (starts[1:] - starts[:-1]).clamp(min=1)
    return segment_sum(values, starts, segment) / count[:, None].to(values.dtype)


def segment_norm_relu(
    values: Tensor,
    cells: Tensor,
    starts: Tensor,
    roi: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """ReLU of the instance norm (Eq. 6) of each ROI over its own pixels, channels apart, with biased variance.

    Args:
        values: (Q, C) float, cells in any order, some of no ROI; half precisions are normalized in float32.
        cells: (P,) int64, the cell of every pixel, ROI after ROI.
        starts: (R + 1,) int64, ROI r having the entries [starts[r], starts[r + 1]) of ``cells``.
        roi: (Q,) int64, the ROI of every cell; R for cells of none, which get the ReLU of ``bias``.
        weight, bias: (C,) learned scale and shift, or None.
        eps: added to the variance.

    Returns:
        (Q, C), dtype of ``values``.
    """
    return _SegmentNormRelu.apply(values, cells, starts, roi, weight, bias, eps)


def _segment_sums(values: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """(R, C): sum of ``values[rows[i]]`` over the entries i of each segment."""
    if values.is_cuda:
        return sums_in_parts(values, rows, starts)
    return F.embedding_bag(rows, values, starts, mode="sum", include_last_offset=True)


def sums_in_parts(values: Tensor, rows: Tensor, starts: Tensor) -> Tensor:
    """Sums of segments of any length, each cut into parts of at most ``ROWS_PER_PART`` entries that are summed first.

    Args:
        values: (S, C) float.
        rows: (M,) int64, the row of each entry.
        starts: (R + 1,) int64, segment r having the entries [starts[r], starts[r + 1]); the last is M.

    Returns:
        (R, C), dtype of ``values``; zeros for empty segments.
    """
    every = torch.arange(0, len(rows), ROWS_PER_PART, device=rows.device)
    cuts = torch.cat([starts, every]).sort().values
    parts = F.embedding_bag(rows, values, cuts, mode="sum", include_last_offset=True)
    index = torch.arange(len(parts), device=rows.device)
    return F.embedding_bag(index, parts, torch.searchsorted(cuts, starts), mode="sum", include_last_offset=True)


class _WeightedGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, source, index, weight):
        ctx.save_for_backward(index, weight)
        ctx.num_rows = source.shape[0]
        return F.embedding_bag(index, source, per_sample_weights=weight, mode="sum")

    @staticmethod
    def backward(ctx, grad):
        index, weight = ctx.saved_tensors
        scatter = scatter_with_atomics if grad.is_cuda else _scatter_sorted
        return scatter(grad, index, weight, ctx.num_rows), None, None


def _scatter_sorted(grad: Tensor, index: Tensor, weight: Tensor, num_rows: int) -> Tensor:
    """The transpose of ``weighted_gather``, (M, C) -> (S, C), as sums of bags, one per row of the result."""
    flat = index.reshape(-1)
    order = flat.argsort()
    count = torch.zeros(num_rows + 1, dtype=torch.int64, device=flat.device)
    count.scatter_add_(0, flat + 1, torch.ones_like(flat))
    # Zero weights mark samples outside a map; they stay in the bags, where they add nothing.
    return F.embedding_bag(
        order // index.shape[1],
        grad.contiguous(),
        count.cumsum(0),
        mode="sum",
        include_last_offset=True,
        per_sample_weights=weight.reshape(-1).index_select(0, order).to(grad.dtype),
    )


def scatter_with_atomics(grad: Tensor, index: Tensor, weight: Tensor, num_rows: int) -> Tensor:
    """The same on CUDA, where bags of a million rows, most with few entries and some with thousands, were slow."""
    flat = index.reshape(-1)
    # Zero weights mark samples outside a map, often all at one row, which their additions would wait for.
    spread = torch.arange(len(flat), device=flat.device) % max(num_rows, 1)
    flat = torch.where(weight.reshape(-1) == 0, spread, flat)
    terms = at_least_float32(grad)[:, None] * weight[:, :, None]
    result = terms.new_zeros(num_rows, grad.shape[1])
    return result.index_add_(0, flat, terms.flatten(0, 1)).to(grad.dtype)


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
        return _segment_sums(values, torch.arange(len(values), device=values.device), starts)

    @staticmethod
    def backward(ctx, grad):
        (segment,) = ctx.saved_tensors
        return grad.index_select(0, segment), None, None


class _SegmentNormRelu(torch.autograd.Function):
    """Few passes over memory: what differs from ROI to ROI is looked up in tables that end with zeros, for the gutter.

    For one ROI and channel with n pixels x, mean m, variance v, scale g and shift b::

        z = (x - m) / sqrt(v + eps)          y = relu(g z + b)
    """

    @staticmethod
    def forward(ctx, values, cells, starts, roi, weight, bias, eps):
        is_half = values.dtype in (torch.float16, torch.bfloat16)
        wide = at_least_float32(values)
        count = (starts[1:] - starts[:-1]).clamp(min=1)[:, None].to(wide.dtype)
        mean = _segment_sums(wide, cells, starts) / count
        if is_half:
            # The mean of squares minus the square of the mean, in float32, keeps what half precision has had.
            variance = (_segment_sums(wide * wide, cells, starts) / count - mean * mean).clamp(min=0)
        else:
            # That difference would cancel for nearly constant crops.
            centered = _look_up(mean, roi)
            torch.sub(wide, centered, out=centered)
            variance = _segment_sums(centered * centered, cells, starts) / count
        inverse_std = (variance + eps).rsqrt()
        scale = inverse_std if weight is None else inverse_std * weight
        if is_half:
            # A mean rounded to half precision, subtracted first, leaves small differences as they are; what the
            # rounding has changed is part of the shift.
            rounded_mean = mean.to(values.dtype)
            error = rounded_mean - mean
            shift = error * scale if bias is None else torch.addcmul(bias, error, scale)
            output = _look_up(rounded_mean, roi)
            torch.sub(values, output, out=output)
            cell_scale, cell_shift = (_look_up(table.to(values.dtype), roi) for table in (scale, shift))
            output = torch.addcmul(cell_shift, output, cell_scale, out=output)
        else:
            output = _look_up(scale, roi).mul_(centered)
            output = output if bias is None else output.add_(bias)
        output.relu_()
        ctx.save_for_backward(output, values, mean, inverse_std, count, scale, cells, starts, roi)
        ctx.has_weight, ctx.has_bias = weight is not None, bias is not None
        return output

    @staticmethod
    def backward(ctx, grad_output):
        """With dy the gradient of y where y > 0, else 0, and sums over the n pixels of one ROI::

            db = sum dy          dg = sum dy z          dx = g / sqrt(v + eps) (dy - db / n - z dg / n)

        The parameters' gradients are the sums of db and of dg over the ROIs.
        """
        output, values, mean, inverse_std, count, scale, cells, starts, roi = ctx.saved_tensors
        centered = _look_up(mean, roi)
        torch.sub(values, centered, out=centered)
        grad_affine = (grad_output * (output > 0)).to(centered.dtype)
        grad_shift = _segment_sums(grad_affine, cells, starts)
        grad_scale = _segment_sums(grad_affine * centered, cells, starts) * inverse_std
        scale_over_count = scale / count
        grad_values = _look_up(scale, roi).mul_(grad_affine).sub_(_look_up(scale_over_count * grad_shift, roi))
        grad_values.addcmul_(centered, _look_up(scale_over_count * grad_scale * inverse_std, roi), value=-1)
        grad_weight = grad_scale.sum(0) if ctx.has_weight else None
        grad_bias = grad_shift.sum(0) if ctx.has_bias else None
        return grad_values.to(output.dtype), None, None, None, grad_weight, grad_bias, None


def _look_up(table: Tensor, roi: Tensor) -> Tensor:
    """(R, C) -> (Q, C): the row of each cell's ROI, zeros for cells of none."""
    return F.pad(table, (0, 0, 0, 1)).index_select(0, roi)
