"""What perplexity costs above the forward passes that it needs, and what batches save.

The peer "forward" is the model alone, on the very batches that `perplexity` gives it: a ratio of 0.91 or more means that
tokenising, batching and scoring add at most a tenth. "one by one" scores short sentences as singles, "transformers" by
the model's own loss.
"""

import pytest
import torch

from studyguide.datasets import tinyworld
from studyguide.language.perplexity import perplexity
from studyguide.models import load_causal_lm


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def lm(request):
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    return model.to(request.param), tokenizer


def run(benchmark, lm, group, library, call):
    device = lm[0].device.type

    def finished():
        with torch.no_grad():
            call()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"{group}, {device}"
    benchmark.extra_info["library"] = library
    benchmark.pedantic(finished, rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("library", ["studyguide", "forward"])
def test_overhead(benchmark, lm, library):
    model, texts = lm[0], tinyworld.sample(400, rng=0)
    batches = []
    with model.register_forward_pre_hook(lambda _, args, given: batches.append(given), with_kwargs=True):
        perplexity(*lm, texts)
    calls = {
        "studyguide": lambda: perplexity(*lm, texts),
        "forward": lambda: [model(**batch).logits for batch in batches],
    }
    run(benchmark, lm, "perplexity of 400 texts", library, calls[library])


@pytest.mark.parametrize("library", ["studyguide", "one by one", "transformers"])
def test_batches(benchmark, lm, library):
    model, tokenizer = lm
    texts = [text for text in tinyworld.sample(600, rng=0) if len(text) < 70][:300]

    def loss(text):
        ids = tokenizer(tokenizer.bos_token + text, return_tensors="pt").input_ids.to(model.device)
        return model(ids, labels=ids).loss.item()

    calls = {
        "studyguide": lambda: perplexity(model, tokenizer, texts),
        "one by one": lambda: [perplexity(model, tokenizer, [text]).perplexity.item() for text in texts],
        "transformers": lambda: [loss(text) for text in texts],
    }
    run(benchmark, lm, "300 short texts", library, calls[library])
