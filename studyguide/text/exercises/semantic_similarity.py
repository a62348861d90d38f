"""Exercises of notebook 4.3, semantic similarity."""

import re
from collections import Counter
from functools import cache

import torch
from scipy.spatial.distance import cosine

from studyguide.course.exercises import Exercise, Wrong
from studyguide.models import MINILM, load_sentence_encoder
from studyguide.text.ngrams import stem
from studyguide.text.semantic import semantic_similarity


def _t(*values):
    return torch.tensor(values, dtype=torch.float64)


def my_cosines(a, b):
    """The cosine of each row of a (n, d) with the same row of b (n, d).

    Returns a tensor of n numbers.
    """
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


COSINES = Exercise(
    id="cosine-of-rows",
    title="Cosines without a library",
    prompt=(
        "Write `my_cosines(a, b)`: the cosine of each row of `a` with the row of `b` in the same place. The vectors have "
        "any length but zero; nothing is clipped."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "Multiply entry by entry and sum along each row: that is the dot product of each pair.",
        "Divide by both lengths: `a.norm(dim=1) * b.norm(dim=1)`.",
    ),
    solution=my_cosines,
    peer=lambda a, b: [1 - cosine(x, y) for x, y in zip(a.numpy(), b.numpy(), strict=True)],
    cases=(
        (_t([3, 4], [1, 2]), _t([4, 3], [2, 4])),
        (_t([1, 0, 2], [0, 5, 0], [2, 2, 1]), _t([-2, 1, 0], [0, -0.1, 0], [1, 0, 3])),
    ),
    wrong=(
        Wrong(
            lambda a, b: (a * b).sum(1),
            "this is the dot product, which grows with the lengths of the vectors. Divide by both.",
        ),
        Wrong(
            lambda a, b: (a * b).sum(1) / a.norm(dim=1),
            "you divide by one length only. The result still grows with the other vector.",
        ),
        Wrong(
            lambda a, b: (a * b).sum(1) / (a * a).sum(1) / (b * b).sum(1),
            "you divide by the squared lengths. The length is the root of the sum of squares: `norm` takes it.",
        ),
        Wrong(
            lambda a, b: (a * b).sum(1) / (a.norm() * b.norm()),
            "`norm()` without dim is one number for the whole table. Take the length of each row: dim=1.",
        ),
        Wrong(
            lambda a, b: my_cosines(a, b).clamp(min=0),
            "you cut negative cosines off. They run from -1 to 1, and the exercise asks for them as they are.",
        ),
        Wrong(
            lambda a, b: (1 + my_cosines(a, b)) / 2,
            "you map the cosine to 0 to 1. That is another score: unrelated texts would get 0.5. Return the cosine.",
        ),
        Wrong(
            lambda a, b: 1 - my_cosines(a, b),
            "this is the cosine distance, as scipy gives it. The similarity is 1 minus that.",
        ),
    ),
)


def my_threshold(unrelated, rate):
    """The lowest cosine of `unrelated` (1-D) that at most the share `rate` of them exceeds.

    Returns one number, one of the given cosines.
    """
    above = (unrelated[None, :] > unrelated[:, None]).sum(1)
    return unrelated[above <= rate * len(unrelated)].min()


def _threshold_peer(unrelated, rate):
    values = sorted(unrelated.tolist())
    for value in values:
        if sum(other > value for other in values) / len(values) <= rate:
            return value
    raise AssertionError("nothing exceeds the largest")


def _lowest(unrelated, passes, rate):
    return unrelated[passes.sum(1) <= rate * len(unrelated)].min()


THRESHOLD = Exercise(
    id="similarity-threshold",
    title="A threshold with a meaning",
    prompt=(
        "A pair *passes* if its cosine is above the threshold. Write `my_threshold(unrelated, rate)`: from the cosines of pairs "
        "known to be unrelated, the lowest one that, as a threshold, lets at most the share `rate` of them pass. Mind ties."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "For each cosine, count how many of the others are above it: `(unrelated[None, :] > unrelated[:, None]).sum(1)`.",
        "A cosine will do if that count is at most rate times their number. Of those that will do, take the lowest.",
    ),
    solution=my_threshold,
    peer=_threshold_peer,
    cases=(
        (_t(0.31, 0.02, 0.11, -0.05, 0.08, 0.2, 0.01, 0.4, 0.07, 0.15), 0.2),
        (_t(0.3, 0.1, 0.3, 0.0, 0.3, 0.2, 0.1, 0.05), 0.25),
        (_t(0.5, 0.1, 0.2), 0.0),
        (_t(0.5, 0.1, 0.2, 0.4), 1.0),
    ),
    wrong=(
        Wrong(
            lambda unrelated, rate: unrelated.quantile(1 - rate),
            "`quantile` interpolates between two cosines, and with ties more than the rate may pass. Count instead.",
        ),
        Wrong(
            lambda unrelated, rate: unrelated.sort().values[int(rate * (len(unrelated) - 1))],
            "you took the lower end: nearly all unrelated pairs would pass. The few allowed to pass are at the top.",
        ),
        Wrong(
            lambda unrelated, rate: _lowest(unrelated, unrelated[None, :] >= unrelated[:, None], rate),
            "you count the threshold itself as passing. A pair passes if it is above, not at, the threshold.",
        ),
        Wrong(
            lambda unrelated, rate: unrelated.max(),
            "with the largest as the threshold none passes. You may let the share `rate` pass: go lower.",
        ),
        Wrong(
            lambda unrelated, rate: unrelated.mean() + 2 * unrelated.std(),
            "mean plus two standard deviations assumes a normal distribution, and ignores the rate. Count instead.",
        ),
        Wrong(
            lambda unrelated, rate: _lowest(unrelated, unrelated[None, :] > unrelated[:, None], rate / len(unrelated)),
            "you compare a count with a share: the number allowed to pass is rate times the number of pairs.",
        ),
    ),
)


def my_bertscore(cosines, candidate_weights, reference_weights):
    """Precision, recall and F1 of greedy matching.

    cosines (n, m) compares n candidate tokens with m reference tokens; weights are (n,) and (m,). Returns 3 numbers.
    """
    p = (cosines.amax(1) * candidate_weights).sum() / candidate_weights.sum()
    r = (cosines.amax(0) * reference_weights).sum() / reference_weights.sum()
    return torch.stack([p, r, 2 * p * r / (p + r)])


def _bertscore_peer(cosines, candidate_weights, reference_weights):
    def mean_of_best(rows, weights):
        return sum(w * max(row) for row, w in zip(rows, weights, strict=True)) / sum(weights)

    rows = cosines.tolist()
    p = mean_of_best(rows, candidate_weights.tolist())
    r = mean_of_best(list(zip(*rows, strict=True)), reference_weights.tolist())
    return [p, r, 2 / (1 / p + 1 / r)]


def _scored(cosines, candidate_weights, reference_weights, best):
    """The solution with another rule for the best partner."""
    p = (best(cosines, 1) * candidate_weights).sum() / candidate_weights.sum()
    r = (best(cosines, 0) * reference_weights).sum() / reference_weights.sum()
    return torch.stack([p, r, 2 * p * r / (p + r)])


def _without_weights(cosines, candidate_weights, reference_weights):
    return my_bertscore(cosines, torch.ones_like(candidate_weights), torch.ones_like(reference_weights))


def _not_normalised(cosines, candidate_weights, reference_weights):
    p, r = (cosines.amax(1) * candidate_weights).sum(), (cosines.amax(0) * reference_weights).sum()
    return torch.stack([p, r, 2 * p * r / (p + r)])


def _weights_first(cosines, candidate_weights, reference_weights):
    weighted = cosines * candidate_weights[:, None] * reference_weights
    p, r = weighted.amax(1).sum() / candidate_weights.sum(), weighted.amax(0).sum() / reference_weights.sum()
    return torch.stack([p, r, 2 * p * r / (p + r)])


def _arithmetic(*arguments):
    p, r, _ = my_bertscore(*arguments)
    return torch.stack([p, r, (p + r) / 2])


BERTSCORE = Exercise(
    id="greedy-matching",
    title="BERTScore from a table of cosines",
    prompt=(
        "Write `my_bertscore(cosines, candidate_weights, reference_weights)`: each token takes the nearest token of the other "
        "text, and the means are weighted, as with idf. Return precision, recall and F1 as one tensor of three numbers."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Precision belongs to the candidate: for each row, the largest cosine. Recall does the same with columns.",
        "`cosines.amax(1)` has one number per candidate token. Multiply by the weights, sum, divide by the sum of the weights.",
    ),
    solution=my_bertscore,
    peer=_bertscore_peer,
    cases=(
        (_t([0.8, 0.96, 0.6], [0.6, 1.0, 0.8], [0.0, -0.8, -1.0]), _t(1, 1, 1), _t(1, 1, 1)),
        (_t([0.9, 0.1, 0.3], [0.2, 0.5, 0.4]), _t(0.5, 2.0), _t(1.0, 0.0, 3.0)),
    ),
    wrong=(
        Wrong(
            lambda cosines, cw, rw: my_bertscore(cosines, cw, rw)[[1, 0, 2]],
            "precision and recall are swapped. Precision asks of each candidate token, a row, whether the reference has it.",
        ),
        Wrong(
            _arithmetic,
            "F1 is the harmonic mean, 2PR / (P + R): it stays near the smaller of the two. Yours is the plain mean.",
        ),
        Wrong(
            lambda cosines, cw, rw: _scored(cosines, cw, rw, lambda table, axis: table.mean(axis)),
            "you average over all partners. Each token counts only its nearest one: the maximum.",
        ),
        Wrong(
            _without_weights,
            "the matching is right, but the weights are not used. Multiply each token's best cosine by its weight.",
        ),
        Wrong(
            _not_normalised,
            "you forgot to divide by the sum of the weights, so a longer text scores higher.",
        ),
        Wrong(
            _weights_first,
            "you weigh before the maximum, so that weights decide who is nearest. Match by cosine, then weigh.",
        ),
    ),
)


NEGATIONS = {"not", "no", "never", "nobody", "nothing", "none", "neither", "nor", "without"}
HELPERS = {"do", "does", "did", "a", "an", "any", "some", "ever"}  # come and go with a negation
SPELLED_OUT = {"won't": "will not", "can't": "can not", "cannot": "can not", "n't": " not"}


def my_denial():
    """A statement and its denial, as two strings."""
    return (
        "The medicine is safe for children under six years of age.",
        "The medicine is not safe for children under six years of age.",
    )


def _words(sentence):
    """How many words of negation a sentence has, and the stems of its other words."""
    sentence = sentence.lower().replace("’", "'")
    for short, long in SPELLED_OUT.items():
        sentence = sentence.replace(short, long)
    words = Counter(re.findall(r"\w+", sentence))
    content = Counter(stem(word) for word in words.elements() if word not in NEGATIONS | HELPERS)
    return sum(words[word] for word in NEGATIONS), content


@cache
def _minilm():
    return load_sentence_encoder(MINILM)


def _verify_denial(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2 or not all(isinstance(text, str) for text in answer):
        return "return two strings, the statement and its denial: `return statement, denial`."
    (negations, content), (denials, denied) = map(_words, answer)
    if abs(negations - denials) != 1:
        return (
            f"the texts have {negations} and {denials} words of negation. One of them must have exactly one more "
            "(not, no, never, nobody, ...): two of them cancel, none denies nothing."
        )
    if content != denied:
        changed = sorted(((content - denied) + (denied - content)).keys())
        return f"more than the negation changed (stems: {', '.join(changed)}). Deny the statement, and leave the rest."
    score = float(semantic_similarity(_minilm(), answer[:1], answer[1:])[0])
    if score <= 0.9:
        return f"a denial, but {MINILM} gives it {score:.2f}. The negation must weigh less: what if the sentence had more content?"
    return None


DENIAL = Exercise(
    id="break-cosine-negation",
    title="A denial above 0.9",
    prompt=(
        "A fact check lets an answer pass if its cosine with a verified statement is above 0.9. Write `my_denial()`: a "
        "statement and its denial, equal but for one word of negation (and what grammar asks for with it), that pass. The "
        "check encodes them with all-MiniLM-L6-v2, whatever encoder this notebook runs on."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The embedding is a mean over tokens. In a short sentence *not* is a large part of it. And in a long one?",
        "Deny the verb *is*, and put what the sentence is about behind it: for whom, from when, where, how much.",
    ),
    solution=my_denial,
    verify=_verify_denial,
    wrong=(
        Wrong(
            lambda: "The bridge is not safe.",
            "return two strings, the statement and its denial: `return statement, denial`.",
        ),
        Wrong(
            lambda: ("The bridge over the river is safe.", "The bridge over the river is safe."),
            "the texts have 0 and 0 words of negation. One of them must have exactly one more "
            "(not, no, never, nobody, ...): two of them cancel, none denies nothing.",
        ),
        Wrong(
            lambda: ("The bridge is safe.", "Nobody never said that the bridge is safe."),
            "the texts have 0 and 2 words of negation. One of them must have exactly one more "
            "(not, no, never, nobody, ...): two of them cancel, none denies nothing.",
        ),
        Wrong(
            lambda: ("The bridge is safe.", "The bridge is not dangerous."),
            "more than the negation changed (stems: danger, safe). Deny the statement, and leave the rest.",
        ),
        Wrong(
            lambda: ("He won.", "He never won."),
            "a denial, but all-MiniLM-L6-v2 gives it 0.69. The negation must weigh less: what if the sentence had more content?",
        ),
    ),
)

EXERCISES = (COSINES, THRESHOLD, BERTSCORE, DENIAL)
