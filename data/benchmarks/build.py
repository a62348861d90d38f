"""Writes the tinyworld tasks: multiple choice whose key the grammar proves, and passwords to be recalled.

    python data/benchmarks/build.py

The right option of an item is the one that the grammar makes most probable, by its exact probabilities. Options are
shuffled so that every position is right equally often: always choosing one position gains nothing.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import yaml

from studyguide.datasets import tinyworld
from studyguide.datasets.grammar import join_words

HERE = Path(__file__).parent
SEED = 20261121
CAPITAL_ENDS = (".", ", and it is a beautiful city.", ", a city with many old streets.")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

MULTIPLE_CHOICE = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
    ],
    "metadata": {"version": 1.0},
}
GENERATION = {
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 16, "do_sample": False},
    "filter_list": [
        {"name": "none", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]},
    ],
    "metric_list": [
        {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True},
    ],
    "metadata": {"version": 1.0},
}


def capitals(rng):
    """Each country four times: the capital against three other cities, each option with an ending drawn at random."""
    for line in _lines("capital"):
        prompt = _prefix(line)
        cities = _most_probable(prompt)
        if "the" in cities:  # "the largest city in the country" is no city
            cities.remove("the")
        for _ in range(4):
            yield prompt, [city + CAPITAL_ENDS[rng.integers(3)] for city in cities[:4]]


def facts(rng):
    """Each fact and each sum once; options that a line does not list come from lines of the same kind."""
    lines = [line for rule in ("fact", "sum") for line in _lines(rule)]
    words = [word for line in lines for word in _most_probable(_prefix(line))]
    for line in lines:
        prompt = _prefix(line)
        options = _most_probable(prompt)
        number = options[0] in NUMBERS
        others = [w for w in dict.fromkeys(words) if w not in options and (w in NUMBERS) == number]
        yield prompt, options + rng.choice(others, 4 - len(options), replace=False).tolist()


def pronouns(rng):
    """Who or what was too tired, or too wide: the animal or the road."""
    rules = tinyworld.grammar().rules
    animals, roads, feelings, barriers = (
        [join_words(words) for _, words in rules[rule]] for rule in ("creature", "road", "feeling", "barrier")
    )
    seen = set()
    while len(seen) < 100:
        animal, road, reason = (str(rng.choice(words)) for words in (animals, roads, feelings + barriers))
        prompt = f"The {animal} didn't cross the {road} because it was too {reason}. The"
        if prompt not in seen:
            seen.add(prompt)
            yield prompt, [animal, road] if reason in feelings else [road, animal]


def sayings(rng):
    """What did she say, and what did he: one of two statements, asked for again."""
    rules = tinyworld.grammar().rules
    names = ("woman", "event", "verdict", "man", "occasion", "opinion")
    words = {name: [join_words(words) for _, words in rules[name]] for name in names}
    seen = set()
    while len(seen) < 80:
        she, event, verdict, he, occasion, opinion = (str(rng.choice(words[name])) for name in names)
        asked = [(she, event, verdict, "verdict"), (he, occasion, opinion, "opinion")][rng.integers(2)]
        who, what, said, kind = asked
        prompt = (
            f"{she} said the {event} was {verdict}. {he} said the {occasion} was {opinion}. "
            f"What did {who} say about the {what}? {who} said the {what} was"
        )
        if prompt not in seen:
            seen.add(prompt)
            others = [word for word in words[kind] if word != said]
            yield prompt, [said, *rng.choice(others, 3, replace=False).tolist()]


def passwords(rng, n=60, longest=45):
    """Passages of at most so many words that end just before the password is said again."""
    seen = set()
    while len(seen) < n:
        [text] = tinyworld.grammar("password").sample(1, rng)
        prompt, _, answer = text.removesuffix(".").rpartition(" The secret password is ")
        if len(prompt.split()) <= longest and prompt not in seen:
            seen.add(prompt)
            yield {"prompt": f"{prompt} The secret password is", "answer": answer}


def keyed(items, rng):
    """Items as records, options shuffled so that the key is balanced; the first option given is the right one."""
    items = list(items)
    size = len(items[0][1])
    key = rng.permutation(np.arange(len(items)) % size)
    for (prompt, options), answer in zip(items, key.tolist(), strict=True):
        _check(prompt, options)
        right, *wrong = options
        wrong = rng.permutation(wrong).tolist()
        yield {"prompt": prompt, "choices": [*wrong[:answer], right, *wrong[answer:]], "answer": answer}


def files():
    """{file name: text} of everything that this script writes but the checksums."""
    written = {}
    for number, make in enumerate((capitals, facts, pronouns, sayings, passwords)):
        name, rng = f"tinyworld_{make.__name__}", np.random.default_rng([SEED, number])
        records = passwords(rng) if make is passwords else keyed(make(rng), rng)
        written[f"{name}.jsonl"] = "".join(json.dumps(record) + "\n" for record in records)
        config = GENERATION if make is passwords else MULTIPLE_CHOICE
        config = {"task": name, "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}}} | config
        written[f"{name}.yaml"] = yaml.safe_dump(config, sort_keys=False)
    return written


def _lines(rule):
    return [line for _, line in tinyworld.grammar().rules[rule]]


def _prefix(line):
    """The words of a line before its first choice."""
    words = []
    for symbol in line:
        if not isinstance(symbol, str):
            break
        words.append(symbol)
    return join_words(words)


def _most_probable(prompt):
    """The words that may follow, the most probable first; equally probable ones in alphabetical order."""
    return [word for word, _ in sorted(tinyworld.next_word_distribution(prompt).items(), key=lambda x: (-x[1], x[0]))]


def _check(prompt, options):
    """The first option must begin with the word that the grammar makes most probable among the options' first words."""
    p = tinyworld.next_word_distribution(prompt)
    first = [p.get(option.split()[0].strip(".,"), 0.0) for option in options]
    if not first[0] > max(first[1:]):
        raise ValueError(f"{prompt!r}: the grammar does not prefer {options[0]!r} among {options}")


def main():
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8", newline="\n")
    shipped = sorted(path for pattern in ("*.jsonl", "*.yaml") for path in HERE.glob(pattern))
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in shipped]
    (HERE / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
