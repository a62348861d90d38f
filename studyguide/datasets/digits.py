"""Handwritten digits of 8 x 8 pixels, and four generators of them whose order of quality is known.

The digits ship with scikit-learn: 1,797 of the UCI set "Optical Recognition of Handwritten Digits", by 13 people. The
file does not say who wrote which, so the split is random and a writer's digits are in both parts: a test score says
how a model does on new digits of these 13 people, not on other people's.

    >>> from studyguide.datasets import digits
    >>> images, labels = digits.digits("train")
    >>> images.shape, labels[:5]
    (torch.Size([1000, 1, 8, 8]), tensor([9, 5, 7, 8, 9]))
"""

from functools import lru_cache

import numpy as np
import torch

from studyguide.models import load_weights

SPLITS = {"train": slice(None, 1000), "test": slice(1000, None)}  # of the shuffled 1,797
SPLIT_SEED = 20261121
GENERATORS = ("real", "vae", "gaussians", "noise")  # best first
LATENT = 4  # numbers from which the VAE draws an image


def digits(split):
    """The images and labels of a split, "train" (1,000 digits) or "test" (797).

    Shapes: images (n, 1, 8, 8), float32 from 0 to 1 (multiples of 1/16; ink is bright); labels (n,), int64, 0 to 9.
    ValueError for another split.

    >>> images, labels = digits("test")
    >>> images.shape, images.max()
    (torch.Size([797, 1, 8, 8]), tensor(1.))
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected 'train' or 'test'")
    pixels, labels = _all_digits()
    rows = np.random.default_rng(SPLIT_SEED).permutation(len(labels))[SPLITS[split]]
    images = torch.tensor(pixels[rows] / 16, dtype=torch.float32).unsqueeze(1)
    return images, torch.tensor(labels[rows], dtype=torch.int64)


def generate(name, n, rng):
    """`n` images (n, 1, 8, 8), float32 from 0 to 1, by one of the GENERATORS, all made from the training digits alone.

    "real" draws training digits, with replacement. "vae" draws from a small variational autoencoder given the class
    (``data/models/digits-vae``): digits, a little blurred. "gaussians" draws each pixel on its own from a Gaussian with
    the mean and standard deviation that the pixel has in the class, cut to 0 and 1: the shape of a digit, with rough
    strokes. "noise" is uniform. For "vae" and "gaussians" the ten classes are equally probable.
    `rng` is an int seed or a numpy Generator. ValueError for another name, or n below 1; TypeError for another rng.

    >>> [generate(name, 3, rng=0).shape[0] for name in GENERATORS]
    [3, 3, 3, 3]
    """
    if name not in GENERATORS:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(map(repr, GENERATORS))}")
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n is {n!r}; expected an integer")
    if n < 1:
        raise ValueError(f"n is {n}; expected at least 1")
    if not isinstance(rng, (int, np.integer, np.random.Generator)):
        raise TypeError(f"rng is {rng!r}; expected an int seed or a numpy Generator")
    rng = np.random.default_rng(rng)
    if name == "noise":
        return torch.tensor(rng.random((n, 1, 8, 8)), dtype=torch.float32)
    if name == "real":
        images, _ = digits("train")
        return images[rng.integers(len(images), size=n)]
    classes = torch.tensor(rng.integers(10, size=n))
    if name == "vae":
        return _draw(torch.tensor(rng.standard_normal((n, LATENT))), classes)
    images, labels = digits("train")
    of_class = [images[labels == digit].double() for digit in range(10)]
    mean, std = torch.stack([x.mean(0) for x in of_class]), torch.stack([x.std(0) for x in of_class])
    drawn = mean[classes] + std[classes] * torch.tensor(rng.standard_normal((n, 1, 8, 8)))
    return drawn.clamp(0, 1).float()


def decoder():
    """The half of the VAE that draws, untrained: latent numbers and a one-hot class (n, LATENT + 10) to logits (n, 64)."""
    return torch.nn.Sequential(torch.nn.Linear(LATENT + 10, 128), torch.nn.SiLU(), torch.nn.Linear(128, 64))


@torch.no_grad()
def _draw(latent, classes):
    with torch.device("meta"):  # no weights are drawn, only to be replaced
        network = decoder()
    network.load_state_dict(load_weights("digits-vae"), assign=True)
    one_hot = torch.nn.functional.one_hot(classes, 10)
    return network.double()(torch.cat([latent, one_hot], 1)).sigmoid().float().view(-1, 1, 8, 8)


@lru_cache
def _all_digits():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target
