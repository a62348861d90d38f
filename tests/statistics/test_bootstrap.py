"""The bootstrap against scipy on the same resamples, exact enumeration, coverage, and its limits in memory."""

import math
import subprocess
import sys
import warnings
from collections import Counter
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from studyguide.statistics import bootstrap
from studyguide.statistics.bootstrap import bootstrap_distribution, bootstrap_interval

METHODS = ["percentile", "basic", "bca"]
properties = settings(deadline=None, max_examples=60)  # a busy machine is no failure


def close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


def median(x):
    """The median as numpy has it, the middle of the two middle values."""
    return x.quantile(0.5, dim=-1)


def ratio(x, y):
    return y.sum(-1) / x.sum(-1)


def gamma(n, seed=0):
    return np.random.default_rng(seed).gamma(2, 3, size=n) + 1


# Every case: the data, our statistic, scipy's.
CASES = {
    "mean": (gamma(40), "mean", np.mean),
    "mean of integers": (np.random.default_rng(1).integers(0, 9, 30), "mean", np.mean),
    "mean of 0/1": (np.random.default_rng(2).integers(0, 2, 200), "mean", np.mean),
    "median": (gamma(31), median, np.median),
    "variance": (gamma(20), lambda x: x.var(-1), lambda x, axis: x.var(axis, ddof=1)),
    "difference": ((gamma(25), gamma(40, seed=1)), "mean", lambda a, b, axis: b.mean(axis) - a.mean(axis)),
    "difference, equal sizes": ((gamma(25), gamma(25, 1)), "mean", lambda a, b, axis: b.mean(axis) - a.mean(axis)),
    "difference, one 0/1": (
        (np.random.default_rng(2).integers(0, 2, 200), gamma(200)),
        "mean",
        lambda a, b, axis: b.mean(axis) - a.mean(axis),
    ),
    "ratio": ((gamma(25), gamma(40, 1)), ratio, lambda a, b, axis: b.sum(axis) / a.sum(axis)),
    "paired difference": ((gamma(25), gamma(25, 1)), "mean", lambda a, b, axis: b.mean(axis) - a.mean(axis)),
    "paired ratio": ((gamma(25), gamma(25, 1)), ratio, lambda a, b, axis: b.sum(axis) / a.sum(axis)),
}
each_case = pytest.mark.parametrize("name", CASES)


def scipys(data, statistic, method, paired, confidence=0.95, distribution=None, n_resamples=0, rng=0):
    """scipy's interval, from the resamples of another bootstrap if a distribution is given."""
    given = distribution is not None
    result = stats._resampling.BootstrapResult(None, distribution, None) if given else None
    return stats.bootstrap(
        data if isinstance(data, tuple) else (data,),
        statistic,
        method=method,
        paired=paired,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=n_resamples,
        bootstrap_result=result,
        rng=np.random.default_rng(rng),
    )


@each_case
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_limits_equal_scipys_on_the_same_resamples(name, method, confidence):
    data, statistic, peer = CASES[name]
    paired = name.startswith("paired")
    options = {"paired": paired, "n_resamples": 999, "rng": 3}
    ours = bootstrap_interval(data, statistic, method, confidence=confidence, **options)
    resamples = bootstrap_distribution(data, statistic, **options)
    expected = scipys(data, peer, method, paired, confidence, resamples.numpy()).confidence_interval
    close(ours.low, expected.low)
    close(ours.high, expected.high)
    close(ours.estimate, peer(*(data if isinstance(data, tuple) else (data,)), axis=-1))
    assert ours.confidence == confidence


@each_case
def test_resamples_have_scipys_distribution(name):
    data, statistic, peer = CASES[name]
    paired = name.startswith("paired")
    ours = bootstrap_distribution(data, statistic, paired, 20_000, rng=1)
    theirs = scipys(data, peer, "percentile", paired, n_resamples=20_000).bootstrap_distribution
    assert stats.ks_2samp(ours, theirs, method="asymp").pvalue > 0.001
    assert ours.mean().item() == pytest.approx(theirs.mean(), abs=5 * theirs.std() / math.sqrt(10_000))
    assert ours.std().item() == pytest.approx(theirs.std(), rel=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_scatter_over_seeds_as_scipys_do(method):
    """Neighbouring resamples share indices where two samples are of one size; this costs no precision."""
    data, _, peer = CASES["difference, equal sizes"]
    ours = [bootstrap_interval(data, method=method, n_resamples=500, rng=seed).low.item() for seed in range(150)]
    theirs = [scipys(data, peer, method, False, n_resamples=500, rng=s).confidence_interval.low for s in range(150)]
    assert stats.levene(ours, theirs).pvalue > 0.001
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


# Enumeration


def enumerated(data, statistic, paired=False):
    """{statistic: probability} over all ways to draw the resamples."""
    n = [len(sample) for sample in data]
    draws = product(range(n[0]), repeat=n[0]) if paired else product(*(product(range(k), repeat=k) for k in n))
    values = []
    for draw in draws:
        picks = [draw] * len(data) if paired else draw
        drawn = [[sample[i] for i in pick] for sample, pick in zip(data, picks, strict=True)]
        values.append(round(float(statistic(*map(np.array, drawn))), 9))
    return {value: count / len(values) for value, count in Counter(values).items()}


def chi_square(resamples, exact):
    seen = Counter(round(value, 9) for value in resamples.tolist())
    assert set(seen) <= set(exact)
    return stats.chisquare([seen[v] for v in exact], [len(resamples) * p for p in exact.values()]).pvalue


def test_all_27_resamples_of_three_numbers():
    exact = enumerated([[1, 2, 6]], np.mean)
    # 1, 2, 6 once each gives 3: six orders; two 1s and a 2 give 4/3: three orders; ...
    assert (exact[3.0], exact[1.333333333], exact[6.0]) == (6 / 27, 3 / 27, 1 / 27)
    assert len(exact) == 10
    assert chi_square(bootstrap_distribution([1, 2, 6], n_resamples=27_000, rng=0), exact) > 0.001
    third = torch.tensor([1.0, 2.0, 6.0]).double() / 3  # whose sums round
    share = bootstrap._share_below(bootstrap_distribution(third, n_resamples=27_000, rng=0), third.mean())
    expected = sum(p for value, p in exact.items() if value < 3) + exact[3.0] / 2
    assert share.item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("data", "paired", "ours", "peer"),
    [
        (([0.0, 1.5], [1.0, 2.0, 5.0]), False, "mean", lambda a, b: b.mean() - a.mean()),
        (([0.0, 1.0, 4.0], [1.0, 2.5, 5.0]), False, "mean", lambda a, b: b.mean() - a.mean()),  # shared indices
        (([0.0, 1.0, 4.0], [1.0, 2.5, 5.0]), True, "mean", lambda a, b: b.mean() - a.mean()),
        (([1.0, 1.5, 4.0], [1.0, 2.5, 5.0]), True, ratio, lambda a, b: b.sum() / a.sum()),
        (([1.0, 1.5], [1.0, 2.5, 5.0]), False, ratio, lambda a, b: b.sum() / a.sum()),
    ],
    ids=["unpaired", "one size", "paired", "paired ratio", "unpaired ratio"],
)
def test_resamples_follow_the_enumeration(data, paired, ours, peer):
    resamples = bootstrap_distribution(data, ours, paired, 30_000, rng=2)
    assert chi_square(resamples, enumerated(data, peer, paired)) > 0.001


def test_counts_of_0_1_data_are_binomial():
    data = [1] * 30 + [0] * 170
    resamples = bootstrap_distribution(data, n_resamples=20_000, rng=0)
    counts = (resamples * 200).round().long()
    close(counts / 200, resamples)
    k = np.arange(15, 46)
    expected = stats.binom.pmf(k, 200, 0.15) / stats.binom.pmf(k, 200, 0.15).sum()
    seen = np.array([(counts == i).sum() for i in k])
    assert stats.chisquare(seen, expected * seen.sum()).pvalue > 0.001
    low, high = stats.binom.ppf([0.025, 0.975], 200, 0.15) / 200
    interval = bootstrap_interval(data, n_resamples=20_000, rng=0)
    assert (interval.low.item(), interval.high.item()) == (
        pytest.approx(low, abs=0.0051),
        pytest.approx(high, abs=0.0051),
    )


def test_counts_and_indices_draw_from_one_distribution(monkeypatch):
    """Ratings from 1 to 5 by multinomial counts, and item by item."""
    stars = torch.tensor([1, 2, 2, 3, 4, 4, 4, 5] * 50)
    by_counts = bootstrap_distribution(stars, n_resamples=20_000, rng=0)
    monkeypatch.setattr(bootstrap, "_means_by_counts", lambda *_: None)
    by_indices = bootstrap_distribution(stars, n_resamples=20_000, rng=0)
    assert stats.ks_2samp(by_counts, by_indices).pvalue > 0.001
    assert not by_counts.equal(by_indices)
    exact = stars.double().std(correction=0) / math.sqrt(len(stars))
    assert by_counts.std().item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("n", [2, 3, 7, 1000, 10_000, 2**20 + 1])
def test_indices_are_uniform_and_independent(n):
    rows = max(2, 300_000 // n)
    indices = bootstrap._drawer(n, rows, torch.Generator().manual_seed(5))()
    assert indices.shape == (rows, n)
    assert 0 <= indices.min() <= indices.max() < n
    flat = indices.flatten().numpy().astype(np.int64)
    bins = min(n, 50)
    assert (
        stats.chisquare(np.bincount(flat * bins // n), len(flat) * np.bincount(np.arange(n) * bins // n) / n).pvalue
        > 1e-3
    )
    for lag in (1, 2, len(flat) // 3, n):  # neighbours, and digits of one number
        assert abs(np.corrcoef(flat[:-lag], flat[lag:])[0, 1]) < 5 / math.sqrt(len(flat) - lag)


@pytest.mark.parametrize("n", [2, 3, 31, 32, 33, 1023, 1024, 10_000, 2**20, 2**20 + 1])
def test_the_largest_number_drawn_is_the_last_index(n, monkeypatch):
    largest = type("Generator", (), {"random": lambda self, out: out.fill(1 - 2**-53), "__init__": lambda *_: None})
    monkeypatch.setattr(np.random, "Generator", largest)
    assert bootstrap._drawer(n, 1, torch.Generator())().max() == n - 1


# Coverage


def test_coverage_of_a_benign_case():
    """Normal data, n = 50. The percentile interval is narrow by sqrt(49 / 50) and by z for t: 0.9396 in theory."""
    theory = 2 * stats.t.cdf(stats.norm.isf(0.025) * math.sqrt(49 / 50), 49) - 1
    data = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    interval = bootstrap_interval(data, n_resamples=999, rng=0)
    covered = ((interval.low <= 0) & (interval.high >= 0)).double().mean().item()
    assert covered == pytest.approx(theory, abs=3 * math.sqrt(theory * (1 - theory) / 2000))


def test_bca_covers_skewed_data_better():
    rng = np.random.default_rng(0)
    data = torch.tensor(rng.lognormal(sigma=1.2, size=(1500, 20)))
    truth = math.exp(1.2**2 / 2)
    missed = {}
    for method in METHODS:
        interval = bootstrap_interval(data, method=method, n_resamples=999, rng=0)
        missed[method] = ((interval.low > truth) | (interval.high < truth)).double().mean()
    assert missed["bca"] < missed["percentile"] < missed["basic"]


# Degenerate data


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("statistic", ["mean", median])
def test_constant_data_give_an_interval_of_width_zero(method, statistic):
    for data in ([0.1] * 7, [0.1] * 200, ([0.1] * 7, [0.1] * 9), ([0.1] * 7, [0.1] * 7)):
        if isinstance(data, tuple) and statistic is median:
            continue
        interval = bootstrap_interval(data, statistic, method, n_resamples=99, rng=0)
        expected = 0.0 if isinstance(data, tuple) else 0.1
        assert interval.estimate.item() == interval.low.item() == interval.high.item() == expected


def test_bca_where_scipy_says_nan():
    data = [0.0, 1.0, 2.0, 5.0, 7.0]
    interval = bootstrap_interval(data, lambda x: x.amax(-1) * 0 + 3, "bca", rng=0)  # a statistic that never moves
    assert interval.estimate == interval.low == interval.high == 3
    resamples = bootstrap_distribution(data, lambda x: x.amin(-1), rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = scipys(np.array(data), np.min, "bca", False, distribution=resamples.numpy()).confidence_interval
    ours = bootstrap_interval(data, lambda x: x.amin(-1), "bca", rng=0)
    if np.isnan(theirs.low):
        assert ours.low.isfinite()
    else:
        close(ours.low, theirs.low)
    biased = bootstrap._limits(
        torch.arange(100.0).double(), torch.tensor(500.0).double(), "bca", 0.95, torch.zeros(()).double()
    )
    # all 100 resamples lie below: a share of 0.995 gives z0 = 2.5758, and levels of Phi(2 * 2.5758 -+ 1.96)
    levels = stats.norm.cdf(2 * stats.norm.ppf(0.995) + stats.norm.ppf([0.025, 0.975]))
    close(torch.stack(biased), 99 * levels)


def test_an_extreme_acceleration_takes_the_last_resample():
    ordered = torch.arange(100.0).double()
    low, high = bootstrap._limits(ordered, torch.tensor(-1.0).double(), "bca", 0.95, torch.tensor(-0.9).double())
    assert low == 0 < high


def test_two_items_and_one_resample():
    interval = bootstrap_interval([1.0, 2.0], n_resamples=1, method="bca", rng=0)
    assert interval.low == interval.high
    assert bootstrap_distribution(([1.0, 2.0], [5.0, 7.0]), n_resamples=1, rng=0).shape == (1,)


def test_huge_and_tiny_numbers():
    data = gamma(30)
    plain = bootstrap_interval(data, method="bca", n_resamples=500, rng=0)
    for scale in (1e-200, 1e200):
        scaled = bootstrap_interval(data * scale, method="bca", n_resamples=500, rng=0)
        close(scaled.low / scale, plain.low)
        close(scaled.high / scale, plain.high)
    shifted = bootstrap_interval(data + 2.0**30, n_resamples=500, rng=0)
    close(shifted.low - 2.0**30, bootstrap_interval(data, n_resamples=500, rng=0).low, rtol=1e-6)
    with pytest.raises(ValueError, match="a resample's statistic contains"):
        bootstrap_interval([1.7e308, -1.7e308, 1e308], rng=0)


# Properties


@properties
@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=12),
    st.sampled_from(METHODS),
    st.integers(-9, 9),
    st.integers(1, 9),
)
def test_properties(data, method, shift, scale):
    run = partial(bootstrap_interval, method=method, n_resamples=199, rng=0)
    interval = run(data)
    assert interval.low <= interval.high
    if method != "basic":
        assert min(data) <= interval.low
        assert interval.high <= max(data)
    moved = run([scale * x + shift for x in data])
    close(moved.low, scale * interval.low + shift, atol=1e-9)
    close(moved.high, scale * interval.high + shift, atol=1e-9)
    close(moved.estimate, scale * interval.estimate + shift, atol=1e-9)
    wider = run(data, confidence=0.99)
    assert wider.low <= interval.low
    assert interval.high <= wider.high


def test_paired_means_are_those_of_the_differences():
    a, b = gamma(30), gamma(30, 1)
    close(
        bootstrap_distribution((a, b), paired=True, n_resamples=200, rng=4),
        bootstrap_distribution(b - a, n_resamples=200, rng=4),
    )


def test_pairing_helps_where_the_items_agree():
    a = gamma(200)
    b = a + np.random.default_rng(5).normal(0.2, 0.3, 200)
    paired, unpaired = (bootstrap_interval((a, b), paired=p, rng=0) for p in (True, False))
    assert (paired.high - paired.low) * 5 < unpaired.high - unpaired.low
    close(paired.estimate, unpaired.estimate)


def test_the_metric_of_a_corpus_by_item_numbers():
    """F1 from counts per document, which no mean of per-document values gives."""
    counts = torch.tensor(np.random.default_rng(0).integers(0, 5, size=(60, 3))).double()  # tp, fp, fn

    def f1(items):
        tp, fp, fn = counts[items.long()].sum(-2).unbind(-1)
        return 2 * tp / (2 * tp + fp + fn)

    interval = bootstrap_interval(torch.arange(60), f1, "bca", rng=0)
    tp, fp, fn = counts.sum(0)
    close(interval.estimate, 2 * tp / (2 * tp + fp + fn))
    tables = tuple(counts.T.numpy())
    peer = stats.bootstrap(
        tables,
        lambda tp, fp, fn, axis: 2 * tp.sum(axis) / (2 * tp.sum(axis) + fp.sum(axis) + fn.sum(axis)),
        paired=True,
        rng=np.random.default_rng(0),
    )
    error = 0.1 * (interval.high - interval.low)
    assert abs(interval.low - peer.confidence_interval.low) < error
    assert abs(interval.high - peer.confidence_interval.high) < error


# Shapes, dtypes, randomness


@pytest.mark.parametrize("statistic", ["mean", median])
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_a_loop(statistic, method, monkeypatch):
    data = np.stack([gamma(12, seed) for seed in range(6)]).reshape(2, 3, 12)
    monkeypatch.setattr(bootstrap, "CPU_BLOCK", 6 * 12 * 99)  # one block, so that a row and the batch draw alike
    options = {"statistic": statistic, "method": method, "n_resamples": 99, "rng": 0}
    batch = bootstrap_interval(data, **options)
    assert batch.low.shape == (2, 3)
    for i, j in product(range(2), range(3)):
        close(batch.low[i, j], bootstrap_interval(data[i, j], **options).low)
        close(batch.high[i, j], bootstrap_interval(data[i, j], **options).high)
    assert bootstrap_distribution(data, statistic, n_resamples=99, rng=0).shape == (2, 3, 99)


def test_a_broadcast_pair_of_batches():
    a, b = np.stack([gamma(12, s) for s in range(3)]), gamma(9, 7)
    close(bootstrap_interval((a, b), n_resamples=50, rng=0).estimate, b.mean() - a.mean(-1))
    close(bootstrap_interval((a, b), ratio, "bca", n_resamples=50, rng=0).estimate, b.sum() / a.sum(-1))


@pytest.mark.parametrize("block", [1, 100, 10**9])
@pytest.mark.parametrize("name", CASES)
def test_blocks_change_no_distribution(name, block, monkeypatch):
    data, statistic, _ = CASES[name]
    paired = name.startswith("paired")
    expected = bootstrap_interval(data, statistic, "bca", paired, 2000, rng=0)
    monkeypatch.setattr(bootstrap, "CPU_BLOCK", block)
    actual = bootstrap_interval(data, statistic, "bca", paired, 2000, rng=0)
    assert actual.low.item() == pytest.approx(expected.low.item(), abs=0.25 * (expected.high - expected.low).item())
    assert bootstrap_distribution(data, statistic, paired, 7, rng=0).shape == (7,)


def test_dtypes():
    data = torch.tensor(gamma(20))
    for dtype in (torch.float64, torch.float32, torch.float16):
        interval = bootstrap_interval(data.to(dtype), rng=0)
        assert {interval.estimate.dtype, interval.low.dtype, interval.high.dtype} == {dtype}
    exact = bootstrap_interval(data.float().double(), rng=0)
    close(bootstrap_interval(data.float(), rng=0).low, exact.low.float(), rtol=0, atol=0)  # no rounding on the way
    assert bootstrap_interval([1, 2, 3], rng=0).low.dtype == torch.float64


@pytest.mark.parametrize("name", CASES)
def test_randomness_comes_from_rng_alone(name):
    data, statistic, _ = CASES[name]
    run = partial(bootstrap_distribution, data, statistic, name.startswith("paired"), 50)
    state, rng = torch.random.get_rng_state(), torch.Generator().manual_seed(3)
    close(run(rng=rng), run(rng=3), rtol=0, atol=0)
    assert (run(rng=rng) != run(rng=3)).any(), "the generator must advance"
    assert (torch.random.get_rng_state() == state).all()


def test_gradients_are_not_followed():
    data = torch.tensor(gamma(9), requires_grad=True)
    assert not bootstrap_interval(data, n_resamples=20, rng=0).low.requires_grad


def test_memory_is_bounded():
    """10,000 resamples of two samples of 10,000 would be 1.6 GB; in a process of its own, 200 MB more is refused."""
    code = """
import torch
torch.set_num_threads(1)
from studyguide.statistics.bootstrap import bootstrap_interval
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
a, b = torch.randn(2, 10_000, dtype=torch.float64)
bootstrap_interval((a[:9], b[:9]), n_resamples=9, rng=0)
before = peak()
bootstrap_interval((a, b), n_resamples=10_000, method="bca", rng=0)
print(peak() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 200


# Errors


PAIR = ([1.0, 2.0, 3.0], [2.0, 3.0, 5.0])


@pytest.mark.parametrize(
    ("data", "arguments", "error", "message"),
    [
        ([1.0], {}, ValueError, "data has 1 along the last axis; expected at least 2 numbers"),
        ([], {}, ValueError, "data is empty"),
        (3.0, {}, ValueError, "data is a single number"),
        ([1.0, math.nan], {}, ValueError, "data contains nan; expected finite"),
        (([1.0, 2.0], [1.0, math.inf]), {}, ValueError, "b contains inf; expected finite"),
        (["a", "b"], {}, TypeError, "data cannot be read"),
        ((1.0, 2.0), {}, ValueError, "a is a single number"),
        (([1.0, 2.0],), {}, ValueError, "data is a tuple of 1 samples; expected one sample or a tuple of two"),
        ((*PAIR, PAIR[0]), {}, ValueError, "data is a tuple of 3 samples"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), {"paired": True}, ValueError, "a has 2 items and b 3; expected pairs"),
        (PAIR[0], {"paired": True}, ValueError, "paired needs a tuple of two samples"),
        (PAIR, {"statistic": "median"}, ValueError, "statistic is 'median'; expected one of 'mean'"),
        (PAIR, {"statistic": 3}, TypeError, "statistic is 3; expected 'mean' or a function"),
        (PAIR[0], {"statistic": torch.mean}, ValueError, r"statistic made \(\) of \(9999, 3\); expected \(9999,\)"),
        (PAIR[0], {"statistic": lambda x: x}, ValueError, r"statistic made \(9999, 3\) of"),
        (PAIR[0], {"statistic": lambda x: x.sum(-1) / 0}, ValueError, "statistic contains inf; expected finite"),
        (PAIR, {"method": "t"}, ValueError, "method is 't'; expected one of 'percentile', 'basic', 'bca'"),
        (PAIR, {"confidence": 95}, ValueError, "confidence is 95; expected a number strictly between 0 and 1"),
        (PAIR, {"n_resamples": 0}, ValueError, "n_resamples is 0; expected at least 1"),
        (PAIR, {"n_resamples": 9.5}, TypeError, "n_resamples is 9.5; expected an integer"),
        (PAIR, {"rng": np.random.default_rng(0)}, TypeError, "expected an int seed or a torch.Generator"),
    ],
)
def test_errors_name_the_argument(data, arguments, error, message):
    with pytest.raises(error, match=message):
        bootstrap_interval(data, **({"rng": 0} | arguments))


def test_a_statistic_undefined_for_a_resample_is_an_error():
    with pytest.raises(ValueError, match="statistic contains nan; expected finite"):
        bootstrap_interval([0.0, 0.0, 1.0], lambda x: x.sum(-1) / x.sum(-1), rng=0)  # 0/0 without the 1


# The GPU


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_cuda_agrees_with_cpu(cuda, name, method):
    data, statistic, _ = CASES[name]
    moved = (
        tuple(torch.tensor(x, device=cuda) for x in data)
        if isinstance(data, tuple)
        else torch.tensor(data, device=cuda)
    )
    paired = name.startswith("paired")
    ours = bootstrap_interval(moved, statistic, method, paired, 20_000, rng=0)
    expected = bootstrap_interval(data, statistic, method, paired, 20_000, rng=1)
    assert ours.low.device == cuda
    close(ours.estimate.cpu(), expected.estimate)
    width = (expected.high - expected.low).item()
    assert ours.low.item() == pytest.approx(expected.low.item(), abs=0.1 * width)
    assert ours.high.item() == pytest.approx(expected.high.item(), abs=0.1 * width)
    resamples = [bootstrap_distribution(x, statistic, paired, 20_000, rng=2).cpu() for x in (moved, data)]
    assert stats.ks_2samp(*resamples, method="asymp").pvalue > 0.001


@pytest.mark.gpu
def test_cuda_generator(cuda):
    data = torch.randn(50, device=cuda)
    rng = torch.Generator(cuda).manual_seed(1)
    assert bootstrap_interval(data, n_resamples=100, rng=rng).low.dtype == torch.float32
    with pytest.raises(ValueError, match="rng is a generator on cpu; expected one on cuda"):
        bootstrap_interval(data, rng=torch.Generator())
