"""Cosines against scipy and sentence-transformers, greedy matching against bert-score, intervals against numpy."""

import math
import re

import numpy as np
import pytest
import torch
from bert_score.utils import bert_cos_score_idf, get_idf_dict, greedy_cos_idf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sentence_transformers import util

from studyguide.models import load_sentence_encoder
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.text import semantic
from studyguide.text.semantic import (
    bertscore,
    cosine_matrix,
    cosine_similarity,
    greedy_match,
    semantic_similarity,
    summarise,
)

CAT, FELINE, PYTHON = "The cat sat on the mat.", "A feline rested on the rug.", "Python is a programming language."
TEXTS = [
    CAT,
    FELINE,
    PYTHON,
    "The cat did not sit on the mat.",
    "القطة جلست على السجادة",
    "Die Katze saß auf der Matte, 3.5 m entfernt!",
    "猫坐在垫子上",
    "ok",
    "?!",
    "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a",
]
properties = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def encoder():
    return load_sentence_encoder().double()


class Recorder:
    """An encoder that remembers what it was asked."""

    def __init__(self, encoder):
        self.encoder, self.asked = encoder, []
        self.tokenizer, self.max_seq_length = encoder.tokenizer, encoder.max_seq_length

    def encode(self, texts, **options):
        self.asked.append(list(texts))
        return self.encoder.encode(texts, **options)


def gauss(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, atol=1e-12):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def fields(score):
    return torch.stack([score.precision, score.recall, score.f1])


# The cosine


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1.0, 1e150])
def test_cosines_equal_scipy_and_sentence_transformers(scale):
    a, b = gauss(40, 17) * scale, gauss(30, 17, seed=1)
    expected = 1 - cdist(gauss(40, 17), b, "cosine")
    close(cosine_matrix(a, b), expected)
    close(cosine_matrix(gauss(40, 17), b), util.cos_sim(gauss(40, 17), b))
    close(cosine_similarity(a[:30], b), expected.diagonal().copy())
    close(cosine_similarity(a[:, None], b), expected)


def test_cosine_by_hand():
    close(cosine_similarity([3, 4], [4, 3]), 24 / 25)
    close(cosine_similarity([1, 2, 2], [2, -2, 1]), 0)
    close(cosine_similarity([1, 1], [[1, 0], [2, 2], [0, -1]]), [math.sqrt(0.5), 1, -math.sqrt(0.5)])
    assert cosine_matrix(gauss(2, 5, 3), gauss(4, 3)).shape == (2, 5, 4)


@properties
@given(seeds, st.integers(1, 40))
def test_the_range_ends_at_the_same_and_the_opposite_direction(seed, d):
    v = gauss(20, d, seed=seed).where(gauss(20, d, seed=seed + 1) > -2, 0)
    v[:, 0] += 0.5 - (v == 0).all(-1).double()  # no vector of zeros
    v = v[(v != 0).any(-1)]
    close(cosine_similarity(v, v * 3), torch.ones(len(v)))
    close(cosine_similarity(v, -v), -torch.ones(len(v)))
    matrix = cosine_matrix(v, v)
    assert matrix.abs().max() <= 1, "not 1.0000000000000002"
    close(matrix, matrix.T)


def test_dtypes_and_huge_numbers():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = gauss(9, 30).to(dtype), gauss(9, 30, seed=1).to(dtype)
        assert cosine_similarity(a, b).dtype == cosine_matrix(a, b).dtype == dtype
        close(cosine_similarity(a, b), cosine_similarity(a.double(), b.double()), atol=torch.finfo(dtype).eps)
    close(cosine_similarity([1e308, 1e308], [1e-308, 0]), math.sqrt(0.5))
    close(cosine_similarity(torch.full((4,), 6e4, dtype=torch.float16), torch.ones(4, dtype=torch.float16)), 1, 1e-3)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (cosine_similarity, ([0, 0], [1, 2]), ValueError, "a contains a vector of zeros"),
        (cosine_similarity, ([[1, 2]], [[1, 2], [0, 0]]), ValueError, "b contains a vector of zeros"),
        (cosine_similarity, ([1, 2, 3], [1, 2]), ValueError, "a has vectors of 3 numbers, b of 2; expected as many"),
        (cosine_similarity, ([math.nan, 1], [1, 2]), ValueError, "a contains nan; expected finite numbers"),
        (cosine_similarity, ([1, 2], [math.inf, 2]), ValueError, "b contains inf"),
        (cosine_similarity, ([[1, 2]] * 3, [[1, 2]] * 2), ValueError, "expected leading axes that broadcast"),
        (cosine_similarity, (1.0, [1.0]), ValueError, "a is a single number"),
        (cosine_similarity, ([], [1.0]), ValueError, "a is empty"),
        (cosine_similarity, ("cat", "mat"), TypeError, "a cannot be read as an array of numbers"),
        (cosine_matrix, ([1, 2], [[1, 2]]), ValueError, r"shapes are a (2,) and b (1, 2); expected (..., vectors, d)"),
        (cosine_matrix, ([[1, 2]], [[1, 2], [0, 0]]), ValueError, "b contains a vector of zeros"),
        (cosine_matrix, ([[1, 2]], [[1, 2, 3]]), ValueError, "a has vectors of 2 numbers, b of 3"),
    ],
)
def test_errors_of_cosines(function, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function(*arguments)


# Sentences


def test_the_cat_and_the_feline(encoder):
    """The published model's own numbers, as anybody gets them from sentence-transformers."""
    vectors = load_sentence_encoder().encode([CAT, FELINE, PYTHON], convert_to_tensor=True)
    scores = semantic_similarity(encoder, [CAT, CAT], [FELINE, PYTHON])
    close(scores, util.cos_sim(vectors[:1], vectors[1:])[0], atol=1e-6)
    close(scores, [0.556, 0.020], atol=5e-4)  # the erratum's values


def test_similarity_is_the_cosine_of_the_embeddings(encoder):
    candidates, references = TEXTS, TEXTS[::-1]
    a, b = (encoder.encode(texts, convert_to_tensor=True) for texts in (candidates, references))
    scores = semantic_similarity(encoder, candidates, references)
    close(scores, 1 - cdist(a, b, "cosine").diagonal())
    assert scores.dtype == torch.float64
    assert semantic_similarity(load_sentence_encoder(), [CAT], [CAT]).dtype == torch.float32
    close(semantic_similarity(encoder, TEXTS, TEXTS), torch.ones(len(TEXTS)))


def test_each_text_is_encoded_once(encoder):
    recorder = Recorder(encoder)
    pairs = [(CAT, [FELINE, PYTHON]), (FELINE, [CAT, PYTHON]), (CAT, [CAT])]
    for score in (semantic_similarity, bertscore):
        recorder.asked.clear()
        score(recorder, *zip(*pairs, strict=True))
        assert [sorted(texts) for texts in recorder.asked] == [sorted([CAT, FELINE, PYTHON])]


def test_the_nearest_reference_counts(encoder):
    references = [[PYTHON, FELINE, CAT], [FELINE], (CAT, PYTHON)]
    candidates = [FELINE, PYTHON, "ok"]
    for score in (semantic_similarity, lambda *arguments: bertscore(*arguments).f1):
        single = [score(encoder, [c] * len(rs), list(rs)).amax() for c, rs in zip(candidates, references, strict=True)]
        close(score(encoder, candidates, references), torch.stack(single))
        close(score(encoder, candidates, [rs[::-1] for rs in references]), torch.stack(single))


def test_precision_and_recall_are_those_of_the_reference_with_the_best_f1(encoder):
    references = [CAT, "The cat sat on the mat, as it did on every other day of the year.", PYTHON]
    several = bertscore(encoder, ["The cat sat."], [references])
    single = fields(bertscore(encoder, ["The cat sat."] * 3, references))
    close(fields(several)[:, 0], single[:, single[2].argmax()])


@pytest.mark.parametrize("score", [semantic_similarity, lambda *arguments: fields(bertscore(*arguments))])
def test_a_blank_text_scores_0(encoder, score):
    assert not score(encoder, ["", " \n", CAT, ""], [CAT, [CAT, FELINE], "", ["", " "]]).any()


@pytest.mark.parametrize("score", [semantic_similarity, bertscore])
@pytest.mark.parametrize(
    ("candidates", "references", "error", "message"),
    [
        ("cat", ["cat"], TypeError, "candidates is the string 'cat'; expected a list"),
        (["cat"], "cat", TypeError, "references is the string 'cat'; expected a list"),
        ([], [], ValueError, "0 candidates and 0 references; expected as many, at least one"),
        (["a", "b"], ["a"], ValueError, "2 candidates and 1 references; expected as many"),
        ([["a"]], ["a"], TypeError, "candidates[0] is ['a']; expected a string"),
        (["a", "b"], ["a", 7], TypeError, "references[1] is 7; expected a string or a list of strings"),
        (["a"], [["a", None]], TypeError, "references[0] is ['a', None]; expected a string or a list of strings"),
        (["a", "b"], ["a", []], ValueError, "references[1] is empty; expected at least one reference"),
        (["word " * 300], ["a"], ValueError, "has 302 tokens; expected at most the encoder's 256"),
    ],
)
def test_errors_of_pairs(encoder, score, candidates, references, error, message):
    with pytest.raises(error, match=re.escape(message)):
        score(encoder, candidates, references)


def test_the_longest_text_that_the_encoder_reads(encoder):
    longest = "word " * 254  # and two marks
    close(semantic_similarity(encoder, [longest], [longest]), [1])


# Matching tokens


def random_match(seed, rows=5, d=6, positive=True):
    """Embeddings, masks and weights of texts of 1 to 9 tokens; `positive` keeps all cosines above 0."""
    draw = torch.Generator().manual_seed(seed)
    sides = []
    for longest in torch.randint(1, 10, (2,), generator=draw).tolist():
        vectors = torch.randn(rows, longest, d, generator=draw, dtype=torch.float64)
        lengths = torch.randint(1, longest + 1, (rows, 1), generator=draw)
        weights = torch.rand(rows, longest, generator=draw, dtype=torch.float64) + 0.01
        mask = torch.arange(longest) < lengths
        sides.append((vectors.abs() + 0.01 if positive else vectors, mask, weights * mask))
    return sides


def bert_score_of(candidate, reference):
    """bert-score's core, which divides in place and counts masks of two as empty; so each text gets two tokens more."""
    sides = []
    for vectors, mask, weights in (reference, candidate):
        two = vectors.new_zeros(len(vectors), 2, vectors.shape[-1])
        two[..., 0] = -1.0 if (vectors > 0).all() else 1.0  # never the nearest, and without weight
        marks = torch.ones(len(vectors), 2)
        sides += [torch.cat([two, vectors], 1), torch.cat([marks, mask.float()], 1)]
        sides.append(torch.cat([weights.new_zeros(len(weights), 2), weights], 1))
    return torch.stack(greedy_cos_idf(*sides))


@properties
@given(seeds)
def test_greedy_match_equals_bert_score(seed):
    (a, mask_a, weights_a), (b, mask_b, weights_b) = random_match(seed)
    ours = greedy_match(a, b, mask_a, mask_b, weights_a, weights_b)
    close(fields(ours), bert_score_of((a, mask_a, weights_a), (b, mask_b, weights_b)), atol=1e-9)


def by_hand(a, b, weights_a, weights_b):
    """The definition, token by token."""
    cosines = 1 - cdist(a, b, "cosine")
    p = sum(w * max(row) for w, row in zip(weights_a, cosines, strict=True)) / sum(weights_a)
    r = sum(w * max(row) for w, row in zip(weights_b, cosines.T, strict=True)) / sum(weights_b)
    return [p, r, 2 * p * r / (p + r) if p * r > 0 else 0]


@properties
@given(seeds)
def test_greedy_match_equals_the_definition_and_padding_changes_nothing(seed):
    sides = random_match(seed, positive=False)
    (a, mask_a, weights_a), (b, mask_b, weights_b) = sides
    ours = fields(greedy_match(a, b, mask_a, mask_b, weights_a, weights_b))
    for row in range(len(a)):
        n, m = mask_a[row].sum(), mask_b[row].sum()
        alone = a[row, :n], b[row, :m], weights_a[row, :n], weights_b[row, :m]
        close(ours[:, row], by_hand(*(side.numpy() for side in alone)))
        close(fields(greedy_match(*alone[:2], None, None, *alone[2:])), ours[:, row])
    garbage = [vectors.where(mask[..., None], math.nan) for vectors, mask, _ in sides]
    close(fields(greedy_match(*garbage, mask_a, mask_b, weights_a, weights_b)), ours)
    swapped = greedy_match(b, a, mask_b, mask_a, weights_b, weights_a)
    close(torch.stack([swapped.recall, swapped.precision, swapped.f1]), ours)


def test_three_tokens_against_two_by_hand():
    candidate, reference = [[1, 0], [0, 1], [3, 4]], [[4, 3], [0, -2]]
    # cosines: 0.8 and 0; 0.6 and -1; 24/25 and -0.8
    p, r = (0.8 + 0.6 + 0.96) / 3, (0.96 + 0) / 2
    close(fields(greedy_match(candidate, reference)), [p, r, 2 * p * r / (p + r)])
    weighted = greedy_match(candidate, reference, candidate_weights=[2, 0, 2], reference_weights=[3, 1])
    close(weighted.precision, (2 * 0.8 + 2 * 0.96) / 4)
    close(weighted.recall, 3 * 0.96 / 4)


def test_identical_opposite_and_empty_texts():
    x = gauss(4, 7, 3)
    close(fields(greedy_match(x, x)), torch.ones(3, 4))
    close(fields(greedy_match(x[:, :1], -x[:, :1])), -torch.ones(3, 4))
    nothing = torch.zeros(4, 7)
    for masks in ((nothing, None), (None, nothing), (nothing, nothing)):
        assert not fields(greedy_match(x, x, *masks)).any()
    assert not fields(greedy_match(x, x, candidate_weights=nothing)).any()


def test_f1_is_0_where_precision_and_recall_differ_in_sign():
    score = greedy_match([[1.0, 0.0], [-1.0, 0.1]], [[1.0, 2.0]], candidate_weights=[0.0, 1.0])
    assert score.precision < 0 < score.recall
    assert score.f1 == 0


def test_batch_dimensions_and_dtypes():
    a, b = gauss(2, 3, 4, 5), gauss(2, 3, 6, 5, seed=1)
    expected = torch.stack(
        [torch.stack([fields(greedy_match(*pair)) for pair in zip(*x, strict=True)]) for x in zip(a, b, strict=True)]
    )
    close(fields(greedy_match(a, b)).permute(1, 2, 0), expected)
    for dtype in (torch.float32, torch.float16):
        score = fields(greedy_match(a.to(dtype), b.to(dtype)))
        assert score.dtype == dtype
        close(score.permute(1, 2, 0), expected, atol=5e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": [1.0, 2.0]}, "shapes are candidate (2,) and reference (3, 2); expected (..., tokens, d)"),
        ({"candidate": [[[1.0, 2.0]]]}, "with the same leading axes"),
        ({"candidate": [[1.0, 2.0, 3.0]]}, "candidate has vectors of 3 numbers, reference of 2"),
        ({"candidate": [[0.0, 0.0]]}, "candidate contains a vector of zeros"),
        ({"reference": [[math.nan, 1.0]]}, "reference contains nan"),
        ({"candidate_mask": [1, 1]}, "candidate_mask (2,) and candidate_weights (2,); expected (1,)"),
        ({"reference_weights": [1.0]}, "reference_mask (3,) and reference_weights (1,); expected (3,)"),
        ({"reference_weights": [1.0, -2.0, 1.0]}, "reference_weights go down to -2; expected none below 0"),
        ({"candidate_weights": [math.inf]}, "candidate_weights contains inf"),
    ],
)
def test_errors_of_greedy_match(change, message):
    arguments = {"candidate": [[1.0, 2.0]], "reference": [[1.0, 2.0], [2.0, 1.0], [0.0, 1.0]]} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        greedy_match(**arguments)


# BERTScore of texts


@pytest.mark.parametrize("idf", [False, True])
def test_bertscore_equals_bert_score(encoder, idf, monkeypatch):
    """The library's whole path, with this encoder, its weights in float32; pair by pair, so that nothing is padded."""
    candidates, references = TEXTS, TEXTS[3:] + TEXTS[:3]
    tokenizer, model = encoder.tokenizer, encoder[0].auto_model
    weights = get_idf_dict(references, tokenizer, nthreads=0)
    if not idf:
        weights = dict.fromkeys(range(len(tokenizer)), 1.0) | {tokenizer.cls_token_id: 0.0, tokenizer.sep_token_id: 0.0}
    alone = [
        bert_cos_score_idf(model, [r], [c], tokenizer, weights, device="cpu")[0]
        for c, r in zip(candidates, references, strict=True)
    ]
    expected = torch.stack(alone, -1)
    close(fields(bertscore(encoder, candidates, references, idf=idf)), expected, atol=1e-6)
    monkeypatch.setattr(semantic, "BLOCK", 3)
    close(fields(bertscore(encoder, candidates, references, idf=idf)), expected, atol=1e-6)


def test_bertscore_of_identical_texts_is_1(encoder):
    close(fields(bertscore(encoder, TEXTS, TEXTS)), torch.ones(3, len(TEXTS)))
    close(fields(bertscore(encoder, TEXTS, [TEXTS] * len(TEXTS), idf=True)), torch.ones(3, len(TEXTS)))


def test_in_a_batch_bert_score_depends_on_the_padding():
    """What the docstring says of it: a text whose token has a negative cosine, alone and beside a longer one."""
    a, b = (
        torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]),
        torch.tensor([[[-1.0, 1.0], [0.0, 0.0]], [[-1.0, 1.0], [-1.0, 0.0]]]),
    )
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    batch = greedy_cos_idf(
        b + (mask[..., None] == 0), mask, mask.clone(), a.clone(), mask[:, :1] * 0 + 1, torch.ones(2, 1)
    )
    assert batch[0][0] == 0
    close(greedy_match(a, b, reference_mask=mask).precision, [-math.sqrt(0.5)] * 2, atol=1e-7)


def test_idf_counts_each_reference_once_and_no_candidate():
    ids = [[101, 5, 5, 7, 102], [101, 5, 102], [101, 8, 9, 102]]
    weights = semantic._weights(ids, {101, 102, None}, documents=[0, 1])
    assert weights == [[0, 0, 0, math.log(3 / 2), 0], [0, 0, 0], [0, math.log(3), math.log(3), 0]]
    assert semantic._weights(ids, {101, 102}, None) == [[0, 1, 1, 1, 0], [0, 1, 0], [0, 1, 1, 0]]


def test_idf_of_a_single_reference_is_an_error(encoder):
    for references in ([CAT], [[CAT, CAT]]):
        with pytest.raises(ValueError, match="idf gives no token of the [12] references any weight"):
            bertscore(encoder, [FELINE], references, idf=True)


# Summaries


def test_summary_equals_numpy_and_the_bootstrap():
    scores = gauss(50).tanh()
    summary = summarise(scores, rng=3)
    x = scores.numpy()
    assert summary.n == 50
    close(summary.mean.estimate, x.mean())
    close(summary.median.estimate, np.median(x))
    close([summary.std, summary.minimum, summary.maximum], [x.std(ddof=1), x.min(), x.max()])
    expected = bootstrap_interval(scores, rng=3)
    close([summary.mean.low, summary.mean.high], [expected.low, expected.high])
    # of 50 numbers, the 18th and the 33rd enclose the median with 95 % confidence (binomial); the bootstrap comes near
    ordered = np.sort(x)
    assert ordered[15] <= summary.median.low <= ordered[19]
    assert ordered[30] <= summary.median.high <= ordered[34]


def test_summary_of_rows_of_equal_scores_and_of_too_few():
    rows = summarise(torch.stack([gauss(20), torch.full((20,), 0.1, dtype=torch.float64)]), n_resamples=200, rng=0)
    assert rows.mean.estimate.shape == rows.std.shape == (2,)
    assert (rows.std[1], rows.median.low[1], rows.median.high[1]) == (0, 0.1, 0.1)
    close(rows.std[0], summarise(gauss(20), n_resamples=200, rng=0).std)
    with pytest.raises(ValueError, match="scores has 1 along the last axis; expected at least 2 numbers"):
        summarise([0.5], rng=0)
    with pytest.raises(ValueError, match="scores contains nan"):
        summarise([0.5, math.nan], rng=0)


# The GPU


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda):
    (a, mask_a, weights_a), (b, mask_b, weights_b) = random_match(0, positive=False)
    arguments = a, b, mask_a, mask_b, weights_a, weights_b
    score = greedy_match(*(x.to(cuda) for x in arguments))
    assert score.f1.device == cuda
    close(fields(score).cpu(), fields(greedy_match(*arguments)))
    close(cosine_matrix(a.to(cuda), a.to(cuda)).cpu(), cosine_matrix(a, a))
    encoder = load_sentence_encoder().double()
    expected = (
        semantic_similarity(encoder, TEXTS, TEXTS[::-1]),
        fields(bertscore(encoder, TEXTS, TEXTS[::-1], idf=True)),
    )
    encoder.to(cuda)
    scores = semantic_similarity(encoder, TEXTS, TEXTS[::-1]), fields(bertscore(encoder, TEXTS, TEXTS[::-1], idf=True))
    for ours, theirs in zip(scores, expected, strict=True):
        assert ours.device == cuda
        close(ours.cpu(), theirs, atol=1e-9)
