"""Greedy generation of 200 tokens by tinyworld-gpt2: with the cache, without it, and by transformers."""

import pytest
import torch

from studyguide.language.sampling import generate
from studyguide.models import load_causal_lm

TOKENS = 200


@pytest.fixture(scope="module")
def task():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    return model, tokenizer(["The weather today is"] * 2, return_tensors="pt").input_ids


def cached(model, ids):
    return generate(model, ids, TOKENS, stop=()).tokens


@torch.no_grad()
def uncached(model, ids):
    """Reads the whole text again for each new token."""
    for _ in range(TOKENS):
        ids = torch.cat([ids, model(ids, use_cache=False, logits_to_keep=1).logits[:, -1:].argmax(-1)], -1)
    return ids[:, -TOKENS:]


def transformers(model, ids):
    options = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": None}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[:, -TOKENS:]


@pytest.mark.parametrize(
    ("library", "write"), [("studyguide", cached), ("no cache", uncached), ("transformers", transformers)]
)
def test_greedy_generation(benchmark, task, library, write):
    assert torch.equal(write(*task), cached(*task))  # the same task
    benchmark.group = f"greedy, 2 x {TOKENS} tokens"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(write, task, rounds=3)
