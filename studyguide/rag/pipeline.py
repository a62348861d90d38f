"""A retrieval-augmented system in three functions, and its evaluation: from questions, or from a file, to one table.

    pipeline = make_pipeline(passages(), how="hybrid", generate=extract)   # retrieve, then answer from what was found
    samples = pipeline(questions())                                        # a list of RagSample
    print(evaluate_samples(samples, judge))                                # each metric's mean, with an interval
    print(compare_pipelines({"words": ..., "hybrid": ...}, judge))         # paired, question by question
    print(evaluate_rag_file("mine.jsonl", judge))                          # your own answers

A generator is any function that takes a question and a list of contexts and returns an answer, which may cite context i
as "[i]", from 1. Here are `extract`, which works offline, `lm_generator` and `chat_generator`.
"""

import math
import re
from dataclasses import dataclass

import pandas as pd
import torch
from pydantic import BaseModel

from studyguide.language.sampling import generate as continue_text
from studyguide.models import load_causal_lm, load_sentence_encoder
from studyguide.probability.validation import one_of, positive_integer
from studyguide.rag import metrics as m
from studyguide.rag.claims import checked, read_words, sentences, share
from studyguide.rag.datasets import Question, RagSample, load_rag_dataset
from studyguide.rag.index import build_index, reciprocal_rank_fusion, search, to_run
from studyguide.rag.lexical import BM25
from studyguide.rag.metrics import Score
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.statistics.hypothesis import adjust_p_values, permutation_test
from studyguide.statistics.intervals import proportion_interval
from studyguide.text.semantic import check_lengths

HOW = ("dense", "words", "hybrid")
FUSED = 20  # ranks of each search that a hybrid fuses
CITATION = re.compile(r"\s*\[\d+\]")
DECLINED = "The passages do not say."


# Retrieve, generate


def make_pipeline(passages, how="hybrid", generate=None, k=4, encoder=None):
    """A function that answers questions from passages: it takes a list of questions and returns a list of RagSample.

    `passages` are `datasets.Passage`, found by title and text. `how`: "dense" by the cosine of `encoder`'s vectors (the
    course's sentence encoder unless given), "words" by BM25, "hybrid" by the fusion of both. `generate` is a generator,
    `extract` unless given. Questions are texts, or `datasets.Question`, whose reference and relevant ids the samples keep.
    Errors: no passages, ids that are not distinct, k beyond their number, a text longer than the encoder reads.

    >>> from studyguide.rag.datasets import Passage
    >>> known = [("a", "Orrin", "Orrin is the capital of Velmora."), ("b", "Alder", "The Alder is a river.")]
    >>> known = [Passage(id=name, title=title, text=text, source="course") for name, title, text in known]
    >>> [sample] = make_pipeline(known, how="words", k=1)(["What is the capital of Velmora?"])
    >>> sample.context_ids, sample.answer
    (['a'], 'Orrin is the capital of Velmora [1].')
    """
    one_of("how", how, HOW)
    by_id = {passage.id: passage for passage in passages}
    if not by_id or len(by_id) != len(passages):
        raise ValueError(
            f"passages has {len(passages)} items and {len(by_id)} ids; expected at least one, ids distinct"
        )
    if positive_integer("k", k) > len(by_id):
        raise ValueError(f"k is {k}; expected at most the number of passages, {len(by_id)}")
    texts, ids = [f"{passage.title}. {passage.text}" for passage in passages], list(by_id)
    generate, depth = generate or extract, k if how != "hybrid" else min(max(k, FUSED), len(by_id))
    searches = []
    if how != "words":
        encoder = encoder or load_sentence_encoder()
        index = build_index(_encode(encoder, texts))
        searches.append((lambda queries: search(index, _encode(encoder, queries), depth), -math.inf))
    if how != "dense":
        bm25 = BM25(texts)
        above = 0 if how == "hybrid" else -math.inf  # a passage without a shared word gets no credit in the fusion
        searches.append((lambda queries: bm25.search(queries, depth), above))

    def pipeline(questions):
        if isinstance(questions, str):
            raise TypeError(f"questions is the text {questions!r:.40}; expected a list")
        asked = [question.question if isinstance(question, Question) else question for question in questions]
        queries = list(dict.fromkeys(checked("a question", question) for question in asked))
        runs = [to_run(*find(queries), queries, ids, above) for find, above in searches] if queries else [{}]
        found = runs[0] if len(runs) == 1 else reciprocal_rank_fusion(runs)
        return [
            _sample(question, [by_id[name] for name in list(found[text])[:k]], generate)
            for question, text in zip(questions, asked, strict=True)
        ]

    return pipeline


def _encode(encoder, texts):
    check_lengths(encoder, texts)
    return encoder.encode(texts, convert_to_tensor=True)


def _sample(question, found, generate):
    known = {}
    if isinstance(question, Question):
        graded = sorted(question.relevance, key=question.relevance.get, reverse=True)
        known = {"id": question.id, "reference": question.reference, "relevant_ids": graded}
        question = question.question
    contexts = [passage.text for passage in found]
    ids = [passage.id for passage in found]
    return RagSample(
        question=question, contexts=contexts, context_ids=ids, answer=generate(question, contexts), **known
    )


def extract(question, contexts, n=1, least=0.5):
    """An answer copied from the contexts: the `n` sentences that hold most content words of the question, with citations.

    Of equal sentences the earlier. Sentences with less than `least` of the words are left out; if none is left the answer
    declines. It never invents and never combines; whether the sentence answers the question is another matter.

    >>> extract("How long is the Alder?", ["Orrin is a city. The Alder is 500 km long.", "The Alder is a river."])
    'The Alder is 500 km long [1].'
    """
    wanted = read_words(checked("question", question))[0]
    places = [(text, i) for i, context in enumerate(contexts, 1) for text in sentences(checked("a context", context))]
    rated = [(share(wanted, read_words(text)[0]), text, i) for text, i in places]
    best = sorted((each for each in rated if each[0] >= least), key=lambda each: -each[0])[: positive_integer("n", n)]
    return " ".join(f"{text.rstrip('.!?')} [{i}]." for _, text, i in best) or DECLINED


def lm_generator(name=None, max_new_tokens=24):
    """A generator: a causal language model (`studyguide.models.load_causal_lm`) continues contexts and question.

    It stops after the first sentence. "tinyworld-gpt2" knows no questions: ask it to go on, "The capital of France is".
    Errors: contexts and question longer than the model's window (retrieve fewer), a model that can't be had.

    >>> lm_generator("tinyworld-gpt2")("The capital of France is", ["The weather today is sunny."])
    'Paris.'
    """
    model, tokenizer = load_causal_lm(name)

    def generate(question, contexts):
        prompt = tokenizer(" ".join([*contexts, checked("question", question)]), return_tensors="pt").input_ids
        room = model.config.max_position_embeddings - prompt.shape[1]
        if room < 1:
            window = model.config.max_position_embeddings
            raise ValueError(
                f"contexts and question have {prompt.shape[1]} tokens; expected less than the model's {window}"
            )
        tokens = continue_text(model, prompt.to(model.device), min(max_new_tokens, room)).tokens[0]
        written = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return sentences(written)[0] if written else DECLINED

    return generate


class _Answer(BaseModel):
    answer: str


ANSWER = (
    "Answer the question in one to three sentences from the contexts alone. After each sentence name the number of its context "
    f'in brackets, as [2]. If the contexts do not answer, say "{DECLINED}" JSON: {{"answer": "..."}}'
)


def chat_generator(chat):
    """A generator: a language model on a chat server, asked through a `studyguide.rag.chat.ChatJudge`, its cache and retries."""

    def generate(question, contexts):
        numbered = {f"context {i}": text for i, text in enumerate(contexts, 1)}
        return chat.ask(_Answer, ANSWER, question=checked("question", question), **numbered).answer

    return generate


def without_citations(answer):
    """The answer as it is judged: a "[2]" is no number of its own.

    >>> without_citations("It is 500 km long [1]. So they say [2][3].")
    'It is 500 km long. So they say.'
    """
    return CITATION.sub("", answer)


# Evaluate


def _by_id(metric):
    def score(sample, judge, encoder):
        if sample.context_ids is None or sample.relevant_ids is None:
            return Score(metric.__name__, None, "the sample has no context_ids or no relevant_ids")
        return metric(sample.context_ids, sample.relevant_ids)

    return score


METRICS = {  # each from a sample, a judge and an encoder
    "context_precision": lambda s, judge, _: m.context_precision(s.contexts, s.reference, judge),
    "context_recall": lambda s, judge, _: m.context_recall(s.contexts, s.reference, judge),
    "faithfulness": lambda s, judge, _: m.faithfulness(s.answer, s.contexts, judge),
    "answer_relevancy": lambda s, judge, encoder: m.answer_relevancy(s.question, s.answer, judge, encoder),
    "answer_similarity": lambda s, _, encoder: m.answer_similarity(s.answer, s.reference, encoder),
    "answer_correctness": lambda s, judge, encoder: m.answer_correctness(s.answer, s.reference, judge, encoder),
    "context_precision_by_id": _by_id(m.context_precision_by_id),
    "context_recall_by_id": _by_id(m.context_recall_by_id),
}
STANDARD = tuple(METRICS)[:6]
ENCODED = ("answer_relevancy", "answer_similarity", "answer_correctness")


@dataclass(frozen=True, eq=False)
class RagReport:
    """What `evaluate_samples` found; printed, it is the table of the means."""

    judge: str
    summary: pd.DataFrame  # a row per metric: n (samples where it is defined), undefined, mean, low, high
    scores: pd.DataFrame  # a row per sample, a column per metric; NaN where it is undefined
    details: tuple  # for each sample {metric: Score}, with the evidence

    def worst(self, metric, n=5):
        """The `n` samples with the lowest score: a list of (row, Score), lowest first, of equal ones the earlier."""
        one_of("metric", metric, self.scores.columns)
        rows = [(row, each[metric]) for row, each in enumerate(self.details) if each[metric].score is not None]
        return sorted(rows, key=lambda pair: pair[1].score)[: positive_integer("n", n)]

    def __str__(self):
        return f"{len(self.scores)} samples, judged by {self.judge}\n" + _text(self.summary)


def evaluate_samples(samples, judge, encoder=None, metrics=STANDARD, confidence=0.95, n_resamples=9999, rng=0):
    """Score answers: each sample by each metric, and the means with intervals. A `RagReport`.

    `samples` are `datasets.RagSample`; `metrics` are names of `METRICS`, by default the six that need a judge or an encoder;
    `encoder` is the course's sentence encoder unless given, and loaded only if a metric needs it. Citations in answers
    are removed first. A mean is over the samples where the metric is defined; how many it leaves out stands beside it.
    Intervals: percentile bootstrap over samples, Wilson's where all scores are 0 or all 1, none for a single score. Samples
    must be independent: evaluate systems that answer the same questions one by one, or with `compare_pipelines`.
    Errors: no samples, an unknown metric.
    Randomness: `rng` is an int seed or a torch.Generator.

    >>> from studyguide.rag.datasets import cases
    >>> from studyguide.rag.judges import LexicalJudge
    >>> print(evaluate_samples(cases()[:2], LexicalJudge(), metrics=["faithfulness", "context_recall"]))
    2 samples, judged by LexicalJudge (shared words, not a language model)
                    n  undefined    mean     low    high
    faithfulness    2          0       1  0.3424       1
    context_recall  2          0  0.3333       0  0.6667
    """
    samples, metrics = list(samples), list(dict.fromkeys(metrics))
    if not samples or not metrics:
        raise ValueError(f"there are {len(samples)} samples and {len(metrics)} metrics; expected at least one of each")
    for name in metrics:
        one_of("a metric", name, METRICS)
    if encoder is None and set(metrics) & set(ENCODED):
        encoder = load_sentence_encoder()
    plain = [sample.model_copy(update={"answer": without_citations(sample.answer)}) for sample in samples]
    details = tuple({name: METRICS[name](sample, judge, encoder) for name in metrics} for sample in plain)
    labels = [sample.id or f"sample {row}" for row, sample in enumerate(samples, 1)]
    scores = pd.DataFrame({name: [each[name].score for each in details] for name in metrics}, index=labels, dtype=float)
    rows = {}
    for name in metrics:
        values = torch.tensor(scores[name].dropna().to_numpy())
        mean, low, high = _interval(values, confidence, n_resamples, rng)
        rows[name] = {"n": len(values), "undefined": len(samples) - len(values), "mean": mean, "low": low, "high": high}
    return RagReport(judge.name, pd.DataFrame.from_dict(rows, orient="index"), scores, details)


def evaluate_rag_file(path, judge, **settings):
    """Score your own answers, a file of JSON lines as `datasets.load_rag_dataset` reads it: a `RagReport`.

    Errors: every bad line at once, by number and field. `settings` are those of `evaluate_samples`.
    """
    return evaluate_samples(load_rag_dataset(path), judge, **settings)


@dataclass(frozen=True, eq=False)
class PipelineComparison:
    """What `compare_pipelines` found; printed, it is one table."""

    baseline: str
    summary: (
        pd.DataFrame
    )  # by (metric, system): n, mean, low, high; less the baseline: pairs, difference, d_low, d_high, p, p_holm
    reports: dict  # {system: RagReport}

    def __str__(self):
        judge = next(iter(self.reports.values())).judge
        table = self.summary.reset_index()
        table["metric"] = table["metric"].where(~table["metric"].duplicated(), "")
        return f"differences are to {self.baseline}, question by question; judged by {judge}\n" + _text(
            table.set_index("metric")
        )


def compare_pipelines(
    systems, judge, encoder=None, metrics=STANDARD, baseline=None, confidence=0.95, n_resamples=9999, rng=0
):
    """Which system is better, in which part? All of them on the same questions, in one table: a `PipelineComparison`.

    `systems` are {name: its samples}; `baseline` is the first one unless named. Each other system's differences to it are
    paired by question (by `id`, else by text), over those questions where the metric is defined for both. p is that of
    turning the signs of the differences at random; p_holm is corrected for all rows of the table.
    NaN: a baseline's difference, and an interval or p of fewer than two pairs.
    Errors: fewer than two systems, systems that do not answer the same questions once each. Else as `evaluate_samples`.

    >>> from studyguide.rag.datasets import samples
    >>> from studyguide.rag.judges import LexicalJudge
    >>> systems = {name: samples(name) for name in ("grounded", "hallucinating")}
    >>> comparison = compare_pipelines(systems, LexicalJudge(), metrics=["context_recall"])
    >>> float(comparison.summary.loc[("context_recall", "hallucinating"), "difference"])  # they share their retriever
    0.0
    """
    systems = {name: list(samples) for name, samples in systems.items()}
    if len(systems) < 2:
        raise ValueError(f"there are {len(systems)} systems; expected at least two")
    baseline = one_of("baseline", next(iter(systems)) if baseline is None else baseline, systems)
    keys = {name: [sample.id or sample.question for sample in samples] for name, samples in systems.items()}
    for name, asked in keys.items():
        if len(set(asked)) != len(asked):
            raise ValueError(f"{name} answers a question twice; expected one answer to each")
        if other := set(asked) ^ set(keys[baseline]):
            raise ValueError(f"{name} and {baseline} differ in {len(other)} questions, such as {min(other)!r}")
    settings = confidence, n_resamples, rng
    encoder = encoder or (load_sentence_encoder() if set(metrics) & set(ENCODED) else None)
    reports = {name: evaluate_samples(samples, judge, encoder, metrics, *settings) for name, samples in systems.items()}
    scores = {name: report.scores.set_axis(keys[name]).loc[keys[baseline]] for name, report in reports.items()}
    rows = {}
    for metric in dict.fromkeys(metrics):
        for name, report in reports.items():
            row = report.summary.loc[metric, ["n", "mean", "low", "high"]].to_dict()
            if name != baseline:
                row |= _difference(scores[baseline][metric], scores[name][metric], *settings)
            rows[metric, name] = row
    summary = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["metric", "system"])
    known = summary["p"].notna()
    summary["p_holm"] = float("nan")
    if known.any():
        summary.loc[known, "p_holm"] = adjust_p_values(summary.loc[known, "p"].to_numpy()).numpy()
    return PipelineComparison(baseline, summary.astype({"n": int}), reports)


def _difference(first, second, confidence, n_resamples, rng):
    """Second less first, where both are defined."""
    both = (first.notna() & second.notna()).to_numpy()
    a, b = (torch.tensor(side.to_numpy()[both]) for side in (first, second))
    row = {"pairs": len(a), "difference": (b - a).mean().item()}
    if len(a) > 1:
        interval = bootstrap_interval(b - a, confidence=confidence, n_resamples=n_resamples, rng=rng)
        p = permutation_test(b, a, paired=True, n_resamples=n_resamples, rng=rng).p_value
        row |= {"d_low": interval.low.item(), "d_high": interval.high.item(), "p": p.item()}
    else:
        row |= dict.fromkeys(("d_low", "d_high", "p"), float("nan"))
    return row


def _interval(values, confidence, n_resamples, rng):
    """(mean, low, high) of scores; NaN for what there is not."""
    if len(values) < 2:
        return (values.mean().item() if len(values) else float("nan")), float("nan"), float("nan")
    if values.sum() in (0, len(values)) and ((values == 0) | (values == 1)).all():
        found = proportion_interval(int(values.sum()), len(values), confidence)
    else:
        found = bootstrap_interval(values, confidence=confidence, n_resamples=n_resamples, rng=rng)
    return found.estimate.item(), found.low.item(), found.high.item()


def _text(table):
    """A table of words and numbers as text; what is missing is left empty."""
    from studyguide.course.display import rounded

    columns = [["", *map(str, table.index)]]
    for name in table.columns:
        whole = name in ("n", "undefined", "pairs")
        cells = ["" if pd.isna(x) else str(int(x)) if whole else rounded(x) for x in table[name].tolist()]
        columns.append([name, *cells])
    padded = []
    for column in columns:
        width, words = max(map(len, column)), column is columns[0] or column[0] == "system"
        padded.append([cell.ljust(width) if words else cell.rjust(width) for cell in column])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))
