"""The Inception Score against torch-fidelity, against its definition by scipy, and against what can be counted."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch_fidelity.metric_isc import isc_features_to_metric

from studyguide.image.inception_score import inception_score

properties = settings(max_examples=60, deadline=None)


def gauss(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one_hot(labels, classes, gap=200.0):
    """Logits of a classifier that is sure: the label's is higher than the others by `gap`."""
    return gap * torch.nn.functional.one_hot(torch.as_tensor(labels), classes).double()


def close(a, b, atol=1e-12):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def peer(logits, splits, seed):
    """torch-fidelity, given the images in the order that our shuffle puts them in."""
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    result = isc_features_to_metric(logits[order], splits, shuffle=False)
    return result["inception_score_mean"], result["inception_score_std"]


@properties
@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 12), st.floats(0.01, 30), st.integers(0, 2**31))
def test_equals_torch_fidelity(n, classes, splits, scale, seed):
    logits = scale * gauss(n, classes, seed=seed)
    splits = min(splits, n)
    score = inception_score(logits, splits, rng=seed)
    close([score.mean, score.std], peer(logits, splits, seed), atol=1e-9)
    assert score.split_size == n // splits
    assert (score.scores >= 1).all()
    assert (score.scores <= classes).all()


def test_one_split_needs_no_order():
    logits = gauss(500, 10)
    theirs = isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    close(inception_score(logits, 1, rng=3).mean, theirs, atol=1e-9)
    close(inception_score(logits.flip(0), 1).mean, theirs, atol=1e-9)
    close(inception_score(logits + gauss(500, 1, seed=1), 1).mean, theirs, atol=1e-9)  # a softmax ignores the shift


def test_equals_the_definition():
    p = special.softmax(gauss(80, 7).numpy(), axis=1)
    expected = math.exp(stats.entropy(p, p.mean(0)[None], axis=1).mean())
    close(inception_score(gauss(80, 7), splits=1).mean, expected)


def test_two_images_by_hand():
    logits = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64).log()
    close(inception_score(logits, splits=1).mean, math.exp(0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_sure_and_diverse_reaches_the_number_of_classes_and_no_more():
    for classes in (2, 7, 10, 1000):
        for gap in (50, 104, 200, 1e4):
            score = inception_score(one_hot(range(classes), classes, gap), splits=1).mean
            assert classes * (1 - 1e-12) <= score <= classes
    certain = one_hot([0, 1, 2], 3).where(one_hot([0, 1, 2], 3) > 0, -math.inf)
    close(inception_score(certain, splits=1).mean, 3)


def test_equal_predictions_score_1():
    for logits in (torch.zeros(20, 10), one_hot([4] * 20, 10), gauss(1, 10).expand(20, 10), torch.zeros(5, 1)):
        assert inception_score(logits, splits=5).scores.tolist() == [1] * 5


def test_a_class_that_nobody_predicts_adds_nothing():
    """Where its probability is 0 in float64, torch-fidelity gives nan: 0 times the logarithm of 0."""
    logits = torch.cat([gauss(50, 4), torch.full((50, 1), -1000.0)], 1)
    close(inception_score(logits, 5).scores, inception_score(gauss(50, 4), 5).scores)
    assert math.isnan(peer(logits, 5, 0)[0])


@pytest.mark.parametrize("n", [10, 100, 105, 109])
def test_every_image_is_in_exactly_one_split(n):
    """Image i is sure of class i, so a split scores the number of its images."""
    scores = inception_score(one_hot(range(n), n), splits=10, rng=1).scores
    close(scores.sum(), n, atol=1e-9)
    assert sorted(scores.round().int().tolist()) == [n // 10] * (10 - n % 10) + [n // 10 + 1] * (n % 10)


def test_images_in_the_order_of_their_classes():
    """Unshuffled, each split would hold one class and score 1."""
    logits = one_hot(torch.arange(10).repeat_interleave(10), 10)
    close(inception_score(logits, splits=1).mean, 10)
    close(isc_features_to_metric(logits, 10, shuffle=False)["inception_score_mean"], 1)
    assert 5 < inception_score(logits, splits=10).mean < 8  # ten images hold 6.5 of ten classes on average
    many = one_hot(torch.arange(10).repeat_interleave(1000), 10)
    assert 9.9 < inception_score(many, splits=10).mean < 10


def test_the_smaller_the_splits_the_lower_the_score():
    logits = 3 * gauss(5000, 1000, dtype=torch.float32)
    scores = [inception_score(logits, splits).mean for splits in (1, 10, 50)]
    close(scores, [33.2, 29.8, 21.8], atol=0.1)


def test_randomness_and_dtypes():
    logits = gauss(90, 5)
    once, again, other = (inception_score(logits, 9, rng=seed).scores for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    source = torch.Generator().manual_seed(1)
    assert torch.equal(inception_score(logits, 9, source).scores, once)
    assert not torch.equal(inception_score(logits, 9, source).scores, once)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        score = inception_score(logits.to(dtype), 9, rng=1)
        assert score.mean.dtype == score.std.dtype == score.scores.dtype == dtype
        exact = inception_score(logits.to(dtype).double(), 9, rng=1).scores
        close(score.scores, exact, atol=3 * torch.finfo(dtype).eps)
    assert inception_score([[1, 2], [3, 1]], splits=1).mean.dtype == torch.float64


def test_it_prints_its_splits():
    text = str(inception_score(one_hot(range(10), 10).repeat(3, 1), splits=1))
    assert text == "10 (standard deviation 0; splits: 1, of 30 images or more)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(5, 10),), ValueError, "logits has 5 images for 10 splits; expected at least one per split"),
        ((torch.zeros(5),), ValueError, "logits has shape (5,); expected (images, classes)"),
        ((torch.zeros(0, 10),), ValueError, "logits is empty"),
        (([[math.nan, 1.0]], 1), ValueError, "logits contains nan"),
        (([[math.inf, 1.0]], 1), ValueError, "logits contains nan, inf"),
        (([[-math.inf, -math.inf]], 1), ValueError, "a row of -inf"),
        ((torch.zeros(5, 10), 0), ValueError, "splits is 0; expected at least 1"),
        ((torch.zeros(5, 10), 2.0), TypeError, "splits is 2.0; expected an integer"),
        ((torch.zeros(5, 10), 2, None), TypeError, "rng is None"),
        ((["cat"],), TypeError, "logits cannot be read"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        inception_score(*arguments)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda):
    logits = gauss(1000, 50)
    score = inception_score(logits.to(cuda), rng=5)
    assert score.scores.is_cuda
    close(score.scores.cpu(), inception_score(logits, rng=5).scores, atol=1e-9)
