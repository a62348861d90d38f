"""The contract's own tests: a good notebook breaks no rule, and each rule catches the notebooks made to break it."""

from pathlib import Path

import nbformat
import pytest

from tests.notebooks import seeds
from tests.notebooks.contract import IGNORED, RULES, anchors, exercise_uses, headings, ignored_share, numbers


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where the good notebook would lie, with its neighbours in place."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "01_probability").mkdir()
    for name, source in seeds.neighbours().items():
        cells = [nbformat.v4.new_markdown_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    (folder / seeds.HOME).touch()
    return folder / seeds.HOME


@pytest.mark.parametrize("rule", RULES)
def test_a_good_notebook_keeps_the_rule(rule, path):
    assert RULES[rule](seeds.notebook(), path, seeds.course()) == []


@pytest.mark.parametrize("rule", RULES)
def test_a_good_front_door_keeps_the_rule(rule, path):
    assert RULES[rule](seeds.front_door(), path.with_name("00_start_here.ipynb"), seeds.course()) == []


@pytest.mark.parametrize("seed", seeds.SEEDS, ids=[f"{seed.rule}-{n}" for n, seed in enumerate(seeds.SEEDS, 1)])
def test_a_bad_notebook_breaks_the_rule(seed, path):
    notebook, course = seeds.notebook(), seeds.course()
    seed.change(notebook, course)
    ids = [cell["id"] for cell in notebook["cells"]]
    expected = ids.index(seed.at) + 1 if seed.at else 0
    problems = RULES[seed.rule](notebook, path, course)
    assert any(seed.says in problem.message for problem in problems), problems
    assert {(problem.notebook, problem.cell) for problem in problems} == {(path.name, expected)}, problems


def test_every_rule_has_a_seed():
    assert {seed.rule for seed in seeds.SEEDS} == set(RULES)


def test_headings_and_their_anchors():
    source = "# 1.2 A `b` <!-- covers: S1-KL -->\n```\n# no heading\n```\n### *C*: d"
    assert headings(source) == [(1, "1.2 A b"), (3, "C: d")]
    assert anchors(Path("a.ipynb"), {"cells": [seeds.markdown("a", source)]}) == {"1.2-A-b", "C:-d"}


def test_anchors_of_a_markdown_file(tmp_path):
    (tmp_path / "README.md").write_text("## Use GPT-2, or a GPU\n")
    assert anchors(tmp_path / "README.md") == {"use-gpt-2-or-a-gpu"}


def test_two_cells_with_one_id():
    notebook = seeds.notebook()
    notebook["cells"][4]["id"] = notebook["cells"][3]["id"]
    problems = RULES["stored_as_agreed"](notebook, Path("a.ipynb"), seeds.course())
    assert [problem.cell for problem in problems] == [4, 5]


def test_the_share_of_ignored_cells():
    notebook = seeds.notebook()  # 13 code cells
    assert ignored_share([notebook]) == 0
    seeds.cell(notebook, "sum")["metadata"]["tags"] = [IGNORED]
    assert ignored_share([notebook, seeds.notebook()]) == 1 / 26


def test_an_exercise_that_no_notebook_asks():
    notebook, course = seeds.notebook(), seeds.course()
    assert exercise_uses([notebook], course) == {"kl": 1, "js": 1, "fool": 1}
    seeds.without("js", "js-stub", "js-check")(notebook, course)
    assert exercise_uses([notebook], course) == {"kl": 1, "js": 0, "fool": 1}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("KL is 0.3142 nats, JS .0253.", [0.3142, 0.0253]),
        ("−0.2433, -0.1 and 0.1-0.25 and 0.1–0.3", [-0.2433, -0.1, 0.1, 0.25, 0.1, 0.3]),
        (r"$\log0.5 = -0.693$, $\frac{0.600}{0.900}$", [-0.693 + 1.193, -0.693, 0.6, 0.9]),
        (r"1,234.567 or 1{,}234 or $1\,234$; (0.25,100)", [1234.567, 1234, 1234, 0.25, 100]),
        (r"3.00e-05, $3.1 \times 10^{-5}$, 3.1 × 10^4", [3e-05, 3.1e-05, 31000]),
        ("torch 2.11.0, gpt2, v1.5, Python 3.11.", [3.11]),
        ("`p = [0.6, 0.3]`, 37.6%", [0.6, 0.3, 37.6]),
    ],
)
def test_numbers_as_people_write_them(text, values):
    assert [float(value) for _, value, _, _ in numbers(text)] == pytest.approx(values)
