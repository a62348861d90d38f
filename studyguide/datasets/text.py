"""Texts to try metrics on, written for the course: translations with ratings, summaries, pairs of sentences, Arabic.

The card ``data/text/README.md`` says how they were made. Every call reads the files anew, and an error names a file
that is not what its checksum says.

    >>> from studyguide.datasets import text
    >>> [pair["kind"] for pair in text.pairs()[::44]]
    ['paraphrase', 'negation', 'unrelated']
"""

import json

from studyguide.datasets import path, verify

__all__ = ["arabic", "pairs", "summaries", "translations"]


def translations():
    """German sentences, two English references, three systems' outputs and three raters' marks: a list of dicts.

    Keys: `id`, `source`, `references` (2), `systems` {"good", "fair", "poor": text}, `ratings` {system: 3 integers from
    1 to 5, always of the same three raters in the same order}, `slip` (what is wrong with the fair one: "adverb",
    "article", "word order" or "idiom") and `fault` (the poor one's: "number", "negation", "missing" or "salad").

    >>> item = translations()[0]
    >>> item["source"], item["fault"]
    ('Der Zug nach Hamburg fährt heute ausnahmsweise von Gleis sieben ab.', 'number')
    >>> item["systems"]["poor"]
    'The train to Hamburg is leaving from platform seventeen today, as an exception.'
    >>> {system: len(marks) for system, marks in item["ratings"].items()}
    {'good': 3, 'fair': 3, 'poor': 3}
    """
    items, ratings = _read("translations"), _read("ratings")
    return [item | {"ratings": rated["ratings"]} for item, rated in zip(items, ratings, strict=True)]


def summaries():
    """Articles of 60 to 120 words, a reference summary and four others: a list of dicts.

    Keys: `id`, `article`, `reference`, `summaries` {"good", "extractive", "hallucinating", "off_topic": text}. The
    extractive one is the article's first sentence; the hallucinating one states one fact wrongly.

    >>> item = summaries()[0]
    >>> item["article"].startswith(item["summaries"]["extractive"])
    True
    """
    return _read("summaries")


def pairs():
    """Pairs of sentences `a` and `b` of a `kind`, "paraphrase", "negation" or "unrelated": a list of dicts with an `id`.

    >>> [pair for pair in pairs() if pair["kind"] == "negation"][0]["b"]
    'The film is not worth watching.'
    """
    return _read("pairs")


def arabic():
    """Modern Standard Arabic: a list of dicts with keys `id`, `reference`, `good` (a paraphrase) and `poor`.

    >>> len(arabic()) >= 20
    True
    """
    return _read("arabic")


def _read(name):
    folder = path("text")
    if problems := verify(folder):
        raise ValueError("; ".join([*problems, "python data/text/build.py writes the checksums after an edit"]))
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
