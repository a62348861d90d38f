"""The notebook contract: one small function per rule, all of them in RULES.

A rule is given a notebook (nbformat 4 as a dict), its path and the course, and yields (cell number, message) for what
breaks it; `rule` makes a list of Problems of that. Cells are counted from 1, 0 is the notebook as a whole. The front
door, `00_start_here.ipynb`, is exempt from the rules marked ``front_door=False``.
"""

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import median
from urllib.parse import unquote

import nbformat
from nbformat.validator import iter_validate

IGNORED = "nbval-ignore-output"
TAGS = {"exercise", "links", IGNORED}
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
INDEPENDENT = {
    "evidently", "faiss", "krippendorff", "nltk", "pytrec_eval", "ranx", "river", "rouge_score", "sacrebleu", "scipy", "sklearn",
    "statsmodels", "torch_fidelity", "torchmetrics", "torchvision", "transformers",
}  # fmt: skip
RULES = {}


@dataclass(frozen=True)
class Problem:
    """A broken rule: where, and what is wrong."""

    notebook: str
    cell: int
    message: str

    def __str__(self):
        return f"{self.notebook}{f', cell {self.cell}' if self.cell else ''}: {self.message}"


@dataclass(frozen=True)
class Course:
    """What the rules must know beside the notebook itself."""

    exercises: dict  # {id: Exercise}
    bank: list  # the entries of the interview bank
    links: Callable  # path of a notebook -> the text of its generated last cell


def rule(front_door=True):
    """Register a rule under its function's name."""

    def register(find):
        @functools.wraps(find)
        def run(notebook, path, course):
            if is_front_door(path) and not front_door:
                return []
            return [Problem(path.name, number, message) for number, message in find(notebook, path, course)]

        RULES[find.__name__] = run
        return run

    return register


# --- reading notebooks


def read(path):
    """A notebook as it is stored: sources joined, nothing upgraded or repaired."""
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=nbformat.NO_CONVERT)


def is_front_door(path):
    return path.stem == "00_start_here"


def cells(notebook, kind=None):
    """(number, cell) of all cells, or of those of one kind."""
    return [(n, c) for n, c in enumerate(notebook["cells"], 1) if kind in (None, c["cell_type"])]


def tags(cell):
    return cell["metadata"].get("tags", [])


def guide(notebook):
    """The notebook's metadata for this course."""
    return {"covers": [], "errata": [], "minutes": 0} | notebook["metadata"].get("studyguide", {})


def data(cell):
    """The MIME bundles of a code cell's outputs."""
    return [output["data"] for output in cell.get("outputs", []) if "data" in output]


def figures(cell):
    """The outputs of a cell that hold a picture."""
    return [o for o in cell.get("outputs", []) if any(mime.startswith("image/") for mime in o.get("data", {}))]


def printed(cell):
    """What a cell prints, without the alternative text of figures."""
    streams = [output["text"] for output in cell.get("outputs", []) if output["output_type"] == "stream"]
    plain = [bundle.get("text/plain", "") for bundle in data(cell)]
    return "\n".join(streams + [text for text in plain if not text.startswith("Figure: ")])


def statements(cell):
    """The parsed statements of a code cell; none if it is not plain Python."""
    try:
        return ast.parse(cell["source"]).body
    except SyntaxError:
        return []


def calls(cell, function):
    """The calls of a plainly named function in a code cell."""
    nodes = [node for statement in statements(cell) for node in ast.walk(statement)]
    return [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == function]


def imported(notebook):
    """The top-level names of all packages that the notebook imports."""
    for _, cell in cells(notebook, "code"):
        for node in statements(cell):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module.split(".")[0]


# --- reading Markdown


def without_code(source):
    """Markdown without fenced blocks."""
    return re.sub(r"^(```|~~~).*?^\1[ \t]*$", "", source, flags=re.M | re.S)


def headings(source):
    """(level, text) of each heading, without markup."""
    text = re.sub(r"<!--.*?-->", "", without_code(source), flags=re.S)
    return [(len(m[1]), re.sub(r"[`*]", "", m[2])) for m in re.finditer(r"^(#{1,6}) +(.+?) *$", text, re.M)]


def items(source):
    """The top-level list items."""
    return re.findall(r"^(?:[-*+]|\d+[.)]) +\S.*$", without_code(source), re.M)


def targets(source):
    """Where the links and pictures of a Markdown text point to; code and formulas have none."""
    text = re.sub(r"`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$", "", without_code(source), flags=re.S)
    return re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r"(?:href|src)=[\"']([^\"']+)", text)


def anchors(path, notebook=None):
    """The fragments that a link to a notebook may have in JupyterLab, or to a Markdown file on GitHub."""
    if path.suffix == ".ipynb":
        sources = [cell["source"] for _, cell in cells(notebook or read(path), "markdown")]
        return {text.replace(" ", "-") for source in sources for _, text in headings(source)}
    texts = [text for _, text in headings(path.read_text(encoding="utf-8"))]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


# --- the file


@rule()
def stored_as_agreed(notebook, path, course):
    """nbformat 4.5, valid, with distinct cell ids and the agreed notebook metadata."""
    if (notebook["nbformat"], notebook["nbformat_minor"]) != (4, 5):
        yield 0, f"stored as nbformat {notebook['nbformat']}.{notebook['nbformat_minor']}; expected 4.5"
        return
    for error in iter_validate(notebook):
        place = list(error.absolute_path)
        yield (place[1] + 1 if place[:1] == ["cells"] and len(place) > 1 else 0), error.message.splitlines()[0][:200]
    seen = Counter(cell.get("id") for _, cell in cells(notebook))
    yield from ((n, f"cell id {c.get('id')!r} is not unique") for n, c in cells(notebook) if seen[c.get("id")] > 1)


@rule()
def metadata(notebook, path, course):
    """The notebook's metadata are the kernel, the language and studyguide, nothing else."""
    found = notebook["metadata"]
    if set(found) != {*NOTEBOOK_METADATA, "studyguide"}:
        yield 0, f"metadata keys are {sorted(found)}; expected kernelspec, language_info, studyguide"
    for key, value in NOTEBOOK_METADATA.items():
        if found.get(key) != value:
            yield 0, f"metadata {key} is {found.get(key)}; expected {value}"
    own = found.get("studyguide", {})
    if set(own) != {"covers", "errata", "minutes"}:
        yield 0, f"metadata studyguide has keys {sorted(own)}; expected covers, errata, minutes"
    for key in ("covers", "errata"):
        if len(set(own.get(key, []))) != len(own.get(key, [])):
            yield 0, f"metadata {key} names an id twice"
    if type(own.get("minutes")) is not int or own["minutes"] <= 0:
        yield 0, f"metadata minutes is {own.get('minutes')!r}; expected a positive whole number"


@rule()
def cell_metadata(notebook, path, course):
    """Cells carry the course's tags only; whoever ignores an output says why."""
    for number, cell in cells(notebook):
        if extra := set(cell["metadata"]) - {"tags", "studyguide"}:
            yield number, f"unknown cell metadata {sorted(extra)}"
        if extra := set(tags(cell)) - TAGS:
            yield number, f"unknown tags {sorted(extra)}; known are {sorted(TAGS)}"
        if "NBVAL_" in cell["source"]:
            yield number, f"a marker comment for nbval; use the tag {IGNORED} and a reason"
        reason = cell["metadata"].get("studyguide", {}).get("ignored_because", "")
        if (IGNORED in tags(cell)) != bool(reason.strip()):
            yield number, f"the tag {IGNORED} and metadata studyguide.ignored_because go together"


# --- the opening


@rule()
def title(notebook, path, course):
    """The first cell opens with the only top-level heading, numbered by chapter and notebook."""
    first = notebook["cells"][0]
    chapter, number = path.parent.name.split("_")[0], path.stem.split("_")[0]
    wanted = r"# Start here" if is_front_door(path) else rf"# {chapter.lstrip('0')}\.{number.lstrip('0')} [A-Z]\S.*"
    if first["cell_type"] != "markdown" or not re.fullmatch(wanted, first["source"].split("\n")[0]):
        yield 1, f"the title must look like {wanted!r}"
    for number, cell in cells(notebook, "markdown"):
        if number > 1 and any(level == 1 for level, _ in headings(cell["source"])):
            yield number, "a second top-level heading"


@rule()
def objectives(notebook, path, course):
    """The first cell says what the reader will be able to do, as a list."""
    if not re.search(r"^You will be able to\b.*\n+[-*] \S", notebook["cells"][0]["source"], re.M):
        yield 1, "no line 'You will be able to' with a list below it"


@rule()
def prerequisites(notebook, path, course):
    """The first cell says what the reader must know."""
    if not re.search(r"^\*\*Prerequisites:\*\* \S", notebook["cells"][0]["source"], re.M):
        yield 1, "no line '**Prerequisites:** ...'"


@rule()
def minutes(notebook, path, course):
    """The times in the first cell add up to the metadata's, those of the exercises to the exercises'."""
    line = r"^\*\*Time:\*\* (\d+) minutes to read, (\d+) minutes of exercises\.$"
    times = re.search(line, notebook["cells"][0]["source"], re.M)
    if not times:
        yield 1, "no line '**Time:** 40 minutes to read, 30 minutes of exercises.'"
        return
    reading, exercises = map(int, times.groups())
    if reading + exercises != guide(notebook)["minutes"]:
        yield 1, f"{reading} + {exercises} minutes here, but {guide(notebook)['minutes']} in the metadata"
    owed = sum(exercise.minutes for _, _, exercise in asked(notebook, course))
    if exercises != owed:
        yield 1, f"{exercises} minutes of exercises here, but the exercises of this notebook take {owed}"


@rule()
def begin(notebook, path, course):
    """The first code cell imports, then calls begin(), and prints nothing."""
    number, cell = next(iter(cells(notebook, "code")), (0, {"source": ""}))
    *imports, last = statements(cell) or [ast.Pass()]
    if not all(isinstance(node, ast.Import | ast.ImportFrom) for node in imports):
        yield number, "only imports may come before begin()"
    ours = [n for n in imports if isinstance(n, ast.ImportFrom) and n.module == "studyguide.course"]
    if ast.unparse(last) != "begin()" or not any(alias.name == "begin" for node in ours for alias in node.names):
        yield number, "the first code cell must import begin from studyguide.course and end with begin()"
    if cell.get("outputs"):
        yield number, "the first code cell must print nothing"


@rule()
def imports(notebook, path, course):
    """A notebook with exercises imports hint, which its comments offer; all else that is imported is used."""
    code = [(number, cell, [*ast.walk(ast.Module(statements(cell), []))]) for number, cell in cells(notebook, "code")]
    offered = {"hint"} if any("exercise" in tags(cell) for _, cell, _ in code) else set()
    read = {node.id for _, _, nodes in code for node in nodes if isinstance(node, ast.Name)}
    found = set()
    for number, _, nodes in code:
        for alias in (alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names):
            name = (alias.asname or alias.name).split(".")[0]
            found.add(name)
            if name not in read | offered:
                yield number, f"{name} is imported, but not used"
    for name in sorted(offered - found):
        yield code[0][0], f"{name} is not imported, though the comments offer it"


# --- the teaching


def sections(notebook):
    """The cells of each section, split at the second-level headings."""
    parts = [[]]
    for number, cell in cells(notebook):
        if cell["cell_type"] == "markdown" and cell["source"].startswith("## "):
            parts.append([])
        parts[-1].append((number, cell))
    return parts


@rule(front_door=False)
def ideas(notebook, path, course):
    """Where a formula stands, its symbols are explained and it is computed; the notebook compares and draws."""
    exercise_cells = {number for number, _, _ in openings(notebook)}
    found = False
    for part in sections(notebook):
        texts = [(n, c["source"]) for n, c in part if c["cell_type"] == "markdown" and n not in exercise_cells]
        formula = next((number for number, source in texts if "$$" in source), None)
        if formula is None:
            continue
        found = True
        if not any(re.search(r"^\| *symbol", source, re.M | re.I) for _, source in texts):
            yield formula, "a formula, but no table of its symbols ('| symbol | ...') in this section"
        if not any(number > formula and printed(cell).strip() for number, cell in part):
            yield formula, "a formula, but no code cell after it in this section that computes it"
    if found and not INDEPENDENT & set(imported(notebook)):
        yield 0, f"formulas, but no independent library is imported ({', '.join(sorted(INDEPENDENT))})"
    if found and not any(figures(cell) for _, cell in cells(notebook)):
        yield 0, "formulas, but no figure"


@rule()
def covers(notebook, path, course):
    """Each covered id is named in exactly one comment `<!-- covers: S1-KL, S1-XENT -->`, where it is taught."""
    comments = [
        (number, name)
        for number, cell in cells(notebook, "markdown")
        for comment in re.findall(r"<!--\s*covers:(.*?)-->", cell["source"], re.S)
        for name in filter(None, map(str.strip, comment.split(",")))
    ]
    yield from once_each(
        comments,
        guide(notebook)["covers"],
        unknown="{} is named here, but not in metadata covers",
        twice="{} is named a second time",
        missing="metadata covers {}; no comment names it",
    )


def once_each(found, promised, unknown, twice, missing):
    """Hold the ids found, as (cell number, id), against those promised, each of which is wanted once."""
    seen = Counter()
    for number, name in found:
        seen[name] += 1
        if name not in promised:
            yield number, unknown.format(name)
        if seen[name] == 2:
            yield number, twice.format(name)
    yield from ((0, missing.format(name)) for name in promised if not seen[name])


def boxes(notebook):
    """(number, ids) of each erratum box."""
    for number, cell in cells(notebook, "markdown"):
        if match := re.match(r"> \*\*The guide, corrected \((E\d-\d+(?:, E\d-\d+)*)\)\.\*\*", cell["source"]):
            yield number, match[1].split(", ")


@rule(front_door=False)
def errata(notebook, path, course):
    """Each erratum of the metadata has one box, and no other erratum has."""
    well_formed = dict(boxes(notebook))
    for number, cell in cells(notebook, "markdown"):
        if "The guide, corrected (" in cell["source"] and number not in well_formed:
            yield number, "a box must open its own cell with '> **The guide, corrected (E1-02).**'"
    yield from once_each(
        [(number, name) for number, ids in well_formed.items() for name in ids],
        guide(notebook)["errata"],
        unknown="{} has a box, but is not in metadata errata",
        twice="{} has a second box",
        missing="{} is in metadata errata, but has no box",
    )


@rule(front_door=False)
def errata_shown(notebook, path, course):
    """Below each box, before the next heading, a code cell with output shows the correction."""
    for number, ids in boxes(notebook):
        for _, cell in cells(notebook)[number:]:
            if cell.get("outputs"):
                break
            if cell["cell_type"] == "markdown" and headings(cell["source"]):
                yield number, f"no code cell with output below the box of {', '.join(ids)}, before the next heading"
                break
        else:
            yield number, f"no code cell with output below the box of {', '.join(ids)}"


# --- exercises


def openings(notebook):
    """(number, kind, title) of each Markdown cell that opens an exercise or a lab."""
    for number, cell in cells(notebook, "markdown"):
        if match := re.match(r"### (Exercise|Break the metric): (.+)", cell["source"]):
            yield number, match[1], match[2].strip()


CHECK = re.compile(r'check\("([a-z0-9-]+)", (\w+)\)\n# hint\("\1"\)  # uncomment for the next hint')


def following(notebook, number, steps):
    """The cell some steps after cell `number`, or an empty one."""
    later = notebook["cells"][number - 1 + steps :]
    return later[0] if later else {"cell_type": "none", "source": "", "metadata": {}}


def asked(notebook, course):
    """(number, kind, exercise) of each opening whose check cell names a known exercise."""
    for number, kind, _ in openings(notebook):
        match = CHECK.fullmatch(following(notebook, number, 2)["source"].strip())
        if match and match[1] in course.exercises:
            yield number, kind, course.exercises[match[1]]


@rule()
def exercise_count(notebook, path, course):
    """Two to four exercises; the front door has one."""
    count = sum(kind == "Exercise" for _, kind, _ in openings(notebook))
    low, high = (1, 1) if is_front_door(path) else (2, 4)
    if not low <= count <= high:
        yield 0, f"{count} exercises; expected {low} to {high} ('### Exercise: ...'; the lab does not count)"


@rule(front_door=False)
def lab(notebook, path, course):
    """At least one "Break the metric" lab, verified by what the learner's input does to the metric."""
    if all(kind == "Exercise" for _, kind, _ in openings(notebook)):
        yield 0, "no lab: a cell '### Break the metric: ...'"
    for number, kind, exercise in asked(notebook, course):
        if (kind == "Exercise") != (exercise.verify is None):
            yield number, f"{exercise.id}: a lab, and only a lab, has `verify`"


@rule()
def exercise_cells(notebook, path, course):
    """An exercise is three cells in a row: Markdown, a stub tagged `exercise`, and the check with its hint."""
    stubs, checks = set(), set()
    for number, _, _ in openings(notebook):
        stub, check = following(notebook, number, 1), following(notebook, number, 2)
        stubs.add(number + 1)
        checks.add(number + 2)
        if stub["cell_type"] != "code" or "exercise" not in tags(stub):
            yield number + 1, "after the prompt comes a code cell tagged `exercise`"
        match = CHECK.fullmatch(check["source"].strip())
        if check["cell_type"] != "code" or not match:
            yield number + 2, 'expected `check("id", my_function)` and `# hint("id")  # uncomment for the next hint`'
        elif match[1] not in course.exercises:
            yield number + 2, f"no exercise has the id {match[1]!r}"
    for number, cell in cells(notebook):
        if "exercise" in tags(cell) and number not in stubs:
            yield number, "a cell tagged `exercise` without '### Exercise: ...' before it"
        if cell["cell_type"] == "code" and calls(cell, "check") and number not in checks:
            yield number, "a check that belongs to no exercise"


@rule()
def exercise_texts(notebook, path, course):
    """Title, difficulty, minutes, prompt, stub and function name are the exercise's own."""
    for number, _, exercise in asked(notebook, course):
        heading, _, rest = following(notebook, number, 0)["source"].partition("\n")
        line, _, prompt = rest.strip().partition("\n")
        if heading.split(": ", 1)[1].strip() != exercise.title:
            yield number, f"the title of {exercise.id} is {exercise.title!r}"
        if line.strip() != f"Difficulty {exercise.difficulty} of 5, {exercise.minutes} minutes.":
            yield number, f"second line: 'Difficulty {exercise.difficulty} of 5, {exercise.minutes} minutes.'"
        if prompt.strip() != exercise.prompt.strip():
            yield number, f"the prompt is not that of {exercise.id}"
        if following(notebook, number, 1)["source"].strip() != exercise.stub.strip():
            yield number + 1, f"the stub is not that of {exercise.id}"
        if CHECK.fullmatch(following(notebook, number, 2)["source"].strip())[2] != exercise.name:
            yield number + 2, f"{exercise.id} checks the function {exercise.name}"


@rule()
def exercise_diagnoses(notebook, path, course):
    """Each exercise knows four wrong answers or more, each with a diagnosis of its own."""
    for number, _, exercise in asked(notebook, course):
        diagnoses = [wrong.diagnosis.strip() for wrong in exercise.wrong]
        if len(diagnoses) < 4:
            yield number, f"{exercise.id} names {len(diagnoses)} wrong answers; expected at least 4"
        if "" in diagnoses or len(set(diagnoses)) != len(diagnoses):
            yield number, f"{exercise.id} has an empty diagnosis, or the same one twice"


@rule()
def exercise_unsolved(notebook, path, course):
    """The committed stub is unsolved, so its check says "not attempted yet"."""
    for number, _, exercise in asked(notebook, course):
        if not printed(following(notebook, number, 2)).startswith("not attempted yet"):
            yield number + 2, f"the check of {exercise.id} must print 'not attempted yet ...' as committed"


# --- the end of the notebook


def of_this_notebook(notebook, path, function):
    """The code cells that call cards or quiz for this chapter and this notebook."""
    wanted = [path.parent.name, path.stem]
    given = {n: [constants(call) for call in calls(cell, function)] for n, cell in cells(notebook, "code")}
    return [(number, cell) for number, cell in cells(notebook, "code") if wanted in given[number]]


def constants(call):
    """The constant arguments of a call, positional ones first."""
    return [arg.value for arg in [*call.args, *(k.value for k in call.keywords)] if isinstance(arg, ast.Constant)]


@rule(front_door=False)
def interview(notebook, path, course):
    """A cell shows this notebook's interview cards: at least three, from the bank."""
    shown = of_this_notebook(notebook, path, "cards")
    if not shown:
        yield 0, f'no cell calls cards("{path.parent.name}", section="{path.stem}")'
    for number, cell in shown:
        texts = [text for bundle in data(cell) for mime, text in bundle.items() if mime.startswith("text/")]
        if max((text.count("<details") for text in texts), default=0) < 3:
            yield number, "the output shows fewer than three cards"
    banked = [e for e in course.bank if (e["chapter"], e["section"]) == (path.parent.name, path.stem)]
    if len([entry for entry in banked if not entry.get("options")]) < 3:
        yield (shown[0][0] if shown else 0), "the bank has fewer than three questions for this notebook"


@rule(front_door=False)
def quizzed(notebook, path, course):
    """A cell asks this notebook's quiz and leaves it as text."""
    shown = of_this_notebook(notebook, path, "quiz")
    if not shown:
        yield 0, f'no cell calls quiz("{path.parent.name}", section="{path.stem}")'
    yield from ((n, "the quiz leaves no text output") for n, cell in shown if not printed(cell).strip())


def final_cells(notebook, heading):
    return [(n, c) for n, c in cells(notebook, "markdown") if c["source"].split("\n")[0].strip() == heading]


@rule(front_door=False)
def recap(notebook, path, course):
    """`## Recap` has exactly five list items."""
    found = final_cells(notebook, "## Recap")
    if len(found) != 1:
        yield 0, f"{len(found)} cells '## Recap'; expected one"
    for number, cell in found:
        if (count := len(items(cell["source"]))) != 5:
            yield number, f"the recap has {count} list items; expected 5"


@rule(front_door=False)
def references(notebook, path, course):
    """`## References` is a list."""
    found = final_cells(notebook, "## References")
    if len(found) != 1:
        yield 0, f"{len(found)} cells '## References'; expected one"
    yield from ((n, "the references are not a list") for n, cell in found if not items(cell["source"]))


@rule()
def generated_links(notebook, path, course):
    """The last cell, and no other, is tagged `links` and holds the links that `make sync` generates."""
    last = len(notebook["cells"])
    for number, cell in cells(notebook):
        if ("links" in tags(cell)) != (number == last):
            yield number, "the last cell, and no other, is tagged `links`"
    if notebook["cells"][-1]["source"].strip() != course.links(path).strip():
        yield last, f"the previous and next links must be {course.links(path)!r}; run `make sync`"


@rule()
def link_targets(notebook, path, course):
    """Each relative link leads to a file of the repository, and to a heading of it where it has a #fragment."""
    for number, cell in cells(notebook, "markdown"):
        for target in targets(cell["source"]):
            if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.I):
                continue
            name, _, fragment = unquote(target).partition("#")
            file = (path.parent / name).resolve() if name else path
            if name and not file.exists():
                yield number, f"link to {target}: no such file"
            elif fragment and fragment not in anchors(file, None if name else notebook):
                yield number, f"link to {target}: no such heading"


# --- code and outputs


@rule()
def code_lengths(notebook, path, course):
    """Half of the code cells have at most 8 lines, none has more than 25."""
    lengths = {number: len(cell["source"].splitlines()) for number, cell in cells(notebook, "code")}
    yield from ((n, f"{length} lines of code; at most 25") for n, length in lengths.items() if length > 25)
    if lengths and median(lengths.values()) > 8:
        yield 0, f"the median code cell has {median(lengths.values()):g} lines; at most 8"


@rule()
def executed(notebook, path, course):
    """Every code cell was run once, from top to bottom."""
    for count, (number, cell) in enumerate(cells(notebook, "code"), 1):
        if cell["execution_count"] != count:
            yield number, f"execution count {cell['execution_count']}; expected {count}: run `make sync`"


@rule()
def clean_outputs(notebook, path, course):
    """No errors, nothing on stderr, no warnings."""
    for number, cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield number, f"the output is an error: {output['ename']}"
            if output.get("name") == "stderr":
                yield number, f"output on stderr: {output['text'][:80]!r}"
        if warning := re.search(r"\w+Warning\b|\bWarning:", printed(cell)):
            yield number, f"a warning in the output: {warning[0]}"


@rule()
def rounded_outputs(notebook, path, course):
    """Results go through the rounding helper: no printed number has more than four decimals."""
    for number, cell in cells(notebook, "code"):
        if long := re.search(r"(?<![\d.])\d*\.\d{5,}", printed(cell)):
            yield number, f"{long[0]} has more than four decimals; print it with show() or table()"


@rule()
def alternative_texts(notebook, path, course):
    """Each picture has alternative text, which is also its text form."""
    for number, cell in cells(notebook, "code"):
        for figure in figures(cell):
            alt = figure["metadata"].get("image/png", {}).get("alt", "")
            if len(alt) < 30:
                yield (
                    number,
                    f"alternative text of {len(alt)} characters; at least 30 (show_figure writes it)",
                )
            elif figure["data"].get("text/plain") != f"Figure: {alt}":
                yield number, "the text form of a figure must be 'Figure: ' and its alternative text"


@rule()
def drawn_statistics(notebook, path, course):
    """A cell that draws, or the code cell before it, prints the statistic that is drawn."""
    before = ""
    for number, cell in cells(notebook, "code"):
        if figures(cell) and not re.search(r"\d", before + printed(cell)):
            yield number, "a figure, but neither this code cell nor the one before prints a number"
        before = printed(cell)


@rule()
def no_network(notebook, path, course):
    """Nothing is fetched when the notebook is opened: no pictures, scripts or styles from the web."""
    remote = r"""!\[[^\]]*\]\(\s*<?(?:https?:)?//|<(?!a\b)[a-z][^>]*\b(?:src|href|data)\s*=\s*["']?(?:https?:)?//"""
    for number, cell in cells(notebook):
        shown = [text for bundle in data(cell) for mime, text in bundle.items() if mime.startswith("text/")]
        if cell["cell_type"] == "markdown":
            shown.append(cell["source"])
        if found := re.search(remote, "\n".join(shown), re.I):
            yield number, f"fetched from the network: {found[0]}"


# --- numbers

GROUPED = re.compile(r"(?<![\w.])\d{1,3}(?:(?:,|\{,\}|\\,|[\u00a0\u2009\u202f])\d{3})+(?!\d)")
POWER = re.compile(r"\s*(?:×|\\times|\\cdot)\s*10\^\{?(-?\d+)\}?")
NUMBER = re.compile(r"(?<![\w.])(-?)(\d*\.\d+|\d+)(?:e([-+]?\d+))?(?!\.?\d)", re.I)
NOT_PROSE = re.compile(r"!?\[[^\]]*\]\([^)]*\)|https?://\S+|(?:doi|arxiv):\s?\S+|<!--.*?-->", re.I | re.S)


def numbers(text):
    """(as written, value, decimals, exponent) of each number in a text; versions such as 2.11.0 are none."""
    text = POWER.sub(r"e\1", text.replace("−", "-"))
    text = GROUPED.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    for match in NUMBER.finditer(re.sub(r"\\[A-Za-z]+", " ", text)):
        exponent = int(match[3] or 0)
        decimals = len(match[2].partition(".")[2])
        yield match[0], Decimal(f"{match[1]}{match[2]}e{exponent}"), decimals, exponent


def agrees(value, decimals, exponent, output):
    """Whether an output, rounded to the decimals of a number in the prose, is that number.

    Prose often gives the size and says the direction in words, so that a plus sign is not compared; a minus sign is.
    """
    return abs(value - (output if value < 0 else abs(output))) * 2 <= Decimal(1).scaleb(exponent - decimals)


@rule()
def prose_numbers(notebook, path, course):
    """A number with three or more decimals in the prose or in an alternative text is a result of the notebook."""
    results = [printed(cell) for _, cell in cells(notebook, "code") if not calls(cell, "quiz")]
    outputs = [value for text in results for _, value, _, _ in numbers(text)]
    for number, cell in cells(notebook):
        alts = [figure["metadata"].get("image/png", {}).get("alt", "") for figure in figures(cell)]
        prose = NOT_PROSE.sub(" ", cell["source"]) if cell["cell_type"] == "markdown" else "\n".join(alts)
        for written, value, decimals, exponent in numbers(prose):
            if decimals >= 3 and not any(agrees(value, decimals, exponent, output) for output in outputs):
                yield number, f"{written} is in no output of this notebook"


# --- the notebooks together


def ignored_share(notebooks):
    """The share of all code cells whose outputs are not compared."""
    code = [cell for notebook in notebooks for _, cell in cells(notebook, "code")]
    return sum(IGNORED in tags(cell) for cell in code) / max(len(code), 1)


def exercise_uses(notebooks, course):
    """{exercise id: how many times the notebooks ask it}, for every exercise of the package."""
    uses = Counter(exercise.id for notebook in notebooks for _, _, exercise in asked(notebook, course))
    return {name: uses[name] for name in course.exercises}


def notebook_files(folder):
    """All notebooks below a folder, without Jupyter's checkpoints."""
    return [path for path in sorted(Path(folder).rglob("*.ipynb")) if not any(p.startswith(".") for p in path.parts)]
