"""What the metrics of this chapter count: tokens, n-grams, stems. And the corpora that they all take, checked once.

A corpus is a list of texts, the hypotheses, and for each of them a list of one or more references.
"""

import re
import unicodedata
from collections import Counter
from functools import cache, lru_cache
from itertools import chain

import regex

from studyguide.probability.validation import one_of, positive_integer

ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}  # in the order in which 13a reads them
STEMMED_FROM = 4  # characters: rouge-score leaves shorter words as they are


def tokenize(text, tokenizer="13a", lowercase=False, stem=False):
    """The tokens of a text, a list of strings.

    - "13a": the standard of machine translation (mteval-v13a), for languages written much as English is: ASCII punctuation
      is split off, but not the point or comma inside a number, nor the apostrophe and hyphen inside a word.
    - "intl": the same idea for the punctuation and symbols of all scripts (mteval-v14).
    - "char": each character but white space; for scripts without spaces, such as Chinese.
    - "whitespace": split at white space, punctuation left on the words.
    - "rouge": lower-cased runs of a-z and 0-9. Everything else is lost: no token is left of a text in Arabic.
    - "unicode": runs of letters, digits and their marks in any script, in one Unicode form (NFKC), case folded.

    The first three equal sacrebleu's tokens, "whitespace" its "none", "rouge" those of rouge-score. White space at the end
    is no part of the text. `lowercase` comes before the split. `stem` leaves words below 4 characters alone, as
    rouge-score does; `stem` the function does not.
    Errors: a text that is no str is a TypeError; an unknown tokenizer a ValueError.

    >>> tokenize("Don't pay $1,000.50 for it.")
    ["Don't", 'pay', '$', '1,000.50', 'for', 'it', '.']
    >>> tokenize("قِطّة GPT-2", "rouge"), tokenize("قِطّة GPT-2", "unicode")
    (['gpt', '2'], ['قِطّة', 'gpt', '2'])
    """
    _check_str("text", text)
    split = TOKENIZERS[one_of("tokenizer", tokenizer, TOKENIZERS)]
    tokens = split((text.lower() if lowercase else text).rstrip())
    return [_stem(token) if len(token) >= STEMMED_FROM else token for token in tokens] if stem else tokens


def count_ngrams(tokens, n):
    """How often each run of `n` neighbouring tokens occurs: a Counter of tuples, empty if there are fewer tokens.

    >>> count_ngrams(["to", "be", "or", "not", "to", "be"], 2)[("to", "be")]
    2
    """
    n = positive_integer("n", n)
    if isinstance(tokens, str):
        raise TypeError(f"tokens is the str {tokens!r}; expected a list of tokens, such as tokenize(text)")
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def stem(word):
    """The stem of an English word after Porter (1980), in nltk's version, lower-cased; kept for the next call.

    >>> stem("quickly"), stem("running"), stem("cats")
    ('quickli', 'run', 'cat')
    """
    return _stem(word)


def check_corpus(hypotheses, references):
    """The hypotheses as a list, the references as a list of lists, once they are known to fit.

    Errors: a str where a list is expected, a flat list of references (its texts would be read character by character), and
    what is no text are a TypeError. An empty corpus, another number of reference lists than of hypotheses, and a
    hypothesis without a reference are a ValueError. Empty texts are allowed: each metric says what it makes of them.

    >>> check_corpus(["a cat"], [("the cat", "a cat")])
    (['a cat'], [['the cat', 'a cat']])
    """
    hypotheses = _list("hypotheses", hypotheses, "a list of texts")
    references = _list("references", references, "for each hypothesis a list of texts")
    if not hypotheses:
        raise ValueError("hypotheses is empty; expected at least one text")
    for i, text in enumerate(hypotheses):
        _check_str(f"hypotheses[{i}]", text)
    references = [_texts(f"references[{i}]", group) for i, group in enumerate(references)]
    if len(references) != len(hypotheses):
        raise ValueError(
            f"there are {len(hypotheses)} hypotheses and {len(references)} lists of references; expected one list of "
            "references per hypothesis"
        )
    return hypotheses, references


def check_text(hypothesis, references):
    """One text, and its references as a list of one or more texts; errors as in `check_corpus`.

    >>> check_text("a cat", ("the cat", "a cat"))
    ('a cat', ['the cat', 'a cat'])
    """
    return _check_str("hypothesis", hypothesis), _texts("references", references)


def _texts(name, texts):
    texts = _list(name, texts, "a list of texts")
    if not texts:
        raise ValueError(f"{name} is empty; expected at least one text")
    return [_check_str(f"{name}[{i}]", text) for i, text in enumerate(texts)]


def _check_str(name, text):
    if not isinstance(text, str):
        raise TypeError(f"{name} is {text!r}; expected a str")
    return text


def _list(name, value, expected):
    if isinstance(value, str):
        raise TypeError(f"{name} is the str {value!r}; expected {expected}")
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected {expected}") from None


def _tokenize_13a(text):
    if "<" in text or "\n" in text or "&" in text:
        text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
        for entity, character in ENTITIES.items():
            text = text.replace(entity, character)
    return list(chain.from_iterable(map(_split_word_13a, text.split())))


@lru_cache(maxsize=2**17)
def _split_word_13a(word):
    """The tokens of what stands between two spaces: no rule of 13a looks further, so each word is split only once."""
    if word.isalnum():
        return (word,)
    word = re.sub(r"([!-&(-+/:-@[-`{-~])", r" \1 ", f" {word} ")  # ASCII punctuation, but for ' , - .
    word = re.sub(r"([^0-9])([.,])", r"\1 \2 ", word)
    word = re.sub(r"([.,])([^0-9])", r" \1 \2", word)
    return tuple(re.sub(r"([0-9])(-)", r"\1 \2 ", word).split())


def _tokenize_intl(text):
    text = regex.sub(r"(\P{N})(\p{P})", r"\1 \2 ", text)
    text = regex.sub(r"(\p{P})(\P{N})", r" \1 \2", text)
    return regex.sub(r"(\p{S})", r" \1 ", text).split()


def _tokenize_rouge(text):
    return re.findall("[a-z0-9]+", text.lower())


def _tokenize_unicode(text):
    return regex.findall(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*", unicodedata.normalize("NFKC", text).casefold())


TOKENIZERS = {
    "13a": _tokenize_13a,
    "intl": _tokenize_intl,
    "char": lambda text: list("".join(text.split())),
    "whitespace": str.split,
    "rouge": _tokenize_rouge,
    "unicode": _tokenize_unicode,
}


@cache
def _porter():
    from nltk.stem.porter import PorterStemmer  # nltk takes a second to import

    return PorterStemmer()


@lru_cache(maxsize=2**17)
def _stem(word):
    return _porter().stem(word)
