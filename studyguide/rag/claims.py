"""What a text claims, by its punctuation and words alone: for the judges that work without a language model."""

import re
import unicodedata
from functools import lru_cache

from studyguide.probability.validation import positive_integer
from studyguide.text.ngrams import stem

SENTENCE_END = re.compile(r"(?<!\bNo\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMr\.)(?<!\bvs\.)(?<=[.!?])[\"')\]]?\s+(?=[^a-z\s])")
CLAUSE_END = re.compile(r";\s+|,\s+(?:and|but|while|whereas)\s+")
TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*")
SOURCES = r"\b(?:the|these|those|this|of) (?:passages?|contexts?|documents?|sources?|them)\b"
DECLINES = re.compile(
    r"\b(?:I|we) (?:(?:do not|don't|cannot|can't|could not|couldn't) (?:know|say|tell|find|answer)|(?:find|found) no)"
    rf"|{SOURCES}.* (?:not|no|none|nothing|neither)\b|\b(?:not|no|none|nothing|neither)\b.* {SOURCES}",
    re.I,
)
ABOUT_SOURCES = re.compile(rf"{SOURCES}|none|nothing|neither|no\b|I\b|we\b", re.I)
COPULA = re.compile(r"(.+?) (is|are|was|were) .+")


NEGATIONS, NUMBERS, STOP = map(str.split, (
    "no not never none neither nor nobody nothing nowhere cannot without",
    "two three four five six seven eight nine ten eleven twelve",
    """
    a an and are as at be been being but by can could did do does for from had has have he her his how i if in into is it
    its may more most must of on one or our she should so than that the their them then there these they this those to was
    we were what when where which while who whom whose why will with would you your
    """,
))  # fmt: skip
NUMBERS = {word: str(number) for number, word in enumerate(NUMBERS, 2)}


def split_claims(text):
    """The sentences of a text, cut at semicolons and at ", and" or ", but" between clauses of four words or more.

    Clauses that decline to answer are left out ("the passages do not say"), and the whole sentence if it opens with the
    passages, "I" or "none". A pronoun stays what it is, and a claim in a relative clause stays hidden: this splitter
    knows punctuation, not grammar.

    >>> split_claims("Orrin is the capital, but the port of Dunmar is larger. I do not know its age.")
    ['Orrin is the capital', 'the port of Dunmar is larger.']
    """
    claims = []
    for sentence in sentences(checked("text", text)):
        if ABOUT_SOURCES.match(sentence) and DECLINES.search(sentence):
            continue
        start = 0
        for cut in CLAUSE_END.finditer(sentence):
            if min(len(sentence[start : cut.start()].split()), len(sentence[cut.end() :].split())) >= 4:
                claims.append(sentence[start : cut.start()])
                start = cut.end()
        claims.append(sentence[start:])
    return [claim for claim in claims if not DECLINES.search(claim) and TOKEN.search(claim)]


def plain_questions(answer, n):
    """Up to n questions that an answer would answer, by form alone: "What is X?" of "X is Y", else the claim with "?".

    >>> plain_questions("The capital of Velmora is Orrin. Ferries leave at noon.", 3)
    ['What is the capital of Velmora?', 'Ferries leave at noon?']
    """
    questions = []
    for claim in split_claims(answer)[: positive_integer("n", n)]:
        parts = COPULA.fullmatch(claim)
        questions.append(f"What {parts[2]} {parts[1].replace('The ', 'the ')}?" if parts else f"{claim.rstrip('.!')}?")
    return questions


@lru_cache(maxsize=100_000)
def read_words(text):
    """The stems of a text's content words, its numbers, and whether it holds a negation."""
    words, numbers, negated = set(), set(), False
    for token in TOKEN.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'")):
        if token[0].isdigit() or token in NUMBERS:
            numbers.add(NUMBERS.get(token) or re.sub(r",(?=\d{3}\b)", "", token))
        elif token in NEGATIONS or token.endswith("n't"):
            negated = True
        elif token not in STOP:
            words.add(stem(token.removesuffix("'s")))
    return frozenset(words), frozenset(numbers), negated


@lru_cache(maxsize=10_000)
def sentences(text):
    """The sentences of a text, a tuple."""
    return tuple(SENTENCE_END.split(text.strip()))


def share(part, whole):
    """The share of a set that is in another; 0 of an empty one."""
    return len(part & whole) / len(part) if part else 0.0


def checked(name, value):
    """`value`, which must be a text that is not blank."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r:.60}; expected a text")
    if not value.strip():
        raise ValueError(f"{name} is blank; expected a text")
    return value
