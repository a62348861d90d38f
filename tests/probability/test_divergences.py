"""Divergences against scipy, the guide's numbers written out, their properties, and exact permutation tests."""

import math
from collections import Counter
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

from studyguide.probability import validation
from studyguide.probability.distributions import entropy
from studyguide.probability.divergences import (
    cross_entropy,
    divergence_null,
    hellinger_distance,
    js_distance,
    js_divergence,
    kl_divergence,
    total_variation,
    wasserstein_distance,
)

LOGARITHMIC = [cross_entropy, kl_divergence, js_divergence, js_distance]
SYMMETRIC = [js_divergence, js_distance, total_variation, hellinger_distance]
METRICS = [js_distance, total_variation, hellinger_distance]
EVERY = [*LOGARITHMIC, total_variation, hellinger_distance]
# Independent answers: scipy where it has the quantity, else numpy on the definition.
PEERS = {
    cross_entropy: lambda p, q: (special.entr(p) + special.rel_entr(p, q)).sum(-1),
    kl_divergence: lambda p, q: special.rel_entr(p, q).sum(-1),
    js_divergence: lambda p, q: jensenshannon(p, q, axis=-1) ** 2,
    js_distance: lambda p, q: jensenshannon(p, q, axis=-1),
    total_variation: lambda p, q: np.maximum(p - q, 0).sum(-1),
    hellinger_distance: lambda p, q: np.sqrt(1 - np.sqrt(p * q).sum(-1)),
}
properties = settings(deadline=None, max_examples=60)  # a busy machine is no failure


def random_pair(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return [special.softmax(rng.normal(scale=2, size=shape), axis=-1) for _ in range(2)]


def close(actual, expected, rtol=1e-12, atol=1e-14):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


@st.composite
def distributions(draw, number):
    """Several distributions over the same categories, often with zeros and with tiny probabilities."""
    size = draw(st.integers(1, 7))
    row = st.lists(st.just(0) | st.integers(1, 100) | st.floats(1e-300, 1e-3), min_size=size, max_size=size).filter(any)
    return [np.array(w) / math.fsum(w) for w in draw(st.tuples(*[row] * number))]


# The guide's numbers, written out


def test_cross_entropy_after_i_love():
    p, q = [0.4, 0.3, 0.2, 0.1], [0.5, 0.2, 0.2, 0.1]
    value = -(0.4 * math.log(0.5) + 0.3 * math.log(0.2) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    excess = 0.4 * math.log(0.4 / 0.5) + 0.3 * math.log(0.3 / 0.2)
    assert (round(value, 4), round(value / math.log(2), 4), round(excess, 4)) == (1.3122, 1.8932, 0.0324)
    close(cross_entropy(p, q), value)
    close(cross_entropy(p, q, base=2), value / math.log(2))
    close(kl_divergence(p, q), excess)


def test_kl_of_the_medical_model():
    p, q = [0.6, 0.3, 0.1], [0.9, 0.08, 0.02]
    forward = 0.6 * math.log(0.6 / 0.9) + 0.3 * math.log(0.3 / 0.08) + 0.1 * math.log(0.1 / 0.02)
    backward = 0.9 * math.log(0.9 / 0.6) + 0.08 * math.log(0.08 / 0.3) + 0.02 * math.log(0.02 / 0.1)
    assert (round(forward, 4), round(forward / math.log(2), 4), round(backward, 4)) == (0.3142, 0.4533, 0.2270)
    close(kl_divergence(p, q), forward)
    close(kl_divergence(p, q, base=2), forward / math.log(2))
    close(kl_divergence(q, p), backward)


@pytest.mark.parametrize(
    ("p", "q", "nats", "bits", "distance", "distance_2"),
    [
        ([0.6, 0.3, 0.1], [0.4, 0.4, 0.2], 0.0221, 0.0320, 0.1488, 0.1787),  # sentiment
        ([0.5, 0.3, 0.2], [0.3, 0.5, 0.2], 0.0253, 0.0365, 0.1590, 0.1909),  # tone
        ([1.0, 0.0], [0.0, 1.0], 0.6931, 1.0, 0.8326, 1.0),  # nothing in common
    ],
)
def test_js_of_the_guide(p, q, nats, bits, distance, distance_2):
    terms = [x * math.log(x / ((a + b) / 2)) for a, b in zip(p, q, strict=True) for x in (a, b) if x]
    value = sum(terms) / 2
    assert (round(value, 4), round(value / math.log(2), 4)) == (nats, bits)
    assert (round(math.sqrt(value), 4), round(math.sqrt(value / math.log(2)), 4)) == (distance, distance_2)
    close(js_divergence(p, q), value)
    close(js_divergence(p, q, base=2), value / math.log(2))
    close(js_distance(p, q), math.sqrt(value))
    close(js_distance(p, q, base=2), math.sqrt(value / math.log(2)))


def test_total_variation_and_hellinger_by_hand():
    p, q = [0.6, 0.3, 0.1], [0.4, 0.4, 0.2]
    close(total_variation(p, q), (0.2 + 0.1 + 0.1) / 2)
    squares = [(math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)]
    close(hellinger_distance(p, q), math.sqrt(sum(squares) / 2))
    close(hellinger_distance([1, 0], [0.36, 0.64]), math.sqrt(0.4))  # 1 - sqrt(1 * .36)
    close(total_variation([1, 0], [0, 1]), 1)
    close(hellinger_distance([1, 0], [0, 1]), 1)


# Agreement with scipy


@pytest.mark.parametrize("divergence", EVERY)
@pytest.mark.parametrize("shape", [(3,), (2, 5, 20), (1, 1000)])
def test_random_input_agrees_with_scipy(divergence, shape):
    p, q = random_pair(*shape)
    close(divergence(p, q), PEERS[divergence](p, q), rtol=1e-10)


@pytest.mark.parametrize("divergence", EVERY)
def test_zeros_agree_with_scipy(divergence):
    p, q = np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0]]), np.array([[0.25, 0.25, 0.5, 0], [0, 1, 0, 0]])
    close(divergence(p, q), PEERS[divergence](p, q))


@pytest.mark.parametrize("divergence", LOGARITHMIC)
def test_base(divergence):
    p, q = random_pair(4, 6)
    unit = math.sqrt(math.log(2)) if divergence is js_distance else math.log(2)
    close(divergence(p, q, base=2), PEERS[divergence](p, q) / unit)
    with pytest.raises(ValueError, match="base is 1; expected a number above 1, or None for nats"):
        divergence(p, q, base=1)


@pytest.mark.parametrize("divergence", EVERY)
def test_a_whole_vocabulary_in_float32(divergence):
    p, q = (torch.tensor(x, dtype=torch.float32) for x in random_pair(3, 50_257))
    expected = PEERS[divergence](*(x / x.sum(-1, keepdims=True) for x in (p.double().numpy(), q.double().numpy())))
    assert divergence(p, q).dtype == torch.float32
    close(divergence(p, q), expected, rtol=1e-5)


@pytest.mark.parametrize("divergence", EVERY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [5, 20_000])
def test_half_precision_is_computed_in_float32(divergence, dtype, size):
    p, q = (torch.tensor(x, dtype=dtype) for x in random_pair(2, size))
    assert divergence(p, q).dtype == dtype
    exact = [x / x.sum(-1, keepdims=True) for x in (p.double().numpy(), q.double().numpy())]
    close(divergence(p, q), PEERS[divergence](*exact), rtol=torch.finfo(dtype).eps)


# Properties


@properties
@given(distributions(2), st.randoms())
def test_properties_of_a_pair(pair, random):
    p, q = pair
    order = random.sample(range(len(p)), len(p))
    for divergence in EVERY:
        value = divergence(p, q)
        assert value >= 0
        close(divergence(p[order], q[order]), value, atol=1e-7 if divergence is js_distance else 1e-13)
    assert js_divergence(p, q, base=2) <= 1
    assert js_distance(p, q, base=2) <= 1
    for divergence in SYMMETRIC:
        bound = {js_divergence: math.log(2), js_distance: math.sqrt(math.log(2)) + 1e-15}.get(divergence, 1)
        assert divergence(p, q) <= bound
        close(divergence(q, p), divergence(p, q), atol=1e-7 if divergence is js_distance else 1e-14)
    close(cross_entropy(p, q), entropy(p) + kl_divergence(p, q), atol=1e-12)
    assert kl_divergence(p, q).isinf() == bool(((q == 0) & (p > 0)).any())
    assert kl_divergence(p, q) >= 2 * total_variation(p, q) ** 2 - 1e-12  # Pinsker


@properties
@given(distributions(1))
def test_a_distribution_is_exactly_0_from_itself(one):
    [p] = one
    for divergence in (kl_divergence, *SYMMETRIC):
        assert divergence(p, p) == 0
    close(cross_entropy(p, p), entropy(p))


@properties
@given(distributions(3))
def test_triangle_inequality(three):
    p, q, r = three
    for distance in METRICS:
        assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-7


def test_js_divergence_is_no_metric_but_its_root_is():
    p, q, r = [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]
    assert js_divergence(p, r) > js_divergence(p, q) + js_divergence(q, r)
    assert js_distance(p, r) <= js_distance(p, q) + js_distance(q, r)


# Shapes, dtypes, devices


@pytest.mark.parametrize("divergence", EVERY)
@pytest.mark.parametrize("block", [1, 40, 10**9])
def test_a_broadcast_batch_equals_a_loop(divergence, block, monkeypatch):
    monkeypatch.setattr(validation, "BLOCK", block)  # a row, a few rows and all rows at a time
    p, q = random_pair(4, 1, 9)[0], random_pair(7, 9)[1]
    result = divergence(p, q)
    assert result.shape == (4, 7)
    close(result, [[divergence(a, b).item() for b in q] for a in p[:, 0]])
    close(divergence(p, q[0]), result[:, :1])


@pytest.mark.parametrize("divergence", EVERY)
def test_dtypes(divergence):
    tensors = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    assert divergence(*tensors).dtype == torch.float32
    assert divergence([1, 0], [0.5, 0.5]).dtype == torch.float64
    assert divergence(np.float32([1, 0]), tensors[1]).dtype == torch.float32
    assert divergence(tensors[0], [0.5, 0.5]).dtype == torch.float64
    assert divergence(tensors[0].half(), tensors[1].bfloat16()).dtype == torch.float32
    assert divergence(torch.tensor([1, 0]), torch.tensor([0, 1])).dtype == torch.float64


def test_arrays_as_they_come():
    p, q = random_pair(3, 4)
    expected = PEERS[kl_divergence](p, q)
    read_only = p.copy()
    read_only.flags.writeable = False
    close(kl_divergence(read_only, q), expected)
    close(kl_divergence(p[:, ::-1], q[:, ::-1]), expected)
    close(kl_divergence(torch.tensor(p.T.copy()).T, q.tolist()), expected)
    close(kl_divergence([torch.tensor(0.5), torch.tensor(0.5)], (0.5, 0.5)), 0)


@pytest.mark.parametrize("divergence", [kl_divergence, *SYMMETRIC])
def test_a_single_category(divergence):
    close(divergence([1], [[1.0], [1.0]]), [0, 0])


@pytest.mark.parametrize("divergence", [cross_entropy, kl_divergence, js_divergence])
def test_gradients_through_logits(divergence):
    a, b = (torch.tensor(np.random.default_rng(i).normal(size=(2, 4)), requires_grad=True) for i in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: divergence(a.softmax(-1), b.softmax(-1)), (a, b))


def test_rounding_of_the_input_is_divided_out():
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    for scale in (1 + 9e-7, 1 - 9e-7):
        close(kl_divergence(p * scale, [0.5, 0.3, 0.2]), kl_divergence(p, [0.5, 0.3, 0.2]))
        close(entropy(p * scale), entropy(p))


@pytest.mark.parametrize(
    ("dtype", "size", "accepted", "refused"),
    [
        (torch.float64, 3, 5e-7, 3e-6),
        (torch.float32, 3, 5e-7, 3e-6),
        (torch.float32, 50_257, 2e-5, 5e-5),
        (torch.float16, 4, 2e-3, 8e-3),
        (torch.bfloat16, 4, 2e-2, 6e-2),
    ],
)
def test_tolerance_grows_with_rounding_and_categories(dtype, size, accepted, refused):
    for error in (accepted, -accepted, refused, -refused):
        p = torch.full((size,), (1 + error) / size, dtype=torch.float64).to(dtype)
        if abs(error) == accepted:
            assert entropy(p) > 0
        else:
            with pytest.raises(ValueError, match="p sums to"):
                entropy(p)


# Errors


HALVES = [0.5, 0.5]


@pytest.mark.parametrize("divergence", EVERY)
@pytest.mark.parametrize(
    ("p", "q", "error", "message"),
    [
        (HALVES, [0.5, 0.47], ValueError, "q sums to 0.97 along the last axis; expected 1"),
        ([[0.5, 0.5], [1.0, 0.5]], HALVES, ValueError, "p sums to 1.5 along the last axis; expected 1"),
        ([1.5, -0.5], HALVES, ValueError, "p contains -0.5; expected probabilities, none below 0"),
        (HALVES, [math.nan, 1.0], ValueError, "q contains nan; expected finite numbers"),
        (HALVES, [[0.5, 0.5], [math.inf, 0.0]], ValueError, "q contains inf; expected finite numbers"),
        ([math.inf, -math.inf], HALVES, ValueError, "p contains inf; expected finite numbers"),
        ([], [], ValueError, r"p is empty \(shape \(0,\)\); expected at least one number"),
        (HALVES, np.zeros((0, 2)), ValueError, r"q is empty \(shape \(0, 2\)\)"),
        (1.0, [1.0], ValueError, "p is a single number; expected numbers along a last axis"),
        ([1.0], HALVES, ValueError, r"shapes are p \(1,\) and q \(2,\); expected last axes of one length"),
        (
            [HALVES] * 2,
            [HALVES] * 3,
            ValueError,
            r"shapes are p \(2, 2\) and q \(3, 2\); expected leading axes that broadcast",
        ),
        ([True, False], HALVES, TypeError, "p has dtype torch.bool; expected real numbers"),
        (HALVES, torch.tensor([1j, 0]), TypeError, "q has dtype torch.complex64; expected real numbers"),
        (HALVES, "Paris", TypeError, "q cannot be read as an array of numbers"),
        (["Paris", "Lyon"], HALVES, TypeError, "p cannot be read as an array of numbers"),
        (HALVES, {"Paris": 1.0}, TypeError, "q cannot be read as an array of numbers"),
        (HALVES, torch.ones(1, device="meta"), ValueError, "q is on meta; expected cpu"),
    ],
)
def test_errors_name_the_argument(divergence, p, q, error, message):
    if isinstance(q, torch.Tensor) and q.is_meta:
        p = torch.tensor(p)
    with pytest.raises(error, match=message):
        divergence(p, q)


# Wasserstein


def test_wasserstein_agrees_with_scipy():
    rng = np.random.default_rng(0)
    for n, m in [(1, 1), (1, 7), (50, 50), (40, 60)]:
        x, y = rng.normal(size=n), rng.normal(1, 2, size=m).round(1)
        u, v = rng.exponential(size=n), rng.integers(0, 4, size=m) + np.eye(1, m)[0]
        close(wasserstein_distance(x, y), stats.wasserstein_distance(x, y))
        close(wasserstein_distance(x, y, u), stats.wasserstein_distance(x, y, u))
        close(wasserstein_distance(x, y, u, v), stats.wasserstein_distance(x, y, u, v))
        close(wasserstein_distance(x, y, y_weights=v), stats.wasserstein_distance(x, y, None, v))


def test_wasserstein_by_hand():
    # move 1/2 from 0 to 1 and 1/2 from 2 to 5
    close(wasserstein_distance([0, 2], [1, 5]), 0.5 * 1 + 0.5 * 3)
    # star ratings 1 to 5: 20 % of the answers fall from 5 to 4, another 10 % from 5 to 1
    stars = [1, 2, 3, 4, 5]
    close(wasserstein_distance(stars, stars, [0, 0, 0, 5, 5], [1, 0, 0, 7, 2]), 0.2 * 1 + 0.1 * 4)
    close(wasserstein_distance([3], [3, 3]), 0)


def test_wasserstein_batch_equals_a_loop():
    rng = np.random.default_rng(1)
    x, y, u = rng.normal(size=(3, 1, 8)), rng.normal(size=(4, 5)), rng.exponential(size=8)
    result = wasserstein_distance(x, y, x_weights=u)
    close(result, [[stats.wasserstein_distance(a[0], b, u) for b in y] for a in x])
    assert wasserstein_distance(torch.rand(3), torch.rand(4)).dtype == torch.float32
    assert wasserstein_distance(torch.rand(3).half(), torch.rand(4).half()).dtype == torch.float16


@properties
@given(*[st.lists(st.integers(-50, 50), min_size=1, max_size=6)] * 2, st.integers(-9, 9), st.integers(1, 9))
def test_wasserstein_properties(x, y, shift, scale):
    distance = wasserstein_distance(x, y)
    close(wasserstein_distance(y, x), distance, atol=1e-12)
    close(wasserstein_distance(x, [a + shift for a in x]), abs(shift), atol=1e-12)
    close(wasserstein_distance([scale * a for a in x], [scale * b for b in y]), scale * distance, atol=1e-11)
    assert distance >= abs(np.mean(x) - np.mean(y)) - 1e-12


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": []}, ValueError, "x is empty"),
        ({"y": 3.0}, ValueError, "y is a single number"),
        ({"x": [1.0, math.nan]}, ValueError, "x contains nan; expected finite"),
        ({"y": [math.inf]}, ValueError, "y contains inf; expected finite"),
        ({"x_weights": [1]}, ValueError, "x_weights has 1 numbers, x 2; expected as many"),
        ({"y_weights": [2, -1]}, ValueError, "y_weights are negative or all 0"),
        ({"y_weights": [0, 0]}, ValueError, "y_weights are negative or all 0"),
        ({"x_weights": [[1, 2]] * 2, "y": [[1, 2]] * 3}, ValueError, "expected leading axes that broadcast"),
        ({"x": ["a"]}, TypeError, "x cannot be read"),
    ],
)
def test_wasserstein_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        wasserstein_distance(**({"x": [0, 1], "y": [1, 2]} | arguments))


# The permutation null


def enumerate_splits(a, b, divergence):
    """{divergence: share} over all ways to deal the pooled items, rounded so that ties fall together."""
    items = np.repeat(np.arange(len(a)), np.add(a, b))
    values = []
    for chosen in combinations(range(len(items)), sum(a)):
        dealt = np.bincount(items[list(chosen)], minlength=len(a))
        values.append(round(float(divergence(dealt / sum(a), (np.add(a, b) - dealt) / sum(b))), 9))
    return {value: count / len(values) for value, count in Counter(values).items()}


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        ([2, 1, 0], [0, 1, 2], js_divergence),
        ([4, 1, 1], [1, 2, 1], js_divergence),
        ([2, 1, 0, 0, 0], [0, 1, 2, 2, 2], js_divergence),  # ties that rounding would tear apart
        ([3, 0], [0, 3], kl_divergence),
        ([3, 2, 0], [1, 1, 2], total_variation),
    ],
)
def test_null_equals_the_enumeration_of_all_permutations(a, b, name):
    with np.errstate(divide="ignore"):
        exact = enumerate_splits(a, b, PEERS[name])
        observed = float(PEERS[name](np.array(a) / sum(a), np.array(b) / sum(b)))
    result = divergence_null(a, b, name, n_resamples=20_000, rng=0)
    close(result.observed, observed)
    seen = Counter(round(value, 9) for value in result.null.tolist())
    assert seen.keys() == exact.keys()
    expected = [20_000 * share for share in exact.values()]
    assert stats.chisquare([seen[value] for value in exact], expected).pvalue > 0.01
    tail = sum(share for value, share in exact.items() if value >= round(observed, 9))
    assert result.p_value.item() == pytest.approx(tail, abs=4 * math.sqrt(tail * (1 - tail) / 20_000) + 1e-4)


def test_p_value_counts_the_sample_itself_and_ties():
    result = divergence_null([40, 0], [0, 40], n_resamples=99, rng=0)  # nothing is farther apart
    assert result.null.shape == (99,)
    close(result.p_value, 1 / 100)
    close(divergence_null([3, 6, 1], [6, 12, 2], n_resamples=99, rng=0).p_value, 1)  # nothing is nearer
    close(divergence_null([5], [7], n_resamples=99, rng=0).p_value, 1)  # one category: all are ties


def test_quantile_is_the_95th_of_100():
    result = divergence_null([9, 5, 6], [4, 8, 8], n_resamples=101, rng=1)
    close(result.quantile_95, sorted(result.null.tolist())[95])
    disjoint = divergence_null([2, 0], [0, 2], kl_divergence, n_resamples=99, rng=1)
    assert disjoint.observed == disjoint.quantile_95 == math.inf
    assert disjoint.p_value.item() == pytest.approx(1 / 3, abs=0.15)  # 2 of the 6 ways to deal


def test_p_values_are_uniform_when_the_samples_share_a_distribution():
    rng = np.random.default_rng(0)
    p = [0.3, 0.25, 0.15, 0.15, 0.1, 0.05]
    p_values = [
        divergence_null(*rng.multinomial(400, p, size=2), n_resamples=199, rng=seed).p_value for seed in range(400)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.05


def test_power_when_they_do_not():
    rng = np.random.default_rng(0)
    a, b = rng.multinomial(200, [0.5, 0.3, 0.2], size=50), rng.multinomial(200, [0.3, 0.5, 0.2], size=50)
    p_values = [divergence_null(*pair, n_resamples=199, rng=0).p_value for pair in zip(a, b, strict=True)]
    assert np.mean([p <= 0.05 for p in p_values]) > 0.9


def test_null_depends_on_rng_alone():
    run = partial(divergence_null, [30, 15, 5], [20, 20, 10], n_resamples=50)
    rng = torch.Generator().manual_seed(3)
    before = torch.random.get_rng_state()
    close(run(rng=3).null, run(rng=3).null, rtol=0, atol=0)
    close(run(rng=rng).null, run(rng=3).null, rtol=0, atol=0)
    assert (run(rng=rng).null != run(rng=3).null).any(), "the generator must advance"
    assert (torch.random.get_rng_state() == before).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"counts_a": [1.5, 2]}, ValueError, r"counts_a is \[1.5, 2.0\]; expected whole numbers"),
        ({"counts_b": [-1, 2]}, ValueError, r"counts_b is \[-1.0, 2.0\]; expected whole numbers of at least 0"),
        ({"counts_b": [0, 0]}, ValueError, r"counts_b is \[0.0, 0.0\]; expected whole numbers of at least 0, not all"),
        ({"counts_a": [math.nan, 1]}, ValueError, "counts_a contains nan"),
        ({"counts_a": [1, 2, 3]}, ValueError, r"shapes are counts_a \(3,\) and counts_b \(2,\)"),
        ({"counts_a": [[1, 2]], "counts_b": [[1, 2]]}, ValueError, r"counts_a \(1, 2\) .* expected \(k,\)"),
        ({"counts_b": []}, ValueError, "counts_b is empty"),
        ({"counts_a": ["a", "b"]}, TypeError, "counts_a cannot be read"),
        ({"n_resamples": 0}, ValueError, "n_resamples is 0; expected at least 1"),
        ({"n_resamples": 9.5}, TypeError, "n_resamples is 9.5; expected an integer"),
        ({"rng": "seed"}, TypeError, "rng is 'seed'; expected an int seed or a torch.Generator"),
    ],
)
def test_null_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        divergence_null(**({"counts_a": [3, 4], "counts_b": [4, 3], "rng": 0} | arguments))


# The GPU


@pytest.mark.gpu
@pytest.mark.parametrize("divergence", EVERY)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_cuda_agrees_with_cpu(cuda, divergence, dtype):
    p, q = (torch.tensor(x, dtype=dtype) for x in random_pair(20, 1000))
    result = divergence(p.to(cuda), q.to(cuda))
    assert (result.device, result.dtype) == (cuda, dtype)
    close(result.cpu(), divergence(p, q), rtol=max(1e-5, torch.finfo(dtype).eps))
    assert divergence(p.to(cuda), q.double().numpy()).device == cuda
    with pytest.raises(ValueError, match="q is on cpu; expected cuda:0, where the first tensor is"):
        divergence(p.to(cuda), q)
    with pytest.raises(ValueError, match="p sums to"):
        divergence(p.to(cuda) / 2, q.to(cuda))


@pytest.mark.gpu
def test_cuda_wasserstein_and_null(cuda):
    x, y = torch.tensor([0.0, 1.0, 3.0], device=cuda), [5.0, 6.0, 8.0]
    close(wasserstein_distance(x, y, y_weights=[1, 1, 1]).cpu(), 5, rtol=1e-6)
    a, b = torch.tensor([30, 15, 5]), torch.tensor([20, 20, 10])
    result, expected = divergence_null(a.to(cuda), b.to(cuda), rng=0), divergence_null(a, b, rng=0)
    assert result.null.device == result.p_value.device == cuda
    close(result.null.cpu(), expected.null, rtol=1e-9)
    close(result.p_value.cpu(), expected.p_value)
