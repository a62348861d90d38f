"""Power and sample sizes against statsmodels, hand calculations, and simulated experiments."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.power import NormalIndPower, TTestIndPower, TTestPower
from statsmodels.stats.proportion import (
    power_proportions_2indep,
    proportion_effectsize,
    samplesize_proportions_2indep_onetail,
)

from studyguide.statistics.power import (
    minimum_detectable_effect,
    power_means,
    sample_size_means,
    sample_size_proportions,
    simulate_power,
)

properties = settings(deadline=None, max_examples=60)  # a busy machine is no failure
shares = st.floats(0.01, 0.99)


def close(actual, expected, rtol=1e-10, atol=0):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


# Proportions

PAIRS = [(0.1, 0.12), (0.12, 0.1), (0.5, 0.51), (0.8, 0.82), (0.01, 0.99), (0.001, 0.002), (0.3, 0.9)]
LEVELS = [(0.05, 0.8), (0.01, 0.95), (0.2, 0.5), (0.001, 0.2)]


@pytest.mark.parametrize(("p1", "p2"), PAIRS)
@pytest.mark.parametrize(("alpha", "power"), LEVELS)
def test_proportions_agree_with_statsmodels(p1, p2, alpha, power):
    pooled = samplesize_proportions_2indep_onetail(p2 - p1, p1, power, alpha=alpha)
    close(sample_size_proportions(p1, p2, alpha, power), pooled)
    arcsine = sample_size_proportions(p1, p2, alpha, power, method="arcsine").item()
    effect = proportion_effectsize(p1, p2)
    assert NormalIndPower().power(effect, arcsine, alpha) == pytest.approx(power, rel=1e-10)


def test_proportions_by_hand():
    # z = 1.959964 and 0.841621; p = .11: 2 * .11 * .89 = .1958; .1 * .9 + .12 * .88 = .1956
    by_hand = ((1.959964 * math.sqrt(0.1958) + 0.841621 * math.sqrt(0.1956)) / 0.02) ** 2
    assert sample_size_proportions(0.10, 0.12).item() == pytest.approx(by_hand, rel=1e-6)
    assert math.ceil(sample_size_proportions(0.10, 0.12)) == 3841  # the guide's function is right here
    assert math.ceil(sample_size_proportions(0.10, 0.11)) == 14751
    effect = proportion_effectsize(0.10, 0.11)
    solved = NormalIndPower().solve_power(effect, alpha=0.05, power=0.8)
    assert sample_size_proportions(0.10, 0.11, method="arcsine").item() == pytest.approx(solved, rel=1e-9)


def test_the_pooled_size_reaches_its_power():
    for p1, p2 in PAIRS[:4]:
        size = sample_size_proportions(p1, p2).item()
        power = power_proportions_2indep(p2 - p1, p1, size, alpha=0.05, value=0, return_results=False)
        assert power == pytest.approx(0.8, abs=1e-5)  # statsmodels counts the far tail too


@properties
@given(shares, shares, st.sampled_from(["pooled", "arcsine"]))
def test_proportions_are_symmetric(p1, p2, method):
    if abs(p1 - p2) < 1e-6:
        return
    size = sample_size_proportions(p1, p2, method=method)
    assert size > 0
    close(sample_size_proportions(p2, p1, method=method), size)
    close(sample_size_proportions(1 - p1, 1 - p2, method=method), size, rtol=1e-6)
    assert sample_size_proportions(p1, p2, power=0.9, method=method) > size
    assert sample_size_proportions(p1, p2, alpha=0.01, method=method) > size


# Means


@pytest.mark.parametrize("effect", [0.01, 0.2, -0.25, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("n", [2, 3, 10, 100, 5000])
@pytest.mark.parametrize("alpha", [0.05, 0.001, 0.3])
def test_power_agrees_with_statsmodels(effect, n, alpha):
    for paired, peer in ((False, TTestIndPower()), (True, TTestPower())):
        expected = peer.power(effect, n, alpha)
        if not np.isnan(expected):  # statsmodels has no answer where one of the tails is tiny
            close(power_means(effect, n, alpha, paired), expected)


def test_power_where_statsmodels_has_none():
    """The noncentral t by numerical integration over the standard deviation, both tails."""
    for effect, n, alpha in ((8.3, 2, 0.05), (2.5, 12, 1e-6), (1.0, 100, 0.001), (0.5, 500, 0.05)):
        df, centre = 2 * n - 2, effect * math.sqrt(n / 2)
        critical = stats.t.isf(alpha / 2, df)
        scale = stats.chi(df, scale=1 / math.sqrt(df))

        def rejects(s, centre=centre, critical=critical, scale=scale):
            return scale.pdf(s) * (stats.norm.sf(critical * s - centre) + stats.norm.sf(critical * s + centre))

        expected, _ = integrate.quad(rejects, scale.ppf(1e-16), scale.isf(1e-16), epsabs=1e-13, limit=500)
        assert power_means(effect, n, alpha).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("alpha", "power"), LEVELS)
def test_sizes_and_effects_invert_the_power(paired, alpha, power):
    peer = TTestPower() if paired else TTestIndPower()
    for effect in (0.05, 0.25, -0.5, 0.8):
        n = sample_size_means(effect, alpha, power, paired)
        assert peer.power(abs(effect), n.item(), alpha) == pytest.approx(power, rel=1e-9)
        close(minimum_detectable_effect(n, alpha, power, paired), abs(effect), rtol=1e-9)
    if (alpha, power) == (0.05, 0.8):
        assert n.item() == pytest.approx(peer.solve_power(0.8, alpha=alpha, power=power), rel=1e-6)


def test_the_guides_two_chatbots():
    close(power_means(0.25, 100), TTestIndPower().power(0.25, 100, 0.05))
    assert round(power_means(0.25, 100).item(), 2) == 0.42
    assert math.ceil(sample_size_means(0.25)) == 253


def test_the_ends_of_the_range():
    close(power_means(0, [2, 10, 1e6], alpha=0.03), [0.03] * 3)  # no effect: false alarms only
    close(power_means([1e3, 1e9], 2), [1, 1])
    close(power_means(1, [1e15, 1e300]), [1, 1])
    assert sample_size_means([10.0, 100.0, 1e9]).tolist() == [2, 2, 2]  # what a standard deviation needs
    sizes = sample_size_means([1e-3, 1e-6, 1e-9])
    normal = 2 * (stats.norm.isf(0.025) + stats.norm.ppf(0.8)) ** 2  # which the t becomes; its far tail is 1e-6
    close(sizes * torch.tensor([1e-3, 1e-6, 1e-9]).double() ** 2, [normal] * 3, rtol=1e-5)
    close(minimum_detectable_effect(1e14) * 1e7, math.sqrt(normal), rtol=1e-5)


@properties
@given(st.floats(-5, 5), st.integers(2, 2000), st.booleans())
def test_power_properties(effect, n, paired):
    power = power_means(effect, n, paired=paired)
    assert 0.05 - 1e-12 <= power <= 1
    close(power_means(-effect, n, paired=paired), power)
    assert power_means(effect, n + 1, paired=paired) >= power - 1e-12
    assert power_means(effect * 1.1, n, paired=paired) >= power - 1e-12
    assert power_means(effect, n, alpha=0.04, paired=paired) <= power


# What a sample can show


def test_detectable_proportions_invert_the_size():
    for baseline in (0.01, 0.1, 0.5, 0.9):
        for n in (50, 100, 1000, 1e6):
            if n <= sample_size_proportions(baseline, 1 - 1e-9):
                continue
            gap = minimum_detectable_effect(n, baseline=baseline)
            close(sample_size_proportions(baseline, baseline + gap), n, rtol=1e-9)


def test_the_guides_demo_of_200_queries():
    relative = minimum_detectable_effect([100, 1000], baseline=0.5) / 0.5
    assert relative.tolist() == [pytest.approx(0.387, abs=0.001), pytest.approx(0.125, abs=0.001)]


# Shapes, dtypes


def test_shapes_and_dtypes():
    effects, sizes = torch.tensor([[0.1], [0.5]]).double(), [10, 20, 30]
    power = power_means(effects, sizes)
    close(power, [[power_means(d, n).item() for n in sizes] for d in (0.1, 0.5)], rtol=1e-6)
    assert power_means(torch.tensor(0.5), torch.tensor(10.0)).dtype == torch.float32
    assert (
        power_means(torch.tensor(0.5), 10).dtype == torch.float64
    )  # as with all other functions: 10 is read as float64
    assert power_means(0.5, 10).shape == ()
    assert sample_size_proportions([0.1, 0.2], torch.tensor([[0.3], [0.4], [0.5]])).shape == (3, 2)
    assert sample_size_means(torch.tensor([0.5, 1.0])).dtype == torch.float32
    assert minimum_detectable_effect([[10], [20]], baseline=[0.1, 0.2]).shape == (2, 2)


# Errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sample_size_proportions(0.95, 1.045), ValueError, "p2 contains 1.045; expected proportions strictly"),
        (lambda: sample_size_proportions([0.1, 0.0], 0.2), ValueError, "p1 contains 0; expected proportions"),
        (lambda: sample_size_proportions(math.nan, 0.2), ValueError, "p1 contains nan; expected proportions"),
        (lambda: sample_size_proportions(0.1, 0.1), ValueError, "p1 and p2 are both 0.1; expected a difference"),
        (lambda: sample_size_proportions(0.1, [0.2, 0.1]), ValueError, "p1 and p2 are both 0.1"),
        (lambda: sample_size_proportions([0.1, 0.2], [0.3] * 3), ValueError, r"shapes are \(2,\) and \(3,\); expected"),
        (lambda: sample_size_proportions(0.1, 0.2, method="exact"), ValueError, "method is 'exact'; expected one of"),
        (lambda: sample_size_proportions(0.1, 0.2, alpha=0), ValueError, "alpha is 0; expected a number strictly"),
        (lambda: sample_size_proportions(0.1, 0.2, power=1.0), ValueError, "power is 1.0; expected a number strictly"),
        (lambda: sample_size_proportions(0.1, 0.2, power=0.05), ValueError, "power is 0.05, alpha 0.05; expected more"),
        (lambda: sample_size_proportions("a", 0.2), TypeError, "p1 cannot be read"),
        (lambda: sample_size_means(0), ValueError, "effect_size is 0; expected a difference"),
        (lambda: sample_size_means([0.1, math.inf]), ValueError, "effect_size contains inf; expected finite"),
        (lambda: sample_size_means(0.1, alpha="5 %"), TypeError, "alpha is '5 %'; expected a number"),
        (lambda: power_means(0.5, 1), ValueError, "n contains 1; expected at least 2"),
        (lambda: power_means(0.5, math.nan), ValueError, "n contains nan"),
        (lambda: power_means(math.nan, 9), ValueError, "effect_size contains nan"),
        (lambda: minimum_detectable_effect([9, 1.5]), ValueError, "n contains 1.5; expected at least 2"),
        (lambda: minimum_detectable_effect(9, baseline=1.0), ValueError, "baseline contains 1; expected proportions"),
        (lambda: minimum_detectable_effect(9, baseline=0.9), ValueError, "n is 9; expected above .* to tell 0.9 even"),
        (lambda: minimum_detectable_effect(9, paired=True, baseline=0.5), ValueError, "baseline and paired were both"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Simulation


def z_test(a, b):
    """A two-sided test of unit-variance samples, written out."""
    z = (a.mean(-1) - b.mean(-1)) / math.sqrt(1 / a.shape[-1] + 1 / b.shape[-1])
    return SimpleNamespace(p_value=torch.special.erfc(z.abs() / math.sqrt(2)))


def shifted(gap, n=50):
    def generator(size, rng):
        a, b = torch.randn(2, size, n, generator=rng, dtype=torch.float64)
        return a, b + gap

    return generator


@pytest.mark.parametrize("gap", [0.0, 0.3, 0.6, 3.0])
def test_simulated_power_is_the_formulas(gap):
    result = simulate_power(shifted(gap), z_test, 4000, rng=1)
    centre = gap * 5  # sqrt(50 / 2)
    power = stats.norm.sf(1.959964 - centre) + stats.norm.sf(1.959964 + centre)
    assert result.estimate.item() == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / 4000) + 1e-9)
    assert result.low <= result.estimate <= result.high
    wilson = stats.binomtest(round(result.estimate.item() * 4000), 4000).proportion_ci(method="wilson")
    assert (result.low.item(), result.high.item()) == pytest.approx((wilson.low, wilson.high), abs=1e-10)


def test_a_t_test_reaches_the_power_of_the_noncentral_t():
    def t_test(a, b):
        return SimpleNamespace(p_value=stats.ttest_ind(a.numpy(), b.numpy(), axis=-1).pvalue)

    result = simulate_power(shifted(0.25, n=100), t_test, 4000, rng=0)
    power = power_means(0.25, 100).item()
    assert result.estimate.item() == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / 4000))


def test_simulation_depends_on_rng_alone():
    state = torch.random.get_rng_state()
    first = simulate_power(shifted(0.3), z_test, 500, rng=3)
    rng = torch.Generator().manual_seed(3)
    assert simulate_power(shifted(0.3), z_test, 500, rng=rng).estimate == first.estimate
    assert simulate_power(shifted(0.3), z_test, 500, rng=rng).estimate != first.estimate, "the generator must advance"
    assert (torch.random.get_rng_state() == state).all()


def test_p_values_equal_to_alpha_reject():
    def one(size, rng):
        return (torch.full((size,), 0.05, dtype=torch.float64),)

    assert simulate_power(one, lambda p: SimpleNamespace(p_value=p), 10, alpha=0.05, rng=0).estimate == 1


@pytest.mark.parametrize(
    ("p", "arguments", "error", "message"),
    [
        ([0.1] * 3, {}, ValueError, r"p_value has shape \(3,\); expected \(4,\)"),
        ([[0.1] * 4], {}, ValueError, r"p_value has shape \(1, 4\); expected \(4,\)"),
        ([0.1, math.nan, 0.1, 0.1], {}, ValueError, "p_value contains nan; expected numbers from 0 to 1"),
        ([0.1, 1.5, 0.1, 0.1], {}, ValueError, "p_value contains 1.5; expected numbers from 0 to 1"),
        ([0.1] * 4, {"alpha": 1}, ValueError, "alpha is 1; expected a number strictly"),
        ([0.1] * 4, {"n_simulations": 0}, ValueError, "n_simulations is 0; expected at least 1"),
        ([0.1] * 4, {"rng": None}, TypeError, "rng is None; expected an int seed"),
    ],
)
def test_simulation_errors(p, arguments, error, message):
    def generator(size, rng):
        return ()

    with pytest.raises(error, match=message):
        simulate_power(generator, lambda: SimpleNamespace(p_value=p), **({"n_simulations": 4, "rng": 0} | arguments))


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda):
    effect = torch.tensor([0.25, 0.5], device=cuda, dtype=torch.float64)
    close(power_means(effect, 100).cpu(), power_means([0.25, 0.5], 100))
    close(sample_size_means(effect).cpu(), sample_size_means([0.25, 0.5]))
    close(
        minimum_detectable_effect(torch.tensor([100.0], device=cuda).double(), baseline=0.5).cpu(), [0.19324], rtol=1e-3
    )
    assert power_means(effect, 100).device == cuda

    def generator(size, rng):
        a, b = torch.randn(2, size, 50, generator=rng, device=cuda, dtype=torch.float64)
        return a, b + 0.6

    result = simulate_power(generator, z_test, 4000, rng=torch.Generator(cuda).manual_seed(0))
    assert result.estimate.item() == pytest.approx(0.851, abs=0.03)
