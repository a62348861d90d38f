"""The needle grid against a reader whose recall is known, against transformers' greedy decoding, and against statsmodels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from studyguide.datasets.tinyworld import grammar
from studyguide.language.context import QUESTION, STATEMENT, needle_grid, needle_lengths, needle_passages, recall
from studyguide.models import load_causal_lm

SENTENCES = {" ".join(words).replace(" .", ".") for _, words in grammar("filler sentence").enumerate()}
CODES = {" ".join(words) for _, words in grammar("code").enumerate()}


@pytest.fixture(scope="module")
def lm():
    return load_causal_lm("tinyworld-gpt2")


@pytest.fixture(scope="module")
def doodle():
    """An untrained GPT-2 with 40 tokens and 20 positions."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=40,
        n_positions=20,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config).double().eval()


class Letters:
    """A tokenizer with one token per letter, or per `size` of them: few sentences add up to a given length."""

    def __init__(self, size=1):
        self.size = size

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        pieces = [text[i : i + self.size] for i in range(0, len(text), self.size)]
        return SimpleNamespace(input_ids=[sum(ord(c) << 8 * i for i, c in enumerate(piece)) for piece in pieces])

    def decode(self, ids):
        texts = [[chr(i >> 8 * j & 255) for j in range(self.size)] for i in ids.tolist()]
        return "".join(c for text in texts for c in text).replace("\0", "")


class Reader:
    """A model of letters that finds the statement if it begins in the last `memory` tokens, and copies what follows it."""

    training, device = False, torch.device("cpu")

    def __init__(self, memory):
        self.memory, self.config = memory, SimpleNamespace(max_position_embeddings=10_000)

    def __call__(self, ids, attention_mask, logits_to_keep):
        assert attention_mask.all()
        logits = torch.zeros(*ids.shape, 128, dtype=torch.float64)
        for row, text in zip(logits, map(Letters().decode, ids), strict=True):
            end = text.index(QUESTION) + len(QUESTION)
            start = text.index(STATEMENT)
            if end - start <= self.memory:
                for i, letter in enumerate(text[start + len(STATEMENT) : text.index(".", start)]):
                    if end - 1 + i < len(text):
                        row[end - 1 + i, ord(letter)] = 50.0
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])


# Passages


@pytest.mark.parametrize("depth", [0, 0.2, 0.5, 0.9, 1])
@pytest.mark.parametrize("length", [17, 22, 64, 255])
def test_a_passage_is_filler_the_statement_and_the_question(lm, depth, length):
    _, tokenizer = lm
    passages = needle_passages(tokenizer, depth, length, 6, rng=3)
    assert passages.prompts.shape == (6, length)
    assert len(passages.answers) == len(passages.starts) == 6
    for prompt, answer, start in zip(passages.prompts, passages.answers, passages.starts, strict=True):
        password = tokenizer.decode(answer).strip()
        statement = f"{STATEMENT} {password}."
        before, after = tokenizer.decode(prompt).split(statement)
        assert password in CODES
        assert after.endswith(QUESTION)
        sentences = (before + after.removesuffix(QUESTION)).replace(".", ".|").split("|")
        assert {sentence.strip() for sentence in sentences if sentence} <= SENTENCES
        assert tokenizer.decode(prompt[start:]).startswith(statement)


@pytest.mark.parametrize("depth", [0, 0.1, 0.25, 0.5, 0.75, 1])
def test_the_depth_is_met_to_within_half_a_sentence(lm, depth):
    for length in (64, 128, 200, 255):
        room = length - 7 - 10  # tokens of the statement and of the question
        starts = needle_passages(lm[1], depth, length, 3, rng=0).starts.double()
        assert (starts - depth * room).abs().max() <= 3


def test_filler_is_drawn_as_the_grammar_draws_it(lm):
    _, tokenizer = lm
    text = " ".join(map(tokenizer.decode, needle_passages(tokenizer, 0.5, 255, 60, rng=0).prompts))
    counts = {sentence: text.count(sentence) for sentence in SENTENCES}
    share = counts["The sky is clear."] / sum(counts.values())
    assert share == pytest.approx(0.25, abs=0.04)  # about 2700 sentences: a standard error of 0.01


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("depth", [0, 0.3, 1])
def test_lengths_are_exact_where_no_sentences_add_up(size, depth):
    tokenizer = Letters(size)
    shortest = needle_lengths(Reader(0), tokenizer)[0]
    for length in (shortest, shortest + 1, shortest + 7, shortest + 40, shortest + 41):
        passages = needle_passages(tokenizer, depth, length, 3, rng=1)
        assert passages.prompts.shape == (3, length)
        for prompt, answer, start in zip(passages.prompts, passages.answers, passages.starts, strict=True):
            text = tokenizer.decode(prompt)
            statement = f"{STATEMENT}{tokenizer.decode(torch.tensor(answer))}."
            assert tokenizer.decode(prompt[start:]).startswith(statement)
            before, after = text.split(statement)
            assert after.endswith(QUESTION)
            whole = [part.strip() for part in after.removesuffix(QUESTION).replace(".", ".|").split("|") if part]
            assert set(whole) <= SENTENCES
            first, *others = [part.strip() for part in before.replace(".", ".|").split("|") if part] or [""]
            assert set(others) <= SENTENCES
            assert any(sentence.endswith(first) for sentence in SENTENCES)


def test_the_seed_decides(lm):
    _, tokenizer = lm
    one, same, other = (needle_passages(tokenizer, 0.5, 64, 4, rng=seed) for seed in (7, 7, 8))
    assert torch.equal(one.prompts, same.prompts)
    assert one.answers == same.answers
    assert not torch.equal(one.prompts, other.prompts)
    source = torch.Generator().manual_seed(7)
    first, second = (needle_passages(tokenizer, 0.5, 64, 4, rng=source) for _ in range(2))
    assert torch.equal(first.prompts, one.prompts)
    assert not torch.equal(first.prompts, second.prompts)


def test_the_shortest_and_the_longest_prompt_work_and_no_other(lm):
    model, tokenizer = lm
    shortest, longest = needle_lengths(model, tokenizer)
    assert (shortest, longest) == (4 + 2 + 1 + 10, 256 + 1 - 2)
    needle_grid(model, tokenizer, [0.5], [shortest, longest], 1, rng=0)
    for length, message in (
        (shortest - 1, "length is 16; expected at least 17"),
        (longest + 1, "at most 257 together"),
    ):
        with pytest.raises(ValueError, match=message):
            needle_grid(model, tokenizer, [0.5], [length], 1, rng=0)


# Recall


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 14), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_what_greedy_decoding_writes_is_recalled(doodle, length, steps, n, seed):
    prompts = torch.randint(1, 40, (n, length), generator=torch.Generator().manual_seed(seed))
    greedy = {"do_sample": False, "max_new_tokens": steps, "pad_token_id": 0}
    sequences = doodle.generate(prompts, attention_mask=torch.ones_like(prompts), **greedy)
    answers = sequences[:, length:]
    found, probability = recall(doodle, prompts, answers.tolist())
    assert found.all()
    with torch.no_grad():
        p = doodle(sequences).logits.softmax(-1)[:, length - 1 : -1].gather(-1, answers[..., None])
    torch.testing.assert_close(probability, p[..., 0].prod(-1))
    wrong = answers.clone()
    wrong[:, seed % steps] = (wrong[:, seed % steps] + 1) % 40
    assert not recall(doodle, prompts, wrong.tolist())[0].any()


def test_answers_of_unequal_length_and_batches_do_not_disturb_each_other(doodle):
    prompts = torch.randint(40, (5, 9), generator=torch.Generator().manual_seed(0))
    answers = [[1], [2, 3, 4], [5, 6], [7], [8, 9, 10, 11]]
    alone = [recall(doodle, prompt[None], [answer]) for prompt, answer in zip(prompts, answers, strict=True)]
    for batch_size in (1, 2, 5, 9):
        found, probability = recall(doodle, prompts, answers, batch_size)
        assert found.tolist() == [one.item() for one, _ in alone]
        torch.testing.assert_close(probability, torch.cat([p for _, p in alone]))


def test_probability_by_hand():
    class Fixed:
        training, device = False, torch.device("cpu")
        config = SimpleNamespace(max_position_embeddings=4)

        def __call__(self, ids, attention_mask, logits_to_keep):
            p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], dtype=torch.float64)
            return SimpleNamespace(logits=p.log().expand(len(ids), 2, 3)[:, -logits_to_keep:])

    found, probability = recall(Fixed(), torch.tensor([[2], [2], [2]]), [[0, 1], [1, 1], [0, 2]])
    assert found.tolist() == [True, False, False]  # only 0, then 1 is the favourite twice
    torch.testing.assert_close(probability, torch.tensor([0.5 * 0.8, 0.3 * 0.8, 0.5 * 0.1], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_half_precision_is_computed_in_float32(doodle, dtype):
    model = transformers.GPT2LMHeadModel(doodle.config).to(dtype).eval()
    model.load_state_dict(doodle.state_dict())
    _, probability = recall(model, torch.tensor([[1, 2, 3]]), [[4, 5]])
    assert probability.dtype == torch.promote_types(dtype, torch.float32)
    assert 0 < probability < 1


# The grid


@pytest.mark.parametrize("memory", [0, 100, 160, 250, 1000])
def test_a_reader_with_a_known_memory_gets_what_it_must(memory):
    depths, lengths = [0, 0.25, 0.5, 0.75, 1], [120, 180, 240]
    grid = needle_grid(Reader(memory), Letters(), depths, lengths, 4, rng=0)
    distance = torch.tensor(lengths)[None, :, None] - grid.starts
    assert torch.equal(grid.recalled, distance <= memory)
    assert grid.recalled.shape == grid.probability.shape == grid.starts.shape == (5, 3, 4)
    assert (grid.probability[grid.recalled] > 0.999).all()
    assert (grid.probability[~grid.recalled] < 1e-6).all()


def test_keep_is_what_the_model_reads_of_the_same_passages(lm):
    model, tokenizer = lm
    grid = needle_grid(*lm, [0, 1], [60, 90], 3, rng=4, keep=lambda prompts: prompts[:, -50:])
    source = torch.Generator().manual_seed(4)
    cells = [needle_passages(tokenizer, depth, length, 3, source) for depth in (0, 1) for length in (60, 90)]
    for i, cell in enumerate(cells):
        found, probability = recall(model, cell.prompts[:, -50:], cell.answers)
        assert torch.equal(grid.recalled.flatten(0, 1)[i], found)
        torch.testing.assert_close(grid.probability.flatten(0, 1)[i], probability)
    assert grid.recall.estimate.tolist() == [[0, 0], [1, 1]]


def test_intervals_equal_statsmodels():
    grid = needle_grid(Reader(160), Letters(), [0, 0.2, 0.4, 1], [120, 150, 180], 7, rng=0)
    counts = grid.recalled.sum(-1).numpy()
    low, high = proportion_confint(counts, 7, method="wilson")
    np.testing.assert_allclose(grid.recall.estimate.numpy(), counts / 7, rtol=0, atol=1e-12)
    np.testing.assert_allclose(grid.recall.low.numpy(), low, rtol=0, atol=1e-10)
    np.testing.assert_allclose(grid.recall.high.numpy(), high, rtol=0, atol=1e-10)


def test_the_shipped_model_recalls_up_to_four_fifths_of_its_context(lm):
    grid = needle_grid(*lm, [0, 0.5, 1], [40, 120, 200], 8, rng=11)
    assert grid.recalled.double().mean() >= 0.95
    assert grid.depths.tolist() == [0, 0.5, 1]
    assert grid.lengths.tolist() == [40, 120, 200]
    assert grid.recall.estimate.shape == grid.recall.low.shape == (3, 3)


def test_the_grid_is_reproducible_and_its_cells_differ(lm):
    one, same = (needle_grid(*lm, [0.5, 0.5], [40], 3, rng=5) for _ in range(2))
    assert torch.equal(one.probability, same.probability)
    assert not torch.equal(one.probability[0], one.probability[1])
    source = torch.Generator().manual_seed(5)
    assert torch.equal(needle_grid(*lm, [0.5, 0.5], [40], 3, rng=source).probability, one.probability)


def test_tensors_and_arrays_serve_as_depths_and_lengths(lm):
    grid = needle_grid(*lm, torch.tensor([0.0, 1.0]), np.array([40, 60]), 1, rng=0)
    assert grid.recalled.shape == (2, 2, 1)


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depths": [1.01]}, ValueError, r"depth is 1\.01; expected 0"),
        ({"depths": [-0.1]}, ValueError, r"depth is -0\.1"),
        ({"depths": [float("nan")]}, ValueError, "depth is nan"),
        ({"depths": []}, ValueError, "0 depths and 1 lengths"),
        ({"lengths": []}, ValueError, "1 depths and 0 lengths"),
        ({"lengths": [5]}, ValueError, "length is 5; expected at least 17 tokens"),
        ({"lengths": [300]}, ValueError, "prompts have 300 tokens .* the model has 256 positions"),
        ({"lengths": [40.5]}, TypeError, "length is 40.5; expected an integer"),
        ({"n": 0}, ValueError, "n is 0"),
        ({"n": 2.0}, TypeError, "n is 2.0"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"rng": None}, TypeError, "rng is None"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_bad_input_names_the_argument(lm, arguments, error, message):
    good = {"depths": [0.5], "lengths": [40], "n": 1, "rng": 0}
    with pytest.raises(error, match=message):
        needle_grid(*lm, **good | arguments)


def test_a_kept_prompt_may_be_longer_than_the_model_reads_only_before_it_is_cut(lm):
    grid = needle_grid(*lm, [1], [600], 2, rng=0, keep=lambda prompts: prompts[:, -40:])
    assert grid.recalled.all()


@pytest.mark.parametrize(
    ("prompts", "answers", "message"),
    [
        (torch.ones(2, 3, dtype=torch.long), [[1]], "2 prompts and 1 answers"),
        (torch.ones(0, 3, dtype=torch.long), [], "0 prompts and 0 answers"),
        (torch.ones(2, 3, dtype=torch.long), [[1], []], "none empty"),
        (torch.ones(1, 19, dtype=torch.long), [[1, 2, 3]], "19 tokens and answers up to 3; expected at most 21"),
    ],
)
def test_recall_refuses_what_it_cannot_read(doodle, prompts, answers, message):
    with pytest.raises(ValueError, match=message):
        recall(doodle, prompts, answers)


def test_a_model_in_training_mode_is_refused(doodle):
    model = transformers.GPT2LMHeadModel(doodle.config).train()
    with pytest.raises(ValueError, match="training mode"):
        recall(model, torch.ones(1, 3, dtype=torch.long), [[1]])


# The GPU


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(lm, cuda):
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    here = needle_grid(*lm, [0, 1], [40, 200], 4, rng=0)
    there = needle_grid(model.to(cuda), tokenizer, [0, 1], [40, 200], 4, rng=0)
    for name in ("depths", "lengths", "recalled", "probability", "starts"):
        assert getattr(there, name).device.type == "cuda"
    assert torch.equal(there.recalled.cpu(), here.recalled)
    assert torch.equal(there.starts.cpu(), here.starts)
    torch.testing.assert_close(there.probability.cpu(), here.probability, rtol=1e-4, atol=1e-4)
    assert there.recall.low.device.type == "cuda"
