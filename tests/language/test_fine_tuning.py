"""Fine-tuning against peft, transformers' schedule and loss, Adam's closed form, and counts from the papers."""

import copy
import itertools
import math

import numpy as np
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)

from studyguide.datasets import tinyworld
from studyguide.language import fine_tuning as module
from studyguide.language.fine_tuning import (
    add_lora,
    clinic,
    fine_tune,
    lora_linear,
    lora_parameters,
    loss_change,
    merge_lora,
    trainable_parameters,
)
from studyguide.language.perplexity import perplexity
from studyguide.models import load_causal_lm

WORDS = [*"abcdefghij", "<s>", "</s>"]
TEXTS = ["a b c", "d e f g h", "a a"]
CONTEXT = 12
GPT2_DEFAULTS = {"n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
properties = settings(deadline=None, max_examples=40)


def close(actual, expected, rtol=0.0, atol=1e-10):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def words_tokenizer(**marks):
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)


@pytest.fixture(scope="module")
def tokenizer():
    return words_tokenizer(bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def model():
    """A random GPT-2 whose dropout would be noticed."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_positions=CONTEXT, **GPT2_DEFAULTS)).double().eval()


@pytest.fixture(scope="module")
def adapted(model):
    """The model with adapters on every layer, B no longer 0."""
    adapted = add_lora(model, rank=3, alpha=5, rng=1)
    for i, (name, weight) in enumerate(adapted.named_parameters()):
        if "lora_B" in name:
            weight.data = random(*weight.shape, seed=i)
    return adapted


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def ids(text):
    """The tokens a text is learned as, written out."""
    return torch.tensor([[WORDS.index(word) for word in ["<s>", *text.split(), "</s>"]]])


# The second domain


def test_clinic_is_a_distribution_without_ambiguity():
    texts = clinic().enumerate()
    assert math.isclose(math.fsum(p for p, _ in texts), 1)
    assert len({words for _, words in texts}) == len(texts)


def test_clinic_and_tinyworld_share_words_but_no_text():
    _, tokenizer = load_causal_lm("tinyworld-gpt2")
    grammar_words = set(itertools.chain(*(words for _, words in clinic().enumerate())))
    spelled = {word for word in grammar_words if len(tokenizer.tokenize(" " + word)) > 1}
    assert spelled == {"."}  # which has no blank before it
    assert all(tinyworld.log_prob(text) == -math.inf for text in clinic().sample(50, rng=0))


# Counting


def test_llama_2_7b_against_peft():
    """Exact counts, on a model without storage; the shares that the guide's "about 1 %" stands for."""
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig())  # the defaults are Llama-2-7B's shapes
    base = trainable_parameters(llama)
    assert base.trainable == base.total == 6_738_415_616
    assert base.share == 1
    attention, mlp = [(4096, 4096)] * 4, [(11008, 4096)] * 3
    for rank, targets, shapes, percent in (
        (8, ["q_proj", "v_proj"], attention[:2], 0.0622),
        (16, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], attention + mlp, 0.5933),
    ):
        counted = lora_parameters(shapes * 32, rank)
        with torch.device("meta"):
            adapted = add_lora(llama, rank, alpha=rank, targets=targets, rng=0)
        found = trainable_parameters(adapted)
        assert (found.trainable, found.total) == adapted.get_nb_trainable_parameters()
        assert (found.trainable, found.total) == (counted, base.total + counted)
        assert round(100 * counted / base.total, 4) == percent


def test_gpt_3_of_the_paper():
    """Hu et al., section 4.2: rank 4 on queries and values makes a checkpoint of about 35 MB in 16 bits."""
    counted = lora_parameters([(12288, 12288)] * 2 * 96, rank=4)
    assert counted == 96 * 2 * 4 * (12288 + 12288) == 18_874_368
    assert round(100 * counted / 175e9, 4) == 0.0108
    assert abs(2 * counted / 2**20 - 35) < 1.01


def test_tied_weights_count_once(model):
    assert trainable_parameters(model).total == model.num_parameters()
    assert model.lm_head.weight is model.transformer.wte.weight


def test_frozen_weights_do_not_count(model):
    frozen = copy.deepcopy(model).requires_grad_(False)
    frozen.transformer.wpe.weight.requires_grad_(True)
    assert trainable_parameters(frozen).trainable == CONTEXT * 16
    assert trainable_parameters(frozen.requires_grad_(False)).share == 0


@pytest.mark.parametrize(
    ("shapes", "rank", "message"),
    [
        ([], 1, "shapes is empty"),
        ([(4, 4)], 0, "rank is 0"),
        ([(4,)], 1, r"\(4,\)"),
        ([(4, 0)], 1, "size in shapes is 0"),
    ],
)
def test_counting_refuses(shapes, rank, message):
    with pytest.raises(ValueError, match=message):
        lora_parameters(shapes, rank)


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="no weights"):
        trainable_parameters(torch.nn.ReLU())


# LoRA from scratch, peft's forward, and the merged weight


@pytest.mark.parametrize("name", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"])
def test_three_ways_to_one_result(adapted, name):
    """On GPT-2's Conv1D, whose weight is (in, out)."""
    layer = adapted.get_submodule(f"base_model.model.transformer.h.1.{name}")
    weight, bias = layer.base_layer.weight.detach().T, layer.base_layer.bias.detach()
    a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    x = random(2, 5, weight.shape[1])
    with torch.no_grad():
        expected = layer(x)
    close(lora_linear(x, weight, a, b, alpha=5) + bias, expected)
    close(x @ merge_lora(weight, a, b, alpha=5).T + bias, expected)
    merged = copy.deepcopy(layer)
    merged.merge()
    close(merge_lora(weight, a, b, alpha=5), merged.base_layer.weight.detach().T)


def test_a_linear_layer_against_peft():
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"], init_lora_weights=False)
    layer = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(7, 5, bias=False)).double(), config)
    inner = layer.base_model.model[0]
    weight, a, b = (
        part.weight.detach() for part in (inner.base_layer, inner.lora_A["default"], inner.lora_B["default"])
    )
    x = random(3, 7)
    close(lora_linear(x, weight, a, b, alpha=6), layer(x).detach())
    close(merge_lora(weight, a, b, alpha=6), layer.merge_and_unload()[0].weight.detach())


def test_the_whole_model_merged(adapted):
    merged = copy.deepcopy(adapted).merge_and_unload()
    with torch.no_grad():
        close(merged(ids("a b c d")).logits, adapted(ids("a b c d")).logits)
    assert trainable_parameters(merged).total < trainable_parameters(adapted).total


@properties
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.floats(0.1, 50), st.integers(0, 99))
def test_merged_and_side_by_side_agree(wide, high, rank, alpha, seed):
    weight, x = random(high, wide, seed=seed), random(2, 3, wide, seed=seed + 1)
    a, b = random(rank, wide, seed=seed + 2), random(high, rank, seed=seed + 3)
    close(lora_linear(x, weight, a, b, alpha), x @ merge_lora(weight, a, b, alpha).T, atol=1e-9)
    difference = merge_lora(weight, a, b, alpha) - weight
    assert torch.linalg.matrix_rank(difference, atol=1e-8) <= rank
    assert np.allclose(difference, alpha / rank * b.numpy() @ a.numpy(), atol=1e-9)


def test_b_of_0_changes_nothing_and_float32_is_kept():
    weight, a, b = random(3, 2, dtype=torch.float32), random(1, 2, dtype=torch.float32), torch.zeros(3, 1)
    assert torch.equal(merge_lora(weight, a, b, 8), weight)
    assert lora_linear(random(2, dtype=torch.float32), weight, a, b, 8).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"a": random(2, 3)}, ValueError, "have shapes"),
        ({"b": random(4, 1)}, ValueError, "have shapes"),
        ({"weight": random(5)}, ValueError, "have shapes"),
        ({"alpha": 0}, ValueError, "alpha is 0"),
        ({"alpha": math.nan}, ValueError, "alpha is nan"),
        ({"alpha": "8"}, TypeError, "alpha is '8'"),
        ({"x": random(3)}, ValueError, r"x has shape \(3,\)"),
        ({"x": 1.0}, ValueError, r"x has shape \(\)"),
        ({"x": torch.zeros(0)}, ValueError, "x is empty"),
    ],
)
def test_lora_refuses(change, error, message):
    given = {"x": random(5), "weight": random(4, 5), "a": random(2, 5), "b": random(4, 2), "alpha": 4} | change
    with pytest.raises(error, match=message):
        lora_linear(**given)


def test_add_lora_starts_as_the_model_and_leaves_it_alone(model):
    before, state = weights(model), torch.get_rng_state()
    adapted = add_lora(model, 2, 4, rng=0)
    with torch.no_grad():
        assert torch.equal(adapted(ids("a b c")).logits, model(ids("a b c")).logits)
    assert same(weights(model), before)
    assert all(weight.requires_grad for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not adapted.training


def test_add_lora_is_reproducible_and_takes_targets(model):
    assert same(weights(add_lora(model, 2, 4, rng=3)), weights(add_lora(model, 2, 4, rng=3)))
    assert not same(weights(add_lora(model, 2, 4, rng=3)), weights(add_lora(model, 2, 4, rng=4)))
    only = add_lora(model, 2, 4, targets=["c_fc"], rng=torch.Generator().manual_seed(3))
    assert trainable_parameters(only).trainable == lora_parameters([(16, 64)] * 2, 2)
    every = lora_parameters([(16, 48), (16, 16), (16, 64), (64, 16)] * 2, 2)
    assert trainable_parameters(add_lora(model, 2, 4, rng=0)).trainable == every


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rank": 0}, ValueError, "rank is 0"),
        ({"alpha": -1}, ValueError, "alpha is -1"),
        ({"targets": ["nothing"]}, ValueError, "nothing"),
        ({"rng": None}, TypeError, "rng is None"),
    ],
)
def test_add_lora_refuses(model, change, error, message):
    with pytest.raises(error, match=message):
        add_lora(model, **({"rank": 2, "alpha": 4, "rng": 0} | change))


# Training


def test_the_first_step_is_adams_closed_form(model, tokenizer):
    """The first step of Adam is lr g / (|g| + eps); g is the gradient of the mean over all tokens, without padding."""
    learner = copy.deepcopy(model)
    losses = [
        torch.nn.functional.cross_entropy(learner(ids(text)).logits[0, :-1], ids(text)[0, 1:], reduction="sum")
        for text in TEXTS
    ]
    (sum(losses) / sum(ids(text).shape[1] - 1 for text in TEXTS)).backward()
    trained = weights(fine_tune(model, tokenizer, TEXTS, steps=1, lr=0.01, batch_size=len(TEXTS), rng=0))
    for name, weight in learner.named_parameters():
        close(trained[name], (weight - 0.01 * weight.grad / (weight.grad.abs() + 1e-8)).detach(), atol=1e-9)


def test_several_steps_against_transformers_loss_and_schedule(model, tokenizer):
    """transformers computes the loss in float32, so the weights agree to what Adam makes of that."""
    learner = copy.deepcopy(model)
    tokens, steps = ids("d e f g h"), 6
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3, weight_decay=0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    for _ in range(steps):
        learner(tokens, labels=tokens).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    trained = fine_tune(model, tokenizer, ["d e f g h"], steps, 1e-3, batch_size=1, rng=0)
    with torch.no_grad():
        close(trained(tokens).logits, learner(tokens).logits, atol=1e-4)


def test_padding_and_batching_change_nothing(model, tokenizer):
    """One batch of all texts gives the same weights whatever the order they come in."""
    first = fine_tune(model, tokenizer, TEXTS, 3, 1e-3, batch_size=3, rng=0)
    other = fine_tune(model, tokenizer, TEXTS[::-1], 3, 1e-3, batch_size=3, rng=5)
    for a, b in zip(first.parameters(), other.parameters(), strict=True):
        close(a.detach(), b.detach(), atol=1e-8)


def test_it_learns_leaves_the_model_alone_and_is_reproducible(model, tokenizer):
    before, state = weights(model), torch.get_rng_state()
    trained = fine_tune(model, tokenizer, TEXTS, 20, 1e-2, batch_size=2, rng=0)
    assert same(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(weights(trained), weights(fine_tune(model, tokenizer, TEXTS, 20, 1e-2, batch_size=2, rng=0)))
    assert not same(weights(trained), weights(fine_tune(model, tokenizer, TEXTS, 20, 1e-2, batch_size=2, rng=1)))
    assert perplexity(trained, tokenizer, TEXTS).perplexity < perplexity(model, tokenizer, TEXTS).perplexity / 2
    assert not trained.training
    assert all(weight.grad is None for weight in [*trained.parameters(), *model.parameters()])


def test_a_model_in_training_mode_is_trained_without_dropout(model, tokenizer):
    training = copy.deepcopy(model).train()
    trained = fine_tune(training, tokenizer, TEXTS, 2, 1e-3, rng=0)
    assert same(weights(trained), weights(fine_tune(model, tokenizer, TEXTS, 2, 1e-3, rng=0)))
    assert training.training


def test_lora_trains_its_adapters_only(model, tokenizer):
    adapted = add_lora(model, 2, 4, rng=0)
    before, after = weights(adapted), weights(fine_tune(adapted, tokenizer, TEXTS, 3, 1e-2, rng=0))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_watch_sees_every_step(model, tokenizer):
    seen = []

    def watch(step, learner):
        seen.append((step, perplexity(learner, tokenizer, TEXTS).perplexity))

    trained = fine_tune(model, tokenizer, TEXTS, 4, 1e-2, rng=0, watch=watch)
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    close(seen[-1][1], perplexity(trained, tokenizer, TEXTS).perplexity)


def test_a_long_text_is_learned_in_pieces(model, tokenizer):
    """Every token is a target once, and no piece is longer than the model can read."""
    text = " ".join("abcdefghij"[i % 10] for i in range(40))
    pieces = list(module._pieces(model, tokenizer, text))
    targets = [label for tokens, labels in pieces for label in labels[1:].tolist() if label != -100]
    assert targets == ids(text)[0, 1:].tolist()
    assert max(len(tokens) - 1 for tokens, _ in pieces) == CONTEXT
    fine_tune(model, tokenizer, [text, "a b"], 2, 1e-3, rng=0)


def test_texts_come_once_before_any_comes_again():
    rows = list(range(7))
    drawn = itertools.chain(*itertools.islice(module._batches(rows, 3, torch.Generator().manual_seed(0)), 7))
    drawn = list(drawn)
    assert [sorted(drawn[i : i + 7]) for i in (0, 7, 14)] == [rows] * 3
    assert drawn[:7] != drawn[7:14]


def test_marks_that_a_tokenizer_does_not_have(model):
    plain = words_tokenizer()
    [(tokens, _)] = module._pieces(model, plain, "a b c")
    assert tokens.tolist() == [0, 1, 2]
    [(tokens, _)] = module._pieces(model, words_tokenizer(eos_token="</s>"), "a b c")
    assert tokens.tolist() == [11, 0, 1, 2, 11]
    with pytest.raises(ValueError, match="expected a token to learn"):
        fine_tune(model, plain, ["a"], 1, 1e-3, rng=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"texts": []}, ValueError, "texts is empty"),
        ({"texts": "a b"}, TypeError, "texts is the string"),
        ({"texts": ["a", 3]}, TypeError, "texts contains 3"),
        ({"texts": ["a", ""]}, ValueError, "texts contains ''"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"steps": 1.5}, TypeError, "steps is 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"lr": 0}, ValueError, "lr is 0"),
        ({"lr": math.inf}, ValueError, "lr is inf"),
        ({"lr": None}, TypeError, "lr is None"),
        ({"rng": "0"}, TypeError, "rng is '0'"),
    ],
)
def test_training_refuses(model, tokenizer, change, error, message):
    given = {"texts": TEXTS, "steps": 1, "lr": 1e-3, "rng": 0} | change
    with pytest.raises(error, match=message):
        fine_tune(model, tokenizer, **given)


def test_a_frozen_model_and_a_diverged_one_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="requires a gradient"):
        fine_tune(copy.deepcopy(model).requires_grad_(False), tokenizer, TEXTS, 1, 1e-3, rng=0)
    broken = copy.deepcopy(model)
    broken.transformer.ln_f.weight.data[0] = math.nan
    with pytest.raises(ValueError, match="loss is nan at step 1; lower lr"):
        fine_tune(broken, tokenizer, TEXTS, 1, 1e-3, rng=0)


# Change of the loss


@pytest.fixture(scope="module")
def two_results(model, tokenizer):
    texts = [" ".join(WORDS[i] for i in row) for n in range(2, 9) for row in torch.randint(10, (6, n)).tolist()]
    trained = fine_tune(model, tokenizer, TEXTS, 5, 1e-2, rng=0)
    return perplexity(model, tokenizer, texts), perplexity(trained, tokenizer, texts)


def test_the_change_is_the_log_of_the_ratio_of_perplexities(two_results):
    before, after = two_results
    change = loss_change(before, after, rng=0)
    close(change.estimate, (after.perplexity / before.perplexity).log())
    close(loss_change(after, before, rng=0).estimate, -change.estimate)
    assert change.low < change.estimate < change.high


def test_the_interval_is_near_the_delta_methods(two_results):
    """A ratio of sums has variance n / (n - 1) sum((d - r t)^2) / (sum t)^2 (Cochran, section 6.4)."""
    before, after = two_results
    difference, tokens = (after.text_nll - before.text_nll).numpy(), before.text_tokens.numpy()
    ratio, n = difference.sum() / tokens.sum(), len(tokens)
    error = math.sqrt(n / (n - 1) * ((difference - ratio * tokens) ** 2).sum()) / tokens.sum()
    change = loss_change(before, after, rng=0)
    assert abs((change.high - change.low).item() / (2 * 1.96 * error) - 1) < 0.1


def test_results_of_other_texts_are_refused(model, tokenizer, two_results):
    with pytest.raises(ValueError, match="expected the same texts"):
        loss_change(two_results[0], perplexity(model, tokenizer, TEXTS), rng=0)
    single = perplexity(model, tokenizer, ["a b"])
    with pytest.raises(ValueError, match="at least 2"):
        loss_change(single, single, rng=0)


# CUDA


@pytest.mark.gpu
def test_training_on_a_gpu_gives_the_cpus_weights(model, tokenizer):
    adapted = add_lora(model, 2, 4, rng=0)
    for learner in (model, adapted):
        on_gpu = fine_tune(copy.deepcopy(learner).cuda(), tokenizer, TEXTS, 3, 1e-3, rng=0)
        on_cpu = fine_tune(learner, tokenizer, TEXTS, 3, 1e-3, rng=0)
        for a, b in zip(on_gpu.parameters(), on_cpu.parameters(), strict=True):
            close(a.detach().cpu(), b.detach(), atol=1e-4)


@pytest.mark.gpu
def test_adapters_of_a_model_on_a_gpu_are_there_and_the_same(model):
    state = torch.cuda.get_rng_state()
    adapted = add_lora(copy.deepcopy(model).cuda(), 2, 4, rng=0)
    assert all(weight.is_cuda for weight in adapted.parameters())
    assert torch.equal(torch.cuda.get_rng_state(), state)
    for a, b in zip(adapted.parameters(), add_lora(model, 2, 4, rng=0).parameters(), strict=True):
        close(a.detach().cpu(), b.detach())


@pytest.mark.gpu
def test_lora_on_a_gpu(model):
    x, weight, a, b = random(3, 5), random(4, 5), random(2, 5), random(4, 2)
    on_gpu = lora_linear(x.cuda(), weight.cuda(), a.cuda(), b.cuda(), 4)
    assert on_gpu.is_cuda
    close(on_gpu.cpu(), lora_linear(x, weight, a, b, 4))
    close(merge_lora(weight.cuda(), a.cuda(), b.cuda(), 4).cpu(), merge_lora(weight, a, b, 4))
