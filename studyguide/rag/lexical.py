"""Search by words: BM25. Dense search and the fusion of both are in `studyguide.rag.index`."""

from collections import Counter
from itertools import chain

import numpy as np
import torch
from scipy import sparse

from studyguide.probability.validation import positive_integer
from studyguide.rag.index import top_k
from studyguide.text.ngrams import tokenize

BLOCK = 2**22  # scores that a search holds at a time


class BM25:
    """Texts, ready to be searched by the words that they share with a query.

    A text d gets from each token t of the query, counted as often as the query has it,

        log(1 + (N - n + 0.5) / (n + 0.5)) * f * (k1 + 1) / (f + k1 * (1 - b + b * |d| / mean))

    where f is how often t is in d, |d| the tokens of d, `mean` those of an average text, and n of the N texts have t.
    Convention: the formula of Okapi with the idf of Lucene, which is never below 0; without the 1 inside the logarithm a
    word that most texts have would count against them. Tokens are those of `studyguide.text.ngrams`, "unicode".
    Range: 0 (no word in common) and up; scores of different queries cannot be compared.
    Errors: no texts or queries, texts without any token, k1 below 0, b outside 0 to 1 are a ValueError; what is no list of
    texts is a TypeError.
    Source: Robertson and Zaragoza (2009), "The probabilistic relevance framework: BM25 and beyond"; for the variants
    Kamphuis et al. (2020), "Which BM25 do you mean?"

    >>> bm25 = BM25(["the cat sat on the mat", "the dog barked", "cats and dogs"])
    >>> bm25.search(["a cat"], k=2)
    (tensor([[0.8007, 0.0000]], dtype=torch.float64), tensor([[0, 1]]))
    """

    def __init__(self, texts, k1=1.5, b=0.75):
        if not 0 <= k1 < float("inf"):
            raise ValueError(f"k1 is {k1}; expected a finite number of at least 0")
        if not 0 <= b <= 1:
            raise ValueError(f"b is {b}; expected a number from 0 to 1")
        self.k1, self.b = k1, b
        self.vocabulary = {}  # token: its column
        counts = self._counts("texts", texts, grow=True)
        lengths = counts.sum(1)
        if not lengths.any():
            raise ValueError("texts have no token; expected a word in at least one")
        self.size = len(lengths)
        having = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log1p((self.size - having + 0.5) / (having + 0.5))
        f, row = counts.data, np.repeat(np.arange(self.size), np.diff(counts.indptr))
        saturated = f * (k1 + 1) / (f + k1 * (1 - b + b * lengths[row] / lengths.mean()))
        self.weights = sparse.csr_array(
            (idf[counts.indices] * saturated, counts.indices, counts.indptr), counts.shape
        ).T

    def scores(self, queries):
        """The score of each text for each query, a list of strings: (queries, texts), float64."""
        return torch.from_numpy((self._counts("queries", queries) @ self.weights).toarray())

    def search(self, queries, k):
        """The `k` best texts of each query, best first: (scores, indices), (queries, k), as `studyguide.rag.index.search`.

        Convention: of equal scores the lower index first. Where fewer than `k` texts share a word with the query, texts
        with score 0 fill the rest: ``to_run(..., above=0)`` drops them.
        """
        k = positive_integer("k", k)
        if k > self.size:
            raise ValueError(f"k is {k}; expected at most the number of texts, {self.size}")
        counts, rows = self._counts("queries", queries), max(1, BLOCK // self.size)
        blocks = (counts[start : start + rows] @ self.weights for start in range(0, counts.shape[0], rows))
        found = [top_k(torch.from_numpy(block.toarray()), k) for block in blocks]
        values, indices = map(torch.cat, zip(*found, strict=True))
        return values, indices

    def _counts(self, name, texts, grow=False):
        """How often each text has each token of the vocabulary, which grows if told so: a sparse array."""
        if isinstance(texts, str):
            raise TypeError(f"{name} is the str {texts[:20]!r}; expected a list of texts")
        counts = [Counter(tokenize(text, "unicode")) for text in texts]
        if not counts:
            raise ValueError(f"{name} is empty; expected at least one text")
        for token in chain.from_iterable(counts) if grow else ():
            self.vocabulary.setdefault(token, len(self.vocabulary))
        known = [[(self.vocabulary[t], n) for t, n in count.items() if t in self.vocabulary] for count in counts]
        columns, values = np.array([*chain.from_iterable(known)]).reshape(-1, 2).T.astype(np.int64)
        starts = np.cumsum([0, *map(len, known)])
        return sparse.csr_array((values.astype(float), columns, starts), (len(counts), len(self.vocabulary)))
