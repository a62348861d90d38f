"""Attention against PyTorch, scipy and hand calculation; what a token attends to, against a model's own weights."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from studyguide.language.attention import attention_to, attention_weights, scaled_dot_product_attention
from studyguide.models import load_causal_lm

TEXT = "The animal didn't cross the street because it was too tired"
properties = settings(deadline=None, max_examples=40)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def qkv(*batch, n=5, m=5, d=4, e=3, dtype=torch.float64):
    return (
        randn(*batch, n, d, dtype=dtype),
        randn(*batch, m, d, seed=1, dtype=dtype),
        randn(*batch, m, e, seed=2, dtype=dtype),
    )


def close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


# Scaled dot-product attention


def test_three_tokens_by_hand():
    high = math.exp(2 / math.sqrt(2))  # the scores are 2, 0 and 2 over the root of 2
    a, b = high / (2 * high + 1), 1 / (2 * high + 1)
    assert (round(a, 4), round(b, 4)) == (0.4458, 0.1084)
    keys = [[1, 0], [0, 1], [1, 1]]
    close(attention_weights([[2, 0]], keys), [[a, b, a]])
    close(scaled_dot_product_attention([[2, 0]], keys, keys), [[2 * a, a + b]])


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 6), (6, 3), (1, 1)])
def test_it_equals_torch(batch, causal, n, m):
    q, k, v = qkv(*batch, n=n, m=m)
    close(
        scaled_dot_product_attention(q, k, v, causal=causal), F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    )


def test_masks_equal_torch():
    q, k, v = qkv(2, n=4, m=6)
    mask = randn(2, 4, 6, seed=5) > 0
    mask[..., 0] = True
    close(scaled_dot_product_attention(q, k, v, mask=mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    both = mask & torch.ones(4, 6, dtype=torch.bool).tril()
    close(
        scaled_dot_product_attention(q, k, v, causal=True, mask=mask),
        F.scaled_dot_product_attention(q, k, v, attn_mask=both),
    )
    padding = [[True, True, True, False, False, False]]  # one row for all queries
    close(
        scaled_dot_product_attention(q, k, v, mask=padding),
        F.scaled_dot_product_attention(q, k[:, :3], v[:, :3]),
    )


def test_weights_equal_scipy():
    q, k, _ = qkv(3)
    scores = np.einsum("bnd,bmd->bnm", q.numpy(), k.numpy()) / 2
    close(attention_weights(q, k), special.softmax(scores, axis=-1))


def test_leading_axes_broadcast():
    q, k, v = randn(2, 1, 3, 4), randn(5, 6, 4), randn(6, 2)
    expected = F.scaled_dot_product_attention(q.expand(2, 5, 3, 4), k.expand(2, 5, 6, 4), v.expand(2, 5, 6, 2))
    close(scaled_dot_product_attention(q, k, v), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_the_dtype_is_kept(dtype, tolerance):
    q, k, v = qkv(2, dtype=dtype)
    result = scaled_dot_product_attention(q, k, v, causal=True)
    assert result.dtype == attention_weights(q, k).dtype == dtype
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
    close(result.double(), exact, rtol=tolerance, atol=tolerance)


@properties
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_weights_are_a_distribution_over_what_is_visible(n, d, seed, causal):
    weights = attention_weights(randn(n, d, seed=seed), randn(n, d, seed=seed + 1), causal=causal)
    close(weights.sum(-1), torch.ones(n))
    assert (weights >= 0).all()
    assert not causal or not weights.triu(1).any()


@properties
@given(st.permutations(range(5)), st.integers(0, 1000))
def test_without_mask_it_is_permutation_equivariant(order, seed):
    x = randn(5, 3, seed=seed)
    close(scaled_dot_product_attention(x[order], x[order], x[order]), scaled_dot_product_attention(x, x, x)[order])


def test_with_a_causal_mask_it_is_not():
    x = randn(3, 2)
    order = [2, 1, 0]
    plain, permuted = (scaled_dot_product_attention(y, y, y, causal=True) for y in (x, x[order]))
    assert not permuted.allclose(plain[order], atol=1e-3)
    close(plain[0], x[0])  # the first token sees only itself


def test_equal_keys_give_uniform_attention_and_huge_scores_give_all_to_one():
    close(
        attention_weights(randn(2, 4), torch.zeros(15, 4, dtype=torch.float64)),
        torch.full((2, 15), 1 / 15, dtype=torch.float64),
    )
    close(attention_weights([[1e6, 0.0]], [[1e6, 0.0], [0.0, 1.0]]), [[1.0, 0.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": [1.0], "k": [[1.0]], "v": [[1.0]]}, "q has shape"),
        ({"q": [[1.0]], "k": [[1.0, 2.0]], "v": [[1.0]]}, "q has 1 numbers per query, k 2"),
        ({"q": [[1.0]], "k": [[1.0]], "v": [[1.0], [2.0]]}, "k has 1 rows, v 2"),
        ({"q": [[math.nan]], "k": [[1.0]], "v": [[1.0]]}, "q contains nan"),
        ({"q": [[1.0]], "k": [[1.0]], "v": [[math.inf]]}, "v contains inf"),
        ({"q": [[1e200]], "k": [[1e200]], "v": [[1.0]]}, "q @ k.T contains inf"),
        ({"q": torch.empty(0, 2), "k": [[1.0, 2.0]], "v": [[1.0]]}, "q is empty"),
        ({"q": torch.ones(2, 1, 1), "k": torch.ones(3, 1, 1), "v": [[1.0]]}, "leading axes that broadcast"),
        ({"q": [[1.0]], "k": [[1.0]], "v": [[1.0]], "mask": [[False]]}, "hides every key"),
        ({"q": [[1.0]], "k": [[1.0]], "v": [[1.0]], "mask": [[True, True]]}, "mask has shape"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_bad_input_is_a_value_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        scaled_dot_product_attention(**arguments)


def test_wrong_types_are_a_type_error():
    with pytest.raises(TypeError, match="mask has dtype"):
        scaled_dot_product_attention([[1.0]], [[1.0]], [[1.0]], mask=[[0.0]])
    with pytest.raises(TypeError, match="q cannot be read"):
        scaled_dot_product_attention("text", [[1.0]], [[1.0]])


@pytest.mark.gpu
def test_cuda_equals_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    q, k, v = qkv(2)
    on_gpu = scaled_dot_product_attention(q.cuda(), k.cuda(), v.cuda(), causal=True)
    assert on_gpu.is_cuda
    close(on_gpu.cpu(), scaled_dot_product_attention(q, k, v, causal=True))


# What a token attends to


@pytest.fixture(scope="module")
def lm():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    return model.double(), tokenizer


@pytest.fixture(scope="module")
def bert():
    """A random bidirectional model, and a tokenizer of whole words with [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "dog", "bites", "man"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=6,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=1.0,
    )
    return BertModel(config).double().eval(), tokenizer


def test_the_first_layer_by_hand(lm):
    """Queries and keys worked out from the stored weights, and weighed by scipy."""
    model, tokenizer = lm
    seen = attention_to(model, tokenizer, TEXT, "it", n_shuffles=1, rng=0)
    body, config = model.transformer, model.config
    with torch.no_grad():
        ids = tokenizer(TEXT, return_tensors="pt").input_ids[0, :9]
        x = body.wte.weight[ids] + body.wpe.weight[:9]
        q, k, _ = (body.h[0].ln_1(x) @ body.h[0].attn.c_attn.weight + body.h[0].attn.c_attn.bias).split(
            config.n_embd, -1
        )
    for head in range(config.n_head):
        part = slice(head * config.n_embd // config.n_head, (head + 1) * config.n_embd // config.n_head)
        scores = (k[:, part] @ q[8, part]).numpy() / math.sqrt(config.n_embd / config.n_head)
        close(seen.by_head[0, head], special.softmax(scores))


def test_it_equals_a_model_loaded_with_eager_attention(lm):
    from transformers import AutoModelForCausalLM

    from studyguide.datasets import DATA

    model, tokenizer = lm
    other = AutoModelForCausalLM.from_pretrained(
        DATA / "models" / "tinyworld-gpt2", attn_implementation="eager"
    ).double()
    with torch.no_grad():
        expected = other.eval()(tokenizer(TEXT, return_tensors="pt").input_ids, output_attentions=True).attentions
    seen = attention_to(model, tokenizer, TEXT, "it", n_shuffles=2, rng=0)
    assert "".join(seen.tokens) == "The animal didn't cross the street because it"
    assert (seen.position, len(seen.tokens), seen.uniform) == (8, 9, 1 / 9)
    close(seen.by_head, torch.stack([layer[0, :, 8, :9] for layer in expected]))
    close(seen.weights, expected[-1][0, :, 8, :9].mean(0))


def test_what_comes_later_changes_nothing_in_a_causal_model(lm):
    tired, wide = (attention_to(*lm, TEXT.replace("tired", end), "it", rng=3) for end in ("tired", "wide"))
    close(tired.by_head, wide.by_head)
    close(tired.shuffled, wide.shuffled)


def test_shuffled_weights_follow_their_tokens(lm):
    """Two tokens before the last can stand in only two orders; both are computed directly."""
    model, tokenizer = lm
    ids = tokenizer("The dog is", return_tensors="pt").input_ids
    model.set_attn_implementation("eager")
    with torch.no_grad():
        straight, crossed = (
            model(ids[:, order], output_attentions=True).attentions[-1][0, :, 2].mean(0)
            for order in ([0, 1, 2], [1, 0, 2])
        )
    model.set_attn_implementation("sdpa")
    seen = attention_to(model, tokenizer, "The dog is", "is", n_shuffles=30, rng=0)
    wanted = {0: straight, 1: crossed[[1, 0, 2]]}
    which = [next(i for i, row in wanted.items() if row.allclose(got)) for got in seen.shuffled]
    assert 5 < sum(which) < 25


def test_shuffles_are_reproducible_and_sum_to_one(lm):
    one, same, other = (attention_to(*lm, TEXT, "it", n_shuffles=4, rng=seed).shuffled for seed in (1, 1, 2))
    assert one.shape == (4, 9)
    assert one.equal(same)
    assert not one.allclose(other)
    close(one.sum(-1), torch.ones(4))
    assert attention_to(*lm, TEXT, "it", n_shuffles=4, rng=torch.Generator().manual_seed(1)).shuffled.equal(one)


def test_the_implementation_is_put_back(lm):
    model, tokenizer = lm
    assert model.config._attn_implementation == "sdpa"
    attention_to(model, tokenizer, TEXT, "it", n_shuffles=1, rng=0)
    assert model.config._attn_implementation == "sdpa"
    broken = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("broken"))  # noqa: E731
    handle = model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        attention_to(model, tokenizer, TEXT, "it", rng=0)
    handle.remove()
    assert model.config._attn_implementation == "sdpa"


def test_the_token_may_be_a_position_or_a_word_of_several_tokens(lm):
    model, tokenizer = lm
    by_place = attention_to(model, tokenizer, TEXT, 8, n_shuffles=1, rng=0)
    close(by_place.weights, attention_to(model, tokenizer, TEXT, "it", n_shuffles=1, rng=0).weights)
    assert len(tokenizer.tokenize(" didn't")) == 2
    assert attention_to(model, tokenizer, TEXT, "didn't", n_shuffles=1, rng=0).tokens[-1] == "'t"
    assert attention_to(model, tokenizer, TEXT, "The", n_shuffles=1, rng=0).tokens == ("The",)


def test_the_first_token_sees_only_itself(lm):
    seen = attention_to(*lm, TEXT, 0, n_shuffles=3, rng=0)
    assert seen.uniform == 1
    close(seen.weights, [1.0])
    close(seen.shuffled, torch.ones(3, 1))


def test_a_bidirectional_model_sees_all_tokens(bert):
    seen = attention_to(*bert, "dog bites man", "bites", n_shuffles=20, rng=0)
    assert seen.tokens == ("[CLS]", "dog", "bites", "man", "[SEP]")
    assert (seen.position, seen.uniform) == (2, 0.2)
    model = bert[0]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(torch.tensor([[1, 5, 4, 3, 2]]), output_attentions=True).attentions[-1][0, :, 2].mean(0)
    swapped = expected[[0, 3, 2, 1, 4]]  # special tokens keep their places; dog and man swap, and keep their names
    assert any(row.allclose(swapped) for row in seen.shuffled)
    assert all(row.allclose(swapped) or row.allclose(seen.weights) for row in seen.shuffled)


@pytest.mark.parametrize(
    ("text", "token", "message"),
    [
        (TEXT, "tree", "'tree' occurs 0 times"),
        (TEXT, "ani", "'ani' occurs 0 times"),
        (TEXT, "", "'' occurs 0 times"),
        ("it is what it is", "it", "'it' occurs 2 times"),
        (TEXT, 12, "position from 0 to 11"),
        (TEXT, -1, "position from 0 to 11"),
        ("dog " * 300, 0, "expected at most 256"),
    ],
)
def test_bad_tokens_and_texts(lm, text, token, message):
    with pytest.raises(ValueError, match=message):
        attention_to(*lm, text, token, rng=0)


def test_bad_arguments(lm):
    model, tokenizer = lm
    with pytest.raises(TypeError, match="token is 1.5"):
        attention_to(model, tokenizer, TEXT, 1.5, rng=0)
    with pytest.raises(ValueError, match="n_shuffles is 0"):
        attention_to(model, tokenizer, TEXT, "it", n_shuffles=0, rng=0)
    with pytest.raises(TypeError, match="rng is None"):
        attention_to(model, tokenizer, TEXT, "it", rng=None)
    try:
        with pytest.raises(ValueError, match="training mode"):
            attention_to(model.train(), tokenizer, TEXT, "it", rng=0)
    finally:
        model.eval()


def test_a_model_without_attention_says_so(lm, monkeypatch):
    model, tokenizer = lm
    monkeypatch.setattr(model, "forward", lambda ids, output_attentions: SimpleNamespace(attentions=()))
    with pytest.raises(ValueError, match='returned no attention; load it with attn_implementation="eager"'):
        attention_to(model, tokenizer, TEXT, "it", rng=0)
