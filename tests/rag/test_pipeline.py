"""The pipeline and its tables: what is retrieved, what stands in an answer, and statistics against scipy and statsmodels."""

import json
import math

import pandas as pd
import pytest
import torch
from scipy import stats
from statsmodels.stats.multitest import multipletests

from studyguide.models import load_sentence_encoder
from studyguide.rag.datasets import Passage, Question, RagSample, cases, passages, questions, samples
from studyguide.rag.judges import LexicalJudge
from studyguide.rag.pipeline import (
    DECLINED,
    METRICS,
    chat_generator,
    compare_pipelines,
    evaluate_rag_file,
    evaluate_samples,
    extract,
    lm_generator,
    make_pipeline,
    without_citations,
)

JUDGE = LexicalJudge()
FAST = ["context_recall", "faithfulness"]


@pytest.fixture(scope="module")
def encoder():
    return load_sentence_encoder("all-MiniLM-L6-v2")


def knowledge():
    texts = {
        "a": "Orrin is the capital of Velmora. It has no airport.",
        "b": "The Alder is a river of 500 kilometres.",
        "c": "Dunmar is a port. The ferry leaves at noon.",
    }
    return [Passage(id=name, title=name.upper(), text=text, source="tinyworld") for name, text in texts.items()]


def sample(question, answer, *contexts, **more):
    return RagSample(question=question, answer=answer, contexts=list(contexts), **more)


# retrieve and generate


@pytest.mark.parametrize("how", ["dense", "words", "hybrid"])
def test_each_search_finds_the_passage(how, encoder):
    pipeline = make_pipeline(knowledge(), how=how, k=2, encoder=encoder)
    found = pipeline(
        ["What is the capital of Velmora?", "When does the ferry leave?", "What is the capital of Velmora?"]
    )
    assert [each.context_ids[0] for each in found] == ["a", "c", "a"]
    assert found[0] == found[2]
    assert {len(each.contexts) for each in found} == {2}
    assert found[0].answer == "Orrin is the capital of Velmora [1]."


def test_samples_keep_what_is_known_of_a_question():
    question = Question(
        id="q9", question="How long is the Alder?", reference="500 km.", relevance={"c": 1, "b": 2}, topic="x"
    )
    [found] = make_pipeline(knowledge(), how="words", k=1)([question])
    assert (found.id, found.reference, found.relevant_ids, found.context_ids) == ("q9", "500 km.", ["b", "c"], ["b"])


def test_another_generator_gets_the_question_and_the_contexts():
    seen = []
    pipeline = make_pipeline(knowledge(), how="words", k=1, generate=lambda *given: seen.append(given) or "Yes.")
    assert pipeline(["the river"])[0].answer == "Yes."
    assert seen == [("the river", ["The Alder is a river of 500 kilometres."])]
    assert pipeline([]) == []


def test_extract_cites_declines_and_keeps_the_order():
    contexts = ["It rains. The mill grinds rye.", "The old mill grinds rye and wheat."]
    assert extract("What does the old mill grind?", contexts) == "The old mill grinds rye and wheat [2]."
    assert extract("What does the old mill grind?", contexts, n=2).endswith("[2]. The mill grinds rye [1].")
    assert extract("Who sails to Oslo?", contexts) == DECLINED
    assert extract("mill", ["A mill.", "A mill."]) == "A mill [1]."  # of equals the earlier
    assert JUDGE.claims(DECLINED) == []


def test_the_language_model_answers_from_its_contexts():
    generate = lm_generator("tinyworld-gpt2")
    assert generate("The secret password is", ["The secret password is BLUE WOLF."]) == "BLUE WOLF."
    with pytest.raises(ValueError, match="expected less than the model's 256"):
        generate("The capital of France is", ["The weather today is sunny."] * 60)


def test_a_chat_server_gets_numbered_contexts():
    class Chat:
        def ask(self, schema, task, **texts):
            assert list(texts) == ["question", "context 1", "context 2"]
            assert "[2]" in task
            return schema(answer=f"{texts['context 2']} [2]")

    assert chat_generator(Chat())("Where?", ["Here.", "There."]) == "There. [2]"


def test_citations_are_not_judged():
    assert without_citations("It has 3 legs [1][12]. So [2].") == "It has 3 legs. So."
    cited = sample("Who?", "The fox ran home [1].", "The fox ran home.")
    assert evaluate_samples([cited], JUDGE, metrics=["faithfulness"]).details[0]["faithfulness"].score == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"how": "magic"}, "how"),
        ({"k": 4}, "k is 4; expected at most the number of passages, 3"),
        ({"k": 0}, "k is 0"),
        ({"passages": []}, "passages has 0 items"),
        ({"passages": [*knowledge(), *knowledge()]}, "6 items and 3 ids"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make_pipeline(**{"passages": knowledge(), "how": "words", "k": 1} | settings)


def test_a_single_question_must_be_in_a_list():
    with pytest.raises(TypeError, match="questions is the text 'Why"):
        make_pipeline(knowledge(), how="words", k=1)("Why?")
    with pytest.raises(ValueError, match="a question is blank"):
        make_pipeline(knowledge(), how="words", k=1)([" "])


def test_the_course_is_searched_well_enough():
    asked = [question for question in questions() if question.relevance]
    report = evaluate_samples(make_pipeline(passages(), how="words")(asked), JUDGE, metrics=["context_recall_by_id"])
    assert report.summary.loc["context_recall_by_id", "mean"] > 0.5


# evaluate


def test_a_report_holds_means_counts_and_evidence():
    scored = [
        sample("q1", "The fox ran home. Whales sing.", "The fox ran home.", reference="The fox ran home."),
        sample("q2", "Bears sleep in winter.", "Bears sleep in winter.", id="second"),
        sample("q3", "I do not know.", "The fox ran home.", reference="Whales sing songs."),
    ]
    report = evaluate_samples(scored, JUDGE, metrics=FAST)
    assert report.summary["n"].tolist() == [2, 2]
    assert report.summary["undefined"].tolist() == [1, 1]
    assert report.summary["mean"].tolist() == [0.5, 0.75]
    assert report.scores.index.tolist() == ["sample 1", "second", "sample 3"]
    assert report.scores["faithfulness"].tolist()[:2] == [0.5, 1.0]
    assert math.isnan(report.scores["faithfulness"].iloc[2])
    assert report.worst("faithfulness", 1) == [(0, report.details[0]["faithfulness"])]
    assert report.worst("context_recall")[0][0] == 2
    assert JUDGE.name in str(report)


def test_every_metric_of_the_table_runs(encoder):
    report = evaluate_samples(samples("grounded")[:2], JUDGE, encoder, metrics=METRICS)
    assert list(report.summary.index) == list(METRICS)
    assert report.summary["n"].tolist() == [2] * len(METRICS)
    assert [each.metric for each in report.details[0].values()] == list(METRICS)


def test_without_ids_the_metrics_by_id_are_undefined():
    score = evaluate_samples(cases()[:1], JUDGE, metrics=["context_recall_by_id"]).details[0]["context_recall_by_id"]
    assert (score.score, score.reason) == (None, "the sample has no context_ids or no relevant_ids")


def test_intervals():
    def row(texts):
        scored = [sample("q", text, "The fox ran home.") for text in texts]
        return evaluate_samples(scored, JUDGE, metrics=["faithfulness"]).summary.loc["faithfulness"]

    good, bad, mixed = "The fox ran home.", "Whales sing.", "The fox ran home. Whales sing."
    wilson = stats.binomtest(5, 5).proportion_ci(method="wilson")
    assert row([good] * 5)[["mean", "low", "high"]].tolist() == pytest.approx([1, wilson.low, 1])
    assert row([bad] * 5)[["mean", "low", "high"]].tolist() == pytest.approx([0, 0, 1 - wilson.low])
    found = row([good, bad, mixed] * 10)
    error = stats.sem([1, 0, 0.5] * 10)
    assert found["low"] == pytest.approx(0.5 - 1.96 * error, abs=0.02)
    assert found["high"] == pytest.approx(0.5 + 1.96 * error, abs=0.02)
    one = row([mixed])
    assert one["mean"] == 0.5
    assert math.isnan(one["low"])
    assert row(["I do not know."])["n"] == 0


@pytest.mark.parametrize(
    ("rows", "metrics", "message"),
    [
        ([], FAST, "there are 0 samples and 2 metrics"),
        (cases(), [], "there are 4 samples and 0 metrics"),
        (cases(), ["bleu"], "a metric"),
    ],
)
def test_nothing_to_score_is_an_error(rows, metrics, message):
    with pytest.raises(ValueError, match=message):
        evaluate_samples(rows, JUDGE, metrics=metrics)


def test_fifty_questions_go_from_file_to_table_in_one_call(tmp_path):
    rows = [
        {"question": s.question, "contexts": s.contexts, "answer": s.answer, "reference": s.reference}
        for s in samples("grounded")[:50]
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    report = evaluate_rag_file(file, JUDGE, metrics=FAST)
    assert len(report.scores) == 50
    assert str(report).startswith("50 samples, judged by LexicalJudge")
    file.write_text(json.dumps(rows[0]) + '\n\n{"question": "Why?"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 3, contexts: missing"):
        evaluate_rag_file(file, JUDGE)


# compare


def system(scores):
    """Answers with so many supported claims of two; None declines."""
    texts = {0: "Whales sing. Bears dance.", 1: "The fox ran home. Bears dance.", 2: "The fox ran home. Owls hoot."}
    return [
        sample(f"q{i}", "I do not know." if n is None else texts[n], "The fox ran home. Owls hoot.", id=f"{i:02}")
        for i, n in enumerate(scores)
    ]


A = [0, 1, 2, 1, 0, 2, 1, None, 0, 1, 2, 0]
B = [1, 2, 2, 2, 1, 2, 0, 2, None, 2, 2, 1]
C = [0, 1, 2, 1, 0, 2, 1, None, 0, 1, 2, 0]


def test_differences_are_paired_and_corrected():
    comparison = compare_pipelines(
        {"a": system(A), "b": system(B)[::-1], "c": system(C)}, JUDGE, metrics=["faithfulness"]
    )
    table = comparison.summary.loc["faithfulness"]
    pairs = [(x / 2, y / 2) for x, y in zip(A, B, strict=True) if None not in (x, y)]
    x, y = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    b = table.loc["b"]
    assert (b["pairs"], b["n"], table.loc["a", "n"]) == (10, 11, 11)
    assert b["difference"] == pytest.approx((y - x).mean().item())
    exact = stats.permutation_test((y.numpy(), x.numpy()), lambda a, b: (a - b).mean(), permutation_type="samples")
    assert b["p"] == pytest.approx(exact.pvalue)
    assert table.loc["c", ["difference", "d_low", "d_high", "p"]].tolist() == [0, 0, 0, 1]
    holm = multipletests(table["p"].dropna(), method="holm")[1]
    assert table["p_holm"].dropna().tolist() == pytest.approx(holm.tolist())
    assert pd.isna(table.loc["a", "difference"])
    alone = evaluate_samples(system(A), JUDGE, metrics=["faithfulness"]).summary
    pd.testing.assert_frame_equal(comparison.reports["a"].summary, alone)


def test_the_baseline_can_be_named_and_is_in_the_text():
    systems = {"a": system(A), "b": system(B)}
    comparison = compare_pipelines(systems, JUDGE, metrics=["faithfulness"], baseline="b")
    assert comparison.summary.loc[("faithfulness", "a"), "difference"] < 0
    assert str(comparison).startswith("differences are to b, question by question; judged by LexicalJudge")


def test_without_common_pairs_there_is_no_difference():
    comparison = compare_pipelines({"a": system([1, None]), "b": system([None, 2])}, JUDGE, metrics=["faithfulness"])
    row = comparison.summary.loc[("faithfulness", "b")]
    assert row["pairs"] == 0
    assert row[["difference", "d_low", "p", "p_holm"]].isna().all()
    assert str(comparison)


@pytest.mark.parametrize(
    ("systems", "baseline", "message"),
    [
        ({"a": system(A)}, None, "there are 1 systems"),
        ({"a": system(A), "b": system(B)[:-1]}, None, "b and a differ in 1 questions, such as '11'"),
        ({"a": system(A), "b": system(B) + system(B)[:1]}, None, "b answers a question twice"),
        ({"a": system(A), "b": system(B)}, "z", "baseline"),
    ],
)
def test_systems_must_answer_the_same_questions(systems, baseline, message):
    with pytest.raises(ValueError, match=message):
        compare_pipelines(systems, JUDGE, metrics=["faithfulness"], baseline=baseline)


def test_the_three_shipped_systems_are_told_apart():
    systems = {name: samples(name) for name in ("grounded", "hallucinating", "misled")}
    table = compare_pipelines(systems, JUDGE, metrics=["faithfulness", "context_recall_by_id"]).summary
    assert table.loc[("context_recall_by_id", "hallucinating"), "difference"] == 0  # the same contexts
    assert table.loc[("context_recall_by_id", "misled"), "d_high"] < -0.8
    assert table.loc[("faithfulness", "hallucinating"), "d_high"] < 0
