"""Scores from edits, for texts of which little may differ: TER for translations, word error rate for transcripts, and
SQuAD's exact match and F1 for short answers.
"""

import math
import re
import string
from dataclasses import dataclass

from studyguide.text.ngrams import check_corpus, count_ngrams

# Tercom's limits, and sacrebleu's on the number of shifts tried for one text.
LONGEST_SHIFT, FARTHEST_SHIFT, BEAM, MOST_SHIFTS = 10, 50, 25, 1000


@dataclass(frozen=True)
class SquadScore:
    """The share of answers that are exactly right, and the mean F1 of their words, both in percent."""

    exact_match: float
    f1: float


def ter(hypotheses, references, *, lowercase=True):
    """Translation edit rate: words to insert, delete, replace or shift, per 100 words of the reference.

    `hypotheses` is a list of strings, `references` a list of references for each. 0 is perfect; above 100 is possible.
    Words are split at blanks, punctuation stays with them. A shift moves any run of words at the price of one edit.
    Errors: a flat list of references, unequal lengths, no text.
    Convention: per text the reference with the fewest edits counts, divided by their mean length; both are summed over the
    corpus. Where all references are empty: 100, or 0 if the hypotheses are empty, too. The best series of shifts is searched
    for greedily and within Tercom's limits, as in sacrebleu.
    Source: Snover et al. (2006), "A study of translation edit rate with targeted human annotation".

    >>> ter(["sat on the mat the cat", "a dog"], [["the cat sat on the mat"], ["a dog"]])
    12.5
    """
    edits, length = 0, 0.0
    for hypothesis, others in zip(*check_corpus(hypotheses, references), strict=True):
        words, *others = ((text.lower() if lowercase else text).split() for text in (hypothesis, *others))
        edits += min(_shifts_and_edits(words, other) for other in others)
        length += sum(map(len, others)) / len(others)
    return 100 * edits / length if length else 100.0 * (edits > 0)


def word_error_rate(hypotheses, references):
    """Words to insert, delete or replace, per word of the reference, over a whole corpus.

    Both are lists of strings: a transcript has one reference. 0 is perfect; above 1 is possible. Words are split at
    blanks; case and punctuation count, so normalise both sides first.
    Errors: unequal lengths, no text, lists of references, references without a word.
    Source: the edit distance of Levenshtein (1966), over words.

    >>> word_error_rate(["the cat sit"], ["the cat sat down"])
    0.5
    """
    if not isinstance(references, str):
        references = [[text] for text in references]
    hypotheses, references = check_corpus(hypotheses, references)
    pairs = [(text.split(), other.split()) for text, [other] in zip(hypotheses, references, strict=True)]
    words = sum(len(other) for _, other in pairs)
    if not words:
        raise ValueError("references contain no word; the error rate is undefined")
    return sum(edit_distance(text, other) for text, other in pairs) / words


def squad_em_f1(predictions, references):
    """Exact match and word F1 of short answers, each the mean over questions of the best of several right answers.

    `predictions` is a list of strings, `references` a list of right answers for each. Returns a `SquadScore`, in percent.
    Answers are compared lower-cased, without ASCII punctuation and without the words a, an, the.
    Errors: a flat list of references, unequal lengths, no text.
    Convention: if nothing is left of one of the two answers, F1 is 1 if nothing is left of the other.
    Source: Rajpurkar et al. (2016), "SQuAD: 100,000+ questions for machine comprehension of text", section 6.1.

    >>> squad_em_f1(["The cat!", "a black cat"], [["cat"], ["cat", "dog"]])
    SquadScore(exact_match=50.0, f1=83.33333333333333)
    """
    exact, f1 = [], []
    for prediction, answers in zip(*check_corpus(predictions, references), strict=True):
        words, *answers = map(_answer_words, (prediction, *answers))
        exact.append(words in answers)
        f1.append(max(_word_f1(words, answer) for answer in answers))
    return SquadScore(100 * sum(exact) / len(exact), 100 * math.fsum(f1) / len(f1))


def edit_distance(a, b):
    """The fewest insertions, deletions and replacements that turn one sequence into the other.

    Time: len(b) operations on integers of len(a) bits.
    Source: Hyyrö (2003), "A bit-vector algorithm for computing Levenshtein and Damerau edit distances", after Myers (1999).

    >>> edit_distance("kitten", "sitting")
    3
    """
    where = {}
    for i, x in enumerate(a):
        where[x] = where.get(x, 0) | 1 << i
    every, last = (1 << len(a)) - 1, 1 << len(a) >> 1
    up, down, distance = every, 0, len(a)  # bit i: from row i to i + 1 of a column the distance grows, shrinks
    for y in b:
        matches = where.get(y, 0)
        diagonal = ((matches & up) + up ^ up) | matches | down  # bit i: no edit from (i, j) to (i + 1, j + 1)
        grows, shrinks = down | ~(diagonal | up) & every, diagonal & up
        distance += bool(grows & last) - bool(shrinks & last) if a else 1
        grows, shrinks = grows << 1 | 1, shrinks << 1
        up, down = (shrinks | ~(diagonal | grows)) & every, grows & diagonal & every
    return distance


def _answer_words(text):
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def _word_f1(words, answer):
    if not words or not answer:
        return float(words == answer)
    common = (count_ngrams(words, 1) & count_ngrams(answer, 1)).total()
    return 2 * common / (len(words) + len(answer))


def _shifts_and_edits(words, reference):
    """The edits that TER counts for one text: shifts while they help, the best one first, then the edit distance."""
    if not reference:
        return len(words)
    shifts, tried = 0, 0
    while True:
        rows = _edit_rows(words, reference, [list(range(len(reference) + 1))])
        distance, best = rows[-1][-1], None
        for start, length, target in _shifts(words, reference, *_alignment(words, reference, rows)):
            tried += 1
            if tried == MOST_SHIFTS:
                return shifts + distance
            rest = words[:start] + words[start + length :]
            at = target - length if target > start + length else target
            candidate = rest[:at] + words[start : start + length] + rest[at:]
            left = _edit_rows(candidate, reference, rows[: min(start, at) + 1])[-1][-1]
            if left < distance:
                rank = (left, -length, start, target)  # of equal gain: the longest, the earliest, to the earliest place
                best = min(best or (rank, candidate), (rank, candidate))
        if best is None:
            return shifts + distance
        shifts, words = shifts + 1, best[1]


def _edit_rows(words, reference, rows):
    """The table of edit distances, continued from its first rows; outside a band around the diagonal it is inf."""
    slope = len(reference) / max(len(words), 1)
    width = BEAM if slope <= 2 * BEAM else math.ceil(slope / 2 + BEAM)
    rows = list(rows)
    for i in range(len(rows), len(words) + 1):
        middle = math.floor(i * slope)
        end = len(reference) + 1 if i == len(words) else min(len(reference) + 1, middle + width)
        above, row, left = rows[-1], [math.inf] * (len(reference) + 1), math.inf
        for j in range(max(0, middle - width), end):
            replaced = above[j - 1] + (words[i - 1] != reference[j - 1]) if j else math.inf
            row[j] = left = min(replaced, above[j] + 1, left + 1)
        rows.append(row)
    return rows


def _alignment(words, reference, rows):
    """Which words, and which words of the reference, an edit touches; and the last word up to each of the reference's."""
    wrong, missed, position = [True] * len(words), [True] * len(reference), [0] * len(reference)
    i, j = len(words), len(reference)
    while i or j:
        differ = i and j and words[i - 1] != reference[j - 1]
        if i and j and rows[i][j] == rows[i - 1][j - 1] + differ:
            i, j = i - 1, j - 1
            wrong[i], missed[j], position[j] = differ, differ, i
        elif i and rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
            position[j] = i - 1
    return wrong, missed, position


def _shifts(words, reference, wrong, missed, position):
    """The shifts worth a try, as (start, length, target): runs of the reference's words that are out of place."""
    for start in range(len(words)):
        for goal in range(max(0, start - FARTHEST_SHIFT), min(len(reference), start + FARTHEST_SHIFT + 1)):
            for length in range(1, LONGEST_SHIFT + 1):
                stop, end = start + length, goal + length
                if stop > len(words) or end > len(reference) or words[stop - 1] != reference[end - 1]:
                    break
                if any(wrong[start:stop]) and any(missed[goal:end]) and not start <= position[goal] < stop:
                    before = position[goal - 1] + 1 if goal else 0
                    for target in dict.fromkeys([before, *(at + 1 for at in position[goal:end])]):
                        yield start, length, target
