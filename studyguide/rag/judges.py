"""Judges: what a text claims, whether a passage supports it, which of two answers is better. And how far to trust one.

`Judge` is the protocol. The two judges here work offline and are baselines, not language models; each result says so
in its field `judge`. `studyguide.rag.chat.ChatJudge` asks a language model. `judge_report` measures any of them.

The thresholds of both judges are about the best, by kappa, on the labels that ship with the course. Measure them on yours.

Errors: a text that is blank, no contexts, and numbers out of range are a ValueError; what is no text is a TypeError.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, Protocol

import torch

from studyguide.probability.validation import numpy_generator, one_of, open_fraction, positive_integer
from studyguide.rag.claims import checked, plain_questions, read_words, sentences, share, split_claims
from studyguide.statistics.intervals import Interval, proportion_interval
from studyguide.text.semantic import check_lengths, cosine_matrix

LABELS = ("supported", "contradicted", "not in context")


# What a judge says


@dataclass(frozen=True)
class Verdict:
    """What contexts say of a claim."""

    label: Literal["supported", "contradicted", "not in context"]
    confidence: float  # 0 to 1, on the judge's own scale: no probability unless you have calibrated it
    judge: str
    reason: str = ""  # the evidence, in the judge's words


@dataclass(frozen=True)
class Preference:
    """Which of two answers is better; "a" is the one that was shown first."""

    winner: Literal["a", "b", "tie"]
    judge: str
    reason: str = ""


@dataclass(frozen=True)
class Grade:
    """An answer's score by a rubric."""

    score: int  # 1 to 5
    judge: str
    reason: str = ""


class Judge(Protocol):
    """What the metrics of this chapter ask of a judge; a class with these methods is one.

    Two methods more are optional. `ask_all(method, calls)` answers many calls faster than one by one; the function
    `ask_all` uses it. `again()` gives the same judge with its memory closed, so that a question can be asked twice.
    """

    name: str  # stands in every result

    def claims(self, text: str) -> list[str]:
        """The statements of a text, each to be judged alone; none of a text that only declines to answer."""

    def verdict(self, claim: str, context: str | list[str]) -> Verdict:
        """What a context says of a claim, or several contexts together; the truth does not matter."""

    def questions(self, answer: str, n: int) -> list[str]:
        """Up to n questions that the answer would answer; none if it declines."""

    def prefer(self, question: str, a: str, b: str) -> Preference:
        """The better answer."""

    def grade(self, question: str, answer: str, rubric: str) -> Grade:
        """A score by the rubric."""


def ask_all(judge, method, calls):
    """The judge's results of one method for many calls, a tuple of arguments each, in their order.

    >>> pairs = [("The sea is salt.", "Salt is in the sea."), ("The sea is blue.", "Salt is in the sea.")]
    >>> [verdict.label for verdict in ask_all(LexicalJudge(), "verdict", pairs)]
    ['supported', 'not in context']
    """
    if hasattr(judge, "ask_all"):
        return judge.ask_all(method, calls)
    return [getattr(judge, method)(*call) for call in calls]


# Two judges that need no server


class LexicalJudge:
    """A baseline: counts the claim's content words, numbers and negations in the contexts. It is not a language model.

    The evidence is the sentence, or pair of neighbouring sentences, that holds most of the claim's content words
    (Porter stems without stop words), of equal ones that with most of its numbers. Below `threshold` of the words the
    verdict is "not in context". Above it is "contradicted" if the claim has a number that the evidence lacks, or a
    negation on one side only; else "supported". Confidence is the share of words found, or missed. `prefer` and `grade`
    count the words of the question, or of the rubric, in the answer.
    Who did what to whom it cannot see: the same words in another order get the same verdict.

    >>> judge = LexicalJudge()
    >>> judge.verdict("Dunmar has 212,000 inhabitants.", "The port of Dunmar has 548,000 inhabitants.").label
    'contradicted'
    >>> judge.prefer("Which river is longest?", "The longest river is the Alder.", "Fish.").winner
    'a'
    """

    name = "LexicalJudge (shared words, not a language model)"
    claims = staticmethod(split_claims)
    questions = staticmethod(plain_questions)

    def __init__(self, threshold=0.6):
        self.threshold = open_fraction("threshold", threshold)

    def verdict(self, claim, context):
        words, numbers, negated = read_words(checked("claim", claim))

        def overlap(place):
            theirs, others, _ = read_words(place)
            return share(words or numbers, theirs | others), share(numbers, others)

        evidence = max(_neighbours(context), key=overlap)
        found, _ = overlap(evidence)
        if found < self.threshold:
            return Verdict("not in context", 1 - found, self.name, f"{found:.0%} of the words in: {evidence}")
        _, others, denied = read_words(evidence)
        if missing := sorted(numbers - others):
            return Verdict("contradicted", found, self.name, f"without {', '.join(missing)}: {evidence}")
        if negated != denied:
            return Verdict("contradicted", found, self.name, f"a negation on one side: {evidence}")
        return Verdict("supported", found, self.name, evidence)

    def prefer(self, question, a, b):
        asked = read_words(checked("question", question))[0]
        shares = [share(asked, read_words(checked(name, answer))[0]) for name, answer in (("a", a), ("b", b))]
        return Preference(_winner(*shares), self.name)

    def grade(self, question, answer, rubric):
        checked("question", question)
        met = share(read_words(checked("rubric", rubric))[0], read_words(checked("answer", answer))[0])
        return Grade(1 + round(4 * met), self.name)


class EmbeddingJudge:
    """A baseline: the cosine of the claim with the nearest sentence of the contexts. It is not a language model.

    `encoder` is a sentence-transformers model (`studyguide.models.load_sentence_encoder`), `called` its name in the
    results. From `threshold` on the verdict is "supported", below "not in context". It is never "contradicted": a
    sentence and its negation lie close together, so a cosine cannot tell. Confidence is how far the cosine is from the
    threshold, relative to the farthest it could be. `prefer` takes the answer that is nearer to the question, and calls
    a difference below 0.01 a tie; `grade` spreads the cosine with the rubric, 0 to 1, over 1 to 5.
    Vectors of texts are kept, so that each is encoded once.

    >>> from studyguide.models import load_sentence_encoder
    >>> judge = EmbeddingJudge(load_sentence_encoder("all-MiniLM-L6-v2"), "all-MiniLM-L6-v2")
    >>> verdict = judge.verdict("The drug is not safe.", "The drug is safe. It is taken twice a day.")
    >>> verdict.label, verdict.reason
    ('supported', 'cosine 0.88 with: The drug is safe.')
    """

    claims = staticmethod(split_claims)
    questions = staticmethod(plain_questions)

    def __init__(self, encoder, called="a sentence encoder", threshold=0.6):
        self.name = f"EmbeddingJudge (cosines of {called}, not a language model)"
        self.threshold = open_fraction("threshold", threshold)
        self._encoder, self._vectors = encoder, {}

    def verdict(self, claim, context):
        places = _sentences(context)
        cosine, nearest = self._cosines(checked("claim", claim), places).max(-1)
        distance, reason = cosine.item() - self.threshold, f"cosine {cosine:.2f} with: {places[nearest]}"
        if distance < 0:
            return Verdict("not in context", -distance / (1 + self.threshold), self.name, reason)
        return Verdict("supported", distance / (1 - self.threshold), self.name, reason)

    def prefer(self, question, a, b):
        a, b = self._cosines(checked("question", question), [checked("a", a), checked("b", b)]).tolist()
        return Preference("tie" if abs(a - b) < 0.01 else _winner(a, b), self.name)

    def grade(self, question, answer, rubric):
        checked("question", question)
        cosine = self._cosines(checked("rubric", rubric), [checked("answer", answer)]).item()
        return Grade(1 + round(4 * max(cosine, 0)), self.name)

    def ask_all(self, method, calls):
        """As the function `ask_all`; all texts go to the encoder in one call."""
        if method == "verdict":
            self._read([text for claim, context in calls for text in (claim, *_sentences(context))])
        elif method in ("prefer", "grade"):
            self._read([text for call in calls for text in call])
        return [getattr(self, method)(*call) for call in calls]

    def _read(self, texts):
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            check_lengths(self._encoder, new)
            self._vectors.update(zip(new, self._encoder.encode(new, convert_to_tensor=True), strict=True))

    def _cosines(self, text, others):
        self._read([text, *others])
        return cosine_matrix(self._vectors[text][None], torch.stack([self._vectors[other] for other in others]))[0]


def _winner(a, b):
    return "tie" if a == b else "a" if a > b else "b"


def as_contexts(value):
    """One context or several, as a list of texts."""
    texts = [value] if isinstance(value, str) else list(value)
    if not texts:
        raise ValueError("context is empty; expected at least one text")
    return [checked("context", text) for text in texts]


def _sentences(context):
    return [sentence for text in as_contexts(context) for sentence in sentences(text)]


def _neighbours(context):
    """The sentences of each context, then its pairs of neighbouring sentences."""
    split = [sentences(text) for text in as_contexts(context)]
    return [place for each in split for place in (*each, *map(" ".join, pairwise(each)))]


# How far to trust a judge

PADDING = (
    " There is a lot to be said about this question, and it deserves a careful answer. Several aspects have to be kept in "
    "mind here. All things considered, what is said above remains the answer that should be given."
)


@dataclass(frozen=True, eq=False)
class JudgeReport:
    """How a judge compares with labels, and with itself; printed, it is a table.

    Intervals take account of questions: claims of one question are not independent. None stands for what is undefined:
    a share of nothing, or kappa where both sides know one label only.
    """

    judge: str
    questions: int  # with labelled claims
    matrix: torch.Tensor  # (3, 3) counts, labels in rows, the judge's verdicts in columns, in the order of LABELS
    agreement: Interval  # share of claims with the same verdict as the label
    kappa: Interval | None  # Cohen's: agreement beyond chance
    precision: dict  # for each label, share of these verdicts that are right: Interval or None
    recall: dict  # for each label, share of these claims that the judge found: Interval or None
    repeated: Interval  # share of claims with the same verdict when asked a second time
    pairs: int  # questions with two different answers, each pair shown in both orders
    swapped: Interval | None  # share of pairs whose winner stayed the winner when the order was turned around
    first: Interval | None  # of the pairs that one place won in both orders, share won by the first; fair is 0.5
    answers: int  # each compared with itself plus PADDING, in both orders
    padded: Interval  # share of answers whose padded version won in both orders; 0 is right

    def __str__(self):
        from studyguide.course.display import rounded

        rows = [("agreement with the labels", self.agreement), ("Cohen's kappa", self.kappa)]
        rows += [(f"precision of {label!r}", self.precision[label]) for label in LABELS]
        rows += [(f"recall of {label!r}", self.recall[label]) for label in LABELS]
        rows += [
            ("same verdict when asked again", self.repeated),
            ("same winner in the other order", self.swapped),
            ("first place, where the place won", self.first),
            ("padded answer won", self.padded),
        ]
        lines = [
            f"{self.judge}",
            f"{self.matrix.sum()} claims of {self.questions} questions, {self.pairs} pairs, {self.answers} answers",
        ]
        for name, interval in rows:
            text = interval and "".join(
                rounded(round(float(x), 3)).rjust(7) for x in (interval.estimate, interval.low, interval.high)
            )
            lines.append(f"{name:<34}{text or ' undefined'}")
        return "\n".join(lines)


def judge_report(judge, samples, n_resamples=1999, confidence=0.95, *, rng):
    """Measure a judge on labelled samples: a `JudgeReport`.

    `samples` are `datasets.RagSample`, some with labelled claims, of two questions or more. The judge is asked for the
    verdict of each claim, twice; for each question it compares the first two different answers, and the first one with
    itself padded, each in both orders. A judge with a memory is asked the second time through its `again()`.
    Intervals: percentile bootstrap over questions, resamples that leave a share undefined left out; where all or none
    count, Wilson's over the questions, since a bootstrap has no width there. Preferences: Wilson's, one a question.
    With few questions (say 20) a bootstrap is too short.
    Errors: samples without labelled claims, or of one question only, are a ValueError.
    Source: Cohen (1960), "A coefficient of agreement for nominal scales"; the biases: Zheng et al. (2023), "Judging
    LLM-as-a-judge with MT-Bench and Chatbot Arena", sections 3.3 and 3.4.

    >>> from studyguide.rag.datasets import samples
    >>> report = judge_report(LexicalJudge(), samples("grounded"), rng=0)
    >>> report.repeated.estimate, report.matrix[1:].sum()
    (tensor(1., dtype=torch.float64), tensor(0))
    """
    samples, confidence = list(samples), open_fraction("confidence", confidence)
    labelled = [(sample, claim) for sample in samples for claim in sample.claims or ()]
    rows = {question: row for row, question in enumerate(dict.fromkeys(sample.question for sample, _ in labelled))}
    if len(rows) < 2:
        raise ValueError(f"labelled claims belong to {len(rows)} questions; expected 2 or more")

    calls = [(claim.text, sample.contexts) for sample, claim in labelled]
    twin = judge.again() if hasattr(judge, "again") else judge
    first, second = ([v.label for v in ask_all(each, "verdict", calls)] for each in (judge, twin))
    counts, repeats = torch.zeros(len(rows), 3, 3, dtype=torch.float64), torch.zeros(len(rows), dtype=torch.float64)
    for (sample, claim), said, again in zip(labelled, first, second, strict=True):
        row = rows[sample.question]
        counts[row, LABELS.index(claim.label), LABELS.index(one_of("a verdict's label", said, LABELS))] += 1
        repeats[row] += said == again

    draws = numpy_generator(rng).multinomial(
        len(rows), [1 / len(rows)] * len(rows), positive_integer("n_resamples", n_resamples)
    )
    draws = torch.as_tensor(draws, dtype=torch.float64)
    interval = partial(_share_interval, draws=draws, confidence=confidence)
    right, claims = counts.diagonal(dim1=1, dim2=2), counts.sum((1, 2))
    resampled = (draws @ counts.flatten(1)).unflatten(1, (3, 3))
    pairs, padded = _pairs(samples)
    swaps, pads = _both_orders(judge, pairs), _both_orders(judge, padded)
    placed = [forward for forward, backward in swaps if forward == backward != "tie"]
    return JudgeReport(
        judge=judge.name,
        questions=len(rows),
        matrix=counts.sum(0).long(),
        agreement=interval(right.sum(1), claims),
        kappa=_percentiles(_kappa(counts.sum(0)), _kappa(resampled), confidence),
        precision={label: interval(right[:, i], counts[:, :, i].sum(1)) for i, label in enumerate(LABELS)},
        recall={label: interval(right[:, i], counts[:, i].sum(1)) for i, label in enumerate(LABELS)},
        repeated=interval(repeats, claims),
        pairs=len(pairs),
        swapped=_wilson(sum(SWAPPED[forward] == backward for forward, backward in swaps), len(swaps), confidence),
        first=_wilson(placed.count("a"), len(placed), confidence),
        answers=len(padded),
        padded=_wilson(pads.count(("b", "a")), len(pads), confidence),
    )


SWAPPED = {"a": "b", "b": "a", "tie": "tie"}


def _pairs(samples):
    """(question, answer, another answer) where there are two; (question, answer, answer padded) for each question."""
    answers = defaultdict(dict)
    for sample in samples:
        answers[sample.question][sample.answer] = None  # a set that keeps the order
    several = {question: list(found) for question, found in answers.items()}
    pairs = [(question, *found[:2]) for question, found in several.items() if len(found) > 1]
    return pairs, [(question, found[0], found[0] + PADDING) for question, found in several.items()]


def _both_orders(judge, pairs):
    """(winner, winner with the answers exchanged) of each pair."""
    turned = [(question, b, a) for question, a, b in pairs]
    winners = [one_of("a winner", said.winner, SWAPPED) for said in ask_all(judge, "prefer", pairs + turned)]
    return list(zip(winners[: len(pairs)], winners[len(pairs) :], strict=True))


def _kappa(counts):
    """Cohen's kappa of counts (..., k, k); NaN where chance alone would agree always."""
    shares = counts / counts.sum((-2, -1), keepdim=True)
    chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    return (shares.diagonal(dim1=-2, dim2=-1).sum(-1) - chance) / (1 - chance)


def _share_interval(k, n, draws, confidence):
    """The interval of sum(k) / sum(n), given both for each question; None without any n."""
    if k.sum() in (0, n.sum()):
        present = int((n > 0).sum())
        return _wilson(present if k.sum() else 0, present, confidence)
    return _percentiles(k.sum() / n.sum(), (draws @ k) / (draws @ n), confidence)


def _percentiles(estimate, resampled, confidence):
    if math.isnan(estimate):
        return None
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = resampled[~resampled.isnan()].quantile(tails)
    return Interval(estimate, low, high, confidence)


def _wilson(successes, n, confidence):
    return proportion_interval(successes, n, confidence) if n else None
