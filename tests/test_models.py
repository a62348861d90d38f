"""The shipped language model, measured again from its weights; and what the loaders say when a model can't be had."""

import math
import shutil

import pytest
import torch
import torch.nn.functional as F

from studyguide import models
from studyguide.datasets import DATA, tinyworld
from studyguide.datasets.grammar import END, split_words
from studyguide.datasets.tinyworld import grammar

CONTEXT = 256
PROMPTS = (
    "The capital of France is",
    "The capital of France is Paris",
    "The weather today is",
    "I love",
    "The cat sat on the",
    "The animal didn't cross the street because it was too",
)


@pytest.fixture(scope="module")
def lm():
    return models.load_causal_lm("tinyworld-gpt2")


def _batches(rows, size=16):
    rows = sorted(rows, key=lambda row: len(row[0]))
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def test_it_is_small_and_its_context_is_long_enough(lm):
    model, _ = lm
    assert 0.8e6 < model.num_parameters() < 1.5e6
    assert model.config.n_positions >= 256
    assert (DATA / "models/tinyworld-gpt2/model.safetensors").stat().st_size < 10e6
    assert not model.training


def test_perplexity_on_held_out_text_is_within_3_percent_of_the_exact_floor(lm):
    model, tokenizer = lm
    end = tokenizer.eos_token_id
    rows = [([end, *tokenizer(text).input_ids, end], text) for text in tinyworld.sample(800, rng=987_654)]
    rows = [row for row in rows if len(row[0]) <= CONTEXT]
    assert len(rows) > 780
    loss = tokens = 0
    for batch in _batches(rows):
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in batch], True, end)
        scored = torch.arange(1, ids.shape[1]) < torch.tensor([[len(row)] for row, _ in batch])
        with torch.no_grad():
            logits = model(ids[:, :-1]).logits.flatten(0, 1)
        losses = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none").view_as(scored)
        loss, tokens = loss + losses[scored].sum().item(), tokens + scored.sum().item()
    floor = -math.fsum(tinyworld.log_prob(text) for _, text in rows)
    ratio = math.exp((loss - floor) / tokens)
    print(f"perplexity {math.exp(loss / tokens):.4f}, floor {math.exp(floor / tokens):.4f}, ratio {ratio:.4f}")
    assert 0.99 < ratio <= 1.03


def test_it_recalls_the_password_in_passages_up_to_half_the_context(lm):
    model, tokenizer = lm
    recalled = total = 0
    rows = []
    for text in grammar("password").sample(400, rng=192_837):
        question = text[: text.rindex(" is ") + 3]
        ids = tokenizer(question).input_ids
        answer = tokenizer(text).input_ids[len(ids) :]
        if len(ids) + len(answer) <= CONTEXT // 2:
            rows.append((ids, answer))
    assert len(rows) > 250
    for ids, answer in rows:
        made = model.generate(torch.tensor([ids]), max_new_tokens=len(answer), do_sample=False)[0, len(ids) :]
        recalled += made.tolist() == answer
        total += 1
    print(f"recalled {recalled} of {total}")
    assert recalled >= 0.95 * total


@pytest.mark.parametrize("begin", ["", END], ids=["bare", "after the end mark"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_next_word_distribution_is_within_3_percent_total_variation(lm, prompt, begin):
    model, tokenizer = lm
    truth = tinyworld.next_word_distribution(prompt)
    with torch.no_grad():
        predicted = model(tokenizer(begin + prompt, return_tensors="pt").input_ids).logits[0, -1].softmax(-1)
    first = [tokenizer.encode(word if word in ".,?" else f" {word}")[0] for word in truth]
    assert len(set(first)) == len(first), "two of the words begin with the same token"
    q = predicted[first]
    p = torch.tensor(list(truth.values()))
    assert ((p - q).abs().sum() + (1 - q.sum())) / 2 < 0.03


def test_tokenizer_is_byte_level_and_exact(lm):
    _, tokenizer = lm
    for text in [*tinyworld.sample(200, rng=4), "Internationalization", "你好世界 مرحبا 🙂\n\ttabs"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    words = {word for text in tinyworld.sample(3000, rng=5) for word in split_words(text)}
    whole = sum(len(tokenizer.encode(f" {word}")) == 1 for word in words)
    assert whole > 0.9 * len(words), "most words should be one token, as the notebooks assume"


def test_name_and_device_come_from_the_environment(monkeypatch, lm):
    monkeypatch.setenv("STUDYGUIDE_LM", str(DATA / "models/tinyworld-gpt2"))
    monkeypatch.setenv("STUDYGUIDE_DEVICE", "meta")
    model, _ = models.load_causal_lm()
    assert model.device.type == "meta"
    assert model.config.vocab_size == lm[0].config.vocab_size


@pytest.mark.gpu
def test_it_says_the_same_on_a_gpu(lm, monkeypatch):
    monkeypatch.setenv("STUDYGUIDE_DEVICE", "cuda")
    model, tokenizer = models.load_causal_lm("tinyworld-gpt2")
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(model(ids.cuda()).logits.cpu(), lm[0](ids).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("load", "kind"), [(models.load_causal_lm, "language model"), (models.load_sentence_encoder, "sentence encoder")]
)
def test_a_model_that_cannot_be_had_says_how_to_get_it(load, kind, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"{kind} 'no-such-model' can't be had.*HF_HUB_OFFLINE.*tinyworld-gpt2"):
        load("no-such-model")


@pytest.mark.parametrize(
    ("offline", "cached", "asked"),
    [("0", True, [True]), ("0", False, [True, False]), ("1", False, [True])],
    ids=["cached", "not cached", "hub switched off"],
)
def test_the_hub_is_asked_only_for_what_is_not_local(offline, cached, asked, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    seen = []

    def load(local_files_only):
        seen.append(local_files_only)
        if local_files_only and not cached:
            raise OSError("not in the cache")
        return "model"

    if offline == "1":
        with pytest.raises(FileNotFoundError, match="the model 'gpt2' can't be had"):
            models._local_first(load, "gpt2", "model 'gpt2'")
    else:
        assert models._local_first(load, "gpt2", "model 'gpt2'") == "model"
    assert seen == asked


def test_a_damaged_shipped_model_is_refused(monkeypatch, tmp_path):
    shutil.copytree(DATA / "models/tinyworld-gpt2", tmp_path / "models/tinyworld-gpt2")
    weights = tmp_path / "models/tinyworld-gpt2/model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    monkeypatch.setattr(models, "DATA", tmp_path)
    with pytest.raises(ValueError, match=r"tinyworld-gpt2 is damaged: .*model\.safetensors"):
        models.load_causal_lm()


def test_the_encoder_is_the_published_minilm():
    encoder = models.load_sentence_encoder()
    cat, feline, weather = encoder.encode(["A cat sleeps.", "A feline is asleep.", "Inflation rose in March."])
    assert cat.shape == (384,)
    assert cat @ cat == pytest.approx(1, abs=1e-5)
    assert cat @ feline > 0.6 > 0.3 > cat @ weather


def test_an_encoder_with_other_weights_is_refused(monkeypatch):
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="not the published all-MiniLM-L6-v2"):
        models.load_sentence_encoder()
