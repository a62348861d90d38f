"""Every notebook keeps every rule of the contract. A failure names the notebook and the cell."""

from pathlib import Path

import pytest
import yaml

from studyguide.course.exercises import all_exercises
from studyguide.course.notebooks import links
from studyguide.datasets import path as data_path
from tests.notebooks.contract import IGNORED, RULES, Course, exercise_uses, ignored_share, notebook_files, read

FOLDER = Path(__file__).parents[2] / "notebooks"
PATHS = notebook_files(FOLDER)


@pytest.fixture(scope="module")
def course():
    files = sorted(data_path("interview").glob("*.yaml"))
    bank = [entry for file in files for entry in yaml.safe_load(file.read_text(encoding="utf-8"))]
    return Course({exercise.id: exercise for exercise in all_exercises()}, bank, links)


@pytest.fixture(scope="module")
def notebooks():
    return {path: read(path) for path in PATHS}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(FOLDER).with_suffix("").as_posix())
def test_notebook_keeps_the_rule(path, rule, notebooks, course):
    problems = RULES[rule](notebooks[path], path, course)
    if problems:
        pytest.fail("\n".join(map(str, problems)), pytrace=False)


def test_few_outputs_are_ignored(notebooks):
    assert ignored_share(notebooks.values()) <= 0.05, f"at most 5 % of all code cells may carry {IGNORED}"


def test_each_exercise_is_asked_in_one_notebook(notebooks, course):
    uses = exercise_uses(notebooks.values(), course)
    assert uses == dict.fromkeys(uses, 1)
