"""Perplexity against transformers' loss, torchmetrics, the lm-evaluation-harness and numbers written out."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import GPT2Config, GPT2LMHeadModel

from studyguide.datasets import tinyworld
from studyguide.language import perplexity as module
from studyguide.language.perplexity import (
    Perplexity,
    bits_per_byte,
    perplexity,
    rolling_windows,
    token_accuracy,
    token_log_likelihoods,
    word_perplexity,
)
from studyguide.models import load_causal_lm

TEXTS = ["I love pizza.", "The capital of France is Paris.", "Colorless green ideas sleep furiously.", "I"]
VOCABULARY, CONTEXT = 97, 24
properties = settings(deadline=None, max_examples=60)


def close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def lm():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    return model.double(), tokenizer


@pytest.fixture(scope="module")
def model():
    """A random GPT-2, far from uniform."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**sizes, initializer_range=0.5, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).double().eval()


def sequences(*lengths):
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(VOCABULARY, (length,), generator=rng) for length in lengths]


def padded(rows, left=()):
    """(tokens, mask) of rows that are padded on the right, or for the rows in `left` on the left."""
    width = max(map(len, rows)) + 2
    ids, mask = torch.full((len(rows), width), 7), torch.zeros(len(rows), width, dtype=torch.int64)
    for i, row in enumerate(rows):
        where = slice(width - len(row), None) if i in left else slice(len(row))
        ids[i, where], mask[i, where] = row, 1
    return ids, mask


def by_definition(model, row):
    """log p of each token but the first, from the logits of the whole sequence."""
    with torch.no_grad():
        return model(row[None]).logits[0, :-1].log_softmax(-1).gather(-1, row[1:, None])[:, 0]


def transformers_loss(model, row, labels=None):
    """The loss of transformers, which is computed in float32 whatever the model."""
    with torch.no_grad():
        return model(row[None], labels=row[None] if labels is None else labels[None]).loss


# Log-likelihoods


def test_log_likelihoods_are_those_of_the_logits(model):
    rows = sequences(9, 9, 9)
    result = token_log_likelihoods(model, torch.stack(rows))
    close(result, torch.stack([by_definition(model, row) for row in rows]))
    close(-result[0].mean(), transformers_loss(model, rows[0]), rtol=1e-6)


@pytest.mark.parametrize("left", [(), (0, 1, 2), (1,)], ids=["right", "left", "mixed"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_changes_nothing(model, left, attention):
    model = copy.deepcopy(model)
    model.set_attn_implementation(attention)
    rows = sequences(5, 9, 2)
    ids, mask = padded(rows, left)
    result = token_log_likelihoods(model, ids, mask)
    for i, row in enumerate(rows):
        scored = result[i, -len(row) + 1 :] if i in left else result[i, : len(row) - 1]
        close(scored, by_definition(model, row))
        assert (result[i] != 0).sum() == len(row) - 1


def test_a_row_of_padding_scores_nothing(model):
    ids, mask = padded(sequences(5, 6))
    mask[1] = 0
    assert not token_log_likelihoods(model, ids, mask)[1].any()


def test_a_sequence_may_have_one_token_more_than_the_context(model):
    [row] = sequences(CONTEXT + 1)
    result = token_log_likelihoods(model, row[None])[0]
    close(result[:-1], by_definition(model, row[:-1]))
    assert result.shape == (CONTEXT,)


def test_lists_are_read(model):
    close(token_log_likelihoods(model, [[3, 4, 5]]), by_definition(model, torch.tensor([3, 4, 5]))[None])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_is_summed_in_float32(model, dtype):
    model = copy.deepcopy(model).to(dtype)
    [row] = sequences(20)
    result = token_log_likelihoods(model, row[None])
    assert result.dtype == torch.float32
    close(-result.mean(), transformers_loss(model, row).float(), rtol=2e-3 if dtype == torch.bfloat16 else 1e-5)


class Capped(GPT2LMHeadModel):
    """Changes its logits after the last layer, as Gemma does."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 3 * torch.tanh(output.logits / 3)
        return output


def test_a_model_that_changes_its_logits_is_scored_by_the_changed_ones(model):
    capped = Capped(model.config).double().eval()
    capped.load_state_dict(model.state_dict())
    [row] = sequences(9)
    close(token_log_likelihoods(capped, row[None])[0], by_definition(capped, row))
    assert not torch.allclose(by_definition(capped, row), by_definition(model, row))


def test_logits_are_made_a_few_positions_at_a_time(model, monkeypatch):
    monkeypatch.setitem(module.LOGITS, "cpu", 3 * VOCABULARY)
    sizes = []
    ids = torch.stack(sequences(*[15] * 4))
    with model.lm_head.register_forward_hook(lambda head, given, logits: sizes.append(logits.numel())):
        result = token_log_likelihoods(model, ids)
    assert max(sizes) <= 4 * VOCABULARY  # 3 positions, or the last one of each of the 4 rows
    close(result, torch.stack([by_definition(model, row) for row in ids]))


def test_the_model_is_left_as_it_was(model):
    token_log_likelihoods(model, [[1, 2, 3]])
    assert not model.lm_head._forward_pre_hooks
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, VOCABULARY)


@pytest.mark.parametrize(
    ("ids", "mask", "error", "message"),
    [
        ([1, 2, 3], None, ValueError, "input_ids has shape (3,); expected (batch, length), two tokens or longer"),
        ([[1]], None, ValueError, "input_ids has shape (1, 1)"),
        ([[1, 97]], None, ValueError, "input_ids contains 97; expected tokens from 0 to 96"),
        ([[1, -100]], None, ValueError, "input_ids contains -100"),
        ([[1.0, 2.0]], None, TypeError, "input_ids has dtype torch.float32; expected integers"),
        ([[1] * 26], None, ValueError, "input_ids has 26 tokens in a row; the model reads 24: see rolling_windows"),
        ([[1, 2, 3]], [[1, 0, 1]], ValueError, "mask has padding between tokens"),
        ([[1, 2, 3]], [[1, 1]], ValueError, "mask has shape (1, 2); expected 0 and 1 in the tokens' (1, 3)"),
        ([[1, 2, 3]], [[1, 2, 0]], ValueError, "expected 0 and 1"),
    ],
)
def test_bad_tokens_and_masks(model, ids, mask, error, message):
    with pytest.raises(error) as raised:
        token_log_likelihoods(model, ids, mask)
    assert message in str(raised.value)


def test_a_model_in_training_mode_is_refused(model):
    with pytest.raises(ValueError, match="the model is in training mode"):
        token_log_likelihoods(copy.deepcopy(model).train(), [[1, 2]])


def test_a_model_that_gives_nan_is_refused(model):
    broken = copy.deepcopy(model)
    broken.transformer.wte.weight.data[5] = math.nan
    for call in (token_log_likelihoods, lambda m, ids: module._at_targets(module._rank, m, *tokens(m, ids))):
        with pytest.raises(ValueError, match="the logits contain NaN"):
            call(broken, [[1, 2]])


def tokens(model, ids):
    ids, real = module._tokens(model, ids, None)
    return ids, real, real[:, 1:]


# The accumulator


def test_four_tokens_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.125, 0.75], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    counted = Perplexity()
    counted.update(p.double().log()[None], [[0, 0, 0, 1, 1]])  # p = 1/2, 1/4, 1/8, 1/4
    close(counted.nll, (1 + 2 + 3 + 2) * math.log(2))
    close(counted.compute(), 4)


def random_batch(batch, length, seed=0):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, length, 11, generator=rng, dtype=torch.float64)
    return logits, torch.randint(11, (batch, length), generator=rng)


@pytest.mark.parametrize("ignore", [False, True])
def test_it_agrees_with_torchmetrics_which_does_not_shift(ignore):
    from torchmetrics.text import Perplexity as Peer

    ours, peer = Perplexity(), Peer(ignore_index=-100).set_dtype(torch.float64)
    for seed in range(3):
        logits, labels = random_batch(4, 9, seed)
        if ignore:
            labels[:, 5:] = -100
        ours.update(logits, labels)
        peer.update(logits[:, :-1], labels[:, 1:])
    close(ours.compute(), peer.compute(), rtol=1e-6)  # the peer sums in float32


def test_it_agrees_with_the_loss_of_transformers(model):
    [row] = sequences(12)
    labels = row.clone()
    labels[:5] = -100  # the prompt of an instruction; its last token is still context for the first answer token
    counted = Perplexity()
    with torch.no_grad():
        counted.update(model(row[None]).logits, labels[None])
    close(counted.compute(), transformers_loss(model, row, labels).exp(), rtol=1e-6)
    assert counted.tokens == 7


@properties
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(2, 6))
def test_merging_equals_one_update(sizes, length):
    logits, labels = random_batch(sum(sizes), length)
    whole, parts = Perplexity(), Perplexity()
    whole.update(logits, labels)
    for some, own in zip(logits.split(sizes), labels.split(sizes), strict=True):
        part = Perplexity()
        part.update(some, own)
        parts.merge(part)
    close(parts.nll, whole.nll)
    assert parts.tokens == whole.tokens == sum(sizes) * (length - 1)
    assert parts.compute() >= 1


@pytest.mark.parametrize("left", [(), (0, 1)])
def test_the_mask_leaves_padding_out(model, left):
    rows = sequences(5, 9)
    ids, mask = padded(rows, left)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    counted = Perplexity()
    with torch.no_grad():
        counted.update(model(ids, attention_mask=mask, position_ids=places).logits, ids, mask)
    close(counted.nll, -sum(by_definition(model, row).sum() for row in rows))
    assert counted.tokens == 4 + 8


def test_an_impossible_token_makes_it_infinite():
    counted = Perplexity()
    counted.update([[[0.0, -math.inf], [0.0, 0.0]]], [[0, 1]])
    assert counted.compute() == math.inf


def test_huge_and_half_precision_logits():
    counted = Perplexity()
    counted.update(torch.tensor([[[1e4, 0.0], [0, 0]]], dtype=torch.bfloat16), [[0, 0]])
    close(counted.compute(), 1)


def test_the_gradient_is_not_kept():
    counted = Perplexity()
    counted.update(torch.zeros(1, 2, 3, requires_grad=True), [[0, 1]])
    assert not counted.nll.requires_grad


def test_nothing_scored_is_an_error():
    counted = Perplexity()
    with pytest.raises(ValueError, match="no token was scored"):
        counted.compute()
    counted.update(torch.zeros(2, 3, 5), torch.full((2, 3), -100))
    counted.update(torch.zeros(2, 1, 5), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="no token was scored"):
        counted.compute()


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (torch.zeros(3, 5), [[0, 1, 2]], ValueError, "expected (batch, length, vocabulary) and (batch, length)"),
        (torch.zeros(1, 3, 5), [[0, 1]], ValueError, "shapes are logits (1, 3, 5) and labels (1, 2)"),
        (torch.zeros(1, 2, 5), [[0, 5]], ValueError, "labels contains 5; expected tokens from 0 to 4"),
        (torch.zeros(1, 2, 5), [[0, -1]], ValueError, "labels contains -1"),
        (torch.zeros(1, 2, 5), [[0.0, 1.0]], TypeError, "labels has dtype torch.float32; expected integers"),
        (torch.full((1, 2, 5), math.nan), [[0, 1]], ValueError, "the logits contain NaN"),
        (torch.full((1, 2, 5), -math.inf), [[0, 1]], ValueError, "the logits contain NaN"),
    ],
)
def test_bad_updates(logits, labels, error, message):
    with pytest.raises(error) as raised:
        Perplexity().update(logits, labels)
    assert message in str(raised.value)


# Windows


@properties
@given(st.integers(1, 60), st.integers(1, 12), st.data())
def test_windows_are_those_of_the_evaluation_harness(n_tokens, max_length, data):
    context = data.draw(st.integers(1, max_length))
    windows = rolling_windows(n_tokens, max_length, context)
    tokens = list(range(n_tokens))  # the first is the harness's prefix token
    peers = list(get_rolling_token_windows(tokens[1:], 0, max_length, context))
    for (begin, first, stop), peer in zip(windows, peers, strict=True):
        assert (tokens[begin:first], tokens[first:stop]) == make_disjoint_window(peer)


@properties
@given(st.integers(1, 60), st.integers(1, 12), st.data())
def test_windows_score_each_token_once_and_keep_their_context(n_tokens, max_length, data):
    context = data.draw(st.integers(1, max_length))
    windows = rolling_windows(n_tokens, max_length, context)
    assert [i for _, first, stop in windows for i in range(first, stop)] == list(range(1, n_tokens))
    assert all(stop - 1 - begin <= max_length for begin, _, stop in windows)
    assert all(first - begin >= context for begin, first, _ in windows[1:])


def test_windows_of_bad_sizes():
    with pytest.raises(ValueError, match="context is 5; expected at most max_length, 4"):
        rolling_windows(10, 4, 5)
    for sizes in ((0, 4, 1), (10, 0, 1), (10, 4, 0)):
        with pytest.raises(ValueError, match="expected at least 1"):
            rolling_windows(*sizes)


# The corpus


def rows_of(tokenizer, texts):
    return [torch.tensor([tokenizer.bos_token_id, *tokenizer(text).input_ids]) for text in texts]


def test_a_text_scores_the_loss_of_transformers(lm):
    model, tokenizer = lm
    for text, row in zip(TEXTS, rows_of(tokenizer, TEXTS), strict=True):
        result = perplexity(model, tokenizer, [text])
        close(result.perplexity, transformers_loss(model, row).exp(), rtol=1e-5)
        assert (result.tokens, result.bytes) == (len(row) - 1, len(text.encode()))


def test_the_corpus_weighs_tokens_alike(lm):
    model, tokenizer = lm
    result = perplexity(model, tokenizer, TEXTS)
    logs = [by_definition(model, row) for row in rows_of(tokenizer, TEXTS)]
    close(result.text_nll, [-log.sum() for log in logs])
    close(result.text_perplexity, [(-log.mean()).exp() for log in logs])
    close(result.perplexity, (-torch.cat(logs).mean()).exp())
    assert result.text_tokens.tolist() == [len(log) for log in logs]
    assert (result.tokens, result.words, result.model) == (sum(map(len, logs)), 3 + 6 + 5 + 1, "tinyworld-gpt2")
    nll = -sum(log.sum().item() for log in logs)
    close(result.bits_per_byte, nll / sum(map(len, TEXTS)) / math.log(2))
    close(result.word_perplexity, math.exp(nll / 15))


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batches_and_order_change_nothing(lm, batch_size):
    texts = tinyworld.sample(40, rng=5)
    whole = perplexity(*lm, texts)
    other = perplexity(*lm, texts[::-1], batch_size=batch_size)
    close(other.text_nll.flip(0), whole.text_nll)
    assert other.tokens == whole.tokens


def test_the_padding_side_of_the_tokenizer_changes_nothing(lm):
    model, tokenizer = lm
    left = copy.deepcopy(tokenizer)
    left.padding_side = "left"
    close(perplexity(model, left, TEXTS).text_nll, perplexity(model, tokenizer, TEXTS).text_nll)


def strided_recipe(model, row, max_length, stride):
    """The sliding window of transformers' documentation on perplexity, for total nats and tokens."""
    nll = tokens = end = 0
    for begin in range(0, len(row), stride):
        previous, end = end, min(begin + max_length, len(row))
        labels = row[begin:end].clone()
        labels[: previous - end] = -100
        valid = (labels[1:] != -100).sum().item()
        nll += transformers_loss(model, row[begin:end], labels) * valid
        tokens += valid
        if end == len(row):
            break
    return nll, tokens


@pytest.mark.parametrize("stride", [1, 5, 10, 19])
def test_strides_agree_with_the_recipe_of_transformers(lm, stride):
    model, tokenizer = lm
    max_length = 20  # what the recipe feeds, of which the last is a target only
    text = max(tinyworld.sample(50, rng=1), key=len)
    row = rows_of(tokenizer, [text])[0]
    row = row[: max_length + (len(row) - max_length) // stride * stride]  # ends where a window does
    text = tokenizer.decode(row[1:])
    assert torch.equal(rows_of(tokenizer, [text])[0], row)
    result = perplexity(model, tokenizer, [text], max_length=max_length - 1, stride=stride)
    nll, tokens = strided_recipe(model, row, max_length, stride)
    close(result.nll, nll, rtol=1e-6)
    assert result.tokens == tokens == len(row) - 1


@pytest.mark.parametrize("stride", [None, 256, 40])
def test_a_text_longer_than_the_context_is_scored_whole(lm, stride):
    model, tokenizer = lm
    text = " ".join(tinyworld.sample(12, rng=2))
    [row] = rows_of(tokenizer, [text])
    assert len(row) > 257
    result = perplexity(model, tokenizer, [text], stride=stride)
    nll = tokens = 0
    for read, targets in get_rolling_token_windows(row.tolist()[1:], 0, 256, 257 - (stride or 256)):
        with torch.no_grad():
            logs = model(torch.tensor([read])).logits[0, -len(targets) :].log_softmax(-1)
        nll -= logs.gather(-1, torch.tensor(targets)[:, None]).sum()
        tokens += len(targets)
    close(result.nll, nll)
    assert result.tokens == tokens == len(row) - 1


def test_without_a_start_mark_the_first_token_is_not_scored(lm):
    model, tokenizer = lm
    bare = copy.deepcopy(tokenizer)
    bare.bos_token = bare.eos_token = None
    result = perplexity(model, bare, TEXTS[:3])
    rows = [row[1:] for row in rows_of(tokenizer, TEXTS[:3])]
    close(result.nll, -sum(by_definition(model, row).sum() for row in rows))
    assert result.tokens == sum(map(len, rows)) - 3
    assert result.start_mark is None
    for name in ("bits_per_byte", "word_perplexity"):
        with pytest.raises(ValueError, match="the first token of each text was not scored"):
            getattr(result, name)
    with pytest.raises(ValueError, match="expected a text with a token to score"):
        perplexity(model, bare, ["I"])


def test_a_tokenizer_that_adds_its_own_marks_does_not_add_them_twice(lm):
    model, tokenizer = lm

    def adding(texts, add_special_tokens=True, **options):
        given = [tokenizer.bos_token + text for text in texts] if add_special_tokens else texts
        return tokenizer(given, **options)

    class Adding:
        bos_token, convert_tokens_to_ids = tokenizer.bos_token, tokenizer.convert_tokens_to_ids
        __call__ = staticmethod(adding)

    close(perplexity(model, Adding(), TEXTS).nll, perplexity(model, tokenizer, TEXTS).nll)


def test_a_model_without_knowledge_has_the_vocabulary_as_perplexity(lm):
    model, tokenizer = lm
    blank = copy.deepcopy(model)
    blank.lm_head.weight.data.zero_()
    close(perplexity(blank, tokenizer, TEXTS).perplexity, model.config.vocab_size)


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([], {}, ValueError, "texts is empty; expected at least one text"),
        ("I love pizza.", {}, TypeError, "texts is the string 'I love pizza.'; expected several of them, in a list"),
        (["I", None], {}, TypeError, "texts contains None; expected strings"),
        (["I", ""], {}, ValueError, "texts[1] is ''; expected a text with a token to score"),
        (["I"], {"max_length": 257}, ValueError, "max_length is 257; expected at most the model's context, 256 tokens"),
        (["I"], {"max_length": 0}, ValueError, "max_length is 0; expected at least 1"),
        (["I"], {"max_length": 8, "stride": 9}, ValueError, "stride is 9; expected at most max_length, 8"),
        (["I"], {"stride": 0}, ValueError, "stride is 0; expected at least 1"),
        (["I"], {"batch_size": 0}, ValueError, "batch_size is 0; expected at least 1"),
        (["I"], {"batch_size": 2.5}, TypeError, "batch_size is 2.5; expected an integer"),
    ],
)
def test_bad_corpora(lm, texts, options, error, message):
    for function in (perplexity, token_accuracy):
        with pytest.raises(error) as raised:
            function(*lm, texts, **options)
        assert message in str(raised.value)


def test_white_space_has_bits_per_byte_but_no_words(lm):
    result = perplexity(*lm, ["  \n"])
    assert result.bits_per_byte > 0
    with pytest.raises(ValueError, match="n_words contains 0; expected 1 or more"):
        _ = result.word_perplexity


# Bits per byte and per word


def test_one_text_two_tokenizers_of_the_guide():
    close(torch.tensor(60 / 33, dtype=torch.float64).exp(), 6.160, rtol=1e-3)
    close(torch.tensor(60 / 54, dtype=torch.float64).exp(), 3.038, rtol=1e-3)
    close(bits_per_byte(60, 172), 60 / 172 * math.log2(math.e))
    close(bits_per_byte([60.0, 120.0], [172, 172]), [60 / 172 / math.log(2), 120 / 172 / math.log(2)])


def test_a_uniform_guess_over_bytes_is_eight_bits():
    close(bits_per_byte(5 * math.log(256), 5), 8)
    close(word_perplexity(5 * math.log(256), 5), 256)
    assert bits_per_byte(torch.tensor(1.0), 2).dtype == torch.float32


@pytest.mark.parametrize("function", [bits_per_byte, word_perplexity])
def test_bad_rates(function):
    for nll in (-1.0, math.nan):
        with pytest.raises(ValueError, match="expected a negative log-likelihood, 0 or more"):
            function(nll, 5)
    for count in (0, 0.5, math.nan):
        with pytest.raises(ValueError, match="expected 1 or more"):
            function(1.0, count)
    with pytest.raises(TypeError, match="nll cannot be read as an array of numbers"):
        function("x", 5)


# Token accuracy


def test_accuracy_is_that_of_topk(lm):
    model, tokenizer = lm
    k = [1, 2, 5, 50, model.config.vocab_size]
    hits = []
    for row in rows_of(tokenizer, TEXTS):
        with torch.no_grad():
            order = model(row[None]).logits[0, :-1].argsort(-1, descending=True)
        hits.append(torch.stack([(order[:, :one] == row[1:, None]).any(-1) for one in k]))
    close(token_accuracy(model, tokenizer, TEXTS, k=k), torch.cat(hits, -1).double().mean(-1))
    close(token_accuracy(model, tokenizer, TEXTS), hits_at_one := torch.cat(hits, -1)[0].double().mean())
    assert hits_at_one.ndim == 0


def test_of_tied_tokens_the_lower_number_comes_first():
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0]] * 4)
    assert module._rank(logits, torch.tensor([[0], [1], [2], [3]])).tolist() == [3, 1, 2, 4]


def test_a_model_without_knowledge_is_right_about_the_first_token_only(lm):
    model, tokenizer = lm
    blank = copy.deepcopy(model)
    blank.lm_head.weight.data.zero_()
    assert token_accuracy(blank, tokenizer, TEXTS, k=[1, 1712]).tolist() == [0, 1]


def test_bad_k(lm):
    for k, error in ((0, ValueError), ([1, 0], ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="k is"):
            token_accuracy(*lm, TEXTS, k=k)


# GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_cpu_and_cuda_agree(lm, dtype):
    model, tokenizer = lm
    texts = tinyworld.sample(60, rng=3)
    here, there = copy.deepcopy(model).to(dtype), copy.deepcopy(model).to("cuda", dtype)
    ours, cuda = (perplexity(m, tokenizer, texts, max_length=100, stride=50) for m in (here, there))
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-4
    close(cuda.perplexity.cpu(), ours.perplexity, rtol=tolerance)
    assert cuda.text_nll.device.type == "cuda"
    close(token_accuracy(there, tokenizer, texts).cpu(), token_accuracy(here, tokenizer, texts), atol=1e-2)
    counted = Perplexity()
    row = rows_of(tokenizer, texts[:1])[0].cuda()
    with torch.no_grad():
        counted.update(there(row[None]).logits, row[None])
    counted.merge(Perplexity())
    close(counted.nll, -token_log_likelihoods(there, row[None]).sum().double(), rtol=tolerance)
