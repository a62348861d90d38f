"""Exercises of notebook 6.1, Embeddings and search."""

import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.rag.datasets import passages
from studyguide.rag.lexical import BM25
from studyguide.text.ngrams import tokenize


def my_search(vectors, queries, k):
    """Row numbers of the k vectors with the largest cosine to each query, nearest first.

    vectors is a tensor (n, d), queries (q, d), both of any length. Returns a tensor (q, k) of integers.
    """
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    queries = queries / queries.norm(dim=-1, keepdim=True)
    return (queries @ vectors.T).argsort(dim=-1, descending=True)[:, :k]


def _search_peer(vectors, queries, k):
    from sklearn.neighbors import NearestNeighbors

    peer = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(vectors.numpy())
    return peer.kneighbors(queries.numpy(), return_distance=False)


def _cosines(vectors, queries):
    return torch.nn.functional.cosine_similarity(queries[:, None], vectors[None], dim=-1)


def _gauss(n, d, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


SEARCH = Exercise(
    id="exact-search",
    title="Exact search",
    prompt=(
        "Write `my_search(vectors, queries, k)`: for each query the row numbers of the `k` vectors with the largest cosine, nearest first. "
        "Neither the vectors nor the queries have length 1. The result is an integer tensor (queries, k). No loop is needed."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Divide each vector by its length: `x / x.norm(dim=-1, keepdim=True)`. Then all cosines are one matrix product.",
        "`queries @ vectors.T` has a row per query. `argsort(dim=-1, descending=True)` puts the nearest first; keep `[:, :k]`.",
    ),
    solution=my_search,
    peer=_search_peer,
    cases=(
        (_gauss(12, 4, 0) * torch.arange(1.0, 13.0)[:, None], 3 * _gauss(5, 4, 1), 3),
        (torch.tensor([[3.0, 4.0], [0.5, 0.0], [9.0, 9.0]]), torch.tensor([[2.0, 0.1]]), 2),
        (_gauss(6, 3, 2), _gauss(2, 3, 3) / 10, 6),
    ),
    wrong=(
        Wrong(
            lambda v, q, k: (q @ v.T).argsort(-1, descending=True)[:, :k],
            "you rank by the dot product, so a long vector is near to everything. Divide the vectors by their lengths.",
        ),
        Wrong(
            lambda v, q, k: torch.cdist(q, v).argsort(-1)[:, :k],
            "you rank by Euclidean distance. That agrees with the cosine only for vectors of length 1: divide by the lengths first.",
        ),
        Wrong(
            lambda v, q, k: _cosines(v, q).argsort(-1)[:, :k],
            "these are the vectors with the *smallest* cosine. A cosine is a similarity: sort in descending order.",
        ),
        Wrong(
            lambda v, q, k: _cosines(v, q).topk(k).values,
            "these are the cosines. Return where they are: `indices`, not `values`.",
        ),
        Wrong(
            lambda v, q, k: _cosines(v, q).argsort(-1, descending=True)[:, :k].T,
            "right, but with a column per query. Return a row per query: (queries, k).",
        ),
        Wrong(
            lambda v, q, k: _cosines(v, q).topk(k).indices.sort().values,
            "the right neighbours, but in the order of their row numbers. Keep the nearest first.",
        ),
    ),
)


def my_recall_at_k(retrieved, relevant, k):
    """Share of the relevant documents among the first k that were retrieved.

    retrieved is a list of document numbers, best first, in which -1 marks "nothing found" and a document may occur twice;
    relevant is a list of one or more different numbers. Returns a number from 0 to 1.
    """
    return len(set(retrieved[:k]) & set(relevant)) / len(relevant)


def _recall_peer(retrieved, relevant, k):
    from sklearn.metrics import recall_score

    universe = range(max(retrieved + relevant) + 1)
    return recall_score([n in relevant for n in universe], [n in retrieved[:k] for n in universe])


RECALL = Exercise(
    id="retrieval-recall",
    title="Recall of a search",
    prompt=(
        "Write `my_recall_at_k(retrieved, relevant, k)`: of the relevant documents, the share that is among the first `k` retrieved. A "
        "document that was retrieved twice counts once, and the mark -1 (nothing found) is no document."
    ),
    difficulty=1,
    minutes=5,
    hints=(
        "Two sets: the documents among the first `k`, and the relevant ones. How many do they share?",
        "Recall divides by the number of relevant documents, whatever `k` is. The mark -1 is never relevant, so it needs no care.",
    ),
    solution=my_recall_at_k,
    peer=_recall_peer,
    cases=(
        ([0, 2, 4], [0, 1, 4], 3),
        ([4, 2, 0], [4], 3),
        ([5, 3, 5, 3, 1], [3, 5, 1, 7, 8], 4),
        ([2, 6, 1, 0], [0, 6], 2),
        ([3, -1, -1], [0, 3], 3),
        ([7, 8], [1, 2], 2),
        ([1, 2, 3], [1, 2, 3, 4, 5, 6], 2),
    ),
    wrong=(
        Wrong(
            lambda got, good, k: len(set(got[:k]) & set(good)) / k,
            "you divide by k, which is precision. Recall divides by the number of relevant documents.",
        ),
        Wrong(
            lambda got, good, k: len(set(got) & set(good)) / len(good),
            "you look at everything that was retrieved. Cut the list after the first k.",
        ),
        Wrong(
            lambda got, good, k: float(bool(set(got[:k]) & set(good))),
            "this is the hit rate: 1 as soon as one relevant document is found. Recall is the share of them all.",
        ),
        Wrong(
            lambda got, good, k: sum(one in good for one in got[:k]) / len(good),
            "a document that was retrieved twice counts twice. Make a set of what was retrieved.",
        ),
        Wrong(
            lambda got, good, k: len(set(got[:k]) & set(good)) / min(k, len(good)),
            "you divide by what k could reach at most. That is a capped recall; the plain one divides by all relevant documents, so it may stay below 1.",
        ),
        Wrong(
            lambda got, good, k: float(set(good) <= set(got[:k])),
            "this is 1 only if all relevant documents were found. Recall is the share of them.",
        ),
    ),
)


def my_fusion(rankings, k):
    """Document numbers in the order of reciprocal rank fusion, best first; of equal ones the lower number first.

    rankings is a list of lists of document numbers, each best first. A document gets 1 / (k + rank) from each ranking
    that lists it; ranks count from 1.
    """
    scores = {}
    for ranking in rankings:
        for rank, document in enumerate(ranking, 1):
            scores[document] = scores.get(document, 0) + 1 / (k + rank)
    return sorted(scores, key=lambda document: (-scores[document], document))


def _fusion_peer(rankings, k):
    import pandas as pd

    ranks = pd.DataFrame([pd.Series(range(1, len(ranking) + 1), index=ranking) for ranking in rankings])
    return (1 / (k + ranks)).sum().sort_index().sort_values(ascending=False, kind="stable").index.tolist()


def _fused(rankings, gain, combine=sum, best_first=True):
    documents = {document for ranking in rankings for document in ranking}
    scores = {d: combine([gain(r.index(d) + 1) for r in rankings if d in r]) for d in documents}
    return sorted(documents, key=lambda d: (-scores[d] if best_first else scores[d], d))


FUSION = Exercise(
    id="reciprocal-rank-fusion",
    title="Reciprocal rank fusion",
    prompt=(
        "Write `my_fusion(rankings, k)`: each ranking is a list of document numbers, best first. A document gets 1 / (k + rank) from each "
        "ranking that lists it, ranks counted from 1, and nothing from the others. Return all documents, the highest sum first; of equal "
        "sums the lower number first."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "Keep a dict of sums. `enumerate(ranking, 1)` counts the ranks from 1.",
        "`sorted(scores, key=lambda document: (-scores[document], document))` sorts downwards and breaks ties by the number.",
    ),
    solution=my_fusion,
    peer=_fusion_peer,
    cases=(
        ([[3, 1, 2], [1, 4]], 60),
        ([[0, 1, 2, 3], [4, 5, 3, 6]], 60),
        ([[0, 1, 2, 3], [4, 5, 3, 6]], 1),
        ([[7, 5, 6], [8, 5, 9], [2, 9, 7]], 2),
        ([[0, 9, 1, 2], [8, 7, 6, 9]], 1),
        ([[5, 4]], 10),
        ([[1, 2], [2, 1]], 60),
        ([[0, 1, 2, 3, 4], [5, 3], [6, 4, 7]], 4),
    ),
    wrong=(
        Wrong(
            lambda r, k: _fused(r, lambda rank: 1 / (k + rank - 1)),
            "you count ranks from 0. With a small k this changes the order: the first document has rank 1.",
        ),
        Wrong(
            lambda r, k: _fused(r, lambda rank: 1 / rank),
            "you left out k. Without it a first place outweighs everything; k makes two middling ranks worth more than one good one.",
        ),
        Wrong(
            lambda r, k: _fused(r, lambda rank: 1 / (k + rank), max),
            "you keep a document's best rank only. Add up what it gets from all rankings.",
        ),
        Wrong(
            lambda r, k: _fused(r, lambda rank: k + rank, best_first=False),
            "you add up the ranks, so a document that is listed once beats one that is listed twice. Add up 1 / (k + rank).",
        ),
        Wrong(
            lambda r, k: _fused(r, lambda rank: 1 / (k + rank), best_first=False),
            "the lowest sum comes first. Put the best document first.",
        ),
        Wrong(
            lambda r, k: [d for d in my_fusion(r, k) if all(d in ranking for ranking in r)],
            "you keep only documents that all rankings list. The others count too, with what they get.",
        ),
        Wrong(
            lambda r, k: _fused(r, lambda rank: 1),
            "you count in how many rankings a document is listed. The rank matters as well.",
        ),
    ),
)

ASKED = (
    "Which city is the capital of Velmora?",
    "Who was the first person on top of Velmora's highest mountain, and in which year?",
    "From which apple is the cider of Mirefield pressed?",
    "Which tram do I take in Dunmar to reach the ship to Wexholm?",
)
ANSWERS = ("orrin", "rook", "1868", "winter", "line")
WORDS = 50


def my_bait():
    """A passage of at most 50 words that BM25 finds first for four questions, and that answers none."""
    return (
        "You ask, we listen! Which city is the capital of Velmora? Who was first on top of Velmora's highest mountain, in which year? "
        "From which apple is the cider of Mirefield pressed? Which tram to take in Dunmar to reach the ship to Wexholm?"
    )


def _verify_bait(answer):
    if not isinstance(answer, str) or not tokenize(answer, "unicode"):
        return "return one passage, a string with words in it."
    tokens = tokenize(answer, "unicode")
    if len(tokens) > WORDS:
        return f"your passage has {len(tokens)} words; {WORDS} are allowed."
    if told := [word for word in ANSWERS if word in tokens]:
        return f"your passage says {told[0]!r}, which answers one of the questions. It must answer none."
    base = [f"{passage.title}. {passage.text}" for passage in passages()]
    scores = BM25([*base, answer]).scores(ASKED)
    ranks = (1 + (scores[:, :-1] >= scores[:, -1:]).sum(-1)).tolist()
    if any(rank > 1 for rank in ranks):
        return f"your passage comes {', '.join(map(str, ranks))} for the four questions. It must be first for each. Which text has all the words of a question?"
    return None


BAIT = Exercise(
    id="bait-for-bm25",
    title="A passage that is found and says nothing",
    prompt=(
        f"Write `my_bait()`: a passage of at most {WORDS} words that, once it is in the knowledge base, BM25 finds first for all four questions, "
        "although it answers none: "
        + " ".join(f"*{question}*" for question in ASKED)
        + " The check refuses the words of the answers."
    ),
    difficulty=2,
    minutes=7,
    hints=(
        "BM25 asks which words of the question a passage has. It does not ask what the passage says about them.",
        "A word counts again when it is repeated, but less each time. A word that few passages have counts most.",
    ),
    solution=my_bait,
    verify=_verify_bait,
    wrong=(
        Wrong(lambda: "", "return one passage, a string with words in it."),
        Wrong(
            lambda: "Orrin is the capital of Velmora.",
            "your passage says 'orrin', which answers one of the questions. It must answer none.",
        ),
        Wrong(lambda: " ".join(ASKED * 2), "your passage has 90 words; 50 are allowed."),
        Wrong(
            lambda: "Velmora capital city. " * 12,
            "your passage comes 1, 57, 383, 383 for the four questions. It must be first for each. Which text has all the words of a question?",
        ),
        Wrong(
            lambda: "Mirefield cider, Velmora mountain, Dunmar tram, Wexholm ship, capital city",
            "your passage comes 1, 7, 2, 1 for the four questions. It must be first for each. Which text has all the words of a question?",
        ),
    ),
)

EXERCISES = (SEARCH, RECALL, FUSION, BAIT)
