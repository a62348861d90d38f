"""The Inception Score: are single predictions sure, and are all of them together diverse?"""

from dataclasses import dataclass
from itertools import pairwise

import torch

from studyguide.probability.distributions import entropy
from studyguide.probability.validation import floating, generator, positive_integer


@dataclass(frozen=True, eq=False)
class InceptionScore:
    """The score of each split, and what they come to."""

    mean: torch.Tensor  # of the splits' scores
    std: torch.Tensor  # of the splits' scores, divided by their number; not an error of the mean
    scores: torch.Tensor  # (splits,)
    split_size: int  # images in the smallest split, on which the score depends

    def __str__(self):
        from studyguide.course.display import rounded

        splits = f"splits: {len(self.scores)}, of {self.split_size} images or more"
        return f"{rounded(self.mean)} (standard deviation {rounded(self.std)}; {splits})"


def inception_score(logits, splits=10, rng=0):
    """The exponential of the mutual information between an image and its predicted class, in each of several splits.

    Shapes: logits (images, classes) of a classifier, before the softmax. Range: 1 to the number of classes; what
    rounding puts beyond is clipped. Computed in float64; results have the dtype and the device of the logits.
    Errors: fewer images than splits, NaN or +inf (-inf is a probability of 0), and what is not two-dimensional are a
    ValueError.
    Conventions: images are shuffled, then split at i * n // splits, so that none is left out; the std divides by the
    number of splits. All this as in torch-fidelity. A class that is never predicted adds 0.
    The fewer images in a split the lower its score: compare scores of equal split sizes and classifiers only.
    Randomness: `rng` is an int seed, whose order is the same on every device, or a torch.Generator, which it advances.
    Source: Salimans et al. (2016), "Improved techniques for training GANs", section 4; Barratt and Sharma (2018), "A
    note on the Inception Score".

    >>> print(inception_score(100 * torch.eye(10).repeat(10, 1), splits=1))
    10 (standard deviation 0; splits: 1, of 100 images or more)
    """
    [logits] = floating(logits=logits)
    splits = positive_integer("splits", splits)
    if logits.ndim != 2:
        raise ValueError(f"logits has shape {tuple(logits.shape)}; expected (images, classes)")
    if not (logits.isfinite().any(-1) & (logits < torch.inf).all(-1)).all():
        raise ValueError(
            "logits contains nan, inf, or a row of -inf; expected a finite number in each row, others may be -inf"
        )
    n, classes = logits.shape
    if n < splits:
        raise ValueError(f"logits has {n} images for {splits} splits; expected at least one per split")
    source = generator(rng)
    order = torch.randperm(n, generator=source, device=source.device).to(logits.device)
    bounds = [i * n // splits for i in range(splits + 1)]
    parts = [logits[order[start:end]] for start, end in pairwise(bounds)]
    scores = torch.stack([_information(part.double().softmax(-1)) for part in parts]).exp().clamp(1, classes)
    mean, std = scores.mean(), scores.std(correction=0)
    return InceptionScore(*(value.to(logits.dtype) for value in (mean, std, scores)), n // splits)


def _information(p):
    """What a prediction tells about the class, in nats: the entropy of the mean less the mean of the entropies."""
    return entropy(p.mean(0)) - entropy(p).mean()
