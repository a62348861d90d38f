"""Extraction in batches, and statistics that stream."""

import math
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from studyguide.datasets.digits import digits
from studyguide.image.features import DigitsFeatures, FeatureStatistics, extract

properties = settings(deadline=None, max_examples=40)


class Extractor(nn.Module):
    """Mean, minimum and maximum of an image of any size, times a weight if it has one."""

    name, dimensions = "moments", 3

    def __init__(self, weight=None):
        super().__init__()
        self.batches = []
        if weight is not None:
            self.weight = nn.Parameter(weight)
        self.eval()

    def forward(self, images):
        self.batches.append(images)
        pixels = images.flatten(1)
        features = torch.stack([pixels.mean(1), pixels.amin(1), pixels.amax(1)], 1)
        return features * self.weight if hasattr(self, "weight") else features


@pytest.fixture(scope="module")
def test_digits():
    return digits("test")


def gauss(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def statistics(*batches):
    seen = FeatureStatistics()
    for batch in batches:
        seen.update(batch)
    return seen


def assert_same(a, b, rtol=1e-12):
    """Means, and covariances relative to the standard deviations of both features, agree."""
    (mean_a, cov_a), (mean_b, cov_b) = (x.compute() if isinstance(x, FeatureStatistics) else x for x in (a, b))
    scale = cov_b.diagonal().sqrt()
    assert ((cov_a - cov_b).abs() <= rtol * torch.outer(scale, scale)).all()
    torch.testing.assert_close(mean_a, mean_b, rtol=rtol, atol=rtol * scale.max().item())


# The classifier of digits


def test_the_classifier_is_as_good_as_its_card_says(test_digits):
    images, labels = test_digits
    extractor = DigitsFeatures()
    features = extract(images, extractor)
    logits = extractor.logits(images)
    assert torch.equal(logits.argmax(1), extractor.head(features).argmax(1))
    errors = (logits.argmax(1) != labels).sum().item()
    print(f"{errors} errors in {len(labels)}: accuracy {1 - errors / len(labels):.4f}")
    assert errors <= 8  # 7 when it was trained
    assert (extractor.name, extractor.dimensions) == ("digits-features", 64)
    assert torch.linalg.eigvalsh(torch.cov(features.double().T)).min() > 1e-3  # no feature is dead
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_random_weights_are_named_seeded_and_leave_the_global_state(test_digits):
    before = torch.get_rng_state()
    a, b = DigitsFeatures("random"), DigitsFeatures("random")
    assert torch.equal(torch.get_rng_state(), before)
    assert a.name == "digits-features (random weights)"
    assert torch.equal(extract(test_digits[0], a), extract(test_digits[0], b))
    assert not torch.allclose(extract(test_digits[0], a), extract(test_digits[0], DigitsFeatures()))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 16, 16), (2, 1, 8)])
def test_it_takes_digits_only(shape):
    with pytest.raises(ValueError, match=re.escape(f"images have shape {shape}; digits-features expects (n, 1, 8, 8)")):
        DigitsFeatures()(torch.zeros(shape))
    with pytest.raises(ValueError, match="weights is 'vgg'; expected 'digits-features' or 'random'"):
        DigitsFeatures("vgg")


# Extraction


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_the_batch_size_changes_nothing(test_digits, batch_size):
    images, extractor = test_digits[0][:100], DigitsFeatures().double()
    features = extract(images, extractor, batch_size)
    assert features.dtype == torch.float64
    assert not features.requires_grad
    torch.testing.assert_close(features, extractor.body(images.double()), rtol=1e-12, atol=1e-12)


def test_bytes_arrays_and_lists_give_the_features_of_the_tensor(test_digits):
    images = (test_digits[0][:9] * 255).to(torch.uint8)
    expected = extract(images.double() / 255, DigitsFeatures())
    assert expected.dtype == torch.float32
    read_only = images.numpy().copy()
    read_only.flags.writeable = False
    for same in (images, read_only, list(images), [image.numpy() for image in images], tuple(images / 255)):
        torch.testing.assert_close(extract(same, DigitsFeatures(), batch_size=4), expected)


def test_images_of_different_sizes_share_batches_and_keep_their_order():
    sizes = [(3, 5, 7), (3, 2, 2), (3, 5, 7), (1, 2, 2), (3, 2, 2), (3, 5, 7)]
    images = [torch.rand(size, generator=torch.Generator().manual_seed(place)) for place, size in enumerate(sizes)]
    images[3] = (images[3] * 255).to(torch.uint8)
    extractor = Extractor()
    features = extract(images, extractor, batch_size=2)
    assert [tuple(batch.shape) for batch in extractor.batches] == [
        *((2, 3, 5, 7), (1, 3, 5, 7)),
        *((2, 3, 2, 2), (1, 1, 2, 2)),
    ]
    images[3] = images[3] / 255
    torch.testing.assert_close(features, torch.stack([torch.stack([x.mean(), x.min(), x.max()]) for x in images]))


def test_it_computes_in_the_extractors_dtype():
    images = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float64, torch.bfloat16):
        extractor = Extractor(torch.ones(3, dtype=dtype))
        assert extract(images, extractor).dtype == extractor.batches[0].dtype == dtype
    assert extract(images.double(), Extractor()).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            torch.full((1, 1, 2, 2), 1.5),
            ValueError,
            "images goes from 1.5 to 1.5; expected 0 to 1 (or uint8, 0 to 255)",
        ),
        (torch.tensor([[[[-2.1, 2.64]]]]), ValueError, "images goes from -2.1 to 2.64; expected 0 to 1"),
        (torch.tensor([[[[0, math.nan]]]]), ValueError, "images goes from nan to nan"),
        ([torch.zeros(1, 2, 2), torch.tensor([[[0, 255.0]]])], ValueError, "images[1] goes from 0 to 255"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.int64), TypeError, "images has dtype torch.int64; expected uint8"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.bool), TypeError, "images has dtype torch.bool"),
        (torch.zeros(1, 2, 2), ValueError, "images has shape (1, 2, 2); expected (n, channels, height, width), each"),
        (torch.zeros(0, 1, 2, 2), ValueError, "images has shape (0, 1, 2, 2)"),
        (torch.zeros(2, 1, 0, 2), ValueError, "images has shape (2, 1, 0, 2)"),
        ([], ValueError, "images is empty; expected at least one image"),
        (Image.new("RGB", (2, 2)), TypeError, "images is of type Image; expected a tensor or an array (n, channels,"),
        ([[[[0.5]]]], TypeError, "images[0] is of type list; expected a tensor or an array (channels, height, width)"),
        ([torch.zeros(2, 2)], ValueError, "images[0] has shape (2, 2); expected (channels, height, width)"),
    ],
)
def test_images_that_are_none(images, error, message):
    with pytest.raises(error, match=re.escape(message)):
        extract(images, Extractor())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda e: e.train(),
            ValueError,
            "moments is in training mode; expected one set to evaluate by extractor.eval()",
        ),
        (lambda e: e.add_module("inner", nn.Dropout()), ValueError, "moments is in training mode"),
        (lambda e: setattr(e, "dimensions", 4), ValueError, "moments made (2, 3) of 2 images; expected (n, 4)"),
        (
            lambda e: setattr(e, "forward", lambda x: (x, x)),
            ValueError,
            "moments made tuple of 2 images; expected (n, 3)",
        ),
        (lambda e: setattr(e, "forward", lambda x: x[:, 0, 0] / 0), ValueError, "features contains nan"),
    ],
)
def test_extractors_that_are_none(change, error, message):
    extractor = Extractor()
    change(extractor)
    with pytest.raises(error, match=re.escape(message)):
        extract(torch.zeros(2, 1, 3, 3), extractor)


def test_other_errors():
    for extractor in (nn.Identity().eval(), lambda images: images):
        with pytest.raises(TypeError, match="expected a torch module with a name and dimensions"):
            extract(torch.zeros(1, 1, 2, 2), extractor)
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        extract(torch.zeros(1, 1, 2, 2), Extractor(), batch_size=0)


# Statistics


@properties
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 1200),
    st.sampled_from([1, 2, 5, 300]),
    st.lists(st.integers(1, 700), max_size=5),
    st.sampled_from([0, 1, -1e4, 1e8]),
)
def test_statistics_equal_numpy_whatever_the_batches(seed, n, d, cuts, offset):
    x = gauss(n, d, seed=seed) @ gauss(d, d, seed=seed + 1) + offset
    batches = [batch for batch in x.tensor_split(sorted(cut for cut in cuts if cut < n)) if len(batch)]
    seen = statistics(*batches)
    mean, covariance = seen.compute()
    assert (seen.n, mean.dtype, covariance.dtype) == (n, torch.float64, torch.float64)
    assert torch.equal(covariance, covariance.T)
    expected = np.cov((x - offset).numpy(), rowvar=False).reshape(d, d)  # the difference is exact where offset is large
    assert_same((mean, covariance), ((x - offset).mean(0) + offset, torch.from_numpy(expected)), rtol=1e-11)


def test_a_mean_of_1e8_costs_no_digits():
    """Against exact fractions: naive sums of squares would lose all 16 digits here, 1e16 against 1."""
    x = 1e8 + gauss(300, 2)
    rows = [[Fraction(value) for value in row] for row in x.tolist()]
    mean = [sum(column) / 300 for column in zip(*rows, strict=True)]
    deviations = [[value - m for value, m in zip(row, mean, strict=True)] for row in rows]
    exact = [[float(sum(row[i] * row[j] for row in deviations) / 299) for j in (0, 1)] for i in (0, 1)]
    for size in (1, 7, 300):
        ours, covariance = statistics(*x.split(size)).compute()
        torch.testing.assert_close(covariance, torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=0)
        torch.testing.assert_close(
            ours, torch.tensor([float(m) for m in mean], dtype=torch.float64), rtol=1e-15, atol=0
        )


@properties
@given(st.integers(0, 2**32 - 1), st.permutations(range(6)), st.sampled_from([0, 1e8]))
def test_merging_is_updating_in_any_order(seed, order, offset):
    x = gauss(600, 7, seed=seed) + offset
    parts = x.split([1, 3, 96, 200, 270, 30])
    whole = statistics(x)
    merged = FeatureStatistics()
    for place in order:
        merged.merge(statistics(parts[place]))
    left, right = statistics(*parts[:2]), statistics(*parts[2:])
    right.merge(left)
    for seen in (merged, right, statistics(*(parts[place] for place in order))):
        assert seen.n == 600
        assert_same(seen, whole)


def test_merging_with_the_empty_with_another_and_with_itself():
    x = gauss(20, 3)
    seen, other, empty = statistics(x[:10]), statistics(x[10:]), FeatureStatistics()
    seen.merge(empty)
    assert_same(seen, statistics(x[:10]), rtol=0)
    empty.merge(other)
    empty.merge(seen)
    assert_same(other, statistics(x[10:]), rtol=0)  # is left as it was
    assert_same(empty, statistics(x))
    seen.merge(seen)
    assert_same(seen, statistics(x[:10], x[:10]))


def test_results_are_copies():
    seen = statistics(gauss(5, 2))
    before = [value.clone() for value in seen.compute()]
    for value in seen.compute():
        value.zero_()
    assert_same(seen, before, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_any_dtype_is_counted_in_float64(dtype):
    x = (gauss(50, 3) * 10).to(dtype)
    assert_same(statistics(x), statistics(x.double()), rtol=0)


def test_constant_features_have_covariance_zero():
    mean, covariance = statistics([[0.1, 1e300]] * 3, [[0.1, 1e300]] * 600).compute()
    assert mean.tolist() == [0.1, 1e300]
    assert not covariance.any()


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        ([[1.0, 2.0, 3.0]], ValueError, "features have 3 dimensions; expected 2, as those before"),
        ([1.0, 2.0], ValueError, "features have shape (2,); expected (n, d)"),
        (torch.zeros(0, 2), ValueError, "features is empty (shape (0, 2))"),
        ([[1.0, math.nan]], ValueError, "features contains nan"),
        ([[1.0, math.inf]], ValueError, "features contains inf"),
        ([["a", "b"]], TypeError, "features cannot be read as an array of numbers"),
        ([[True, False]], TypeError, "features has dtype torch.bool"),
    ],
)
def test_an_update_that_fails_changes_nothing(features, error, message):
    seen = statistics(gauss(5, 2))
    before = seen.compute()
    with pytest.raises(error, match=re.escape(message)):
        seen.update(features)
    assert seen.n == 5
    assert_same(seen, before, rtol=0)


def test_too_few_rows_and_numbers_too_large():
    seen = FeatureStatistics()
    with pytest.raises(ValueError, match="0 rows of features were seen; expected at least 2 before compute"):
        seen.compute()
    seen.update([[1.0, 2.0]])
    with pytest.raises(ValueError, match="1 rows of features were seen"):
        seen.compute()
    with pytest.raises(ValueError, match="features have 1 dimensions; expected 2"):
        seen.merge(statistics([[1.0]]))
    seen.update([[1e200, 2.0]])
    with pytest.raises(ValueError, match="the covariance of the features contains inf"):
        seen.compute()


def megabytes_more(setup, stream):
    """What `stream` adds to the largest memory that a process of its own has held so far."""
    script = f"""
import resource, torch
from studyguide.image.features import FeatureStatistics
torch.set_num_threads(1)
seen = FeatureStatistics()
{setup}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{stream}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout) / (1e6 if sys.platform == "darwin" else 1e3)


def test_memory_does_not_grow_with_the_stream():
    """100,000 rows of 256 numbers would take 102 MB even as float32."""
    stream = "for _ in range({}): seen.update(torch.rand(1000, 256))"
    assert megabytes_more(stream.format(10), stream.format(100)) < 20


def test_one_large_batch_takes_no_copy_of_itself():
    """200,000 rows of 64 numbers would take 102 MB as float64."""
    setup = "batch = torch.rand(200_000, 64); seen.update(batch[:2000])"
    assert megabytes_more(setup, "seen.update(batch)") < 50


# The GPU


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda, test_digits):
    images = test_digits[0]
    expected = extract(images, DigitsFeatures().double())
    extractor = DigitsFeatures().double()
    features = extract(images, extractor, device=cuda)
    assert features.device == next(extractor.parameters()).device == cuda
    torch.testing.assert_close(features.cpu(), expected, rtol=1e-9, atol=1e-9)
    assert extract(list(images.to(cuda)), extractor).device == cuda
    assert extract(images, Extractor(), device=cuda).device == cuda
    seen, on_cpu = statistics(*features.split(100)), statistics(expected)
    assert seen.compute()[1].device == cuda
    assert_same([value.cpu() for value in seen.compute()], on_cpu, rtol=1e-9)
    on_cpu.merge(seen)
    seen.merge(on_cpu)
    assert on_cpu.compute()[0].device.type == "cpu"
    assert seen.compute()[0].device == cuda
    assert seen.n == 3 * len(images)
