"""Distributions of tokens: from logits to probabilities, surprise, random draws and counts.

A distribution lies along the last axis of a tensor; leading axes are a batch. Logarithms are natural (nats) unless
`base` says otherwise, and 0 log 0 counts as 0.
"""

import math

import torch

from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    floating,
    generator,
    log_base,
    normalised,
    numpy_generator,
    positive_integer,
    rowwise,
    vectors,
)


def softmax(logits, temperature=1.0):
    """Probabilities proportional to ``exp(logits / temperature)``.

    Shapes: logits (..., k), result the same. A logit of -inf is a category that is ruled out: probability 0.
    Range: [0, 1], summing to 1. Below temperature 1 the largest probabilities grow, above it all come closer.
    Errors: NaN or inf among the logits, a row of -inf only, a temperature that is not positive and finite.
    Convention: temperature 0 is no distribution to draw from but the limit "always the largest": an error.
    Source: Hinton, Vinyals and Dean (2015), "Distilling the knowledge in a neural network", section 2.

    >>> softmax([2.0, 1.0, 0.0], temperature=0.5)
    tensor([0.8668, 0.1173, 0.0159], dtype=torch.float64)
    """
    [logits] = vectors(logits=logits)
    if temperature == 0:
        raise ValueError("temperature is 0; expected a positive number. For the greedy choice use logits.argmax(-1)")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; expected a positive finite number")
    dtype, work = common_dtype(logits)
    largest = logits.amax(-1, keepdim=True)
    if not largest.isfinite().all():
        check_finite("logits", logits.masked_fill(logits == -math.inf, 0))
        raise ValueError("logits are all -inf along the last axis; expected at least one finite logit")
    return torch.softmax((logits.to(work) - largest) / temperature, -1).to(dtype)


def surprisal(p, base=None):
    """How surprising an event of probability `p` is: ``-log p``.

    Shapes: any, also a single number; the events need not form a distribution.
    Units and range: nats (bits with base=2); 0 for a certain event, inf for an impossible one.
    Errors: NaN or a number outside [0, 1].
    Source: Shannon (1948); Cover and Thomas, Elements of Information Theory, section 2.1.

    >>> surprisal([1.0, 0.5, 0.25], base=2)
    tensor([0., 1., 2.], dtype=torch.float64)
    """
    [p] = floating(p=p)
    check_finite("p", p)
    if p.amin() < 0 or p.amax() > 1:
        outside = p[(p < 0) | (p > 1)][0]
        raise ValueError(f"p contains {outside:g}; expected probabilities between 0 and 1")
    dtype, work = common_dtype(p)
    return (0 - p.to(work).log() / log_base(base)).to(dtype)


def sample_categorical(p, n, rng):
    """`n` independent draws of one category each: a multinomial with one trial, n times.

    Shapes: p (..., k), result (..., n), int64, each in 0 ... k - 1.
    Errors: p is no distribution; n is below 1; a generator that is on another device than p.
    Randomness: `rng` is an int seed, or a torch.Generator, which the draw advances.

    >>> sample_categorical([0.0, 1.0], 3, rng=0)
    tensor([1, 1, 1])
    """
    [p] = vectors(p=p)
    n, source = positive_integer("n", n), generator(rng, p.device)
    p = normalised("p", p, torch.float64)
    draws = torch.multinomial(p.reshape(-1, p.shape[-1]), n, replacement=True, generator=source)
    return draws.reshape(*p.shape[:-1], n)


def multinomial_counts(p, n, rng, size=None):
    """How often each category came in `n` independent draws from `p`.

    Shapes: p (..., k), result (..., k), int64, summing to n; with `size` that many such counts: (size, ..., k).
    Errors: p is no distribution; n or size is below 1.
    Convention: n = 1 is a single categorical draw, written as a row of zeros with one 1.
    Randomness: `rng` is an int seed, or a torch.Generator, which the draw advances. The counts come from numpy's
    multinomial, seeded by it: its cost depends on k and not on n.

    >>> multinomial_counts([0.85, 0.08, 0.07], 1000, rng=0).sum()
    tensor(1000)
    """
    [p] = vectors(p=p)
    n = positive_integer("n", n)
    shape = p.shape[:-1] if size is None else (positive_integer("size", size), *p.shape[:-1])
    weights = normalised("p", p, torch.float64).detach().cpu().numpy()
    return torch.from_numpy(numpy_generator(rng).multinomial(n, weights, size=shape)).to(p.device)


def entropy(p, base=None):
    """The mean surprisal of draws from `p`: ``-sum p log p``.

    Shapes: p (..., k), result (...).
    Units and range: nats (bits with base=2); 0 for a certain outcome, log k for k equally likely ones.
    Errors: p is no distribution (negative, NaN, not summing to 1, empty, a single number).
    Source: Shannon (1948); Cover and Thomas, Elements of Information Theory, section 2.1.

    >>> entropy([0.5, 0.25, 0.25], base=2)
    tensor(1.5000, dtype=torch.float64)
    """
    unit = log_base(base)
    return rowwise(lambda p: torch.special.entr(p).sum(-1) / unit, p=p)
