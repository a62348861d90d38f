"""What a retrieval-augmented answer is worth, part by part: six metrics with a judge, four without one.

| metric | judges | the question it answers |
|---|---|---|
| `context_precision` | retrieval | do the contexts that help stand above those that do not? |
| `context_recall` | retrieval | how much of the reference do the contexts hold? |
| `faithfulness` | generation | how much of the answer do the contexts support? |
| `answer_relevancy` | generation | does the answer speak to the question? |
| `answer_similarity`, `answer_correctness` | both together | does the answer say what the reference says? |

Each returns a `Score`: the number, and the evidence it was made from. A judge (`studyguide.rag.judges`) cuts texts into
claims and compares them with others; with another judge the same texts get another number, so that it is named in the
result. An encoder is a sentence-transformers model (`studyguide.models.load_sentence_encoder`).

Convention: where there is nothing to count, `score` is None and `reason` says why; it is never 0 by accident. A reference
of None (the knowledge base holds no answer) leaves the metrics that need one undefined.
Errors: no contexts, a blank text and weights or thresholds out of range are a ValueError; what is no text is a TypeError.
Source: Es et al. (2024), "RAGAS: Automated Evaluation of Retrieval Augmented Generation", and the code of ragas 0.4.3 for
the formulas. ragas asks a language model for each verdict in a prompt of the metric's own; here every verdict is one
question to the judge: does this text support that claim?
"""

from dataclasses import dataclass
from functools import partial

from studyguide.probability.validation import positive_integer
from studyguide.rag.claims import checked
from studyguide.rag.judges import as_contexts, ask_all
from studyguide.text.edit import edit_distance
from studyguide.text.semantic import semantic_similarity


@dataclass(frozen=True)
class Evidence:
    """One thing that was looked at, and what it counted."""

    text: str  # a claim, a context, a generated question or an id
    value: float  # what it adds: 1 or 0 for a verdict, a cosine for a question
    verdict: str
    reason: str = ""  # the judge's words


@dataclass(frozen=True)
class Score:
    """The value of a metric, and why it is that."""

    metric: str
    score: float | None  # None if it is undefined
    reason: str = ""  # why it is undefined, or by which convention it has this value
    evidence: tuple[Evidence, ...] = ()
    judge: str | None = None  # None: no judge was asked

    def __str__(self):
        from studyguide.course.display import rounded

        value = "undefined" if self.score is None else rounded(self.score)
        lines = [f"{self.metric}: {value}" + (f" ({self.reason})" if self.reason else "")]
        return "\n".join(lines + [f"  {rounded(each.value)}  {each.verdict}: {each.text}" for each in self.evidence])


# Retrieval


def context_precision(contexts, reference, judge):
    """Do the contexts that help stand above those that do not? The mean of precision@k over the ranks k that help.

    `contexts` are texts in the retriever's order. One helps if it supports a claim of the reference, alone. Range: 0 (no
    context helps) to 1. It says nothing of what was not retrieved: that is `context_recall`.
    Difference from ragas: that asks one question about each context, whether it was useful for the reference as a whole.

    >>> from studyguide.rag.judges import LexicalJudge
    >>> contexts = ["The Seine runs through Paris.", "Paris is the capital of France."]
    >>> print(context_precision(contexts, "The capital of France is Paris.", LexicalJudge()))
    context_precision: 0.5
      0  does not help: The Seine runs through Paris.
      1  helps: Paris is the capital of France.
    """
    score, contexts = partial(Score, "context_precision", judge=judge.name), as_contexts(contexts)
    claims, nothing = _reference_claims(reference, judge)
    if nothing:
        return score(None, nothing)
    verdicts = iter(ask_all(judge, "verdict", [(claim, context) for context in contexts for claim in claims]))
    found = []
    for context in contexts:
        said = [(claim, next(verdicts)) for claim in claims]
        claim = next((claim for claim, verdict in said if verdict.label == "supported"), None)
        found.append(_helps(context, claim is not None, f"it supports: {claim}" if claim else ""))
    return score(_precision_at_hits(found), evidence=tuple(found))


def context_recall(contexts, reference, judge):
    """How much of the reference do the contexts hold? The share of its claims that they support, all together.

    Range: 0 to 1. It sees no more than the reference says: what a better reference would add is not missed.

    >>> from studyguide.rag.judges import LexicalJudge
    >>> reference = "Paris is the capital of France. The Louvre is its largest museum."
    >>> context_recall(["Paris is the capital of France."], reference, LexicalJudge()).score
    0.5
    """
    claims, nothing = _reference_claims(reference, judge)
    return _supported("context_recall", claims, nothing, as_contexts(contexts), judge)


def context_precision_by_id(context_ids, relevant, least=1):
    """The share of the retrieved ids that are relevant, as sets: order and repetitions do not count. No judge.

    `relevant` is a list of ids, or {id: grade}, of which those of grade `least` or more are relevant. For order see
    `studyguide.rag.ranking.average_precision`, which divides by all relevant ones, retrieved or not.

    >>> context_precision_by_id(["p1", "p2", "p3", "p4"], {"p1": 2, "p4": 1, "p9": 2}).score
    0.5
    """
    retrieved, wanted = _ids("context_ids", context_ids), _wanted(relevant, least)
    evidence = tuple(Evidence(name, float(name in wanted), _relevant(name in wanted)) for name in retrieved)
    return _mean("context_precision_by_id", evidence, "no id was retrieved")


def context_recall_by_id(context_ids, relevant, least=1):
    """The share of the relevant ids that were retrieved, as sets. No judge. Undefined if none is relevant.

    Arguments: those of `context_precision_by_id`.

    >>> context_recall_by_id(["p1", "p2", "p3", "p4"], {"p1": 2, "p4": 1, "p9": 2}, least=2).score
    0.5
    """
    retrieved, wanted = _ids("context_ids", context_ids), _wanted(relevant, least)
    found = [(name, name in retrieved) for name in wanted]
    evidence = tuple(Evidence(name, float(hit), "retrieved" if hit else "missed") for name, hit in found)
    return _mean("context_recall_by_id", evidence, "no id is relevant")


def string_similarity(a, b):
    """1 less the edit distance of two texts over the length of the longer one, in characters; 1 for two empty texts.

    >>> string_similarity("kitten", "sitting")
    0.5714285714285714
    """
    return 1 - edit_distance(a, b) / max(len(a), len(b), 1)


def context_precision_by_text(contexts, reference_contexts, similarity=string_similarity, threshold=0.5):
    """`context_precision` where a context helps if it is similar to a passage that should have been found. No judge.

    `similarity` takes two texts; `threshold` or more is similar. For people who know the right passages but not their
    ids: after another cut into passages, for instance. A `threshold` is a number from 0 to 1.

    >>> context_precision_by_text(["An ice age.", "The red fox"], ["The red fox."]).score
    0.5
    """
    contexts, best = _nearest(contexts, reference_contexts, similarity, threshold)
    found = tuple(
        _helps(text, near >= threshold, f"similarity {near:.2f}") for text, near in zip(contexts, best, strict=True)
    )
    return Score("context_precision_by_text", _precision_at_hits(found), evidence=found)


def context_recall_by_text(contexts, reference_contexts, similarity=string_similarity, threshold=0.5):
    """The share of the passages that should have been found to which a retrieved context is similar. No judge.

    Arguments: those of `context_precision_by_text`. Difference from ragas: there the similarity must exceed the threshold
    for recall, but only reach it for precision; here it must reach it for both.

    >>> context_recall_by_text(["An ice age.", "The red fox"], ["The red fox.", "Basalt cools slowly."]).score
    0.5
    """
    wanted, best = _nearest(reference_contexts, contexts, similarity, threshold)
    evidence = tuple(
        Evidence(
            text, float(near >= threshold), "retrieved" if near >= threshold else "missed", f"similarity {near:.2f}"
        )
        for text, near in zip(wanted, best, strict=True)
    )
    return _mean("context_recall_by_text", evidence, "")


# Generation


def faithfulness(answer, contexts, judge):
    """How much of the answer do the contexts support? The share of its claims that they support, all together.

    Range: 0 to 1. The contexts are taken for true; the world is not asked. Undefined for an answer without a claim, such
    as one that declines. No contexts are an error, not a 0: either the retriever found nothing or the field was not filled.

    >>> from studyguide.rag.judges import LexicalJudge
    >>> print(faithfulness("Paris has 9 bridges. The Seine runs through it.", ["The Seine runs through Paris."], LexicalJudge()))
    faithfulness: 0.5
      0  not in context: Paris has 9 bridges.
      1  supported: The Seine runs through it.
    """
    claims = judge.claims(checked("answer", answer))
    return _supported("faithfulness", claims, "" if claims else NO_CLAIM, as_contexts(contexts), judge)


def answer_relevancy(question, answer, judge, encoder, n=3):
    """Does the answer speak to the question? The mean cosine of the question with those that the answer would answer.

    The judge makes up to `n` questions from the answer alone. Range: -1 to 1; it is no probability. Convention: 0 if it
    makes none, which is how a judge says that the answer declines, even where declining is right. It says nothing of
    whether the answer is true, and ragas's 0 for evasive answers is the judge's here.

    >>> from studyguide.models import load_sentence_encoder
    >>> from studyguide.rag.judges import LexicalJudge
    >>> encoder = load_sentence_encoder("all-MiniLM-L6-v2")
    >>> result = answer_relevancy("What is the capital of France?", "The capital of France is Rome.", LexicalJudge(), encoder)
    >>> round(result.score, 4), result.evidence[0].text
    (1.0, 'What is the capital of France?')
    """
    questions = judge.questions(checked("answer", answer), positive_integer("n", n))
    checked("question", question)
    score = partial(Score, "answer_relevancy", judge=judge.name)
    if not questions:
        return score(0.0, "the answer declines: no question can be made from it")
    cosines = semantic_similarity(encoder, questions, [question] * len(questions)).tolist()
    evidence = tuple(Evidence(text, cosine, "generated") for text, cosine in zip(questions, cosines, strict=True))
    return score(sum(cosines) / len(cosines), evidence=evidence)


# Both together


def answer_similarity(answer, reference, encoder):
    """The cosine of answer and reference, -1 to 1. A sentence and its negation lie close together.

    >>> from studyguide.models import load_sentence_encoder
    >>> encoder = load_sentence_encoder("all-MiniLM-L6-v2")
    >>> round(answer_similarity("The drug is safe.", "The drug is not safe.", encoder).score, 2)
    0.88
    """
    if reference is None:
        return Score("answer_similarity", None, NO_REFERENCE)
    pair = [checked("answer", answer)], [checked("reference", reference)]
    return Score("answer_similarity", semantic_similarity(encoder, *pair).item())


def answer_correctness(answer, reference, judge, encoder, weights=(0.75, 0.25)):
    """Does the answer say what the reference says? F1 of claims and `answer_similarity`, a weighted mean.

    F1 = TP / (TP + (FP + FN) / 2): TP are the answer's claims that the reference supports, FP those that it does not, FN
    the claims of the reference that the answer does not support. `weights` are those of F1 and of the cosine; with (1, 0)
    no encoder is asked, and it may be None. Undefined if neither text makes a claim.
    Difference from ragas: there two texts without claims have an F1 of 1, and a language model sorts all claims at once.

    >>> from studyguide.rag.judges import LexicalJudge
    >>> answer, reference = "It rains in Lund. It snows in Oslo.", "In Oslo it snows. In Rome it hails."
    >>> answer_correctness(answer, reference, LexicalJudge(), None, weights=(1, 0)).score
    0.5
    """
    facts, alike = weights
    if not (0 <= facts < float("inf") and 0 <= alike < float("inf") and facts + alike > 0):
        raise ValueError(f"weights are {weights}; expected two numbers of at least 0, not both 0")
    score = partial(Score, "answer_correctness", judge=judge.name)
    if reference is None:
        return score(None, NO_REFERENCE)
    said, wanted = judge.claims(checked("answer", answer)), judge.claims(checked("reference", reference))
    if not said and not wanted:
        return score(None, "neither the answer nor the reference makes a claim")
    calls = [(claim, reference) for claim in said] + [(claim, answer) for claim in wanted]
    verdicts = [verdict.label == "supported" for verdict in ask_all(judge, "verdict", calls)]
    right, covered = verdicts[: len(said)], verdicts[len(said) :]
    evidence = [Evidence(c, float(hit), "TP" if hit else "FP") for c, hit in zip(said, right, strict=True)]
    evidence += [Evidence(c, 0.0, "FN") for c, hit in zip(wanted, covered, strict=True) if not hit]
    kinds = [each.verdict for each in evidence]
    tp, errors = kinds.count("TP"), kinds.count("FP") + kinds.count("FN")
    value = facts * (tp / (tp + errors / 2) if tp else 0.0)
    if alike:
        value += alike * answer_similarity(answer, reference, encoder).score
    return score(value / (facts + alike), evidence=tuple(evidence))


# Counting

NO_REFERENCE = "there is no reference"
NO_CLAIM = "the answer makes no claim: it declines, or says nothing that can be checked"


def _reference_claims(reference, judge):
    """The claims of a reference, and why there are none."""
    if reference is None:
        return [], NO_REFERENCE
    claims = judge.claims(checked("reference", reference))
    return claims, "" if claims else "the reference makes no claim"


def _supported(metric, claims, nothing, contexts, judge):
    """The share of claims that the contexts support, all together."""
    verdicts = ask_all(judge, "verdict", [(claim, contexts) for claim in claims])
    evidence = tuple(
        Evidence(claim, float(verdict.label == "supported"), verdict.label, verdict.reason)
        for claim, verdict in zip(claims, verdicts, strict=True)
    )
    return _mean(metric, evidence, nothing, judge.name)


def _mean(metric, evidence, nothing, judge=None):
    if not evidence:
        return Score(metric, None, nothing, judge=judge)
    return Score(metric, sum(each.value for each in evidence) / len(evidence), evidence=evidence, judge=judge)


def _helps(context, hit, reason):
    return Evidence(context, float(hit), "helps" if hit else "does not help", reason)


def _precision_at_hits(found):
    """The mean of precision@k over the ranks k of hits; 0 without a hit."""
    hits = 0
    total = 0.0
    for rank, each in enumerate(found, 1):
        hits += each.value > 0
        total += hits / rank * (each.value > 0)
    return total / hits if hits else 0.0


def _relevant(hit):
    return "relevant" if hit else "not relevant"


def _ids(name, ids):
    """Distinct ids in the order in which they are given."""
    if isinstance(ids, str):
        raise TypeError(f"{name} is the text {ids!r:.40}; expected a list of ids")
    return list(dict.fromkeys(ids))


def _wanted(relevant, least):
    if isinstance(relevant, dict):
        return [name for name, grade in relevant.items() if grade >= least]
    return _ids("relevant", relevant)


def _nearest(texts, others, similarity, threshold):
    """The texts, and of each how similar the most similar of the others is."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected a number from 0 to 1")
    texts, others = as_contexts(texts), as_contexts(others)
    return texts, [max(similarity(text, other) for other in others) for text in texts]
