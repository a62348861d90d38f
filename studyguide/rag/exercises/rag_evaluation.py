"""Exercises of notebook 6.3, RAG evaluation."""

from studyguide.course.exercises import Exercise, Wrong
from studyguide.rag.judges import LexicalJudge
from studyguide.rag.metrics import context_precision, context_recall


def my_faithfulness(labels):
    """Faithfulness of an answer whose claims have these labels.

    labels is a list of "supported", "contradicted" and "not in context". Returns a number from 0 to 1, or -1 if the answer makes
    no claim and faithfulness is undefined.
    """
    if not labels:
        return -1.0
    return labels.count("supported") / len(labels)


def _faithfulness_peer(labels):
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(["supported"] * len(labels), labels)) if labels else -1.0


_S, _C, _N = "supported", "contradicted", "not in context"

FAITHFULNESS = Exercise(
    id="faithfulness-from-labels",
    title="Faithfulness from labels",
    prompt=(
        "Write `my_faithfulness(labels)`: the share of an answer's claims that are supported. `labels` holds one label for each claim: "
        '"supported", "contradicted" or "not in context". An answer without a claim has no faithfulness; return -1 for it.'
    ),
    difficulty=1,
    minutes=5,
    hints=(
        "Ask about the empty list first. Then divide two counts.",
        "Both other labels count against the answer: the denominator is the number of all claims.",
    ),
    solution=my_faithfulness,
    peer=_faithfulness_peer,
    cases=(([_S, _S, _C],), ([_S, _N],), ([_N, _N],), ([_C],), ([_S, _S],), ([_S, _C, _N, _N],), ([],)),
    wrong=(
        Wrong(
            lambda labels: labels.count(_S) / max(len(labels), 1),
            "you give an answer without claims a 0, as if it had invented everything. It is undefined: return -1.",
        ),
        Wrong(
            lambda labels: labels.count(_S) / len(labels) if labels else 1.0,
            "you give an answer without claims a 1. Declining would be the surest way to a good mean. Return -1.",
        ),
        Wrong(
            lambda labels: 1 - labels.count(_C) / len(labels) if labels else -1.0,
            'you forgive what is "not in context". Only supported claims count as faithful: an invention is not support.',
        ),
        Wrong(
            lambda labels: labels.count(_S) / max(labels.count(_S) + labels.count(_C), 1) if labels else -1.0,
            'you leave the claims that are "not in context" out of the denominator. Divide by all claims.',
        ),
        Wrong(
            lambda labels: float(set(labels) == {_S}) if labels else -1.0,
            "you ask whether all claims are supported. Faithfulness is the share of them, not all or nothing.",
        ),
        Wrong(
            lambda labels: 1 - labels.count(_S) / len(labels) if labels else -1.0,
            "you return the share of unsupported claims, which is the hallucination rate: 1 less faithfulness.",
        ),
    ),
)


def my_answer_relevancy(question, generated):
    """Answer relevancy from vectors.

    question is a list of numbers, the question's embedding; generated is a list of such lists, one for each question generated
    from the answer, empty if the answer declines. Returns a number from -1 to 1.
    """

    def length(vector):
        return sum(x * x for x in vector) ** 0.5

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / (length(a) * length(b))

    return sum(cosine(question, each) for each in generated) / len(generated) if generated else 0.0


def _relevancy_peer(question, generated):
    from sklearn.metrics.pairwise import cosine_similarity

    return float(cosine_similarity([question], generated).mean()) if generated else 0.0


def _cosines(question, generated):
    return [_relevancy_peer(question, [each]) for each in generated]


def _dots(question, generated):
    return [sum(x * y for x, y in zip(question, each, strict=True)) for each in generated]


_NORTH, _EAST = [3.0, 4.0], [4.0, 3.0]

RELEVANCY = Exercise(
    id="answer-relevancy-from-vectors",
    title="Answer relevancy from vectors",
    prompt=(
        "Write `my_answer_relevancy(question, generated)`: the mean cosine of the question's vector with the vectors of the questions that "
        "were generated from the answer. If none was generated, because the answer declines, the relevancy is 0."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "The cosine of two vectors is their dot product divided by the product of their lengths. The vectors here do not have length 1.",
        "Take one cosine for each generated question, then their mean. Ask for the empty list first.",
    ),
    solution=my_answer_relevancy,
    peer=_relevancy_peer,
    cases=(
        (_NORTH, [_NORTH, _EAST]),
        (_NORTH, [[-3.0, -4.0], _EAST, [1.0, 0.0]]),
        ([1.0, 0.0, 0.0], [[0.0, 2.0, 0.0]]),
        ([1.0, 2.0], [[10.0, 20.0], [0.2, 0.1]]),
        (_NORTH, []),
    ),
    wrong=(
        Wrong(
            lambda q, g: sum(_dots(q, g)) / max(len(g), 1),
            "you average dot products. Divide each by the lengths of both vectors, so that only the direction counts.",
        ),
        Wrong(
            lambda q, g: max(_cosines(q, g), default=0.0),
            "you take the best of the generated questions. It is their mean: an answer that wanders off loses by it.",
        ),
        Wrong(
            lambda q, g: sum(_cosines(q, g)) / len(g) if g else 1.0,
            "you give an answer that declines a 1. Without a generated question the relevancy is 0, by convention.",
        ),
        Wrong(
            lambda q, g: _relevancy_peer(q, [[sum(column) for column in zip(*g, strict=True)]]) if g else 0.0,
            "you add up the generated vectors and take one cosine. A long vector then counts more: average the cosines.",
        ),
        Wrong(
            lambda q, g: sum((1 + c) / 2 for c in _cosines(q, g)) / max(len(g), 1),
            "you map the cosine to 0 to 1. It stays as it is, -1 to 1, and is no probability.",
        ),
        Wrong(
            lambda q, g: sum(abs(c) for c in _cosines(q, g)) / max(len(g), 1),
            "you drop the sign. A vector that points the other way has a cosine below 0.",
        ),
    ),
)


def my_answer_correctness(said, wanted, similarity):
    """Answer correctness with the weights .75 and .25.

    said is a list of booleans, one for each claim of the answer: does the reference support it? wanted is one for each claim of the
    reference: does the answer support it? At least one of the lists has an item. similarity is the cosine of both texts.
    """
    tp, fp, fn = sum(said), len(said) - sum(said), len(wanted) - sum(wanted)
    f1 = tp / (tp + (fp + fn) / 2)
    return 0.75 * f1 + 0.25 * similarity


def _correctness_peer(said, wanted, similarity):
    from sklearn.metrics import f1_score

    missed = [True] * (len(wanted) - sum(wanted))
    truth, found = [*said, *missed], [*[True] * len(said), *[False] * len(missed)]
    return 0.75 * float(f1_score(truth, found, zero_division=0.0)) + 0.25 * similarity


def _weighted(f1, similarity, weight=0.75):
    return weight * f1 + (1 - weight) * similarity


def _f1(said, wanted):
    tp, fp, fn = sum(said), len(said) - sum(said), len(wanted) - sum(wanted)
    return tp / (tp + (fp + fn) / 2)


def _share(flags):
    return sum(flags) / max(len(flags), 1)


_Y, _X = True, False

CORRECTNESS = Exercise(
    id="answer-correctness",
    title="Answer correctness",
    prompt=(
        "Write `my_answer_correctness(said, wanted, similarity)`. `said` tells for each claim of the answer whether the reference supports "
        "it: true positives and false positives. `wanted` tells for each claim of the reference whether the answer supports it; those that it "
        "does not are false negatives. Return 0.75 times F1 plus 0.25 times `similarity`, where F1 = TP / (TP + (FP + FN) / 2)."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Count first: TP and FP come from `said`, FN from `wanted`. `sum` counts the True in a list of booleans.",
        "Where nothing is right, TP is 0 and so is F1. The denominator is not 0 then: FP or FN is above it.",
    ),
    solution=my_answer_correctness,
    peer=_correctness_peer,
    cases=(
        ([_Y, _Y, _X], [_Y, _X], 0.8),
        ([_Y], [_Y, _X, _X], 0.5),
        ([_X, _X], [_X], 0.9),
        ([_Y, _Y], [_Y, _Y], 1.0),
        ([], [_X, _X], 0.2),
        ([_Y, _X, _X, _X], [_Y], 0.6),
    ),
    wrong=(
        Wrong(
            lambda s, w, c: _weighted(_share(s), c),
            "you take precision, TP / (TP + FP). What the answer leaves out must count, too: FN belongs into the formula.",
        ),
        Wrong(
            lambda s, w, c: _weighted(_share(w), c),
            "you take the share of the reference that is covered, which is recall. What the answer makes up must count, too: FP.",
        ),
        Wrong(
            lambda s, w, c: _weighted(_f1(s, w), c, 0.25),
            "you exchanged the weights. F1 has 0.75, the similarity 0.25.",
        ),
        Wrong(
            lambda s, w, c: _f1(s, w),
            "you left the similarity out. It has a quarter of the weight.",
        ),
        Wrong(
            lambda s, w, c: _weighted(sum(s) / (len(s) + len(w) - sum(w)), c),
            "you divide by TP + FP + FN, which is the Jaccard index. F1 counts only half of FP and of FN.",
        ),
        Wrong(
            lambda s, w, c: _weighted((_share(s) + _share(w)) / 2, c),
            "you average precision and recall. F1 is smaller when they differ: use the counts.",
        ),
    ),
)


REFERENCE = (
    "The ferry from Dunmar to Wexholm sails twice a day in summer. The crossing takes three hours and twenty minutes. "
    "A single ticket costs 24 crowns. Children under six travel free."
)


def my_precise_contexts():
    """A list of two or more contexts with context precision 1 that hold exactly half of the four facts."""
    return [
        "In summer the ferry from Dunmar to Wexholm sails twice a day.",
        "A single ticket costs 24 crowns on the car deck as well as above.",
    ]


def _verify_precise(contexts):
    if not isinstance(contexts, list) or not all(isinstance(each, str) and each.strip() for each in contexts):
        return "return a list of texts, none of them blank."
    if len(contexts) < 2:
        return "one context is a ranking without an order. Return two or more."
    judge = LexicalJudge()
    precision, recall = (metric(contexts, REFERENCE, judge).score for metric in (context_precision, context_recall))
    if precision == 0:
        return (
            "no context supports a fact of the reference, so that context precision is 0. Take over two of its facts."
        )
    if precision < 1:
        return f"context precision is {precision:.2f}: a context that does not help stands above one that does. Move or drop it."
    if recall > 0.5:
        return (
            f"precision is 1, but the contexts hold {recall:.0%} of the facts. Leave some out, until half are missing."
        )
    if recall < 0.5:
        return f"precision is 1, but the contexts hold only {recall:.0%} of the facts. Half of the four is wanted."
    return None


PRECISE = Exercise(
    id="precision-without-recall",
    title="Precise, and half is missing",
    prompt=(
        "The reference has four facts: the ferry from Dunmar to Wexholm sails twice a day in summer; the crossing takes three hours and "
        "twenty minutes; a single ticket costs 24 crowns; children under six travel free. Write `my_precise_contexts()`: a list of two or more "
        "contexts whose context precision is 1 although they hold only half of the facts. The judge counts shared words."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Context precision looks at what was retrieved. Which facts could be left out without its noticing?",
        "Write two contexts, one for each of two facts, and nothing of the other two. Use the words of the reference.",
    ),
    solution=my_precise_contexts,
    verify=_verify_precise,
    wrong=(
        Wrong(
            lambda: ["The ferry sails from Dunmar to Wexholm twice a day in summer."],
            "one context is a ranking without an order. Return two or more.",
        ),
        Wrong(
            lambda: ["Basalt cools slowly.", "The museum opens at ten."],
            "no context supports a fact of the reference, so that context precision is 0. Take over two of its facts.",
        ),
        Wrong(
            lambda: ["Basalt cools slowly.", "A single ticket costs 24 crowns. Children under six travel free."],
            "context precision is 0.50: a context that does not help stands above one that does. Move or drop it.",
        ),
        Wrong(
            lambda: REFERENCE.split(". "),
            "precision is 1, but the contexts hold 100% of the facts. Leave some out, until half are missing.",
        ),
        Wrong(
            lambda: ["Children under six travel free.", "Free travel for all children under six."],
            "precision is 1, but the contexts hold only 25% of the facts. Half of the four is wanted.",
        ),
    ),
)

EXERCISES = (FAITHFULNESS, RELEVANCY, CORRECTNESS, PRECISE)
