"""What `check`, `hint` and `solution` say to a learner."""

import math
from dataclasses import replace

import pytest
import torch

from studyguide.course import exercises
from studyguide.course.exercises import Exercise, Wrong, judge


def my_mean(x):
    """Mean of a 1-D tensor."""
    return x.mean()


MEAN = Exercise(
    id="mean",
    title="A mean",
    prompt="Write it.",
    difficulty=1,
    minutes=1,
    hints=("Add.", "Divide."),
    solution=my_mean,
    cases=((torch.tensor([1.0, 2.0, 6.0]),), (torch.tensor([0.0, 0.0]),)),
    wrong=(
        Wrong(lambda x: x.sum(), "you forgot to divide."),
        Wrong(lambda x: x.median(), "that is the median."),
        Wrong(lambda x: x.sum() / x.prod(), "a product below the line."),
        Wrong(lambda x: x[5], "you look past the end."),
    ),
)


@pytest.fixture(autouse=True)
def only_the_mean(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYGUIDE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(exercises, "by_chapter", lambda: {"test": (MEAN,)})


def _raises(x):
    return 1 / 0


def _forgets_return(x):
    x.mean()


def _in_place(x):
    x += 1
    return x.mean() - 1


def _stub(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (my_mean, "passed", "A mean, on 2 inputs"),
        (lambda x: x.mean().item(), "passed", "A mean"),
        (lambda x: x.double().mean().float(), "passed", "A mean"),
        (_stub, "not attempted yet", "write the body of my_mean"),
        (lambda x: x.sum(), "not yet", "you forgot to divide."),
        (lambda x: x.sum() / x.prod(), "not yet", "a product below the line."),
        (lambda x: x[7], "not yet", "you look past the end."),
        (_raises, "not yet", "raised ZeroDivisionError: division by zero at `return 1 / 0`"),
        (_forgets_return, "not yet", "returned None. Does it end in `return`?"),
        (_in_place, "not yet", "changes its input in place"),
        (lambda x: math.nan, "not yet", "returned NaN"),
        (lambda x: "3", "not yet", "returned str '3'; a number or a tensor of numbers is expected"),
        (lambda x: x, "not yet", "shape (3,); expected ()"),
        (lambda x: 2.5, "not yet", "you returned 2.5; expected 3. (with x = [1, 2, 6])"),
        (lambda: 3.0, "not yet", "must take the arguments (x)"),
        (3.0, "not yet", "give check the function itself, without calling it: check('mean', my_mean)"),
    ],
    ids=range(16),
)
def test_verdicts(answer, verdict, said, capsys):
    assert judge(MEAN, answer)[0] == verdict
    exercises.check("mean", answer)
    out = capsys.readouterr().out
    assert out.startswith(f"{verdict}: ")
    assert said in out


def test_attempts_and_the_first_pass_are_recorded(capsys):
    exercises.check("mean", _stub)
    assert exercises.read() == {}
    exercises.check("mean", lambda x: x.sum())
    exercises.check("mean", my_mean)
    exercises.check("mean", lambda x: x.sum())
    record = exercises.read()["mean"]
    assert record["attempts"] == 3
    assert record["passed"] is not None, "a later wrong try does not take a pass away"


def test_hints_come_one_by_one_and_the_last_is_repeated(capsys):
    for _ in range(3):
        exercises.hint("mean")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "hint 1 of 2: Add."
    assert [line for line in lines if line.startswith("hint 2")] == ["hint 2 of 2: Divide."] * 2


def test_solution_prints_the_source_and_asks_to_try_first(capsys):
    exercises.solution("mean")
    first = capsys.readouterr().out
    exercises.check("mean", lambda x: x.sum())
    capsys.readouterr()
    exercises.solution("mean")
    second = capsys.readouterr().out
    assert "have not tried" in first
    assert second == 'def my_mean(x):\n    """Mean of a 1-D tensor."""\n    return x.mean()\n'


def test_an_unknown_id_is_a_message_with_the_nearest_ids(capsys):
    exercises.check("maen", my_mean)
    exercises.hint("maen")
    exercises.solution("maen")
    assert capsys.readouterr().out.count("did you mean mean?") == 3


def test_stub_is_the_signature_docstring_and_an_error():
    assert MEAN.stub == 'def my_mean(x):\n    """Mean of a 1-D tensor."""\n    raise NotImplementedError'


def test_a_lab_is_judged_by_its_verifier():
    lab = Exercise(
        id="lab", title="Lab", prompt="", difficulty=1, minutes=1, hints=(), wrong=(),
        solution=lambda: 2, verify=lambda answer: None if answer == 2 else "not two.",
    )  # fmt: skip
    assert judge(lab, lambda: 2) == ("passed", "Lab.")
    assert judge(lab, lambda: 3) == ("not yet", "not two.")
    assert judge(lab, lambda: None)[1].endswith("Does it end in `return`?")
    assert "ZeroDivisionError" in judge(lab, lambda: 1 / 0)[1]
    assert judge(replace(lab, verify=len), lambda: 2)[1].startswith("what you returned cannot be used here: object of")
