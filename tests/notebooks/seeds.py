"""A small good notebook, and for every rule of the contract the changes that must make it fail."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

from tests.notebooks.contract import Course

HOME = "01_probability/02_divergences.ipynb"
LINKS = "[← 1.1 Token distributions](01_token_distributions.ipynb) | [Start](../00_start_here.ipynb)"
ALT = "Bars of two distributions over three tones; their KL divergence is 0.3142 nats."


# --- the course around it


def exercise(name, title, verify=None):
    """A stand-in for an Exercise, with what the contract looks at."""
    return SimpleNamespace(
        id=name,
        title=title,
        prompt=f"Write `my_{name}` for two probability vectors.",
        difficulty=2,
        minutes=10,
        name=f"my_{name}",
        stub=f'def my_{name}(p, q):\n    """In nats."""\n    raise NotImplementedError',
        wrong=tuple(SimpleNamespace(diagnosis=f"You took mistake {letter}.") for letter in "abcd"),
        verify=verify,
    )


def course():
    exercises = [exercise("kl", "KL by hand"), exercise("js", "JS by hand"), exercise("fool", "Fool KL", verify=bool)]
    card = {"chapter": "01_probability", "section": "02_divergences"}
    quiz = card | {"options": ["a", "b", "c"]}
    return Course({e.id: e for e in exercises}, [dict(card) for _ in range(3)] + [quiz], lambda path: LINKS)


# --- the good notebook


def markdown(name, source, tags=()):
    return {"cell_type": "markdown", "id": name, "metadata": {"tags": list(tags)} if tags else {}, "source": source}


def code(name, source, text=None, bundle=None, metadata=None, tags=()):
    outputs = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
    if bundle:
        outputs.append({"output_type": "display_data", "data": bundle, "metadata": metadata or {}})
    cell = markdown(name, source, tags)
    return cell | {"cell_type": "code", "execution_count": None, "outputs": outputs}


def exercise_cells(name, heading, minutes=10):
    asked = course().exercises[name]
    yield markdown(name, f"### {heading}: {asked.title}\nDifficulty 2 of 5, {minutes} minutes.\n\n{asked.prompt}")
    yield code(f"{name}-stub", asked.stub, tags=["exercise"])
    check = f'check("{name}", my_{name})\n# hint("{name}")  # uncomment for the next hint'
    yield code(f"{name}-check", check, text="not attempted yet: write the body of the function.\n")


def notebook():
    """A notebook that keeps every rule."""
    opening = (
        "# 1.2 Divergences\n\nYou will be able to\n- measure how far two distributions are apart\n\n"
        "**Prerequisites:** 1.1.\n\n**Time:** 20 minutes to read, 30 minutes of exercises."
    )
    idea = (
        "## KL divergence\n<!-- covers: S1-KL -->\n$$D(p \\| q) = \\sum_i p_i \\log (p_i / q_i)$$\n\n"
        "| symbol | meaning |\n|---|---|\n| $p$ | the truth |\n\nBy hand: $-0.2433 + 0.3965 + 0.1609 = 0.3142$ nats, "
        "as in [1.1](01_token_distributions.ipynb#The-softmax) and [above](#1.2-Divergences)."
    )
    box = "> **The guide, corrected (E1-02).** The sum is printed as 0.29; it is `0.314`."
    cards = "\n".join(["<details><summary>Why?</summary>Because.</details>"] * 3)
    cells = [
        markdown("title", opening),
        code("begin", "import scipy\nfrom studyguide.course import begin, check, hint, show\n\nbegin()"),
        markdown("idea", idea),
        code("terms", "show('terms', terms)", text="terms: [-0.2433, 0.3965, 0.1609]\n"),
        code("sum", "show('KL', sum(terms))", text="KL: 0.3142\n"),
        code(
            "figure",
            "show_figure(figure, alt=alt)",
            bundle={"image/png": "iVBORw0KGgo=", "text/plain": f"Figure: {ALT}"},
            metadata={"image/png": {"alt": ALT}},
        ),
        markdown("box", box),
        code("shown", "show('KL', scipy.special.rel_entr(p, q).sum())", text="KL: 0.3142\n"),
        markdown("practice", "## Exercises"),
        *exercise_cells("kl", "Exercise"),
        *exercise_cells("js", "Exercise"),
        *exercise_cells("fool", "Break the metric"),
        markdown("recap", "## Recap\n" + "\n".join(f"- Line {number}." for number in range(1, 6))),
        code("cards", 'cards("01_probability", section="02_divergences")', bundle={"text/markdown": cards}),
        code("quiz", 'quiz("01_probability", section="02_divergences")', bundle={"text/plain": "Question 1. Why?"}),
        markdown("references", "## References\n- Kullback and Leibler 1951, doi:10.1214/aoms/1177729694."),
        markdown("links", LINKS, tags=["links"]),
    ]
    for count, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1):
        cell["execution_count"] = count
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "studyguide": {"covers": ["S1-KL"], "errata": ["E1-02"], "minutes": 50},
    }
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}


def front_door():
    """A front door that keeps every rule: it has one exercise, and none of what closes other notebooks."""
    door = notebook()
    kept = {"title", "begin", "terms", "kl", "kl-stub", "kl-check", "links"}
    door["cells"] = [cell for cell in door["cells"] if cell["id"] in kept]
    opening, imports = door["cells"][:2]
    imports["source"] = imports["source"].replace("import scipy\n", "")
    opening["source"] = opening["source"].replace("# 1.2 Divergences", "# Start here").replace("30 min", "10 min")
    door["cells"][4]["execution_count"] = 3
    door["cells"][5]["execution_count"] = 4
    door["metadata"]["studyguide"] = {"covers": [], "errata": [], "minutes": 30}
    return door


def neighbours():
    """{path: Markdown} of the notebooks that the good one links to."""
    return {"00_start_here.ipynb": "# Start here", "01_probability/01_token_distributions.ipynb": "## The softmax"}


# --- one change at a time


@dataclass(frozen=True)
class Seed:
    """A change of the good notebook or its course, the rule that must see it, the cell it must name, what it says."""

    rule: str
    at: str | None
    says: str
    change: Callable


def cell(notebook, name):
    return next(cell for cell in notebook["cells"] if cell["id"] == name)


def replaced(name, old, new):
    """Change a text in the source of a cell."""

    def change(notebook, course):
        source = cell(notebook, name)["source"]
        assert old in source
        cell(notebook, name)["source"] = source.replace(old, new)

    return change


def added(name, text):
    """Add to the source of a cell."""

    def change(notebook, course):
        cell(notebook, name)["source"] += text

    return change


def printing(name, text, stream="stdout"):
    """Give a cell another output."""

    def change(notebook, course):
        cell(notebook, name)["outputs"] = [{"output_type": "stream", "name": stream, "text": text}] if text else []

    return change


def without(*names):
    """Leave cells out."""

    def change(notebook, course):
        notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] not in names]

    return change


def after(name, *cells):
    """Insert cells after one."""

    def change(notebook, course):
        place = [cell["id"] for cell in notebook["cells"]].index(name) + 1
        notebook["cells"][place:place] = cells

    return change


def set_in(name, key, value):
    """Set a field of a cell, or of its metadata with a key such as "metadata.tags"."""

    def change(notebook, course):
        *path, last = key.split(".")
        place = cell(notebook, name)
        for part in path:
            place = place[part]
        place[last] = value

    return change


def about(key, value):
    """Set an entry of the notebook's studyguide metadata."""
    return lambda notebook, course: notebook["metadata"]["studyguide"].update({key: value})


def exercise_with(key, /, **fields):
    """Change an exercise of the package."""
    return lambda notebook, course: vars(course.exercises[key]).update(fields)


def alt(text):
    """Another alternative text, told twice as it ought to be."""

    def change(notebook, course):
        output = cell(notebook, "figure")["outputs"][0]
        output["metadata"] = {"image/png": {"alt": text}}
        output["data"]["text/plain"] = f"Figure: {text}"

    return change


def diagnosed(*diagnoses):
    """Give an exercise these diagnoses."""
    return exercise_with("kl", wrong=tuple(SimpleNamespace(diagnosis=text) for text in diagnoses))


def text_form(text):
    """Another text form of the figure."""

    def change(notebook, course):
        cell(notebook, "figure")["outputs"][0]["data"]["text/plain"] = text

    return change


def no_alt(notebook, course):
    cell(notebook, "figure")["outputs"][0]["metadata"] = {}


def error(notebook, course):
    cell(notebook, "sum")["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]


def web_page(notebook, course):
    cell(notebook, "cards")["outputs"][0]["data"]["text/html"] = '<script src="https://example.org/a.js"></script>'


def long_cells(notebook, course):
    for each in notebook["cells"]:
        if each["cell_type"] == "code":
            each["source"] += "\n" * 8 + "x = 1"


def three_more(name):
    """Three more exercises, so that there are five."""
    return after(name, *(markdown(f"more-{n}", f"### Exercise: More {n}") for n in range(3)))


STUB = code("stray", "def my_kl(p, q):\n    raise NotImplementedError", tags=["exercise"])
PLAIN = code("stray", "x = 1")

SEEDS = [
    # the file
    Seed("stored_as_agreed", None, "nbformat 4.4", lambda n, c: n.update(nbformat_minor=4)),
    Seed("stored_as_agreed", "sum", "outputs", lambda n, c: cell(n, "sum").pop("outputs")),
    Seed("stored_as_agreed", "idea", "unexpected", set_in("idea", "attachment", 1)),
    Seed("metadata", None, "metadata keys", lambda n, c: n["metadata"].update(widgets={})),
    Seed("metadata", None, "metadata keys", lambda n, c: n["metadata"].pop("studyguide")),
    Seed("metadata", None, "metadata kernelspec", lambda n, c: n["metadata"]["kernelspec"].update(name="conda")),
    Seed("metadata", None, "metadata language_info", lambda n, c: n["metadata"].update(language_info={})),
    Seed("metadata", None, "metadata studyguide", about("author", "me")),
    Seed("metadata", None, "metadata covers names an id twice", about("covers", ["S1-KL", "S1-KL"])),
    Seed("metadata", None, "metadata minutes", about("minutes", "50")),
    Seed("cell_metadata", "sum", "unknown cell metadata", set_in("sum", "metadata.execution", {})),
    Seed("cell_metadata", "sum", "unknown tags", set_in("sum", "metadata.tags", ["raises-exception"])),
    Seed("cell_metadata", "sum", "marker comment", added("sum", "  # NBVAL_IGNORE_OUTPUT")),
    Seed("cell_metadata", "sum", "go together", set_in("sum", "metadata.tags", ["nbval-ignore-output"])),
    Seed("cell_metadata", "sum", "go together", set_in("sum", "metadata.studyguide", {"ignored_because": "slow"})),
    # the opening
    Seed("title", "title", "title must", replaced("title", "# 1.2 D", "# 1.3 D")),
    Seed("title", "title", "title must", replaced("title", "# 1.2 Divergences\n", "")),
    Seed("title", "idea", "second top-level", replaced("idea", "## KL", "# KL")),
    Seed("objectives", "title", "You will be able to", replaced("title", "You will be able to\n", "")),
    Seed("objectives", "title", "list", replaced("title", "- measure", "measure")),
    Seed("prerequisites", "title", "Prerequisites", replaced("title", "**Prerequisites:** 1.1.", "")),
    Seed("prerequisites", "title", "Prerequisites", replaced("title", ":** 1.1.", ":**")),
    Seed("minutes", "title", "no line", replaced("title", "20 minutes", "twenty minutes")),
    Seed("minutes", "title", "in the metadata", about("minutes", 45)),
    Seed("minutes", "title", "take 35", exercise_with("kl", minutes=15)),
    Seed("begin", "begin", "only imports", replaced("begin", "import scipy", "scipy = None")),
    Seed("begin", "begin", "end with begin()", replaced("begin", "\nbegin()", "")),
    Seed("begin", "begin", "end with begin()", replaced("begin", "import begin, ", "import ")),
    Seed("begin", "begin", "print nothing", printing("begin", "Hello")),
    Seed("imports", "begin", "scipy is imported, but not used", replaced("shown", "scipy", "my")),
    Seed("imports", "begin", "hint is not imported", replaced("begin", "hint, ", "")),
    # the teaching
    Seed("ideas", "idea", "table of its symbols", replaced("idea", "| symbol |", "| letter |")),
    Seed("ideas", "idea", "computes it", without("terms", "sum", "shown")),
    Seed("ideas", None, "no independent library", replaced("begin", "import scipy\n", "")),
    Seed("ideas", None, "no figure", without("figure")),
    Seed("covers", "idea", "not in metadata", replaced("idea", "S1-KL", "S1-KL, S1-JS")),
    Seed("covers", "box", "second time", added("box", "\n<!-- covers: S1-KL -->")),
    Seed("covers", None, "no comment names it", about("covers", ["S1-KL", "S1-JS"])),
    Seed("errata", "recap", "must open its own cell", added("recap", "\n> **The guide, corrected (E1-02).**")),
    Seed("errata", "box", "not in metadata", replaced("box", "(E1-02)", "(E1-02, E1-03)")),
    Seed("errata", "references", "second box", replaced("references", "## R", "> **The guide, corrected (E1-02).** R")),
    Seed("errata", None, "has no box", about("errata", ["E1-02", "E1-03"])),
    Seed("errata_shown", "box", "before the next heading", without("shown")),
    Seed("errata_shown", "box", "before the next heading", printing("shown", None)),
    Seed(
        "errata_shown",
        "references",
        "no code cell with output",
        replaced("references", "## R", "> **The guide, corrected (E1-02).** R"),
    ),
    # exercises
    Seed("exercise_count", None, "1 exercises", without("kl", "kl-stub", "kl-check")),
    Seed("exercise_count", None, "5 exercises", three_more("js-check")),
    Seed("lab", None, "no lab", without("fool", "fool-stub", "fool-check")),
    Seed("lab", "fool", "verify", exercise_with("fool", verify=None)),
    Seed("lab", "kl", "verify", exercise_with("kl", verify=bool)),
    Seed("exercise_cells", "kl-stub", "tagged `exercise`", set_in("kl-stub", "metadata.tags", [])),
    Seed("exercise_cells", "kl-check", "expected `check", replaced("kl-check", "# hint", "hint")),
    Seed("exercise_cells", "kl-check", "no exercise has the id", replaced("kl-check", '"kl"', '"lk"')),
    Seed("exercise_cells", "stray", "without", after("shown", STUB)),
    Seed("exercise_cells", "shown", "belongs to no exercise", added("shown", "\ncheck('kl', my_kl)")),
    Seed("exercise_texts", "kl", "title", exercise_with("kl", title="KL by heart")),
    Seed("exercise_texts", "kl", "second line", exercise_with("kl", difficulty=3)),
    Seed("exercise_texts", "kl", "prompt", added("kl", " Use torch.")),
    Seed("exercise_texts", "kl-stub", "stub", replaced("kl-stub", "raise NotImplementedError", "return 0")),
    Seed("exercise_texts", "kl-check", "function", exercise_with("kl", name="my_kl_divergence")),
    Seed("exercise_diagnoses", "kl", "names 3 wrong answers", diagnosed("a", "b", "c")),
    Seed("exercise_diagnoses", "kl", "empty diagnosis", diagnosed("a", "b", "c", "")),
    Seed("exercise_diagnoses", "kl", "the same one twice", diagnosed("a", "b", "c", "a")),
    Seed("exercise_unsolved", "kl-check", "not attempted yet", printing("kl-check", "passed: KL by hand.\n")),
    # the end
    Seed("interview", None, "no cell calls cards", replaced("cards", "02_div", "01_div")),
    Seed("interview", "cards", "fewer than three cards", set_in("cards", "outputs", [])),
    Seed("interview", "cards", "bank", lambda n, c: c.bank.pop(0)),
    Seed("quizzed", None, "no cell calls quiz", without("quiz")),
    Seed("quizzed", "quiz", "no text", set_in("quiz", "outputs", [])),
    Seed("recap", None, "0 cells", replaced("recap", "## Recap", "## Summary")),
    Seed("recap", "recap", "4 list items", replaced("recap", "- Line 3.\n", "")),
    Seed("references", None, "0 cells", without("references")),
    Seed("references", "references", "not a list", replaced("references", "- K", "K")),
    Seed("generated_links", "links", "must be", replaced("links", "01_token", "02_token")),
    Seed("generated_links", "links", "tagged", set_in("links", "metadata.tags", [])),
    Seed("generated_links", "recap", "tagged", set_in("recap", "metadata.tags", ["links"])),
    Seed("link_targets", "idea", "no such file", replaced("idea", "(01_token", "(1_token")),
    Seed("link_targets", "idea", "no such heading", replaced("idea", "#The-softmax", "#Softmax")),
    Seed("link_targets", "idea", "no such heading", replaced("idea", "#1.2-Divergences", "#1.1-Divergences")),
    # code and outputs
    Seed("code_lengths", "sum", "26 lines", added("sum", "\nx = 1" * 25)),
    Seed("code_lengths", None, "median", long_cells),
    Seed("executed", "sum", "execution count None", set_in("sum", "execution_count", None)),
    Seed("executed", "shown", "expected 5", set_in("shown", "execution_count", 7)),
    Seed("clean_outputs", "sum", "error: ValueError", error),
    Seed("clean_outputs", "sum", "stderr", printing("sum", "0.3142", stream="stderr")),
    Seed("clean_outputs", "sum", "UserWarning", printing("sum", "a.py:3: UserWarning: slow\n0.3142")),
    Seed("rounded_outputs", "sum", "0.31418", printing("sum", "KL: 0.31418\n")),
    Seed("alternative_texts", "figure", "0 characters", no_alt),
    Seed("alternative_texts", "figure", "5 characters", alt("Bars.")),
    Seed("alternative_texts", "figure", "text form", text_form("<Figure size 640x480>")),
    Seed("drawn_statistics", "figure", "a figure", after("sum", PLAIN)),
    Seed("no_network", "box", "![Bars](https://", added("box", "![Bars](https://example.org/bars.png)")),
    Seed("no_network", "box", "<img", added("box", "<img alt='Bars' src='http://example.org/bars.png'>")),
    Seed("no_network", "cards", "<script", web_page),
    Seed("prose_numbers", "box", "0.315", replaced("box", "0.314", "0.315")),
    Seed("prose_numbers", "idea", "0.3143", replaced("idea", "0.3142", "0.3143")),
    Seed("prose_numbers", "idea", "-0.3965", replaced("idea", "+ 0.3965", "−0.3965")),
    Seed("prose_numbers", "idea", "1234.567", added("idea", " It costs 1,234.567 bits.")),
    Seed("prose_numbers", "idea", "1.234e-5", added("idea", r" It is $1.234 \times 10^{-5}$.")),
    Seed("prose_numbers", "figure", "0.2718", alt(ALT.replace("0.3142", "0.2718"))),
]
