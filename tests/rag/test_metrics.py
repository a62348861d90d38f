"""RAG metrics against the formulas worked out again, scikit-learn, a textbook edit distance and hand calculation."""

import difflib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score
from sklearn.metrics.pairwise import cosine_similarity

from studyguide.models import load_sentence_encoder
from studyguide.rag.datasets import samples
from studyguide.rag.judges import LexicalJudge, Verdict
from studyguide.rag.metrics import (
    answer_correctness,
    answer_relevancy,
    answer_similarity,
    context_precision,
    context_precision_by_id,
    context_precision_by_text,
    context_recall,
    context_recall_by_id,
    context_recall_by_text,
    faithfulness,
    string_similarity,
)

flags = st.lists(st.booleans(), min_size=1, max_size=8)


class Plain:
    """A judge for tests: claims are the lines of a text; a text supports what it contains, and denies "not" and that."""

    name = "plain"

    def claims(self, text):
        return [line for line in text.split("\n") if line != "I do not know"]

    def verdict(self, claim, context):
        lines = [line for text in ([context] if isinstance(context, str) else context) for line in text.split("\n")]
        label = "supported" if claim in lines else "contradicted" if f"not {claim}" in lines else "not in context"
        return Verdict(label, 1.0, self.name, f"of {len(lines)} lines")

    def questions(self, answer, n):
        return [f"{claim}?" for claim in self.claims(answer)][:n]


JUDGE = Plain()


@pytest.fixture(scope="module")
def encoder():
    return load_sentence_encoder("all-MiniLM-L6-v2")


# context precision


def ragas_average_precision(verdicts):
    """The formula as ragas publishes it, with its 1e-10."""
    total = sum(sum(verdicts[: k + 1]) / (k + 1) * verdicts[k] for k in range(len(verdicts)))
    return total / (sum(verdicts) + 1e-10)


@pytest.mark.parametrize(("helps", "expected"), [([1, 1, 0], 1), ([0, 1, 1], 7 / 12), ([0, 0, 1], 1 / 3), ([0, 0], 0)])
def test_context_precision_by_hand(helps, expected):
    result = context_precision(["fact" if hit else "other" for hit in helps], "fact", JUDGE)
    assert result.score == pytest.approx(expected)
    assert [each.value for each in result.evidence] == helps
    assert result.judge == "plain"


@given(flags)
@settings(deadline=None)
def test_context_precision_is_the_average_precision_of_what_was_retrieved(helps):
    score = context_precision(["fact" if hit else "other" for hit in helps], "fact\nsecond fact", JUDGE).score
    assert score == pytest.approx(ragas_average_precision(helps), abs=1e-9)
    if any(helps):
        assert score == pytest.approx(average_precision_score(helps, range(len(helps), 0, -1)), abs=1e-12)


def test_context_precision_never_penalises_what_was_missed():
    reference = "\n".join(f"fact {i}" for i in range(10))
    assert context_precision(["fact 0"], reference, JUDGE).score == 1
    assert context_recall(["fact 0"], reference, JUDGE).score == pytest.approx(0.1)


def test_its_evidence_names_the_claim_that_a_context_supports():
    result = context_precision(["x", "x\nfact 2"], "fact 1\nfact 2", JUDGE)
    assert [(e.text, e.verdict, e.reason) for e in result.evidence] == [
        ("x", "does not help", ""),
        ("x\nfact 2", "helps", "it supports: fact 2"),
    ]
    assert str(result) == "context_precision: 0.5\n  0  does not help: x\n  1  helps: x\nfact 2"


# context recall and faithfulness


@given(flags)
@settings(deadline=None)
def test_recall_and_faithfulness_are_shares_of_claims(found):
    text = "\n".join(f"claim {i}" for i in range(len(found)))
    contexts = ["other"] + [f"claim {i}" for i, hit in enumerate(found) if hit]
    share = sum(found) / len(found)
    assert context_recall(contexts, text, JUDGE).score == pytest.approx(share)
    result = faithfulness(text, contexts, JUDGE)
    assert result.score == pytest.approx(share)
    assert [each.verdict == "supported" for each in result.evidence] == found
    assert faithfulness(text, contexts[::-1], JUDGE).score == result.score  # the order of contexts does not matter


def test_contradicted_and_invented_claims_cost_the_same():
    result = faithfulness("a\nb\nc", ["a\nnot b"], JUDGE)
    assert [each.verdict for each in result.evidence] == ["supported", "contradicted", "not in context"]
    assert result.score == pytest.approx(1 / 3)


def test_faithfulness_with_the_shipped_labels_of_the_grounded_system_is_1():
    for sample in samples("grounded")[:5]:
        labels = {claim.text: claim.label for claim in sample.claims}

        class Known(Plain):
            def claims(self, text, labels=labels):
                return list(labels)

            def verdict(self, claim, context, labels=labels):
                return Verdict(labels[claim], 1.0, "labels")

        assert faithfulness(sample.answer, sample.contexts, Known()).score == (1 if labels else None)


def test_undefined_is_none_with_a_reason():
    assert faithfulness("I do not know", ["a"], JUDGE).score is None
    assert faithfulness("I do not know", ["a"], JUDGE).reason.startswith("the answer makes no claim")
    for metric in (context_precision, context_recall):
        assert metric(["a"], None, JUDGE).reason == "there is no reference"
        assert metric(["a"], "I do not know", JUDGE).reason == "the reference makes no claim"
        assert metric(["a"], None, JUDGE).score is None
    assert answer_similarity("a", None, None).score is answer_correctness("a", None, JUDGE, None).score is None
    assert answer_correctness("I do not know", "I do not know", JUDGE, None).score is None
    assert context_recall_by_id(["a"], []).score is context_precision_by_id([], ["a"]).score is None
    assert str(context_recall_by_id(["a"], {})) == "context_recall_by_id: undefined (no id is relevant)"


# ids and strings


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3), min_size=1),
)
@settings(deadline=None)
def test_by_id_are_shares_of_sets(retrieved, grades):
    for least in (1, 2):
        wanted = {name for name, grade in grades.items() if grade >= least}
        hits = len(set(retrieved) & wanted)
        assert context_precision_by_id(retrieved, grades, least).score == pytest.approx(hits / len(set(retrieved)))
        recall = context_recall_by_id(retrieved, grades, least).score
        assert recall == (pytest.approx(hits / len(wanted)) if wanted else None)
    assert context_recall_by_id(retrieved, list(grades)).score == context_recall_by_id(retrieved, grades).score


def levenshtein(a, b):
    """The textbook recursion, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


@given(
    st.lists(st.text("ab c", min_size=1), min_size=1, max_size=4),
    st.lists(st.text("ab c", min_size=1), min_size=1, max_size=4),
)
@settings(deadline=None)
def test_by_text_follows_the_published_formulas(contexts, wanted):
    contexts, wanted = [f"x{text}" for text in contexts], [f"x{text}" for text in wanted]
    near = [[1 - levenshtein(a, b) / max(len(a), len(b)) for b in wanted] for a in contexts]
    helps = [int(max(row) >= 0.5) for row in near]
    assert context_precision_by_text(contexts, wanted).score == pytest.approx(ragas_average_precision(helps), abs=1e-9)
    covered = [max(row[j] for row in near) >= 0.5 for j in range(len(wanted))]
    assert context_recall_by_text(contexts, wanted).score == pytest.approx(sum(covered) / len(wanted))


def test_another_similarity_and_threshold():
    def shared(a, b):
        return difflib.SequenceMatcher(None, a, b).ratio()

    assert context_precision_by_text(["the cat sat", "dogs"], ["the cat sat down"], shared, 0.8).score == 1
    assert context_recall_by_text(["dogs"], ["the cat sat down", "dog"], shared, 0.8).score == 0.5
    assert string_similarity("", "") == string_similarity("é", "é") == 1
    assert string_similarity("abc", "") == 0


# relevancy, similarity, correctness


def test_answer_relevancy_is_a_mean_cosine(encoder):
    question, answer = "Where is Paris?", "Paris is in France\nIt rains"
    result = answer_relevancy(question, answer, JUDGE, encoder)
    made = ["Paris is in France?", "It rains?"]
    expected = cosine_similarity(encoder.encode([question]), encoder.encode(made))[0]
    assert [each.text for each in result.evidence] == made
    assert [each.value for each in result.evidence] == pytest.approx(expected.tolist(), abs=1e-6)
    assert result.score == pytest.approx(expected.mean(), abs=1e-6)
    assert len(answer_relevancy(question, answer, JUDGE, encoder, n=1).evidence) == 1


def test_an_answer_that_declines_is_not_relevant():
    result = answer_relevancy("Where is Paris?", "I do not know", JUDGE, None)
    assert result.score == 0
    assert "declines" in result.reason


def test_answer_similarity_is_the_cosine(encoder):
    a, b = "The cat sat.", "A cat was sitting."
    expected = cosine_similarity(encoder.encode([a]), encoder.encode([b])).item()
    assert answer_similarity(a, b, encoder).score == pytest.approx(expected, abs=1e-6)
    assert answer_similarity(b, a, encoder).score == pytest.approx(expected, abs=1e-6)
    assert answer_similarity(a, a, encoder).score == pytest.approx(1, abs=1e-6)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
@settings(deadline=None)
def test_correctness_without_the_cosine_is_f1(tp, fp, fn):
    answer = [f"both {i}" for i in range(tp)] + [f"made up {i}" for i in range(fp)]
    reference = [f"both {i}" for i in range(tp)] + [f"forgotten {i}" for i in range(fn)]
    said, wanted = ("\n".join(lines or ["I do not know"]) for lines in (answer, reference))
    result = answer_correctness(said, wanted, JUDGE, None, weights=(1, 0))
    if not answer and not reference:
        assert result.score is None
        return
    expected = f1_score([1] * tp + [0] * fp + [1] * fn, [1] * tp + [1] * fp + [0] * fn, zero_division=0.0)
    assert result.score == pytest.approx(float(expected))
    kinds = [each.verdict for each in result.evidence]
    assert [kinds.count(kind) for kind in ("TP", "FP", "FN")] == [tp, fp, fn]


def test_correctness_weighs_f1_and_cosine(encoder):
    answer, reference = "a cat\na dog", "a cat\na cow"
    cosine = answer_similarity(answer, reference, encoder).score
    result = answer_correctness(answer, reference, JUDGE, encoder)
    assert result.score == pytest.approx(0.75 * 0.5 + 0.25 * cosine)
    twice = answer_correctness(answer, reference, JUDGE, encoder, weights=(1.5, 0.5))
    assert twice.score == pytest.approx(result.score)
    assert answer_correctness(answer, reference, JUDGE, encoder, weights=(0, 1)).score == pytest.approx(cosine)


# errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: faithfulness("a", [], JUDGE), ValueError, "context is empty; expected at least one text"),
        (lambda: faithfulness("a", ["a", " "], JUDGE), ValueError, "context is blank"),
        (lambda: faithfulness(" ", ["a"], JUDGE), ValueError, "answer is blank"),
        (lambda: faithfulness(3, ["a"], JUDGE), TypeError, "answer is 3; expected a text"),
        (lambda: context_recall([None], "a", JUDGE), TypeError, "context is None"),
        (lambda: context_precision(["a"], "", JUDGE), ValueError, "reference is blank"),
        (lambda: context_precision([], "a", JUDGE), ValueError, "context is empty"),
        (lambda: answer_relevancy(" ", "a", JUDGE, None), ValueError, "question is blank"),
        (lambda: answer_relevancy("a", "a", JUDGE, None, n=0), ValueError, "n is 0"),
        (lambda: answer_correctness("a", "a", JUDGE, None, weights=(0, 0)), ValueError, r"weights are \(0, 0\)"),
        (lambda: answer_correctness("a", "a", JUDGE, None, weights=(-1, 2)), ValueError, "weights are"),
        (lambda: answer_correctness("a", "a", JUDGE, None, weights=(math.nan, 1)), ValueError, "weights are"),
        (lambda: context_recall_by_id("p1", ["p1"]), TypeError, "context_ids is the text 'p1'"),
        (lambda: context_recall_by_id(["p1"], "p1"), TypeError, "relevant is the text 'p1'"),
        (lambda: context_recall_by_text(["a"], [], threshold=0.5), ValueError, "context is empty"),
        (lambda: context_recall_by_text(["a"], ["a"], threshold=2), ValueError, "threshold is 2"),
        (lambda: context_recall_by_text(["a"], ["a"], threshold=math.nan), ValueError, "threshold is nan"),
    ],
    ids=range(17),
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_hallucinating_is_told_from_grounded_by_faithfulness_alone():
    judge = LexicalJudge()
    good, bad = samples("grounded")[:30], samples("hallucinating")[:30]
    for a, b in zip(good, bad, strict=True):
        if a.reference is not None:
            assert context_recall(a.contexts, a.reference, judge) == context_recall(b.contexts, b.reference, judge)
    means = []
    for system in (good, bad):
        scores = [faithfulness(each.answer, each.contexts, judge).score for each in system]
        scores = [score for score in scores if score is not None]
        means.append(sum(scores) / len(scores))
    assert means[0] > means[1]
