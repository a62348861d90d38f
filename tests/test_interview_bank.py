"""The interview bank keeps its schema, and its snippets print the numbers that it states.

An entry of ``data/interview/<chapter>.yaml`` has the fields of FIELDS. With `options` it is a quiz item: one option is
correct, and each is explained. `snippet` proves the numbers of the answer: its last printed line is `prints`.
"""

import contextlib
import io
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from studyguide.datasets import path as data_path
from tests.notebooks.contract import agrees, cells, headings, notebook_files, numbers, read

FOLDER = Path(__file__).parents[1] / "notebooks"
FIELDS = {"id", "chapter", "section", "heading", "level", "question", "answer", "follow_ups"}
EXTRA = {"options", "snippet", "prints"}
LEVELS = {"junior", "mid", "senior", "staff"}
BANK = [
    (file.stem, entry)
    for file in sorted(data_path("interview").glob("*.yaml"))
    for entry in yaml.safe_load(file.read_text(encoding="utf-8"))
]
PROVED = [entry for _, entry in BANK if "snippet" in entry]


@pytest.fixture(scope="module")
def notebooks():
    """{(chapter, notebook): its headings}; the front door is its own chapter."""
    return {
        (path.parent.name if path.parent != FOLDER else path.stem, path.stem): {
            text for _, cell in cells(read(path), "markdown") for _, text in headings(cell["source"])
        }
        for path in notebook_files(FOLDER)
    }


# --- the schema


def problems(bank, notebooks):
    """What is wrong with a bank of (file name, entry) pairs."""
    seen = Counter(entry.get("id") for _, entry in bank)
    found = [f"{name}: the id is used {count} times" for name, count in seen.items() if count > 1]
    for file, entry in bank:
        if missing := FIELDS - set(entry):
            found.append(f"{entry.get('id')}: without {', '.join(sorted(missing))}")
        else:
            checks = (shape, place, length, quiz, evidence)
            found += [f"{entry['id']}: {problem}" for check in checks for problem in check(entry, file, notebooks)]
    return found


def shape(entry, file, notebooks):
    if unknown := set(entry) - FIELDS - EXTRA:
        yield f"unknown fields {sorted(unknown)}"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry["id"]):
        yield "the id is not in kebab-case"
    if entry["level"] not in LEVELS:
        yield f"level {entry['level']!r} is none of {sorted(LEVELS)}"
    for field in ("question", "heading"):
        if not str(entry[field]).strip():
            yield f"{field} is empty"
    if not entry["follow_ups"] or not all(isinstance(text, str) and text.strip() for text in entry["follow_ups"]):
        yield "follow_ups must be a list of questions"


def place(entry, file, notebooks):
    if entry["chapter"] != file:
        yield f"chapter {entry['chapter']!r} in the file of {file}"
    where = (entry["chapter"], entry["section"])
    if where not in notebooks:
        yield f"there is no notebook {'/'.join(where)}"
    elif entry["heading"] not in notebooks[where]:
        yield f"{'/'.join(where)} has no heading {entry['heading']!r}"


def length(entry, file, notebooks):
    if not 40 <= (words := len(entry["answer"].split())) <= 220:
        yield f"the answer has {words} words; expected 40 to 220"


def quiz(entry, file, notebooks):
    if "options" not in entry:
        return
    options = entry["options"]
    if not all(set(option) == {"text", "correct", "explanation"} for option in options):
        yield "an option has text, correct and explanation"
        return
    if len(options) < 3:
        yield f"{len(options)} options; expected 3 or more"
    if [option["correct"] for option in options].count(True) != 1 or {type(o["correct"]) for o in options} != {bool}:
        yield "exactly one option must be correct: true, the others false"
    for field in ("text", "explanation"):
        texts = [str(option[field]).strip() for option in options]
        if "" in texts or len(set(texts)) != len(texts):
            yield f"an option's {field} is empty or repeated"


def evidence(entry, file, notebooks):
    """A number with two or more decimals in the answer or an explanation must be printed by the snippet."""
    if ("snippet" in entry) != ("prints" in entry) or not isinstance(entry.get("prints", ""), str):
        yield "snippet and prints go together, prints as text"
        return
    printed = [value for _, value, _, _ in numbers(entry.get("prints", ""))]
    for text in (entry["answer"], *(option.get("explanation", "") for option in entry.get("options", []))):
        for written, value, decimals, exponent in numbers(str(text)):
            if decimals >= 2 and not any(agrees(value, decimals, exponent, output) for output in printed):
                yield f"{written} is not in what the snippet prints"


def shortages(bank, notebooks):
    """The notebooks with fewer than three questions or quiz items; the front door needs none."""
    held = Counter((entry["chapter"], entry["section"], "options" in entry) for _, entry in bank)
    return [
        f"{chapter}/{section} has {held[chapter, section, kind]} {'quiz items' if kind else 'questions'}; expected 3"
        for chapter, section in notebooks
        for kind in (False, True)
        if chapter != section and held[chapter, section, kind] < 3
    ]


# --- the bank


def test_the_bank_keeps_its_schema(notebooks):
    assert problems(BANK, notebooks) == []


def test_each_notebook_has_three_questions_and_three_quiz_items(notebooks):
    assert shortages(BANK, notebooks) == []


@pytest.mark.parametrize("entry", PROVED, ids=[entry["id"] for entry in PROVED])
def test_the_snippet_prints_what_the_entry_states(entry):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(entry["snippet"], entry["id"], "exec"), {})
    assert printed.getvalue().rstrip().splitlines()[-1] == entry["prints"]


# --- the check itself

PLACES = {("01_probability", "02_divergences"): {"KL divergence"}, ("00_start_here", "00_start_here"): {"Start"}}


def good():
    return {
        "id": "why-kl",
        "chapter": "01_probability",
        "section": "02_divergences",
        "heading": "KL divergence",
        "level": "mid",
        "question": "What is KL?",
        "answer": "It is 0.31 nats. " + "word " * 40,
        "follow_ups": ["And in bits?"],
        "options": [{"text": text, "correct": text == "b", "explanation": f"As {text} says."} for text in "abc"],
        "snippet": "print('KL', 0.3142)",
        "prints": "KL 0.3142",
    }


def test_a_good_entry_has_no_problems():
    plain = good() | {"id": "plain", "answer": "word " * 40}
    for field in ("options", "snippet", "prints"):
        del plain[field]
    assert problems([("01_probability", good()), ("01_probability", plain)], PLACES) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"author": "me"}, "unknown fields"),
        ({"id": "Why KL"}, "kebab-case"),
        ({"level": "principal"}, "level 'principal'"),
        ({"question": " "}, "question is empty"),
        ({"follow_ups": []}, "follow_ups"),
        ({"chapter": "02_statistics"}, "in the file of 01_probability"),
        ({"section": "03_entropy"}, "no notebook 01_probability/03_entropy"),
        ({"heading": "Kullback"}, "no heading 'Kullback'"),
        ({"answer": "word " * 39}, "39 words"),
        ({"answer": "word " * 221}, "221 words"),
        ({"answer": "It is 0.32 nats. " + "word " * 40}, "0.32 is not in what"),
        ({"options": good()["options"][:2]}, "2 options"),
        ({"options": [option | {"correct": True} for option in good()["options"]]}, "exactly one option"),
        ({"options": [option | {"correct": False} for option in good()["options"]]}, "exactly one option"),
        ({"options": [option | {"explanation": "No."} for option in good()["options"]]}, "explanation is empty or rep"),
        ({"options": [option | {"explanation": ""} for option in good()["options"]]}, "explanation is empty or rep"),
        ({"options": [{"text": "a", "correct": True}]}, "an option has text"),
        ({"options": [o | {"explanation": f"{o['text']}: 1.28"} for o in good()["options"]]}, "1.28 is not in what"),
        ({"prints": 0.31}, "prints as text"),
    ],
)
def test_a_bad_entry_is_found(change, problem):
    assert any(problem in found for found in problems([("01_probability", good() | change)], PLACES))


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_a_missing_field_is_found(field):
    entry = good()
    del entry[field]
    assert any(f"without {field}" in found for found in problems([("01_probability", entry)], PLACES))


def test_an_id_used_twice_is_found():
    assert problems([("01_probability", good())] * 2, PLACES) == ["why-kl: the id is used 2 times"]


def test_a_notebook_with_few_questions_is_found():
    question = {key: value for key, value in good().items() if key != "options"}
    bank = [("01_probability", entry) for entry in [good()] * 3 + [question] * 2]
    assert shortages(bank, PLACES) == ["01_probability/02_divergences has 2 questions; expected 3"]
