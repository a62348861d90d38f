"""Evaluation texts that are in the training data: copies, near copies, and passages inside longer texts.

Copies are found by a hash of the normalised text, the others by the word n-grams that two texts share. An index from
n-grams to evaluation texts spares comparing every pair, and finds the same pairs as comparing them all.
"""

import hashlib
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from numbers import Real

from studyguide.probability.validation import one_of, positive_integer

# Scripts written without spaces between words: Thai and Lao, Burmese, Khmer, Japanese kana, Chinese characters.
UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3005, 0x30FF),
    (0x3400, 0x9FFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True)
class Leak:
    """An evaluation text and a training text that share too much."""

    evaluation_index: int
    train_index: int
    kind: str  # "exact": equal once normalised; else "near" (by Jaccard) or "contained" (by containment)
    similarity: float  # the share of n-grams, from the threshold to 1
    passage: str  # the longest run of words of the evaluation text whose n-grams are all in the training text


@dataclass(frozen=True)
class Leakage:
    """What `find_leakage` found."""

    leaks: tuple  # of Leak, by evaluation index, then train index
    rate: float  # the share of evaluation texts with at least one leak
    comparisons: int  # pairs whose n-grams were compared; without the index it is all of them


def normalise(text):
    """The text in Unicode form NFKC, without case, every run of white space one blank.

    >>> normalise("  The Capital\\n of ＦＲＡＮＣＥ?")
    'the capital of france?'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def fingerprint(text):
    """SHA-256 of the normalised text, as 64 hexadecimal digits: equal for copies, and it can be shared in its place.

    >>> fingerprint("The cat sat.") == fingerprint("the  CAT sat.")
    True
    """
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()


def words(text):
    """The words of the normalised text, without punctuation; a text of punctuation alone is one word.

    A symbol (+, =, an emoji) is a word. So is each character of a script that has no spaces between words.

    >>> words("Don't panic: 東京 + 1"), words("?!")
    (['don', 't', 'panic', '東', '京', '+', '1'], ['?!'])
    """
    text = normalise(text)
    return text.translate(_SEPARATED).split() or [text]


def ngrams(text, n=3):
    """The distinct word n-grams of a text, a set in order; a text of fewer words has one n-gram, all of it.

    >>> [" ".join(gram) for gram in ngrams("What is the capital of France?")]
    ['what is the', 'is the capital', 'the capital of', 'capital of france']
    """
    sequence = words(text)
    n = min(n, len(sequence))
    return dict.fromkeys(zip(*(sequence[start:] for start in range(n)), strict=False)).keys()


def find_leakage(train, evaluation, threshold=0.8, n=3, measure="jaccard"):
    """The pairs of an evaluation text and a training text that are equal or share many of their word n-grams.

    With A the n-grams of the evaluation text and B those of the training text, the similarity is

    - "jaccard": ``|A & B| / |A | B|``. Symmetric, for copies with small edits: texts of unlike length score low.
    - "containment": ``|A & B| / |A|``, the share of the evaluation text that the training text holds. It finds a
      question inside a long document, and every pair that "jaccard" finds.

    Range: similarities from `threshold` (above 0, at most 1; a similarity equal to it counts) to 1.
    Convention: case, white space, Unicode form and punctuation make no difference: see `normalise`, `words`, `ngrams`.
    A text shorter than n words has one n-gram, so it is found where it is repeated whole, not inside a longer text.
    Cost: `train`, any iterable, is read once. Memory holds the n-grams of `evaluation` and the leaks. An
    evaluation text is compared only where one of its rarest n-grams comes, and a leak always has one of those.
    Errors: a text that is empty or no str (named by its index), no text at all, a threshold out of range.
    Source: Broder (1997), "On the resemblance and containment of documents"; for the index Chaudhuri, Ganti and
    Kaushik (2006), "A primitive operator for similarity joins in data cleaning".

    >>> train = ["The cat sat on the mat.", "As ever: what is the capital of France? Paris, of course."]
    >>> find_leakage(train, ["What is the capital of France?"], measure="containment").leaks[0].passage
    'what is the capital of france'
    >>> find_leakage(train, ["What is the capital of France?"]).rate
    0.0
    """
    positive_integer("n", n)
    symmetric = one_of("measure", measure, ("jaccard", "containment")) == "jaccard"
    if not isinstance(threshold, Real):
        raise TypeError(f"threshold is {threshold!r}; expected a number")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected a number above 0 and at most 1")
    texts = list(_checked("evaluation", evaluation))
    grams = [ngrams(text, n) for text in texts]
    frequency = Counter(gram for asked in grams for gram in asked)
    rank = {gram: place for place, gram in enumerate(sorted(frequency, key=frequency.get))}  # the rarest n-gram is 0
    ranks = [{rank[gram] for gram in asked} for asked in grams]
    index = _index(ranks, threshold)
    leaks, comparisons = [], 0
    for j, text in enumerate(_checked("train", train)):
        held = ngrams(text, n)
        known = {rank[gram] for gram in held if gram in rank}
        # From how many n-grams on an evaluation text cannot reach the threshold, even if it has all that are known.
        most = len(known) / threshold - (len(held) - len(known) if symmetric else 0) + 1e-6
        entries = [index[gram] for gram in known & index.keys()]
        candidates = {i for entry in entries for i in entry[: bisect_right(entry, most, key=lambda i: len(ranks[i]))]}
        comparisons += len(candidates)
        for i in candidates:
            shared = len(ranks[i] & known)
            similarity = shared / (len(ranks[i]) + (len(held) - shared if symmetric else 0))
            if similarity >= threshold:
                kind = "near" if symmetric else "contained"
                if fingerprint(text) == fingerprint(texts[i]):
                    kind = "exact"
                leaks.append(Leak(i, j, kind, similarity, _longest_passage(words(texts[i]), held, n)))
    leaks.sort(key=lambda leak: (leak.evaluation_index, leak.train_index))
    return Leakage(tuple(leaks), len({leak.evaluation_index for leak in leaks}) / len(texts), comparisons)


def _index(ranks, threshold):
    """{n-gram: the texts filed under it, the shortest first}, by rank.

    A text may miss so many of its n-grams and still reach the threshold. Filed under one more, its rarest ones, it is
    found by every text that is similar enough.
    """
    index = defaultdict(list)
    for i in sorted(range(len(ranks)), key=lambda i: len(ranks[i])):
        may_miss = int((1 - threshold) * len(ranks[i]) + 1e-6)
        for gram in sorted(ranks[i])[: may_miss + 1]:
            index[gram].append(i)
    return index


def _longest_passage(sequence, grams, n):
    n = min(n, len(sequence))
    run, passage = 0, []
    for end in range(n, len(sequence) + 1):
        run = run + 1 if tuple(sequence[end - n : end]) in grams else 0
        if run and run + n - 1 > len(passage):
            passage = sequence[end - n - run + 1 : end]
    return " ".join(passage)


class _Separated(dict):
    """What str.translate puts for a character, worked out when it first comes."""

    def __missing__(self, code):
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf":  # invisible, such as a soft hyphen
            self[code] = ""
        elif category[0] not in "LMNS":
            self[code] = " "
        elif category[0] == "S" or any(low <= code <= high for low, high in UNSPACED):
            self[code] = f" {character} "
        else:
            self[code] = character
        return self[code]


_SEPARATED = _Separated()


def _checked(name, texts):
    if isinstance(texts, str):
        raise TypeError(f"{name} is a str; expected several texts, such as [{name}]")
    index = -1
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{index}] is of type {type(text).__name__}; expected a str")
        if not text.strip():
            raise ValueError(f"{name}[{index}] is empty; expected a text")
        yield text
    if index < 0:
        raise ValueError(f"{name} is empty; expected at least one text")
