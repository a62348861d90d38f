"""Ranks against scipy, scikit-learn, torchmetrics and sorting in Python; intervals against numpy; embeddings against CLIP."""

import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.metrics import coverage_error, label_ranking_average_precision_score, top_k_accuracy_score
from torchmetrics.functional.retrieval import retrieval_hit_rate
from transformers import CLIPConfig, CLIPModel, logging

from studyguide.datasets import shapes
from studyguide.image import cross_modal
from studyguide.image.cross_modal import (
    clip_score,
    cross_modal_recall,
    cross_modal_recall_from_embeddings,
    image_embeddings,
    retrieval_ranks,
    text_embeddings,
)
from studyguide.models import load_clip
from studyguide.statistics.bootstrap import bootstrap_interval
from studyguide.text.semantic import cosine_matrix

TIES = ("pessimistic", "optimistic", "average")
properties = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def gauss(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, atol=1e-12):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def random_task(seed, tied=True):
    """Similarities of up to 8 queries with up to 12 items, and a relevance in which each query has 1 to 4 items."""
    draw = torch.Generator().manual_seed(seed)
    queries, items = (torch.randint(1, high, (), generator=draw).item() for high in (9, 13))
    similarity = torch.randn(queries, items, generator=draw, dtype=torch.float64)
    places = torch.rand(queries, items, generator=draw).argsort(-1)
    relevance = places < torch.randint(1, 5, (queries, 1), generator=draw)
    return (similarity.mul(2).round() if tied else similarity), relevance


def numbers(relevance):
    """A matrix as lists of item numbers."""
    return [[item for item, right in enumerate(row) if right] for row in relevance.tolist()]


def sorted_rank(row, right, ties):
    """Sort the items, wrong before right at a tie or the other way round, and look for the first right one."""
    order = sorted(range(len(row)), key=lambda item: (-row[item], right[item] == (ties == "pessimistic")))
    return 1 + min(place for place, item in enumerate(order) if right[item])


# Ranks


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@properties
@given(seed=seeds, tied=st.booleans())
def test_ranks_equal_sorting_in_python(ties, seed, tied):
    similarity, relevance = random_task(seed, tied)
    rows = zip(similarity.tolist(), relevance.tolist(), strict=True)
    ranks = retrieval_ranks(similarity, relevance, ties)
    assert ranks.dtype == torch.int64
    assert ranks.tolist() == [sorted_rank(row, right, ties) for row, right in rows]


@pytest.mark.parametrize(("ties", "method"), [("pessimistic", "max"), ("optimistic", "min"), ("average", "average")])
@properties
@given(seed=seeds)
def test_ranks_of_one_right_item_equal_scipy(ties, method, seed):
    similarity, _ = random_task(seed)
    right = torch.randint(similarity.shape[1], (len(similarity),), generator=torch.Generator().manual_seed(seed))
    expected = rankdata(-similarity, method, axis=-1)[np.arange(len(right)), right]
    close(retrieval_ranks(similarity, right, ties), expected)


def test_the_average_rank_is_the_mean_over_all_orders_of_a_tie():
    similarity = [0.5, 0.9, 0.5, 0.5, 0.1, 0.5, 0.5]
    for right in ([0], [0, 2], [3, 4, 5], [0, 2, 3, 5, 6]):
        ranks = []
        for order in itertools.permutations(range(7)):
            ordered = sorted(order, key=lambda item: -similarity[item])  # the sort is stable
            ranks.append(1 + min(ordered.index(item) for item in right))
        close(retrieval_ranks([similarity], [right], "average"), [sum(ranks) / len(ranks)], atol=1e-9)


def test_three_queries_by_hand():
    similarity = [[0.9, 0.8, 0.1, 0.2], [0.3, 0.4, 0.2, 0.6], [0.5, 0.1, 0.3, 0.7]]
    assert retrieval_ranks(similarity, [[0, 1], [3], [2]]).tolist() == [1, 1, 3]
    assert retrieval_ranks(similarity, [[1, 3], [0], [0, 1]]).tolist() == [2, 3, 2]
    assert retrieval_ranks(np.transpose(similarity), [0, 0, 2, 1]).tolist() == [1, 1, 1, 2]


def test_cosine_against_dot_product_by_hand():
    """E0-30: the second image is long, so that each text's largest dot product is with it."""
    images, texts = torch.tensor([[1.0, 0.0], [4.0, 4.0]]), torch.tensor([[1.0, 0.1], [1.0, 1.0]])
    assert retrieval_ranks(texts @ images.T, [0, 1]).tolist() == [2, 1]
    assert retrieval_ranks(cosine_matrix(texts, images), [0, 1]).tolist() == [1, 1]


def test_a_collapsed_encoder():
    same = torch.full((20, 50), 0.3)
    relevance = [[i, i + 20] for i in range(20)]
    assert retrieval_ranks(same, relevance).tolist() == [49] * 20
    assert retrieval_ranks(same, relevance, "optimistic").tolist() == [1] * 20
    close(retrieval_ranks(same, relevance, "average"), [1 + 48 / 3] * 20)  # 48 wrong ones in the 3 gaps around 2


@properties
@given(seed=seeds)
def test_ties_are_ordered_and_bounded(seed):
    similarity, relevance = random_task(seed)
    worst, best, middle = (retrieval_ranks(similarity, relevance, ties).double() for ties in TIES)
    assert ((best <= middle) & (middle <= worst)).all()
    assert best.min() >= 1
    assert (worst <= similarity.shape[1] - relevance.sum(-1) + 1).all()


@pytest.mark.parametrize("ties", TIES)
@properties
@given(seed=seeds)
def test_ranks_do_not_depend_on_the_order_of_items_or_a_rising_function(ties, seed):
    similarity, relevance = random_task(seed)
    expected = retrieval_ranks(similarity, relevance, ties)
    order = torch.randperm(similarity.shape[1], generator=torch.Generator().manual_seed(seed))
    close(retrieval_ranks(similarity[:, order], relevance[:, order], ties), expected)
    close(retrieval_ranks(similarity.exp() * 3, relevance, ties), expected)
    rows = torch.randperm(len(similarity), generator=torch.Generator().manual_seed(seed))
    close(retrieval_ranks(similarity[rows], relevance[rows], ties), expected[rows])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_shapes_of_relevance_and_blocks(dtype, monkeypatch):
    similarity, relevance = gauss(30, 40).mul(4).round().to(dtype), gauss(30, 40, seed=1) > 1
    relevance[:, 0] |= ~relevance.any(-1)
    for ties in TIES:
        expected = retrieval_ranks(similarity.double(), relevance, ties)
        same = relevance.numpy(), relevance.tolist(), numbers(relevance), tuple(map(torch.tensor, numbers(relevance)))
        for given_as in (relevance, *same):
            close(retrieval_ranks(similarity, given_as, ties), expected)
        for block in (1, 40, 41, 150):
            monkeypatch.setitem(cross_modal.BLOCK, "cpu", block)
            close(retrieval_ranks(similarity, relevance, ties), expected)
        monkeypatch.undo()


def test_the_input_is_left_alone():
    similarity, relevance = gauss(6, 9), [[0], [1], [2], [3], [4], [5, 6, 7, 8]]
    before = similarity.clone()
    retrieval_ranks(similarity, relevance)
    cross_modal_recall(similarity, relevance, ks=[1], n_resamples=9)
    cross_modal_recall_from_embeddings(similarity, gauss(9, 9), relevance, ks=[1], n_resamples=9)
    assert torch.equal(similarity, before)


def test_tolerance():
    similarity = [[0.5, 0.5 + 1e-9, 0.5 - 1e-9, 0.4, 0.7]]
    for tolerance, ranks in ((0.0, (3, 3, 3)), (1e-8, (4, 2, 3)), (0.15, (5, 2, 3.5)), (0.3, (5, 1, 3))):
        found = [retrieval_ranks(similarity, [0], ties, tolerance).item() for ties in TIES]
        assert found == list(ranks)
    # the second right item is in the tie as well: of three places before, between and behind, wrong ones take the first
    close(retrieval_ranks(similarity, [[0, 2]], "average", 1e-8), [2 + 1 / 3])


# Recall in both directions


def five_captions(images=60, d=12, noise=1.0, seed=0):
    """Embeddings of images and of five texts for each, and the relevance."""
    image = gauss(images, d, seed=seed)
    text = image.repeat_interleave(5, 0) + noise * gauss(5 * images, d, seed=seed + 1)
    return image, text, [range(5 * i, 5 * i + 5) for i in range(images)]


def estimates(recall):
    return [interval.estimate.item() for interval in recall.values()]


def test_one_text_per_image_equals_scikit_learn():
    images, texts = gauss(80, 10), gauss(80, 10) + gauss(80, 10, seed=1)
    similarity, own = 1 - cdist(images, texts, "cosine"), np.arange(80)
    result = cross_modal_recall(similarity, own, ks=(1, 3, 5, 10, 79))
    for side, scores in ((result.image_to_text, similarity), (result.text_to_image, similarity.T)):
        expected = [top_k_accuracy_score(own, scores, k=k, labels=own) for k in side.recall]
        close(estimates(side.recall), expected)
        close(side.mean_rank, coverage_error(np.eye(80), scores))
        close((1 / side.ranks.double()).mean(), label_ranking_average_precision_score(np.eye(80), scores))
    both = estimates(result.image_to_text.recall), estimates(result.text_to_image.recall)
    close(estimates(result.average_recall), np.mean(both, axis=0))


def test_scikit_learn_is_pessimistic_at_ties_too():
    similarity = gauss(40, 40).round()
    ranks = retrieval_ranks(similarity, range(40))
    close(ranks.double().mean(), coverage_error(np.eye(40), similarity))
    close((1 / ranks.double()).mean(), label_ranking_average_precision_score(np.eye(40), similarity))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_five_captions_equal_torchmetrics_and_scikit_learn(k):
    images, texts, relevance = five_captions()
    similarity = cosine_matrix(images, texts)
    result = cross_modal_recall(similarity, relevance)
    own = torch.arange(300) // 5
    hits = [retrieval_hit_rate(row, own == i, top_k=k) for i, row in enumerate(similarity)]
    close(result.image_to_text.recall[k].estimate, torch.stack(hits).double().mean())
    expected = top_k_accuracy_score(own, similarity.T, k=k, labels=range(60))
    close(result.text_to_image.recall[k].estimate, expected)


@properties
@given(seed=seeds, ties=st.sampled_from(TIES))
def test_both_directions_are_those_of_the_ranks(seed, ties):
    images, texts, relevance = five_captions(12, 3, seed=seed % 1000)
    similarity = cosine_matrix(images, texts).mul(5).round()
    own = torch.arange(60) // 5
    result = cross_modal_recall(similarity, relevance, ks=(1, 2, 11), ties=ties, n_resamples=9)
    back = cross_modal_recall(similarity.T, own, ks=(1, 2, 11), ties=ties, n_resamples=9)
    expected = retrieval_ranks(similarity, relevance, ties), retrieval_ranks(similarity.T, own, ties)
    for side, other, ranks, gallery in zip(
        (result.image_to_text, result.text_to_image),
        (back.text_to_image, back.image_to_text),
        expected,
        (60, 12),
        strict=True,
    ):
        close(side.ranks, ranks)
        close(other.ranks, ranks)
        close(estimates(side.recall), [np.mean(ranks.numpy() <= k) for k in (1, 2, 11)])
        close([side.mean_rank, side.median_rank], [np.mean(ranks.numpy()), np.median(ranks.numpy())])
        assert side.gallery == other.gallery == gallery
        assert estimates(side.recall) == sorted(estimates(side.recall))


def test_the_median_of_an_even_number_of_ranks():
    """E0-32: torch.median of 1, 2, 3, 4 is 2."""
    similarity = torch.tensor([[4.0, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]])
    result = cross_modal_recall(similarity, range(4), ks=[1])
    assert result.image_to_text.ranks.tolist() == [1, 2, 3, 4]
    assert result.image_to_text.median_rank == 2.5


def test_a_perfect_and_a_collapsed_model():
    images, _, relevance = five_captions()
    texts = images.repeat_interleave(5, 0)
    perfect = cross_modal_recall_from_embeddings(3 * images, texts / 7, relevance)
    flat = cross_modal_recall_from_embeddings(torch.ones(60, 12), torch.ones(300, 12), relevance)
    for result, recall, ranks in ((perfect, 1, (1, 1)), (flat, 0, (296, 60))):
        sides = result.image_to_text, result.text_to_image
        for side, rank in zip(sides, ranks, strict=True):
            assert estimates(side.recall) == [recall] * 3
            assert side.ranks.unique().tolist() == [rank]
            assert [side.recall[1].low, side.recall[1].high] == [recall, recall]
    assert perfect.text_to_image.gallery == 60


# Intervals


def limits(recall, k=1):
    return [recall[k].low.item(), recall[k].high.item()]


def test_intervals_resample_images_with_their_texts():
    images, texts, relevance = five_captions(80, noise=2.0)
    result = cross_modal_recall_from_embeddings(images, texts, relevance)
    own = np.arange(400) // 5
    draw = np.random.default_rng(0).integers(80, size=(9999, 80))
    for k in (1, 5, 10):
        by_image = (result.image_to_text.ranks.numpy() <= k)[draw].mean(1)
        found = np.bincount(own, result.text_to_image.ranks.numpy() <= k) / 5
        by_text = found[draw].mean(1)
        close(limits(result.image_to_text.recall, k), np.quantile(by_image, [0.025, 0.975]), atol=0.013)
        close(limits(result.text_to_image.recall, k), np.quantile(by_text, [0.025, 0.975]), atol=0.008)
        average = np.quantile((by_image + by_text) / 2, [0.025, 0.975])
        close(limits(result.average_recall, k), average, atol=0.008)


def test_intervals_of_texts_that_agree_are_wider_than_those_of_as_many_queries():
    images, texts, relevance = five_captions(100, noise=0.0)
    texts = (images + 2 * gauss(100, 12, seed=5)).repeat_interleave(5, 0)  # the five texts of an image are alike
    side = cross_modal_recall_from_embeddings(images, texts, relevance).text_to_image
    naive = bootstrap_interval((side.ranks == 1).double(), rng=0)
    low, high = limits(side.recall)
    assert (high - low) / (naive.high - naive.low) == pytest.approx(math.sqrt(5), rel=0.1)


def test_images_with_unequal_numbers_of_texts_and_a_text_of_several_images():
    similarity = gauss(5, 9)
    relevance = [[0], [1, 2, 3, 4], [4, 5], [6], [7, 8, 0]]
    result = cross_modal_recall(similarity, relevance, ks=[2], rng=1)
    found = (result.text_to_image.ranks <= 2).numpy()
    close(result.text_to_image.recall[2].estimate, found.mean())
    weights = np.zeros((5, 9))
    for image, several in enumerate(relevance):
        weights[image, several] = 1
    weights /= weights.sum(0)
    draw = np.random.default_rng(0).integers(5, size=(9999, 5))
    resampled = (weights @ found)[draw].sum(1) / weights.sum(1)[draw].sum(1)
    close(limits(result.text_to_image.recall, 2), np.quantile(resampled, [0.025, 0.975]), atol=0.04)


def test_the_seed_and_the_confidence_decide_the_interval():
    images, texts, relevance = five_captions(50)
    one, same, other, wide = (
        cross_modal_recall_from_embeddings(images, texts, relevance, **options).text_to_image.recall
        for options in ({}, {"rng": torch.Generator().manual_seed(0)}, {"rng": 1}, {"confidence": 0.99})
    )
    assert limits(one) == limits(same) != limits(other)
    assert limits(wide)[0] < limits(one)[0] < limits(one)[1] < limits(wide)[1]
    assert wide[1].confidence == 0.99


# From embeddings


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block", [1, 100, 2**22])
@pytest.mark.parametrize("ties", TIES)
def test_blocks_equal_the_whole_matrix(dtype, block, ties, monkeypatch):
    images, texts, relevance = (*(x.to(dtype) for x in five_captions(40)[:2]), five_captions(40)[2])
    texts[7], texts[21] = texts[100], texts[101]
    whole = cross_modal_recall(cosine_matrix(images, texts), relevance, ties=ties, tolerance=1e-6)
    monkeypatch.setitem(cross_modal.BLOCK, "cpu", block)
    scaled = images * torch.rand(40, 1, dtype=dtype).add(0.1), texts * 9
    for side in ("image_to_text", "text_to_image"):
        blockwise = getattr(cross_modal_recall_from_embeddings(*scaled, relevance, ties=ties, tolerance=1e-6), side)
        close(blockwise.ranks, getattr(whole, side).ranks)
        close(blockwise.recall[5].estimate, getattr(whole, side).recall[5].estimate)


def test_equal_texts_are_a_tie_whatever_the_rounding():
    """Each text is there for 8 images, and its embeddings differ in the last digits."""
    images = gauss(64, 512, dtype=torch.float32)
    texts = (images[:8] + gauss(8, 512, seed=1, dtype=torch.float32)).repeat(8, 1)
    jitter = 1 + 2e-7 * gauss(64, 512, seed=2, dtype=torch.float32)
    for ties, expected in (("pessimistic", 8), ("optimistic", 1), ("average", 4.5)):
        result = cross_modal_recall_from_embeddings(images[:8].repeat(8, 1), texts * jitter, range(64), ties=ties)
        assert result.image_to_text.ranks.unique().tolist() == [expected]
        assert result.text_to_image.ranks.unique().tolist() == [expected]


def test_memory_is_bounded():
    """2,000 x 50,000 cosines would be 400 MB; in a process of its own, half of that is refused."""
    code = """
import torch
torch.set_num_threads(1)
from studyguide.image.cross_modal import cross_modal_recall_from_embeddings
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
def measure(images, texts):
    relevance = [range(25 * i, 25 * i + 25) for i in range(images)]
    cross_modal_recall_from_embeddings(torch.randn(images, 4), torch.randn(texts, 4), relevance, n_resamples=99)
    return peak()
before = measure(200, 5_000)
print(measure(2_000, 50_000) - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 200


# CLIP


class Processor:
    """Images divided by 255, letters as tokens; what it was asked is remembered."""

    def __init__(self):
        self.asked = []

    def __call__(self, images=None, text=None, return_tensors="pt", padding=True):
        self.asked.append(text if images is None else images)
        if images is not None:
            return {"pixel_values": torch.stack(list(images)).double() / 255}
        rows = [[1, *(ord(letter) % 97 + 3 for letter in one), 2] for one in text]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.fixture(scope="module")
def clip():
    """A random CLIP of 8 x 8 images in float64."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {"vocab_size": 128, "max_position_embeddings": 12, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    config = CLIPConfig(
        text_config=text | sizes, vision_config={"image_size": 8, "patch_size": 4} | sizes, projection_dim=6
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(config).double().eval()
        for weight in model.parameters():
            if weight.ndim:
                torch.nn.init.normal_(weight, std=0.4)
    logging.set_verbosity(before)
    return model


PICTURES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WORDS = ["a star", "two", "red box", "a star", "circle"]


@pytest.mark.parametrize("size", [1, 2, 64])
def test_embeddings_equal_those_of_the_model(clip, size):
    images = image_embeddings(clip, Processor(), PICTURES, size)
    texts = text_embeddings(clip, Processor(), WORDS, size)
    inputs = Processor()(text=WORDS) | Processor()(images=(255 * PICTURES).round())
    with torch.no_grad():
        output = clip(**inputs | {"pixel_values": inputs["pixel_values"].double()})
    close(images / images.norm(dim=-1, keepdim=True), output.image_embeds)
    close(texts / texts.norm(dim=-1, keepdim=True), output.text_embeds)
    close(cosine_matrix(images, texts), output.logits_per_image.detach() / clip.logit_scale.exp().item())
    assert images.dtype == texts.dtype == torch.float64
    assert not images.requires_grad
    assert torch.equal(texts[0], texts[3])


def test_each_text_is_read_once_in_batches(clip):
    processor = Processor()
    text_embeddings(clip, processor, WORDS, batch_size=3)
    assert processor.asked == [["a star", "two", "red box"], ["circle"]]
    image_embeddings(clip, processor, (255 * PICTURES).byte(), batch_size=4)
    assert [len(batch) for batch in processor.asked[2:]] == [4, 1]


def test_images_in_bytes_or_a_list_are_the_same_images(clip):
    expected = image_embeddings(clip, Processor(), PICTURES)
    in_bytes = (255 * PICTURES).round().byte()
    close(image_embeddings(clip, Processor(), in_bytes), expected)
    close(image_embeddings(clip, Processor(), list(in_bytes)), expected)


def test_errors_of_embeddings(clip):
    with pytest.raises(ValueError, match=re.escape("texts has one of 13 tokens; expected at most the model's 12")):
        text_embeddings(clip, Processor(), ["a", "eleven here"])
    assert text_embeddings(clip, Processor(), ["tenletters"]).shape == (1, 6)
    with pytest.raises(TypeError, match="texts is the string 'a star'"):
        text_embeddings(clip, Processor(), "a star")
    with pytest.raises(ValueError, match="texts is empty"):
        text_embeddings(clip, Processor(), [])
    with pytest.raises(ValueError, match="there are no images"):
        image_embeddings(clip, Processor(), PICTURES[:0])
    with pytest.raises(ValueError, match=re.escape("images has shape (3, 8, 8)")):
        image_embeddings(clip, Processor(), PICTURES[0])
    with pytest.raises(ValueError, match="batch_size is 0"):
        image_embeddings(clip, Processor(), PICTURES, 0)
    clip.train()
    with pytest.raises(ValueError, match="in training mode"):
        image_embeddings(clip, Processor(), PICTURES)
    with pytest.raises(ValueError, match="in training mode"):
        text_embeddings(clip, Processor(), WORDS)
    clip.eval()


def test_shapes_clip_finds_captions():
    """Far better than chance, which is 5 in 200 at k = 1."""
    model, processor = load_clip("shapes-clip")
    scenes = shapes.scenes("test")[:40]
    images = image_embeddings(model, processor, shapes.images(scenes))
    texts = text_embeddings(model, processor, [caption for scene in scenes for caption in scene["captions"]])
    result = cross_modal_recall_from_embeddings(images, texts, [range(5 * i, 5 * i + 5) for i in range(40)])
    assert result.image_to_text.recall[1].estimate > 0.3
    assert result.text_to_image.recall[5].estimate > 0.5


# CLIPScore


def test_clip_score_by_hand_and_by_scipy():
    close(clip_score([3, 4], [4, 3]), 2.5 * 24 / 25)
    close(clip_score([[1, 0], [1, 1]], [[-1, 0.5], [2, 2]]), [0, 2.5])
    images, texts = gauss(30, 8), gauss(30, 8, seed=1)
    cosines = 1 - cdist(images, texts, "cosine").diagonal()
    close(clip_score(5 * images, texts), 2.5 * np.maximum(cosines, 0))
    score = clip_score(images.float(), texts.float())
    assert score.dtype == torch.float32
    assert (cosines < 0).any()


def test_clip_score_equals_torchmetrics_where_no_cosine_is_negative(clip):
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    images, texts = image_embeddings(clip, Processor(), PICTURES), text_embeddings(clip, Processor(), WORDS)

    class Tensors(torch.nn.Module):
        """The model as torchmetrics knew it, whose features are tensors."""

        config = clip.config

        def get_image_features(self, pixels):
            return clip.get_image_features(pixels.double()).pooler_output

        def get_text_features(self, ids, mask):
            return clip.get_text_features(ids, mask).pooler_output

    peer, _ = _clip_score_update(list((255 * PICTURES).round()), WORDS, Tensors(), Processor())
    close(clip_score(images, texts), 2.5 * (peer.detach() / 100).clamp(min=0))


# Errors


@pytest.mark.parametrize(
    ("similarity", "relevance", "options", "error", "message"),
    [
        ([1.0, 2.0], [0], {}, ValueError, "similarity has shape (2,); expected (queries, items)"),
        ([], [], {}, ValueError, "similarity is empty"),
        ([["a"]], [0], {}, TypeError, "similarity cannot be read"),
        ([[math.nan, 1.0]], [0], {}, ValueError, "similarity contains nan"),
        ([[math.inf, 1.0]], [0], {}, ValueError, "similarity contains inf"),
        ([[1.0, 2.0]] * 2, [0], {}, ValueError, "relevance has 1 rows; expected 2"),
        ([[1.0, 2.0]] * 2, [0, []], {}, ValueError, "relevance has nothing for query 1; expected one or more"),
        ([[1.0, 2.0]] * 2, [[True, False], [False, False]], {}, ValueError, "nothing for query 1"),
        ([[1.0, 2.0]], torch.ones(2, 2).bool(), {}, ValueError, "relevance has 2 rows; expected 1"),
        ([[1.0, 2.0]], torch.ones(1, 3).bool(), {}, ValueError, "shape (1, 3); expected 2 columns"),
        ([[1.0, 2.0]], torch.ones(1, 2).long(), {}, TypeError, "relevance is a matrix of torch.int64"),
        ([[1.0, 2.0]], np.ones((1, 2)), {}, TypeError, "relevance is a matrix of torch.float64"),
        ([[1.0, 2.0]], [2], {}, ValueError, "relevance contains item 2; expected 0 to 1"),
        ([[1.0, 2.0]], [[0, -1]], {}, ValueError, "relevance contains item -1; expected 0 to 1"),
        ([[1.0, 2.0]], [[1, 1]], {}, ValueError, "names an item twice"),
        ([[1.0, 2.0]], [0.0], {}, TypeError, "relevance contains [0.0]; expected item numbers"),
        ([[1.0, 2.0]], ["ab"], {}, TypeError, "relevance contains ['ab']"),
        ([[1.0, 2.0]], [[[0]]], {}, TypeError, "relevance contains [[0]]"),
        ([[1.0, 2.0]] * 2, [[True, False], [True]], {}, TypeError, "relevance contains [True, False]"),
        ([[1.0, 2.0]], [0], {"ties": "random"}, ValueError, "ties is 'random'; expected one of 'pessimistic'"),
        ([[1.0, 2.0]], [0], {"tolerance": -1e-9}, ValueError, "tolerance is -1e-09; expected a finite number"),
        ([[1.0, 2.0]], [0], {"tolerance": math.nan}, ValueError, "tolerance is nan"),
    ],
)
def test_errors_of_ranks(similarity, relevance, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        retrieval_ranks(similarity, relevance, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance": [[0, 1], [2, 3], [4, 6]]}, "relevance has nothing for item 5; expected one or more"),
        ({"ks": [3]}, "ks is [3]; expected numbers below 3: among so many, recall is 1 whatever the model"),
        ({"ks": []}, "ks is []"),
        ({"ks": [0]}, "ks is 0; expected at least 1"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"n_resamples": 0}, "n_resamples is 0"),
    ],
)
def test_errors_of_recall(change, message):
    arguments = {"relevance": [[0, 1], [2, 3], [4, 5, 6]], "ks": [1]} | change
    for recall, sides in (
        (cross_modal_recall, [gauss(3, 7)]),
        (cross_modal_recall_from_embeddings, [gauss(3, 4), gauss(7, 4)]),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            recall(*sides, **arguments)


def test_errors_of_the_embeddings_of_recall():
    for sides, message in (
        ((gauss(3), gauss(3, 2)), "shapes are images (3,) and texts (3, 2); expected (n, d)"),
        ((gauss(3, 2), gauss(3, 4)), "images has vectors of 2 numbers, texts of 4"),
        ((gauss(3, 2), torch.zeros(3, 2)), "texts contains a vector of zeros"),
        ((gauss(3, 2) * math.nan, gauss(3, 2)), "images contains nan"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            cross_modal_recall_from_embeddings(*sides, range(3), ks=[1])


def test_one_image_is_refused():
    with pytest.raises(ValueError, match="expected numbers below 1"):
        cross_modal_recall([[1.0, 2.0]], [[0, 1]], ks=[1])


# The GPU


@pytest.mark.gpu
def test_cuda_agrees_with_cpu():
    cuda = torch.device("cuda")
    images, texts, relevance = five_captions(200)
    similarity = cosine_matrix(images, texts).mul(20).round()
    marked = torch.zeros(similarity.shape, dtype=torch.bool)
    for row, several in enumerate(relevance):
        marked[row, several] = True
    for ties in TIES:
        expected = cross_modal_recall(similarity, relevance, ties=ties)
        for right in (relevance, marked, marked.to(cuda)):
            ranks = retrieval_ranks(similarity.to(cuda), right, ties)
            assert ranks.device.type == "cuda"
            close(ranks.cpu(), expected.image_to_text.ranks)
        found = cross_modal_recall(similarity.to(cuda), marked, ties=ties)
        blockwise = cross_modal_recall_from_embeddings(images.to(cuda), texts.to(cuda), relevance, ties=ties)
        unrounded = cross_modal_recall_from_embeddings(images, texts, relevance, ties=ties)
        for ours, other in ((found, expected), (blockwise, unrounded)):
            for side in ("image_to_text", "text_to_image"):
                one, two = getattr(ours, side), getattr(other, side)
                close(one.ranks.cpu(), two.ranks)
                close([one.median_rank.cpu(), one.mean_rank.cpu()], [two.median_rank, two.mean_rank])
                close(estimates(one.recall), estimates(two.recall))
                close(limits(one.recall), limits(two.recall), atol=0.02)  # other resamples
    close(clip_score(images.to(cuda), images.to(cuda) + 1).cpu(), clip_score(images, images + 1))
    one_each = torch.arange(200, device=cuda)
    close(retrieval_ranks(similarity[:, ::5].to(cuda), one_each).cpu(), retrieval_ranks(similarity[:, ::5], range(200)))


@pytest.mark.gpu
def test_embeddings_on_cuda(clip):
    expected = image_embeddings(clip, Processor(), PICTURES), text_embeddings(clip, Processor(), WORDS)
    clip.to("cuda")
    found = image_embeddings(clip, Processor(), PICTURES), text_embeddings(clip, Processor(), WORDS)
    clip.to("cpu")
    for ours, other in zip(found, expected, strict=True):
        assert ours.device.type == "cuda"
        close(ours.cpu(), other, atol=1e-9)
