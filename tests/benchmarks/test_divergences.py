"""Divergences of 1000 pairs of next-token distributions over GPT-2's vocabulary, against scipy."""

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from studyguide.probability.divergences import js_divergence, kl_divergence

CALLS = {
    ("kl", "studyguide"): kl_divergence,
    ("kl", "scipy"): lambda p, q: entropy(p, q, axis=-1),
    ("js", "studyguide"): js_divergence,
    ("js", "scipy"): lambda p, q: jensenshannon(p, q, axis=-1),
}


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=["float64", "float32"])
def batch(request):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(1000, 50257, generator=rng, dtype=request.param).softmax(-1) for _ in range(2)]


@pytest.mark.parametrize("library", ["studyguide", "scipy"])
@pytest.mark.parametrize("name", ["kl", "js"])
def test_divergence(benchmark, batch, name, library):
    arrays = [p.numpy() for p in batch]
    ours, peers = CALLS[name, "studyguide"](*batch), torch.as_tensor(CALLS[name, "scipy"](*arrays))
    torch.testing.assert_close(ours, peers if name == "kl" else peers**2, rtol=1e-5, atol=0)  # the same task
    benchmark.group = f"{name} {str(ours.dtype).removeprefix('torch.')} 1000 x 50257"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(CALLS[name, library], batch if library == "studyguide" else arrays, rounds=5)
