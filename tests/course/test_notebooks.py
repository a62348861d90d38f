import base64
import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from studyguide.course import notebooks
from studyguide.course.first_exercise import EXERCISES

EXERCISE = EXERCISES[0]
SYLLABUS = """
chapters:
  - {id: 00_start_here, title: Start here, notebooks: []}
  - {id: 01_one, title: Chapter one, notebooks: [01_a, 02_b, 03_not_written]}
  - {id: 02_two, title: Chapter two, notebooks: [01_c]}
"""
STALE = "def stale():\n    raise NotImplementedError"
PNG = base64.b64encode(b"the bytes of a picture").decode()
DRAW = f'from IPython.display import display\ndisplay({{"image/png": "{PNG}", "text/plain": "Figure"}}, raw=True)'
README = "# Course\n\n<!-- syllabus -->\nold\n<!-- /syllabus -->\nmore\n"


def first_cell(title):
    return new_markdown_cell(f"# {title}\n\nYou will be able to\n\n- compare p || q;\n- do more.\n")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "syllabus.yaml").write_text(SYLLABUS)
    (tmp_path / "README.md").write_text(README)
    (tmp_path / ".github").mkdir()
    cells = {
        "00_start_here": [
            new_code_cell("from studyguide.course import check"),
            new_code_cell(STALE, metadata={"tags": ["exercise"]}),
            new_code_cell(f'check("{EXERCISE.id}", {EXERCISE.name})'),
        ],
        "01_one/01_a": [new_code_cell("print('a')\nprint('b', flush=True)\nprint('c')"), new_code_cell("a = 1\na;")],
        "01_one/02_b": [
            new_code_cell("import ipywidgets\nipywidgets.IntSlider(value=3)"),
            new_code_cell(DRAW, metadata={"studyguide": {"readme": True}}),
        ],
        "02_two/01_c": [new_code_cell("import os\nos.path.basename(os.getcwd())")],
    }
    for number, (name, made) in enumerate(cells.items()):
        file = tmp_path / "notebooks" / f"{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nb = new_notebook(cells=[first_cell(f"Title {number}"), *made])
        nb.metadata.studyguide = {"covers": [], "errata": [], "minutes": 10 + number}
        nbformat.write(nb, file)
    return tmp_path


def test_notebooks_come_in_the_order_of_the_syllabus(root):
    names = [file.relative_to(root / "notebooks").as_posix() for file in notebooks.course_notebooks(root)]
    assert names == ["00_start_here.ipynb", "01_one/01_a.ipynb", "01_one/02_b.ipynb", "02_two/01_c.ipynb"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00_start_here", "[Title 1 →](01_one/01_a.ipynb)"),
        ("01_one/01_a", "[Start](../00_start_here.ipynb) | [Title 2 →](02_b.ipynb)"),
        (
            "01_one/02_b",
            "[← Title 1](01_a.ipynb) | [Start](../00_start_here.ipynb) | [Title 3 →](../02_two/01_c.ipynb)",
        ),
        ("02_two/01_c", "[← Title 2](../01_one/02_b.ipynb) | [Start](../00_start_here.ipynb)"),
    ],
)
def test_links(root, name, expected):
    assert notebooks.links(root / "notebooks" / f"{name}.ipynb", root) == expected


def test_sync_writes_everything_and_a_second_sync_changes_nothing(root, capsys):
    assert notebooks.sync(root) == []
    files = [root / "README.md", *notebooks.course_notebooks(root)]
    written = [file.read_bytes() for file in files]

    door = notebooks.read(files[1])
    assert door.cells[2].source == EXERCISE.stub
    assert door.cells[3].outputs[0].text.startswith("not attempted yet")
    assert door.cells[-1].metadata.tags == ["links"]
    a, b, c = map(notebooks.read, files[2:])
    assert [output.text for output in a.cells[1].outputs] == ["a\nb\nc\n"]
    assert [cell.execution_count for cell in a.cells if cell.cell_type == "code"] == [1, 2]
    assert a.cells[2].outputs == []
    assert b.cells[1].outputs[0].data == {"text/plain": "IntSlider(value=3)"}
    assert c.cells[1].outputs[0].data == {"text/plain": "'02_two'"}
    assert set(a.metadata) == {"kernelspec", "language_info", "studyguide"}
    assert (root / "README.md").read_text() == (
        "# Course\n\n<!-- syllabus -->\n"
        "| chapter | notebook | minutes | you will be able to |\n"
        "|---|---|---:|---|\n"
        "|  | [Title 0](notebooks/00_start_here.ipynb) | 10 | compare p \\|\\| q |\n"
        "| Chapter one | [Title 1](notebooks/01_one/01_a.ipynb) | 11 | compare p \\|\\| q |\n"
        "|  | [Title 2](notebooks/01_one/02_b.ipynb) | 12 | compare p \\|\\| q |\n"
        "| Chapter two | [Title 3](notebooks/02_two/01_c.ipynb) | 13 | compare p \\|\\| q |\n"
        "<!-- /syllabus -->\nmore\n"
    )

    assert (root / notebooks.FIGURE).read_bytes() == b"the bytes of a picture"

    assert notebooks.check(root) == []
    capsys.readouterr()
    assert notebooks.sync(root) == []
    assert [file.read_bytes() for file in files] == written
    assert "wrote" not in capsys.readouterr().out


def test_check_names_what_is_out_of_date(root):
    assert notebooks.check(root) == [
        "notebooks/00_start_here.ipynb is not as `make sync` writes it",
        "notebooks/01_one/01_a.ipynb is not as `make sync` writes it",
        "notebooks/01_one/02_b.ipynb is not as `make sync` writes it",
        "notebooks/02_two/01_c.ipynb is not as `make sync` writes it",
        "the syllabus table of README.md is not as `make sync` writes it",
        ".github/figure.png is not the notebook's figure; `make sync` writes it",
    ]


def test_sync_never_overwrites_an_answer(root):
    file = root / "notebooks" / "00_start_here.ipynb"
    nb = notebooks.read(file)
    nb.cells[2].source = "def my_shares(counts):\n    return counts / counts.sum()"
    file.write_text(notebooks.written(nb))
    [problem] = notebooks.sync(root)
    assert "there is an answer in this exercise" in problem
    assert notebooks.read(file).cells[2].source == nb.cells[2].source


@pytest.mark.parametrize(
    ("source", "reason"), [("1 / 0", "ZeroDivisionError"), ("import os\nos._exit(1)", "Kernel died")]
)
def test_a_cell_that_fails_is_named(tmp_path, source, reason):
    nb = new_notebook(cells=[first_cell("Title"), new_code_cell("a = 1"), new_code_cell(source, id="culprit")])
    with pytest.raises(notebooks.NotebookError, match=rf"a\.ipynb, cell 3 \(culprit\):\n(?s:.*){reason}"):
        notebooks.execute(nb, tmp_path / "a.ipynb")


def test_sync_leaves_a_notebook_alone_that_fails(root):
    file = root / "notebooks" / "01_one" / "01_a.ipynb"
    nb = notebooks.read(file)
    nb.cells[2].source = "1 / 0"
    before = notebooks.written(nb)
    file.write_text(before)
    [problem] = notebooks.sync(root)
    assert problem.startswith(f"{file}, cell 3")
    assert file.read_text() == before
    assert notebooks.tagged(notebooks.read(file.with_name("02_b.ipynb")).cells[-1], "links")


def test_solved_notebooks_run_and_their_checks_pass(root):
    assert notebooks.solved(root) == []
    door = notebooks.read(root / "build" / "solved" / "00_start_here.ipynb")
    assert door.cells[2].source == EXERCISE.source
    assert door.cells[3].outputs[0].text.startswith("passed")
    assert (root / "build" / "solved" / "02_two" / "01_c.ipynb").exists()
    unsolved = notebooks.read(root / "notebooks" / "00_start_here.ipynb")
    assert unsolved.cells[2].source == STALE


def test_a_solution_that_does_not_pass_is_named(root, tmp_path, monkeypatch):
    monkeypatch.setattr(type(EXERCISE), "source", property(lambda exercise: exercise.stub))
    with pytest.raises(
        notebooks.NotebookError, match=f"{EXERCISE.id}: its own solution does not pass: not attempted yet"
    ):
        notebooks.solve(root / "notebooks" / "00_start_here.ipynb", tmp_path / "solved.ipynb")


def test_an_exercise_cell_without_its_check_is_named(root):
    file = root / "notebooks" / "00_start_here.ipynb"
    nb = notebooks.read(file)
    del nb.cells[3]
    nbformat.write(nb, file)
    with pytest.raises(notebooks.NotebookError, match="an exercise cell is followed by a cell with check"):
        notebooks.check(root)


@pytest.mark.parametrize(("problems", "expected"), [([], None), (["a", "b"], "a\n\nb")])
def test_what_a_command_ends_with(monkeypatch, problems, expected):
    monkeypatch.setattr(notebooks, "check", lambda: problems)
    assert notebooks.main("check") == expected


def test_a_readme_without_markers_is_an_error(root):
    (root / "README.md").write_text("# Course\n")
    with pytest.raises(notebooks.NotebookError, match="README.md has no lines <!-- syllabus -->"):
        notebooks.readme(root)


def test_normalise_drops_what_editors_and_sessions_leave():
    nb = new_notebook(
        metadata={
            "kernelspec": {"display_name": "My env", "name": "other"},
            "widgets": {"state": {}},
            "studyguide": {"minutes": 5},
        },
        cells=[
            new_markdown_cell("text", metadata={"jp-MarkdownHeadingCollapsed": True}, id="kept"),
            new_code_cell(
                "x",
                metadata={
                    "execution": {"iopub.status.busy": "2026"},
                    "collapsed": True,
                    "tags": [],
                    "studyguide": {"a": 1},
                },
                outputs=[
                    new_output("stream", name="stdout", text="a"),
                    new_output("stream", name="stdout", text="b"),
                    new_output("stream", name="stderr", text="c"),
                    new_output("stream", name="stdout", text="d"),
                    new_output("display_data", data={notebooks.WIDGET_VIEW: {"model_id": "1"}}),
                    new_output(
                        "display_data", data={"image/png": "aaaa"}, metadata={"image/png": {"alt": "a picture"}}
                    ),
                ],
            ),
        ],
    )
    nb = notebooks.normalise(nb)
    assert nb.metadata == {**notebooks.METADATA, "studyguide": {"minutes": 5}}
    text, code = nb.cells
    assert (text.id, text.metadata, code.metadata) == ("kept", {}, {"studyguide": {"a": 1}})
    assert [output.get("text") for output in code.outputs] == ["ab", "c", "d", None]
    assert code.outputs[-1].data == {"image/png": "aaaa"}
    assert code.outputs[-1].metadata == {"image/png": {"alt": "a picture"}}


def test_kernels_run_under_the_same_environment_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("STUDYGUIDE_LM", "gpt2")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    environment = notebooks.kernel_env(tmp_path)
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
    assert {name for name in environment if name.startswith(("STUDYGUIDE_", "MPL"))} == {"STUDYGUIDE_PROGRESS"}


def test_the_committed_notebooks_are_as_sync_writes_them():
    assert notebooks.check() == []
