"""chrF: n-grams of characters, which forgive an ending and need no tokenizer; chrF++ adds those of words.

Scores lie in [0, 100], as in sacrebleu. A text is compared with each of its references, and the one with the best score
counts, of equal ones the first.
"""

import math

import numpy as np

from studyguide.probability.validation import positive_integer
from studyguide.text.ngrams import check_corpus, check_text

PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
BLOCK = 256  # pairs of texts that are counted at a time: their n-grams stay in the processor's cache


def chrf(hypothesis, references, **settings):
    """chrF of one text: `corpus_chrf` of a corpus of one. `references` is a list of strings.

    >>> chrf("ab", ["ac"])  # one of two characters, none of the one pair: the mean of 1/2 and 0
    25.0
    """
    hypothesis, references = check_text(hypothesis, references)
    return corpus_chrf([hypothesis], [references], **settings)


def corpus_chrf(hypotheses, references, *, char_order=6, word_order=0, beta=2.0, lowercase=False, whitespace=False):
    """The F score of character n-grams, and for `word_order` above 0 of word n-grams, over a whole corpus.

    `hypotheses` is a list of strings, `references` a list of references for each. `word_order=2` is chrF++. `beta` says how
    many times as much recall counts as precision. `whitespace=True` keeps the blanks between words as characters.
    Errors: a flat list of references, unequal lengths, no text; orders that are no integers, or both 0.
    Convention: n-grams are counted over the corpus, precision and recall averaged over the orders that both sides have,
    and one F made of the two means (sacrebleu 2). Without any n-gram on either side the score is 0.
    Source: Popović (2015), "chrF: character n-gram F-score for automatic MT evaluation"; (2017) for chrF++.

    >>> corpus_chrf(["a cat"], [["a cat", "a dog"]])
    100.0
    """
    hypotheses, references = check_corpus(hypotheses, references)
    orders = [("char_order", char_order), ("word_order", word_order)]
    char_order, word_order = (0 if order == 0 else positive_integer(name, order) for name, order in orders)
    if not char_order + word_order:
        raise ValueError("char_order and word_order are both 0; expected one of them to be positive")
    if not 0 < beta < math.inf:
        raise ValueError(f"beta is {beta}; expected a positive finite number")
    pairs = [(text, other) for text, others in zip(hypotheses, references, strict=True) for other in others]
    blocks = []
    for start in range(0, len(pairs), BLOCK):
        texts = [text.lower() if lowercase else text for pair in pairs[start : start + BLOCK] for text in pair]
        characters = texts if whitespace else ["".join(text.split()) for text in texts]
        blocks.append(np.concatenate([_counts(characters, char_order), _counts(map(_words, texts), word_order)]))
    counts = np.concatenate(blocks, axis=1)
    scores = _f_score(counts, beta)
    ends = np.cumsum([len(others) for others in references])
    best = [start + part.argmax() for start, part in zip([0, *ends], np.split(scores, ends[:-1]), strict=False)]
    return float(_f_score(counts[:, best].sum(1, keepdims=True), beta)[0])


def _words(text):
    """The words of a text, with one punctuation mark split off from the end or, if there is none, from the beginning."""
    words = []
    for word in text.split():
        if len(word) > 1 and word[-1] in PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _counts(texts, orders):
    """Counts (orders, pairs, 3): n-grams of the hypothesis, of the reference, of both. `texts` alternate between the two.

    An n-gram is a number, the symbols' numbers side by side. Sorted together with those of its pair, equal ones meet.
    """
    texts = list(texts)
    symbols, width = _numbered(texts)
    text = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    counts = np.zeros((orders, len(texts) // 2, 3), dtype=np.int64)
    grams, bits = np.zeros_like(symbols), 0
    for n in range(orders):
        if bits + width + len(texts).bit_length() > 63:  # number the n-grams anew, or the longer ones would not fit
            distinct, grams = np.unique(grams, return_inverse=True)
            bits = len(distinct).bit_length()
        last = symbols[n:]
        grams, bits = grams[: len(last)] << width | last, bits + width
        inside = text[n:] == text[: len(last)]  # not across the end of a text
        owner = text[n:][inside]
        keys = np.sort((owner >> 1 << bits | grams[inside]) << 1 | owner & 1)
        sizes = np.bincount(owner, minlength=len(texts)).reshape(-1, 2)
        counts[n, :, :2] = sizes * (sizes[:, 1:] > 0)  # without reference n-grams of this order, it does not count
        if len(keys):
            runs = np.flatnonzero(np.diff(keys >> 1, prepend=-1))
            in_reference = np.add.reduceat(keys & 1, runs)
            common = np.minimum(in_reference, np.diff(runs, append=len(keys)) - in_reference)
            counts[n, :, 2] = np.bincount(keys[runs] >> bits + 1, common, minlength=len(texts) // 2)
    return counts


def _numbered(texts):
    """All symbols (characters or words) of the texts as integers from 0, in a row, and how many bits these take."""
    if texts and isinstance(texts[0], str):
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        present = np.zeros(codes.max(initial=0) + 1, dtype=bool)
        present[codes] = True
        symbols = (present.cumsum() - 1)[codes]
    else:
        ids = {}
        symbols = np.array([ids.setdefault(word, len(ids)) for words in texts for word in words], dtype=np.int64)
    return symbols, int(symbols.max(initial=0)).bit_length()


def _f_score(counts, beta):
    """The score of each pair, from counts (orders, pairs, 3): F of the mean precision and the mean recall."""
    hypothesis, reference, common = np.moveaxis(counts, -1, 0)
    counted = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(counted.sum(0), 1)
    precision = sum(common / np.maximum(hypothesis, 1) * counted) / orders
    recall = sum(common / np.maximum(reference, 1) * counted) / orders
    weight = beta**2
    return 100 * ((1 + weight) * precision * recall / np.maximum(weight * precision + recall, np.finfo(float).tiny))
