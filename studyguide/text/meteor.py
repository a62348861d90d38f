"""METEOR: words aligned one to one, by their form, their stem or their meaning, and a penalty for broken order."""

from collections import defaultdict
from dataclasses import dataclass

from studyguide.text import ngrams


@dataclass(frozen=True)
class MeteorScore:
    """METEOR in [0, 1] and what it is made of, for the best reference.

    `alignment` holds (position in the hypothesis, position in the reference, stage), sorted; stages are "exact", "stem" and
    "synonym". `chunks` is the number of runs of the alignment that are unbroken on both sides. `penalty` is what a broken
    order takes away: score = (1 - penalty) * f_mean.
    """

    score: float
    precision: float
    recall: float
    f_mean: float
    penalty: float
    chunks: int
    alignment: tuple


def meteor(hypothesis, references, alpha=0.9, beta=3.0, gamma=0.5, *, tokenize="unicode", synonyms=None):
    """The weighted F of aligned words, less a penalty for the number of chunks in which they stand.

    `references` is a list of strings; the one with the best score counts, of equal ones the first. `alpha` is the weight of
    recall, `gamma` the largest penalty, `beta` how slowly it grows. `tokenize` names a tokenizer of
    `studyguide.text.ngrams`; words are lower-cased. `synonyms` is a function from a word to the words that may stand for it,
    such as `wordnet_synonyms`; without one, words match by form and stem only.
    Returns a `MeteorScore`; all 0 if nothing matches or a text is empty.
    Errors: references that are no list of strings, alpha or gamma outside [0, 1], beta below 0.
    Convention: each stage goes through the words from last to first and takes the last free partner, as nltk does; the
    paper asks for the alignment with the fewest crossings, which may have fewer chunks. Synonyms are those of the word
    itself, where nltk looks up its stem. Identical texts of n words score 1 - gamma / n ** beta, one word therefore .5.
    Source: Banerjee and Lavie (2005), "METEOR", whose parameters these are; Lavie and Agarwal (2007) name and tune them.

    >>> result = meteor("sat on the mat: cats", ["a cat sat on the mat"])
    >>> result.alignment[-1], result.chunks, round(result.score, 4)
    ((4, 1, 'stem'), 2, 0.8203)
    """
    hypothesis, references = ngrams.check_text(hypothesis, references)
    for name, value in (("alpha", alpha), ("gamma", gamma)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; expected a number from 0 to 1")
    if not beta >= 0:
        raise ValueError(f"beta is {beta}; expected a number of at least 0")
    words, *others = (ngrams.tokenize(text, tokenize, lowercase=True) for text in (hypothesis, *references))
    scores = [_score(words, other, alpha, beta, gamma, synonyms) for other in others]
    return max(scores, key=lambda result: result.score)


def wordnet_synonyms(word):
    """The words that share a meaning with a word in WordNet, for `meteor(..., synonyms=wordnet_synonyms)`.

    Reads nltk's copy of WordNet and fetches nothing. Errors: a LookupError that says how to get it, where it is not installed.
    """
    from nltk.corpus import wordnet

    try:
        return {name for synset in wordnet.synsets(word) for name in synset.lemma_names() if "_" not in name}
    except LookupError:
        raise LookupError(
            "WordNet is not installed, and nothing is fetched unasked; `python -m nltk.downloader wordnet` gets it. "
            "Without synonyms, METEOR matches words by form and stem"
        ) from None


def _score(words, reference, alpha, beta, gamma, synonyms):
    alignment = _align(words, reference, synonyms)
    if not alignment:
        return MeteorScore(0.0, 0.0, 0.0, 0.0, 0.0, 0, ())
    precision, recall = len(alignment) / len(words), len(alignment) / len(reference)
    f_mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    pairs = {(i, j) for i, j, _ in alignment}
    chunks = sum((i - 1, j - 1) not in pairs for i, j in pairs)
    penalty = gamma * (chunks / len(alignment)) ** beta
    return MeteorScore((1 - penalty) * f_mean, precision, recall, f_mean, penalty, chunks, alignment)


def _align(words, reference, synonyms):
    """Pairs of positions and the stage that found them, sorted; no word is used twice."""
    stages = [("exact", str, lambda word: [word]), ("stem", ngrams.stem, lambda word: [ngrams.stem(word)])]
    if synonyms is not None:
        stages.append(("synonym", str, lambda word: {word, *synonyms(word)}))
    left, right, pairs = set(range(len(words))), set(range(len(reference))), []
    for stage, form, partners in stages:
        where = defaultdict(list)
        for j in sorted(right):
            where[form(reference[j])].append(j)
        for i in sorted(left, reverse=True):
            j = max((where[name][-1] for name in partners(words[i]) if where.get(name)), default=None)
            if j is not None:
                where[form(reference[j])].pop()
                left.remove(i)
                right.remove(j)
                pairs.append((i, j, stage))
    return tuple(sorted(pairs))
