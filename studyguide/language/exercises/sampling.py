"""Exercises of notebook 3.4, sampling."""

import math

import numpy as np
import torch
from scipy import special

from studyguide.course.exercises import Exercise, Wrong
from studyguide.language.sampling import truncate
from studyguide.probability.distributions import entropy
from studyguide.probability.divergences import total_variation


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


WEATHER = _t(0.40, 0.30, 0.20, 0.05, 0.03, 0.02)


def my_temperature(p, temperature):
    """The distribution p (1-D, summing to 1) at another temperature.

    Returns a tensor of the same length that sums to 1.
    """
    powers = (p / p.max()) ** (1 / temperature)
    return powers / powers.sum()


def _temperature_peer(p, temperature):
    with np.errstate(divide="ignore"):
        return special.softmax(np.log(p.numpy()) / temperature)


TEMPERATURE = Exercise(
    id="temperature-by-powers",
    title="Temperature without logits",
    prompt=(
        "An API gives you probabilities, no logits. Write `my_temperature(p, temperature)`: the distribution that the same "
        "model has at another temperature. It must also work at temperature 0.001, where high powers underflow to 0."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "exp(logit / T) is (exp(logit)) to the power 1 / T, and p is exp(logit) but for a common factor.",
        "A common factor cancels when you renormalise. Divide by the largest probability first: it then stays 1 at any power.",
    ),
    solution=my_temperature,
    peer=_temperature_peer,
    cases=((WEATHER, 0.5), (WEATHER, 2.0), (_t(0.7, 0.3, 0.0), 0.25), (WEATHER, 0.001)),
    wrong=(
        Wrong(
            lambda p, temperature: p**temperature / (p**temperature).sum(),
            "the power is 1 / T, not T: yours flattens where a low temperature sharpens.",
        ),
        Wrong(
            lambda p, temperature: torch.softmax(p / temperature, 0),
            "you took the probabilities for logits. Their logarithms are logits: p to the power 1 / T, renormalised.",
        ),
        Wrong(
            lambda p, temperature: (p / p.max()) ** (1 / temperature),
            "the powers are right, but they do not sum to 1. Divide by their sum.",
        ),
        Wrong(
            lambda p, temperature: p ** (1 / temperature),
            "these powers do not sum to 1, and at T = 0.001 all are 0. Divide by the largest first, by the sum last.",
        ),
        Wrong(
            lambda p, temperature: p / temperature / (p / temperature).sum(),
            "dividing probabilities by T changes nothing once they are renormalised. T divides their logarithms.",
        ),
        Wrong(
            lambda p, temperature: p ** (1 / temperature) / (p ** (1 / temperature)).sum(),
            "right until the powers underflow: at T = 0.001 all are 0, and 0 / 0 is NaN. Divide by the largest first.",
        ),
    ),
)


def my_top_p(p, top_p):
    """The distribution p (1-D, summing to 1) after top-p truncation.

    Returns a tensor of the same length and order that sums to 1.
    """
    values, order = p.sort(descending=True)
    before = values.cumsum(0) - values
    kept = values.where(before < top_p, 0)
    return torch.zeros_like(p).scatter(0, order, kept / kept.sum())


def _top_p_peer(p, top_p):
    kept, total = np.zeros(len(p)), 0.0
    for i in np.argsort(-p.numpy()):
        if total < top_p:
            kept[i] = p[i]
            total += kept[i]
    return kept / total


def _sorted_nucleus(p, top_p, kept):
    """Truncation with another rule for what is kept of the sorted probabilities and their running sum."""
    values, order = p.sort(descending=True)
    values = values.where(kept(values, values.cumsum(0), top_p) | (values == values[0]), 0)
    return torch.zeros_like(p).scatter(0, order, values / values.sum())


def _tail(p, top_p):
    values, order = p.sort()
    kept = values.where(values.cumsum(0) - values < top_p, 0)
    return torch.zeros_like(p).scatter(0, order, kept / kept.sum())


TOP_P = Exercise(
    id="nucleus-filter",
    title="The nucleus",
    prompt=(
        "Write `my_top_p(p, top_p)`: keep the smallest set of most probable tokens whose probabilities sum to `top_p` or more, "
        "set the others to 0, renormalise, and leave every token in its old place."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "Sort from the most probable down. A token is needed if those before it do not reach top_p yet.",
        "`values, order = p.sort(descending=True)`; the sum before a token is `values.cumsum(0) - values`. "
        "`torch.zeros_like(p).scatter(0, order, kept)` puts the values back.",
    ),
    solution=my_top_p,
    peer=_top_p_peer,
    cases=(
        (_t(0.05, 0.30, 0.40, 0.02, 0.20, 0.03), 0.8),
        (_t(0.05, 0.30, 0.40, 0.02, 0.20, 0.03), 0.65),
        (_t(0.25, 0.5, 0.15, 0.1), 0.75),
        (_t(0.2, 0.7, 0.1), 0.1),
        (_t(0.2, 0.7, 0.1), 1.0),
    ),
    wrong=(
        Wrong(
            lambda p, top_p: _sorted_nucleus(p, top_p, lambda values, total, limit: total <= limit),
            "you drop the token that carries the sum over top_p. It belongs to the set: without it, the sum falls short.",
        ),
        Wrong(
            lambda p, top_p: _sorted_nucleus(p, top_p, lambda values, total, limit: total - values <= limit),
            "you keep one token too many where the sum is exactly top_p: the set that reaches it is enough.",
        ),
        Wrong(
            lambda p, top_p: _sorted_nucleus(p, top_p, lambda values, total, limit: values >= limit * values[0]),
            "you compare each token with the most probable one. That is min-p; top-p looks at the running sum.",
        ),
        Wrong(
            lambda p, top_p: p.where(my_top_p(p, top_p) > 0, 0),
            "the right tokens, but they no longer sum to 1. Divide by what is left.",
        ),
        Wrong(
            lambda p, top_p: my_top_p(p, top_p).sort(descending=True).values,
            "you return the tokens in sorted order. Put each probability back in its old place.",
        ),
        Wrong(
            _tail,
            "you sorted from the least probable up, so you keep the tail. Sort in descending order.",
        ),
    ),
)


def my_sequence_log_probability(steps, tokens):
    """Log-probability of a text of n tokens, in nats.

    steps (n, vocabulary) holds the next-token distribution at each step, tokens (n,) the ids chosen. Returns one number.
    """
    return steps.gather(1, tokens[:, None]).log().sum()


SEQUENCE = Exercise(
    id="sequence-log-probability",
    title="How probable is the whole text",
    prompt=(
        "Write `my_sequence_log_probability(steps, tokens)`: the log-probability that a model writes just these tokens. "
        "Row i of `steps` is its distribution at step i, given the tokens before. The probability itself may be too small for a float."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The chain rule: the probability of a text is the product of the probabilities of its tokens, each given those before.",
        "`steps.gather(1, tokens[:, None])` picks one probability per row. Take the logarithm first, then add.",
    ),
    solution=my_sequence_log_probability,
    peer=lambda steps, tokens: math.fsum(math.log(steps[i, t]) for i, t in enumerate(tokens.tolist())),
    cases=(
        (_t(0.85, 0.15, 0.25, 0.75).reshape(2, 2), torch.tensor([0, 1])),
        (_t(0.5, 0.3, 0.2, 0.1, 0.1, 0.8, 0.2, 0.6, 0.2).reshape(3, 3), torch.tensor([1, 0, 2])),
        (_t(1e-200, 1.0, 1.0, 1e-200).reshape(2, 2), torch.tensor([0, 1])),
    ),
    wrong=(
        Wrong(
            lambda steps, tokens: steps.gather(1, tokens[:, None]).prod().log(),
            "right for short texts, but the product of many small numbers is 0 in floating point. Add logarithms instead.",
        ),
        Wrong(
            lambda steps, tokens: steps.gather(1, tokens[:, None]).prod(),
            "this is the probability, which underflows to 0. Return the sum of the logarithms.",
        ),
        Wrong(
            lambda steps, tokens: steps.gather(1, tokens[:, None]).log().mean(),
            "this is the mean per token, the number behind perplexity. The text's log-probability is the sum.",
        ),
        Wrong(
            lambda steps, tokens: steps.amax(1).log().sum(),
            "you took the largest probability of each step. The model is asked about `tokens`, not about its favourites.",
        ),
        Wrong(
            lambda steps, tokens: -steps.gather(1, tokens[:, None]).log().sum(),
            "this is the surprisal. A log-probability is never above 0.",
        ),
        Wrong(
            lambda steps, tokens: steps.gather(1, tokens[:, None]).log2().sum(),
            "you used the logarithm base 2; this function is in nats.",
        ),
    ),
)


def my_min_p(p, min_p):
    """The distribution p (1-D, summing to 1) after min-p truncation.

    Returns a tensor of the same length that sums to 1.
    """
    kept = p.where(p >= min_p * p.max(), 0)
    return kept / kept.sum()


def _min_p_peer(p, min_p):
    from transformers import MinPLogitsWarper

    return MinPLogitsWarper(min_p)(None, p.log()[None])[0].softmax(-1)


def _renormalised(p, keep):
    return p.where(keep, 0) / p.where(keep, 0).sum()


MIN_P = Exercise(
    id="min-p-filter",
    title="A threshold that moves with the favourite",
    prompt=(
        "Write `my_min_p(p, min_p)`: keep the tokens that are at least `min_p` times as probable as the most probable one, "
        "set the others to 0, and renormalise."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The threshold depends on the distribution: it is high where the model is sure, low where it is not.",
        "The threshold is `min_p * p.max()`. A token just on it stays.",
    ),
    solution=my_min_p,
    peer=_min_p_peer,
    cases=(
        (WEATHER, 0.3),
        (_t(0.5, 0.25, 0.125, 0.125), 0.5),
        (_t(0.9, 0.06, 0.04), 0.05),
        (_t(0.3, 0.25, 0.2, 0.15, 0.1), 0.25),
    ),
    wrong=(
        Wrong(
            lambda p, min_p: _renormalised(p, p >= min_p),
            "you compare with min_p itself. The threshold is relative: min_p times the largest probability.",
        ),
        Wrong(
            lambda p, min_p: p.where(p >= min_p * p.max(), 0),
            "the right tokens, but they no longer sum to 1. Divide by what is left.",
        ),
        Wrong(
            lambda p, min_p: _renormalised(p, p > min_p * p.max()),
            "you drop the token just on the threshold. `At least` keeps it: use >=.",
        ),
        Wrong(
            lambda p, min_p: _renormalised(p, p >= min_p / len(p)),
            "you compare with the uniform distribution. min-p compares with the most probable token.",
        ),
        Wrong(
            lambda p, min_p: _renormalised(p, p >= (1 - min_p) * p.max()),
            "you keep what is within min_p of the largest. The threshold is min_p times the largest, not 1 − min_p times.",
        ),
    ),
)

GOOD = _t(0.40, 0.30, 0.20, 0.05, 0.03, 0.006, 0.004, 0.004, 0.003, 0.003)
BROKEN = torch.cat([GOOD[:2], GOOD[2:].flip(0)])


def my_settings():
    """Sampler settings, as a dict of arguments for `truncate`, that hide the damage."""
    return {"top_k": 2}


def _verify_settings(answer):
    if not isinstance(answer, dict):
        return 'return a dict of settings for `truncate`, such as {"temperature": 0.9, "top_k": 5}.'
    good, broken = (truncate(p.log(), **answer).softmax(-1) for p in (GOOD, BROKEN))
    seen, spread = float(total_variation(good, broken)), float(entropy(good))
    if seen > 0.01:
        return (
            f"the gate sees the damage: a total variation of {seen:.2f} is left between the two models. "
            "Where does it sit? Cut that away."
        )
    if spread < 0.5:
        return (
            f"nothing to see, but only {spread:.2f} nats of entropy are left: this is greedy decoding in disguise, "
            "and the gate wants to see sampling. Leave at least two words a real chance."
        )
    return None


SETTINGS = Exercise(
    id="break-sampler-evaluation",
    title="The sampler that hides the damage",
    prompt=(
        "A model was damaged: below its two favourite words it ranks all others upside down. The release gate compares it with the "
        "good model, and lets it pass if their next-word distributions differ by a total variation of at most 0.01. Greedy decoding would hide "
        "the damage, but the gate insists on sampling: at least 0.5 nats of entropy must be left. Write `my_settings()`: settings for "
        "`truncate`, as a dict, with which the damaged model passes."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "The damage sits below the second word. Which filter can leave exactly two words?",
        "Top-k counts words. Top-p works, too, if p lies between the sums of the first and of the first two; so does a high min-p.",
    ),
    solution=my_settings,
    verify=_verify_settings,
    wrong=(
        Wrong(
            dict,
            "the gate sees the damage: a total variation of 0.27 is left between the two models. "
            "Where does it sit? Cut that away.",
        ),
        Wrong(
            lambda: {"temperature": 0.5},
            "the gate sees the damage: a total variation of 0.15 is left between the two models. "
            "Where does it sit? Cut that away.",
        ),
        Wrong(
            lambda: {"top_p": 0.9},
            "the gate sees the damage: a total variation of 0.26 is left between the two models. "
            "Where does it sit? Cut that away.",
        ),
        Wrong(
            lambda: {"top_k": 1},
            "nothing to see, but only 0.00 nats of entropy are left: this is greedy decoding in disguise, "
            "and the gate wants to see sampling. Leave at least two words a real chance.",
        ),
        Wrong(
            lambda: {"temperature": 0.1},
            "nothing to see, but only 0.22 nats of entropy are left: this is greedy decoding in disguise, "
            "and the gate wants to see sampling. Leave at least two words a real chance.",
        ),
        Wrong(lambda: 2, 'return a dict of settings for `truncate`, such as {"temperature": 0.9, "top_k": 5}.'),
    ),
)

EXERCISES = (TEMPERATURE, TOP_P, SEQUENCE, MIN_P, SETTINGS)
