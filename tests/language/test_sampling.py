"""Filters against transformers' processors, generation against model.generate, diversity against sacrebleu."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from scipy import stats

from studyguide.language.sampling import (
    apply_temperature,
    distinct_n,
    generate,
    min_p_filter,
    repetition_penalty,
    self_bleu,
    top_k_filter,
    top_p_filter,
    truncate,
    typical_filter,
)
from studyguide.models import load_causal_lm
from studyguide.probability.distributions import softmax

WEATHER = torch.tensor([0.40, 0.30, 0.20, 0.05, 0.03, 0.02], dtype=torch.float64).log()
PEERS = {
    apply_temperature: transformers.TemperatureLogitsWarper,
    top_k_filter: transformers.TopKLogitsWarper,
    top_p_filter: transformers.TopPLogitsWarper,
    min_p_filter: transformers.MinPLogitsWarper,
    typical_filter: transformers.TypicalLogitsWarper,
}
VALUES = {
    apply_temperature: (0.3, 1.0, 2.5),
    top_k_filter: (1, 5, 50, 1000),
    top_p_filter: (0.0, 0.01, 0.5, 0.9, 0.999, 1.0),
    min_p_filter: (0.0, 0.02, 0.3, 1.0),
    typical_filter: (0.01, 0.2, 0.9, 0.999),
}
TRUNCATING = [top_k_filter, top_p_filter, min_p_filter, typical_filter]
each_filter = pytest.mark.parametrize("keep", PEERS)
each_setting = pytest.mark.parametrize(("keep", "value"), [(f, v) for f in PEERS for v in VALUES[f]])
properties = settings(max_examples=50, deadline=None)


def random_logits(*shape, scale=3.0, seed=0, dtype=torch.float64):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a, b, rtol=0.0, atol=1e-10):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def kept(logits):
    return (logits > -math.inf).nonzero().flatten().tolist()


# The filters


@each_setting
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_filters_equal_transformers(keep, value, scale):
    for dtype, size in product((torch.float64, torch.float32), (1, 2, 300)):
        logits = random_logits(8, size, scale=scale, dtype=dtype)
        close(keep(logits, value), PEERS[keep](value)(None, logits.clone()), atol=1e-6)


@each_setting
def test_filters_equal_transformers_with_ties_and_tokens_ruled_out(keep, value):
    logits = random_logits(20, 40).round()
    logits[:, ::3] = -math.inf
    close(keep(logits, value), PEERS[keep](value)(None, logits.clone()))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 3.0])
def test_repetition_penalty_equals_transformers(penalty):
    logits = random_logits(6, 30)
    logits[:, :4] = -math.inf
    ids = torch.randint(30, (6, 12), generator=torch.Generator().manual_seed(1))
    peer = transformers.RepetitionPenaltyLogitsProcessor(penalty)
    close(repetition_penalty(logits, ids, penalty), peer(ids, logits.clone()))


@each_setting
def test_batch_dimensions(keep, value):
    logits = random_logits(2, 3, 25)
    expected = torch.stack([torch.stack([keep(row, value) for row in block]) for block in logits])
    close(keep(logits, value), expected)
    close(keep(logits[0, 0].tolist(), value), expected[0, 0])


@each_filter
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype_is_kept_and_input_is_not_changed(keep, dtype):
    logits = random_logits(4, 9).to(dtype)
    before = logits.clone()
    assert keep(logits, VALUES[keep][1]).dtype == dtype
    assert torch.equal(logits, before)


def test_the_weather_by_hand():
    close(softmax(apply_temperature(WEATHER, 0.5))[:3], [0.5446, 0.3063, 0.1361], atol=5e-5)  # squares over .2938
    close(softmax(apply_temperature(WEATHER, 2.0))[:4], [0.2920, 0.2529, 0.2065, 0.1033], atol=5e-5)
    close(softmax(top_k_filter(WEATHER, 2)), [4 / 7, 3 / 7, 0, 0, 0, 0])
    close(softmax(top_p_filter(WEATHER, 0.8)), [4 / 9, 3 / 9, 2 / 9, 0, 0, 0])
    assert kept(min_p_filter(WEATHER, 0.3)) == [0, 1, 2]  # at least .12
    assert kept(min_p_filter(WEATHER, 0.1)) == [0, 1, 2, 3]  # at least .04
    # the entropy is 1.3828 nats; the surprisals are .9163, 1.2040, 1.6094, 2.9957, ...: cloudy is nearest, then rainy
    assert kept(typical_filter(WEATHER, 0.25)) == [1]
    assert kept(typical_filter(WEATHER, 0.4)) == [1, 2]


def test_ties():
    close(top_k_filter([1.0, 2.0, 2.0, 2.0, 0.0], 2), [-math.inf, 2, 2, 2, -math.inf])
    assert len(kept(top_p_filter(torch.zeros(10), 0.35))) == 4  # of equals only as many as are needed
    assert len(kept(min_p_filter(torch.zeros(10), 1.0))) == 10
    assert len(kept(typical_filter(torch.zeros(10), 0.1))) == 10


def test_the_nucleus_is_the_first_set_that_reaches_p():
    assert [len(kept(top_p_filter(WEATHER, p))) for p in (0.3999, 0.4001, 0.7, 0.7001, 0.8, 0.8999)] == [
        1,
        2,
        2,
        3,
        3,
        3,
    ]
    halves = torch.tensor([0.5, 0.25, 0.25]).log()  # sums without rounding
    assert [len(kept(top_p_filter(halves, p))) for p in (0.0, 0.5, 0.75, 1.0)] == [1, 1, 2, 3]


@pytest.mark.parametrize("keep", TRUNCATING)
def test_a_single_token_and_a_certain_one_stay(keep):
    close(keep([3.0], VALUES[keep][1]), [3.0])
    assert kept(keep([-math.inf, 0.0, -math.inf], VALUES[keep][1])) == [1]


@properties
@given(st.lists(st.integers(-40, 40), min_size=2, max_size=30, unique=True), st.integers(1, 30), st.floats(0.01, 0.99))
def test_properties(values, k, p):
    logits = torch.tensor(values, dtype=torch.float64) / 7
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    for keep, value in ((top_k_filter, k), (top_p_filter, p), (min_p_filter, p), (typical_filter, p)):
        filtered = keep(logits, value)
        stays = filtered > -math.inf
        assert stays.any()
        assert torch.equal(filtered[stays], logits[stays])
        close(keep(logits[order], value), filtered[order])
        close(keep(logits + 3, value) - 3, filtered)
        assert keep is typical_filter or stays[logits.argmax()]
    assert len(kept(top_k_filter(logits, k))) == min(k, len(values))
    nucleus = softmax(logits)[top_p_filter(logits, p) > -math.inf]
    assert nucleus.sum() >= p - 1e-9
    assert nucleus.sum() - nucleus.min() < p + 1e-9
    assert softmax(logits)[typical_filter(logits, p) > -math.inf].sum() >= p - 1e-9


@each_filter
@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([0.0, math.nan], ValueError, "logits contains nan; expected finite"),
        ([0.0, math.inf], ValueError, "logits contains inf; expected finite"),
        ([[0.0, 1.0], [-math.inf, -math.inf]], ValueError, "logits are all -inf along the last axis"),
        ([], ValueError, "logits is empty"),
        (1.0, ValueError, "logits is a single number"),
        ([True, False], TypeError, "logits has dtype torch.bool"),
        ("sunny", TypeError, "logits cannot be read"),
    ],
)
def test_errors_of_logits(keep, logits, error, message):
    with pytest.raises(error, match=message):
        keep(logits, 1 if keep is top_k_filter else 0.5)
    with pytest.raises(error, match=message):
        repetition_penalty(logits, [0], 1.2)


@pytest.mark.parametrize(
    ("keep", "value", "error", "message"),
    [
        (apply_temperature, 0, ValueError, "temperature is 0; expected a positive number"),
        (apply_temperature, -1.0, ValueError, "temperature is -1.0; expected a positive finite"),
        (apply_temperature, math.inf, ValueError, "temperature is inf; expected a positive finite"),
        (apply_temperature, math.nan, ValueError, "temperature is nan; expected a positive finite"),
        (apply_temperature, 1e-320, ValueError, "temperature is 1e-320, so small"),
        (top_k_filter, 0, ValueError, "k is 0; expected at least 1"),
        (top_k_filter, 2.5, TypeError, "k is 2.5; expected an integer"),
        (top_p_filter, 1.1, ValueError, "p is 1.1; expected a number from 0 to 1"),
        (top_p_filter, math.nan, ValueError, "p is nan; expected a number from 0 to 1"),
        (min_p_filter, -0.1, ValueError, "p is -0.1; expected a number from 0 to 1"),
        (typical_filter, 1.0, ValueError, "p is 1.0; expected a number strictly between 0 and 1"),
    ],
)
def test_errors_of_settings(keep, value, error, message):
    with pytest.raises(error, match=message):
        keep([3.0, 1.0], value)


@pytest.mark.parametrize(
    ("ids", "penalty", "error", "message"),
    [
        ([2], 1.5, ValueError, "input_ids go from 2 to 2; expected token ids from 0 to 1"),
        ([-1, 0], 1.5, ValueError, "input_ids go from -1 to 0"),
        ([0.5], 1.5, TypeError, "input_ids has dtype torch.float32; expected integers"),
        ([], 1.5, ValueError, r"input_ids has shape \(0,\); expected at least one token"),
        ([[0]], 1.5, ValueError, r"logits \(2,\) and input_ids \(1, 1\); expected the same leading axes"),
        ([0], 0.0, ValueError, "penalty is 0.0; expected a positive finite number"),
    ],
)
def test_errors_of_the_penalty(ids, penalty, error, message):
    with pytest.raises(error, match=message):
        repetition_penalty([3.0, 1.0], ids, penalty)


# Generation


@pytest.fixture(scope="module")
def lm():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    tokenizer.padding_side = "left"
    return model, tokenizer


@pytest.fixture(scope="module")
def prompts(lm):
    texts = ["The capital of France is", "I love", "The weather today is sunny. We will", "Mary went to the market"]
    return lm[1](texts, return_tensors="pt", padding=True)


@pytest.fixture(scope="module")
def doodle():
    """A random model whose next token is far from certain, and whose vocabulary is small."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 24, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
    ends = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": 23}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends, initializer_range=0.35)).eval()


def peer(model, batch, n, stop, **options):
    """What transformers writes after the prompts."""
    tokens = model.generate(**batch, max_new_tokens=n, do_sample=False, eos_token_id=stop, **options)
    return tokens[:, batch["input_ids"].shape[1] :]


def random_prompts(seed, vocabulary=23):
    """Four prompts of lengths 2 to 5, padded on the left."""
    ids = torch.randint(vocabulary, (4, 5), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(5) >= torch.tensor([0, 3, 1, 2])[:, None]).long()
    return {"input_ids": ids.where(mask.bool(), 23), "attention_mask": mask}


def fits(counts, p):
    """Chi-square test of counts against probabilities; the rare categories are taken together."""
    assert (counts[p == 0] == 0).all()
    expected = counts.sum() * p / p.sum()
    rare = expected < 20
    pairs = [[*x[~rare].tolist(), *([x[rare].sum().item()] if p[rare].sum() else [])] for x in (counts, expected)]
    assert len(pairs[0]) >= 3
    assert stats.chisquare(*pairs).pvalue > 0.01


def log_likelihood(model, prompt, tokens):
    """Of `tokens` after `prompt`, without cache or padding."""
    with torch.no_grad():
        log_p = model(torch.cat([prompt, tokens])[None]).logits[0].log_softmax(-1)
    return log_p[len(prompt) - 1 : -1].gather(-1, tokens[:, None]).sum()


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy_equals_transformers(lm, prompts, penalty):
    expected = lm[0].generate(**prompts, max_new_tokens=25, do_sample=False, repetition_penalty=penalty)
    written = generate(lm[0], prompts.input_ids, 25, attention_mask=prompts.attention_mask, penalty=penalty)
    assert torch.equal(written.tokens, expected[:, prompts.input_ids.shape[1] :])
    assert (written.drawn_probabilities == 1).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stop", [(), (3,), (3, 7, 11)], ids=str)
def test_greedy_equals_transformers_on_a_random_model(doodle, seed, stop):
    batch = random_prompts(seed)
    for penalty in (1.0, 1.3):
        expected = peer(doodle, batch, 20, list(stop) or None, repetition_penalty=penalty)
        assert torch.equal(generate(doodle, max_new_tokens=20, stop=stop, penalty=penalty, **batch).tokens, expected)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("stop", [(), (3,), (3, 7, 11)], ids=str)
@pytest.mark.parametrize("num_beams", [2, 5])
def test_beam_search_equals_transformers(doodle, num_beams, stop, length_penalty):
    for seed, n, penalty in ((0, 1, 1.0), (1, 12, 1.0), (2, 12, 1.3)):
        batch = random_prompts(seed)
        options = {"num_beams": num_beams, "length_penalty": length_penalty}
        expected = peer(doodle, batch, n, list(stop) or None, repetition_penalty=penalty, **options)
        written = generate(doodle, max_new_tokens=n, stop=stop, penalty=penalty, **options, **batch)
        assert torch.equal(written.tokens, expected)


def test_beam_search_on_tinyworld_equals_transformers_and_beats_greedy(lm, prompts):
    expected = lm[0].generate(**prompts, max_new_tokens=12, do_sample=False, num_beams=4, length_penalty=0.0)
    arguments = lm[0], prompts.input_ids, 12
    beams = generate(*arguments, attention_mask=prompts.attention_mask, num_beams=4, length_penalty=0.0)
    assert torch.equal(beams.tokens, expected[:, prompts.input_ids.shape[1] :])
    greedy = generate(*arguments, attention_mask=prompts.attention_mask)
    assert (beams.log_likelihood >= greedy.log_likelihood - 1e-5).all()


def test_enough_beams_find_the_likeliest_of_all_sequences(doodle):
    prompt = torch.tensor([4, 9, 2])
    every = torch.tensor(list(product(range(24), repeat=2)))
    best = max(log_likelihood(doodle, prompt, tokens) for tokens in every)
    close(generate(doodle, prompt[None], 2, num_beams=24, stop=()).log_likelihood[0], best, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"rng": 3}, {"num_beams": 3}], ids=str)
def test_probabilities_are_those_of_one_uncached_pass(doodle, options):
    batch = random_prompts(5)
    written = generate(doodle, max_new_tokens=15, stop=(3,), **options, **batch)
    for row, (ids, mask) in enumerate(zip(*batch.values(), strict=True)):
        tokens = written.tokens[row, : written.lengths[row]]
        close(written.log_likelihood[row], log_likelihood(doodle, ids[mask.bool()], tokens), atol=1e-4)
        assert (tokens == 3).nonzero().flatten().tolist() in ([], [len(tokens) - 1])
    close(written.probabilities.log().sum(-1), written.log_likelihood, atol=1e-4)


def test_what_follows_the_stop_token_is_padding(doodle):
    batch = random_prompts(2)
    written = generate(doodle, max_new_tokens=20, rng=0, stop=(3, 7), **batch)
    after = torch.arange(written.tokens.shape[1]) >= written.lengths[:, None]
    assert after.any()
    assert (written.tokens[after] == 23).all()
    assert (written.probabilities[after] == written.drawn_probabilities[after]).all()
    assert (written.probabilities[after] == 1).all()
    assert (written.top_probabilities[after] == 0).all()


def test_alternatives_are_the_models_favourites(doodle):
    batch = random_prompts(7)
    written = generate(doodle, max_new_tokens=4, stop=(), top=3, **batch)
    assert written.top_tokens.shape == written.top_probabilities.shape == (4, 4, 3)
    assert torch.equal(written.top_tokens[..., 0], written.tokens)
    close(written.top_probabilities[..., 0], written.probabilities)
    with torch.no_grad():
        favourites = doodle(batch["input_ids"][:1]).logits[0, -1].softmax(-1).topk(3)
    close(written.top_probabilities[0, 0], favourites.values, atol=1e-5)
    assert torch.equal(written.top_tokens[0, 0], favourites.indices)
    assert generate(doodle, [[1]], 1, top=99).top_tokens.shape == (1, 1, 24)


def test_a_batch_equals_its_rows_one_at_a_time(doodle):
    batch = random_prompts(9)
    for options in ({}, {"num_beams": 3}):
        together = generate(doodle, max_new_tokens=12, stop=(3,), **options, **batch)
        for row, (ids, mask) in enumerate(zip(*batch.values(), strict=True)):
            alone = generate(doodle, ids[mask.bool()][None], 12, stop=3, **options)
            assert torch.equal(alone.tokens[0], together.tokens[row, : together.lengths[row]])


@pytest.mark.parametrize(
    "sampler", [{}, {"temperature": 0.6, "top_k": 9}, {"top_p": 0.7}, {"min_p": 0.05}, {"typical_p": 0.5}], ids=str
)
def test_samples_follow_the_truncated_distribution(doodle, sampler):
    prompt = torch.tensor([[4, 9, 2]])
    with torch.no_grad():
        p = truncate(doodle(prompt).logits[0, -1].double(), **sampler).softmax(-1)
    written = generate(doodle, prompt.repeat(4000, 1), 1, rng=0, stop=(), **sampler)
    fits(torch.bincount(written.tokens[:, 0], minlength=24), p)
    close(written.drawn_probabilities[:, 0], p[written.tokens[:, 0]], atol=1e-5)


def test_two_sampled_tokens_follow_the_joint_distribution(doodle):
    pairs = torch.tensor(list(product(range(24), repeat=2)))
    with torch.no_grad():
        log_p = doodle(torch.cat([torch.tensor([[4, 9]]).repeat(len(pairs), 1), pairs], 1)).logits.log_softmax(-1)
    p = (log_p[:, 1].gather(1, pairs[:, :1]) + log_p[:, 2].gather(1, pairs[:, 1:]))[:, 0].double().exp()
    tokens = generate(doodle, torch.tensor([[4, 9]]).repeat(4000, 1), 2, rng=1, stop=()).tokens
    fits(torch.bincount(24 * tokens[:, 0] + tokens[:, 1], minlength=24**2), p)


def test_settings_apply_in_the_order_of_transformers(doodle):
    sampler = {"temperature": 0.7, "top_k": 12, "top_p": 0.8, "min_p": 0.05, "typical_p": 0.9}
    options = {"output_scores": True, "output_logits": True, "return_dict_in_generate": True}
    prompt = torch.tensor([[4, 9, 2], [5, 5, 1]])
    torch.manual_seed(0)
    out = doodle.generate(prompt, max_new_tokens=6, do_sample=True, repetition_penalty=1.4, **sampler, **options)
    for step, (logits, scores) in enumerate(zip(out.logits, out.scores, strict=True)):
        ours = truncate(repetition_penalty(logits, out.sequences[:, : 3 + step], 1.4), **sampler)
        close(ours, scores, atol=1e-6)
    assert (out.scores[0] == -math.inf).any()


def test_the_draw_depends_on_rng_alone(doodle):
    prompt = torch.tensor([[4, 9, 2]] * 3)
    state = torch.random.get_rng_state()
    rng = torch.Generator().manual_seed(5)
    first = generate(doodle, prompt, 10, rng=5, temperature=1.5).tokens
    assert torch.equal(generate(doodle, prompt, 10, rng=rng, temperature=1.5).tokens, first)
    assert not torch.equal(generate(doodle, prompt, 10, rng=rng, temperature=1.5).tokens, first), "rng must advance"
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("sampler", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}, {"temperature": 1e-4}], ids=str)
def test_the_limits_of_sampling_are_greedy(doodle, sampler):
    batch = random_prompts(4)
    sampled, greedy = (generate(doodle, max_new_tokens=10, **o, **batch) for o in ({"rng": 0} | sampler, {}))
    assert torch.equal(sampled.tokens, greedy.tokens)
    close(sampled.drawn_probabilities, torch.ones_like(sampled.probabilities), atol=1e-6)


def test_the_models_own_stop_token_is_the_default(lm):
    model, tokenizer = lm
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert generate(model, ids, 10).tokens[0, -1] == tokenizer.eos_token_id
    assert generate(model, ids, 10, stop=()).tokens.shape == (1, 10)
    dot = tokenizer(".").input_ids[0]
    assert generate(model, ids, 10, stop=dot).tokens[0].tolist()[-1] == dot


def test_dtypes(doodle):
    for dtype, expected in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        model = transformers.GPT2LMHeadModel(doodle.config).to(dtype).eval()
        for options in ({}, {"rng": 0}, {"num_beams": 2}):
            assert generate(model, [[1, 2]], 3, **options).probabilities.dtype == expected


def test_another_architecture():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.8, pad_token_id=23,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    batch = random_prompts(0)
    for beams in (1, 3):
        expected = peer(model, batch, 12, [3], num_beams=beams)
        assert torch.equal(generate(model, max_new_tokens=12, stop=(3,), num_beams=beams, **batch).tokens, expected)


def test_the_last_position_can_be_used(doodle):
    prompt = torch.ones(1, 60, dtype=torch.long)
    assert generate(doodle, prompt, 5).tokens.shape == (1, 5)
    with pytest.raises(
        ValueError, match="prompt and max_new_tokens need 65 positions; expected at most the model's 64"
    ):
        generate(doodle, prompt, 6)
    padded = torch.arange(60)[None] >= 30
    assert generate(doodle, prompt, 35, attention_mask=padded).tokens.shape == (1, 35)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input_ids": [1, 2]}, ValueError, r"input_ids has shape \(2,\); expected \(batch, length\)"),
        ({"input_ids": [[]]}, ValueError, r"input_ids has shape \(1, 0\); expected at least one token"),
        ({"input_ids": [[1, 24]]}, ValueError, "input_ids go from 1 to 24; expected token ids from 0 to 23"),
        ({"input_ids": [[1.0]]}, TypeError, "input_ids has dtype torch.float32; expected integers"),
        ({"attention_mask": [[1, 0]]}, ValueError, "attention_mask must be 0s, then 1s in each row: pad on the left"),
        ({"attention_mask": [[0, 0]]}, ValueError, "attention_mask must be 0s, then 1s"),
        ({"attention_mask": [[-1, 1]]}, ValueError, "attention_mask must be 0s, then 1s"),
        ({"attention_mask": [[1]]}, ValueError, r"attention_mask has shape \(1, 1\), input_ids \(1, 2\)"),
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens is 0; expected at least 1"),
        ({"num_beams": 0}, ValueError, "num_beams is 0; expected at least 1"),
        ({"num_beams": 2.0}, TypeError, "num_beams is 2.0; expected an integer"),
        ({"top": 0}, ValueError, "top is 0; expected at least 1"),
        ({"penalty": -1.0}, ValueError, "penalty is -1.0"),
        ({"length_penalty": math.nan}, ValueError, "length_penalty is nan; expected a finite number"),
        ({"temperature": 0.7, "top_k": 3}, ValueError, "temperature, top_k given, but no rng: .* pass rng"),
        ({"rng": 0, "num_beams": 2}, ValueError, "rng given with num_beams 2; expected one of them"),
        ({"rng": "seed"}, TypeError, "rng is 'seed'; expected an int seed or a torch.Generator"),
        ({"rng": 0, "temperature": 0}, ValueError, "temperature is 0; expected a positive number"),
        ({"rng": 0, "top_q": 0.5}, TypeError, "top_q"),
        ({"stop": 24}, ValueError, "stop go from 24 to 24; expected token ids from 0 to 23"),
    ],
)
def test_errors_of_generate(doodle, change, error, message):
    with pytest.raises(error, match=message):
        generate(doodle, **({"input_ids": [[1, 2]], "max_new_tokens": 3} | change))


def test_a_model_in_training_mode_is_refused(doodle):
    model = transformers.GPT2LMHeadModel(doodle.config).train()
    with pytest.raises(ValueError, match="model is in training mode"):
        generate(model, [[1]], 2)


@pytest.mark.parametrize("options", [{}, {"rng": 0}, {"num_beams": 2}], ids=str)
def test_a_broken_model_is_an_error(doodle, options):
    model = transformers.GPT2LMHeadModel(doodle.config).eval()
    model.transformer.ln_f.weight.data[0] = math.nan
    with pytest.raises(ValueError, match="NaN|nan"):
        generate(model, [[1, 2]], 2, **options)


# Diversity

TEXTS = [
    "the sun is up and the sky is clear",
    "the sun is up",
    "the sky is clear and the sun is out today",
    "a dog sleeps",
    "the the the the",
    "rain",
]


def test_distinct_n_by_hand():
    assert distinct_n(["a b a b", "a c"], 1) == 3 / 6
    assert distinct_n(["a b a b", "a c"], 2) == 3 / 4  # ab ba ab, ac
    assert distinct_n([[1, 2, 3], [1, 2]], 2) == 2 / 3
    assert distinct_n(torch.tensor([[1, 2], [1, 2]]), 2) == 1 / 2
    assert distinct_n(["a", "b c"], 2) == 1
    assert distinct_n(["a"] * 5, 1) == 1 / 5


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:2], TEXTS[1:2] * 3, TEXTS[3:], [*TEXTS, *TEXTS[:3]]])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_self_bleu_equals_sacrebleu(texts, n):
    bleu = BLEU(tokenize="none", smooth_method="exp", effective_order=True, max_ngram_order=n)
    scores = [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100 for i, text in enumerate(texts)]
    close(self_bleu(texts, n), np.mean(scores))


@properties
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), min_size=2, max_size=6), st.randoms())
def test_self_bleu_of_random_texts(texts, random):
    bleu = BLEU(tokenize="none", smooth_method="exp", effective_order=True)
    joined = [" ".join(words) for words in texts]
    scores = [bleu.sentence_score(t, joined[:i] + joined[i + 1 :]).score / 100 for i, t in enumerate(joined)]
    close(self_bleu(texts), np.mean(scores))
    random.shuffle(texts)
    close(self_bleu(texts), np.mean(scores))


def test_bounds_of_diversity():
    assert self_bleu(["a b c d e"] * 4) == 1
    assert self_bleu(["a b", "c d"]) == 0
    assert distinct_n(["a b", "c d"], 1) == 1


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (distinct_n, (["a b"], 3), ValueError, "texts contain no 3-gram"),
        (distinct_n, ([], 1), ValueError, "texts contain no 1-gram"),
        (distinct_n, (["a"], 0), ValueError, "n is 0; expected at least 1"),
        (distinct_n, ("a b", 1), TypeError, "texts is the string 'a b'; expected a list of texts"),
        (self_bleu, (["a b"],), ValueError, "texts are 1, 0 of them empty; expected two or more"),
        (self_bleu, (["a b", " "],), ValueError, "texts are 2, 1 of them empty; expected two or more, none empty"),
        (self_bleu, (["a", "b"], 1.5), TypeError, "n is 1.5; expected an integer"),
    ],
)
def test_errors_of_diversity(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)


# The GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cuda_filters_agree_with_cpu(cuda, dtype):
    logits = random_logits(5, 500, dtype=dtype)
    for keep, values in VALUES.items():
        filtered = keep(logits.to(cuda), values[1])
        assert (filtered.device, filtered.dtype) == (cuda, dtype)
        close(filtered.cpu(), keep(logits, values[1]), atol=1e-4)
    ids = torch.randint(500, (5, 9), generator=torch.Generator().manual_seed(0))
    close(repetition_penalty(logits.to(cuda), ids.to(cuda), 1.3).cpu(), repetition_penalty(logits, ids, 1.3), atol=1e-4)


@pytest.mark.gpu
def test_cuda_generation_agrees_with_cpu(cuda, doodle):
    batch = random_prompts(0)
    model = transformers.GPT2LMHeadModel(doodle.config).double().eval()
    model.load_state_dict(doodle.state_dict())
    expected = [generate(model, max_new_tokens=12, stop=(3,), num_beams=n, **batch) for n in (1, 3)]
    model.to(cuda)
    for n, result in zip((1, 3), expected, strict=True):
        written = generate(model, max_new_tokens=12, stop=(3,), num_beams=n, **batch)
        assert written.tokens.device == cuda
        assert torch.equal(written.tokens.cpu(), result.tokens)
        close(written.log_likelihood.cpu(), result.log_likelihood, atol=1e-4)
    first = generate(model, max_new_tokens=5, rng=0, **batch).tokens
    assert torch.equal(
        generate(model, max_new_tokens=5, rng=torch.Generator(cuda).manual_seed(0), **batch).tokens, first
    )
