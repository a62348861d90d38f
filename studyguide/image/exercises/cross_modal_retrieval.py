"""Exercises of notebook 5.4, Cross-modal retrieval."""

import math

import torch

from studyguide.course.exercises import Exercise, Wrong
from studyguide.image.cross_modal import retrieval_ranks


def _t(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def my_ranks(similarity, relevance):
    """The rank of the best right item of each query, ties against the query.

    similarity is (queries, items), relevance a boolean matrix of the same shape. Returns a tensor of whole numbers.
    """
    best = similarity.masked_fill(~relevance, -math.inf).amax(1, keepdim=True)
    return 1 + ((similarity >= best) & ~relevance).sum(1)


def _ranks_peer(similarity, relevance):
    ranks = []
    for row, right in zip(similarity.tolist(), relevance.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda item: (-row[item], right[item]))
        ranks.append(1 + next(place for place, item in enumerate(order) if right[item]))
    return ranks


def _by_sorting(similarity, right):
    """Ranks of one item per query by a stable sort, in which the first listed of a tie comes first."""
    order = similarity.argsort(dim=1, descending=True, stable=True)
    return 1 + (order == right[:, None]).int().argmax(1)


def _best(similarity, relevance, among=torch.amax):
    """The similarity of the best right item, or with amin of the worst."""
    if among is torch.amax:
        return similarity.masked_fill(~relevance, -math.inf).amax(1, keepdim=True)
    return similarity.masked_fill(~relevance, math.inf).amin(1, keepdim=True)


_SIMILARITY = _t([0.9, 0.8, 0.1, 0.2, 0.7], [0.3, 0.4, 0.2, 0.6, 0.6], [0.5, 0.7, 0.2, 0.7, 0.3])
_RELEVANCE = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 1, 0], [0, 1, 1, 0, 0]]).bool()

RANKS = Exercise(
    id="ranks-of-best-positives",
    title="Ranks with several right answers",
    prompt=(
        "Write `my_ranks(similarity, relevance)`: for each row, the rank of the best of the items that `relevance` marks as right. "
        "Wrong items with the same similarity count as ahead of it; other right items do not count."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "The best right item: put minus infinity where `relevance` is False, and take the maximum of each row.",
        "Then count the wrong items (`& ~relevance`) whose similarity is at least as large, and add 1.",
    ),
    solution=my_ranks,
    peer=_ranks_peer,
    cases=(
        (_SIMILARITY, _RELEVANCE),
        (_t([0.9, 0.2, 0.3], [0.4, 0.1, 0.5]), torch.tensor([[True, False, False], [False, True, False]])),
        (_t([0.5, 0.5, 0.5, 0.5]), torch.tensor([[False, True, True, False]])),
    ),
    wrong=(
        Wrong(
            lambda s, r: 1 + ((s > _best(s, r)) & ~r).sum(1),
            "a tie counts for the query: a model that gives all items one score would be perfect. Use >= for wrong items.",
        ),
        Wrong(
            lambda s, r: (s >= _best(s, r)).sum(1),
            "right, unless two right items tie: then the second counts as if it were in the way of the first. Count wrong items only.",
        ),
        Wrong(
            lambda s, r: ((s >= _best(s, r)) & ~r).sum(1),
            "your ranks start at 0. The first place is 1, so that recall at k counts ranks of at most k.",
        ),
        Wrong(
            lambda s, r: _by_sorting(s, torch.arange(len(s))),
            "you look for the item with the query's own number, the diagonal. `relevance` says which items are right.",
        ),
        Wrong(
            lambda s, r: 1 + ((s >= _best(s, r, torch.amin)) & ~r).sum(1),
            "this is the rank of the worst right item. One right item is enough: take the best.",
        ),
        Wrong(
            lambda s, r: _by_sorting(s, r.int().argmax(1)),
            "you follow the first right item of the row only. The best of them has the largest similarity.",
        ),
        Wrong(
            lambda s, r: 1 + ((s <= _best(s, r)) & ~r).sum(1),
            "you count what is behind. Ahead is what has a larger similarity.",
        ),
    ),
)


def my_clip_score(images, texts):
    """CLIPScore of each pair of embeddings, images (n, d) with texts (n, d).

    Returns a tensor of n numbers.
    """
    cosines = (images * texts).sum(-1) / images.norm(dim=-1) / texts.norm(dim=-1)
    return 2.5 * cosines.clamp(min=0)


def _clip_score_peer(images, texts):
    from scipy.spatial.distance import cosine

    return [2.5 * max(1 - cosine(image, text), 0) for image, text in zip(images, texts, strict=True)]


def _cosines(images, texts):
    return (images * texts).sum(-1) / images.norm(dim=-1) / texts.norm(dim=-1)


SCORE = Exercise(
    id="clip-score",
    title="CLIPScore from embeddings",
    prompt=(
        "Write `my_clip_score(images, texts)`: 2.5 times the cosine of each image with the text in the same row, and 0 where the cosine is "
        "negative. The embeddings come as the model gives them, of any length."
    ),
    difficulty=1,
    minutes=6,
    hints=(
        "Row by row: `(images * texts).sum(-1)` is the dot product. By what do you divide it?",
        "`clamp(min=0)` cuts off what is negative, pair by pair.",
    ),
    solution=my_clip_score,
    peer=_clip_score_peer,
    cases=(
        (_t([3, 4], [1, 0], [2, 2]), _t([4, 3], [-1, 1], [5, 5])),
        (_t([1, 2, 2], [0, 3, 4]), _t([2, -2, 1], [0, -4, 3])),
        (_t([0.1, 0.2], [6, -8]), _t([0.3, 0.1], [-3, 4])),
    ),
    wrong=(
        Wrong(
            lambda i, t: 2.5 * (i * t).sum(-1).clamp(min=0),
            "this is the dot product: a long embedding scores more. Divide by both lengths.",
        ),
        Wrong(
            lambda i, t: 2.5 * _cosines(i, t),
            "negative cosines stay negative. CLIPScore is 0 there: clamp.",
        ),
        Wrong(
            lambda i, t: 100 * _cosines(i, t).clamp(min=0),
            "you multiply by 100, which is torchmetrics' scale. The paper's factor is 2.5.",
        ),
        Wrong(
            lambda i, t: _cosines(i, t).clamp(min=0),
            "these are cosines. CLIPScore multiplies them by 2.5.",
        ),
        Wrong(
            lambda i, t: 2.5 * _cosines(i[:, None], t).clamp(min=0),
            "you compare all images with all texts. Each image has its own text, in the same row.",
        ),
        Wrong(
            lambda i, t: 2.5 * _cosines(i, t).abs(),
            "an opposite direction is no match. Negative cosines become 0, not positive.",
        ),
        Wrong(
            lambda i, t: (2.5 * _cosines(i, t)).mean().clamp(min=0),
            "you average first and cut off after. Cut off each pair, and return one number per pair.",
        ),
    ),
)


def my_recall_in_gallery(ranks, items, gallery):
    """Expected R@1 if each query looked among its right item and gallery - 1 of the other items, drawn at random.

    ranks are those among all `items`, one right item per query. Returns a number from 0 to 1.
    """
    draws = math.comb(items - 1, gallery - 1)
    return sum(math.comb(items - rank, gallery - 1) / draws for rank in ranks) / len(ranks)


def _gallery_peer(ranks, items, gallery):
    from scipy.stats import hypergeom

    return hypergeom.pmf(0, items - 1, [rank - 1 for rank in ranks], gallery - 1).mean()


def _over(ranks, chance):
    return sum(map(chance, ranks)) / len(ranks)


GALLERY = Exercise(
    id="recall-in-a-smaller-gallery",
    title="Recall in a smaller gallery",
    prompt=(
        "Write `my_recall_in_gallery(ranks, items, gallery)`: the expected R@1 if each query had to find its right item among `gallery` items "
        "only, itself and gallery − 1 of the others, drawn at random without replacement. `ranks` is a list of the ranks among all `items`."
    ),
    difficulty=4,
    minutes=12,
    hints=(
        "A query of rank r has r − 1 items ahead of it. It comes first if none of them is drawn.",
        "All draws: `math.comb(items - 1, gallery - 1)`. Those without the r − 1 items: choose from the items - r that are behind.",
    ),
    solution=my_recall_in_gallery,
    peer=_gallery_peer,
    cases=(([1, 2, 5, 40], 50, 10), ([3, 3, 7], 8, 2), ([1, 4, 10], 10, 10), ([2, 6], 20, 16)),
    wrong=(
        Wrong(
            lambda ranks, items, gallery: _over(ranks, lambda r: r <= 1),
            "this is R@1 among all items. In a smaller gallery a query of rank 2 is often first, too.",
        ),
        Wrong(
            lambda ranks, items, gallery: _over(ranks, lambda r: r <= items / gallery),
            "you shrink the rank in proportion, as if the draw were regular. It is random: take the chance that none ahead is drawn.",
        ),
        Wrong(
            lambda ranks, items, gallery: _over(ranks, lambda r: (1 - (r - 1) / (items - 1)) ** (gallery - 1)),
            "close, but you draw with replacement. Without it: `math.comb`.",
        ),
        Wrong(
            lambda ranks, items, gallery: _over(
                ranks, lambda r: math.comb(items - r, gallery) / math.comb(items - 1, gallery)
            ),
            "you draw as many others as the gallery has items. The right item is one of them: draw gallery - 1.",
        ),
        Wrong(
            lambda ranks, items, gallery: _over(
                ranks, lambda r: math.comb(items - r, gallery - 1) / math.comb(items, gallery)
            ),
            "you divide by all galleries, also those without the right item. It is always there: comb(items - 1, gallery - 1).",
        ),
        Wrong(
            lambda ranks, items, gallery: gallery / items,
            "this does not look at the ranks. A good model is first more often than a bad one.",
        ),
    ),
)


SIDE = 20


def my_submission():
    """Similarities of 20 images with 20 texts, of which text i is right for image i: a 20 x 20 tensor."""
    group = torch.arange(20) // 10
    noise = torch.rand(20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.where(group[:, None] == group, 0.9, noise / 2)


def _verify_submission(answer):
    similarity = torch.as_tensor(answer, dtype=torch.float64)
    if similarity.shape != (SIDE, SIDE):
        return f"the shape is {tuple(similarity.shape)}; return {SIDE} rows of {SIDE} similarities."
    values = min(len(row.unique()) for row in similarity)
    if values < SIDE // 2:
        return (
            f"a row has only {values} different numbers, and the leaderboard's owner would see that. Let only the best places be "
            "tied: each row needs 10 different numbers."
        )
    both = [similarity, similarity.T]
    kind, harsh = ([retrieval_ranks(one, range(SIDE), ties) for one in both] for ties in ("optimistic", "pessimistic"))
    kind, harsh = [(r <= 1).double().mean() for r in kind], [(r <= 5).double().mean() for r in harsh]
    if min(kind) < 1:
        return (
            f"the leaderboard gives R@1 of {100 * kind[0]:.0f} % from image to text and {100 * kind[1]:.0f} % back. No other number in the "
            "row, or in the column, may be above the right one."
        )
    if max(harsh) > 0:
        return (
            f"R@1 is 100 % there, but with ties counted against you R@5 is {100 * harsh[0]:.0f} % and {100 * harsh[1]:.0f} %, not 0. At least "
            "five wrong ones must tie with each right one, in its row and in its column."
        )
    return None


def _ties_in_rows():
    noise = torch.rand(20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2
    noise[:, :10] = 0.9
    return noise.where(~torch.eye(20).bool(), 0.9)


SUBMISSION = Exercise(
    id="break-recall-ties",
    title="First place without knowing anything",
    prompt=(
        "A leaderboard computes a rank as 1 plus the number of similarities that are strictly above the right one. Write "
        "`my_submission()`: a 20 x 20 matrix (text i is right for image i) with which R@1 there is 100 % in both directions, although "
        "with ties counted against you not one right answer is among the first five. So that nobody gets suspicious, each row has 10 "
        "different numbers or more."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "What is equal is not above. How many wrong texts must tie with the right one to push it beyond the fifth place?",
        "Think of an encoder that sees only one property, such as the colour: all images of a colour match all texts of it equally well.",
    ),
    solution=my_submission,
    verify=_verify_submission,
    wrong=(
        Wrong(
            lambda: torch.full((20, 20), 0.5),
            "a row has only 1 different numbers, and the leaderboard's owner would see that. Let only the best places be "
            "tied: each row needs 10 different numbers.",
        ),
        Wrong(
            lambda: torch.eye(20) + torch.linspace(0, 0.5, 400).view(20, 20),
            "R@1 is 100 % there, but with ties counted against you R@5 is 100 % and 100 %, not 0. At least "
            "five wrong ones must tie with each right one, in its row and in its column.",
        ),
        Wrong(
            lambda: torch.linspace(0, 1, 400).view(20, 20),
            "the leaderboard gives R@1 of 5 % from image to text and 5 % back. No other number in the "
            "row, or in the column, may be above the right one.",
        ),
        Wrong(
            _ties_in_rows,
            "R@1 is 100 % there, but with ties counted against you R@5 is 0 % and 50 %, not 0. At least "
            "five wrong ones must tie with each right one, in its row and in its column.",
        ),
        Wrong(lambda: torch.rand(20), "the shape is (20,); return 20 rows of 20 similarities."),
    ),
)

EXERCISES = (RANKS, SCORE, GALLERY, SUBMISSION)
