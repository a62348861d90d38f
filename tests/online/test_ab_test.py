"""A/B analysis against scipy, statsmodels, recorded gbstats and spotify-confidence, and by brute-force simulation."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportions_ztest,
    samplesize_proportions_2indep_onetail,
)

from studyguide.online.ab_test import analyze_ab, required_duration, srm_check
from studyguide.online.effects import Metric, cuped, linearize, relative_lift, surely_positive
from studyguide.statistics.hypothesis import welch_t_test

# A treatment and a control of a few users: value, covariate, denominator
T = [5.1, 7.3, 6.2, 9.4, 8.0, 4.4, 7.7, 6.9, 5.8, 8.8]
XT = [1.0, 2.5, 2.0, 4.0, 3.5, 0.5, 3.0, 2.0, 1.5, 3.8]
NT = [3, 4, 4, 6, 5, 2, 5, 4, 3, 6]
C = [4.2, 4.9, 7.1, 6.0, 5.5, 3.8, 6.6, 5.2]
XC = [1.2, 1.0, 4.1, 3.0, 2.2, 0.4, 3.3, 2.1]
NC = [2, 3, 5, 4, 4, 2, 5, 3]
FEW = pd.DataFrame({"variant": ["B"] * 10 + ["A"] * 8, "value": T + C, "before": XT + XC, "requests": NT + NC})


def close(a, b, **tolerance):
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64),
        torch.as_tensor(b, dtype=torch.float64),
        **({"rtol": 1e-9, "atol": 1e-12} | tolerance),
    )


def limits(interval):
    return [float(interval.low), float(interval.high)]


def only(users, metric, **options):
    return analyze_ab(users, [metric], **options).effects[metric.name]


def liked(a=450, b=520, n=1000):
    values = [1] * a + [0] * (n - a) + [1] * b + [0] * (n - b)
    return pd.DataFrame({"variant": ["A"] * n + ["B"] * n, "liked": values})


def simulated(rng, size, n, effect=0.0, skew=True):
    """Two arms of `size` experiments: completed requests, requests, a covariate from before; (size, n) each."""
    activity = rng.gamma(1.0, 6.0, (2, size, n)) if skew else rng.uniform(3, 9, (2, size, n))
    quality = rng.beta(6, 2, (2, size, n))
    requests = rng.poisson(activity)
    p = np.clip(quality + np.array([effect, 0.0])[:, None, None], 0, 1)
    before = rng.binomial(20, quality) / 20
    return tuple(map(torch.from_numpy, (rng.binomial(requests, p) * 1.0, requests * 1.0, before)))


# Against other libraries


def test_a_mean_is_compared_as_by_scipy():
    effect, peer = only(FEW, Metric("value")), stats.ttest_ind(T, C, equal_var=False)
    assert effect.p_value == pytest.approx(peer.pvalue, rel=1e-12)
    close(limits(effect.difference), peer.confidence_interval())
    assert (effect.control, effect.treatment) == pytest.approx((np.mean(C), np.mean(T)))
    assert effect.units == (8, 10)


def test_a_proportion_is_compared_as_by_statsmodels():
    effect = only(liked(), Metric("liked", "proportion"))
    assert effect.p_value == pytest.approx(proportions_ztest([520, 450], [1000, 1000])[1], rel=1e-12)
    close(limits(effect.difference), confint_proportions_2indep(520, 1000, 450, 1000, method="newcomb"), rtol=1e-6)
    assert effect.lift.estimate == pytest.approx(0.52 / 0.45 - 1)


def test_gbstats_agrees():
    """gbstats 0.8.0, TwoSidedTTest with FrequentistConfig(difference_type="absolute") on T, C, XT, XC, NT, NC above."""
    mean, adjusted = only(FEW, Metric("value")), only(FEW, Metric("value", covariate="before"))
    ratio = only(FEW, Metric("value", "ratio", denominator="requests"))
    for effect, estimate, interval, p in (
        (mean, 1.5474999999999985, [0.17843003645899436, 2.9165699635410025], 0.029164308238931458),
        (adjusted, 1.2937274798094833, [0.8820403374029318, 1.705414622216035], 1.7042874768558036e-05),
        (ratio, 0.11071428571428554, [-0.09636656167967986, 0.3177951331082509], 0.2685763367448555),
    ):
        close(effect.difference.estimate, estimate)
        close(limits(effect.difference), interval)
        assert effect.p_value == pytest.approx(p, rel=1e-8)
    assert float(cuped(T, C, XT, XC).theta) == pytest.approx(1.1667702077724842, rel=1e-12)


def test_gbstats_lift_agrees_but_for_the_degrees_of_freedom():
    """The same, "relative". gbstats takes the degrees of freedom of the difference; ours are of what is added up."""
    lines = linearize(T, NT), linearize(C, NC)
    for (t, c), estimate, low, high in (
        ((torch.tensor(T), torch.tensor(C)), 0.2859122401847572, 0.0028865755505421142, 0.5689379048189722),
        (lines, 0.07159353348729781, -0.06893300561056519, 0.2121200725851608),
    ):
        t, c = t.double(), c.double()
        found = relative_lift(t, c)
        close(found.estimate, estimate, rtol=1e-6)
        error = (high - low) / 2 / stats.t.ppf(0.975, float(welch_t_test(t, c).df))
        parts = float(t.var() / 10 / c.mean() ** 2), float(c.var() / 8 * t.mean() ** 2 / c.mean() ** 4)
        assert error == pytest.approx(sum(parts) ** 0.5, rel=1e-6)
        df = sum(parts) ** 2 / (parts[0] ** 2 / 9 + parts[1] ** 2 / 7)
        close(
            limits(found),
            [estimate - stats.t.ppf(0.975, df) * error, estimate + stats.t.ppf(0.975, df) * error],
            rtol=1e-5,
        )


def test_spotify_confidence_agrees_on_cuped():
    """spotify-confidence 4.1.0, ZTestLinreg on the sums of T, C, XT, XC.

    Its variance has the values' sum of squares over n - 1, the covariate's terms over n, and its quantile is normal.
    """
    estimate, low, high = 1.293727, 0.749111, 1.838343
    adjusted = cuped(T, C, XT, XC)
    assert float(adjusted.treatment.mean() - adjusted.control.mean()) == pytest.approx(estimate, abs=5e-7)
    error = 0.0
    for y, x in ((np.array(T), np.array(XT)), (np.array(C), np.array(XC))):
        theta = float(adjusted.theta)
        terms = theta**2 * np.var(x) - 2 * theta * np.cov(y, x, ddof=0)[0, 1]
        error += (np.var(y, ddof=1) + terms) / len(y)
    close([estimate - 1.959964 * error**0.5, estimate + 1.959964 * error**0.5], [low, high], atol=2e-6)


def test_theta_is_the_slope_over_all_users():
    adjusted = cuped(T, C, XT, XC)
    assert float(adjusted.theta) == pytest.approx(stats.linregress(XT + XC, T + C).slope)
    close(torch.cat([adjusted.treatment, adjusted.control]).mean(), np.mean(T + C), atol=1e-12)


def test_holm_is_that_of_statsmodels_within_each_role():
    rng = np.random.default_rng(0)
    users = pd.DataFrame(rng.normal(size=(400, 6)), columns=list("uvwxyz")) + np.repeat([0, 0.2], 200)[:, None]
    users["variant"] = ["A"] * 200 + ["B"] * 200
    roles = ["primary"] * 3 + ["secondary"] * 2
    metrics = [Metric(name, role=role) for name, role in zip("uvwxy", roles, strict=True)]
    effects = analyze_ab(users, [*metrics, Metric("z", role="guardrail", practical=1)]).effects
    for names in ("uvw", "xy"):
        p = [effects[name].p_value for name in names]
        assert [effects[name].adjusted_p for name in names] == pytest.approx(multipletests(p, method="holm")[1])
    assert effects["z"].adjusted_p == effects["z"].p_value


# Ratios, CUPED and lift by simulation


def test_linearised_values_have_the_ratio_as_mean_and_its_jackknife_variance():
    values = linearize(T, NT)
    assert float(values.mean()) == pytest.approx(sum(T) / sum(NT))
    many, n = np.random.default_rng(1).gamma(2, size=(2, 3000)), 3000
    many[0] += many[1]
    left_out = (many[0].sum() - many[0]) / (many[1].sum() - many[1])
    jackknife = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
    assert float(linearize(*many).var() / n) == pytest.approx(jackknife, rel=0.01)


def test_coverage_of_ratio_lift_and_cuped_and_the_false_alarms_of_counting_requests():
    rng, size, n = np.random.default_rng(2), 4000, 250
    done, requests, before = simulated(rng, size, n)
    t, c = (linearize(done[arm], requests[arm]) for arm in (0, 1))
    adjusted = cuped(t, c, *before)
    wrong = {name: (test.p_value <= 0.05).double().mean() for name, test in (
        ("ratio", welch_t_test(t, c)), ("cuped", welch_t_test(adjusted.treatment, adjusted.control)))}  # fmt: skip
    lift = relative_lift(t, c)
    wrong["lift"] = ((lift.low > 0) | (lift.high < 0)).double().mean()
    assert all(abs(rate - 0.05) < 4 * np.sqrt(0.05 * 0.95 / size) for rate in wrong.values()), wrong
    total, good = requests.sum(-1), done.sum(-1)
    p = good.sum(0) / total.sum(0)
    z = (good[0] / total[0] - good[1] / total[1]) / (p * (1 - p) * (1 / total[0] + 1 / total[1])).sqrt()
    assert (z.abs() > 1.96).double().mean() > 0.12, "requests of one user are not independent"


def test_cuped_keeps_the_effect_and_removes_rho_squared():
    rng, size, n, rho = np.random.default_rng(3), 2000, 200, 0.7
    x = rng.normal(size=(2, size, n))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=(2, size, n)) + np.array([0.1, 0.0])[:, None, None]
    adjusted = cuped(*y, *x)
    plain, less = welch_t_test(*y), welch_t_test(adjusted.treatment, adjusted.control)
    error = np.sqrt(2 / n / size)
    assert abs(float(plain.estimate.mean()) - 0.1) < 4 * error
    assert abs(float(less.estimate.mean()) - 0.1) < 4 * error * np.sqrt(1 - rho**2)
    assert float(less.estimate.var() / plain.estimate.var()) == pytest.approx(1 - rho**2, rel=0.1)
    assert float(adjusted.removed.mean()) == pytest.approx(rho**2, abs=0.01)
    covered = (less.interval.low < 0.1) & (less.interval.high > 0.1)
    assert abs(float(covered.double().mean()) - 0.95) < 4 * np.sqrt(0.05 * 0.95 / size)


def test_coverage_of_the_lift_from_5_standard_errors_above_0_on():
    rng, size = np.random.default_rng(4), 20_000
    for above, tolerance in ((5.5, 0.025), (8, 0.01), (40, 0.006)):
        t, c = rng.normal(1.1, 5 / above, (2, size, 25)) - np.array([0, 0.1])[:, None, None]
        kept = surely_positive(c).numpy()
        lift = relative_lift(t[kept], c[kept])
        covered = ((lift.low < 0.1) & (lift.high > 0.1)).double().mean()
        assert abs(float(covered) - 0.95) < tolerance, above


def test_an_a_a_test_ships_at_most_as_often_as_alpha():
    rng, size, n = np.random.default_rng(5), 160, 150
    done, requests, before = (x.numpy() for x in simulated(rng, size, n))
    metrics = [
        Metric("done", "ratio", denominator="requests", covariate="before"),
        Metric("requests", direction="down"),
        Metric("high", "proportion"),
    ]
    variant, decisions = ["B"] * n + ["A"] * n, []
    for i in range(size):
        columns = {"done": done[:, i].ravel(), "requests": requests[:, i].ravel(), "before": before[:, i].ravel()}
        users = pd.DataFrame(columns | {"variant": variant, "high": (before[:, i].ravel() > 0.8) * 1})
        decisions.append(analyze_ab(users, metrics).decision)
    ship, stop = (decisions.count(word) / size for word in ("ship", "stop"))
    assert ship < 0.025 + 4 * np.sqrt(0.025 / size)
    assert 0.005 < ship + stop < 0.05 + 4 * np.sqrt(0.05 / size) + 0.02  # a stop may also come from the plain interval


# The split


def test_srm_of_the_guide_and_of_scipy():
    assert [round(float(srm_check(c).p_value), n) for c, n in (([97, 103], 2), ([450, 550], 4))] == [0.67, 0.0016]
    for counts, weights in (([450, 550], None), ([900, 80, 120], [0.8, 0.1, 0.1]), ([1, 99], [0.1, 0.9])):
        expected = np.array(weights or [1 / len(counts)] * len(counts)) * sum(counts)
        peer, found = stats.chisquare(counts, expected), srm_check(counts, weights)
        assert (float(found.statistic), float(found.p_value)) == pytest.approx((peer.statistic, peer.pvalue), rel=1e-9)
        close(found.estimate, np.array(counts) / sum(counts) - expected / sum(counts), atol=1e-15)


def test_srm_false_alarm_rate_is_one_in_a_thousand():
    rng, size = np.random.default_rng(6), 200_000
    for n, share in ((1000, 0.5), (10_000, 0.9), (500, 0.3)):
        b = rng.binomial(n, share, size)
        rate = float((srm_check(np.stack([n - b, b], -1), [1 - share, share]).p_value < 0.001).double().mean())
        assert abs(rate - 0.001) < 0.0004, (n, share)


@pytest.mark.parametrize(
    ("counts", "weights", "message"),
    [
        ([5], None, "2 variants or more"),
        ([0, 0], None, "at least one unit"),
        ([1.5, 2], None, "whole numbers"),
        ([-1, 2], None, "whole numbers"),
        ([1, 2], [0.6, 0.6], "sum to 1"),
        ([1, 2], [0, 1], "shares above 0"),
        ([1, 2], [0.2, 0.3, 0.5], "expected 2 shares"),
    ],
)
def test_bad_counts(counts, weights, message):
    with pytest.raises(ValueError, match=message):
        srm_check(counts, weights)


# The decision


def arms(**columns):
    """Users whose difference is exact: {metric: (mean of A, of B, deviation)}, 500 in each arm."""
    noise = stats.norm.ppf((np.arange(500) + 0.5) / 500)
    noise /= noise.std(ddof=1)
    values = {k: np.concatenate([a + noise * sd, b + noise * sd]) for k, (a, b, sd) in columns.items()}
    return pd.DataFrame({"variant": ["A"] * 500 + ["B"] * 500} | values)


# An interval reaches 1.9624 * sqrt(2 / 500) = 0.1241 deviations to either side.
BETTER, WORSE, SAME, ROUGH = (5, 5.5, 1), (5, 4.5, 1), (5, 5, 1), (5, 5.1, 1)
GUARD = Metric("late", direction="down", role="guardrail", practical=0.2)


@pytest.mark.parametrize(
    ("columns", "metrics", "decision", "reason"),
    [
        ({"x": BETTER}, [Metric("x")], "ship", "x changes by 0.5 (0.3759 to 0.6241): significantly better"),
        ({"x": BETTER}, [Metric("x", practical=0.5)], "ship", "and by at least 0.5"),
        ({"x": BETTER}, [Metric("x", practical=0.6)], "hold", "but by less than the 0.6 worth shipping"),
        (
            {"x": BETTER},
            [Metric("x", practical=0.63)],
            "stop",
            "a gain of 0.63, the least worth shipping, is ruled out",
        ),
        ({"x": WORSE}, [Metric("x")], "stop", "significantly worse"),
        (
            {"x": WORSE},
            [Metric("x", direction="down")],
            "ship",
            "x changes by -0.5 (-0.6241 to -0.3759): significantly",
        ),
        ({"x": SAME}, [Metric("x")], "hold", "not significant, and a gain is not ruled out"),
        ({"x": SAME}, [Metric("x", practical=0.2)], "stop", "a gain of 0.2"),
        ({"x": SAME, "y": BETTER}, [Metric("x"), Metric("y")], "ship", "y changes by"),
        ({"x": BETTER, "y": WORSE}, [Metric("x"), Metric("y")], "stop", "y changes by"),
        ({"x": SAME, "y": BETTER}, [Metric("x"), Metric("y", role="secondary")], "hold", "x changes by"),
        ({"x": BETTER, "late": SAME}, [Metric("x"), GUARD], "ship", "x changes by"),
        ({"x": BETTER, "late": (5, 5.05, 1)}, [Metric("x"), GUARD], "ship", "x changes by"),
        (
            {"x": BETTER, "late": ROUGH},
            [Metric("x"), GUARD],
            "hold",
            "late changes by 0.1 (-0.0241 to 0.2241): it may be",
        ),
        (
            {"x": BETTER, "late": BETTER},
            [Metric("x"), GUARD],
            "stop",
            "late changes by 0.5 (0.3759 to 0.6241): worse than",
        ),
        ({"x": BETTER, "late": WORSE}, [Metric("x"), GUARD], "ship", "x changes by"),
        ({"x": WORSE, "late": ROUGH}, [Metric("x"), GUARD], "stop", "x changes by"),
    ],
)
def test_decisions(columns, metrics, decision, reason):
    report = analyze_ab(arms(**columns), metrics)
    assert report.decision == decision
    assert reason in report.reason
    assert f"{decision}: {report.reason}" in str(report)


def test_a_broken_split_refuses_a_verdict():
    users = pd.concat([arms(x=BETTER)] * 2).iloc[120:]
    report = analyze_ab(users, [Metric("x")])
    assert (report.decision, report.units) == ("ship", {"A": 380 + 500, "B": 1000}), "p is 0.006: bad luck, perhaps"
    broken = analyze_ab(users.iloc[80:], [Metric("x")])
    assert broken.srm.p_value < 0.001
    assert (broken.decision, broken.reason[:19]) == ("hold", "the split is broken")
    kept = analyze_ab(users.iloc[80:], [Metric("x")], weights={"A": 0.45, "B": 0.55})
    assert kept.decision == "ship"


def test_one_of_several_is_held_back_by_holm():
    users = arms(x=(5, 5.13, 1), u=SAME, v=SAME, w=SAME)
    assert analyze_ab(users, [Metric("x")]).decision == "ship"
    assert analyze_ab(users, [Metric(name) for name in "xuvw"]).decision == "hold"


def test_missing_is_not_0():
    users = arms(x=BETTER)
    users.loc[::2, "x"] = np.nan
    effect = only(users, Metric("x"))
    assert effect.units == (250, 250)
    assert effect.control == pytest.approx(5, abs=0.01)
    assert effect.treatment == pytest.approx(5.5, abs=0.01)


def test_a_lift_over_a_mean_that_may_be_0_is_none():
    report = analyze_ab(arms(x=(0.1, 0.5, 1), y=(-5, -4, 1), z=(0, 0, 0)), [Metric("x"), Metric("y"), Metric("z")])
    assert [effect.lift for effect in report.effects.values()] == [None] * 3
    assert report.effects["z"].p_value == 1
    assert "-" in str(report).splitlines()[2].split()


# Invariance


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1000))
def test_order_units_and_names_do_not_matter(seed, scale):
    metric = Metric("value", covariate="before")
    base, shuffled = only(FEW, metric), only(FEW.sample(frac=1, random_state=seed), metric)
    assert shuffled.p_value == pytest.approx(base.p_value, rel=1e-9)
    scaled = only(FEW.assign(value=FEW["value"] * scale, before=FEW["before"] * 3 - 7), metric)
    assert scaled.p_value == pytest.approx(base.p_value, rel=1e-6)
    close(scaled.lift.high, base.lift.high, rtol=1e-7)
    close(scaled.difference.low, base.difference.low * scale, rtol=1e-7)
    swapped = only(FEW.assign(variant=FEW["variant"].map({"A": "B", "B": "A"})), metric)
    close(limits(swapped.difference), [-x for x in reversed(limits(base.difference))])
    renamed = only(FEW.assign(arm=FEW["variant"].map({"A": "old", "B": "new"})), metric, variant="arm", control="old")
    assert renamed.p_value == base.p_value


def test_dtypes_of_columns_do_not_matter():
    users, metric = liked(), Metric("liked", "proportion")
    p = only(users, metric).p_value
    for dtype in (bool, "int8", "float32", "Int64", "boolean", "Float64"):
        assert only(users.assign(liked=users["liked"].astype(dtype)), metric).p_value == p
    three = users.assign(variant=pd.Categorical(users["variant"], ["A", "B", "C"]))
    assert only(three, metric).p_value == p
    missing = users["liked"].astype("Int64")
    missing[5] = pd.NA
    assert only(users.assign(liked=missing), metric).units == (999, 1000)


def test_a_constant_or_partly_missing_covariate():
    plain = only(FEW, Metric("value"))
    constant = only(FEW.assign(before=3.0), Metric("value", covariate="before"))
    assert (constant.p_value, constant.removed) == pytest.approx((plain.p_value, 0))
    holes = FEW["before"].where(FEW.index % 3 > 0)
    filled = holes.fillna(holes.mean())
    found, peer = (only(FEW.assign(before=x), Metric("value", covariate="before")) for x in (holes, filled))
    close(limits(found.difference), limits(peer.difference))


def test_batches_are_rows():
    rng = np.random.default_rng(8)
    t, c, xt, xc = rng.gamma(3, size=(4, 3, 5, 40))
    adjusted, lift, lines = cuped(t, c, xt, xc), relative_lift(t, c), linearize(t, c)
    for i in np.ndindex(3, 5):
        row = cuped(t[i], c[i], xt[i], xc[i])
        close(adjusted.treatment[i], row.treatment)
        close(adjusted.theta[i], row.theta)
        close(lift.high[i], relative_lift(t[i], c[i]).high)
        close(lines[i], linearize(t[i], c[i]))
    assert linearize(torch.ones(3, dtype=torch.float32), torch.ones(3, dtype=torch.float32)).dtype == torch.float32


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(cuda):
    t, c, xt, xc = torch.rand(4, 7, 50, dtype=torch.float64) + 1
    for function, arguments in ((cuped, (t, c, xt, xc)), (linearize, (t, xt))):
        here, there = function(*arguments), function(*(x.to(cuda) for x in arguments))
        for a, b in zip(here if function is cuped else [here], there if function is cuped else [there], strict=True):
            assert b.device.type == "cuda"
            close(a, b.cpu())
    close(relative_lift(t, c).low, relative_lift(t.to(cuda), c.to(cuda)).low.cpu())


# Errors


ERRORS = [
        (lambda: Metric("x", "median"), ValueError, "kind is 'median'"),
        (lambda: Metric("x", direction="higher"), ValueError, "direction is 'higher'"),
        (lambda: Metric("x", role="main"), ValueError, "role is 'main'"),
        (lambda: Metric("x", "ratio"), ValueError, "a ratio has one"),
        (lambda: Metric("x", denominator="n"), ValueError, "a ratio has one"),
        (lambda: Metric("x", practical=-1), ValueError, "expected at least 0"),
        (lambda: Metric("x", practical=float("nan")), ValueError, "expected at least 0"),
        (lambda: Metric("x", role="guardrail"), ValueError, "above 0 for a guardrail"),
        (lambda: analyze_ab(FEW, []), ValueError, "at least one primary"),
        (lambda: analyze_ab(FEW, [Metric("value", role="secondary")]), ValueError, "at least one primary"),
        (lambda: analyze_ab(FEW, [Metric("value")] * 2), ValueError, "distinct names"),
        (lambda: analyze_ab(FEW, ["value"]), TypeError, "metrics holds 'value'"),
        (lambda: analyze_ab({"variant": []}, [Metric("value")]), TypeError, "users is a dict"),
        (lambda: only(FEW, Metric("speed")), ValueError, "no column 'speed'"),
        (lambda: only(FEW, Metric("value", covariate="age")), ValueError, "no column 'age'"),
        (lambda: only(FEW, Metric("value"), variant="arm"), ValueError, "no column 'arm'"),
        (lambda: only(FEW, Metric("value"), control="old"), ValueError, "expected 'old', the control"),
        (lambda: only(FEW[:10], Metric("value"), control="B"), ValueError, "and one other variant"),
        (lambda: only(FEW.assign(variant=["A", "B", "C"] * 6), Metric("value")), ValueError, "one other variant"),
        (lambda: only(FEW.assign(variant=["A", "B", None] * 6), Metric("value")), ValueError, "one other variant"),
        (lambda: only(FEW.assign(variant=["A", None] * 9), Metric("value")), ValueError, "one other variant"),
        (lambda: only(FEW[:11], Metric("value")), ValueError, "1 values in 'control'; expected at least 2"),
        (lambda: only(FEW, Metric("value", "proportion")), ValueError, "more than 0 and 1"),
        (lambda: only(FEW, Metric("variant")), ValueError, "not numeric"),
        (lambda: only(FEW.assign(value=np.inf), Metric("value")), ValueError, "contains inf"),
        (lambda: only(FEW.assign(before=np.nan), Metric("value", covariate="before")), ValueError, "missing for all"),
        (lambda: only(FEW.assign(before=np.inf), Metric("value", covariate="before")), ValueError, "contains inf"),
        (lambda: only(FEW, Metric("value"), weights={"A": 0.5, "C": 0.5}), ValueError, "expected the variants"),
        (lambda: only(FEW, Metric("value"), weights={"A": 0.6, "B": 0.6}), ValueError, "sum to 1"),
        (lambda: only(FEW, Metric("value"), confidence=95), ValueError, "confidence is 95"),
        (lambda: only(FEW.assign(requests=0), Metric("value", "ratio", denominator="requests")), ValueError, "denominator"),
        (lambda: only(FEW.assign(requests=-1), Metric("value", "ratio", denominator="requests")), ValueError, "none below 0"),
        (lambda: linearize([1, 2, 3], [1, 2]), ValueError, "numerator has 3 numbers, denominator 2"),
        (lambda: linearize([1, float("nan")], [1, 2]), ValueError, "numerator contains nan"),
        (lambda: cuped(T, C, XT, XT), ValueError, "control has shape"),
        (lambda: cuped([1], C, [1], XC), ValueError, "at least 2"),
        (lambda: relative_lift(T, [-1, 1, 0]), ValueError, "expected 5 standard errors above 0"),
        (lambda: required_duration(1000, 0.1), ValueError, "expected one of them"),
        (lambda: required_duration(1000, 0.1, baseline=0.5, deviation=1), ValueError, "expected one of them"),
        (lambda: required_duration(0, 0.1, baseline=0.5), ValueError, "users_per_week"),
        (lambda: required_duration(1000, 0.1, baseline=0.5, split=1), ValueError, "split is 1"),
        (lambda: required_duration(1000, 0.1, baseline=0.5, triggered=0), ValueError, "triggered is 0"),
        (lambda: required_duration(1000, 0.6, baseline=0.5), ValueError, "p2 contains 1.1"),
        (lambda: required_duration(1000, 0, deviation=1), ValueError, "no sample size finds none"),
        (lambda: required_duration(1000, 0.1, deviation=0), ValueError, "deviation is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# How long


def test_durations_of_the_guide_s_example():
    relative = required_duration(1000, 0.05 * 0.45, baseline=0.45)
    assert (int(relative.control), int(relative.treatment)) == (7705, 7705)
    assert float(relative.weeks) == pytest.approx(15.41)
    assert int(required_duration(1000, 0.05, baseline=0.45).control) == 1565
    assert float(relative.control) == np.ceil(samplesize_proportions_2indep_onetail(0.0225, 0.45, 0.8))


def test_an_uneven_split_has_the_power_that_it_promises():
    peer = TTestIndPower().solve_power(0.2, power=0.8, alpha=0.05, ratio=1)
    even = required_duration(500, 0.4, deviation=2.0)
    assert int(even.control) == np.ceil(peer)
    uneven = required_duration(500, 0.4, deviation=2.0, split=0.1)
    total = float(uneven.control + uneven.treatment)
    assert total / (2 * peer) == pytest.approx((1 / 0.9 + 1 / 0.1) / 4, rel=0.002)
    assert total / (2 * peer) == pytest.approx(2.78, abs=0.005)
    power = TTestIndPower().power(0.2, float(uneven.treatment), 0.05, ratio=9)
    assert power == pytest.approx(0.8, abs=0.003)
    assert float(required_duration(500, 0.4, deviation=2.0, split=0.9).control) == float(uneven.treatment)
    assert float(required_duration(500, 0.4, deviation=2.0, triggered=0.25).weeks) == pytest.approx(
        4 * float(even.weeks)
    )
    several = required_duration(500, 0.4, deviation=2.0, split=[0.5, 0.1])
    close(several.weeks, [float(even.weeks), float(uneven.weeks)])


def test_proportions_in_an_uneven_split_reach_the_power_by_simulation():
    duration = required_duration(1000, 0.05, baseline=0.45, split=0.1)
    n_a, n_b = int(duration.control), int(duration.treatment)
    rng = np.random.default_rng(9)
    a, b = rng.binomial(n_a, 0.45, 20_000), rng.binomial(n_b, 0.50, 20_000)
    p = (a + b) / (n_a + n_b)
    z = (b / n_b - a / n_a) / np.sqrt(p * (1 - p) * (1 / n_a + 1 / n_b))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.015)
