"""Exercises of notebook 3.1, tokenization."""

import re
from collections import Counter
from itertools import pairwise

from studyguide.course.exercises import Exercise, Wrong
from studyguide.language.tokenization import fertility, load_tokenizer


def my_best_pair(ids):
    """The pair of neighbours that BPE merges next; ids is a list of token ids.

    Returns two ids: left and right.
    """
    counts = Counter(pairwise(ids))
    return min(counts, key=lambda pair: (-counts[pair], pair))


def _by_count(counts, tie):
    return min(counts, key=lambda pair: (-counts[pair], tie(pair)))


def _best_pair_peer(ids):
    places = {}
    for i in range(1, len(ids)):
        places.setdefault((ids[i - 1], ids[i]), []).append(i)
    most = max(map(len, places.values()))
    return min(pair for pair, found in places.items() if len(found) == most)


BEST_PAIR = Exercise(
    id="best-pair",
    title="Which pair is merged next",
    prompt=(
        "Write `my_best_pair(ids)`: the most frequent pair of neighbours in a list of token ids, overlaps counted. "
        "If several are equally frequent, take the one with the smallest left id, and among those the smallest right id."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        "`itertools.pairwise(ids)` gives all neighbours, and `Counter` counts them.",
        "Tuples compare from left to right: the smallest of (−count, pair) is the pair you want.",
    ),
    solution=my_best_pair,
    peer=_best_pair_peer,
    cases=(
        ([5, 1, 2, 5, 1, 2, 5, 1],),
        ([7, 3, 7, 3, 9, 2, 9, 2, 4],),
        ([2, 8, 1, 6],),
        ([1, 7, 3, 7, 3, 9],),
        ([4, 4, 4, 1, 3, 5, 1, 3],),
        ([3, 2, 9, 3, 1, 9, 3, 1, 9, 3, 2],),
    ),
    wrong=(
        Wrong(
            lambda ids: Counter(pairwise(ids)).most_common(1)[0][0],
            "`most_common` breaks ties by who came first. Then your merges depend on the order of the texts: take the smallest ids.",
        ),
        Wrong(
            lambda ids: max(Counter(pairwise(ids)).items(), key=lambda item: (item[1], item[0]))[0],
            "right count, but of equally frequent pairs you took the one with the largest ids. Take the smallest.",
        ),
        Wrong(
            lambda ids: _by_count(Counter(pairwise(ids)), lambda pair: pair[::-1]),
            "you broke ties by the right id first. The left id decides, and the right one only among equal left ids.",
        ),
        Wrong(
            lambda ids: _by_count(Counter(zip(ids[::2], ids[1::2], strict=False)), lambda pair: pair),
            "you cut the list into twos. A pair may begin at any place: each token is left once and right once.",
        ),
        Wrong(
            lambda ids: tuple(token for token, _ in Counter(ids).most_common(2)),
            "those are the two most frequent tokens. They need not stand beside each other: count pairs.",
        ),
        Wrong(
            lambda ids: _by_count({pair: -n for pair, n in Counter(pairwise(ids)).items()}, lambda pair: pair),
            "that is the rarest pair. BPE merges the most frequent one: it shortens the text most.",
        ),
    ),
)


def my_merge(ids, pair, new_id):
    """One merge step: ids with each occurrence of pair (two ids), from left to right, replaced by new_id.

    Returns a list of ids.
    """
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == tuple(pair):
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def _merge_peer(ids, pair, new_id):
    text = "".join(map(chr, ids))
    return [ord(character) for character in text.replace("".join(map(chr, pair)), chr(new_id))]


def _replaced_first(ids, pair, new_id):
    for i, neighbours in enumerate(pairwise(ids)):
        if neighbours == tuple(pair):
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids


def _overlapping(ids, pair, new_id):
    merged = [new_id if neighbours == tuple(pair) else neighbours[0] for neighbours in pairwise(ids)]
    return merged if tuple(ids[-2:]) == tuple(pair) else [*merged, ids[-1]]


def _inserted(ids, pair, new_id):
    merged = []
    for token, following in zip(ids, [*ids[1:], None], strict=True):
        merged += [token] + [new_id] * ((token, following) == tuple(pair))
    return merged


def _from_the_right(ids, pair, new_id):
    return my_merge(ids[::-1], pair[::-1], new_id)[::-1]


def _without_the_end(ids, pair, new_id):
    merged, i = [], 0
    while i + 1 < len(ids):
        fits = (ids[i], ids[i + 1]) == tuple(pair)
        merged.append(new_id if fits else ids[i])
        i += 1 + fits
    return merged


MERGE = Exercise(
    id="merge-step",
    title="One merge step",
    prompt=(
        "Write `my_merge(ids, pair, new_id)`: walk through the list from left to right, and wherever `pair` stands, "
        "write `new_id` in place of its two ids. A token that has been merged is used up: in 4, 4, 4 the pair 4, 4 fits once."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "Use an index and a `while` loop: sometimes you step by one, sometimes by two.",
        "At the last token there is no right neighbour. Append it as it is.",
    ),
    solution=my_merge,
    peer=_merge_peer,
    cases=(
        ([1, 2, 3, 1, 2], (1, 2), 9),
        ([4, 4, 4, 4, 4, 7], (4, 4), 8),
        ([5, 6, 5], (6, 5), 10),
        ([1, 3], (1, 2), 9),
        ([2, 1, 5, 1, 2], (1, 2), 11),
    ),
    wrong=(
        Wrong(
            _overlapping,
            "you use a token twice: after a merge, step by two. Otherwise its right half is still there, or is merged again.",
        ),
        Wrong(_replaced_first, "only the first occurrence is merged. Go on to the end of the list."),
        Wrong(_inserted, "you wrote the new id but kept the old ones. The new token stands in place of both."),
        Wrong(_from_the_right, "you merged from the right. In a run of equal tokens that leaves over the wrong one."),
        Wrong(
            _without_the_end,
            "the last token is lost when it is not part of a merge. Check the index before you look ahead.",
        ),
        Wrong(
            lambda ids, pair, new_id: my_merge(my_merge(ids, pair, new_id), pair[::-1], new_id),
            "you merged the pair in both orders. (1, 2) and (2, 1) are different pairs.",
        ),
    ),
)


def my_tokens_per_word(token_counts, texts):
    """Fertility: tokens per word of several texts; token_counts[i] is how many tokens texts[i] has.

    Returns one number.
    """
    return sum(token_counts) / sum(len(text.split()) for text in texts)


def _tokens_per_word_peer(token_counts, texts):
    return sum(token_counts) / len(re.findall(r"\S+", " ".join(texts)))


WORDS = Exercise(
    id="tokens-per-word",
    title="Tokens per word",
    prompt=(
        "Write `my_tokens_per_word(token_counts, texts)`: all tokens over all words of a list of texts. "
        "A word is what stands between white space, be it one space, several, or the end of a line."
    ),
    difficulty=1,
    minutes=8,
    hints=(
        "`text.split()` without an argument splits at any run of white space.",
        "Add up the tokens, add up the words, and divide once.",
    ),
    solution=my_tokens_per_word,
    peer=_tokens_per_word_peer,
    cases=(
        ([6, 3], ["one two three four", "tokenization"]),
        ([9], ["  two   spaces\nand a line "]),
        ([4, 4, 10], ["a b", "c d e f", "你好世界"]),
    ),
    wrong=(
        Wrong(
            lambda counts, texts: sum(n / len(t.split()) for n, t in zip(counts, texts, strict=True)) / len(texts),
            "you averaged the rates of the texts, so that a text of one word weighs as much as a long one. Divide the totals.",
        ),
        Wrong(
            lambda counts, texts: sum(counts) / sum(len(text.split(" ")) for text in texts),
            '`split(" ")` counts an empty word between two spaces and does not see a new line. Use `split()`.',
        ),
        Wrong(
            lambda counts, texts: sum(counts) / sum(map(len, texts)),
            "that is tokens per character. Divide by the words.",
        ),
        Wrong(
            lambda counts, texts: sum(len(text.split()) for text in texts) / sum(counts),
            "that is words per token. Fertility is the other way round.",
        ),
        Wrong(
            lambda counts, texts: sum(counts) / len(texts),
            "that is tokens per text. Count the words in each text.",
        ),
    ),
)


def my_bytes_per_token(token_counts, texts):
    """Bytes per token of several texts in UTF-8; token_counts[i] is how many tokens texts[i] has.

    Returns one number.
    """
    return sum(len(text.encode()) for text in texts) / sum(token_counts)


def _bytes_per_token_peer(token_counts, texts):
    limits = (0x80, 0x800, 0x10000)  # a character of UTF-8 takes one byte more from each of these on
    size = sum(1 + sum(ord(character) >= limit for limit in limits) for character in "".join(texts))
    return size / sum(token_counts)


BYTES = Exercise(
    id="bytes-per-token",
    title="Bytes per token",
    prompt=(
        "Write `my_bytes_per_token(token_counts, texts)`: how many bytes of UTF-8 a token holds, on average over all tokens of the texts. "
        "It is what turns a number per token into a number per byte."
    ),
    difficulty=1,
    minutes=8,
    hints=(
        "`text.encode()` gives the bytes of a text; UTF-8 is the default.",
        "All bytes over all tokens, not the mean of the texts' ratios.",
    ),
    solution=my_bytes_per_token,
    peer=_bytes_per_token_peer,
    cases=(
        ([2, 8], ["Hello world", "你好世界"]),
        ([3], ["café"]),
        ([5, 1, 4], ["🙂🙂", "a", "Würde und Rechte"]),
    ),
    wrong=(
        Wrong(
            lambda counts, texts: sum(map(len, texts)) / sum(counts),
            "that is characters per token. A Chinese character takes three bytes of UTF-8: encode first.",
        ),
        Wrong(
            lambda counts, texts: sum(counts) / sum(len(text.encode()) for text in texts),
            "that is tokens per byte. Turn the fraction over.",
        ),
        Wrong(
            lambda counts, texts: sum(len(t.encode()) / n for n, t in zip(counts, texts, strict=True)) / len(texts),
            "you averaged the ratios of the texts. Divide all bytes by all tokens.",
        ),
        Wrong(
            lambda counts, texts: sum(len(text.encode("utf-16")) for text in texts) / sum(counts),
            "those are the bytes of UTF-16, with its mark of two bytes. The convention is UTF-8.",
        ),
        Wrong(
            lambda counts, texts: sum(len(text.encode("ascii", "ignore")) for text in texts) / sum(counts),
            "you dropped every character outside of ASCII. They are the ones that take most bytes.",
        ),
    ),
)


def my_reversed_lengths():
    """Two texts: by GPT-2's tokens the first is the longer one, by everything else the second.

    Returns two strings.
    """
    return "I18n/L10n", "International communications"


def _verify_reversed_lengths(answer):
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(text, str) for text in answer)):
        return "return two texts: `return first, second`."
    tokenizer = load_tokenizer("gpt2")
    first, second = (fertility(tokenizer, [text]) for text in answer)
    if second.words < first.words:
        return f"the first text has {first.words} words, the second {second.words}. The second needs at least as many."
    for unit in ("characters", "bytes"):
        short, long = getattr(first, unit), getattr(second, unit)
        if long < 3 * short:
            return (
                f"the first text has {short} {unit}, the second {long}. Make the second at least three times as long."
            )
    if first.tokens < 2 * second.tokens:
        return (
            f"GPT-2 makes {first.tokens} tokens of the first text and {second.tokens} of the second; the first needs twice as many. "
            "Put what GPT-2 rarely saw into the first, and long frequent words into the second."
        )
    return None


REVERSED = Exercise(
    id="break-the-length",
    title="Longer by tokens, shorter by everything else",
    prompt=(
        "A product cuts answers by GPT-2 tokens and calls that their length. Write `my_reversed_lengths()`: two texts of which the first has at "
        "least *twice* the tokens, although the second has at least three times its characters, three times its bytes, and no fewer words."
    ),
    difficulty=2,
    minutes=12,
    hints=(
        "What costs GPT-2 many tokens in little space? Digits between letters, punctuation, scripts that it hardly saw.",
        "What costs it few? Long, frequent English words, each with the space before it: one token each.",
    ),
    solution=my_reversed_lengths,
    verify=_verify_reversed_lengths,
    wrong=(
        Wrong(lambda: "I18n", "return two texts: `return first, second`."),
        Wrong(
            lambda: ("I18n", "Internationalization"),
            "GPT-2 makes 3 tokens of the first text and 2 of the second; the first needs twice as many. "
            "Put what GPT-2 rarely saw into the first, and long frequent words into the second.",
        ),
        Wrong(
            lambda: ("I18n L10n", "communication"),
            "the first text has 2 words, the second 1. The second needs at least as many.",
        ),
        Wrong(
            lambda: ("你好世界", "communication"),
            "the first text has 12 bytes, the second 13. Make the second at least three times as long.",
        ),
        Wrong(
            lambda: ("I18n/L10n", "communication"),
            "the first text has 9 characters, the second 13. Make the second at least three times as long.",
        ),
    ),
)

EXERCISES = (BEST_PAIR, MERGE, WORDS, BYTES, REVERSED)
