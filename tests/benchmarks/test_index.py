"""Exact search of 1,000 queries among 100,000 vectors, in torch and by faiss, in one thread each; and BM25."""

from collections import Counter

import faiss
import numpy as np
import pytest
import torch

from studyguide.rag.index import build_index, search
from studyguide.rag.lexical import BM25
from studyguide.text.ngrams import tokenize


@pytest.fixture(scope="module")
def task():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    yield [torch.randn(n, 384, generator=generator) for n in (100_000, 1000)]
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("metric", ["dot", "l2"])
@pytest.mark.parametrize("library", ["studyguide", "faiss"])
def test_exact_search(benchmark, task, metric, library):
    vectors, queries = task
    index = build_index(vectors, "exact" if library == "studyguide" else "flat", metric)
    benchmark.group = f"exact search, {metric}, 1k in 100k x 384"
    benchmark.extra_info["library"] = library
    _, indices = benchmark.pedantic(search, (index, queries, 10), rounds=5, warmup_rounds=1)
    assert (
        indices[:5, 0] == search(build_index(vectors, metric=metric), queries[:5], 1)[1][:, 0]
    ).all()  # the same task


class Loop:
    """BM25 as it is often written: for each word of the query, a list over the texts."""

    def __init__(self, texts):
        self.counts = [Counter(tokenize(text, "unicode")) for text in texts]
        self.lengths = np.array([count.total() for count in self.counts])
        self.having = Counter(token for count in self.counts for token in count)

    def search(self, queries, k):
        norm = 1.5 * (0.25 + 0.75 * self.lengths / self.lengths.mean())
        for query in queries:
            scores = np.zeros(len(self.counts))
            for token in tokenize(query, "unicode"):
                f = np.array([count[token] for count in self.counts])
                n = self.having[token]
                scores += np.log1p((len(self.counts) - n + 0.5) / (n + 0.5)) * f * 2.5 / (f + norm)
            yield np.argsort(-scores, kind="stable")[:k]


@pytest.mark.parametrize("library", ["studyguide", "loop"])
def test_bm25(benchmark, random_texts, library):
    texts, queries = random_texts(2000, 60)[0], random_texts(100, 8)[1]
    index = (BM25 if library == "studyguide" else Loop)(texts)
    find = index.search if library == "studyguide" else lambda *task: list(index.search(*task))
    benchmark.group = "BM25, 100 in 2,000 x 60"
    benchmark.extra_info["library"] = library
    found = benchmark.pedantic(find, (queries, 10), rounds=3)
    indices = found[1].tolist() if library == "studyguide" else [row.tolist() for row in found]
    assert indices == [row.tolist() for row in Loop(texts).search(queries, 10)]
