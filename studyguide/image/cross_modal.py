"""Retrieval between images and texts: ranks, recall at k in both directions, and CLIPScore.

Similarities are a matrix of queries, the rows, and items. Which items are right for a query is the *relevance*: a matrix
of booleans, or for each query the number of its item, or a list of numbers. (A matrix of integers is refused: it could
be either.) Any number of items may be right. The rank of a query is that of the best of them; the others neither help
nor stand in its way.

Equal similarities are a *tie*. "pessimistic" puts the wrong items of a tie first, so that a model which gives all items
one score finds nothing; "optimistic" puts them last, so that it finds everything; "average" is the expected rank in
random order. Similarities that differ by no more than `tolerance` are equal.

Errors: NaN, infinity, a query without a right item, an item out of range or named twice, and shapes that do not fit are
a ValueError; what is no array of real numbers, or relevance of another kind, is a TypeError.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from studyguide.image.captioning import in_bytes
from studyguide.language.perplexity import strings
from studyguide.probability.validation import check_finite, floating, one_of, open_fraction, positive_integer
from studyguide.statistics.bootstrap import bootstrap_distribution
from studyguide.statistics.intervals import Interval
from studyguide.text.semantic import cosine_similarity, directions

BLOCK = {"cpu": 2**22, "cuda": 2**26}  # numbers held at a time
AHEAD = {  # which similarities are ahead of the best right one: the comparison, and the sign of the tolerance
    "pessimistic": [(torch.ge, -1)],
    "optimistic": [(torch.gt, 1)],
    "average": [(torch.gt, 1), (torch.ge, -1)],
}


def retrieval_ranks(similarity, relevance, ties="pessimistic", tolerance=0.0):
    """Rank of the best right item for each query: 1 plus the number of wrong items ahead of it.

    Shapes: similarity (queries, items), result (queries,). Range: 1 to items. Dtype: int64; float64 for "average".
    Ties, relevance, errors: see the module. For the other direction, transpose similarity and relevance.

    >>> retrieval_ranks([[0.9, 0.2, 0.4], [0.3, 0.3, 0.1]], [0, [1, 2]])
    tensor([1, 2])
    """
    similarity = _matrix(similarity)
    pairs = _pairs(relevance, *similarity.shape, similarity.device)
    return _ranks(_rows(similarity), similarity[pairs], pairs, similarity.shape, ties, tolerance, both=False)[0]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """How well one side finds the other."""

    recall: dict[int, Interval]  # for each k: share of the queries with a right item among the first k
    median_rank: torch.Tensor  # for an even number of queries, halfway between the middle two
    mean_rank: torch.Tensor
    ranks: torch.Tensor  # (queries,)
    gallery: int  # among how many items: without it, recall says nothing


@dataclass(frozen=True, eq=False)
class CrossModalRecall:
    """Retrieval in both directions."""

    image_to_text: Retrieval
    text_to_image: Retrieval
    average_recall: dict[int, Interval]  # for each k: the mean of the two directions


def cross_modal_recall(
    similarity, relevance, ks=(1, 5, 10), ties="pessimistic", tolerance=0.0, confidence=0.95, n_resamples=9999, rng=0
):
    """Recall at each of `ks`, median and mean rank, from images to texts and back: a `CrossModalRecall`.

    Shapes: similarity (images, texts); relevance says which texts are right for an image, and so which images are right
    for a text. Range: recall 0 to 1. Dtype: float64. Errors: see the module; a single image; a text without an image; a k
    as large as a gallery, at which recall is 1 whatever the model.
    Convention: a query is found if one right item is among the first k, as usual for images with five captions. The
    recall of document retrieval, the share of the right items that are found, is another number.
    Intervals: images are resampled with their texts, since the texts of one image are not independent (a text of several
    images counts for each with an equal share); the ranks stay. Percentile bootstrap, seeded by `rng`. If all queries are
    found, or none, the width is 0, which claims too much: see `proportion_interval`, with n the images.
    Source: Karpathy and Fei-Fei (2015), "Deep visual-semantic alignments for generating image descriptions", section 4.1.

    >>> similarity = [[0.9, 0.8, 0.1, 0.2], [0.3, 0.4, 0.2, 0.6], [0.5, 0.1, 0.3, 0.7]]
    >>> result = cross_modal_recall(similarity, [[0, 1], 3, 2], ks=[1])
    >>> result.image_to_text.ranks, result.text_to_image.ranks
    (tensor([1, 1, 3]), tensor([1, 1, 1, 2]))
    >>> print(result.text_to_image.recall[1])
    0.75 (95 % interval 0 to 1)
    """
    similarity = _matrix(similarity)
    pairs = _pairs(relevance, *similarity.shape, similarity.device, both=True)
    ranks = _ranks(_rows(similarity), similarity[pairs], pairs, similarity.shape, ties, tolerance)
    return _recall(ranks, pairs, ks, confidence, n_resamples, rng)


def cross_modal_recall_from_embeddings(
    images,
    texts,
    relevance,
    ks=(1, 5, 10),
    ties="pessimistic",
    tolerance=None,
    confidence=0.95,
    n_resamples=9999,
    rng=0,
):
    """`cross_modal_recall` of the cosines between embeddings, of which a block exists at a time.

    Shapes: images (n, d) and texts (m, d), vectors of any length but 0. Otherwise like `cross_modal_recall`.
    Convention: `tolerance` is, unless given, what rounding may do to two cosines, 8 units in the last place of 1, so that
    equal texts are a tie on every machine.

    >>> images, texts = [[1.0, 0.0], [0.0, 1.0]], [[3.0, 1.0], [1.0, 0.8], [0.0, 2.0]]
    >>> cross_modal_recall_from_embeddings(images, texts, [[0, 1], 2], ks=[1]).text_to_image.ranks
    tensor([1, 1, 1])
    """
    images, texts = floating(images=images, texts=texts)
    if images.ndim != 2 or texts.ndim != 2:
        raise ValueError(f"shapes are images {tuple(images.shape)} and texts {tuple(texts.shape)}; expected (n, d)")
    images, texts, _ = directions(images=images, texts=texts)
    shape = len(images), len(texts)
    pairs = _pairs(relevance, *shape, images.device, both=True)
    blocks = zip(*(side.split(_step(images, images.shape[1])) for side in pairs), strict=True)
    values = torch.cat([(images[image] * texts[text]).sum(-1) for image, text in blocks])
    if tolerance is None:
        tolerance = 8 * torch.finfo(images.dtype).eps
    ranks = _ranks(lambda start, stop: images[start:stop] @ texts.T, values, pairs, shape, ties, tolerance)
    return _recall(ranks, pairs, ks, confidence, n_resamples, rng)


def image_embeddings(model, processor, images, batch_size=64):
    """The embedding of each image by a CLIP model, as long as the model makes it: (n, d), of its dtype, on its device.

    `images` is a tensor (n, channels, height, width), floats in [0, 1] or uint8, or a list of n images that the processor
    takes. Errors: no images; a model in training mode, whose dropout would make the result random.

    >>> from studyguide.datasets import shapes
    >>> from studyguide.models import load_clip
    >>> image_embeddings(*load_clip("shapes-clip"), shapes.images(shapes.scenes("test")[:3])).shape
    torch.Size([3, 64])
    """

    def read(batch):
        return model.get_image_features(**_inputs(model, processor(images=in_bytes(batch), return_tensors="pt")))

    return _embeddings(read, model, images, batch_size)


def text_embeddings(model, processor, texts, batch_size=64):
    """The embedding of each text by a CLIP model, like `image_embeddings`. Equal texts are read once.

    Errors: no texts, what is no list of strings, a text with more tokens than the model reads, a model in training mode.
    """
    texts, limit = strings(texts), model.config.text_config.max_position_embeddings
    place = {text: row for row, text in enumerate(dict.fromkeys(texts))}

    def read(batch):
        tokens = _inputs(model, processor(text=batch, return_tensors="pt", padding=True))
        if (length := tokens["input_ids"].shape[1]) > limit:
            raise ValueError(f"texts has one of {length} tokens; expected at most the model's {limit}")
        return model.get_text_features(**tokens)

    return _embeddings(read, model, list(place), batch_size)[[place[text] for text in texts]]


def clip_score(images, texts):
    """CLIPScore of each image with its text, from their embeddings: 2.5 times the cosine, or 0 if that is negative.

    Shapes: images and texts (..., d), result (...); a model's score is the mean over its pairs. Range: 0 to 2.5.
    Errors: those of `cosine_similarity`.
    Convention: each pair is cut off at 0. torchmetrics multiplies by 100, and cuts off the mean only. The source puts
    "A photo depicts" before each caption. Report model and prompt with the score.
    Source: Hessel et al. (2021), "CLIPScore: a reference-free evaluation metric for image captioning", section 3.

    >>> clip_score([[3.0, 4.0], [1.0, 0.0]], [[4.0, 3.0], [-1.0, 1.0]])
    tensor([2.4000, 0.0000], dtype=torch.float64)
    """
    return 2.5 * cosine_similarity(images, texts).clamp(min=0)


# Reading arguments


def _matrix(similarity):
    [similarity] = floating(similarity=similarity)
    if similarity.ndim != 2:
        raise ValueError(f"similarity has shape {tuple(similarity.shape)}; expected (queries, items)")
    check_finite("similarity", similarity)
    return similarity


def _pairs(relevance, queries, items, device, both=False):
    """The places (query, item) of what is right, ordered by query; each query, with `both` each item too, has one."""
    if hasattr(relevance, "tolist") and relevance.ndim == 1:
        relevance = relevance.tolist()
    if not hasattr(relevance, "tolist"):
        relevance = [np.atleast_1d(row) for row in relevance]
        if all(row.dtype == bool and row.shape == (items,) for row in relevance):
            relevance = np.array(relevance)
    if len(relevance) != queries:
        raise ValueError(f"relevance has {len(relevance)} rows; expected {queries}, one for each query")
    query, item = (_listed if isinstance(relevance, list) else _marked)(relevance, items)
    for name, found, count in (("query", query, queries), ("item", item, items))[: 1 + both]:
        times = found.bincount(minlength=count)
        if not times.all():
            raise ValueError(f"relevance has nothing for {name} {times.argmin()}; expected one or more")
    return query.to(device), item.to(device)


def _marked(relevance, items):
    """Places in a matrix of booleans."""
    relevance = torch.as_tensor(relevance)
    if relevance.dtype != torch.bool:
        raise TypeError(f"relevance is a matrix of {relevance.dtype}; expected booleans, or lists of item numbers")
    if relevance.shape[1:] != (items,):
        raise ValueError(f"relevance has shape {tuple(relevance.shape)}; expected {items} columns, one for each item")
    return relevance.nonzero(as_tuple=True)


def _listed(relevance, items):
    """Places from an array of item numbers for each query."""
    for row in relevance:
        if row.ndim > 1 or (row.size and row.dtype.kind not in "iu"):
            raise TypeError(f"relevance contains {row.tolist()}; expected item numbers, or a matrix of booleans")
    query = torch.arange(len(relevance)).repeat_interleave(torch.tensor([row.size for row in relevance]))
    item = torch.as_tensor(np.concatenate(relevance).astype(np.int64))
    outside = item[(item < 0) | (item >= items)]
    if len(outside):
        raise ValueError(f"relevance contains item {outside[0]}; expected 0 to {items - 1}")
    if len((query * items + item).unique()) < len(item):
        raise ValueError("relevance names an item twice for one query; expected each once")
    return query, item


def _inputs(model, batch):
    return {k: x.to(model.device, model.dtype if x.is_floating_point() else None) for k, x in batch.items()}


@torch.no_grad()
def _embeddings(read, model, inputs, batch_size):
    """What `read` makes of batches of images or texts, one below the other."""
    batch_size = positive_integer("batch_size", batch_size)
    if len(inputs) == 0:
        raise ValueError("there are no images; expected at least one")
    if model.training:
        raise ValueError("model is in training mode; expected model.eval(), which switches dropout off")
    outputs = [read(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
    return torch.cat([getattr(output, "pooler_output", output) for output in outputs])


# Ranks and what they come to


def _rows(similarity):
    return lambda start, stop: similarity[start:stop].clone()


def _step(like, width):
    """How many rows of so many numbers to hold at a time."""
    return max(1, BLOCK["cpu" if like.is_cpu else "cuda"] // width)


def _ranks(rows, values, pairs, shape, ties, tolerance, both=True):
    """Ranks of the best right partner of each row and, if `both`, of each column.

    `rows(start, stop)` makes a block of similarities to write on; `values` are the similarities at the places `pairs`.
    """
    rules = AHEAD[one_of("ties", ties, tuple(AHEAD))]
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is {tolerance}; expected a finite number of at least 0")
    sides = list(zip(shape, pairs, strict=True))
    best = [values.new_full((n,), -math.inf).scatter_reduce(0, at, values, "amax") for n, at in sides]
    ahead = [torch.zeros(len(rules), n, dtype=torch.int64, device=values.device) for n in shape]
    step = _step(values, shape[1])
    starts = torch.arange(0, shape[0] + step, step, device=values.device)
    places = torch.searchsorted(pairs[0], starts).tolist()
    for start, (first, last) in zip(range(0, shape[0], step), pairwise(places), strict=True):
        block, stop = rows(start, start + step), start + step
        block[pairs[0][first:last] - start, pairs[1][first:last]] = -math.inf  # only what is wrong can be ahead
        for number, (rule, sign) in enumerate(rules):
            limits = [side + sign * tolerance for side in best]
            ahead[0][number, start:stop] = rule(block, limits[0][start:stop, None]).sum(1, dtype=torch.int32)
            if both:
                ahead[1][number] += rule(block, limits[1]).sum(0, dtype=torch.int32)
    if ties != "average":
        return [1 + counts[0] for counts in ahead]
    ranks = []
    for (surely, perhaps), top, at in zip(ahead, best, pairs, strict=True):
        equals = at[values >= (top - tolerance)[at]].bincount(minlength=len(top))
        ranks.append(1 + surely + (perhaps - surely).double() / (equals + 1))
    return ranks


def _recall(ranks, pairs, ks, confidence, n_resamples, rng):
    """The results from the ranks of images and of texts, and the places of what is right."""
    ks, smaller = [positive_integer("ks", k) for k in ks], min(map(len, ranks))
    if not ks or max(ks) >= smaller:
        raise ValueError(f"ks is {ks}; expected numbers below {smaller}: among so many, recall is 1 whatever the model")
    confidence = open_fraction("confidence", confidence)
    by_image, found = (torch.stack([side <= k for k in ks]).double() for side in ranks)
    image, text = pairs
    share = 1 / text.bincount().double()[text]  # of a text of several images
    rows = torch.cat([found, torch.ones_like(found[:1])])[:, text] * share  # the last counts the texts
    by_image = torch.cat([by_image, rows.new_zeros(len(rows), by_image.shape[1]).index_add(1, image, rows)])

    def recalls(means):
        one, other = means[: len(ks)], means[len(ks) : -1] / means[-1]
        return torch.stack([one, other, (one + other) / 2])

    estimate = recalls(by_image.mean(-1))
    levels = estimate.new_tensor([(1 - confidence) / 2, (1 + confidence) / 2])
    resampled = recalls(bootstrap_distribution(by_image, n_resamples=n_resamples, rng=rng))
    limits = zip(estimate, *resampled.quantile(levels, dim=-1), strict=True)
    one, other, average = (
        {k: Interval(*numbers, confidence) for k, *numbers in zip(ks, *three, strict=True)} for three in limits
    )
    return CrossModalRecall(_retrieval(one, *ranks), _retrieval(other, *ranks[::-1]), average)


def _retrieval(recall, ranks, others):
    return Retrieval(recall, ranks.double().quantile(0.5), ranks.double().mean(), ranks, len(others))
