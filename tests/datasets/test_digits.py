"""The digits, and that the four generators keep their order of quality."""

import re
import shutil

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import kstest
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances

from studyguide import models
from studyguide.datasets import DATA
from studyguide.datasets.digits import GENERATORS, digits, generate
from studyguide.image.features import DigitsFeatures, extract


def rows(images):
    return sorted(map(tuple, images.flatten(1).tolist()))


def test_the_splits_are_scikit_learns_digits_each_once():
    (train, train_labels), (test, test_labels) = digits("train"), digits("test")
    assert train.shape == (1000, 1, 8, 8)
    assert test.shape == (797, 1, 8, 8)
    assert train.dtype == torch.float32
    assert train_labels.dtype == torch.int64
    bunch = load_digits()
    assert rows(torch.cat([train, test])) == rows(torch.tensor(bunch.images[:, None] / 16))
    of = dict(zip(map(tuple, (bunch.data / 16).tolist()), bunch.target.tolist(), strict=True))
    assert [of[tuple(image)] for image in test.flatten(1).tolist()] == test_labels.tolist()
    for labels, expected in ((train_labels, 100), (test_labels, 80)):
        assert (labels.bincount(minlength=10) - expected).abs().max() < 25


def test_each_call_gives_images_of_its_own():
    digits("test")[0].zero_()
    assert digits("test")[0].any()


@pytest.mark.parametrize("name", GENERATORS)
def test_images_are_seeded_and_leave_the_global_state(name):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    images = generate(name, 50, rng=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    assert images.shape == (50, 1, 8, 8)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    rng = np.random.default_rng(3)
    assert torch.equal(generate(name, 50, rng), images)
    assert not torch.equal(generate(name, 50, rng), images)
    assert generate(name, 1, rng=0).shape == (1, 1, 8, 8)


def test_real_ones_are_training_digits_and_noise_is_uniform():
    train = set(map(tuple, digits("train")[0].flatten(1).tolist()))
    assert {tuple(image) for image in generate("real", 300, rng=0).flatten(1).tolist()} <= train
    assert kstest(generate("noise", 300, rng=0).flatten(), "uniform").pvalue > 0.01


def test_gaussians_have_the_moments_of_the_class():
    """Where cutting to [0, 1] changes little, and mixed over the classes: the mean within 5 standard errors."""
    n = 20_000
    pixels, labels = (x.numpy() for x in digits("train"))
    classes = [pixels[labels == digit].reshape(-1, 64) for digit in range(10)]
    mean, std = (np.array([of(x, 0) for x in classes]) for of in (np.mean, np.std))
    inside = ((mean - 3 * std > 0) & (mean + 3 * std < 1) | (std == 0)).all(0)
    assert inside.sum() >= 2
    drawn = generate("gaussians", n, rng=0).flatten(1).double().numpy()
    spread = np.sqrt((std**2).mean(0) + mean.var(0))
    assert (abs(drawn.mean(0) - mean.mean(0)) <= 5 * spread / np.sqrt(n) + 1e-6)[inside].all()


def test_the_vae_draws_no_training_digit_but_ones_like_them():
    """Its nearest training digit is farther than 0, and nearer than that of an image of pixels without a connection."""
    train = digits("train")[0].flatten(1)
    nearest = {
        name: np.median(pairwise_distances(generate(name, 300, 0).flatten(1), train).min(1)) for name in GENERATORS
    }
    assert nearest["real"] == 0 < 0.3 < nearest["vae"] < nearest["gaussians"] < nearest["noise"]


def frechet(a, b):
    """Heusel et al. (2017), equation 6, by scipy."""
    a, b = (x.double().numpy() for x in (a, b))
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)


@pytest.mark.parametrize("n", [150, 700])
def test_the_order_of_quality_holds_under_fid(n):
    extractor = DigitsFeatures()
    real = extract(digits("test")[0], extractor)
    scores = np.array(
        [[frechet(real, extract(generate(name, n, rng), extractor)) for name in GENERATORS] for rng in range(4)]
    )
    print(scores.round(1))
    best, worst = scores.min(0), scores.max(0)
    assert (worst[:-1] < best[1:]).all()


def test_the_models_that_ship_are_small():
    for name in ("digits-features", "digits-vae"):
        assert (DATA / "models" / name / "model.safetensors").stat().st_size < 300_000


def test_a_damaged_vae_is_refused(monkeypatch, tmp_path):
    folder = tmp_path / "models" / "digits-vae"
    shutil.copytree(DATA / "models/digits-vae", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(models, "DATA", tmp_path)
    with pytest.raises(ValueError, match=r"digits-vae is damaged: .*model\.safetensors"):
        generate("vae", 1, rng=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: digits("validation"), ValueError, "split is 'validation'; expected 'train' or 'test'"),
        (lambda: generate("gan", 1, rng=0), ValueError, "name is 'gan'; expected one of 'real', 'vae', 'gaussians'"),
        (lambda: generate("real", 0, rng=0), ValueError, "n is 0; expected at least 1"),
        (lambda: generate("real", 1.0, rng=0), TypeError, "n is 1.0; expected an integer"),
        (lambda: generate("real", 1, rng="0"), TypeError, "rng is '0'; expected an int seed or a numpy Generator"),
        (lambda: generate("real", 1, rng=None), TypeError, "rng is None; expected an int seed or a numpy Generator"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
