"""Tokens against sacrebleu and rouge-score, stems against nltk, and what is refused as a corpus."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from rouge_score import tokenize as rouge
from sacrebleu.metrics.bleu import _get_tokenizer
from sacrebleu.metrics.helpers import extract_word_ngrams

from studyguide.text.ngrams import check_corpus, count_ngrams, stem, tokenize

# What trips tokenizers: points beside digits, entities, line ends, white space that is not a space, scripts, symbols.
PIECES = [*"ab19 .,-'\"&;<>\n\t$[]_{}~", "..", "1,000.5", "don't", "&amp;", "&lt;skipped&gt;", "<skipped>", "-\n"]
PIECES += ["\x1c", "\x85", "\xa0", "\u3000", "قِطّة", "قط", "猫", "。", "ไม่", "é", "e\u0301", "İ", "ß", "²", "١", "👍🏽"]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("name", "theirs"), [("13a", "13a"), ("intl", "intl"), ("char", "char"), ("whitespace", "none")]
)
@settings(deadline=None, max_examples=300)
@given(text=texts)
def test_tokens_are_those_of_sacrebleu(name, theirs, text):
    assert tokenize(text, name) == _get_tokenizer(theirs)()(text.rstrip()).split()


@pytest.mark.parametrize("stemmed", [False, True])
@settings(deadline=None, max_examples=200)
@given(text=texts | st.sampled_from(["The cats were running quickly, on 3 of 12 days.", "abaissiez sses ies eed"]))
def test_tokens_are_those_of_rouge_score(stemmed, text):
    assert tokenize(text, "rouge", stem=stemmed) == rouge.tokenize(text, PorterStemmer() if stemmed else None)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n", []),
        ("...!", []),
        ("The CAT, the café", ["the", "cat", "the", "café"]),
        ("Straße ＣＡＴ x²", ["strasse", "cat", "x2"]),
        ("القِطّة نائمة.", ["القِطّة", "نائمة"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("ไม่ใช่", ["ไม่ใช่"]),
        (
            "❤️ 3.5 km_h don't",
            ["3", "5", "km", "h", "don", "t"],
        ),  # the heart's variation selector is a mark without a letter
    ],
)
def test_unicode_keeps_words_of_any_script_whole(text, tokens):
    assert tokenize(text, "unicode") == tokens


@settings(deadline=None)
@given(text=texts)
def test_unicode_does_not_tell_case_and_unicode_forms_apart(text):
    tokens = tokenize(text, "unicode")
    assert tokenize(unicodedata.normalize("NFD", text), "unicode") == tokens
    assert all(re.fullmatch(r"\S+", token) for token in tokens)


def test_white_space_at_the_end_is_no_part_of_the_text():
    assert tokenize("in 1999.", "intl") == tokenize("in 1999. \n", "intl") == ["in", "1999."]


def test_case_is_kept_unless_asked():
    assert tokenize("The Cat", "13a") == ["The", "Cat"]
    assert tokenize("The Cat", "13a", lowercase=True) == ["the", "cat"]


@pytest.mark.parametrize("word", ["caresses", "ponies", "feed", "Relational", "be", "", "قطط", "happily"])
def test_stems_are_those_of_nltk(word):
    assert stem(word) == PorterStemmer().stem(word)


def test_stemming_a_text_spares_short_words():
    assert tokenize("flies was used", "whitespace", stem=True) == ["fli", "was", "use"]
    assert stem("was") == "wa"


@settings(deadline=None)
@given(tokens=st.lists(st.sampled_from("abc"), max_size=9), n=st.integers(1, 5))
def test_ngrams_are_counted_as_sacrebleu_counts_them(tokens, n):
    counts = count_ngrams(tokens, n)
    assert {" ".join(gram): count for gram, count in counts.items()} == extract_word_ngrams(tokens, n)
    assert counts.total() == max(len(tokens) - n + 1, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tokenize(None), TypeError, "text is None"),
        (lambda: tokenize(["a"]), TypeError, "text is"),
        (lambda: tokenize("a", "14a"), ValueError, "tokenizer is '14a'; expected one of '13a'"),
        (lambda: count_ngrams("the cat", 2), TypeError, "tokens is the str 'the cat'; expected a list"),
        (lambda: count_ngrams(["a"], 0), ValueError, "n is 0"),
        (lambda: count_ngrams(["a"], 1.5), TypeError, "n is 1.5"),
        (lambda: check_corpus("a cat", [["a cat"]]), TypeError, "hypotheses is the str 'a cat'; expected a list of"),
        (lambda: check_corpus(["a cat"], "a cat"), TypeError, "references is the str 'a cat'; expected for each"),
        (lambda: check_corpus(["a cat"], ["a cat"]), TypeError, "references[0] is the str 'a cat'; expected a list"),
        (lambda: check_corpus(["a"], [None]), TypeError, "references[0] is None; expected a list of texts"),
        (lambda: check_corpus(3, [["a"]]), TypeError, "hypotheses is 3"),
        (lambda: check_corpus([None], [["a"]]), TypeError, "hypotheses[0] is None; expected a str"),
        (lambda: check_corpus(["a", "b"], [["a"], ["b", 3]]), TypeError, "references[1][1] is 3"),
        (lambda: check_corpus([], []), ValueError, "hypotheses is empty"),
        (lambda: check_corpus(["a"], [["a"], ["b"]]), ValueError, "there are 1 hypotheses and 2 lists of references"),
        (lambda: check_corpus(["a", "b"], [["a", "b"]]), ValueError, "expected one list of references per hypothesis"),
        (lambda: check_corpus(["a", "b"], [["a"], []]), ValueError, "references[1] is empty"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_any_iterable_of_texts_is_a_corpus():
    assert check_corpus((text for text in ("a", "")), (("x",), iter(["y", "z"]))) == (["a", ""], [["x"], ["y", "z"]])
