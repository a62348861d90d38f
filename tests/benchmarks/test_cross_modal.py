"""Recall both ways of 1,000 images and five texts of each, from embeddings: ours, by sorting, scikit-learn, torchmetrics.

Ours makes intervals, too. For texts, which have one image each, scikit-learn stands in for torchmetrics, which is slow there.
"""

import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torchmetrics.functional.retrieval import retrieval_hit_rate

from studyguide.image.cross_modal import cross_modal_recall_from_embeddings

IMAGES, KS = 1000, (1, 5, 10)
OWN = torch.arange(5 * IMAGES) // 5


@pytest.fixture(scope="module")
def embeddings():
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 512, generator=draw)
    return images, images[OWN] + 7 * torch.randn(5 * IMAGES, 512, generator=draw)


def cosines(images, texts):
    return torch.nn.functional.normalize(images, dim=-1) @ torch.nn.functional.normalize(texts, dim=-1).T


def ours(images, texts):
    relevance = [range(5 * image, 5 * image + 5) for image in range(len(images))]
    result = cross_modal_recall_from_embeddings(images, texts, relevance, KS)
    sides = result.image_to_text, result.text_to_image
    return [side.recall[k].estimate.item() for side in sides for k in KS]


def by_sorting(images, texts):
    similarity = cosines(images, texts)
    ranks = []
    for table, right in (
        (similarity, torch.arange(IMAGES)[:, None] == OWN),
        (similarity.T, OWN[:, None] == torch.arange(IMAGES)),
    ):
        order = table.argsort(-1, descending=True)
        ranks.append(1 + right.gather(-1, order).int().argmax(-1))
    return [(side <= k).double().mean().item() for side in ranks for k in KS]


def of_peers(images, texts):
    similarity = cosines(images, texts)
    hits = [[retrieval_hit_rate(row, i == OWN, top_k=k) for i, row in enumerate(similarity)] for k in KS]
    labels = range(IMAGES)
    back = [top_k_accuracy_score(OWN, similarity.T, k=k, labels=labels) for k in KS]
    return [torch.stack(several).double().mean().item() for several in hits] + back


@pytest.mark.parametrize(
    ("library", "recall"), [("studyguide", ours), ("sorting", by_sorting), ("torchmetrics and sklearn", of_peers)]
)
def test_recall_both_ways(benchmark, embeddings, library, recall):
    assert recall(*embeddings) == pytest.approx(by_sorting(*embeddings), abs=1e-3)  # but for ties by rounding
    benchmark.group = f"{IMAGES:,} images, 5 texts of each"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(recall, embeddings, rounds=3)
