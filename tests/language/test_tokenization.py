"""BPE against `tokenizers`, the vocabularies against tiktoken's own ids and its rule on ranks, fertility by hand."""

import hashlib
import json
import random
import unicodedata
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, logging
from transformers.convert_slow_tokenizer import bytes_to_unicode

from studyguide import models as course_models
from studyguide.course import table
from studyguide.datasets import path, tinyworld
from studyguide.language.tokenization import (
    PATTERNS,
    STAND_INS,
    bpe_decode,
    bpe_encode,
    compare_tokenizers,
    fertility,
    human_rights,
    load_merges,
    load_tokenizer,
    train_bpe,
)

BUILD = "tokenizers/build.py"
PUBLISHED = ["gpt2", "cl100k", "o200k"]
properties = settings(deadline=None, max_examples=100)
loaded = cache(load_tokenizer)
BYTE = {character: byte for byte, character in bytes_to_unicode().items()}
TEXTS = [
    "Internationalization",
    "I18n",
    "你好世界",
    "The unhappiness is unbearable",
    "AI/ML is transforming industries",
    "It's 12345.678 km,\r\n\n  don't  ask! ",
    "CAN'T Stop",
    "naïve café é",
    "สวัสดี 🙂🏳️‍🌈",
    "\tif x == 1:\n\t\treturn",
    "2024-01-31, 1234567890 ١٢٣٤٥",
]
TIKTOKEN = {  # what tiktoken 0.14.0 gives for TEXTS
    "gpt2": [
        [24274, 1634],
        [40, 1507, 77],
        [19526, 254, 25001, 121, 10310, 244, 45911, 234],
        [464, 14274, 42661, 318, 45253],
        [20185, 14, 5805, 318, 25449, 11798],
        [1026, 338, 17031, 2231, 13, 30924, 10571, 11, 201, 628, 220, 836, 470, 220, 1265, 0, 220],
        [44565, 6, 51, 13707],
        [2616, 38776, 40304, 38251],
        [
            *(19567, 103, 19567, 100, 19567, 109, 19567, 103, 19567, 242, 19567, 113),
            *(32485, 8582, 237, 111, 37929, 447, 235, 8582, 234, 230),
        ],
        [197, 361, 2124, 6624, 352, 25, 198, 197, 197, 7783],
        [
            *(1238, 1731, 12, 486, 12, 3132, 11, 17031, 2231, 30924, 3829),
            *(18923, 94, 149, 95, 149, 96, 149, 97, 149, 98),
        ],
    ],
    "cl100k": [
        [34746, 2065],
        [40, 972, 77],
        [57668, 53901, 3574, 244, 98220],
        [791, 31175, 67391, 374, 99930],
        [15836, 14, 2735, 374, 46890, 19647],
        [2181, 596, 220, 4513, 1774, 13, 17458, 13437, 11, 81923, 220, 1541, 956, 220, 2610, 0, 220],
        [43055, 17773, 14549],
        [3458, 38672, 588, 53050, 4046],
        [36748, 38313, 24152, 36748, 38133, 29419, 28584, 9468, 237, 111, 31643, 378, 235, 9468, 234, 230],
        [748, 865, 624, 220, 16, 512, 197, 862],
        [
            *(2366, 19, 12, 1721, 12, 2148, 11, 220, 4513, 10961, 16474, 15),
            *(220, 149, 94, 149, 95, 149, 96, 149, 97, 149, 98),
        ],
    ],
    "o200k": [
        [43804, 2860],
        [40, 1157, 77],
        [177519, 28428],
        [976, 137500, 117779, 382, 180365],
        [17527, 14, 4123, 382, 64779, 22751],
        [15834, 220, 7633, 2548, 13, 30833, 8571, 11, 46865, 220, 4128, 220, 3810, 0, 220],
        [74923, 51532, 22535],
        [1503, 9954, 737, 30469, 1212],
        [4406, 187986, 21883, 2293, 26192, 52622, 111, 15148, 2524, 64364, 230],
        [1224, 1215, 951, 220, 16, 734, 197, 1393],
        [1323, 19, 12, 2290, 12, 2911, 11, 220, 7633, 19354, 29338, 15, 220, 46600, 53184, 81473, 98713, 97336],
    ],
}
any_text = st.text(max_size=40)
few_letters = st.text(alphabet="ab é\n'1", max_size=40)  # many ties, many overlaps


def trained_by_tokenizers(texts, n_merges):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=256 + n_merges, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def to_bytes(token):
    return bytes(BYTE[character] for character in token)


def merges_of(tokenizer):
    return [(to_bytes(left), to_bytes(right)) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


# Training


@pytest.mark.parametrize(
    ("texts", "n_merges"),
    [
        (tinyworld.sample(400, rng=0), 500),
        ([text for [text] in human_rights().values()], 300),
        (["aaaa aaa aa a", "abababab", "a" * 50], 60),  # overlaps, and an end before 60 merges
        (["x = 1\n\n\n\tx  =  22222\r\n", "don't we'll I'M"], 60),
    ],
    ids=["tinyworld", "human rights", "overlaps", "white space"],
)
def test_the_merges_are_those_of_tokenizers(texts, n_merges):
    assert train_bpe(texts, n_merges) == merges_of(trained_by_tokenizers(texts, n_merges))


@given(texts=st.lists(any_text | few_letters, min_size=1, max_size=6), n_merges=st.integers(1, 40))
@properties
def test_the_merges_are_those_of_tokenizers_on_any_text(texts, n_merges):
    tokenizer = trained_by_tokenizers(texts, n_merges)
    merges = train_bpe(texts, n_merges)
    assert merges == merges_of(tokenizer)
    for text in texts:
        assert bpe_encode(text, merges) == [to_bytes(token) for token in tokenizer.encode(text).tokens]


def test_the_merges_of_lowest_and_newest_by_hand():
    # " lowest" twice, " newest" three times. (w, e), (e, s) and (s, t) stand five times, and e comes before s and w.
    # Then (w, es) and (es, t) five times, and w is an older token than es; then (wes, t) alone five times.
    # Then (space, n), (n, e) and (e, west) three times, and e comes before n and, as it prints, before the space.
    merges = train_bpe([" lowest lowest newest newest newest"], 4)
    assert merges == [(b"e", b"s"), (b"w", b"es"), (b"wes", b"t"), (b"e", b"west")]


def test_ties_go_to_the_smallest_ids_and_bytes_that_print_come_first():
    assert train_bpe(["ba", "ab"], 2) == [(b"a", b"b"), (b"b", b"a")]
    assert train_bpe(["z\u00e9", "\u00e9"], 1) == [(b"\xc3", b"\xa9")]  # counted twice
    assert train_bpe([" z"], 1) == train_bpe([" z", "~"], 1) == [(b" ", b"z")]
    assert train_bpe([" z", "zx"], 2) == [(b"z", b"x"), (b" ", b"z")]  # z prints, the space does not


def test_a_text_counts_once_for_each_copy_and_the_order_of_texts_is_nothing():
    texts = tinyworld.sample(50, rng=1)
    assert train_bpe(texts, 50) == train_bpe(texts[::-1], 50) == train_bpe(texts * 3, 50)


def test_shorter_training_is_the_beginning_of_longer_training():
    texts = tinyworld.sample(50, rng=2)
    assert train_bpe(texts, 30) == train_bpe(texts, 80)[:30]


def test_training_ends_when_nothing_is_left_to_merge():
    assert train_bpe(["ab"], 10) == [(b"a", b"b")]
    assert train_bpe(["a", ""], 10) == []


# Encoding


@given(any_text | few_letters)
@properties
def test_any_text_survives(text):
    merges = train_bpe(["abba é '1' 1a1a", "  a\n"], 20)
    assert bpe_decode(bpe_encode(text, merges)) == text
    assert bpe_decode(bpe_encode(text, [])) == text


def test_bytes_without_merges():
    assert bpe_encode("é!", []) == [b"\xc3", b"\xa9", b"!"]
    assert bpe_encode("", []) == []


def test_half_a_character_is_replaced():
    assert bpe_decode([b"\xe4\xbd"]) == "\ufffd"
    assert bpe_decode([]) == ""


@pytest.mark.parametrize("name", PUBLISHED)
def test_ours_encodes_with_published_merges(name):
    merges = load_merges(name)
    text = " ".join([*TEXTS, *(text for [text] in human_rights().values())])
    assert bpe_encode(text, merges, name) == list(map(to_bytes, loaded(name).encode(text).tokens))


# The published vocabularies


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_ids_are_those_of_tiktoken(name):
    assert [loaded(name).encode(text).ids for text in TEXTS] == TIKTOKEN[name]


@cache
def ranks_of(name):
    tokens = [*STAND_INS, *(left + right for left, right in load_merges(name))]
    return {token: rank for rank, token in enumerate(tokens)}


def encoded_by_rank(name, text):
    """tiktoken's rule: join the neighbours whose joined bytes have the lowest rank, whatever pair first made them."""
    ranks = ranks_of(name)
    ids = []
    for piece in regex.findall(PATTERNS[name], text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while joined := [ranks[a + b] for a, b in pairwise(parts) if a + b in ranks]:
            i = next(i for i, (a, b) in enumerate(pairwise(parts)) if ranks.get(a + b) == min(joined))
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.mark.parametrize("name", PUBLISHED)
@given(text=any_text | few_letters | st.text(st.characters(categories=["L", "N", "Z", "P"]), max_size=30))
@properties
def test_encoding_by_merges_is_encoding_by_ranks(name, text):
    tokenizer = loaded(name)
    ids = tokenizer.encode(text).ids
    assert ids == encoded_by_rank(name, text)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("name", "size", "end"), [("gpt2", 50_257, 50_256), ("cl100k", 100_257, 100_257), ("o200k", 199_999, 199_999)]
)
def test_sizes_and_the_end_mark(name, size, end):
    assert loaded(name).get_vocab_size() == size
    assert loaded(name).encode("a<|endoftext|>").ids == [loaded(name).token_to_id("a"), end]


def test_the_merges_of_gpt2_are_the_file_that_openai_published():
    published = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"  # tiktoken_ext/openai_public.py
    assert hashlib.sha256(path("tokenizers/gpt2.bpe").read_bytes()).hexdigest() == published


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_merge_follows_from_the_ranks(build, name):
    ranks = ranks_of(name)
    for left, right in random.Random(0).sample(load_merges(name), 2000):
        assert build.parts(left + right, ranks) == [left, right]


def test_build_refuses_a_file_that_is_not_published(build, tmp_path):
    (tmp_path / "ranks").write_text("IQ== 0\n")
    with pytest.raises(ValueError, match="none of tiktoken's rank files"):
        build.main([tmp_path / "ranks"])


def test_the_stand_ins_are_those_of_gpt2():
    assert {byte[0]: character for byte, character in STAND_INS.items()} == bytes_to_unicode()
    assert list(STAND_INS)[:2] == [b"!", b'"']
    assert list(STAND_INS)[-1] == b"\xad"


def test_an_unknown_name():
    for load in (load_tokenizer, load_merges):
        with pytest.raises(ValueError, match="'gpt3'; expected one of 'gpt2', 'cl100k', 'o200k'"):
            load("gpt3")


def test_wordpiece_takes_the_longest_beginning_that_it_knows():
    tokenizer = loaded("minilm")
    for word in ("unhappiness", "internationalization", "tokenizers", "unbelievably"):
        expected, rest = [], word
        while rest:
            mark = "##" if expected else ""
            end = max(end for end in range(1, len(rest) + 1) if tokenizer.token_to_id(mark + rest[:end]) is not None)
            expected, rest = [*expected, mark + rest[:end]], rest[end:]
        assert tokenizer.encode(word, add_special_tokens=False).tokens == expected


def test_wordpiece_neither_cuts_nor_pads_here():
    assert len(loaded("minilm").encode("word " * 600).ids) == 602
    assert len(loaded("minilm").encode("word").ids) == 3


def test_no_minilm(monkeypatch):
    monkeypatch.setattr("studyguide.language.tokenization.minilm_folder", lambda: None)
    with pytest.raises(FileNotFoundError, match="make setup"):
        load_tokenizer("minilm")


# The guide's numbers


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_abbreviation_costs_more(name):
    assert loaded(name).encode("Internationalization").tokens == ["International", "ization"]
    assert loaded(name).encode("I18n").tokens == ["I", "18", "n"]


@pytest.mark.parametrize("name", ["gpt2", "cl100k"])
def test_subwords_are_not_morphemes(name):
    tokens = loaded(name).encode("The unhappiness is unbearable").tokens
    assert tokens == ["The", "Ġunh", "appiness", "Ġis", "Ġunbearable"]


def test_the_chinese_article_in_the_edition_of_the_errata():
    edition = "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神互相对待。"
    measured = compare_tokenizers({name: loaded(name) for name in PUBLISHED}, {"Chinese": [edition]})
    assert [round(measured[name][0], 2) for name in PUBLISHED] == [1.91, 1.23, 0.86]
    for name in PUBLISHED:
        assert round(fertility(loaded(name), human_rights()["English"]).tokens_per_word, 2) == 1.10


# Fertility


def test_fertility_by_hand():
    # gpt2: [International, ization, Ġis, ĠI, 18, n, .] and eight tokens for four Chinese characters of 3 bytes each
    found = fertility(loaded("gpt2"), ["Internationalization is I18n.", "你好世界"])
    assert (found.tokens, found.unknown) == (7 + 8, 0)
    assert (found.words, found.characters, found.bytes) == (3 + 1, 29 + 4, 29 + 12)
    assert found.tokens_per_word == 15 / 4
    assert found.tokens_per_character == 15 / 33
    assert found.bytes_per_token == 41 / 15


def test_the_same_tokenizer_of_transformers_and_of_tokenizers():
    model_free = loaded("gpt2")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=model_free)
    for texts in human_rights().values():
        assert fertility(wrapped, texts) == fertility(model_free, texts)


def test_the_tokenizer_of_the_language_model():
    _, tokenizer = course_models.load_causal_lm("tinyworld-gpt2")
    found = fertility(tokenizer, ["I love pizza."])
    assert (found.tokens, found.words, found.unknown) == (4, 3, 0)


def test_special_tokens_are_not_counted():
    assert fertility(loaded("minilm"), ["hello world"]).tokens == 2
    tokenizer = load_tokenizer("gpt2")
    before = fertility(tokenizer, ["hello world"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 50256)]
    )
    assert len(tokenizer.encode("hello world").ids) == before.tokens + 1
    assert fertility(tokenizer, ["hello world"]) == before
    assert fertility(PreTrainedTokenizerFast(tokenizer_object=tokenizer), ["hello world"]) == before


def test_unknown_tokens_are_told():
    found = fertility(loaded("minilm"), ["你好世界"])
    tokens = loaded("minilm").encode("你好世界", add_special_tokens=False).tokens
    assert (found.tokens, found.unknown) == (len(tokens), tokens.count("[UNK]"))
    assert found.unknown == 3
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0))
    assert (fertility(unigram, ["aza"]).tokens, fertility(unigram, ["aza"]).unknown) == (3, 1)


def test_a_long_text_is_counted_whole_and_without_a_warning(caplog):
    _, tokenizer = course_models.load_causal_lm("tinyworld-gpt2")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_warning()
    logging.enable_propagation()
    try:
        once, many = (fertility(tokenizer, [" sunny" * n]) for n in (1, 1000))
    finally:
        logging.set_verbosity(verbosity)
        logging.disable_propagation()
    assert many.tokens == 1000 * once.tokens
    assert caplog.text == ""


def test_a_tokenizer_that_cuts_or_pads_is_refused():
    for change in (lambda t: t.enable_truncation(4), lambda t: t.enable_padding(length=4)):
        tokenizer = load_tokenizer("gpt2")
        change(tokenizer)
        with pytest.raises(ValueError, match="cuts or pads"):
            fertility(tokenizer, ["one two three four five six"])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=load_tokenizer("gpt2"))
    wrapped("one two three four five six", truncation=True, max_length=2)  # leaves its mark on the tokenizer inside
    assert fertility(wrapped, ["one two three four five six"]).tokens == 6


@given(texts=st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=4))
@properties
def test_rates_are_totals_over_totals(texts):
    found = fertility(loaded("gpt2"), texts)
    parts = [fertility(loaded("gpt2"), [text]) for text in texts]
    for field in ("tokens", "words", "characters", "bytes"):
        assert getattr(found, field) == sum(getattr(part, field) for part in parts)
    assert 1 <= found.tokens <= found.bytes  # a token of a byte-level tokenizer holds one byte or more


def test_normal_forms_of_one_text_differ():
    composed, split = (fertility(loaded("gpt2"), [unicodedata.normalize(form, "café")]) for form in ("NFC", "NFD"))
    assert (composed.characters, split.characters, composed.bytes, split.bytes) == (4, 5, 5, 6)
    assert split.tokens > composed.tokens


# Comparison


def test_compare_tokenizers_is_fertility_in_a_table(capsys):
    tokenizers = {name: loaded(name) for name in ("gpt2", "minilm")}
    for measure in ("tokens", "unknown", "tokens_per_word", "tokens_per_character", "bytes_per_token"):
        columns = compare_tokenizers(tokenizers, human_rights(), measure)
        assert list(columns) == ["language", "gpt2", "minilm"]
        assert columns["language"] == list(human_rights())
        for name, tokenizer in tokenizers.items():
            expected = [getattr(fertility(tokenizer, texts), measure) for texts in human_rights().values()]
            assert columns[name] == expected
    table(compare_tokenizers(tokenizers, human_rights()))
    assert {"Arabic", "Chinese"} <= {line.split()[0] for line in capsys.readouterr().out.splitlines()}


# Bad input


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("one text", TypeError, "texts is 'one text'; expected a list of texts"),
        (None, TypeError, "texts is None"),
        ([], ValueError, "texts is empty"),
        (["fine", 3], TypeError, r"texts\[1\] is 3"),
        ([b"bytes"], TypeError, r"texts\[0\] is b'bytes'"),
        (["\ud800"], ValueError, r"texts\[0\] is not Unicode text that UTF-8 can write"),
    ],
)
def test_texts_that_are_none(texts, error, message):
    for call in (lambda: train_bpe(texts, 3), lambda: fertility(loaded("gpt2"), texts)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("n_merges", [0, -1, 1.5, "2", None])
def test_a_number_of_merges_that_is_none(n_merges):
    with pytest.raises((TypeError, ValueError), match="n_merges is"):
        train_bpe(["a b"], n_merges)


def test_what_cannot_be_encoded():
    with pytest.raises(TypeError, match="text is b'a'"):
        bpe_encode(b"a", [])
    with pytest.raises(ValueError, match="text is not Unicode text"):
        bpe_encode("\udc00", [])
    with pytest.raises(TypeError, match="merges must be pairs of bytes"):
        bpe_encode("ab", [("a", "b")])
    with pytest.raises(ValueError, match="pattern is 'p50k'"):
        bpe_encode("ab", [], "p50k")


@pytest.mark.parametrize("texts", [[""], [" \n\t"], ["", " "]])
def test_no_word(texts):
    with pytest.raises(ValueError, match="holds no word"):
        fertility(loaded("gpt2"), texts)


def test_no_token():
    with pytest.raises(ValueError, match="leaves no token"):
        fertility(loaded("minilm"), ["\u200b"])  # WordPiece drops characters of format


@pytest.mark.parametrize("tokenizer", [None, str.split, "gpt2", SimpleNamespace(unk_token_id=1)])
def test_what_is_no_tokenizer(tokenizer):
    with pytest.raises(TypeError, match=r"tokenizer is a .*; expected one of transformers or of tokenizers"):
        fertility(tokenizer, ["a"])


def test_comparisons_of_nothing():
    with pytest.raises(ValueError, match="tokenizers is empty"):
        compare_tokenizers({}, {"English": ["a"]})
    with pytest.raises(ValueError, match="texts is empty"):
        compare_tokenizers({"gpt2": loaded("gpt2")}, {})
    with pytest.raises(ValueError, match="measure is 'tokens_per_line'; expected one of 'tokens', 'unknown', 'words'"):
        compare_tokenizers({"gpt2": loaded("gpt2")}, {"English": ["a"]}, "tokens_per_line")
    with pytest.raises(TypeError, match="texts is 'a'"):
        compare_tokenizers({"gpt2": loaded("gpt2")}, {"English": "a"})
