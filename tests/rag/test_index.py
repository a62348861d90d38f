"""Search against scikit-learn and faiss itself, BM25 and fusion against formulas written out, errors by name."""

import json
import math
import re
import time
from collections import Counter
from dataclasses import replace

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from studyguide.rag import index as module
from studyguide.rag.index import (
    KINDS,
    METRICS,
    build_index,
    index_recall,
    latency,
    load_index,
    memory_bytes,
    reciprocal_rank_fusion,
    save_index,
    search,
    to_run,
    top_k,
)
from studyguide.rag.lexical import BM25
from studyguide.text.ngrams import tokenize

properties = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def gauss(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, atol=1e-10):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def sklearn(vectors, queries, k, metric):
    """The scores of scikit-learn's brute force, in our convention, and the neighbours."""
    if metric == "dot":
        scores = queries.numpy() @ vectors.numpy().T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), order
    name = {"cosine": "cosine", "l2": "sqeuclidean"}[metric]
    peer = NearestNeighbors(n_neighbors=k, metric=name, algorithm="brute").fit(vectors.numpy())
    distances, order = peer.kneighbors(queries.numpy())
    return (1 - distances if metric == "cosine" else -distances), order


# Exact search


@properties
@given(seeds, st.sampled_from(METRICS), st.integers(1, 300), st.integers(1, 20), st.integers(1, 12), st.data())
def test_exact_search_equals_scikit_learn(seed, metric, n, d, q, data):
    k = data.draw(st.integers(1, n))
    vectors, queries = 3 * gauss(n, d, seed=seed) + 1, gauss(q, d, seed=seed + 1)
    scores, indices = search(build_index(vectors, metric=metric), queries, k)
    expected, order = sklearn(vectors, queries, k, metric)
    close(scores, expected, atol=1e-9)
    if d > 1 or metric != "cosine":  # in one dimension all cosines are 1 or -1
        assert indices.tolist() == order.tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_flat_is_exact_in_float32(metric):
    vectors, queries = gauss(2000, 24) + 0.5, gauss(50, 24, seed=1)
    flat, exact = build_index(vectors, "flat", metric), build_index(vectors, "exact", metric)
    scores, indices = search(flat, queries, 10)
    expected, order = sklearn(vectors, queries, 10, metric)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=2e-5)
    assert (indices.numpy() == order).mean() > 0.99  # float32 may exchange neighbours
    assert index_recall(flat, queries, 10, exact).mean() > 0.99


def test_scores_by_hand():
    vectors, query = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]], [4.0, 3.0]
    for metric, expected, order in [
        ("cosine", [24 / 25, 3 / 5, -4 / 5], [0, 1, 2]),
        ("dot", [24, 6, -4], [0, 1, 2]),
        ("l2", [-2, -17, -34], [0, 1, 2]),
    ]:
        for kind in ("exact", "flat"):
            scores, indices = search(build_index(vectors, kind, metric), query, 3)
            close(scores, expected, atol=1e-6)
            assert indices.tolist() == order


def test_on_vectors_of_length_1_all_metrics_rank_alike():
    vectors = torch.nn.functional.normalize(gauss(500, 8), dim=-1)
    queries = torch.nn.functional.normalize(gauss(20, 8, seed=1), dim=-1)
    (cos, first), (dot, second), (l2, third) = (search(build_index(vectors, metric=m), queries, 30) for m in METRICS)
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    close(dot, cos)
    close(l2, 2 * cos - 2)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_scores_come_in_the_order_of_the_index(metric):
    """Small whole numbers, so that equal vectors have equal scores to the last bit."""
    rows = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]]).repeat(40, 1)
    scores, indices = search(build_index(rows, metric=metric), [[1.0, 0.0], [0.0, 1.0]], 130)
    first = [i for i in range(200) if i % 5 in (0, 2, 4)]
    second = [i for i in range(200) if i % 5 in (1, 3)]
    assert indices[0].tolist() == first + second[:10]
    assert indices[1].tolist() == second + first[:50]
    assert (scores[:, 1:] <= scores[:, :-1]).all()


@properties
@given(seeds, st.integers(1, 400), st.integers(1, 5), st.data())
def test_top_k_is_a_stable_sort(seed, n, values, data):
    k = data.draw(st.integers(1, n))
    scores = torch.randint(values, (3, 2, n), generator=torch.Generator().manual_seed(seed)).double()
    scores[scores == 0] = -math.inf
    order = np.argsort(-scores.numpy(), axis=-1, kind="stable")[..., :k]
    found, indices = top_k(scores, k)
    assert indices.tolist() == order.tolist()
    assert torch.equal(found, scores.gather(-1, torch.from_numpy(order)))


@pytest.mark.parametrize("metric", METRICS)
def test_the_block_size_and_the_batch_do_not_matter(monkeypatch, metric):
    vectors, queries = gauss(100, 6), gauss(3, 7, 6, seed=1)
    index = build_index(vectors, metric=metric)
    scores, indices = search(index, queries, 5)
    assert scores.shape == indices.shape == (3, 7, 5)
    for block in (1, 250):
        monkeypatch.setattr(module, "BLOCK", block)
        again, places = search(index, queries, 5)
        close(again, scores)
        assert torch.equal(places, indices)
    single, place = search(index, queries[1, 2], 5)
    close(single, scores[1, 2])
    assert torch.equal(place, indices[1, 2])


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_the_vectors_and_rotations_do_not_matter(metric):
    vectors, queries = gauss(200, 9), gauss(10, 9, seed=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(gauss(9, 9, seed=3)).Q
    scores, indices = search(build_index(vectors, metric=metric), queries, 12)
    permuted, places = search(build_index(vectors[order], metric=metric), queries, 12)
    turned, same = search(build_index(vectors @ rotation, metric=metric), queries @ rotation, 12)
    assert torch.equal(order[places], indices)
    assert torch.equal(same, indices)
    close(permuted, scores)
    close(turned, scores)


def test_distances_far_from_the_origin_keep_their_digits():
    vectors = gauss(300, 16, dtype=torch.float32) + 1000
    queries = vectors[:40] + 0.01 * gauss(40, 16, seed=1, dtype=torch.float32)
    scores, indices = search(build_index(vectors, metric="l2"), queries, 5)
    expected, order = sklearn(vectors.double(), queries.double(), 5, "l2")
    close(scores, expected, atol=1e-2)
    assert indices.tolist() == order.tolist()


def test_a_vector_finds_itself():
    vectors = gauss(50, 7)
    for metric, best in (("cosine", 1.0), ("l2", 0.0)):
        scores, indices = search(build_index(vectors, metric=metric), vectors, 1)
        assert indices.flatten().tolist() == list(range(50))
        close(scores, torch.full((50, 1), best), atol=1e-12)
        assert scores.max() <= best, "never beyond the range"


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1e300])
def test_cosines_of_tiny_and_huge_vectors(scale):
    vectors, queries = gauss(30, 5), gauss(4, 5, seed=1)
    scores, indices = search(build_index(vectors * scale), queries / scale, 6)
    expected, order = sklearn(vectors, queries, 6, "cosine")
    close(scores, expected)
    assert indices.tolist() == order.tolist()


def test_dtypes():
    lists = search(build_index([[1, 0], [0, 1]]), [[2, 1]], 1)
    assert lists[0].dtype == torch.float64
    numpy = search(build_index(gauss(5, 3).float().numpy()), gauss(2, 3).numpy(), 1)
    assert numpy[0].dtype == torch.float32
    for half in (torch.float16, torch.bfloat16):
        scores, indices = search(build_index(gauss(40, 8).to(half)), gauss(3, 8, seed=1).to(half), 4)
        expected = search(build_index(gauss(40, 8).to(half).double()), gauss(3, 8, seed=1).to(half).double(), 4)
        assert scores.dtype == torch.float32
        close(scores, expected[0], atol=1e-6)
        assert torch.equal(indices, expected[1])


def test_an_index_keeps_nothing_of_a_graph_of_gradients():
    vectors = gauss(9, 4).requires_grad_()
    scores, _ = search(build_index(vectors), gauss(2, 4).requires_grad_(), 2)
    assert not scores.requires_grad


def test_a_single_vector():
    for kind in ("exact", "flat", "ivf", "hnsw"):
        scores, indices = search(build_index([[3.0, 4.0]], kind), [4.0, 3.0], 1)
        close(scores, [0.96], atol=1e-6)
        assert indices.tolist() == [0]


def test_building_does_not_change_its_input():
    vectors = gauss(300, 8, dtype=torch.float32)
    before = vectors.clone()
    for kind in KINDS:
        for metric in METRICS:
            search(build_index(vectors, kind, metric), vectors[:2], 3)
    assert torch.equal(vectors, before)


# faiss


def clustered(n, d, seed=0):
    centres = gauss(40, d, seed=100)
    pick = torch.randint(40, (n,), generator=torch.Generator().manual_seed(seed))
    return centres[pick] + gauss(n, d, seed=seed)


@pytest.fixture(scope="module")
def built():
    """{(kind, metric): index} of 3000 vectors."""
    return {
        (kind, metric): build_index(clustered(3000, 16), kind, metric) for kind in KINDS for metric in ("cosine", "l2")
    }


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_approximate_kinds_equal_faiss_called_directly(built, metric):
    vectors, queries = (clustered(n, 16, seed).float() for n, seed in ((3000, 0), (64, 1)))
    if metric == "cosine":
        vectors, queries = (torch.nn.functional.normalize(x.double(), dim=-1).float() for x in (vectors, queries))
    space = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    peers = {"hnsw": faiss.index_factory(16, "HNSW32", space), "flat": faiss.index_factory(16, "Flat", space)}
    for peer in peers.values():
        peer.add(vectors.numpy())
    peers["hnsw"].hnsw.efSearch = 64
    for kind, peer in peers.items():
        scores, indices = search(built[kind, metric], queries, 8)
        expected, order = peer.search(queries.numpy(), 8)
        agree = (indices.numpy() == order).mean()
        assert agree > 0.995, kind  # but for the last bit of a vector's length
        close(scores, -expected if metric == "l2" else expected, atol=1e-3)
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_more_effort_finds_more(built, metric):
    queries, exact = clustered(200, 16, seed=1), built["exact", metric]
    for kind, efforts in (("ivf", (1, 8, 76)), ("hnsw", (10, 40, 3000))):
        index = built[kind, metric]
        recalls = [index_recall(replace(index, effort=effort), queries, 10, exact).mean() for effort in efforts]
        assert recalls[0] < recalls[1] <= recalls[2], kind
        assert recalls[2] > 0.999, "reading everything is exact"
    assert index_recall(built["flat", metric], queries, 10, exact).mean() > 0.999


def test_ivf_reads_the_lists_nearest_to_the_query(built):
    """With one list read, the neighbours are those within the query's own cluster."""
    index, queries = replace(built["ivf", "l2"], effort=1), clustered(100, 16, seed=1)
    vectors = clustered(3000, 16).float()
    centroids = torch.from_numpy(index.data.quantizer.reconstruct_n(0, index.data.nlist))
    own, of_query = torch.cdist(vectors, centroids).argmin(1), torch.cdist(queries.float(), centroids).argmin(1)
    _, indices = search(index, queries, 3)
    hits = 0
    for query, cluster, found in zip(queries.float(), of_query, indices, strict=True):
        members = (own == cluster).nonzero().flatten()
        nearest = members[torch.cdist(query[None], vectors[members])[0].argsort()[:3]]
        hits += (nearest == found).sum().item()
    assert hits / 300 > 0.99


def test_codes_save_memory_and_cost_recall(built):
    queries, exact, pq = clustered(200, 16, seed=1), built["exact", "l2"], built["pq", "l2"]
    assert pq.data.pq.M == 2, "16 numbers in 2 bytes"
    assert memory_bytes(pq) < memory_bytes(built["flat", "l2"]) / 8
    fine = build_index(clustered(3000, 16), "pq", "l2", pieces=16)
    coarse, finer = (index_recall(index, queries, 10, exact).mean() for index in (pq, fine))
    assert 0.1 < coarse < finer < 1


def test_memory_is_that_of_the_numbers_kept(built):
    assert memory_bytes(built["exact", "cosine"]) == 3000 * 16 * 8
    assert memory_bytes(built["exact", "l2"]) == 3000 * 17 * 8 + 16 * 8
    assert memory_bytes(build_index(gauss(10, 4, dtype=torch.float32))) == 160
    assert 0 <= memory_bytes(built["flat", "l2"]) - 3000 * 16 * 4 < 100
    assert memory_bytes(built["hnsw", "l2"]) > 3000 * (16 * 4 + 32 * 4)
    ids = 3000 * 8
    assert memory_bytes(built["ivf", "l2"]) > 3000 * 16 * 4 + ids


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "pq"])
def test_building_is_repeatable(kind):
    vectors = clustered(2000, 16)
    once, again = (faiss.serialize_index(build_index(vectors, kind).data) for _ in range(2))
    assert np.array_equal(once, again)
    if kind != "hnsw":  # whose levels do not depend on the seed
        assert not np.array_equal(once, faiss.serialize_index(build_index(vectors, kind, rng=1).data))
    generator = torch.Generator().manual_seed(0)
    assert np.array_equal(once, faiss.serialize_index(build_index(vectors, kind, rng=generator).data))


def test_the_number_of_threads_is_left_as_it_was():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    build_index(gauss(50, 4), "hnsw")
    assert faiss.omp_get_max_threads() == 2
    faiss.omp_set_num_threads(before)


def test_defaults_suit_the_size():
    ivf = build_index(gauss(1000, 24), "ivf")
    assert ivf.data.nlist == 25, "1000 // 39, so that faiss has nothing to warn of"
    assert ivf.effort == 3
    assert build_index(gauss(30, 4), "ivf").data.nlist == 1
    assert build_index(gauss(300, 21), "pq").data.pq.M == 1, "no other divisor of 21 is at most 21 // 8"
    assert build_index(gauss(300, 48), "pq").data.pq.M == 6
    assert build_index(gauss(9, 4), "hnsw").effort == 64


def test_nothing_is_printed_past_python(capfd):
    build_index(gauss(300, 8), "ivf", lists=100)
    build_index(gauss(300, 8), "pq", pieces=4)
    assert capfd.readouterr() == ("", "")


# Recall, latency


def test_recall_by_hand():
    """One dimension, l2. True neighbours of 0: rows 0, 1, 2. A flat index over other rows finds two of them."""
    exact = build_index([[0.0], [1.0], [2.0], [3.0], [4.0]], metric="l2")
    other = build_index([[0.0], [1.0], [9.0], [3.0], [4.0]], "flat", "l2")
    close(index_recall(other, [[0.0], [4.0]], 3, exact), [2 / 3, 2 / 3])
    close(index_recall(exact, [[0.0]], 5, exact), [1.0])
    close(index_recall(other, [[0.0]], 1, exact), [1.0])


def test_latency_is_the_percentiles_of_what_the_clock_says(monkeypatch):
    index, queries = build_index(gauss(20, 4)), gauss(100, 4, seed=1)
    taken = iter([1000.0] * 10 + [i / 1000 for i in range(1, 101)])  # the first ten are not counted
    now, reads = [0.0], []

    def clock():
        if len(reads) % 2:
            now[0] += next(taken)
        reads.append(now[0])
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    times = latency(index, queries, 3)
    expected = np.percentile(np.arange(1, 101), [50, 95, 99])
    close([times.p50, times.p95, times.p99], expected, atol=1e-6)
    assert times.queries == 100


def test_latency_of_a_single_query():
    times = latency(build_index(gauss(20, 4), "hnsw"), gauss(1, 4), 3)
    assert 0 < times.p50 == times.p95 == times.p99


# Saving


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_answers_as_before(tmp_path, kind, metric):
    vectors, queries = clustered(400, 12), clustered(9, 12, seed=1)
    index = build_index(vectors, kind, metric)
    save_index(index, tmp_path / "new" / "folder")
    loaded = load_index(tmp_path / "new" / "folder")
    for name in ("kind", "metric", "size", "dimension", "effort"):
        assert getattr(loaded, name) == getattr(index, name)
    for before, after in zip(search(index, queries, 4), search(loaded, queries, 4), strict=True):
        assert torch.equal(before, after)
    data = {"index.faiss"} if kind != "exact" else {"vectors.safetensors"}
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == data | {"index.json"}
    if kind != "exact":
        assert faiss.read_index(str(tmp_path / "new" / "folder" / "index.faiss")).ntotal == 400


def test_saving_again_replaces(tmp_path):
    save_index(build_index(gauss(5, 3)), tmp_path)
    save_index(replace(build_index(gauss(7, 4), "hnsw", "dot"), effort=9), str(tmp_path))
    loaded = load_index(tmp_path)
    assert (loaded.kind, loaded.metric, loaded.size, loaded.effort) == ("hnsw", "dot", 7, 9)


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_index(tmp_path / "nowhere")
    for kind in ("exact", "flat"):
        folder = tmp_path / kind
        save_index(build_index(gauss(5, 3), kind), folder)
        card = json.loads((folder / "index.json").read_text())
        for change, message in (
            ({"size": 6}, "are 5 vectors of 3 numbers; its card says 6 of 3"),
            ({"kind": "tree"}, "the card's kind is 'tree'; expected one of 'exact'"),
            ({"metric": "hamming"}, "the card's metric is 'hamming'"),
        ):
            (folder / "index.json").write_text(json.dumps(card | change))
            with pytest.raises(ValueError, match=re.escape(message)):
                load_index(folder)
        (folder / "index.json").write_text(json.dumps(card))
        (folder / ("vectors.safetensors" if kind == "exact" else "index.faiss")).unlink()
        with pytest.raises(FileNotFoundError):
            load_index(folder)


# BM25


TEXTS = [
    "The cat sat on the mat.",
    "the dog barked at the cat, the cat ran",
    "Dogs and cats",
    "",
    "القطة جلست على السجادة",
    "The the the",
]


def okapi(texts, query, k1=1.5, b=0.75, idf=lambda n, count: math.log(1 + (count - n + 0.5) / (n + 0.5))):
    """The formula, a loop over texts and tokens, as rank_bm25's BM25Okapi has it but for the idf."""
    documents = [tokenize(text, "unicode") for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for token in tokenize(query, "unicode"):
            n = sum(token in other for other in documents)
            f = counts[token]
            if f:
                score += idf(n, len(documents)) * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


def test_bm25_by_hand():
    """Three texts of 6, 3 and 3 tokens, 4 on average; one has 'cat', once."""
    scores = BM25(["the cat sat on the mat", "the dog barked", "cats and dogs"]).scores(["cat"])
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    close(scores, [[idf * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 6 / 4)), 0, 0]])


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (1.2, 0.0), (0.9, 1.0), (0.0, 0.5)])
def test_bm25_is_its_formula(k1, b):
    queries = ["the cat", "cat cat dog", "CAT!", "السجادة", "nothing here", ""]
    expected = [okapi(TEXTS, query, k1, b) for query in queries]
    close(BM25(TEXTS, k1, b).scores(queries), expected)


@properties
@given(seeds)
def test_bm25_on_random_texts(seed):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(list("abcdefgh"), size=rng.integers(0, 9))) for _ in range(rng.integers(2, 9))]
    texts.append("a b")
    queries = [" ".join(rng.choice(list("abcdxyz"), size=4)) for _ in range(3)]
    bm25 = BM25(texts)
    scores = bm25.scores(queries)
    close(scores, [okapi(texts, query) for query in queries])
    assert (scores >= 0).all()
    k = int(rng.integers(1, len(texts) + 1))
    found, indices = bm25.search(queries, k)
    order = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :k]
    assert indices.tolist() == order.tolist()
    close(found, np.take_along_axis(scores.numpy(), order, 1))


def test_where_the_variants_of_bm25_agree():
    """A word that one text of many has: with the other idf, log((N - n + .5) / (n + .5)), scores differ by a factor."""
    texts = [f"w{i} common" for i in range(20)]

    def robertson(n, count):
        return math.log((count - n + 0.5) / (n + 0.5))

    ours, theirs = BM25(texts).scores(["w3"])[0], okapi(texts, "w3", idf=robertson)
    close(ours / math.log(1 + 19.5 / 1.5), torch.tensor(theirs) / math.log(19.5 / 1.5))
    assert okapi(texts, "common", idf=robertson)[0] < 0 < BM25(texts).scores(["common"])[0, 0]


def test_bm25_searches_in_blocks(monkeypatch):
    from studyguide.rag import lexical

    queries = ["the cat", "dog", "a mat", "cats", "nothing"]
    whole = BM25(TEXTS).search(queries, 4)
    monkeypatch.setattr(lexical, "BLOCK", 1)
    for before, after in zip(whole, BM25(TEXTS).search(queries, 4), strict=True):
        assert torch.equal(before, after)


def test_a_query_without_a_known_word_scores_0():
    scores, indices = BM25(TEXTS).search(["zebra"], 3)
    assert scores.tolist() == [[0, 0, 0]]
    assert indices.tolist() == [[0, 1, 2]]
    assert to_run(scores, indices, ["q"], list("abcdef"), above=0) == {"q": {}}


# Runs and their fusion


def test_a_run_names_what_was_found():
    scores, indices = [[0.9, 0.2, -0.1], [0.5, 0.5, 0.0]], [[2, 0, 1], [1, 2, 0]]
    names = ["a", "b", "c"]
    assert to_run(scores, indices, ["q1", "q2"], names) == {
        "q1": {"c": 0.9, "a": 0.2, "b": -0.1},
        "q2": {"b": 0.5, "c": 0.5, "a": 0.0},
    }
    assert to_run(scores, indices, ["q1", "q2"], names, above=0) == {
        "q1": {"c": 0.9, "a": 0.2},
        "q2": {"b": 0.5, "c": 0.5},
    }


def test_fusion_by_hand():
    words = {"q": {"a": 9.0, "b": 8.0, "c": 7.0}, "only": {"z": 1.0}}
    vectors = {"q": {"b": 0.9, "d": 0.8}}
    fused = reciprocal_rank_fusion([words, vectors])
    expected = {"b": 1 / 62 + 1 / 61, "a": 1 / 61, "d": 1 / 62, "c": 1 / 63}
    assert list(fused["q"]) == list(expected)
    assert fused["q"] == pytest.approx(expected)
    assert fused["only"] == pytest.approx({"z": 1 / 61})
    assert reciprocal_rank_fusion([words, vectors], k=1)["q"]["b"] == pytest.approx(1 / 3 + 1 / 2)


@properties
@given(seeds, st.integers(1, 4))
def test_fusion_depends_on_ranks_only(seed, n_runs):
    import pandas

    rng = np.random.default_rng(seed)
    documents = [f"d{i}" for i in range(8)]
    runs = []
    for _ in range(n_runs):
        some = rng.permutation(documents)[: rng.integers(1, 9)]
        runs.append({"q": dict(zip(some, rng.permutation(100)[: len(some)].astype(float), strict=True))})
    fused = reciprocal_rank_fusion(runs)["q"]
    ranks = pandas.DataFrame([run["q"] for run in runs]).rank(axis=1, ascending=False)
    assert fused == pytest.approx((1 / (60 + ranks)).sum().to_dict())
    assert list(fused.values()) == sorted(fused.values(), reverse=True)
    stretched = [{"q": {name: math.exp(score / 50) for name, score in run["q"].items()}} for run in runs]
    assert reciprocal_rank_fusion(stretched)["q"] == fused
    assert reciprocal_rank_fusion(runs[::-1])["q"] == pytest.approx(fused)
    assert list(reciprocal_rank_fusion(runs[:1])["q"]) == sorted(runs[0]["q"], key=runs[0]["q"].get, reverse=True)


def test_equal_scores_fuse_in_the_order_of_the_run():
    assert list(reciprocal_rank_fusion([{"q": {"b": 1.0, "a": 1.0, "c": 2.0}}])["q"]) == ["c", "b", "a"]
    assert list(reciprocal_rank_fusion([{"q": {"b": 1.0}}, {"q": {"a": 1.0}}])["q"]) == ["b", "a"]
    assert reciprocal_rank_fusion([{"q": {}}, {"q": {"a": 1.0}}])["q"] == pytest.approx({"a": 1 / 61})


# Bad input


INDEX = build_index([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
HUGE = [[1e200, 1e200]] * 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: build_index([[1.0]], "tree"), ValueError, "kind is 'tree'; expected one of 'exact', 'flat'"),
        (
            lambda: build_index([[1.0]], metric="L2"),
            ValueError,
            "metric is 'L2'; expected one of 'cosine', 'dot', 'l2'",
        ),
        (lambda: build_index([1.0, 2.0]), ValueError, "embeddings has shape (2,); expected (n, d)"),
        (lambda: build_index([]), ValueError, "embeddings is empty"),
        (lambda: build_index(torch.empty(0, 4)), ValueError, "embeddings is empty (shape (0, 4))"),
        (lambda: build_index(["a cat"]), TypeError, "embeddings cannot be read as an array of numbers"),
        (lambda: build_index([[1.0, math.nan]]), ValueError, "embeddings contains nan; expected finite numbers"),
        (lambda: build_index([[1.0, math.inf]], "flat", "l2"), ValueError, "embeddings contains inf"),
        (lambda: build_index([[1.0, 1.0], [0.0, 0.0]]), ValueError, "embeddings contains a vector of zeros"),
        (lambda: build_index(HUGE, "flat", "dot"), ValueError, "embeddings (as float32) contains inf"),
        (lambda: build_index([[1.0]], lists=2), ValueError, "lists is 2, but kind is 'exact'; only 'ivf' has it"),
        (
            lambda: build_index([[1.0]], "flat", links=2),
            ValueError,
            "links is 2, but kind is 'flat'; only 'hnsw' has it",
        ),
        (lambda: build_index([[1.0]], "ivf", pieces=2), ValueError, "pieces is 2, but kind is 'ivf'; only 'pq' has it"),
        (lambda: build_index([[1.0]], effort=2), ValueError, "effort is 2, but kind is 'exact'; only 'ivf' and 'hnsw'"),
        (
            lambda: build_index([[1.0]], "ivf", lists=2),
            ValueError,
            "lists is 2; expected at most the number of vectors, 1",
        ),
        (lambda: build_index([[1.0]], "ivf", lists=0), ValueError, "lists is 0; expected at least 1"),
        (lambda: build_index([[1.0]], "ivf", effort=0), ValueError, "effort is 0; expected at least 1"),
        (lambda: build_index([[1.0]], "hnsw", links=2.5), TypeError, "links is 2.5; expected an integer"),
        (
            lambda: build_index(gauss(300, 6), "pq", pieces=4),
            ValueError,
            "pieces is 4; expected a divisor of the dimension, 6",
        ),
        (lambda: build_index(gauss(255, 6), "pq"), ValueError, "embeddings has 255 vectors; expected at least 256"),
        (lambda: build_index(gauss(300, 6), "pq", rng="0"), TypeError, "rng is '0'; expected an int seed"),
        (lambda: replace(build_index([[1.0]], "hnsw"), effort=None), TypeError, "effort is None; expected an integer"),
        (
            lambda: search(INDEX, [[1.0, 0.0]], 4),
            ValueError,
            "k is 4; expected at most the number of vectors in the index, 3",
        ),
        (lambda: search(INDEX, [[1.0, 0.0]], 0), ValueError, "k is 0; expected at least 1"),
        (lambda: search(INDEX, [[1.0, 0.0, 0.0]], 1), ValueError, "queries has shape (1, 3); expected (..., 2)"),
        (lambda: search(INDEX, 1.0, 1), ValueError, "queries has shape (); expected (..., 2)"),
        (lambda: search(INDEX, torch.empty(0, 2), 1), ValueError, "queries is empty (shape (0, 2))"),
        (lambda: search(INDEX, [[math.nan, 0.0]], 1), ValueError, "queries contains nan"),
        (lambda: search(INDEX, [[0.0, 0.0]], 1), ValueError, "queries contains a vector of zeros"),
        (
            lambda: search(build_index(HUGE, metric="dot"), HUGE, 1),
            ValueError,
            "the scores (beyond the range of their dtype)",
        ),
        (lambda: top_k(torch.tensor([1.0, math.nan]), 1), ValueError, "scores contains nan"),
        (lambda: top_k(torch.tensor([1.0, 2.0]), 3), ValueError, "k is 3; expected at most the number of scores, 2"),
        (
            lambda: index_recall(INDEX, [[1.0, 0.0]], 1, build_index(gauss(3, 2), "hnsw")),
            ValueError,
            "exact is of kind 'hnsw'",
        ),
        (
            lambda: index_recall(INDEX, [[1.0, 0.0]], 1, build_index(gauss(4, 2))),
            ValueError,
            "the indexes differ in size: 3 and 4",
        ),
        (
            lambda: index_recall(INDEX, [[1.0, 0.0]], 1, build_index(gauss(3, 2), metric="dot")),
            ValueError,
            "the indexes differ in metric: cosine and dot",
        ),
        (lambda: latency(INDEX, [1.0, 0.0], 1), ValueError, "queries has shape (2,); expected (n, d)"),
        (lambda: BM25("a cat"), TypeError, "texts is the str 'a cat'; expected a list of texts"),
        (lambda: BM25([]), ValueError, "texts is empty"),
        (lambda: BM25(["", "!?"]), ValueError, "texts have no token"),
        (lambda: BM25([3]), TypeError, "text is 3; expected a str"),
        (lambda: BM25(["a"], k1=-1), ValueError, "k1 is -1; expected a finite number of at least 0"),
        (lambda: BM25(["a"], b=1.5), ValueError, "b is 1.5; expected a number from 0 to 1"),
        (lambda: BM25(["a"]).search("a", 1), TypeError, "queries is the str 'a'"),
        (lambda: BM25(["a"]).scores([]), ValueError, "queries is empty"),
        (lambda: BM25(["a"]).search(["a"], 2), ValueError, "k is 2; expected at most the number of texts, 1"),
        (lambda: to_run([[1.0]], [[3]], ["q"], ["a"]), ValueError, "indices run from 3 to 3; expected 0 to 0"),
        (lambda: to_run([[1.0]], [[-1]], ["q"], ["a"]), ValueError, "indices run from -1 to -1"),
        (
            lambda: to_run([[1.0]], [[0]], ["q", "r"], ["a"]),
            ValueError,
            "shapes are scores (1, 1) and indices (1, 1) for 2",
        ),
        (lambda: to_run([1.0], [0], ["q"], ["a"]), ValueError, "expected (queries, k) for both"),
        (lambda: to_run([[1.0]] * 2, [[0]] * 2, ["q", "q"], ["a"]), ValueError, "query_ids names 1 twice"),
        (lambda: to_run([[1.0]], [[0]], ["q"], ["a", "a"]), ValueError, "document_ids names 1 twice"),
        (lambda: reciprocal_rank_fusion([]), ValueError, "runs is empty"),
        (lambda: reciprocal_rank_fusion({"q": {"a": 1.0}}), TypeError, "runs is a single run"),
        (lambda: reciprocal_rank_fusion([{"q": {"a": math.nan}}]), ValueError, "the scores of query 'q' contain nan"),
        (lambda: reciprocal_rank_fusion([{"q": {"a": 1.0}}], k=-3), ValueError, "k is -3; expected at least 1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_too_few_neighbours_are_an_error_not_the_last_document():
    """faiss answers -1 where the lists that it read hold fewer than k vectors."""
    vectors = torch.cat([gauss(40, 4) / 100 + 5, gauss(3, 4, seed=1) / 100 - 5])
    index = build_index(vectors, "ivf", "l2", lists=2, effort=1)
    assert (index.data.search(vectors[-1:].float().numpy(), 5)[1][0, 3:] == -1).all()
    with pytest.raises(
        ValueError, match=re.escape("found 3 of k = 5 neighbours of query 1 with effort 1; expected a larger")
    ):
        search(index, vectors[[0, -1]], 5)
    assert search(replace(index, effort=2), vectors[-1:], 5)[1].min() >= 0


# GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("metric", METRICS)
def test_a_gpu_finds_what_the_cpu_finds(tmp_path, metric):
    vectors, queries = gauss(5000, 32), gauss(40, 32, seed=1)
    here, there = build_index(vectors, metric=metric), build_index(vectors.cuda(), metric=metric)
    scores, indices = search(there, queries.cuda(), 20)
    expected, order = search(here, queries, 20)
    assert scores.is_cuda
    assert indices.is_cuda
    close(scores.cpu(), expected, atol=1e-9)
    assert torch.equal(indices.cpu(), order)
    assert index_recall(there, queries.cuda(), 20, there).mean() == 1
    assert latency(there, queries.cuda(), 5).p50 > 0
    save_index(there, tmp_path)
    assert load_index(tmp_path, "cuda").data.is_cuda
    assert torch.equal(load_index(tmp_path).data, there.data.cpu())
    with pytest.raises(ValueError, match="queries is on cpu"):
        search(there, queries, 3)
    flat, places = search(build_index(vectors.cuda(), "flat", metric), queries.cuda(), 3)
    assert flat.is_cuda
    assert (places.cpu() == order[:, :3]).double().mean() > 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_top_k_on_a_gpu_is_a_stable_sort():
    scores = torch.randint(3, (4, 1000), generator=torch.Generator().manual_seed(0)).double()
    for here, there in zip(top_k(scores, 300), top_k(scores.cuda(), 300), strict=True):
        assert torch.equal(here, there.cpu())
