"""Judges without a model by hand; the report against scikit-learn, statsmodels and judges whose faults are known."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import util
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support
from sklearn.metrics import confusion_matrix as sklearn_matrix
from statsmodels.stats.proportion import proportion_confint

from studyguide.models import load_sentence_encoder
from studyguide.rag.claims import plain_questions, read_words, sentences, split_claims
from studyguide.rag.datasets import Claim, RagSample, samples
from studyguide.rag.judges import (
    LABELS,
    PADDING,
    EmbeddingJudge,
    Grade,
    LexicalJudge,
    Preference,
    Verdict,
    ask_all,
    judge_report,
)

properties = settings(deadline=None, max_examples=30)
close = torch.testing.assert_close


@pytest.fixture(scope="module")
def encoder():
    return load_sentence_encoder("all-MiniLM-L6-v2").double()


# Claims and questions


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("Orrin is old. It has no airport!", ["Orrin is old.", "It has no airport!"]),
        ("Room No. 17 costs 3.50 marks. Dr. Vell runs it.", ["Room No. 17 costs 3.50 marks.", "Dr. Vell runs it."]),
        ("The port is large; the capital is small.", ["The port is large", "the capital is small."]),
        ("Ann, Bea, and Cid live there.", ["Ann, Bea, and Cid live there."]),
        ('She said "Stop." Then she left.', ['She said "Stop.', "Then she left."]),
        ("I do not know.", []),
        ("The passages do not say how deep it is.", []),
        ("None of these passages mentions it.", []),
        ("It costs 3 crowns; the passages give no fare from Dunmar.", ["It costs 3 crowns"]),
        ("...", []),
    ],
)
def test_claims_by_punctuation(text, claims):
    assert split_claims(text) == claims
    assert LexicalJudge().claims(text) == claims


def test_most_answers_that_only_decline_have_no_claims_and_others_some():
    """On the shipped answers, whose claims a person listed."""
    declining = [sample for sample in samples() if not sample.claims]
    others = [sample for sample in samples("grounded") if sample.claims]
    assert sum(not split_claims(sample.answer) for sample in declining) / len(declining) > 0.8
    assert sum(bool(split_claims(sample.answer)) for sample in others) / len(others) > 0.98


def test_questions_by_form():
    answer = "The capital is Orrin. Trams run all night. The rivers were frozen."
    assert plain_questions(answer, 2) == ["What is the capital?", "Trams run all night?"]
    assert plain_questions(answer, 9)[2:] == ["What were the rivers?"]
    assert plain_questions("I cannot find it.", 3) == []


def test_words_numbers_and_negations():
    words, numbers, negated = read_words("Dunmar's two ferries don't carry 31,400 people at 7:15, or 2.5 tons in 1190.")
    assert words == {"dunmar", "ferri", "carri", "peopl", "ton"}
    assert numbers == {"2", "31400", "7:15", "2.5", "1190"}
    assert negated
    assert not read_words("Nothingness is notable.")[2]
    assert sentences(" One. Two? three! Four. ") == ("One.", "Two? three!", "Four.")


# The lexical judge

CITY = "Orrin has 212,000 inhabitants. It stands on both banks of the Alder. The old town is closed to cars."


@pytest.mark.parametrize(
    ("claim", "label", "confidence"),
    [
        ("Orrin has 212,000 inhabitants.", "supported", 1),
        ("Orrin has 548,000 inhabitants.", "contradicted", 1),
        ("The old town is not closed to cars.", "contradicted", 1),
        ("Orrin stands on the Alder.", "supported", 1),  # its words are in two neighbouring sentences
        ("The old town is closed to buses.", "supported", 3 / 4),  # old, town, close of 4
        ("The old harbour is closed to buses.", "not in context", 1 - 2 / 4),
        ("A bridge was built by Ostany.", "not in context", 1),
        ("212,000", "supported", 1),  # no words: the numbers count
    ],
)
def test_lexical_verdicts_by_hand(claim, label, confidence):
    for context in (CITY, ["Snow fell.", CITY], [CITY.upper(), "Snow fell."]):
        verdict = LexicalJudge().verdict(claim, context)
        assert (verdict.label, verdict.confidence) == (label, pytest.approx(confidence))
        assert "not a language model" in verdict.judge


def test_the_threshold_decides_between_support_and_absence():
    claim = "The old town is closed to buses."  # 3 of 4 words
    labels = [LexicalJudge(threshold).verdict(claim, CITY).label for threshold in (0.7, 0.75, 0.76)]
    assert labels == ["supported", "supported", "not in context"]


def test_what_the_lexical_judge_cannot_see():
    context = "Velmora is larger than Ostany."
    assert LexicalJudge().verdict("Ostany is larger than Velmora.", context).label == "supported"


def test_lexical_preferences_and_grades_by_hand():
    judge = LexicalJudge()
    question = "Which river crosses Orrin?"  # river, cross, orrin
    assert judge.prefer(question, "The Alder.", "The river Alder.") == Preference("b", judge.name)
    assert judge.prefer(question, "The Alder.", "The Tolva.").winner == "tie"
    answers = ["Yes.", "A river.", "A river in Orrin.", "The river that crosses Orrin is the Alder."]
    assert [judge.grade(question, answer, "river Orrin crosses Alder").score for answer in answers] == [1, 2, 3, 5]


# The judge by cosines


def test_cosine_verdicts_equal_sentence_transformers(encoder):
    judge = EmbeddingJudge(encoder, "MiniLM", threshold=0.5)
    claims = ["Orrin lies on a river.", "The ferry leaves at noon.", "Cars may not enter the old town."]
    table = util.cos_sim(encoder.encode(claims), encoder.encode(list(sentences(CITY)))).amax(1)
    verdicts = ask_all(judge, "verdict", [(claim, [CITY]) for claim in claims])
    for verdict, cosine in zip(verdicts, table.tolist(), strict=True):
        assert verdict.label == ("supported" if cosine >= 0.5 else "not in context")
        expected = (cosine - 0.5) / 0.5 if cosine >= 0.5 else (0.5 - cosine) / 1.5
        assert verdict.confidence == pytest.approx(expected, abs=1e-6)
        assert f"cosine {cosine:.2f} with" in verdict.reason
    assert {verdict.label for verdict in verdicts} == {"supported", "not in context"}
    assert "cosines of MiniLM, not a language model" in judge.name


def test_all_at_once_equals_one_by_one_and_reads_each_text_once(encoder):
    class Counting:
        max_seq_length, tokenizer = encoder.max_seq_length, encoder.tokenizer
        read = ()

        def encode(self, texts, **settings):
            self.read += tuple(texts)
            return encoder.encode(texts, **settings)

    calls = [(claim.text, sample.contexts) for sample in samples("misled")[:3] for claim in sample.claims]
    counting = Counting()
    judge = EmbeddingJudge(counting)
    together = ask_all(judge, "verdict", calls)
    assert len(counting.read) == len(set(counting.read))
    alone = [EmbeddingJudge(encoder).verdict(*call) for call in calls]
    for a, b in zip(together, alone, strict=True):
        assert (a.label, a.reason) == (b.label, b.reason)
        assert a.confidence == pytest.approx(b.confidence, abs=1e-9)
    asked = len(counting.read)
    assert [judge.verdict(*call) for call in calls] == together
    assert len(counting.read) == asked


def test_cosine_preferences_and_grades(encoder):
    judge = EmbeddingJudge(encoder)
    question, good, bad = "Where is the salt museum?", "The museum of salt is in Stenby.", "Trams run at night."
    [winners] = [[said.winner for said in ask_all(judge, "prefer", [(question, good, bad), (question, bad, good)])]]
    assert winners == ["a", "b"]
    assert judge.prefer(question, good, good).winner == "tie"
    cosine = util.cos_sim(*encoder.encode([good, "It names Stenby."])).item()
    assert judge.grade(question, good, "It names Stenby.") == Grade(1 + round(4 * cosine), judge.name)
    assert judge.grade(question, good, good).score == 5


def test_a_text_longer_than_the_encoder_reads_is_an_error(encoder):
    with pytest.raises(ValueError, match=r"tokens; expected at most the encoder's 256"):
        EmbeddingJudge(encoder).verdict("word " * 300, CITY)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(encoder):
    calls = [(claim.text, sample.contexts) for sample in samples("misled")[:3] for claim in sample.claims]
    expected = ask_all(EmbeddingJudge(encoder), "verdict", calls)
    there = load_sentence_encoder("all-MiniLM-L6-v2").double().to("cuda")
    for a, b in zip(ask_all(EmbeddingJudge(there), "verdict", calls), expected, strict=True):
        assert a.label == b.label
        assert a.confidence == pytest.approx(b.confidence, abs=1e-9)


# Errors


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("claims", [""], ValueError, "text is blank"),
        ("claims", [None], TypeError, "text is None; expected a text"),
        ("verdict", [" ", CITY], ValueError, "claim is blank"),
        ("verdict", ["A.", []], ValueError, "context is empty; expected at least one text"),
        ("verdict", ["A.", ["B.", " "]], ValueError, "context is blank"),
        ("verdict", ["A.", [3]], TypeError, "context is 3; expected a text"),
        ("questions", ["A.", 0], ValueError, "n is 0; expected at least 1"),
        ("questions", ["A.", 1.5], TypeError, "n is 1.5; expected an integer"),
        ("prefer", ["", "A.", "B."], ValueError, "question is blank"),
        ("prefer", ["Q?", "A.", None], TypeError, "b is None"),
        ("grade", ["Q?", "A.", ""], ValueError, "rubric is blank"),
        ("grade", [None, "A.", "R."], TypeError, "question is None"),
    ],
)
def test_errors(encoder, method, arguments, error, message):
    for judge in (LexicalJudge(), EmbeddingJudge(encoder)):
        with pytest.raises(error, match=re.escape(message)):
            getattr(judge, method)(*arguments)


@pytest.mark.parametrize("threshold", [0, 1, -0.5])
def test_thresholds_lie_between_0_and_1(threshold):
    for make in (LexicalJudge, lambda threshold: EmbeddingJudge(None, threshold=threshold)):
        with pytest.raises(ValueError, match="threshold is"):
            make(threshold=threshold)


# The report


class Fake:
    """A judge that says what it is told to: verdicts by the claim's text, preferences by a rule."""

    name = "Fake"

    def __init__(self, verdicts, rule=lambda question, a, b: "tie"):
        self.verdicts, self.rule, self.asked = verdicts, rule, []

    def verdict(self, claim, context):
        self.asked.append(claim)
        return Verdict(self.verdicts[claim], 1.0, self.name)

    def prefer(self, question, a, b):
        return Preference(self.rule(question, a, b), self.name)


def made(labels, per_question=3):
    """Samples whose claims are numbered and have these labels, several claims a question."""
    return [
        RagSample(
            question=f"Question {start}?",
            contexts=["A text."],
            answer=f"Answer {start}.",
            claims=[
                Claim(text=f"{start + i}", label=label) for i, label in enumerate(labels[start : start + per_question])
            ],
        )
        for start in range(0, len(labels), per_question)
    ]


def random_labels(seed, n=90, noise=0.4):
    """Labels, and verdicts that equal them but for noise."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(LABELS, n, p=[0.6, 0.25, 0.15])
    said = np.where(rng.random(n) < noise, rng.choice(LABELS, n), labels)
    return labels.tolist(), said.tolist()


def report_of(labels, said, rule=lambda question, a, b: "tie", per_question=3, **settings):
    judge = Fake({str(i): label for i, label in enumerate(said)}, rule)
    return judge_report(judge, made(labels, per_question), **{"rng": 0} | settings)


@properties
@given(st.integers(0, 10_000))
def test_the_report_equals_scikit_learn(seed):
    labels, said = random_labels(seed)
    report = report_of(labels, said, n_resamples=50)
    order = list(LABELS)
    assert report.matrix.tolist() == sklearn_matrix(labels, said, labels=order).tolist()
    assert report.agreement.estimate.item() == pytest.approx(accuracy_score(labels, said))
    assert report.kappa.estimate.item() == pytest.approx(cohen_kappa_score(labels, said, labels=order))
    precision, recall, *_ = precision_recall_fscore_support(labels, said, labels=order, zero_division=0)
    for i, label in enumerate(LABELS):
        assert report.precision[label].estimate.item() == pytest.approx(precision[i])
        assert report.recall[label].estimate.item() == pytest.approx(recall[i])
        for interval in (report.precision[label], report.recall[label], report.kappa, report.agreement):
            assert interval.low <= interval.estimate <= interval.high


def test_intervals_equal_a_bootstrap_of_questions_written_out():
    labels, said = map(np.array, random_labels(5))
    rng, drawn = np.random.default_rng(1), {"kappa": [], "precision": [], "recall": []}
    for _ in range(1000):
        items = np.concatenate([[3 * q, 3 * q + 1, 3 * q + 2] for q in rng.integers(0, 30, 30)])
        y, p = labels[items], said[items]
        drawn["kappa"].append(cohen_kappa_score(y, p))
        drawn["precision"].append(np.mean(y[p == "contradicted"] == "contradicted"))
        drawn["recall"].append(np.mean(p[y == "contradicted"] == "contradicted"))
    report = report_of(labels.tolist(), said.tolist(), n_resamples=9999)
    ours = {
        "kappa": report.kappa,
        "precision": report.precision["contradicted"],
        "recall": report.recall["contradicted"],
    }
    for name, interval in ours.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        assert interval.low.item() == pytest.approx(low, abs=0.03)
        assert interval.high.item() == pytest.approx(high, abs=0.03)


def test_repeating_each_claim_of_a_question_does_not_narrow_the_intervals():
    labels, said = random_labels(3, n=40)
    once = report_of(labels, said, per_question=1)
    tenfold = report_of([x for x in labels for _ in range(10)], [x for x in said for _ in range(10)], per_question=10)
    for name in ("agreement", "kappa"):
        a, b = getattr(once, name), getattr(tenfold, name)
        close(torch.stack([a.low, a.high]), torch.stack([b.low, b.high]))


def test_a_flawless_judge_has_wilson_limits_over_questions():
    labels, _ = random_labels(1, n=60)
    report = report_of(labels, labels)
    assert report.agreement.estimate == report.kappa.estimate == 1
    low, high = proportion_confint(20, 20, method="wilson")
    assert [report.agreement.low.item(), report.agreement.high.item()] == pytest.approx([low, high])
    found = len({i // 3 for i, label in enumerate(labels) if label == "contradicted"})
    assert report.recall["contradicted"].low.item() == pytest.approx(
        proportion_confint(found, found, method="wilson")[0]
    )
    wrong = report_of(["supported"] * 30, ["contradicted"] * 30)
    assert [wrong.agreement.estimate, wrong.agreement.low] == [0, 0]
    assert wrong.agreement.high.item() == pytest.approx(proportion_confint(0, 10, method="wilson")[1])


def test_what_is_undefined_is_none_and_says_so():
    report = report_of(["supported"] * 6 + ["contradicted"] * 3, ["supported"] * 9)
    assert report.precision["contradicted"] is None
    assert report.recall["not in context"] is None
    assert report.kappa.estimate == 0
    assert report.swapped is None
    assert report.first is None
    assert re.search(r"precision of 'contradicted' +undefined", str(report))
    same = report_of(["supported"] * 6, ["supported"] * 6)
    assert same.kappa is None


def test_a_judge_of_moods_is_asked_twice():
    class Moody(Fake):
        def verdict(self, claim, context):
            self.asked.append(claim)
            changed = claim == "0" and self.asked.count("0") > 1
            return Verdict("contradicted" if changed else self.verdicts[claim], 1.0, self.name)

    judge = Moody({str(i): "supported" for i in range(12)})
    assert judge_report(judge, made(["supported"] * 12), rng=0).repeated.estimate.item() == pytest.approx(11 / 12)
    assert len(judge.asked) == 24


def test_a_judge_with_a_memory_is_asked_through_again():
    class Remembering(Fake):
        def again(self):
            return Fake(dict.fromkeys(self.verdicts, "contradicted"))

    report = judge_report(Remembering({str(i): "supported" for i in range(6)}), made(["supported"] * 6), rng=0)
    assert (report.agreement.estimate, report.repeated.estimate) == (1, 0)


def two_answers(n):
    """n questions with two different answers, the second one longer."""
    first, second = made(["supported"] * n, 1), made(["supported"] * n, 1)
    return first + [sample.model_copy(update={"answer": sample.answer + " It is long."}) for sample in second]


@pytest.mark.parametrize(
    ("rule", "swapped", "first", "padded"),
    [
        (lambda q, a, b: "a", 0, 1, 0),
        (lambda q, a, b: "b", 0, 0, 0),
        (lambda q, a, b: "tie", 10, None, 0),
        (lambda q, a, b: "a" if len(a) > len(b) else "b", 10, None, 10),
        (lambda q, a, b: "a" if len(a) < len(b) else "b", 10, None, 0),
        # by place where the question's number is below 4, else the shorter one
        (lambda q, a, b: "a" if int(re.search(r"\d+", q)[0]) < 4 or len(a) < len(b) else "b", 6, 1, 0),
        # a tie in one order only: not the same winner, but no place has won
        (lambda q, a, b: "a" if len(a) < len(b) else "tie", 0, None, 0),
    ],
    ids=["first", "second", "tie", "longer", "shorter", "place, then shorter", "one tie"],
)
def test_biases_of_known_judges(rule, swapped, first, padded):
    judge = Fake({str(i): "supported" for i in range(10)}, rule)
    report = judge_report(judge, two_answers(10), rng=0)
    assert (report.pairs, report.answers) == (10, 10)
    assert report.swapped.estimate.item() == swapped / 10
    assert (report.first and report.first.estimate.item()) == first
    assert report.padded.estimate.item() == padded / 10
    low, high = proportion_confint(swapped, 10, method="wilson")
    assert [report.swapped.low.item(), report.swapped.high.item()] == pytest.approx([low, high])


def test_the_padded_answer_begins_with_the_answer():
    seen = []
    judge = Fake({str(i): "supported" for i in range(2)}, lambda q, a, b: seen.append((a, b)) or "tie")
    judge_report(judge, made(["supported"] * 2, 1), rng=0)
    assert seen == [(x, x + PADDING) for x in ("Answer 0.", "Answer 1.")] + [
        (x + PADDING, x) for x in ("Answer 0.", "Answer 1.")
    ]


def test_the_shipped_labels_and_both_offline_judges(encoder):
    some = [sample for sample in samples() if sample.id < "q006"]
    for judge in (LexicalJudge(), EmbeddingJudge(encoder, "MiniLM")):
        report = judge_report(judge, some, n_resamples=99, rng=0)
        assert report.repeated.estimate == report.swapped.estimate == 1
        assert report.judge == judge.name in str(report)
        assert report.matrix.sum() == sum(len(sample.claims) for sample in some)
    assert report.precision["contradicted"] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "labelled claims belong to 0 questions; expected 2 or more"),
        (made(["supported"] * 3), "labelled claims belong to 1 questions"),
        ([sample.model_copy(update={"claims": None}) for sample in made(["supported"] * 9)], "belong to 0 questions"),
    ],
)
def test_errors_of_the_report(given, message):
    with pytest.raises(ValueError, match=message):
        judge_report(LexicalJudge(), given, rng=0)


def test_a_label_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="a verdict's label is 'true'; expected one of 'supported'"):
        report_of(["supported"] * 6, ["true"] * 6)
    with pytest.raises(ValueError, match="a winner is 'first'; expected one of 'a', 'b', 'tie'"):
        report_of(["supported"] * 6, ["supported"] * 6, rule=lambda q, a, b: "first")
    with pytest.raises(ValueError, match="confidence is 95"):
        report_of(["supported"] * 6, ["supported"] * 6, confidence=95)
