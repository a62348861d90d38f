"""Draws the raters' marks of the translations from a stated model and writes the checksums.

    python data/text/build.py

The texts themselves are not derived from anything: edit `translations.jsonl`, `summaries.jsonl`, `pairs.jsonl` or
`arabic.jsonl` and run this again. Each item's marks hang on its place in the file and on its labels alone, so that an
item added at the end changes no other.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 20261122

# The mean quality of an output without fault, with the fair system's slip, with the poor system's fault.
QUALITY = {"good": 4.5}
QUALITY |= {"adverb": 3.7, "article": 3.5, "word order": 3.1, "idiom": 2.7}
QUALITY |= {"number": 2.4, "negation": 2.1, "missing": 1.8, "salad": 1.3}
OUTPUT_SD = 0.3  # what is particular to one output, seen alike by every rater
SEVERITY = (-0.4, 0.0, 0.4)  # what a rater takes off every mark: a lenient one, a middling one, a strict one
NOISE_SD = 0.6  # what is particular to one rater's look at one output


def rate(item, rng):
    """Marks of one item: {system: a mark from 1 to 5 by each rater}."""
    qualities = {"good": QUALITY["good"], "fair": QUALITY[item["slip"]], "poor": QUALITY[item["fault"]]}
    marks = {}
    for system, quality in qualities.items():
        seen = quality + rng.normal(0, OUTPUT_SD) - np.array(SEVERITY) + rng.normal(0, NOISE_SD, len(SEVERITY))
        marks[system] = np.clip(np.rint(seen), 1, 5).astype(int).tolist()
    return marks


def ratings():
    """The text of `ratings.jsonl`: a line for each translation, in the same order."""
    lines = (HERE / "translations.jsonl").read_text(encoding="utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    records = [
        {"id": item["id"], "ratings": rate(item, np.random.default_rng([SEED, number]))}
        for number, item in enumerate(items)
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


def checksums():
    """The text of `SHA256SUMS`, of the files as they are."""
    shipped = sorted(HERE.glob("*.jsonl"))
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in shipped)


def main():
    (HERE / "ratings.jsonl").write_text(ratings(), encoding="utf-8", newline="\n")
    (HERE / "SHA256SUMS").write_text(checksums(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
