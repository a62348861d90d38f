"""Every exercise of the course does what it promises to the learner."""

import re
from collections import Counter

import pytest
import torch

from studyguide.course.exercises import all_exercises, judge

EXERCISES = all_exercises()
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.id for exercise in EXERCISES])


def test_ids_titles_and_functions_are_unique():
    for field in ("id", "title", "name"):
        counts = Counter(getattr(exercise, field) for exercise in EXERCISES)
        assert [value for value, count in counts.items() if count > 1] == []


@each_exercise
def test_it_is_fully_described(exercise):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", exercise.id)
    assert exercise.name.startswith("my_")
    assert f"`{exercise.name}(" in exercise.prompt
    assert 1 <= exercise.difficulty <= 5
    assert exercise.minutes > 0
    assert len(exercise.hints) >= 2
    assert all(hint.strip() for hint in exercise.hints)


@each_exercise
def test_the_solution_passes(exercise):
    assert judge(exercise, exercise.solution)[0] == "passed"


@each_exercise
def test_the_untouched_stub_is_not_attempted_yet(exercise):
    cell = {}
    exec(exercise.stub, cell)
    assert judge(exercise, cell[exercise.name])[0] == "not attempted yet"


@each_exercise
def test_each_wrong_answer_gets_its_own_diagnosis(exercise):
    diagnoses = [wrong.diagnosis for wrong in exercise.wrong]
    assert len(set(diagnoses)) == len(diagnoses) >= 4
    assert [judge(exercise, wrong.answer) for wrong in exercise.wrong] == [("not yet", text) for text in diagnoses]


@each_exercise
def test_the_solution_agrees_with_independent_code(exercise):
    """A peer for exercises; for labs, what verifies the learner's input finds nothing wrong with the solution's."""
    assert (exercise.peer is None) != (exercise.verify is None)
    if exercise.verify:
        assert exercise.verify(exercise.solution()) is None
        return
    for case in exercise.cases:
        solved, peers = (torch.as_tensor(f(*case), dtype=torch.float64) for f in (exercise.solution, exercise.peer))
        torch.testing.assert_close(solved, peers, rtol=1e-6, atol=1e-9)
