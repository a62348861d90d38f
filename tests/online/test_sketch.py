"""The sketch against exact quantiles of adversarial data, and against the authors' own library."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyguide.online.sketch import SMALLEST, QuantileSketch

properties = settings(max_examples=60, deadline=None)
values = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=80)
errors = st.sampled_from([0.001, 0.01, 0.1, 0.5])
SHARES = [0, 0.001, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1]


def sketch_of(x, error=0.01):
    sketch = QuantileSketch(error)
    sketch.update(x)
    return sketch


def assert_within(sketch, x):
    """Each quantile is as near to the exact one as is promised, but for rounding."""
    for q in SHARES:
        exact = np.quantile(x, q, method="lower")
        assert abs(sketch.quantile(q) - exact) <= sketch.relative_error * abs(exact) * (1 + 1e-9) + SMALLEST, q


@properties
@given(values, errors)
def test_error_is_as_promised_for_any_values(x, error):
    assert_within(sketch_of(x, error), np.array(x))


HARD = {
    "log-normal": lambda rng: rng.lognormal(0, 3, 5000),
    "without a mean": lambda rng: rng.pareto(0.5, 5000),
    "Cauchy": lambda rng: rng.standard_cauchy(5000),
    "all sizes": lambda rng: 10.0 ** rng.uniform(-9, 300, 5000),
    "a few days late": lambda rng: np.concatenate([np.full(4990, 0.2), np.full(10, 86_400.0)]),
    "limits of buckets": lambda rng: np.repeat((1.01 / 0.99) ** np.arange(-300, 300.0), 3),
    "just beyond them": lambda rng: np.nextafter((1.01 / 0.99) ** np.arange(-300, 300.0), np.inf),
    "nearly 0": lambda rng: np.concatenate([np.zeros(50), [-SMALLEST, SMALLEST, SMALLEST / 2, -5e-324]]),
    "the largest": lambda rng: np.array([-np.finfo(float).max, -1e308, 0, 1e308, np.finfo(float).max]),
}


@pytest.mark.parametrize("name", HARD)
def test_error_is_as_promised_for_hard_data(name):
    x = HARD[name](np.random.default_rng(0))
    assert_within(sketch_of(x), x)
    assert_within(sketch_of(np.sort(x)[::-1]), x)


@properties
@given(values, values, errors)
def test_merge_equals_the_whole(a, b, error):
    merged, other = sketch_of(a, error), sketch_of(b, error)
    state = dict(other.counts)
    merged.merge(other)
    whole = sketch_of(a + b, error)
    assert (merged.counts, merged.n, merged.low, merged.high) == (whole.counts, whole.n, whole.low, whole.high)
    assert dict(other.counts) == state, "the other stays as it is"


@properties
@given(values, st.integers(0, 2**32 - 1))
def test_order_and_portions_do_not_matter(x, seed):
    order = np.random.default_rng(seed).permutation(len(x))
    piecewise = QuantileSketch()
    for i in order:
        piecewise.update(x[i])
    assert piecewise.counts == sketch_of(x).counts


def test_values_of_the_authors_library():
    """ddsketch 3.0.1, DDSketch(a).get_quantile_value(q) after adding these values; quantiles that are not the extremes."""
    mixed = [1, 2, 3, 5, 8, 13, -4, -0.5, 0, 120.5, 0.003, 77]
    recorded = {
        0.1: -0.5015394534033245,
        0.25: 0,
        0.5: 1.993661701417351,
        0.75: 7.924973703917148,
        0.9: 13.066290498147941,
    }
    for q, expected in recorded.items():
        assert sketch_of(mixed).quantile(q) == pytest.approx(expected, rel=1e-12)
    squares = np.arange(1, 101) ** 2 / 7
    recorded = {0.25: 90.05315472364579, 0.5: 350.92814271444144, 0.9: 1165.308944560184, 0.95: 1313.9031934385596}
    for q, expected in recorded.items():
        assert sketch_of(squares, 0.02).quantile(q) == pytest.approx(expected, rel=1e-12)


def test_a_bucket_by_hand():
    # a = 1/3: g = 2, bucket k holds 2^(k-1) < x <= 2^k and answers 2^(k+1) / 3
    sketch = sketch_of([1, 3, 3.5, 5, 9], 1 / 3)
    assert sorted(sketch.counts.values()) == [1, 1, 1, 2]
    assert sketch.quantile(0.25) == pytest.approx(8 / 3)
    assert sketch.quantile(0.75) == pytest.approx(16 / 3)
    assert (sketch.quantile(0), sketch.quantile(1)) == (1, 9), "the extremes are exact"


def test_constant_and_single_values_are_exact():
    for x in (3.7, -3.7, 0.0, 1e-12, 1e300):
        assert {sketch_of([x] * 5).quantile(q) for q in SHARES} == {x}


def test_memory_is_that_of_the_range_not_of_the_number():
    rng = np.random.default_rng(0)
    sketch = QuantileSketch()
    for _ in range(20):
        sketch.update(10 ** rng.uniform(-3, math.log10(86_400), 10_000))
    assert sketch.n == 200_000
    assert len(sketch.counts) <= 915


def test_errors():
    for bad in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="relative_error is"):
            QuantileSketch(bad)
    with pytest.raises(ValueError, match="no value was seen"):
        QuantileSketch().quantile(0.5)
    sketch = sketch_of([1.0, 2.0])
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="values contains"):
            sketch.update([1.0, bad])
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="expected a share from 0 to 1"):
            sketch.quantile(bad)
    with pytest.raises(ValueError, match="the other has relative error 0.02; expected 0.01"):
        sketch.merge(QuantileSketch(0.02))
    assert sketch.n == 2, "bad input changes nothing"
    sketch.update([])
    assert sketch.n == 2
