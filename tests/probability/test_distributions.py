"""Softmax, surprisal, entropy, draws and counts against scipy, closed forms and the theory of sampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from studyguide.probability.distributions import (
    entropy,
    multinomial_counts,
    sample_categorical,
    softmax,
    surprisal,
)

CAPITAL = [0.85, 0.08, 0.03, 0.04]  # Paris, Lyon, London, everything else
WEATHER = [0.40, 0.30, 0.20, 0.05, 0.05]
LOGITS = np.random.default_rng(0).normal(scale=4, size=(5, 2, 30))
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
properties = settings(deadline=None, max_examples=60)  # a busy machine is no failure
weights = st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any)


def close(actual, expected, rtol=1e-12, atol=1e-14):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


# Softmax


@pytest.mark.parametrize("temperature", [0.1, 1.0, 1.5])
def test_softmax_agrees_with_scipy(temperature):
    close(softmax(LOGITS, temperature), special.softmax(LOGITS / temperature, axis=-1))


def test_softmax_by_hand():
    total = math.exp(2 / 0.5) + math.exp(1 / 0.5) + math.exp(0)
    close(softmax([2, 1, 0], 0.5), [math.exp(4) / total, math.exp(2) / total, 1 / total])


def test_softmax_of_extreme_logits():
    close(softmax([1000.0, 999.0]), [1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    close(softmax([1e300, -1e300, 1e300], 1e-300), [0.5, 0, 0.5])
    close(softmax([1.0, -math.inf, 1.0]), [0.5, 0, 0.5])
    close(softmax([[7.0], [-3.0]]), [[1], [1]])


@properties
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(-50, 50), st.floats(0.1, 5), st.floats(1.01, 3))
def test_softmax_ignores_a_shift_and_warms_with_temperature(logits, shift, temperature, factor):
    cold = softmax(logits, temperature)
    close(softmax([x + shift for x in logits], temperature), cold, rtol=1e-9, atol=1e-12)
    assert entropy(softmax(logits, temperature * factor)) >= entropy(cold) - 1e-12


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_keeps_the_dtype(dtype):
    logits = torch.tensor(LOGITS).to(dtype)
    eps = torch.finfo(dtype).eps
    result = softmax(logits, 0.7)
    assert result.dtype == dtype
    close(result, special.softmax(logits.double().numpy() / 0.7, axis=-1), rtol=max(eps, 1e-6), atol=eps)


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        (0, "greedy choice use logits.argmax"),
        (0.0, "temperature is 0"),
        (-1, "temperature is -1; expected a positive"),
        (math.inf, "temperature is inf"),
        (math.nan, "temperature is nan"),
    ],
)
def test_softmax_refuses_a_temperature(temperature, message):
    with pytest.raises(ValueError, match=message):
        softmax([1.0, 2.0], temperature)


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([1.0, math.nan], ValueError, "logits contains nan"),
        ([1.0, math.inf], ValueError, "logits contains inf"),
        ([[0.0, 0.0], [-math.inf, -math.inf]], ValueError, "logits are all -inf"),
        (1.0, ValueError, "logits is a single number"),
        ([], ValueError, r"logits is empty \(shape \(0,\)\)"),
        ([True, False], TypeError, "logits has dtype torch.bool"),
        ([1j, 0], TypeError, "logits has dtype torch.complex128"),
        (["a", "b"], TypeError, "logits cannot be read as an array of numbers"),
        ([[1.0], [1.0, 2.0]], TypeError, "logits cannot be read as an array of numbers"),
        (None, TypeError, "logits cannot be read as an array of numbers"),
    ],
)
def test_softmax_refuses_logits(logits, error, message):
    with pytest.raises(error, match=message):
        softmax(logits)


# Surprisal and entropy


def test_surprisal_by_hand():
    close(surprisal(CAPITAL), [-math.log(0.85), -math.log(0.08), -math.log(0.03), -math.log(0.04)])
    close(surprisal(0.125, base=2), 3)
    close(surprisal([[0.0, 1.0]]), [[math.inf, 0]])
    assert not surprisal(1.0).signbit()


@pytest.mark.parametrize("dtype", FLOATS)
def test_surprisal_keeps_the_dtype(dtype):
    p = torch.tensor(CAPITAL, dtype=dtype)
    assert surprisal(p).dtype == dtype
    close(surprisal(p), -np.log(p.double().numpy()), rtol=max(torch.finfo(dtype).eps, 1e-6))


@pytest.mark.parametrize(
    ("p", "error", "message"),
    [
        ([0.5, -0.1], ValueError, "p contains -0.1; expected probabilities between 0 and 1"),
        (1.5, ValueError, "p contains 1.5; expected probabilities between 0 and 1"),
        (math.nan, ValueError, "p contains nan; expected finite"),
        ([], ValueError, "p is empty"),
        ("half", TypeError, "p cannot be read"),
        (True, TypeError, "p has dtype torch.bool"),
    ],
)
def test_surprisal_refuses(p, error, message):
    with pytest.raises(error, match=message):
        surprisal(p)


@pytest.mark.parametrize("base", [None, 2, 10])
def test_entropy_agrees_with_scipy(base):
    p = special.softmax(LOGITS, axis=-1)
    p[..., :3] = 0
    p /= p.sum(-1, keepdims=True)
    close(entropy(p, base), stats.entropy(p, axis=-1, base=base))


def test_entropy_by_hand():
    # the truth after "I love": 1.2799 nats, the number that the guide printed as the cross-entropy
    value = -(0.4 * math.log(0.4) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    assert round(value, 4) == 1.2799
    close(entropy([0.4, 0.3, 0.2, 0.1]), value)
    close(entropy([0.5, 0.5, 0]), math.log(2))
    close(entropy([0.25] * 4, base=2), 2)
    close(entropy([1]), 0)
    assert not entropy([1.0]).signbit()


@properties
@given(weights, st.randoms())
def test_entropy_is_bounded_and_blind_to_order(w, random):
    p = np.array(w) / sum(w)
    shuffled = random.sample(list(p), len(p))
    assert 0 <= entropy(p) <= math.log(len(p)) + 1e-14
    close(entropy(shuffled), entropy(p), atol=1e-13)


@pytest.mark.parametrize("base", [1, 0, -2, 0.5, math.inf, math.nan])
def test_entropy_refuses_a_base(base):
    with pytest.raises(ValueError, match=f"base is {base}; expected a number above 1"):
        entropy(CAPITAL, base)


# Draws and counts


@pytest.mark.parametrize("dtype", FLOATS)
def test_draws_fit_the_distribution(dtype):
    draws = sample_categorical(torch.tensor(WEATHER, dtype=dtype), 20_000, rng=1)
    assert draws.shape == (20_000,)
    assert draws.dtype == torch.int64
    assert stats.chisquare(np.bincount(draws, minlength=5), 20_000 * np.array(WEATHER)).pvalue > 0.01


def test_draws_of_a_batch_fit_each_row():
    p = np.array([[CAPITAL, [0.25] * 4], [[0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4]]])
    draws = sample_categorical(p, 5000, rng=2)
    assert draws.shape == (2, 2, 5000)
    for row, drawn in zip(p.reshape(-1, 4), draws.reshape(-1, 5000), strict=True):
        counts = np.bincount(drawn, minlength=4)
        possible = row > 0
        assert not counts[~possible].any()
        assert possible.sum() == 1 or stats.chisquare(counts, 5000 * row).pvalue > 0.01


def test_counts_have_the_mean_and_covariance_of_a_multinomial():
    n, size = 50, 20_000
    p = np.array(WEATHER)
    counts = multinomial_counts(p, n, rng=3, size=size)
    assert counts.shape == (size, 5)
    assert counts.dtype == torch.int64
    assert (counts.sum(-1) == n).all()
    counts, covariance = counts.numpy(), n * (np.diag(p) - np.outer(p, p))
    error = np.sqrt(np.diag(covariance) / size)
    assert (abs(counts.mean(0) - n * p) < 4 * error).all()
    assert np.allclose(np.cov(counts.T), covariance, atol=0.05 * covariance.max())
    # and each count alone is binomial
    expected = size * stats.binom.pmf(range(n + 1), n, p[2])
    kept = expected > 20
    seen = np.bincount(counts[:, 2], minlength=n + 1)
    folded = [[*x[kept], x[~kept].sum()] for x in (seen, expected)]
    assert stats.chisquare(*folded).pvalue > 0.01


def test_one_draw_of_a_multinomial_is_categorical():
    one_hot = multinomial_counts(WEATHER, 1, rng=4, size=20_000)
    assert (one_hot.sum(-1) == 1).all()
    assert stats.chisquare(one_hot.sum(0), 20_000 * np.array(WEATHER)).pvalue > 0.01


def test_counts_of_a_batch():
    p = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    counts = multinomial_counts(p, 1000, rng=5)
    assert counts.shape == (3, 2)
    assert counts[:2].tolist() == [[0, 1000], [1000, 0]]
    assert 400 < counts[2, 0] < 600
    many = multinomial_counts(p, 1000, rng=5, size=4)
    assert many.shape == (4, 3, 2)
    assert (many[:, 0] == torch.tensor([0, 1000])).all()
    assert multinomial_counts(p, 10**9, rng=5).sum(-1).tolist() == [10**9] * 3


@pytest.mark.parametrize("draw", [sample_categorical, multinomial_counts])
def test_draws_depend_on_rng_alone(draw):
    def one(rng):
        return draw(WEATHER, 100, rng).tolist()

    rng, twin = torch.Generator().manual_seed(6), torch.Generator().manual_seed(6)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert one(6) == one(6) == one(np.int64(6)) == one(rng)
    assert one(6) != one(7)
    assert one(twin) != one(twin), "the generator must advance"
    assert (torch.random.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("draw", [sample_categorical, multinomial_counts])
@pytest.mark.parametrize(
    ("p", "n", "rng", "error", "message"),
    [
        ([0.5, 0.4], 1, 0, ValueError, "p sums to 0.9 along the last axis; expected 1"),
        ([0.5, 0.5], 0, 0, ValueError, "n is 0; expected at least 1"),
        ([0.5, 0.5], 2.0, 0, TypeError, "n is 2.0; expected an integer"),
        ([0.5, 0.5], 1, None, TypeError, "rng is None; expected an int seed or a torch.Generator"),
        ([0.5, 0.5], 1, True, TypeError, "rng is True; expected an int seed"),
        ([0.5, 0.5], 1, np.random.default_rng(0), TypeError, "expected an int seed or a torch.Generator"),
        (0.5, 1, 0, ValueError, "p is a single number"),
    ],
)
def test_draws_refuse(draw, p, n, rng, error, message):
    with pytest.raises(error, match=message):
        draw(p, n, rng)


def test_counts_refuse_a_size():
    with pytest.raises(ValueError, match="size is 0; expected at least 1"):
        multinomial_counts(WEATHER, 10, 0, size=0)


# The GPU


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda):
    for dtype in (torch.float64, torch.float32):
        logits = torch.tensor(LOGITS, dtype=dtype)
        p = softmax(logits.to(cuda), 0.7)
        assert (p.device, p.dtype) == (cuda, dtype)
        close(p.cpu(), softmax(logits, 0.7), rtol=1e-5)
        for function in (surprisal, entropy):
            assert function(p).device == cuda
            close(function(p).cpu(), function(p.cpu()), rtol=1e-5)


@pytest.mark.gpu
def test_cuda_draws_fit_the_distribution(cuda):
    p = torch.tensor(WEATHER, device=cuda)
    draws = sample_categorical(p, 20_000, rng=1)
    counts = multinomial_counts(p, 20_000, rng=1)
    assert draws.device == counts.device == cuda
    for seen in (draws.bincount(minlength=5), counts):
        assert stats.chisquare(seen.cpu(), 20_000 * np.array(WEATHER)).pvalue > 0.01
    with pytest.raises(ValueError, match="rng is a generator on cpu; expected one on cuda"):
        sample_categorical(p, 1, torch.Generator())
