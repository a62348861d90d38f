"""Precision and recall against torch-fidelity, both pairs against scikit-learn, and against what can be counted."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_prc import calculate_precision_recall_full

from studyguide.image import manifold
from studyguide.image.manifold import density_coverage, precision_recall

properties = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 2**31)


def gauss(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, atol=1e-12):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def scores(real, generated, k):
    """Precision, recall, density and coverage."""
    first, second = precision_recall(real, generated, k), density_coverage(real, generated, k)
    return torch.stack([first.precision, first.recall, second.density, second.coverage])


def by_neighbours(real, generated, k):
    """The definitions, by the neighbours that scikit-learn finds: without an argument, a point is not its own."""
    real, generated = np.asarray(real, float), np.asarray(generated, float)

    def inside(centres, points):
        radii = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(centres).kneighbors()[0][:, -1]
        return np.linalg.norm(points[:, None] - centres, axis=2) <= radii

    held, back = inside(real, generated), inside(generated, real)
    return [held.any(1).mean(), back.any(1).mean(), held.sum() / (k * len(generated)), held.any(0).mean()]


@properties
@given(seeds, st.integers(6, 40), st.integers(6, 40), st.integers(1, 8), st.integers(1, 5))
def test_equals_the_definitions(seed, n, m, d, k):
    real, generated = gauss(n, d, seed=seed), 0.8 * gauss(m, d, seed=seed + 1) + 0.3
    close(scores(real, generated, k), by_neighbours(real, generated, k))
    theirs = calculate_precision_recall_full(generated, real, k)
    close(scores(real, generated, k)[:2], theirs, atol=1e-6)


@properties
@given(seeds, st.integers(6, 30), st.integers(6, 30), st.integers(1, 3), st.integers(1, 5))
def test_ties_and_duplicates_on_a_grid(seed, n, m, d, k):
    """Whole numbers, of which scikit-learn's distances are exact, moved and scaled, of which ours are not."""
    draw = torch.Generator().manual_seed(seed)
    real, generated = (torch.randint(0, 4, (size, d), generator=draw).double() for size in (n, m))
    expected = by_neighbours(real, generated, k)
    close(scores(real, generated, k), expected)
    close(scores(real / 3 + 100, generated / 3 + 100, k), expected)
    rotation = torch.linalg.qr(gauss(d, d, seed=seed)).Q
    close(scores(real @ rotation, generated @ rotation, k), expected)


def test_by_hand():
    real, generated = [[0.0], [1.0], [3.0], [7.0]], [[0.5], [4.0], [12.0]]
    # k = 1. Radii of real: 1, 1, 2, 4: balls -1..1, 0..2, 1..5, 3..11. Of generated: -3..4, 0.5..7.5, 4..20
    close(scores(real, generated, 1), [2 / 3, 1, (2 + 2 + 0) / 3, 1])
    # k = 2. Radii of real: 3, 2, 3, 6: balls -3..3, -1..3, 0..6, 1..13
    close(density_coverage(real, generated, 2).density, (3 + 2 + 1) / (2 * 3))


def test_a_copy_of_the_real_set_is_perfect():
    real = gauss(60, 5)
    result = scores(real, real.flip(0), 3)
    close(result[[0, 1, 3]], [1, 1, 1])
    assert result[2] > 1, "each point sits in the middle of its own ball"


def test_duplicates_make_balls_of_radius_0():
    real = [[0.1, 0.2]] * 4 + [[5.0, 5.0]] * 4
    same, beside = [[0.1, 0.2]] * 4, [[0.1, 0.2001]] * 4
    close(scores(real, same, 3), [1, 0.5, 4 / 3, 0.5])
    close(scores(real, beside, 3), [0, 0, 0, 0])
    close(scores(real[3:6], same[:2], 1)[[0, 1, 3]], [1, 1 / 3, 1 / 3])  # one is alone, and its nearest is far


def test_one_outlier_spoils_precision_but_not_coverage():
    real, far = gauss(200, 2), torch.tensor([[300.0, 300.0]], dtype=torch.float64)
    generated = 100 + gauss(200, 2, seed=1)  # nowhere near
    close(scores(real, generated, 3), [0, 0, 0, 0])
    spoiled = scores(torch.cat([real, far]), generated, 3)
    assert spoiled[0] == 1
    assert spoiled[3] == pytest.approx(1 / 201)


def test_a_lost_mode_costs_recall_and_coverage_not_precision():
    real = torch.cat([gauss(500, 4), gauss(500, 4, seed=1) + 20])
    precision, recall, density, coverage = scores(real, gauss(1000, 4, seed=2), 5)
    assert precision > 0.9
    assert 0.8 < density < 1.2
    assert recall < 0.5
    assert 0.4 < coverage <= 0.5


def test_equal_distributions_have_the_density_and_the_coverage_that_theory_says():
    """Coverage, Naeem et al., equation 9: 1 - (n - 1)...(n - k) / ((m + n - 1)...(m + n - k))."""
    n, m, k, trials = 40, 60, 3, 400
    found = [density_coverage(gauss(n, 3, seed=2 * s), gauss(m, 3, seed=2 * s + 1), k) for s in range(trials)]
    density, coverage = (torch.stack([getattr(f, name) for f in found]) for name in ("density", "coverage"))
    expected = 1 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    for sample, truth in ((coverage, expected), (density, 1.0)):
        assert abs(sample.mean() - truth) < 4 * sample.std() / math.sqrt(trials)


def test_order_offset_scale_and_blocks_do_not_matter(monkeypatch):
    real, generated = gauss(90, 6), gauss(70, 6, seed=1)
    expected = scores(real, generated, 4)
    close(scores(real.flip(0), generated[torch.randperm(70)], 4), expected)
    for scale, offset in ((1e-100, 0), (1e100, 0), (1, 1e8)):
        close(scores(scale * real + offset, scale * generated + offset, 4), expected)
    swapped = precision_recall(generated, real, 4)
    close([swapped.recall, swapped.precision], expected[:2])
    for block in (1, 100, 500):
        monkeypatch.setattr(manifold, "BLOCK", block)
        close(scores(real, generated, 4), expected)


def test_dtypes():
    real, generated = gauss(50, 3), gauss(50, 3, seed=1)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = real.to(dtype), generated.to(dtype)
        assert scores(a, b, 3).dtype == dtype
        close(scores(a, b, 3), scores(a.double(), b.double(), 3).to(dtype))
    assert precision_recall([[1], [2], [3]], [[1], [2], [3]], k=1).recall == 1


@pytest.mark.parametrize("function", [precision_recall, density_coverage])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((gauss(5), gauss(5, 2)), ValueError, "real has shape (5,); expected (n, d), a row for each of"),
        ((gauss(9, 3), gauss(9, 2)), ValueError, "real has 3 features per row, generated 2; expected as many"),
        ((gauss(5, 2), gauss(3, 2), 3), ValueError, "generated has shape (3, 2); expected (n, d), a row for each of 4"),
        ((gauss(9, 2), gauss(0, 2)), ValueError, "generated is empty"),
        ((gauss(9, 2), gauss(9, 2).log()), ValueError, "generated contains nan"),
        ((gauss(9, 2) * 1e200, gauss(9, 2)), ValueError, "the squared length of real contains inf"),
        ((gauss(9, 2), gauss(9, 2), 0), ValueError, "k is 0; expected at least 1"),
        ((gauss(9, 2), gauss(9, 2), 1.5), TypeError, "k is 1.5; expected an integer"),
    ],
)
def test_errors(function, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        function(*arguments)


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(cuda):
    real, generated = gauss(900, 32), gauss(700, 32, seed=1)
    ours = scores(real.to(cuda), generated.to(cuda), 3)
    assert ours.is_cuda
    close(ours.cpu(), scores(real, generated, 3))
    grid = real.round(), generated.round()
    close(scores(*(side.to(cuda) for side in grid), 3).cpu(), scores(*grid, 3))
