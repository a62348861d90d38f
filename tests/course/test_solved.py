"""Teachers' notebooks: with every exercise solved, each notebook runs and each check passes."""

import pytest

from studyguide.course.notebooks import course_notebooks, solve


@pytest.mark.parametrize("file", course_notebooks(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_solution_passes_in_its_notebook(file, tmp_path):
    solve(file, tmp_path / file.name)
