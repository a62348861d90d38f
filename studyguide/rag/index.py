"""Nearest neighbours among embeddings: exact search in torch, approximate search by faiss, and what each costs.

One convention for every kind of index and every metric: a score is higher for what is nearer.

- "cosine": the cosine of query and vector, -1 to 1. Vectors need not have length 1; they are stored with length 1.
- "dot": their dot product. A long vector is near to everything.
- "l2": minus the *squared* Euclidean distance, 0 or less. (faiss gives the squared distance itself, lower is nearer.)
  On vectors of length 1 it is 2 cos - 2, so that all three metrics rank alike.

Kinds: "exact" is torch, on the device and in the dtype of the embeddings (float32 for half precision). The others are
faiss, on the CPU in float32: "flat" compares with every vector, "ivf" with those of the nearest clusters, "hnsw" walks a
graph of neighbours, "pq" compares with vectors compressed to a few bytes (its scores are approximations too).

Errors: NaN and infinity, a vector of zeros for the cosine, another dimension than the index has, `k` beyond the number
of vectors, no vectors, and scores beyond the range of the dtype are a ValueError. So is a search that finds fewer than
`k` neighbours: faiss marks them by the index -1, which Python would read as the last document.
"""

import json
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import faiss
import safetensors.torch
import torch

from studyguide.probability.validation import (
    check_finite,
    common_dtype,
    floating,
    generator,
    one_of,
    positive_integer,
)

KINDS = ("exact", "flat", "ivf", "hnsw", "pq")
METRICS = ("cosine", "dot", "l2")
BLOCK = 2**25  # scores that exact search holds at a time
SAMPLE = 39  # vectors per cluster below which faiss finds k-means unreliable
CODES = 256  # that a byte can name: what "pq" learns for each piece of a vector
VECTORS, ENGINE, CARD = "vectors.safetensors", "index.faiss", "index.json"


@dataclass(frozen=True, eq=False)
class Index:
    """A searchable set of vectors, made by `build_index`. `dataclasses.replace(index, effort=...)` changes the effort."""

    kind: str
    metric: str
    size: int  # how many vectors
    dimension: int
    data: object  # exact: a tensor; else faiss's own index
    effort: int | None = None  # ivf: clusters read per query; hnsw: candidates kept in view
    centre: torch.Tensor | None = None  # exact, l2: what was subtracted, so that distances keep their digits

    def __post_init__(self):
        if self.kind not in ("ivf", "hnsw"):
            if self.effort is not None:
                raise ValueError(f"effort is {self.effort}, but kind is {self.kind!r}; only 'ivf' and 'hnsw' have it")
        else:
            positive_integer("effort", self.effort)


def build_index(embeddings, kind="exact", metric="cosine", *, lists=None, links=None, pieces=None, effort=None, rng=0):
    """An `Index` of embeddings (n, d); the result of a search is their row numbers.

    - lists ("ivf"): clusters, by default about 4 sqrt(n), but with 39 vectors or more in each on average;
    - links ("hnsw"): neighbours of a node of the graph, by default 32;
    - pieces ("pq"): bytes per vector; they must divide d, by default about d / 8. Needs 256 vectors or more;
    - effort ("ivf", "hnsw"): clusters read per query, by default a tenth; candidates kept in view, by default 64.

    faiss builds in one thread and k-means starts from `rng`, an int seed or a torch.Generator, so that the same vectors
    give the same index. Errors: see the module; an option that another kind has.
    Sources: Jégou, Douze and Schmid (2011), "Product quantization for nearest neighbor search" (ivf, pq); Malkov and
    Yashunin (2020), "Efficient and robust approximate nearest neighbor search using HNSW graphs"; Douze et al. (2024),
    "The Faiss library".

    >>> index = build_index([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    >>> index.kind, index.metric, index.size, index.dimension
    ('exact', 'cosine', 3, 2)
    """
    one_of("kind", kind, KINDS)
    one_of("metric", metric, METRICS)
    for name, value, owner in (("lists", lists, "ivf"), ("links", links, "hnsw"), ("pieces", pieces, "pq")):
        if value is not None and kind != owner:
            raise ValueError(f"{name} is {value}, but kind is {kind!r}; only {owner!r} has it")
    [vectors] = floating(embeddings=embeddings)
    if vectors.ndim != 2:
        raise ValueError(f"embeddings has shape {tuple(vectors.shape)}; expected (n, d), a row per vector")
    vectors = _prepared("embeddings", vectors, metric).detach()
    size, dimension = vectors.shape
    if kind == "exact":
        centre = None
        if metric == "l2":  # |q - x|^2 = |q|^2 - 2 (q x - |x|^2 / 2): one more column, and it is a dot product
            centre = vectors.mean(0)
            vectors = vectors - centre
            vectors = torch.cat([vectors, -vectors.square().sum(-1, keepdim=True) / 2], -1)
        return Index(kind, metric, size, dimension, vectors, effort, centre)
    space = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        engine = faiss.IndexFlat(dimension, space)
    elif kind == "ivf":
        lists = max(1, min(round(4 * size**0.5), size // SAMPLE)) if lists is None else positive_integer("lists", lists)
        if lists > size:
            raise ValueError(f"lists is {lists}; expected at most the number of vectors, {size}")
        effort = math.ceil(lists / 10) if effort is None else effort
        engine = faiss.IndexIVFFlat(faiss.IndexFlat(dimension, space), dimension, lists, space)
        _seed(engine.cp, rng)
    elif kind == "hnsw":
        effort = 64 if effort is None else effort
        engine = faiss.IndexHNSWFlat(dimension, 32 if links is None else positive_integer("links", links), space)
    else:
        if pieces is None:
            pieces = next(count for count in range(max(1, dimension // 8), 0, -1) if dimension % count == 0)
        if dimension % positive_integer("pieces", pieces):
            raise ValueError(f"pieces is {pieces}; expected a divisor of the dimension, {dimension}")
        if size < CODES:
            raise ValueError(
                f"embeddings has {size} vectors; expected at least {CODES} for kind 'pq', to learn its codes"
            )
        engine = faiss.IndexPQ(dimension, pieces, 8, space)
        _seed(engine.pq.cp, rng)
    index = Index(kind, metric, size, dimension, engine, effort)
    with _one_thread():
        engine.train(_array("embeddings", vectors))
        engine.add(_array("embeddings", vectors))
    return index


@torch.no_grad()
def search(index, queries, k):
    """The `k` nearest vectors of each query, nearest first: (scores, indices).

    Shapes: queries (..., d), results (..., k), on the device of the queries; scores in the dtype of the index, higher is
    nearer (see the module). Convention: of equal scores "exact" puts the lower index first; faiss promises no order.
    Memory: exact search holds 2**25 scores at a time, or those of one query if they are more.
    Errors: see the module; queries on another device than an exact index.

    >>> index = build_index([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]], metric="l2")
    >>> search(index, [[0.0, 1.0]], k=2)
    (tensor([[-1., -2.]], dtype=torch.float64), tensor([[1, 2]]))
    """
    k = positive_integer("k", k)
    if k > index.size:
        raise ValueError(f"k is {k}; expected at most the number of vectors in the index, {index.size}")
    exact = index.kind == "exact"
    queries = floating(index=index.data, queries=queries)[1] if exact else floating(queries=queries)[0]
    if not queries.ndim or queries.shape[-1] != index.dimension:
        raise ValueError(
            f"queries has shape {tuple(queries.shape)}; expected (..., {index.dimension}), the dimension of the index"
        )
    batch = queries.shape[:-1]
    queries = _prepared("queries", queries.reshape(-1, index.dimension), index.metric)
    scores, indices = (_search_exact if exact else _search_faiss)(index, queries, k)
    check_finite("the scores (beyond the range of their dtype)", scores)
    scores = {"cosine": scores.clamp(-1, 1), "dot": scores, "l2": scores.clamp(max=0)}[index.metric]
    return scores.reshape(*batch, k), indices.reshape(*batch, k)


def top_k(scores, k):
    """The `k` largest scores along the last axis, largest first, and where they are; of equal ones the lower index first.

    Shapes: scores (..., n), results (..., k). Unlike `torch.topk`, whose order of equal values is undefined.
    The k largest lie in the k groups of neighbours with the largest maxima, so that only these are sorted.

    >>> top_k(torch.tensor([2.0, 7.0, 2.0, 7.0]), 3)
    (tensor([7., 7., 2.]), tensor([1, 3, 0]))
    """
    k, n = positive_integer("k", k), scores.shape[-1]
    if k > n:
        raise ValueError(f"k is {k}; expected at most the number of scores, {n}")
    width = math.isqrt(n // k)
    whole = n - n % width
    maxima = scores[..., :whole].unflatten(-1, (-1, width)).amax(-1)
    if whole < n:
        maxima = torch.cat([maxima, scores[..., whole:].amax(-1, keepdim=True)], -1)
    groups = maxima.sort(descending=True, stable=True).indices[..., :k].sort().values
    places = (groups.unsqueeze(-1) * width + torch.arange(width, device=scores.device)).flatten(-2)
    candidates = scores.gather(-1, places.clamp(max=n - 1)).masked_fill(places >= n, -math.inf)
    best = candidates.sort(descending=True, stable=True)
    values = best.values[..., :k]
    if values.isnan().any():
        raise ValueError("scores contains nan; expected numbers that can be ordered")
    return values, places.gather(-1, best.indices[..., :k])


# What a search is worth, and what it costs


def index_recall(index, queries, k, exact):
    """Of each query's `k` true neighbours, the share that the index finds. How fast it is says `latency`.

    Shapes: queries (n, d), result (n,), float64. Range: 0 to 1. `exact` is an index of kind "exact" or "flat" over the
    same vectors. This is recall against exact search; whether a neighbour answers the question is another matter.
    Convention: neighbours are compared by their row numbers, so one of two equal vectors may count as missed.

    >>> vectors = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    >>> exact, pq = build_index(vectors), build_index(vectors, "pq")
    >>> index_recall(exact, vectors, 10, exact).mean(), index_recall(pq, vectors, 10, exact).mean() < 0.9
    (tensor(1., dtype=torch.float64), tensor(True))
    """
    if exact.kind not in ("exact", "flat"):
        raise ValueError(f"exact is of kind {exact.kind!r}; expected 'exact' or 'flat', which find the true neighbours")
    for name in ("metric", "size", "dimension"):
        if getattr(index, name) != getattr(exact, name):
            raise ValueError(f"the indexes differ in {name}: {getattr(index, name)} and {getattr(exact, name)}")
    found, true = search(index, queries, k)[1], search(exact, queries, k)[1]
    return (true.unsqueeze(-1) == found.unsqueeze(-2)).any(-1).double().mean(-1)


@dataclass(frozen=True)
class Latency:
    """How long searches take, in milliseconds."""

    p50: float
    p95: float  # one search in twenty takes longer
    p99: float
    queries: int  # a p99 of fewer than some hundred queries is little more than the slowest


def latency(index, queries, k):
    """Percentiles of the time to answer one query, asked one at a time as users do: a `Latency`.

    Shapes: queries (n, d). Ten searches come before the clock starts. Percentiles are interpolated linearly.
    A batch takes less time per query. The numbers are those of this machine, at this moment.

    >>> index = build_index(torch.eye(8))
    >>> times = latency(index, torch.eye(8), k=3)
    >>> 0 < times.p50 <= times.p95 <= times.p99, times.queries
    (True, 8)
    """
    [queries] = floating(queries=queries)
    if queries.ndim != 2:
        raise ValueError(f"queries has shape {tuple(queries.shape)}; expected (n, d), a row per query")
    wait = torch.cuda.synchronize if queries.is_cuda else lambda: None
    seconds = []
    for query in [*queries[:10].repeat(10, 1)[:10], *queries]:
        wait()
        start = time.perf_counter()
        search(index, query, k)
        wait()
        seconds.append(time.perf_counter() - start)
    taken = torch.tensor(seconds[10:], dtype=torch.float64)
    percentiles = 1000 * taken.quantile(taken.new_tensor([0.5, 0.95, 0.99]))
    return Latency(*percentiles.tolist(), len(queries))


def memory_bytes(index):
    """What an index takes up: its vectors or codes, and what it needs to find them (clusters, graph, code books).

    >>> memory_bytes(build_index(torch.eye(8))), memory_bytes(build_index(torch.eye(8), "hnsw")) > 8 * 8 * 4
    (256, True)
    """
    if index.kind == "exact":
        return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(index).values())
    return len(faiss.serialize_index(index.data))


# Keeping an index


def save_index(index, folder):
    """Write an index to a folder: its data, as safetensors (exact) or in faiss's own format, and a card in JSON.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_index(build_index(torch.eye(3), "hnsw", "dot", effort=7), folder)
    ...     index = load_index(folder)
    >>> index.kind, index.metric, index.size, index.effort
    ('hnsw', 'dot', 3, 7)
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if index.kind == "exact":
        safetensors.torch.save_file(_tensors(index), folder / VECTORS)
    else:
        faiss.write_index(index.data, str(folder / ENGINE))
    card = {name: getattr(index, name) for name in ("kind", "metric", "size", "dimension", "effort")}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_index(folder, device="cpu"):
    """The index that `save_index` wrote; an exact one on `device`, the others are always on the CPU.

    FileNotFoundError if it is not there, ValueError if the card and the data do not belong together. Load only what you
    wrote: faiss does not promise to survive a file that was made to harm.
    """
    folder = Path(folder)
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    one_of("the card's kind", card["kind"], KINDS)
    one_of("the card's metric", card["metric"], METRICS)
    if card["kind"] == "exact":
        tensors = safetensors.torch.load_file(folder / VECTORS, device=device)
        index = Index(data=tensors["vectors"], centre=tensors.get("centre"), **card)
        found = len(index.data), index.data.shape[1] - (card["metric"] == "l2")
    else:
        if not (folder / ENGINE).exists():
            raise FileNotFoundError(f"{folder / ENGINE} does not exist; expected the data of the index")
        index = Index(data=faiss.read_index(str(folder / ENGINE)), **card)
        found = index.data.ntotal, index.data.d
    if found != (index.size, index.dimension):
        raise ValueError(
            f"the data in {folder} are {found[0]} vectors of {found[1]} numbers; its card says {index.size} of {index.dimension}"
        )
    return index


# Runs: what was found, by name


def to_run(scores, indices, query_ids, document_ids, above=-math.inf):
    """The result of a search as a run, {query id: {document id: score}}, best first.

    Shapes: scores and indices (queries, k). `above` leaves out scores that are not higher: 0 for BM25, where they mean
    that no word was found.

    >>> index = build_index([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    >>> to_run(*search(index, [[0.0, 1.0]], k=2), ["q1"], ["a", "b", "c"])
    {'q1': {'b': 1.0, 'a': 0.8}}
    """
    [scores], indices = floating(scores=scores), torch.as_tensor(indices)
    if scores.ndim != 2 or scores.shape != indices.shape or len(scores) != len(query_ids):
        raise ValueError(
            f"shapes are scores {tuple(scores.shape)} and indices {tuple(indices.shape)} for {len(query_ids)} query_ids; "
            "expected (queries, k) for both"
        )
    if not 0 <= indices.min() <= indices.max() < len(document_ids):
        raise ValueError(
            f"indices run from {indices.min()} to {indices.max()}; expected 0 to {len(document_ids) - 1}, one of the "
            f"{len(document_ids)} document_ids"
        )
    for name, ids in (("query_ids", query_ids), ("document_ids", document_ids)):
        if len(set(ids)) != len(ids):
            raise ValueError(f"{name} names {len(ids) - len(set(ids))} twice; expected distinct ids")
    return {
        query: {document_ids[place]: score for score, place in zip(*row, strict=True) if score > above}
        for query, *row in zip(query_ids, scores.tolist(), indices.tolist(), strict=True)
    }


def reciprocal_rank_fusion(runs, k=60):
    """One run from several: a document gets 1 / (k + rank) from each run that lists it, whatever its score there.

    `runs` are runs, {query id: {document id: score}}; a higher score ranks higher, equal ones in the order in which they
    are listed. Queries are those of any run. The result is a run, best first; equal ones as first met.
    Errors: no runs, k below 1, a score of NaN.
    Source: Cormack, Clarke and Büttcher (2009), "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", where k = 60.

    >>> words, vectors = {"q1": {"a": 12.1, "b": 3.0}}, {"q1": {"b": 0.8, "c": 0.7}}
    >>> list(reciprocal_rank_fusion([words, vectors])["q1"])
    ['b', 'a', 'c']
    """
    k = positive_integer("k", k)
    if isinstance(runs, dict):
        raise TypeError("runs is a single run; expected several of them, in a list")
    if not (runs := list(runs)):
        raise ValueError("runs is empty; expected at least one run")
    fused = {}
    for run in runs:
        for query, documents in run.items():
            if any(map(math.isnan, documents.values())):
                raise ValueError(f"the scores of query {query!r} contain nan; expected numbers that can be ordered")
            total = fused.setdefault(query, {})
            for rank, document in enumerate(sorted(documents, key=documents.get, reverse=True), 1):
                total[document] = total.get(document, 0.0) + 1 / (k + rank)
    return {query: dict(sorted(total.items(), key=lambda item: -item[1])) for query, total in fused.items()}


def _prepared(name, vectors, metric):
    """Finite vectors in the dtype to compute in, of length 1 for the cosine."""
    check_finite(name, vectors)
    vectors = vectors.to(common_dtype(vectors)[1])
    if metric != "cosine":
        return vectors
    largest = vectors.abs().amax(-1, keepdim=True)  # first to this size, lest a square is too large or small
    if not largest.all():
        raise ValueError(f"{name} contains a vector of zeros, which has no direction; expected none")
    vectors = vectors / largest
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _search_exact(index, queries, k):
    queries = queries.to(index.data.dtype)
    if index.metric == "l2":
        queries = queries - index.centre
        queries = torch.cat([queries, torch.ones_like(queries[:, :1])], -1)
    rows = min(len(queries), max(1, BLOCK // index.size))
    scores = index.data.new_empty(rows, index.size)  # made once: fresh memory is slow
    found = [top_k(torch.mm(block, index.data.T, out=scores[: len(block)]), k) for block in queries.split(rows)]
    values, indices = map(torch.cat, zip(*found, strict=True))
    if index.metric == "l2":
        values = 2 * values - queries[:, :-1].square().sum(-1, keepdim=True)
    return values, indices


def _search_faiss(index, queries, k):
    options = None
    if index.kind == "ivf":
        options = faiss.SearchParametersIVF(nprobe=index.effort)
    elif index.kind == "hnsw":
        options = faiss.SearchParametersHNSW(efSearch=index.effort)
    values, indices = index.data.search(_array("queries", queries), k, params=options)
    if (indices < 0).any():
        row = (indices < 0).any(1).argmax()
        raise ValueError(
            f"the search found {(indices[row] >= 0).sum()} of k = {k} neighbours of query {row} with effort {index.effort}; "
            "expected a larger effort"
        )
    values = -values if index.metric == "l2" else values
    return (torch.from_numpy(array).to(queries.device) for array in (values, indices))


def _array(name, vectors):
    """For faiss: float32, on the CPU, in one piece."""
    vectors = vectors.to("cpu", torch.float32).contiguous()
    check_finite(f"{name} (as float32)", vectors)
    return vectors.numpy()


def _seed(clustering, rng):
    clustering.seed = torch.randint(2**31 - 1, (), generator=generator(rng)).item()
    clustering.min_points_per_centroid = 1  # a warning, printed past Python


@contextmanager
def _one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _tensors(index):
    return {"vectors": index.data} | ({} if index.centre is None else {"centre": index.centre})
