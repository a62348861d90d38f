"""An interval for any statistic, from the sample itself: draw items anew, with replacement, and compute it again.

Items lie along the last axis of a sample; leading axes are a batch, each row with an interval of its own, from
resamples whose items have the same places in every row. The work is done in float64, a block of resamples at a time,
so that memory stays within a few times the data.

Errors: fewer than two items, NaN, infinity, samples that do not fit, and a statistic that is not finite or not one
number per row are a ValueError; what is no array of real numbers is a TypeError.
"""

import math

import numpy as np
import torch

from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    generator,
    numpy_generator,
    one_of,
    open_fraction,
    positive_integer,
    samples,
)
from studyguide.statistics.intervals import Interval

CPU_BLOCK, GPU_BLOCK = 2**20, 2**23  # items drawn at a time; on a CPU few enough for its cache


def bootstrap_interval(
    data, statistic="mean", method="percentile", paired=False, n_resamples=9999, confidence=0.95, *, rng
):
    """Bootstrap interval of a mean, of a difference of means (second less first), or of any statistic.

    `data` is one sample, or a tuple of two, whose items are drawn together if `paired`. A callable `statistic` is given
    the samples, resampled, with the items along the last axis, and returns one number per row:
    ``lambda x: x.quantile(0.5, dim=-1)``. For a metric of a whole corpus, resample item numbers: data
    ``torch.arange(n)``, statistic ``lambda items: metric(table[items.long()])``.

    Shapes: data (..., n), or (..., n) and (..., m); the fields of the Interval (...). Errors: see the module.
    Conventions: quantiles between two resamples are interpolated, as numpy does. "percentile" takes the quantiles of the
    resamples, "basic" mirrors them at the estimate, "bca" shifts them for bias and skewness, by the jackknife.
    Constant data give an interval of width 0. If all resamples lie on one side of the estimate, "bca" counts half a
    resample on the other; if the jackknife does not vary, its acceleration is 0. (scipy returns NaN for both.)
    Randomness: `rng` is an int seed, or a torch.Generator on the device of the data, which the call advances. An item
    is drawn with a probability within 1 in 2^13 of 1 / n. For a difference of means of samples of one size, the second
    takes the indices that the first has in the next resample; within a resample they are independent.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapters 13 and 14; Davison and Hinkley, chapter 5.

    >>> print(bootstrap_interval([1, 2, 4, 9, 14], rng=0))
    6 (95 % interval 2 to 10.6)
    """
    method = one_of("method", method, ("percentile", "basic", "bca"))
    confidence = open_fraction("confidence", confidence)
    items, dtype = _read(data, statistic, paired)
    distribution = _distribution(items, statistic, paired, n_resamples, rng)
    estimate = _estimate(items, statistic)
    acceleration = _acceleration(_influence(items, statistic, paired)) if method == "bca" else None
    low, high = _limits(distribution, estimate, method, confidence, acceleration)
    return Interval(estimate.to(dtype), low.to(dtype), high.to(dtype), confidence)


def bootstrap_distribution(data, statistic="mean", paired=False, n_resamples=9999, *, rng):
    """The statistic of each resample, from which `bootstrap_interval`, with the same `rng`, reads its limits.

    Shapes: data as in `bootstrap_interval`, result (..., n_resamples). Its standard deviation estimates the standard error.
    Errors: see the module.

    >>> bootstrap_distribution([0, 1], n_resamples=1000, rng=0).unique()
    tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    items, dtype = _read(data, statistic, paired)
    return _distribution(items, statistic, paired, n_resamples, rng).to(dtype)


def _read(data, statistic, paired):
    """The samples in float64, and the dtype of the result; a paired difference of means becomes one sample."""
    if isinstance(statistic, str):
        one_of("statistic", statistic, ("mean",))
    elif not callable(statistic):
        raise TypeError(f"statistic is {statistic!r}; expected 'mean' or a function of resampled tensors")
    if not isinstance(data, tuple):
        if paired:
            raise ValueError("paired needs a tuple of two samples, and data is one")
        read = samples(at_least=2, data=data)
    elif len(data) != 2:
        raise ValueError(f"data is a tuple of {len(data)} samples; expected one sample or a tuple of two")
    else:
        read = samples(at_least=2, a=data[0], b=data[1])
        if paired and read[0].shape[-1] != read[1].shape[-1]:
            raise ValueError(f"a has {read[0].shape[-1]} items and b {read[1].shape[-1]}; expected pairs")
    dtype, _ = common_dtype(*read)
    read = [sample.detach().double() for sample in read]
    return ([read[1] - read[0]] if paired and statistic == "mean" else read), dtype


def _estimate(items, statistic):
    if callable(statistic):
        return _evaluate(statistic, [sample.unsqueeze(-2) for sample in items])[..., 0]
    means = [sample.amin(-1) + _centred(sample).sum(-1) / sample.shape[-1] for sample in items]
    return means[0] if len(means) == 1 else means[1] - means[0]


def _evaluate(statistic, items):
    """A callable statistic of each row."""
    value = torch.as_tensor(statistic(*items), device=items[0].device).double()
    if value.shape != items[0].shape[:-1]:
        raise ValueError(
            f"statistic made {tuple(value.shape)} of {tuple(items[0].shape)}; expected {tuple(items[0].shape[:-1])}, "
            "one number per row"
        )
    check_finite("statistic", value)
    return value


def _distribution(items, statistic, paired, n_resamples, rng):
    n_resamples = positive_integer("n_resamples", n_resamples)
    source = generator(rng, items[0].device)
    if callable(statistic):
        return _resampled_statistic(items, statistic, paired, n_resamples, source)
    means = [_means_by_counts(sample, n_resamples, source) for sample in items]
    if len(items) == 2 and all(mean is None for mean in means) and items[0].shape == items[1].shape:
        # The second sample, shuffled, takes the indices of the next resample: half the draws, and within a resample
        # the two samples are still independent.
        shuffled = items[1][..., torch.randperm(items[1].shape[-1], generator=source, device=source.device)]
        a, b = _means_by_indices([items[0], shuffled], n_resamples + 1, source)
        return b[..., 1:] - a[..., :-1]
    for place, sample in enumerate(items):
        if means[place] is None:
            (means[place],) = _means_by_indices([sample], n_resamples, source)
    return means[0] if len(means) == 1 else means[1] - means[0]


def _means_by_counts(sample, n_resamples, source):
    """The means if there are few values, as in 0/1 data or ratings: how often each is drawn is multinomial."""
    values, counts = sample.unique(return_counts=True) if sample.ndim == 1 else (sample, None)
    if counts is None or 64 * len(values) > len(sample):
        return None
    draw, shares = numpy_generator(source), (counts.double() / len(sample)).tolist()

    def sums(start, stop):
        drawn = draw.multinomial(len(sample), shares, stop - start)
        return torch.as_tensor(drawn, device=sample.device).to(sample) @ _centred(values)

    return values[0] + _by_blocks(sums, n_resamples, _rows([values]), values[0]) / len(sample)


def _means_by_indices(items, n_resamples, source):
    """The means of one sample, or of two of one size that share their indices."""
    n, rows, centred = items[0].shape[-1], min(n_resamples, _rows(items)), [_centred(sample) for sample in items]
    values = torch.complex(*centred) if len(items) == 2 else centred[0]  # a pair in one number is fetched at once
    draw, drawn = _drawer(n, rows, source), values.new_empty(*values.shape[:-1], rows * n)

    def sums(start, stop):
        torch.index_select(values, -1, draw().flatten(), out=drawn)
        total = drawn.unflatten(-1, (rows, n)).sum(-1)
        return torch.stack([total.real, total.imag] if len(items) == 2 else [total])

    origins = torch.stack([sample.amin(-1) for sample in items])
    return origins[..., None] + _by_blocks(sums, n_resamples, rows, origins) / n


def _centred(sample):
    """The sample with 0 as its smallest value, so that the mean of a constant is that constant without rounding."""
    return sample - sample.amin(-1, keepdim=True)


def _resampled_statistic(items, statistic, paired, n_resamples, source):
    rows = min(n_resamples, _rows(items))
    draws = [_drawer(sample.shape[-1], rows, source) for sample in (items[:1] if paired else items)]

    def values(start, stop):
        indices = [draw() for draw in draws] * (len(items) // len(draws))
        return _evaluate(statistic, [_take(*pair) for pair in zip(items, indices, strict=True)])

    return _by_blocks(values, n_resamples, rows, items[0][..., 0])


def _rows(items):
    """How many resamples of all samples to hold at a time."""
    return max(1, (CPU_BLOCK if items[0].is_cpu else GPU_BLOCK) // sum(sample.numel() for sample in items))


def _by_blocks(function, total, step, like):
    """Join function(start, stop), which is (..., stop - start) or longer, over blocks of `step`, up to `total`."""
    result = like.new_empty(*like.shape, total)  # first: small tensors between large ones would scatter memory
    for start in range(0, total, step):
        stop = min(start + step, total)
        result[..., start:stop] = function(start, stop)[..., : stop - start]
    check_finite("a resample's statistic", result)
    return result


def _drawer(n, rows, source):
    """A function that draws indices (rows, n), independent and each from 0 to n - 1, in the same memory every time.

    A uniform number has 53 bits. Its first digits in base n are indices; as many are used as leave 13 bits over, so
    that the probability of an index is within 1 in 2^13 of 1 / n.
    """
    digits = max(1, min(8, int(40 / math.log2(n))))
    indices = torch.empty(digits, -(-rows * n // digits), dtype=torch.int32, device=source.device)
    u = torch.empty(indices.shape[1], dtype=torch.float64, device=source.device)
    if source.device.type == "cpu":  # numpy has a generator that takes less than half of torch's time
        fast = np.random.Generator(np.random.SFC64(torch.randint(2**63 - 1, (), generator=source).item()))

    def draw():
        fast.random(out=u.numpy()) if u.is_cpu else u.uniform_(generator=source)
        for digit in indices:
            digit.copy_(u.mul_(n))  # copying to integers rounds towards 0
            u.frac_()
        return indices.flatten()[: rows * n].view(rows, n)

    return draw


def _take(sample, indices):
    return sample.index_select(-1, indices.flatten()).unflatten(-1, indices.shape)


def _influence(items, statistic, paired):
    """By how much each item moves the statistic, from the jackknife: (..., n) for each sample."""
    if not callable(statistic):  # in closed form
        moved = [_centred(sample) for sample in items]
        moved = [sample - sample.mean(-1, keepdim=True) for sample in moved]
        return moved if len(moved) == 1 else [-moved[0], moved[1]]
    groups = [(0, 1)] if paired else [(place,) for place in range(len(items))]
    return [_jackknife(items, group, statistic) for group in groups]


def _jackknife(items, group, statistic):
    """The influence of the items of one sample, or of the pairs of both; `group` says of which samples."""
    n, device = items[group[0]].shape[-1], items[0].device
    kept = torch.arange(n - 1, device=device)

    def values(start, stop):
        indices = kept + (kept >= torch.arange(start, stop, device=device)[:, None])
        reduced = [sample.unsqueeze(-2).expand(*sample.shape[:-1], stop - start, -1) for sample in items]
        for place in group:
            reduced[place] = _take(items[place], indices)
        return _evaluate(statistic, reduced)

    without = _by_blocks(values, n, _rows(items), items[0][..., 0])
    return (n - 1) * (without.mean(-1, keepdim=True) - without)


def _acceleration(influences):
    """The skewness of the estimate, divided by 6; 0 if no item moves it."""
    scale = torch.stack([moved.abs().amax(-1) for moved in influences]).amax(0)
    scale = torch.where(scale > 0, scale, 1)[..., None]
    cubes = sum((moved / scale / moved.shape[-1]).pow(3).sum(-1) for moved in influences)
    squares = sum((moved / scale / moved.shape[-1]).pow(2).sum(-1) for moved in influences)
    return torch.where(squares > 0, cubes / (6 * squares.pow(1.5)), 0)


def _limits(distribution, estimate, method, confidence, acceleration=None):
    """The limits (...) from the resampled statistics (..., n_resamples) and the estimate (...)."""
    tail = (1 - confidence) / 2
    levels = distribution.new_tensor([tail, 1 - tail]).expand(*estimate.shape, 2)
    if method == "bca":
        bias = torch.special.ndtri(_share_below(distribution, estimate))[..., None]
        z = bias + torch.special.ndtri(levels)
        stretch = (1 - acceleration[..., None] * z).clamp(min=torch.finfo(z.dtype).tiny)
        levels = torch.special.ndtr(bias + z / stretch)
    low, high = _quantiles(distribution, levels).unbind(-1)
    return (2 * estimate - high, 2 * estimate - low) if method == "basic" else (low, high)


def _share_below(distribution, estimate):
    """The share of resamples below the estimate, those equal to it but for rounding counted half; never 0 or 1."""
    rounding = 8 * torch.finfo(distribution.dtype).eps * distribution.abs().amax(-1, keepdim=True)
    gap = distribution - estimate[..., None]
    below, above = ((side > rounding).double().mean(-1) for side in (-gap, gap))
    half = 0.5 / distribution.shape[-1]
    return ((1 + below - above) / 2).clamp(half, 1 - half)


def _quantiles(distribution, levels):
    """Quantiles (..., k) along the last axis, interpolated between neighbours."""
    ordered = distribution.sort(-1).values
    place = levels * (ordered.shape[-1] - 1)
    low, high = (ordered.gather(-1, end.long()) for end in (place.floor(), place.ceil()))
    return low.lerp(high, place.frac())
