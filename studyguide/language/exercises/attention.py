"""Exercises of notebook 3.2, attention."""

import numpy as np
import torch
from scipy import special

from studyguide.course.exercises import Exercise, Wrong


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_attention_weights(q, k):
    """Attention of one query q (d,) to the keys k (n, d).

    Returns n weights that sum to 1.
    """
    return torch.softmax(k @ q / len(q) ** 0.5, 0)


def _unshifted(q, k):
    weights = torch.exp(k @ q / len(q) ** 0.5)
    return weights / weights.sum()


WEIGHTS = Exercise(
    id="attention-weights",
    title="Who listens to whom",
    prompt=(
        "Write `my_attention_weights(q, k)`: the weights with which a query of `d` numbers attends to each of `n` keys. "
        "Scores may be as large as 1000, so let `torch.softmax` do the exponentials."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "The score of a key is its dot product with the query. `k @ q` gives all of them at once.",
        "Divide the scores by the square root of d before the softmax.",
    ),
    solution=my_attention_weights,
    peer=lambda q, k: special.softmax(
        np.array([sum(a * b for a, b in zip(q, row, strict=True)) for row in k]) / np.sqrt(len(q))
    ),
    cases=(
        (_t(2.0, 0.0), _t([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])),
        (_t(1.0, -1.0, 0.5), _t([0.3, 0.1, 2.0], [-1.0, 0.0, 1.0])),
        (_t(40.0, 40.0), _t([40.0, 0.0], [39.0, 0.0])),
    ),
    wrong=(
        Wrong(
            lambda q, k: torch.softmax(k @ q, 0),
            "you did not scale. Divide the scores by the square root of d, the length of the query.",
        ),
        Wrong(
            lambda q, k: torch.softmax(k @ q / len(q), 0),
            "you divided by d. Divide by its square root: that is how far a sum of d random products strays.",
        ),
        Wrong(
            lambda q, k: torch.softmax(k @ q * len(q) ** 0.5, 0),
            "you multiplied by the square root of d. Divide by it.",
        ),
        Wrong(
            lambda q, k: torch.softmax(k @ q / len(k) ** 0.5, 0),
            "you scaled by the number of keys. The scale is the square root of the length of one vector, `len(q)`.",
        ),
        Wrong(
            lambda q, k: k @ q / len(q) ** 0.5,
            "these are the scores. Send them through a softmax, so that they become weights that sum to 1.",
        ),
        Wrong(
            _unshifted,
            "right for small scores, but `exp` overflows for large ones. Use `torch.softmax`, or subtract the largest score.",
        ),
    ),
)


def my_causal_weights(scores):
    """Causal attention weights of an (n, n) tensor of scores, one row per query.

    Returns an (n, n) tensor of weights.
    """
    later = torch.ones_like(scores).triu(1).bool()
    return torch.softmax(scores.masked_fill(later, float("-inf")), -1)


def _causal_by_rows(scores):
    rows = np.zeros(scores.shape)
    for i, row in enumerate(scores.numpy()):
        rows[i, : i + 1] = special.softmax(row[: i + 1])
    return rows


CAUSAL = Exercise(
    id="causal-mask",
    title="No looking ahead",
    prompt=(
        "Write `my_causal_weights(scores)`: turn the scores of `n` queries (rows) for `n` keys (columns) into weights. "
        "Query `i` may look at keys `0` to `i`, itself included, and each row sums to 1."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "A weight becomes exactly 0 when its score is minus infinity *before* the softmax.",
        "`torch.ones(n, n).triu(1)` marks what lies above the diagonal: the keys that come later.",
    ),
    solution=my_causal_weights,
    peer=_causal_by_rows,
    cases=(
        (_t([0.5, 2.0, 1.0], [1.0, -1.0, 3.0], [0.2, 0.4, 0.6]),),
        (_t([0.0, 0.0], [0.0, 0.0]),),
        (_t([3.0]),),
    ),
    wrong=(
        Wrong(
            lambda scores: torch.softmax(scores, -1).tril(),
            "you masked after the softmax, so the rows no longer sum to 1. Set the later scores to minus infinity before it.",
        ),
        Wrong(
            lambda scores: torch.softmax(scores.tril(), -1),
            "you set the later scores to 0, and exp(0) is 1: they still get weight. Set them to minus infinity.",
        ),
        Wrong(
            lambda scores: torch.softmax(
                scores.masked_fill(torch.ones_like(scores).tril(-1).bool(), float("-inf")), -1
            ),
            "your queries see only what comes later. Hide the part above the diagonal, not the part below it.",
        ),
        Wrong(
            lambda scores: torch.softmax(scores.masked_fill(torch.ones_like(scores).triu().bool(), float("-inf")), -1),
            "you hid the diagonal too, so the first query sees nothing and gets NaN. A query sees itself: use `triu(1)`.",
        ),
        Wrong(
            lambda scores: torch.softmax(scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf")), 0),
            "you normalised the columns. Each query is a row: take the softmax over the last axis.",
        ),
        Wrong(
            lambda scores: torch.softmax(scores, -1),
            "you masked nothing. The first query may see only the first key, so its row is 1, 0, 0, ...",
        ),
    ),
)


def my_attention_ratio(weights, n_visible):
    """Attention of one token in units of the uniform baseline.

    weights (n,): its attention to all n tokens, of which it can see the first n_visible. Returns n numbers.
    """
    return weights * n_visible


RATIO = Exercise(
    id="uniform-baseline-ratio",
    title="Compared with no preference at all",
    prompt=(
        "Write `my_attention_ratio(weights, n_visible)`: each attention weight divided by what it would be if the token attended "
        "equally to all tokens *that it can see*. 1 means no preference."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "Equal attention to n visible tokens gives each of them 1/n.",
        "Dividing by 1/n is multiplying by n. Which n: that of all tokens, or of the visible ones?",
    ),
    solution=my_attention_ratio,
    peer=lambda weights, n_visible: weights.numpy() / (1 / n_visible),
    cases=(
        (_t(0.5, 0.3, 0.2), 3),
        (_t(0.7, 0.1, 0.2, 0.0, 0.0), 3),
        (_t(1.0, 0.0), 1),
    ),
    wrong=(
        Wrong(
            lambda weights, n_visible: weights * len(weights),
            "you counted tokens that the token cannot see. Behind a causal mask the baseline is 1 / n_visible.",
        ),
        Wrong(
            lambda weights, n_visible: weights / n_visible,
            "you multiplied by the baseline. Divide by 1 / n_visible, which is multiplying by n_visible.",
        ),
        Wrong(
            lambda weights, n_visible: weights - 1 / n_visible,
            "that is the difference from the baseline. Return the ratio.",
        ),
        Wrong(
            lambda weights, n_visible: weights / 0.05,
            "you compared with the fixed 0.05 of the guide. The baseline depends on how many tokens are visible.",
        ),
        Wrong(
            lambda weights, n_visible: weights / weights.max(),
            "you compared with the largest weight, so something is always 1. Compare with 1 / n_visible.",
        ),
    ),
)


def my_two_stories():
    """Attention a and b of "it" to (animal, street, it), and their values v (3, d): three tensors.

    By the rule, a says "animal" and b says "street"; both give the same output.
    """
    a = torch.tensor([0.8, 0.0, 0.2])
    b = torch.tensor([0.0, 0.4, 0.6])
    v = torch.tensor([[1.0], [2.0], [0.0]])
    return a, b, v


def _verify_stories(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 3):
        return "return three tensors: `return a, b, v`."
    a, b, v = (torch.as_tensor(part, dtype=torch.float64) for part in answer)
    if a.shape != (3,) or b.shape != (3,) or v.ndim != 2 or len(v) != 3 or v.shape[1] == 0:
        return f"the shapes are {tuple(a.shape)}, {tuple(b.shape)}, {tuple(v.shape)}; expected (3,), (3,) and (3, d)."
    if not v.isfinite().all():
        return "v must hold finite numbers."
    for name, weights in (("a", a), ("b", b)):
        if not (weights >= 0).all() or abs(float(weights.sum()) - 1) > 1e-6:
            return f"{name} is not a set of attention weights: at least 0 each, with the sum 1."
    for name, weights, noun, other in (("a", a, 0, 1), ("b", b, 1, 0)):
        if not (weights[noun] > 0.05 and weights[other] <= 0.05):
            nouns = ("animal", "street")
            return f"by the rule, {name} must name the {nouns[noun]} (above 0.05) and not the {nouns[other]} (0.05 or less)."
    if torch.pdist(v).min() < 0.1:
        return "two tokens have (almost) the same values, so it is no wonder. Keep all three at least 0.1 apart."
    gap = float((a @ v - b @ v).abs().max())
    if gap > 1e-6:
        return f"the outputs differ by {gap:.4f}, so the model could tell the stories apart. Choose v so that a @ v equals b @ v."
    return None


STORIES = Exercise(
    id="break-attention-rule",
    title="Two explanations of one output",
    prompt=(
        "A report calls a pronoun resolved to the noun whose attention is above 0.05. Write `my_two_stories()`: attention weights "
        "`a` and `b` of *it* to the tokens (animal, street, it), and their values `v`, of shape (3, d). By the rule `a` must name the animal "
        "and not the street, `b` the street and not the animal. All three rows of `v` differ, and yet the output is the same: "
        "`a @ v` equals `b @ v`. Whatever comes after this head cannot tell the two stories apart."
    ),
    difficulty=3,
    minutes=15,
    hints=(
        "One number per value is enough. The output is a weighted mean, and many weights have the same mean.",
        "Let the third token have the value 0, the street twice the value of the animal, and give the street half the weight.",
    ),
    solution=my_two_stories,
    verify=_verify_stories,
    wrong=(
        Wrong(lambda: _t(0.8, 0.0, 0.2), "return three tensors: `return a, b, v`."),
        Wrong(
            lambda: (_t(0.8, 0.0, 0.2), _t(0.0, 0.8, 0.2), _t([1.0], [1.0], [0.0])),
            "two tokens have (almost) the same values, so it is no wonder. Keep all three at least 0.1 apart.",
        ),
        Wrong(
            lambda: (_t(0.8, 0.0, 0.2), _t(0.0, 0.8, 0.2), _t([1.0], [2.0], [0.0])),
            "the outputs differ by 0.8000, so the model could tell the stories apart. Choose v so that a @ v equals b @ v.",
        ),
        Wrong(
            lambda: (_t(0.4, 0.3, 0.3), _t(0.0, 0.4, 0.6), _t([1.0], [2.0], [0.0])),
            "by the rule, a must name the animal (above 0.05) and not the street (0.05 or less).",
        ),
        Wrong(
            lambda: (_t(0.8, 0.0, 0.2), _t(0.0, 0.8, 0.4), _t([1.0], [1.5], [0.0])),
            "b is not a set of attention weights: at least 0 each, with the sum 1.",
        ),
    ),
)


EXERCISES = (WEIGHTS, CAUSAL, RATIO, STORIES)
