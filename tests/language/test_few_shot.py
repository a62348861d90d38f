"""Prompts and matching written out by hand; greedy answers against transformers' own generation."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from studyguide.datasets import path
from studyguide.language.few_shot import cut_at_stop, evaluate_few_shot, exact_match, few_shot_prompt, normalise_answer
from studyguide.models import load_causal_lm

PLAIN = {"template": "{input} {output}.", "separator": "\n", "stop": (".", ","), "max_new_tokens": 6}


@pytest.fixture(scope="module")
def lm():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    return model.double(), tokenizer


@pytest.fixture(scope="module")
def pairs():
    """The capital of each country, once."""
    lines = path("benchmarks/tinyworld_capitals.jsonl").read_text(encoding="utf-8").splitlines()[::4]
    items = [json.loads(line) for line in lines]
    return [(item["prompt"], item["choices"][item["answer"]].split(",")[0].rstrip(".")) for item in items]


# The prompt


def test_a_prompt_written_out():
    prompt = few_shot_prompt([("great film", "positive"), ("dull", "negative")], "so so")
    assert prompt == "Input: great film\nOutput: positive\n\nInput: dull\nOutput: negative\n\nInput: so so\nOutput:"
    assert few_shot_prompt([], "so so") == "Input: so so\nOutput:"
    assert few_shot_prompt([("2 + 2", "4")], "3 + 3", "{input} = {output}", "; ") == "2 + 2 = 4; 3 + 3 ="


def test_braces_in_a_text_are_text():
    assert (
        few_shot_prompt([("{x}", "{output}")], "{input}") == "Input: {x}\nOutput: {output}\n\nInput: {input}\nOutput:"
    )


@pytest.mark.parametrize(
    ("shots", "question", "template", "error", "problem"),
    [
        ([("a", 1)], "q", None, TypeError, r"shots\[0\] has the output 1, int; expected text"),
        ([("a", "b"), (None, "c")], "q", None, TypeError, r"shots\[1\] has the input None"),
        ([("a",)], "q", None, ValueError, r"shots\[0\] is \('a',\); expected a pair"),
        (["ab"], "q", None, ValueError, r"shots\[0\] is 'ab'; expected a pair"),
        ([("a", " . ")], "q", None, ValueError, "more than marks"),
        ([], "", None, ValueError, "question is ''"),
        ([], 7, None, ValueError, "question is 7"),
        ([], "q", "{input}", ValueError, "expected {input}, then {output}"),
        ([], "q", "{output} {input}", ValueError, "expected {input}, then {output}"),
    ],
)
def test_prompts_that_cannot_be_made(shots, question, template, error, problem):
    with pytest.raises(error, match=problem):
        few_shot_prompt(shots, question, **({"template": template} if template else {}))


# Matching


@pytest.mark.parametrize(
    ("text", "stop", "cut"),
    [
        (" positive\n\nInput: next", ("\n",), "positive"),
        ("\n\npositive\nInput", ("\n",), "positive"),
        ("Paris, and it is", (".", ","), "Paris"),
        ("Paris", (".",), "Paris"),
        ("Paris.", (), "Paris."),
        ("", ("\n",), ""),
        (".Paris", (".",), ""),
    ],
)
def test_cutting(text, stop, cut):
    assert cut_at_stop(text, stop) == cut


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        (" Positive. ", "positive"),
        ('"New  York!"', "new york"),
        ("“Paris”,", "paris"),
        ("-0.5", "-0.5"),
        ("3.14.", "3.14"),
        ("ＰＡＲＩＳ", "paris"),
        ("Straße", "strasse"),
        ("don't", "don't"),
        ("باريس.", "باريس"),
        ("...", ""),
    ],
)
def test_normalising(text, normal):
    assert normalise_answer(text) == normal


@given(st.text())
@settings(deadline=None)
def test_normalising_twice_changes_nothing(text):
    once = normalise_answer(text)
    assert normalise_answer(once) == once


def test_matching_is_exact():
    assert exact_match(" Positive.\n\nInput: x", "positive")
    assert not exact_match(" positively", "positive")
    assert not exact_match(" not positive", "positive")
    assert not exact_match("", "positive")
    assert not exact_match(" positive\n\nInput: x", "positive", stop=())


# Evaluation


def test_greedy_answers_are_those_of_transformers(lm, pairs):
    model, tokenizer = lm
    result = evaluate_few_shot(model, tokenizer, pairs[:4], pairs[4:], 2, orders=3, rng=0, batch_size=5, **PLAIN)
    for order, predictions in zip(result.shown.tolist(), result.predictions, strict=True):
        for (question, _), ours in zip(pairs[4:], predictions, strict=True):
            shots = [pairs[i] for i in order]
            text = "\n".join([*(f"{x} {y}." for x, y in shots), question])
            ids = tokenizer(text, return_tensors="pt").input_ids
            theirs = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
            assert ours == tokenizer.decode(theirs, skip_special_tokens=True)


def test_accuracy_mean_and_spread_by_hand(lm, pairs):
    result = evaluate_few_shot(*lm, pairs[:6], pairs[6:], 2, orders=6, rng=0, **PLAIN)
    expected = [
        [
            prediction.strip().split(".")[0].split(",")[0].lower() == y.lower()
            for prediction, (_, y) in zip(p, pairs[6:], strict=True)
        ]
        for p in result.predictions
    ]
    np.testing.assert_array_equal(result.correct, expected)
    np.testing.assert_allclose(result.accuracy, np.mean(expected, 1))
    assert result.mean == pytest.approx(np.mean(expected))
    assert result.spread == pytest.approx(np.std(np.mean(expected, 1), ddof=1))
    assert result.spread > 0


def test_without_shots_the_model_knows_every_capital(lm, pairs):
    result = evaluate_few_shot(*lm, [], pairs, 0, orders=2, rng=0, **PLAIN)
    assert result.accuracy.tolist() == [1, 1]
    assert result.shown.shape == (2, 0)


def test_orders_are_reproducible_and_have_no_repeated_shot(lm, pairs):
    one, same, other = (
        evaluate_few_shot(*lm, pairs[:6], pairs[6:8], 3, orders=5, rng=rng, **PLAIN).shown for rng in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(len(set(order)) == 3 for order in one.tolist())
    source = torch.Generator().manual_seed(0)
    torch.testing.assert_close(evaluate_few_shot(*lm, pairs[:6], pairs[6:8], 3, 5, rng=source, **PLAIN).shown, one)


def test_the_batch_size_does_not_matter(lm, pairs):
    results = [
        evaluate_few_shot(*lm, pairs[:3], pairs[3:], 1, orders=2, rng=0, batch_size=size, **PLAIN).predictions
        for size in (1, 4, 100)
    ]
    assert all(a == b for a, b in itertools.pairwise(results))


def test_shots_that_leak_are_refused(lm, pairs):
    with pytest.raises(ValueError, match=r"1 of the pairs .* shots\[2\] into items\[0\] \(exact: 'the capital of"):
        evaluate_few_shot(*lm, pairs[:3], pairs[2:], 1, orders=2, rng=0, **PLAIN)
    shouted = [(pairs[2][0].upper() + " ?", pairs[2][1])]
    with pytest.raises(ValueError, match="leak"):
        evaluate_few_shot(*lm, shouted, pairs, 1, orders=2, rng=0, **PLAIN)


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"items": []}, ValueError, "items is empty"),
        ({"items": [("A week has", 7)]}, TypeError, r"items\[0\] has the output 7, int; expected text"),
        ({"k": 3}, ValueError, "k is 3; expected 0 to 2"),
        ({"k": -1}, ValueError, "k is -1"),
        ({"k": 1.5}, ValueError, "k is 1.5"),
        ({"orders": 1}, ValueError, "orders is 1; expected at least 2"),
        ({"orders": "many"}, TypeError, "orders is 'many'"),
        ({"rng": None}, TypeError, "rng is None"),
        ({"items": [("The sky is clear. " * 90, "yes")]}, ValueError, "positions"),
    ],
)
def test_what_cannot_be_evaluated(lm, changes, error, problem):
    arguments = {
        "shots": [("A spider has", "eight"), ("A hand has", "five")],
        "items": [("A week has", "seven")],
        "k": 1,
        "orders": 2,
        "rng": 0,
    }
    with pytest.raises(error, match=problem):
        evaluate_few_shot(*lm, **(arguments | changes))
