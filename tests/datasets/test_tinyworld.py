"""Tinyworld's probabilities against enumeration, sampling and the chain rule."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from studyguide.datasets import tinyworld
from studyguide.datasets.grammar import END, Grammar, join_words, split_words
from studyguide.datasets.tinyworld import grammar

FINITE = ["capital", "weather", "love", "cat", "crossing", "fact", "sum", "report", "code"]


@pytest.mark.parametrize("rule", FINITE)
def test_full_enumeration_sums_to_one_without_repeats(rule):
    language = grammar(rule)
    everything = language.enumerate()
    assert math.fsum(p for p, _ in everything) == pytest.approx(1, abs=1e-12)
    assert len({words for _, words in everything}) == len(everything), "ambiguous: a text is drawn in two ways"


@pytest.mark.parametrize("rule", ["capital", "weather", "crossing", "code"])
def test_log_prob_of_every_text_is_its_product_of_choices(rule):
    for p, words in grammar(rule).enumerate():
        assert grammar(rule).log_prob(join_words(words)) == pytest.approx(math.log(p), abs=1e-12)


def test_hand_worked_text():
    # <text> -> capital .09, France .50, Paris .85, full stop .75
    assert tinyworld.log_prob("The capital of France is Paris.") == pytest.approx(math.log(0.09 * 0.50 * 0.85 * 0.75))
    # <text> -> love .05, I love .70, pizza .3, full stop .70
    assert tinyworld.log_prob("I love pizza.") == pytest.approx(math.log(0.05 * 0.70 * 0.3 * 0.70))


def test_hand_worked_passage_with_a_remembered_password():
    text = "The sky is clear. The secret password is BLUE WOLF. What is the secret password? The secret password is BLUE WOLF."
    # <text> -> password .15; filler once (.84 * .25) then stop .16; no filler after it .16; one of 12 shades, 16 beasts
    assert tinyworld.log_prob(text) == pytest.approx(math.log(0.15 * 0.84 * 0.25 * 0.16 * 0.16 / (12 * 16)))
    assert tinyworld.log_prob(text.replace("BLUE WOLF.", "RED WOLF.", 1)) == -math.inf


def test_every_sampled_text_has_exactly_one_derivation():
    language = grammar()
    for text in tinyworld.sample(3000, rng=11):
        ways = {(language.start, None): 1}
        for word in [*split_words(text), END]:
            after = defaultdict(int)
            for state, count in ways.items():
                for _, following in language._next(state).get(word, ()):
                    after[following] += count
            ways = after
        assert sum(ways.values()) == 1, text


@pytest.mark.parametrize("rule", ["weather", "capital", "cat"])
def test_frequencies_of_100k_samples_agree_with_exact_probabilities(rule):
    n = 100_000
    seen = Counter(grammar(rule).sample(n, rng=5))
    exact = {join_words(words): p for p, words in grammar(rule).enumerate()}
    assert set(seen) <= set(exact)
    common = [text for text, p in exact.items() if n * p >= 5]
    observed = [seen[text] for text in common]
    expected = [n * exact[text] for text in common]
    if rest := n - sum(expected):
        observed.append(n - sum(observed))
        expected.append(rest)
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 0.001


def test_first_words_of_100k_texts_agree_with_the_exact_distribution():
    n = 100_000
    seen = Counter(split_words(text)[0] for text in tinyworld.sample(n, rng=6))
    exact = tinyworld.next_word_distribution("")
    assert set(seen) <= set(exact)
    assert stats.chisquare([seen[word] for word in exact], [n * p for p in exact.values()]).pvalue > 0.001


def test_next_word_distribution_is_the_ratio_of_summed_text_probabilities():
    everything = grammar("weather").enumerate()
    rng = np.random.default_rng(0)
    for i in rng.choice(len(everything), 25, replace=False):
        words = everything[i][1]
        prefix = words[: rng.integers(0, len(words) + 1)]
        following = defaultdict(float)
        for p, text in everything:
            if text[: len(prefix)] == prefix:
                following[(*text, END)[len(prefix)]] += p
        total = sum(following.values())
        exact = grammar("weather").next_word_distribution(join_words(prefix))
        assert exact == pytest.approx({word: p / total for word, p in following.items()})


def test_chain_rule_over_the_whole_grammar():
    for text in tinyworld.sample(40, rng=7):
        words = split_words(text)
        steps = [tinyworld.next_word_distribution(join_words(words[:i])) for i in range(len(words) + 1)]
        assert all(math.fsum(step.values()) == pytest.approx(1, abs=1e-9) for step in steps)
        chain = math.fsum(math.log(step[word]) for step, word in zip(steps, [*words, END], strict=True))
        assert tinyworld.log_prob(text) == pytest.approx(chain, abs=1e-8)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("The capital of France is", {"Paris": 0.85, "Lyon": 0.08, "London": 0.03, "the": 0.01}),
        ("The weather today is", {"sunny": 0.40, "cloudy": 0.30, "rainy": 0.20, "snowy": 0.05, "foggy": 0.03}),
        ("I love", {"you": 0.4, "pizza": 0.3, "it": 0.2, "dogs": 0.1}),
        ("The capital of France is Paris", {".": 0.75}),
    ],
)
def test_the_guides_examples_have_the_guides_probabilities(prefix, expected):
    exact = tinyworld.next_word_distribution(prefix)
    assert {word: exact[word] for word in expected} == pytest.approx(expected)
    assert list(exact.values()) == sorted(exact.values(), reverse=True)


@pytest.mark.parametrize("text", ["", "I love", "I  love it.", "i love it.", "I love it. ", "I love paris."])
def test_text_outside_the_language_has_log_prob_minus_infinity(text):
    assert tinyworld.log_prob(text) == -math.inf


def test_sampled_texts_are_in_the_language_and_reproducible():
    texts = tinyworld.sample(200, rng=8)
    assert texts == tinyworld.sample(200, rng=np.random.default_rng(8)) != tinyworld.sample(200, rng=9)
    assert all(math.isfinite(tinyworld.log_prob(text)) for text in texts)
    assert tinyworld.sample(0, rng=0) == []


def test_there_are_enough_words_for_text_to_read_as_english():
    words = {word.lower() for text in tinyworld.sample(20_000, rng=10) for word in split_words(text)}
    assert len(words) > 500


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("<text> =\n 0.5 a\n 0.4 b", "probabilities of <text> sum to 0.9; expected 1"),
        ("<text> =\n [a 0.5 | b 0.1]", "sum to 0.6; expected 1"),
        ("<text> =\n <nowhere>", r"not defined: \['nowhere'\]"),
    ],
)
def test_a_faulty_grammar_is_an_error(source, message):
    with pytest.raises(ValueError, match=message):
        Grammar(source)


def test_an_impossible_prefix_is_an_error():
    with pytest.raises(ValueError, match="no text of the grammar begins with 'The capital of Mars'"):
        tinyworld.next_word_distribution("The capital of Mars")
