"""Drift detectors against scipy, statsmodels, brute force and hand calculation; their false alarms against their claims."""

import math
import re
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.ensemble import RandomForestClassifier
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from studyguide.online import drift_report as report_module
from studyguide.online import embedding_drift
from studyguide.online.drift import (
    chi_square_drift,
    js_drift,
    ks_drift,
    mean_shift,
    psi,
    psi_threshold,
)
from studyguide.online.drift_report import drift_report, plot_drift
from studyguide.online.embedding_drift import classifier_drift, mmd_drift

properties = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def pair(seed, tied):
    """Two samples of unequal sizes, moved against each other, whole numbers if tied."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=rng.integers(60, 200)), rng.normal(rng.normal(), 1.5, rng.integers(60, 200))
    return (np.round(a), np.round(b)) if tied else (a, b)


def labelled(counts):
    """A list with each category as often as the dict says."""
    return [name for name, count in counts.items() for _ in range(count)]


# One column: agreement


@properties
@given(seeds, st.booleans())
def test_ks_is_that_of_scipy(seed, tied):
    a, b = pair(seed, tied)
    expected, found = stats.ks_2samp(a, b, method="asymp"), ks_drift(a, b)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-12)
    assert found.effect == found.statistic


@properties
@given(seeds, st.booleans())
def test_the_mean_shift_is_welch(seed, tied):
    a, b = pair(seed, tied)
    expected, found = stats.ttest_ind(b, a, equal_var=False), mean_shift(a, b)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-10)
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    assert found.effect == pytest.approx((b.mean() - a.mean()) / math.sqrt(pooled))


@properties
@given(st.lists(st.tuples(st.integers(20, 90), st.integers(20, 90)), min_size=2, max_size=8))
def test_chi_square_and_psi_of_categories(counts):
    p, q = np.array(counts).T
    names = "abcdefgh"[: len(p)]
    a, b = (labelled(dict(zip(names, column, strict=True))) for column in (p, q))
    expected = stats.chi2_contingency([p, q], correction=False)
    found = chi_square_drift(a, b)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    p, q = p / p.sum(), q / q.sum()
    assert found.effect == pytest.approx(abs(p - q).sum() / 2)
    index = psi(a, b)
    assert index.statistic == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))  # Jeffreys' divergence
    assert psi(b, a).statistic == pytest.approx(index.statistic)
    assert index.parts["part"].sum() == pytest.approx(index.statistic)
    assert np.allclose(index.parts.sort_index()[["reference", "current"]].T, [p, q])
    distance = js_drift(a, b, n_resamples=9, rng=0)
    assert distance.statistic == pytest.approx(jensenshannon(p, q), abs=1e-7)
    assert distance.parts["part"].sum() == pytest.approx(distance.statistic**2, abs=1e-12)


def test_psi_of_numbers_by_hand():
    """Halves of the reference: 10 below or at 10, 10 above; of the current 15 and 5."""
    reference, current = list(range(1, 21)), [0] * 15 + [99] * 5
    expected = (0.75 - 0.5) * math.log(0.75 / 0.5) + (0.25 - 0.5) * math.log(0.25 / 0.5)
    found = psi(reference, current, bins=2)
    assert found.statistic == pytest.approx(expected)
    assert found.parts.index.tolist() == ["-inf to 10", "10 to inf"]
    half = [(10.5, 10.5), (15.5, 5.5)]  # the law is of counts with half an item more
    (a, b), (c, d) = [(x / 21, y / 21) for x, y in half]
    law = ((c - a) * math.log(c / a) + (d - b) * math.log(d / b)) / (1 / 20 + 1 / 20)
    assert found.p_value == pytest.approx(stats.chi2.sf(law, 1))


@pytest.mark.parametrize(
    ("floor", "expected"),
    [  # all of the 1000 current values are in the lowest of ten bins
        (1e-6, 0.9 * math.log(10) + 9 * 0.1 * math.log(0.1 / 1e-6)),
        (None, 0.9 * math.log(10) + 9 * 0.0995 * math.log(0.1 / 0.0005)),
    ],
)
def test_values_outside_the_reference_count(floor, expected):
    rng = np.random.default_rng(0)
    found = psi(rng.uniform(0.8, 0.95, 5000), rng.uniform(0.5, 0.7, 1000), floor=floor)
    assert found.statistic == pytest.approx(expected, rel=0.01)  # but for the floor's share
    assert found.p_value < 1e-300 or found.p_value == pytest.approx(0, abs=1e-100)


def test_an_empty_bin_counts_as_half_an_item():
    found = psi(["a"] * 50 + ["b"] * 50, ["a"] * 100)
    p, q = np.array([0.5, 0.5]), np.array([1, 0.005]) / 1.005
    assert found.statistic == pytest.approx(((q - p) * np.log(q / p)).sum())


@properties
@given(seeds)
def test_only_the_order_of_numbers_counts(seed):
    a, b = pair(seed, tied=False)
    for detect in (ks_drift, psi, lambda x, y: js_drift(x, y, n_resamples=19, rng=0)):
        plain, curved = detect(a, b), detect(np.exp(a), np.exp(b))
        assert (plain.statistic, plain.p_value) == pytest.approx((curved.statistic, curved.p_value))


def test_the_bins_of_js_are_shared():
    """With its own edges each, ten times the length looks the same; shared, nothing is in common."""
    lengths = np.random.default_rng(0).uniform(100, 190, 500)
    found = js_drift(lengths, 10 * lengths, rng=0)
    assert found.statistic == pytest.approx(math.sqrt(math.log(2)))
    assert found.p_value == 1 / 1000


@pytest.mark.parametrize("detect", [ks_drift, psi, chi_square_drift, mean_shift, lambda a, b: js_drift(a, b, rng=0)])
def test_equal_samples_do_not_drift(detect):
    for sample in (np.arange(100.0), np.ones(100), torch.arange(100), pd.Series([0, 0, 0, 7] * 25)):
        found = detect(sample, sample)
        assert (found.statistic, found.effect) == pytest.approx((0, 0))
        assert found.p_value == 1


def test_constants():
    """A frequent value has a bin of its own, so that what lies on either side of a constant is seen."""
    for other in (-1.0, 3.0):
        assert psi(np.ones(100), np.full(100, other)).p_value < 1e-9
        assert js_drift(np.ones(100), np.full(100, other), rng=0).statistic == pytest.approx(math.sqrt(math.log(2)))
    zeros = np.concatenate([np.zeros(600), np.arange(1.0, 401)])
    assert psi(zeros, np.where(zeros == 0, -5, zeros)).parts.loc["0"].tolist()[:2] == pytest.approx([0.6, 0])
    found = mean_shift([2.0, 2.0], [3.0, 3.0])
    assert (found.statistic, found.p_value, found.effect) == (math.inf, 0, math.inf)


def test_unseen_and_rare_categories():
    found = chi_square_drift(["a"] * 60 + ["b"] * 40, ["a"] * 45 + ["b"] * 40 + ["new"] * 15)
    expected = stats.chi2_contingency([[60, 40, 0], [45, 40, 15]])
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    rare = {f"r{i}": 2 for i in range(10)}
    found = chi_square_drift(labelled({"a": 80} | rare), labelled({"a": 100}))
    assert found.statistic == pytest.approx(stats.chi2_contingency([[80, 20], [100, 0]], correction=False).statistic)
    assert set(found.parts.index) == {"a", "(rare)"}
    assert chi_square_drift(list("abc"), list("abd")).p_value == 1, "nothing but rare ones: no evidence"


def test_the_threshold_of_psi_is_its_quantile():
    assert psi_threshold(5000, 100) == pytest.approx((1 / 5000 + 1 / 100) * 16.918977604620448)  # chi-square, 9 degrees
    assert psi_threshold(200, 200, bins=2, alpha=0.01) == pytest.approx(0.01 * 6.6348966010212145)


# One column: false alarms, at the rates claimed


def rejections(p_values, alpha=0.05):
    """The share of p-values up to alpha, and three standard errors of it if alpha is the truth."""
    p_values = np.array(p_values)
    return (p_values <= alpha).mean(), 3 * math.sqrt(alpha * (1 - alpha) / len(p_values))


@pytest.mark.parametrize(("n", "m"), [(50, 50), (1000, 100), (500, 500)])
def test_false_alarms(n, m):
    rng = np.random.default_rng(n + m)
    draws = {
        ks_drift: (rng.normal, 300),
        psi: (rng.normal, 200),
        mean_shift: (rng.normal, 300),
        chi_square_drift: (lambda size: rng.geometric(0.3, size), 150),
        (lambda a, b: js_drift(a, b, n_resamples=99, rng=int(1e6 * abs(a[0])))): (rng.normal, 150),
    }
    for detect, (draw, repetitions) in draws.items():
        rate, margin = rejections([detect(draw(size=n), draw(size=m)).p_value for _ in range(repetitions)])
        assert rate <= 0.05 + margin
        if n > 50 and detect is not ks_drift:  # psi with 5 a bin, and ks, are below
            assert rate >= 0.05 - margin


def test_rare_categories_raise_no_false_alarms():
    rng = np.random.default_rng(0)
    drawn = [chi_square_drift(rng.zipf(1.5, 300), rng.zipf(1.5, 200)).p_value for _ in range(120)]
    assert 0 < rejections(drawn)[0] <= 0.05 + rejections(drawn)[1]


def test_ties_make_ks_conservative():
    rng = np.random.default_rng(0)
    drawn = [ks_drift(rng.integers(0, 2, 200), rng.integers(0, 2, 200)).p_value for _ in range(300)]
    assert rejections(drawn)[0] < 0.03


# Many columns at once


def brute_mmd(x, y, bandwidth):
    def k(a, b):
        return math.exp(-((a - b) ** 2).sum() / (2 * bandwidth**2))

    def within(z):
        return sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * sum(k(a, b) for a in x for b in y) / (len(x) * len(y))


def test_mmd_is_the_double_sum_and_p_the_share_of_regroupings():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(11, 3)), rng.normal(size=(7, 3)) + 0.7
    found = mmd_drift(x, y, bandwidth=1.3, n_permutations=60, rng=5)
    assert found.statistic == pytest.approx(brute_mmd(x, y, 1.3), abs=1e-12)
    pool, source = np.vstack([x, y]), torch.Generator().manual_seed(5)
    drawn = []
    for _ in range(60):
        order = torch.randperm(18, generator=source).numpy()
        drawn.append(brute_mmd(pool[np.sort(order[:11])], pool[np.sort(order[11:])], 1.3))
    assert found.p_value == pytest.approx((1 + sum(value >= found.statistic - 1e-12 for value in drawn)) / 61)
    assert found.effect == pytest.approx(math.sqrt(found.statistic))


def test_the_bandwidth_is_the_median_distance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 2)), rng.normal(size=(7, 2))  # 105 pairs, an odd number
    pool = np.vstack([x, y])
    median = np.median([np.linalg.norm(a - b) for i, a in enumerate(pool) for b in pool[:i]])
    assert mmd_drift(x, y, rng=0).statistic == pytest.approx(brute_mmd(x, y, median))
    assert mmd_drift(np.ones((5, 2)), np.ones((5, 2)), rng=0).p_value == 1, "no distance at all"


def test_mmd_does_not_depend_on_blocks_origin_or_rotation(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(25, 4)) * 1.5
    whole = mmd_drift(x, y, n_permutations=99, rng=0)
    turn = stats.ortho_group(4, seed=0).rvs()
    moved = mmd_drift(x @ turn + 1000, y @ turn + 1000, n_permutations=99, rng=0)
    monkeypatch.setattr(embedding_drift, "BLOCK", 200)
    blocks = mmd_drift(x, y, n_permutations=99, rng=0)
    for other in (moved, blocks):
        assert (other.statistic, other.p_value) == pytest.approx((whole.statistic, whole.p_value), abs=1e-9)
    single = mmd_drift(torch.tensor(x).float(), torch.tensor(y).float(), n_permutations=99, rng=0)
    assert single.statistic == pytest.approx(whole.statistic, abs=1e-6)


def test_the_memory_of_mmd_is_bounded_by_blocks(monkeypatch):
    seen = []
    kernel = embedding_drift._kernel
    monkeypatch.setattr(embedding_drift, "_kernel", lambda a, *rest: seen.append(a.shape) or kernel(a, *rest))
    monkeypatch.setattr(embedding_drift, "BLOCK", 10_000)
    x = torch.randn(1500, 2, generator=torch.Generator().manual_seed(0))
    mmd_drift(x[:700], x[700:], n_permutations=3, rng=0)
    assert max(rows * 1500 for rows, _ in seen) <= 10_000


def test_mmd_sees_what_columns_do_not():
    """The columns keep their marginal distributions; only their correlation changes."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2))
    y = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 300)
    assert min(ks_drift(x[:, i], y[:, i]).p_value for i in (0, 1)) > 0.05
    assert mmd_drift(x, y, rng=0).p_value == 0.001


@pytest.mark.gpu
def test_mmd_on_a_gpu(cuda):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(500, 16, generator=generator), torch.randn(400, 16, generator=generator) + 0.1
    for dtype, error in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        here, there = (mmd_drift(x.to(d, dtype), y.to(d, dtype), rng=0) for d in ("cpu", cuda))
        assert there.statistic == pytest.approx(here.statistic, abs=error)
        assert there.p_value == pytest.approx(here.p_value, abs=0.003)


def test_false_alarms_of_the_multivariate_tests():
    rng = np.random.default_rng(0)
    detectors = {
        "mmd": lambda x, y, i: mmd_drift(x, y, n_permutations=99, rng=i),
        "classifier": lambda x, y, i: classifier_drift(x, y, rng=i),
    }
    for name, repetitions, (n, m) in (("mmd", 250, (40, 30)), ("classifier", 80, (60, 90))):
        found = [
            detectors[name](rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), i).p_value for i in range(repetitions)
        ]
        rate, margin = rejections(found)
        assert abs(rate - 0.05) <= margin
        assert stats.kstest(found, "uniform").pvalue > 0.001, "p is uniform where nothing has drifted"


def test_the_classifier_finds_a_shift_and_with_a_forest_a_spread():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    assert classifier_drift(x, y + 1, rng=0).p_value < 1e-9
    expected = stats.norm.cdf(math.sqrt(3) / math.sqrt(2))  # the best AUC for a shift of 1 in three columns
    assert classifier_drift(x, y + 1, rng=0).statistic == pytest.approx(expected, abs=0.05)
    assert classifier_drift(x, 3 * y, rng=0).effect < 0.1
    forest = RandomForestClassifier(20, random_state=0)
    assert classifier_drift(x, 3 * y, forest, rng=0).effect > 0.25


def test_the_z_of_the_auc_is_mann_whitneys():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 90), np.repeat([0, 1], [50, 40])
    expected = stats.mannwhitneyu(
        scores[labels == 1], scores[labels == 0], use_continuity=False, alternative="greater", method="asymptotic"
    )
    z = embedding_drift._z(expected.statistic / 2000, scores, labels)
    assert stats.norm.sf(z) == pytest.approx(expected.pvalue)
    assert embedding_drift._z(0.5, np.ones(90), labels) == 0


# The report


def frames(seed=0, n=400, m=300):
    rng = np.random.default_rng(seed)

    def one(size):
        return pd.DataFrame(
            {
                "tokens": rng.lognormal(5, 0.5, size).astype(np.float32),
                "topic": pd.Categorical(rng.choice(["billing", "setup", "refunds"], size)),
                "flag": rng.random(size) < 0.2,
                "rating": np.where(rng.random(size) < 0.3, rng.integers(1, 6, size), np.nan),
                "note": rng.choice(["x", "y"], size),
                "completed": (rng.random(size) < 0.8).astype(np.int8),
            }
        )

    return one(n), one(m)


def check_of(report, column, check="values"):
    return report.checks[(report.checks["column"] == column) & (report.checks["check"] == check)].iloc[0]


def test_the_report_is_its_detectors():
    a, b = frames()
    found = drift_report(a, b, outcome="completed")
    row = check_of(found, "tokens")
    single = ks_drift(a["tokens"], b["tokens"])
    assert (row["effect"], row["p"]) == (single.effect, single.p_value)
    assert row["psi"] == pytest.approx(psi(a["tokens"], b["tokens"]).statistic)
    for column in ("topic", "flag", "note"):
        single, row = chi_square_drift(a[column], b[column]), check_of(found, column)
        assert (row["effect"], row["p"], row["psi"]) == pytest.approx(
            (single.effect, single.p_value, psi(a[column], b[column]).statistic)
        )
    stars = [frame["rating"].dropna().astype(str) for frame in (a, b)]
    assert check_of(found, "rating")["p"] == pytest.approx(chi_square_drift(*stars).p_value), "few distinct numbers"
    for column, check, counts in (
        ("rating", "missing", [frame["rating"].isna().sum() for frame in (a, b)]),
        ("completed", "outcome", [frame["completed"].sum() for frame in (a, b)]),
    ):
        row = check_of(found, column, check)
        assert row["p"] == pytest.approx(proportions_ztest(counts, [400, 300])[1])
        assert row["effect"] == pytest.approx(abs(counts[0] / 400 - counts[1] / 300))
    expected = multipletests(found.checks["p"], method="fdr_bh")[1]
    assert np.allclose(found.checks["p_bh"], expected)
    assert all(x >= y for x, y in pairwise(found.checks["effect"])) or found.drifted


@pytest.mark.parametrize(
    ("column", "change", "check"),
    [
        ("tokens", lambda x: x * 1.5, "values"),
        ("topic", lambda x: pd.Categorical(["recall"] * 90 + list(x[90:])), "values"),
        ("tokens", lambda x: x.where(x.index % 2 == 0), "missing"),
        ("note", lambda x: x.where(x.index % 3 > 0), "missing"),
        ("completed", lambda x: x * (x.index % 3 > 0), "values"),
    ],
)
def test_what_was_changed_is_what_the_report_names(column, change, check):
    a, b = frames(3)
    b[column] = change(b[column])
    found = drift_report(a, b)
    assert found.drifted == [column]
    assert found.checks.iloc[0][["column", "check"]].tolist() == [column, check]
    assert found.verdict == f"drift in {column}"


def test_concept_drift_needs_labels():
    a, b = frames(3)
    b["completed"] = (b["completed"] * (b.index % 3 > 0)).astype(float)
    b.loc[:50, "completed"] = np.nan  # labels that have not come yet
    inputs = [column for column in a if column != "completed"]
    assert drift_report(a[inputs], b[inputs]).verdict == "no drift"
    found = drift_report(a, b, outcome="completed")
    assert found.verdict.startswith("concept drift: completed")
    known = b["completed"].dropna()
    counts, totals = [a["completed"].sum(), known.sum()], [400, len(known)]
    assert check_of(found, "completed", "outcome")["p"] == pytest.approx(proportions_ztest(counts, totals)[1])
    b["tokens"] *= 2
    assert "cannot tell" in drift_report(a, b, outcome="completed").verdict


def test_rare_missing_values_are_tested_exactly():
    a, b = frames(3)
    a.loc[:2, "tokens"] = np.nan
    expected = stats.fisher_exact([[3, 397], [0, 300]]).pvalue
    assert check_of(drift_report(a, b), "tokens", "missing")["p"] == pytest.approx(expected)


def test_a_tiny_effect_is_drift_only_without_a_minimum():
    rng = np.random.default_rng(0)
    a, b = (pd.DataFrame({"x": rng.normal(shift, 1, 200_000)}) for shift in (0, 0.02))
    assert drift_report(a, b).drifted == ["x"]
    assert drift_report(a, b, minimum_effect=0.05).drifted == []


def test_columns_that_cannot_be_compared_are_named():
    a, b = frames(3)
    b.loc[20:, "tokens"] = np.nan
    found = drift_report(a.assign(constant=1.0, empty=np.nan), b.assign(constant=1.0, empty=np.nan))
    assert found.skipped == {
        "tokens": "20 values on one side, fewer than 50",
        "empty": "0 values on one side, fewer than 50",
    }
    assert found.drifted == ["tokens"], "for its missing values"
    assert check_of(found, "constant")["p"] == 1
    assert "tokens was not compared: 20 values" in str(found)
    only = drift_report(pd.DataFrame({"x": [np.nan] * 60}), pd.DataFrame({"x": [np.nan] * 60}))
    assert (len(only.checks), only.verdict) == (1, "no drift")


def test_the_chance_of_any_false_alarm_in_a_report():
    alarms = [bool(drift_report(*frames(seed, 150, 120), outcome="completed").drifted) for seed in range(60)]
    assert np.mean(alarms) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


def test_the_report_prints_and_draws():
    a, b = frames(3)
    b["tokens"] *= 2
    found = drift_report(a, b)
    assert str(found).splitlines()[0] == "300 rows against 400: drift in tokens"
    assert "nan" not in str(found)
    bars = plot_drift(found, "tokens").patches
    assert [bar.get_height() for bar in bars] == pytest.approx(
        found.parts["tokens"][["reference", "current"]].to_numpy().T.ravel()
    )
    plt.close("all")
    with pytest.raises(ValueError, match="column is 'time'; expected one that was compared: tokens"):
        plot_drift(found, "time")


# Bad input

ROWS = pd.DataFrame({"x": np.arange(60.0), "y": ["a", "b"] * 30})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ks_drift([1.0, math.nan], [1, 2]), "reference contains nan"),
        (lambda: ks_drift([1, 2], [1]), "current has 1 along the last axis"),
        (lambda: ks_drift([[1, 2]], [1, 2]), "reference has shape"),
        (lambda: ks_drift([], [1, 2]), "reference is empty"),
        (lambda: psi(range(100), range(49)), "current has 49 numbers; 10 bins need at least 50"),
        (lambda: psi(range(100), range(100), bins=0), "bins is 0"),
        (lambda: psi(range(100), range(100), floor=2), "floor is 2"),
        (lambda: psi(["a"], [1]), "reference holds categories and current holds numbers"),
        (lambda: psi(["a", None], ["a"]), "reference has 1 missing"),
        (lambda: psi_threshold(10, 10, bins=1), "bins is 1"),
        (lambda: chi_square_drift(["a"], []), "current is empty"),
        (lambda: js_drift([1, 2], [1, 2], n_resamples=0, rng=0), "n_resamples is 0"),
        (lambda: mmd_drift([1, 2], [1, 2], rng=0), "reference has shape (2,)"),
        (lambda: mmd_drift([[1, 2]] * 3, [[1]] * 3, rng=0), "columns are reference 2 and current 1"),
        (lambda: mmd_drift([[1.0]] * 3, [[math.inf]] * 3, rng=0), "current contains inf"),
        (lambda: mmd_drift([[1.0]] * 3, [[2.0]] * 3, bandwidth=0, rng=0), "bandwidth is 0"),
        (lambda: classifier_drift([[1.0]] * 30, [[2.0]] * 9, rng=0), "5 folds of 30 and 9 rows"),
        (lambda: drift_report(ROWS, ROWS[:9]), "current has 9 rows; expected at least 50"),
        (lambda: drift_report(ROWS, ROWS.rename(columns={"x": "z"})), "only one of the frames has ['x', 'z']"),
        (lambda: drift_report(ROWS, ROWS, outcome="z"), "outcome is 'z'"),
        (lambda: drift_report(ROWS, ROWS, outcome="x"), "outcome 'x' must hold 0 and 1"),
        (lambda: drift_report(ROWS, ROWS.assign(x=math.inf)), "column 'x' contains infinite values"),
        (lambda: drift_report(ROWS, ROWS, minimum_effect=5), "minimum_effect is 5"),
        (lambda: drift_report(ROWS, ROWS, alpha=0), "alpha is 0"),
        (lambda: drift_report(ROWS[[]], ROWS[[]]), "reference has columns []"),
        (lambda: drift_report(ROWS[["x", "x"]], ROWS), "no name twice"),
    ],
)
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ks_drift(["a", "b"], ["a", "b"]), "categories; expected numbers"),
        (lambda: mean_shift(["a", "b"], ["a", "b"]), "expected numbers, which have a mean"),
        (lambda: mmd_drift([[1]] * 3, [["a"]] * 3, rng=0), "current cannot be read"),
        (lambda: js_drift([1, 2], [1, 2], rng="x"), "rng is 'x'"),
        (lambda: drift_report(ROWS, ROWS.to_numpy()), "current is ndarray; expected a pandas DataFrame"),
        (lambda: drift_report(*[ROWS.assign(x=pd.Timestamp(0))] * 2), "column 'x' has dtype datetime64"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_results_repeat_and_state_their_sizes():
    x = np.random.default_rng(0).normal(size=(60, 2))
    for detect in (mmd_drift, classifier_drift):
        a, b = detect(x, x[:50] + 1, rng=7), detect(x, x[:50] + 1, rng=7)
        assert (a.statistic, a.p_value, a.n_reference, a.n_current) == (b.statistic, b.p_value, 60, 50)
    assert report_module.LEAST == 50, "as the docstring says"
