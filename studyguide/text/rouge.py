"""ROUGE: how much of a reference text comes back in a summary, in n-grams or in order.

Scores lie in [0, 1]. Each function takes one hypothesis and the list of its references; `corpus_rouge` takes many.

Tokens: `tokenize` names a tokenizer of `studyguide.text.ngrams`. The default, "unicode", keeps the words of every script;
"rouge" is that of rouge-score, which keeps [a-z0-9]+ and nothing else. `stem=True` replaces words of more than three
characters by their Porter stem.

Several references: `reduce="max"` takes the score with the best F1, of equal ones the first, as rouge-score does;
"mean" takes the mean of each number.

Convention: what has no n-gram scores 0, an empty text against an empty one too. Errors: a string where a list of
references is wanted, no reference, an unknown tokenizer.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from math import fsum
from operator import attrgetter

from studyguide.probability.validation import one_of, positive_integer
from studyguide.text import ngrams


@dataclass(frozen=True)
class RougeScore:
    """Precision, the share of the hypothesis that was matched; recall, that of the reference; and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def rouge_n(hypothesis, references, n=1, *, tokenize="unicode", stem=False, reduce="max"):
    """The n-grams that a hypothesis shares with its reference, each counted as often as both have it.

    Returns a `RougeScore`. Errors and conventions: see the module; n below 1.
    Source: Lin (2004), "ROUGE: a package for automatic evaluation of summaries", section 2.

    >>> rouge_n("the cat", ["the cat sat on the mat in a hat"], n=2)
    RougeScore(precision=1.0, recall=0.125, f1=0.2222222222222222)
    """
    n = positive_integer("n", n)
    return _one(hypothesis, references, f"rouge{n}", tokenize, stem, reduce)


def rouge_l(hypothesis, references, *, tokenize="unicode", stem=False, reduce="max"):
    """The longest common subsequence of a hypothesis and its reference: matches in the same order, with gaps.

    Returns a `RougeScore`. Errors and conventions: see the module; the F1 is the harmonic mean, as in rouge-score, where
    the paper weighs recall by a beta.
    Source: Lin (2004), section 3.1.

    >>> rouge_l("the cat sat", ["a cat, we saw, sat"]).f1
    0.5
    """
    return _one(hypothesis, references, "rougeL", tokenize, stem, reduce)


def rouge_lsum(hypothesis, references, *, tokenize="unicode", stem=False, reduce="max"):
    """ROUGE-L of a text of several lines: each line of the reference is matched with all lines of the hypothesis.

    Returns a `RougeScore`. Errors and conventions: see the module. Lines end in a newline; sentences are not searched for,
    and without newlines this is `rouge_l`. A word of the hypothesis counts once, as in rouge-score and ROUGE-1.5.5.
    Of several subsequences of equal length, the one that rouge-score traces back.
    Source: Lin (2004), section 3.2.

    >>> rouge_lsum("the sun set\\nthe cat sat", ["the cat sat\\nthe sun set"]).f1
    1.0
    """
    return _one(hypothesis, references, "rougeLsum", tokenize, stem, reduce)


def corpus_rouge(
    hypotheses, references, kinds=("rouge1", "rouge2", "rougeL"), *, tokenize="unicode", stem=False, reduce="max"
):
    """The mean ROUGE over many texts, as {kind: RougeScore}; each number is the mean of that number.

    `hypotheses` is a list of strings, `references` a list of references for each; `kinds` are "rouge1", "rouge2" and so
    on, "rougeL" and "rougeLsum". Errors: see the module; unequal lengths, no text, an unknown kind.

    >>> corpus_rouge(["a b", "c"], [["a b"], ["d"]], ["rouge1"])
    {'rouge1': RougeScore(precision=0.5, recall=0.5, f1=0.5)}
    """
    hypotheses, references = ngrams.check_corpus(hypotheses, references)
    rows = _scores(hypotheses, references, kinds, tokenize, stem, reduce)
    return {kind: _mean(scores) for kind, scores in zip(kinds, zip(*rows, strict=True), strict=True)}


def lcs_length(a, b):
    """Length of the longest common subsequence of two sequences.

    Convention: a subsequence may leave gaps, a substring may not. Time: len(b) operations on integers of len(a) bits.
    Source: Hyyrö (2004), "Bit-parallel LCS-length computation revisited".

    >>> lcs_length("the cat sat on the mat".split(), "a cat on a mat".split())
    3
    """
    column = every = (1 << len(a)) - 1
    for places in filter(None, map(_places(a).get, b)):
        matches = column & places
        column = column + matches | column - matches  # a carry may leave bits beyond `every`; nothing reads them
    return len(a) - (column & every).bit_count()


def lcs_table(a, b):
    """The table behind the longest common subsequence, for drawing: entry [i][j] is its length for a[:i] and b[:j].

    A list of len(a) + 1 rows of len(b) + 1 integers; the last entry is `lcs_length(a, b)`. Time: len(a) * len(b).
    Source: Wagner and Fischer (1974), "The string-to-string correction problem".

    >>> lcs_table("ab", "b")
    [[0, 0], [0, 0], [0, 1]]
    """
    rows = [[0] * (len(b) + 1)]
    for x in a:
        above, row = rows[-1], [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
        rows.append(row)
    return rows


def _places(sequence):
    """{item: an integer whose bit i is 1 where the sequence has the item at position i}."""
    places, bit = {}, 1
    for item in sequence:
        places[item] = places.get(item, 0) | bit
        bit <<= 1
    return places


def _lcs_positions(a, b):
    """The positions in `a` of one longest common subsequence."""
    places, column = _places(a), (1 << len(a)) - 1
    columns = [column]  # of the table, one for each prefix of b: bit i is 0 where the entry grows from row i to i + 1
    for y in b:
        matches = column & places.get(y, 0)
        column = column + matches | column - matches
        columns.append(column)
    found, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif columns[j] >> i - 1 & 1:
            i -= 1
        else:
            j -= 1
    return found


def _one(hypothesis, references, kind, tokenize, stem, reduce):
    hypothesis, references = ngrams.check_text(hypothesis, references)
    [[score]] = _scores([hypothesis], [references], [kind], tokenize, stem, reduce)
    return score


def _scores(hypotheses, references, kinds, tokenize, stem, reduce):
    """For each text, its score of each kind."""
    one_of("reduce", reduce, ("max", "mean"))
    if isinstance(kinds, str) or not kinds:
        raise TypeError(f'kinds is {kinds!r}; expected a list such as ["rouge1", "rougeL"]')
    for kind in kinds:
        if not re.fullmatch("rouge([1-9][0-9]*|L|Lsum)", kind):
            raise ValueError(f"kinds contains {kind!r}; expected rouge1, rouge2, ..., rougeL or rougeLsum")

    split = partial(ngrams.tokenize, tokenizer=tokenize, stem=stem)
    best = _mean if reduce == "mean" else partial(max, key=attrgetter("f1"))
    compare = [COMPARE.get(kind, _overlap) for kind in kinds]
    for hypothesis, others in zip(hypotheses, references, strict=True):
        own, *theirs = (_views(text, kinds, split) for text in (hypothesis, *others))
        yield [best([compare[k](own[k], other[k]) for other in theirs]) for k in range(len(kinds))]


def _views(text, kinds, split):
    """What each kind compares of a text: its words, the words of each line, or counted n-grams."""
    words, views = split(text), []
    for kind in kinds:
        if kind == "rougeL":
            views.append(words)
        elif kind == "rougeLsum":
            views.append([split(line) for line in text.split("\n")])
        else:
            views.append(Counter(words) if kind == "rouge1" else ngrams.count_ngrams(words, int(kind[5:])))
    return views


def _overlap(hypothesis, reference):
    common = hypothesis.keys() & reference.keys()
    totals = hypothesis.total(), reference.total()
    if len(hypothesis) == totals[0] or len(reference) == totals[1]:  # one side repeats nothing: each match counts once
        return _score(len(common), *totals)
    return _score(sum(min(hypothesis[gram], reference[gram]) for gram in common), *totals)


def _subsequence(hypothesis, reference):
    return _score(lcs_length(reference, hypothesis), len(hypothesis), len(reference))


def _union(hypothesis, reference):
    """Hits are the words of the reference's lines that are in a longest subsequence with any line of the hypothesis."""
    said = Counter(word for line in hypothesis for word in line)
    found = []
    for line in reference:
        positions = {i for other in hypothesis for i in _lcs_positions(line, other)}
        found += [line[i] for i in positions]
    hits = (said & Counter(found)).total()
    return _score(hits, said.total(), sum(map(len, reference)))


def _score(hits, hypothesis_total, reference_total):
    if not hits:
        return RougeScore(0.0, 0.0, 0.0)
    precision, recall = hits / hypothesis_total, hits / reference_total
    return RougeScore(precision, recall, 2 * precision * recall / (precision + recall))


def _mean(scores):
    numbers = zip(*((score.precision, score.recall, score.f1) for score in scores), strict=True)
    return RougeScore(*(fsum(values) / len(values) for values in numbers))


COMPARE = {"rougeL": _subsequence, "rougeLsum": _union}
