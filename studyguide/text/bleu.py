"""BLEU: how many of the n-grams of a text its references hold, and how far it falls short of their length.

    BLEU = 100 * brevity penalty * (p1 * p2 * p3 * p4) ** (1 / 4)

p_n is the share of the n-grams that a reference holds too; an n-gram counts no more often than in the reference that
has it most often (it is clipped). The brevity penalty is 1, or exp(1 - r / h) where the h tokens are fewer than the r
of the references closest in length. Over a corpus all counts are added first and divided once.

Conventions, those of sacrebleu: scores and precisions are 0 to 100. Of two references equally close in length the shorter
counts. Without any match the score is 0, whatever the smoothing, and so are all precisions; an empty text matches
nothing. Smoothing changes what is made of p_n where no n-gram of order n matches:

- "exp": 1 / (2 * total) for the first such order, then 1 / (4 * total), and so on (mteval's);
- "floor": 0.1 / total; "add-k": for orders above 1, matches and totals are 1 more, whether there is a match or not;
- "none": 0, and so is the score.

A corpus all of whose texts are shorter than 4 tokens has no 4-grams: p4 is 0 / 0 and its BLEU 0 (with add-k, p4 is 1 / 1).
A sentence is scored by the orders that it has (effective order).

Errors: what `check_corpus` refuses; another tokenizer or smoothing than named; max_order below 1.
Source: Papineni et al. (2002), "BLEU: a method for automatic evaluation of machine translation"; smoothing: Chen and
Cherry (2014); conventions: Post (2018), "A call for clarity in reporting BLEU scores".
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np
import torch

from studyguide.probability.validation import numpy_generator, one_of, open_fraction, positive_integer
from studyguide.statistics.intervals import Interval
from studyguide.text import ngrams

SMOOTHINGS = ("exp", "none", "floor", "add-k")
BLOCK = 256  # texts whose n-grams are sorted at a time: they stay in the cache
LARGEST = 2**62  # number of an n-gram: above, n-grams are numbered anew
DRAWS = 2**20  # texts drawn at a time, in resamples and exchanges


@dataclass(frozen=True)
class BleuScore:
    """A BLEU score and what it is made of; the lists have one entry per order."""

    score: float  # 0 to 100
    precisions: list[float]  # 0 to 100, after smoothing
    counts: list[int]  # n-grams that match, clipped
    totals: list[int]  # n-grams of the hypotheses
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int  # of the references closest in length
    signature: str  # how the score was made; give it with every score

    def __str__(self):
        return (
            f"BLEU {self.score:.2f} = {self.brevity_penalty:.3f} x "
            f"({' '.join(f'{precision:.1f}' for precision in self.precisions)}), "
            f"{self.hypothesis_length} tokens for {self.reference_length}  [{self.signature}]"
        )


def corpus_bleu(hypotheses, references, tokenize="13a", smoothing="exp", max_order=4, lowercase=False):
    """BLEU of a corpus, a `BleuScore`: `references` holds, for each hypothesis, a list of one or more texts.

    Conventions, errors and sources: see the module. `tokenize` names a tokenizer of `ngrams.tokenize`.

    >>> print(corpus_bleu(["the cat sat on a mat"], [["the cat sat on the mat"]]))
    BLEU 53.73 = 1.000 x (83.3 60.0 50.0 33.3), 6 tokens for 6  [nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|order:4]
    """
    bleu = Bleu(tokenize, smoothing, max_order, lowercase)
    bleu.update(hypotheses, references)
    return bleu.compute()


def sentence_bleu(
    hypothesis, references, tokenize="13a", smoothing="exp", max_order=4, lowercase=False, effective_order=True
):
    """BLEU of one text against its references, a list of texts; for many texts `corpus_bleu` is not the mean of these.

    With `effective_order`, orders of which the hypothesis has no n-gram are left out of the mean, so that a perfect text of
    three tokens scores 100. Conventions, errors and sources: see the module. The scores of many texts come ten times faster
    from ``bleu_from_statistics(bleu_statistics(hypotheses, references), effective_order=True)``.

    >>> sentence_bleu("the cat sat", ["the cat sat"]).score
    100.0
    >>> sentence_bleu("the cat sat", ["the cat sat"], effective_order=False).score
    0.0
    """
    hypothesis, references = ngrams.check_text(hypothesis, references)
    bleu = Bleu(tokenize, smoothing, max_order, lowercase)
    bleu.update([hypothesis], [references])
    return bleu.compute(effective_order)


class Bleu:
    """BLEU of all texts seen so far, gathered batch by batch; states merge.

    Keeps the sums of the counts of all texts, and nothing else; for an interval, keep the rows of `bleu_statistics`.

    >>> bleu = Bleu()
    >>> bleu.update(["the cat sat on a mat"], [["the cat sat on the mat"]])
    >>> bleu.statistics  # lengths of hypothesis and reference, then matches of order 1 to 4, then n-grams
    tensor([6, 6, 5, 3, 2, 1, 6, 5, 4, 3])
    """

    def __init__(self, tokenize="13a", smoothing="exp", max_order=4, lowercase=False):
        self.tokenize = one_of("tokenize", tokenize, ngrams.TOKENIZERS)
        self.smoothing = one_of("smoothing", smoothing, SMOOTHINGS)
        self.max_order = positive_integer("max_order", max_order)
        self.lowercase = bool(lowercase)
        self.texts = 0
        self.statistics = torch.zeros(2 + 2 * self.max_order, dtype=torch.int64)  # sums of the rows of bleu_statistics
        self.reference_counts = set()  # how many references a text has: one number, or several where that varies

    def update(self, hypotheses, references):
        """Count a batch: texts, and for each a list of references."""
        hypotheses, references = ngrams.check_corpus(hypotheses, references)
        rows = bleu_statistics(hypotheses, references, self.tokenize, self.max_order, self.lowercase)
        self.texts += len(rows)
        self.statistics = self.statistics + rows.sum(0)
        self.reference_counts.update(map(len, references))

    def merge(self, other):
        """Add the state of another accumulator, made with the same settings."""
        if self._settings() != other._settings():
            raise ValueError(f"the other is {other._settings()}; expected {self._settings()}")
        self.texts += other.texts
        self.statistics = self.statistics + other.statistics
        self.reference_counts = self.reference_counts | other.reference_counts

    def compute(self, effective_order=False):
        """The `BleuScore`; an error if no text was seen."""
        if not self.texts:
            raise ValueError("no text was seen; expected an update before compute")
        score, precisions, penalty = _score(self.statistics, self.smoothing, effective_order)
        hypothesis_length, reference_length, matches, totals = _parts(self.statistics)
        references = "var" if len(self.reference_counts) > 1 else min(self.reference_counts)
        return BleuScore(
            score.item(),
            (100 * precisions).tolist(),
            matches.tolist(),
            totals.tolist(),
            penalty.item(),
            hypothesis_length.item(),
            reference_length.item(),
            f"nrefs:{references}|{self._settings(effective_order)}",
        )

    def _settings(self, effective_order=False):
        case, order = "lc" if self.lowercase else "mixed", "yes" if effective_order else "no"
        return f"case:{case}|eff:{order}|tok:{self.tokenize}|smooth:{self.smoothing}|order:{self.max_order}"


# From the counts of each text


def bleu_statistics(hypotheses, references, tokenize="13a", max_order=4, lowercase=False):
    """What BLEU needs to know of each text: an integer tensor (texts, 2 + 2 * max_order).

    The columns are the length of the hypothesis, that of the reference closest in length, the matches of order 1 and up,
    and the n-grams of order 1 and up. BLEU of any selection of texts comes from the sums of their rows.
    Errors: see the module.

    >>> bleu_statistics(["the the the"], [["the cat", "the cat on the mat"]], max_order=2)
    tensor([[3, 2, 2, 0, 3, 2]])
    """
    hypotheses, references = ngrams.check_corpus(hypotheses, references)
    max_order = positive_integer("max_order", max_order)
    rows = []
    for start in range(0, len(hypotheses), BLOCK):
        block = zip(hypotheses[start : start + BLOCK], references[start : start + BLOCK], strict=True)
        tokens = [
            [ngrams.tokenize(text, tokenize, lowercase) for text in (hypothesis, *group)] for hypothesis, group in block
        ]
        rows.append(_count(tokens, max_order))
    return torch.from_numpy(np.concatenate(rows))


def bleu_from_statistics(statistics, smoothing="exp", effective_order=False):
    """BLEU, 0 to 100 in float64, of counts (..., 2 + 2 * max_order): rows of `bleu_statistics`, or their sums.

    >>> rows = bleu_statistics(["a b c d", "a b c x"], [["a b c d"], ["a b c d"]])
    >>> bleu_from_statistics(rows), bleu_from_statistics(rows.sum(0))
    (tensor([100.0000,  59.4604], dtype=torch.float64), tensor(72.3127, dtype=torch.float64))
    """
    return _score(_checked("statistics", statistics), one_of("smoothing", smoothing, SMOOTHINGS), effective_order)[0]


def bleu_interval(statistics, smoothing="exp", n_resamples=9999, confidence=0.95, *, rng):
    """Bootstrap interval of corpus BLEU, from the counts of 2 or more texts (texts, 2 + 2 * max_order).

    Texts are drawn with replacement and BLEU is computed from the sums of their counts. It is the interval for other texts
    of this kind, translated by this system; it knows nothing of other references or another training run.
    Convention: the quantiles of the resamples ("percentile"). Randomness: `rng` is an int seed or a torch.Generator.
    Source: Koehn (2004), "Statistical significance tests for machine translation evaluation".

    >>> rows = bleu_statistics(["a b c d", "a b c x"] * 50, [["a b c d"]] * 100)
    >>> print(bleu_interval(rows, rng=0))
    72.3127 (95 % interval 66.0567 to 78.2229)
    """
    statistics = _checked("statistics", statistics, at_least=2)
    sums = _resampled_sums(statistics, positive_integer("n_resamples", n_resamples), numpy_generator(rng))
    scores = (bleu_from_statistics(counts, smoothing) for counts in (statistics.sum(0), sums))
    return _interval(*scores, confidence)


@dataclass(frozen=True, eq=False)
class BleuComparison:
    """What `compare_bleu` found."""

    bleu_a: torch.Tensor
    bleu_b: torch.Tensor
    difference: Interval  # B less A, in points of BLEU
    p_value: torch.Tensor  # two-sided

    def __str__(self):
        from studyguide.course.display import rounded

        bleu_a, bleu_b, p_value = map(rounded, (self.bleu_a, self.bleu_b, self.p_value))
        return f"A {bleu_a}, B {bleu_b}, B less A {self.difference}, p = {p_value}"


def compare_bleu(statistics_a, statistics_b, smoothing="exp", n_resamples=9999, confidence=0.95, *, rng):
    """Is system B better than A on the same texts? From the counts of both, (texts, 2 + 2 * max_order), 2 or more texts.

    The interval of the difference is the paired bootstrap's: both systems are scored on the same resampled texts. p is that
    of approximate randomisation: if the systems are alike, any of A's outputs may as well be B's; p is the share of random
    exchanges, and the one observed, whose scores lie at least as far apart. Equal systems have p = 1.
    Randomness: `rng` is an int seed, or a torch.Generator, which the call advances.
    Source: Koehn (2004); Riezler and Maxwell (2005), "On some pitfalls in automatic evaluation and significance testing".

    >>> refs = [["a b c d"]] * 100
    >>> a, b = bleu_statistics(["a b c x", "a b c d"] * 50, refs), bleu_statistics(["a b c d"] * 100, refs)
    >>> print(compare_bleu(a, b, rng=0))
    A 72.3127, B 100, B less A 27.6873 (95 % interval 21.7771 to 33.9433), p = 1.00e-04
    """
    a, b = _checked("statistics_a", statistics_a, at_least=2), _checked("statistics_b", statistics_b, at_least=2)
    if a.shape != b.shape:
        raise ValueError(f"shapes are {tuple(a.shape)} and {tuple(b.shape)}; expected the same texts and orders")
    n_resamples, draw = positive_integer("n_resamples", n_resamples), numpy_generator(rng)
    scored = partial(bleu_from_statistics, smoothing=smoothing)
    bleu_a, bleu_b = scored(a.sum(0)), scored(b.sum(0))
    resampled_a, resampled_b = map(scored, _resampled_sums(torch.cat([a, b], -1), n_resamples, draw).chunk(2, -1))
    exchanged = _weighted_sums(b - a, lambda size: draw.integers(2, size=(size, len(a))), n_resamples)
    apart = (scored(b.sum(0) - exchanged) - scored(a.sum(0) + exchanged)).abs()
    as_far = (apart >= (bleu_b - bleu_a).abs() - 1e-9).sum()  # but for rounding
    return BleuComparison(
        bleu_a,
        bleu_b,
        _interval(bleu_b - bleu_a, resampled_b - resampled_a, confidence),
        (1 + as_far).double() / (1 + n_resamples),
    )


def _count(groups, max_order):
    """The rows of `bleu_statistics` of texts that are tokenised: for each its tokens, then those of its references.

    Tokens become numbers, n-grams become numbers (text, then token by token), and one sort brings equal n-grams of all
    orders together. How often each occurs in the hypothesis and in each reference is then one count.
    """
    ids, lengths = [], []
    for group in groups:
        number = defaultdict(count(1).__next__)  # of each token of this text and its references; 0 is no token
        for tokens in group:
            ids.extend(map(number.__getitem__, tokens))
            lengths.append(len(tokens))
    ids, lengths = np.array(ids, dtype=np.int64), np.array(lengths)
    sizes = np.array([len(group) for group in groups])
    owner = np.arange(len(groups)).repeat(sizes)  # of each hypothesis or reference: whose it is, and which it is
    stream = np.arange(len(owner)) - (sizes.cumsum() - sizes).repeat(sizes)
    left = lengths.cumsum().repeat(lengths) - np.arange(len(ids))  # tokens from here to the end
    owner, stream = owner.repeat(lengths), stream.repeat(lengths)

    keys, key = [], owner
    for n in range(max_order):
        if key.max(initial=0) > LARGEST // (ids.max(initial=0) + 1):
            key = np.unique(key, return_inverse=True)[1]
        following = np.concatenate([ids[n:], np.zeros(min(n, len(ids)), dtype=np.int64)])
        key = key * (ids.max(initial=0) + 1) + np.where(left > n, following, 0)
        keys.append(key)
    order = key.argsort()

    matches = np.zeros((len(groups), max_order), dtype=np.int64)
    for n, key in enumerate(keys):
        whole = order[left[order] > n]  # n-grams that do not run over the end of their text
        if not len(whole):
            break
        key = key[whole]
        first = np.concatenate([[True], key[1:] != key[:-1]])
        kinds, streams = first.sum(), sizes.max()
        table = np.bincount((first.cumsum() - 1) * streams + stream[whole], minlength=kinds * streams)
        table = table.reshape(kinds, streams)
        clipped = np.minimum(table[:, 0], table[:, 1:].max(1))
        matches[:, n] = np.bincount(owner[whole[first]], clipped, minlength=len(groups))

    texts = [list(map(len, group)) for group in groups]
    closest = [min((abs(length - own), length) for length in others)[1] for own, *others in texts]
    own = np.array([length for length, *_ in texts])
    totals = np.maximum(own[:, None] - np.arange(max_order), 0)
    return np.column_stack([own, closest, matches, totals])


def _parts(statistics):
    """Length of hypothesis and reference, matches and totals."""
    order = statistics.shape[-1] // 2 - 1
    return (*statistics[..., :2].unbind(-1), *statistics[..., 2:].split(order, -1))


def _score(statistics, smoothing, effective_order=False):
    """BLEU (0 to 100), the smoothed precisions (0 to 1) and the brevity penalty of counts (..., 2 + 2 * max_order)."""
    hypothesis_length, reference_length, matches, totals = _parts(statistics.double())
    matched = matches[..., :1] > 0
    if smoothing == "add-k":
        higher = (torch.arange(matches.shape[-1]) > 0).to(matches)
        matches, totals = matches + higher, totals + higher
    exist = totals > 0
    missed = exist & (matches == 0)
    if smoothing == "exp":
        matches = torch.where(missed, 0.5 ** missed.cumsum(-1), matches)
    elif smoothing == "floor":
        matches = torch.where(missed, 0.1, matches)
    precisions = torch.where(matched & exist, matches / totals.clamp(min=1), 0)
    logs = precisions.log()
    mean = logs.where(exist, 0).sum(-1) / exist.sum(-1).clamp(min=1) if effective_order else logs.mean(-1)
    short = hypothesis_length < reference_length
    penalty = torch.where(short, (1 - reference_length / hypothesis_length).exp(), 1)
    return torch.where(matched[..., 0], 100 * penalty * mean.exp(), 0), precisions, penalty


def _resampled_sums(table, n_resamples, draw):
    """The summed rows of resamples of a table (texts, columns): how often each text is drawn, times its row."""

    def drawn(size):
        places = draw.integers(len(table), size=(size, len(table))) + len(table) * np.arange(size)[:, None]
        return np.bincount(places.ravel(), minlength=places.size).reshape(places.shape)

    return _weighted_sums(table, drawn, n_resamples)


def _weighted_sums(table, weights, total):
    """weights(size) @ table, a block of a few of the `total` rows at a time."""
    step = max(1, DRAWS // len(table))
    sizes = [min(step, total - start) for start in range(0, total, step)]
    return torch.cat([torch.from_numpy(weights(size)).to(table.device).double() @ table.double() for size in sizes])


def _interval(estimate, resampled, confidence):
    tail = (1 - open_fraction("confidence", confidence)) / 2
    low, high = resampled.quantile(resampled.new_tensor([tail, 1 - tail]))
    return Interval(estimate, low, high, confidence)


def _checked(name, statistics, at_least=0):
    """Counts, and if `at_least` is given, of so many texts."""
    statistics = torch.as_tensor(statistics)
    columns = statistics.shape[-1] if statistics.ndim else 0
    if columns < 4 or columns % 2:
        raise ValueError(f"{name} has shape {tuple(statistics.shape)}; expected (..., 2 + 2 * max_order)")
    if at_least and (statistics.ndim != 2 or len(statistics) < at_least):
        raise ValueError(
            f"{name} has shape {tuple(statistics.shape)}; expected a row for each of {at_least} texts or more"
        )
    return statistics
