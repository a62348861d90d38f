"""Exercises: what they ask, and a check that says what is wrong with an answer.

An exercise is written once, in ``studyguide/<chapter>/exercises`` (a module, or one per notebook); the notebook's
stub, the hints, the solution and the tests all come from there.
"""

import copy
import difflib
import importlib
import importlib.util
import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import torch

from studyguide.course.display import rounded
from studyguide.course.records import read, update

ROOMS = {"start here": "course.first_exercise"} | {
    chapter: f"{chapter}.exercises"
    for chapter in ("probability", "statistics", "language", "text", "image", "rag", "online", "human", "production")
}


@dataclass(frozen=True)
class Wrong:
    """A typical wrong answer, and what to say to whoever gives it."""

    answer: Callable
    diagnosis: str


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    `solution` is the reference, named ``my_...``; its signature and docstring make the stub. `cases` are tuples of
    arguments. `peer` is an independent function that must agree with the solution. A lab asks for an *input* that fools
    a metric: its function takes no arguments, and `verify` looks at what it returns and says what is wrong, or None.
    """

    id: str
    title: str
    prompt: str
    difficulty: int
    minutes: int
    hints: tuple
    solution: Callable
    wrong: tuple
    cases: tuple = ((),)
    peer: Callable | None = None
    verify: Callable | None = None

    @property
    def name(self):
        """The function's name in the notebook."""
        return self.solution.__name__

    @property
    def source(self):
        """The solution as text."""
        return inspect.getsource(self.solution).rstrip()

    @property
    def stub(self):
        """What the learner starts from: the signature, the docstring, and an error that marks it unsolved."""
        doc = inspect.getdoc(self.solution)
        end = '\n"""' if "\n" in doc else '"""'
        body = textwrap.indent(f'"""{doc}{end}\nraise NotImplementedError', "    ")
        return f"def {self.name}{inspect.signature(self.solution)}:\n{body}"


def by_chapter():
    """{chapter: its exercises}, in the order of the course, as far as it is built."""
    built = {chapter: f"studyguide.{room}" for chapter, room in ROOMS.items() if _is_built(f"studyguide.{room}")}
    return {chapter: importlib.import_module(module).EXERCISES for chapter, module in built.items()}


def _is_built(module):
    return all(map(importlib.util.find_spec, (module.rpartition(".")[0], module)))


def all_exercises():
    """Every exercise of the course, in order."""
    return [exercise for exercises in by_chapter().values() for exercise in exercises]


def find(exercise_id):
    """The exercise with this id; a ValueError that names the nearest ids if there is none."""
    known = {exercise.id: exercise for exercise in all_exercises()}
    if exercise_id not in known:
        near = difflib.get_close_matches(str(exercise_id), known, n=3)
        raise ValueError(
            f"exercise_id {exercise_id!r} is not known; did you mean {' or '.join(near or list(known)[:3])}?"
        )
    return known[exercise_id]


def check(exercise_id, answer):
    """Try your function on the exercise's cases and print the verdict: passed, not yet (and why), or not attempted."""
    exercise = _found(exercise_id)
    if exercise is None:
        return
    verdict, message = judge(exercise, answer)
    if verdict != "not attempted yet":
        with update(exercise.id) as record:
            record["attempts"] += 1
            if verdict == "passed":
                record["passed"] = record["passed"] or date.today().isoformat()
    print(f"{verdict}: {message}")


def hint(exercise_id):
    """Print the next hint; after the last one it is repeated."""
    exercise = _found(exercise_id)
    if exercise is None:
        return
    with update(exercise.id) as record:
        record["hints"] = min(record["hints"] + 1, len(exercise.hints))
        given = record["hints"]
    print(f"hint {given} of {len(exercise.hints)}: {exercise.hints[given - 1]}")
    if given == len(exercise.hints):
        print("That was the last hint. To see a solution, run in a cell of its own:")
        print(f'from studyguide.course import solution; solution("{exercise.id}")')


def solution(exercise_id):
    """Print a solution. Try first: you keep what you have worked out yourself."""
    exercise = _found(exercise_id)
    if exercise is None:
        return
    if not read().get(exercise.id, {}).get("attempts"):
        print("You have not tried this one yet. A wrong attempt first teaches you more.\n")
    print(exercise.source)


def judge(exercise, answer):
    """(verdict, message) for an answer; the verdict is "passed", "not yet" or "not attempted yet"."""
    if not callable(answer):
        return (
            "not yet",
            f"give check the function itself, without calling it: check({exercise.id!r}, {exercise.name}).",
        )
    outcomes = []
    for case in exercise.cases:
        given = copy.deepcopy(case)
        outcome = _outcome(answer, given)
        if isinstance(outcome, NotImplementedError):
            return (
                "not attempted yet",
                f"write the body of {exercise.name} in the cell above, run it, then run this cell.",
            )
        if not all(_same(a, b) for a, b in zip(given, case, strict=True)):
            return "not yet", f"{exercise.name} changes its input in place. Work on a copy: the caller still needs it."
        outcomes.append(outcome)
    if exercise.verify:
        problem = _ordinary_mistake(exercise, (), outcomes[0]) or _verified(exercise, outcomes[0])
        return ("not yet", problem) if problem else ("passed", f"{exercise.title}.")
    expected = [exercise.solution(*case) for case in exercise.cases]
    if _all_same(outcomes, expected):
        return "passed", f"{exercise.title}, on {len(expected)} inputs."
    for wrong in exercise.wrong:
        if _all_same(outcomes, [_outcome(wrong.answer, case) for case in exercise.cases]):
            return "not yet", wrong.diagnosis
    tried = zip(exercise.cases, outcomes, expected, strict=True)
    case, outcome, value = next((c, got, wanted) for c, got, wanted in tried if not _same(got, wanted))
    problem = _ordinary_mistake(exercise, case, outcome) or _mismatch(outcome, value)
    return "not yet", f"{problem} (with {_described(exercise, case)})"


def _found(exercise_id):
    try:
        return find(exercise_id)
    except ValueError as error:
        print(error)
        return None


def _outcome(function, arguments):
    """What a function returns, or the exception it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _ordinary_mistake(exercise, case, outcome):
    """What to say of an exception, a missing return, text for a number, or NaN; else None."""
    if isinstance(outcome, TypeError) and not _raised_inside(outcome):
        return f"{exercise.name} must take the arguments {inspect.signature(exercise.solution)}: {outcome}."
    if isinstance(outcome, Exception):
        frame = traceback.extract_tb(outcome.__traceback__)[-1]
        line = linecache.getline(frame.filename, frame.lineno).strip()
        return f"your function raised {type(outcome).__name__}: {outcome} at `{line or frame.name}`."
    if outcome is None:
        return f"{exercise.name} returned None. Does it end in `return`?"
    numbers = _as_numbers(outcome)
    if not exercise.verify and numbers is None and _as_numbers(exercise.solution(*case)) is not None:
        return f"{exercise.name} returned {type(outcome).__name__} {outcome!r:.60}; a number or a tensor of numbers is expected."
    if numbers is not None and torch.isnan(numbers).any():
        return f"{exercise.name} returned NaN. Somewhere 0 is divided by 0, or 0 multiplied by infinity."
    return None


def _verified(exercise, answer):
    """What the lab's verifier says; an answer that it cannot even read gets the reason."""
    try:
        return exercise.verify(answer)
    except Exception as error:
        return f"what you returned cannot be used here: {error}."


def _raised_inside(error):
    """Whether the learner's function itself raised the error; otherwise the call did not fit its arguments."""
    return len(traceback.extract_tb(error.__traceback__)) > 1


def _mismatch(outcome, value):
    got, wanted = _as_numbers(outcome), _as_numbers(value)
    if got is not None and wanted is not None and got.shape != wanted.shape:
        return f"your result has shape {tuple(got.shape)}; expected {tuple(wanted.shape)}."
    return f"you returned {rounded(outcome)}; expected {rounded(value)}."


def _described(exercise, case):
    names = inspect.signature(exercise.solution).parameters
    return ", ".join(f"{name} = {rounded(value)}" for name, value in zip(names, case, strict=False))


def _as_numbers(value):
    try:
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None


def _all_same(outcomes, others):
    return all(_same(a, b) for a, b in zip(outcomes, others, strict=True))


def _same(a, b):
    """Equal numbers (to 1 in 10,000, so that float32 will do), the same kind of exception, or equal values."""
    if isinstance(a, Exception) or isinstance(b, Exception):
        return type(a) is type(b)
    x, y = _as_numbers(a), _as_numbers(b)
    if x is None or y is None:
        return type(a) is type(b) and a == b
    return x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-7, equal_nan=True)
