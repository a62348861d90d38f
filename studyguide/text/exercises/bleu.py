"""Exercises of notebook 4.1, BLEU."""

import math
from bisect import bisect_left
from collections import Counter

import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.text.bleu import sentence_bleu
from studyguide.text.ngrams import count_ngrams, tokenize


def my_clipped_precision(hypothesis, references, n):
    """Share of the n-grams of the hypothesis that a reference holds, each counted as often as there at most.

    hypothesis is a list of tokens, references a list of such lists. Returns a number from 0 to 1.
    """
    counts = count_ngrams(hypothesis, n)
    allowed = count_ngrams([], n)
    for reference in references:
        allowed |= count_ngrams(reference, n)
    return (counts & allowed).total() / max(counts.total(), 1)


def _clipped_peer(hypothesis, references, n):
    from nltk.translate.bleu_score import modified_precision

    return float(modified_precision(references, hypothesis, n))


def _precision(hypothesis, references, n, clip, total=Counter.total):
    """Precision with another rule for what an n-gram may count, given its count and those in the references."""
    counts = count_ngrams(hypothesis, n)
    others = [count_ngrams(reference, n) for reference in references]
    matched = sum(clip(count, [other[gram] for other in others]) for gram, count in counts.items())
    return matched / max(total(counts), 1)


def _words(text):
    return text.split()


_THE = _words("the the the cat the")
_MATS = [_words("the cat is on the mat"), _words("there is a cat on the mat")]

CLIPPED = Exercise(
    id="clipped-precision",
    title="Clipped precision",
    prompt=(
        "Write `my_clipped_precision(hypothesis, references, n)`: of the n-grams of the hypothesis, the share that the references "
        "hold. An n-gram counts at most as often as in the one reference that has it most often. The texts are lists of tokens. A "
        "hypothesis without any n-gram of this order gets 0."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "`count_ngrams(tokens, n)` gives a Counter. For each n-gram of the hypothesis, take the smaller of its own count and the largest "
        "count in any reference.",
        "Counters can do it: `a | b` keeps the larger counts, `a & b` the smaller ones, and `.total()` adds them up.",
    ),
    solution=my_clipped_precision,
    peer=_clipped_peer,
    cases=(
        (_THE, _MATS, 1),
        (_THE, _MATS, 2),
        (_words("a cat is on a cat"), [_words("a cat is here"), _words("there on a mat is a cat")], 1),
        (_words("a cat is on a cat"), [_words("a cat is here"), _words("there on a mat is a cat")], 2),
        (_words("a cat"), [_words("a cat")], 3),
        (_words("on the mat"), [_words("on the mat")], 3),
    ),
    wrong=(
        Wrong(
            lambda h, r, n: _precision(h, r, n, lambda count, others: count if max(others) else 0),
            "you do not clip: each 'the' counts, however often it is repeated. Take min(count, largest count in a reference).",
        ),
        Wrong(
            lambda h, r, n: _precision(h, r, n, lambda count, others: min(count, sum(others))),
            "you add up the counts of the references. The limit is the count in the one reference that has most: a maximum.",
        ),
        Wrong(
            lambda h, r, n: _precision(h, r[:1], n, lambda count, others: min(count, max(others))),
            "you look at the first reference only. An n-gram may be in any of them.",
        ),
        Wrong(
            lambda h, r, n: max(_precision(h, [one], n, lambda count, others: min(count, max(others))) for one in r),
            "you score against each reference and keep the best. The maximum is taken for each n-gram, not for the whole text.",
        ),
        Wrong(
            lambda h, r, n: _precision(h, r, n, lambda count, others: max(others) > 0, len),
            "you count each different n-gram once. Repetitions count, in the text and, up to the limit, in the matches.",
        ),
        Wrong(
            lambda h, r, n: (
                (count_ngrams(h, n) & count_ngrams(r[0], n)).total() / max(count_ngrams(r[0], n).total(), 1)
            ),
            "you divide by the n-grams of the reference, which is recall. Precision divides by those of the hypothesis.",
        ),
        Wrong(
            lambda h, r, n: my_clipped_precision(h, r, n) if len(h) >= n else 1.0,
            "a text without n-grams of this order has matched nothing. Return 0 for it.",
        ),
    ),
)


def my_brevity_penalty(length, reference_lengths):
    """Brevity penalty of a hypothesis of `length` tokens whose references have these lengths.

    Returns a number from 0 to 1.
    """
    closest = min(reference_lengths, key=lambda other: (abs(other - length), other))
    if length >= closest:
        return 1.0
    return math.exp(1 - closest / length) if length else 0.0


def _penalty_peer(length, reference_lengths):
    from nltk.translate.bleu_score import brevity_penalty, closest_ref_length

    return brevity_penalty(closest_ref_length([["x"] * other for other in reference_lengths], length), length)


def _penalty(length, closest, otherwise=1.0):
    return otherwise if length >= closest else math.exp(1 - closest / length) if length else 0.0


BREVITY = Exercise(
    id="brevity-penalty",
    title="Brevity penalty",
    prompt=(
        "Write `my_brevity_penalty(length, reference_lengths)`. The reference that counts is the one closest in length, of two equally "
        "close ones the shorter. A hypothesis shorter than it gets exp(1 - r / h), another one 1, an empty one 0."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "`min(..., key=...)` may compare tuples: first the distance, then the length itself.",
        "Ask about the empty hypothesis before you divide by its length.",
    ),
    solution=my_brevity_penalty,
    peer=_penalty_peer,
    cases=((5, (6, 4)), (5, (4, 6)), (19, (35,)), (18, (35, 40)), (12, (10,)), (9, (3, 12)), (7, (7,)), (0, (3, 5))),
    wrong=(
        Wrong(
            lambda h, lengths: _penalty(h, min(lengths, key=lambda other: abs(other - h))),
            "with references of 6 and 4 tokens you take the one listed first. Break the tie by the length: the shorter counts.",
        ),
        Wrong(
            lambda h, lengths: _penalty(h, min(lengths)),
            "you take the shortest reference. The closest in length counts; the shorter one only breaks a tie.",
        ),
        Wrong(
            lambda h, lengths: _penalty(h, max(lengths)),
            "you take the longest reference. The closest in length counts.",
        ),
        Wrong(
            lambda h, lengths: _penalty(h, sum(lengths) / len(lengths)),
            "you take the mean length. BLEU takes the closest reference.",
        ),
        Wrong(
            lambda h, lengths: min(1, h / min(lengths, key=lambda other: (abs(other - h), other))),
            "this is the ratio of the lengths. The penalty is exp(1 - r / h), which falls faster.",
        ),
        Wrong(
            lambda h, lengths: math.exp(1 - max(r := min(lengths, key=lambda o: (abs(o - h), o)), h) / r) if h else 0.0,
            "you punish long texts and spare short ones. Too long is what precision already punishes.",
        ),
        Wrong(
            lambda h, lengths: _penalty(h, min(lengths, key=lambda o: (abs(o - h), o))) if h else 1 / h,
            "right, but an empty hypothesis divides by zero. It has said nothing: return 0 for it.",
        ),
    ),
)


def my_corpus_bleu(rows):
    """Corpus BLEU, 0 to 100, without smoothing.

    rows is an integer tensor (texts, 10) as `bleu_statistics` gives it: length of the hypothesis, length of the closest
    reference, matches of order 1 to 4, n-grams of order 1 to 4.
    """
    h, r, *counts = rows.sum(0).tolist()
    matches, totals = counts[:4], counts[4:]
    if 0 in matches:
        return 0.0
    penalty = 1.0 if h >= r else math.exp(1 - r / h)
    return 100 * penalty * math.prod(m / t for m, t in zip(matches, totals, strict=True)) ** 0.25


def _corpus_peer(rows):
    from sacrebleu.metrics import BLEU

    h, r, *counts = rows.sum(0).tolist()
    return BLEU.compute_bleu(counts[:4], counts[4:], h, r).score


def _from_sums(sums, combine=lambda precisions: math.prod(precisions) ** 0.25, scale=100, penalised=True):
    h, r, *counts = sums.tolist()
    precisions = [m / t if t else 0 for m, t in zip(counts[:4], counts[4:], strict=True)]
    if 0 in precisions:
        return 0.0
    return scale * (math.exp(min(0, 1 - r / h)) if penalised else 1) * combine(precisions)


def _mean_precisions(rows):
    precisions = (rows[:, 2:6] / rows[:, 6:].clamp(min=1)).double().mean(0)
    h, r = rows[:, :2].sum(0).tolist()
    return 100 * math.exp(min(0, 1 - r / h)) * precisions.prod().item() ** 0.25


CORPUS = Exercise(
    id="corpus-bleu-from-counts",
    title="Corpus BLEU from counts",
    prompt=(
        "Write `my_corpus_bleu(rows)`: BLEU of a whole corpus from the counts of its texts, a row each: length of the hypothesis, length of "
        "the closest reference, matches of order 1 to 4, n-grams of order 1 to 4. The result is 0 to 100, and 0 if an order has no match."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "What is added up, and when do you divide? One sum over the texts comes first: `rows.sum(0)`.",
        "From the ten sums: four precisions, their product to the power 1/4, and one brevity penalty from the two summed lengths.",
    ),
    solution=my_corpus_bleu,
    peer=_corpus_peer,
    cases=(
        (
            torch.tensor(
                [[8, 8, 8, 7, 6, 5, 8, 7, 6, 5], [10, 11, 8, 6, 4, 2, 10, 9, 8, 7], [3, 3, 3, 2, 1, 0, 3, 2, 1, 0]]
            ),
        ),
        (torch.tensor([[6, 6, 5, 3, 2, 1, 6, 5, 4, 3]]),),
        (torch.tensor([[9, 6, 5, 3, 2, 1, 9, 8, 7, 6], [4, 9, 4, 3, 2, 1, 4, 3, 2, 1]]),),
        (torch.tensor([[5, 5, 3, 1, 0, 0, 5, 4, 3, 2], [5, 6, 4, 2, 1, 0, 5, 4, 3, 2]]),),
    ),
    wrong=(
        Wrong(
            lambda rows: sum(map(_from_sums, rows)) / len(rows),
            "you average the scores of single texts: a short one without a 4-gram pulls with a whole 0. Add the counts first, divide once.",
        ),
        Wrong(
            _mean_precisions,
            "you average the precisions of the texts. A long text has more n-grams and must count for more: add the counts first.",
        ),
        Wrong(
            lambda rows: _from_sums(rows.sum(0), lambda precisions: sum(precisions) / 4),
            "this is the arithmetic mean of the precisions. BLEU takes the geometric one: the product to the power 1/4.",
        ),
        Wrong(
            lambda rows: _from_sums(rows.sum(0), math.prod),
            "you multiply the precisions and stop there. The geometric mean is the fourth root of the product.",
        ),
        Wrong(
            lambda rows: _from_sums(rows.sum(0), lambda precisions: precisions[3]),
            "this is the precision of 4-grams alone. BLEU-4 is the geometric mean of all four orders.",
        ),
        Wrong(
            lambda rows: _from_sums(rows.sum(0), scale=1),
            "right, but from 0 to 1. This function returns 0 to 100.",
        ),
        Wrong(
            lambda rows: _from_sums(rows.sum(0), penalised=False),
            "you left out the brevity penalty: exp(1 - r / h) where the summed hypotheses are shorter than the summed references.",
        ),
    ),
)

LEAFLET = "Take two tablets every morning with water, never drive after the dose and call us if dizzy."


def my_nonsense():
    """A text that nobody can follow and that BLEU likes."""
    return "dose and call us if dizzy. every morning with water, never drive after the Take two tablets"


def _verify_nonsense(answer):
    if not isinstance(answer, str) or not answer.strip():
        return "return one text, a string that is not empty."
    tokens, reference = tokenize(answer), tokenize(LEAFLET)
    score = sentence_bleu(answer, [LEAFLET]).score
    if score <= 50:
        return f"BLEU is {score:.1f}. Which pieces of the leaflet can stay whole? Four neighbours that stay together count in all four orders."
    ends = []  # of rising runs of places: as many as words stand in the leaflet's order
    for place in (reference.index(token) for token in tokens if token in reference):
        ends[bisect_left(ends, place) : bisect_left(ends, place) + 1] = [place]
    if len(ends) > len(tokens) / 2:
        return (
            f"BLEU is {score:.1f}, but {len(ends)} of your {len(tokens)} tokens come in the leaflet's order, so that a patient may still "
            "understand it. Let it be half of them at most."
        )
    return None


NONSENSE = Exercise(
    id="break-bleu",
    title="Nonsense that BLEU likes",
    prompt=(
        f'A leaflet says: "{LEAFLET}" Write `my_nonsense()`: a text whose BLEU against it is above 50 although no patient should read it. To make sure of '
        "that, at most half of its tokens may come in the order of the leaflet (the longest common subsequence)."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "BLEU knows neighbours, up to four at a time. It does not know where in the text they stand.",
        "Cut the leaflet into a few pieces and change their order. Each cut costs one 2-gram, two 3-grams and three 4-grams.",
    ),
    solution=my_nonsense,
    verify=_verify_nonsense,
    wrong=(
        Wrong(
            lambda: LEAFLET,
            "BLEU is 100.0, but 19 of your 19 tokens come in the leaflet's order, so that a patient may still understand it. Let it be half of them at most.",
        ),
        Wrong(
            lambda: "never drive after the dose and call us if dizzy. Take two tablets every morning with water,",
            "BLEU is 90.7, but 11 of your 19 tokens come in the leaflet's order, so that a patient may still understand it. Let it be half of them at most.",
        ),
        Wrong(
            lambda: " ".join(reversed(LEAFLET.split())),
            "BLEU is 8.5. Which pieces of the leaflet can stay whole? Four neighbours that stay together count in all four orders.",
        ),
        Wrong(
            lambda: "Take two tablets never drive",
            "BLEU is 3.0. Which pieces of the leaflet can stay whole? Four neighbours that stay together count in all four orders.",
        ),
        Wrong(lambda: "", "return one text, a string that is not empty."),
    ),
)

EXERCISES = (CLIPPED, BREVITY, CORPUS, NONSENSE)
