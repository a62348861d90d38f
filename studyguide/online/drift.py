"""Whether one column has drifted: a reference sample against a current one, with an effect size beside the p-value.

A p-value says whether chance explains a difference, an effect size whether the difference is large; with a million rows
everything is significant, with fifty nothing is. All functions take (reference, current), one sample each, and give a
`DriftResult`. Numbers are finite and come along one axis, (n,) and (m,); categories are any labels: strings, booleans, a
pandas categorical. The false-alarm rate at a level alpha is alpha or, where a docstring says so, below it.

Bins of numbers are closed on the right, open-ended outside, and shared by both samples. A value that is frequent enough to
fill a bin gets one of its own, so that constants, zeros by the thousand and whole numbers are no special case.

Errors: missing or infinite values (drop them, and watch their share: `drift_report` does both), too few of them, numbers
against categories and other shapes are a ValueError; what is neither numbers nor categories is a TypeError.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from scipy import stats

from studyguide.probability.divergences import divergence_null, js_distance
from studyguide.probability.validation import open_fraction, positive_integer, samples
from studyguide.statistics.hypothesis import welch_t_test
from studyguide.statistics.intervals import cohens_d

PER_BIN = 5  # items that a bin or category must expect for a chi-square law to hold
RARE = "(rare)"


@dataclass(frozen=True, eq=False)
class DriftResult:
    """What one detector says of two samples."""

    method: str
    statistic: float
    p_value: float  # the probability of a statistic at least so large where nothing has drifted
    effect: float  # its size, in units that do not grow with the samples; the method says in which
    n_reference: int
    n_current: int
    parts: pd.DataFrame | None = field(default=None, repr=False)  # per bin or category: share of either sample, `part`

    def __str__(self):
        from studyguide.course.display import rounded

        numbers = f"{rounded(self.statistic)}, p {p_text(self.p_value)}, effect {rounded(self.effect)}"
        return f"{self.method} {numbers} ({self.n_reference} against {self.n_current})"


def psi(reference, current, bins=10, floor=None):
    """Population stability index, ``sum (q - p) log(q / p)`` over bins with the shares p of the reference, q of now.

    Bins of numbers hold equal shares of the *reference* (deciles), the outer ones open; of categories each is a bin, those
    that `chi_square_drift` finds too rare together. The effect is PSI itself, in nats: 0 to infinity. `parts` sums to it.
    Convention: an empty bin counts as half an item, or as the share `floor`, after which shares are divided by their sum.
    The cuts 0.1 and 0.25 of the trade know neither the sample sizes nor the bins: see `psi_threshold`. The p-value is of
    that law, with half an item added in every bin, without which small samples are too often significant. It errs on the
    safe side: with 5 items a bin 2 % of null samples are below 0.05.
    Errors: numbers fewer than 5 a bin, on either side. Source: Yurdakul and Naranjo (2020), "Statistical properties of the
    population stability index"; PSI is the divergence of Jeffreys (1946).

    >>> print(psi(["a"] * 60 + ["b"] * 40, ["a"] * 45 + ["b"] * 55))
    PSI 0.0909, p 0.0348, effect 0.0909 (100 against 100)
    """
    if _is_numeric(reference=reference, current=current):
        a, b = _sorted(reference=reference, current=current)
        return psi_of_sorted(a, b, bins, floor)
    return psi_of_counts(pooled_rare(_category_counts(reference, current)), floor)


def psi_threshold(n_reference, n_current, bins=10, alpha=0.05):
    """The PSI that chance alone exceeds with probability `alpha`: ``(1 / N + 1 / M)`` times a chi-square quantile.

    For samples of N and M that do not differ, PSI is near (1 / N + 1 / M) times a chi-square variable with bins - 1 degrees
    of freedom. Its mean is (bins - 1) (1 / N + 1 / M). Source: see `psi`.

    >>> round(psi_threshold(5000, 100), 4), round(psi_threshold(5000, 1000), 4)
    (0.1726, 0.0203)
    """
    n, m, bins = (
        positive_integer(name, value)
        for name, value in {"n_reference": n_reference, "n_current": n_current, "bins": bins}.items()
    )
    if bins < 2:
        raise ValueError(f"bins is {bins}; expected at least 2")
    return float((1 / n + 1 / m) * stats.chi2.isf(open_fraction("alpha", alpha), bins - 1))


def ks_drift(reference, current):
    """Kolmogorov-Smirnov test: the largest gap between the two distribution functions, which is the effect too.

    Range: 0 to 1: by how much the probability of some event "x <= t" has changed. Sees any change, best one near the middle.
    Convention: the limit law of two samples for the effective size n m / (n + m) (scipy's method="asymp"). For values with
    ties p is too large: with few distinct values ask `chi_square_drift`. Errors: fewer than 2 numbers.
    Source: Smirnov (1939); Simard and L'Ecuyer (2011) for the law.

    >>> print(ks_drift([1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8, 9]))
    KS 0.5, p 0.3333, effect 0.5 (6 against 6)
    """
    return ks_of_sorted(*_sorted(reference=reference, current=current))


def js_drift(reference, current, bins=20, n_resamples=999, *, rng):
    """Jensen-Shannon distance of binned shares, with the threshold that a permutation test gives it.

    Bins of numbers hold equal shares of both samples *together*: the edges are shared, and do not know who is who, so that
    dealing the pooled items again (`divergence_null`) is exact for any sample size. Categories are bins as they are.
    Units and range: nats to the power 1/2, 0 to 0.8326, the root of log 2 (scipy's jensenshannon); the effect is the same.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances. Source: Lin (1991); Good, Permutation
    Tests.

    >>> print(js_drift(list(range(40)), list(range(20, 60)), bins=4, rng=0))
    JS distance 0.5887, p 0.001, effect 0.5887 (40 against 40)
    """
    if _is_numeric(reference=reference, current=current):
        a, b = _sorted(reference=reference, current=current)
        counts = _binned(a, b, np.sort(np.concatenate([a, b])), bins)
    else:
        counts = _category_counts(reference, current)
    distance = divergence_null(*counts.to_numpy().T, divergence=js_distance, n_resamples=n_resamples, rng=rng)
    p, q = counts.to_numpy(float).T / counts.sum().to_numpy()[:, None]
    middle = (p + q) / 2
    part = sum(np.where(x > 0, x * np.log(np.where(x > 0, x, 1) / middle), 0) for x in (p, q)) / 2
    return _result("JS distance", distance.observed, distance.p_value, distance.observed, counts, part)


def chi_square_drift(reference, current):
    """Pearson's chi-square test of whether the categories have kept their shares; the effect is total variation.

    Total variation is half the sum of |q - p|: the largest change in the probability of any set of categories, 0 to 1.
    Numbers are categories here, too. A category that the reference lacks counts like any other. Those that would expect
    fewer than 5 items in one of the samples are too rare for the chi-square law and are pooled as "(rare)", which knows the
    sum of both samples only, so that the test stays honest. With one category the statistic is 0 and p is 1.
    Source: Pearson (1900); Cochran (1954) on small expected counts.

    >>> print(chi_square_drift(["a"] * 60 + ["b"] * 40, ["a"] * 45 + ["b"] * 40 + ["new"] * 15))
    chi-square 17.1429, p 1.89e-04, effect 0.15 (100 against 100)
    """
    return chi_square_of_counts(_category_counts(reference, current))


def mean_shift(reference, current):
    """Welch's t-test of the mean of `current` less that of `reference`; the effect is Cohen's d.

    The statistic is that difference in *standard errors*, which shrink with the samples; the effect is the same difference
    in standard deviations, which do not. Sees a shift of the mean and nothing else.
    Errors: fewer than 2 numbers. Source: Welch (1947); without spread see `welch_t_test` and `cohens_d`.

    >>> print(mean_shift([1, 2, 3, 4, 5], [3, 4, 5, 6, 7]))
    mean shift 2, p 0.0805, effect 1.2649 (5 against 5)
    """
    if not _is_numeric(reference=reference, current=current):
        raise TypeError("reference and current are categories; expected numbers, which have a mean")
    a, b = _vectors(reference=reference, current=current)
    test = welch_t_test(b, a)
    return DriftResult("mean shift", float(test.statistic), float(test.p_value), float(cohens_d(b, a)), len(a), len(b))


# Shared with `drift_report`, which sorts and counts once


def p_text(p_value):
    """A p-value as text; how far one is below 1e-12 is nobody's business."""
    from studyguide.course.display import rounded

    return rounded(p_value) if p_value >= 1e-12 else "<1e-12"


def ks_of_sorted(a, b):
    """`ks_drift` of samples that are sorted already."""
    n, m = len(a), len(b)
    places = np.arange(n, dtype=np.float64) / n  # the share of the reference before each of its values
    above = (places - np.searchsorted(b, a, "right") / m).max() + 1 / n  # just after it
    below = (np.searchsorted(b, a, "left") / m - places).max()  # just before it
    distance = float(max(above, below))
    size = max(1, round(n * m / (n + m)))
    return DriftResult("KS", distance, float(stats.kstwo.sf(distance, size)), distance, n, m)


def psi_of_sorted(a, b, bins=10, floor=None):
    """`psi` of numbers that are sorted already."""
    needed = PER_BIN * positive_integer("bins", bins)
    for name, values in {"reference": a, "current": b}.items():
        if len(values) < needed:
            found = f"{name} has {len(values)} numbers; {bins} bins need at least {needed}"
            raise ValueError(f"{found}: take fewer bins or a larger sample")
    return psi_of_counts(_binned(a, b, a, bins), floor)


def psi_of_counts(counts, floor=None):
    """`psi` of a frame of counts, one row per bin, with the columns reference and current."""
    table, totals = counts.to_numpy(float), counts.sum().to_numpy()
    least = 0.5 / totals if floor is None else open_fraction("floor", floor)
    (p, q), (p_half, q_half) = (
        (shares / shares.sum(0)).T for shares in (np.maximum(table / totals, least), table + 0.5)
    )
    part = (q - p) * np.log(q / p)
    law = ((q_half - p_half) * np.log(q_half / p_half)).sum() / (1 / totals).sum()
    p_value = stats.chi2.sf(law, len(table) - 1) if len(table) > 1 else 1.0
    return _result("PSI", part.sum(), p_value, part.sum(), counts, part)


def chi_square_of_counts(counts):
    """`chi_square_drift` of a frame of counts, one row per category, with the columns reference and current."""
    table = pooled_rare(counts)
    p, q = table.to_numpy().T / table.sum().to_numpy()[:, None]
    if len(table) == 1:
        return _result("chi-square", 0.0, 1.0, 0.0, table, np.zeros(1))
    expected = stats.contingency.expected_freq(table)
    part = ((table - expected) ** 2 / expected).to_numpy().sum(1)
    p_value = stats.chi2.sf(part.sum(), len(table) - 1)
    return _result("chi-square", part.sum(), p_value, np.abs(q - p).sum() / 2, table, part)


def pooled_rare(counts):
    """Counts with the categories that expect fewer than 5 items in one of the samples in one row."""
    smaller_share = counts.sum().min() / counts.to_numpy().sum()
    rare = counts.sum(axis=1) * smaller_share < PER_BIN
    if rare.sum() < 2 or rare.all():
        return counts if not rare.all() else counts.sum().to_frame(RARE).T
    return pd.concat([counts[~rare], counts[rare].sum().to_frame(RARE).T])


def _binned(a, b, base, bins):
    """Counts of sorted samples in bins of equal shares of the sorted `base`; bins that are empty in both are left out."""
    bins = positive_integer("bins", bins)
    cuts = base[np.ceil(np.arange(1, bins) * len(base) / bins).astype(int) - 1]
    edges, times = np.unique(cuts, return_counts=True)
    edges = np.union1d(edges, np.nextafter(edges[times > 1], -np.inf))  # a bin for each value that fills one
    counts = [np.diff(np.searchsorted(x, edges, "right"), prepend=0, append=len(x)) for x in (a, b)]
    lows, highs = [-np.inf, *edges], [*edges, np.inf]
    names = [f"{low:.4g} to {high:.4g}" for low, high in zip(lows, highs, strict=True)]
    names = [f"{high:.4g}" if np.nextafter(high, -np.inf) == low else name
             for low, high, name in zip(lows, highs, names, strict=True)]  # fmt: skip
    frame = pd.DataFrame(dict(zip(("reference", "current"), counts, strict=True)), index=names)
    return frame[frame.sum(axis=1) > 0]


def _result(method, statistic, p_value, effect, counts, part):
    shares = (counts / counts.sum()).assign(part=part)
    return DriftResult(method, float(statistic), float(p_value), float(effect), *map(int, counts.sum()), shares)


def _is_numeric(**pair):
    """Whether both samples are numbers; False if both are categories."""
    kinds = {}
    for name, values in pair.items():
        if isinstance(values, torch.Tensor):
            kinds[name] = values.dtype != torch.bool
            continue
        dtype = (values if hasattr(values, "dtype") else np.asarray(values)).dtype
        kinds[name] = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    if len(set(kinds.values())) > 1:
        words = " and ".join(f"{name} holds {'numbers' if kind else 'categories'}" for name, kind in kinds.items())
        raise ValueError(f"{words}; expected the same of both")
    return all(kinds.values())


def _vectors(**pair):
    found = samples(at_least=2, **pair)
    for name, tensor in zip(pair, found, strict=True):
        if tensor.ndim > 1:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected (n,): one column at a time")
    return found


def _sorted(**pair):
    if not _is_numeric(**pair):
        raise TypeError("reference and current are categories; expected numbers, which have an order")
    return [np.sort(tensor.double().cpu().numpy()) for tensor in _vectors(**pair)]


def _category_counts(reference, current):
    pair = {"reference": reference, "current": current}
    for name, values in pair.items():
        pair[name] = values = pd.Series(values.numpy(force=True) if isinstance(values, torch.Tensor) else values)
        if len(values) == 0:
            raise ValueError(f"{name} is empty; expected at least one item")
        if missing := int(values.isna().sum()):
            raise ValueError(f"{name} has {missing} missing values; expected none: drop them, or give them a name")
    return category_counts(**pair)


def category_counts(reference, current):
    """How often each category occurs in two Series; a frame with the columns reference and current."""
    counts = {name: values.value_counts() for name, values in {"reference": reference, "current": current}.items()}
    counts = pd.concat({name: c.set_axis(c.index.astype(object)) for name, c in counts.items()}, axis=1)
    counts = counts.fillna(0).astype(np.int64)
    return counts[counts.sum(axis=1) > 0]
