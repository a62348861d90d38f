"""The notebooks' test is itself tested: each small notebook here must pass or fail for the reason in its name."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHOW_PNG = f'from IPython.display import display\ndisplay({{"image/png": "{PNG}", "text/plain": "Figure"}}, raw=True)'


def figure(data):
    return new_output("display_data", data=data)


def value(text, count):
    return new_output("execute_result", data={"text/plain": text}, execution_count=count)


def printed(text):
    return new_output("stream", name="stdout", text=text)


GOOD = [
    ("a = 2", []),
    ("print(a + 3)", [printed("5\n")]),
    ("a + 4;", []),  # the semicolon hides the value only where cells have a history
    (SHOW_PNG, [figure({"image/png": "another picture", "text/plain": "Figure"})]),
    ("import ipywidgets\nipywidgets.IntSlider(value=3)", [value("IntSlider(value=3)", 5)]),  # without its widget view
    ("import os\nfrom pathlib import Path", []),
    ("print(os.environ['HF_HUB_OFFLINE'], repr(os.environ['CUDA_VISIBLE_DEVICES']))", [printed("1 ''\n")]),
    ("print(Path(os.environ['STUDYGUIDE_PROGRESS']).exists())", [printed("False\n")]),
]

BAD = {
    "digit": ([("print(2 + 3)", [printed("6\n")])], "Cell outputs differ"),
    "unrun": ([("a = 2", []), ("a", None)], "never run"),
    "order": ([("a = 2", []), ("a;", []), ("a;", [])], "number 3 when all are run"),
    "figure": ([(SHOW_PNG, [figure({"text/plain": "Figure"})])], "shows 0 image/png"),
    "warning": ([("import sys\nprint('careful', file=sys.stderr)", [])], "Unexpected output fields"),
    "error": ([("1 / 0", [])], "ZeroDivisionError"),
    "death": ([("import os\nos._exit(1)", [])], "kernel died"),
}


def write(file, cells):
    made = []
    for number, (source, outputs) in enumerate(cells, 1):
        count = None if outputs is None else number
        made.append(new_code_cell(source, outputs=outputs or [], execution_count=count))
    if file.stem == "order":
        made[2].execution_count = 9
    nbformat.write(new_notebook(cells=made), file)


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """{(notebook, cell): why it failed, or None} of one run of pytest over all of them, with the course's settings."""
    folder = tmp_path_factory.mktemp("notebooks")
    for name, cells in {"good": GOOD, **{name: cells for name, (cells, _) in BAD.items()}}.items():
        write(folder / f"{name}.ipynb", cells)
    report = folder / "report.xml"
    settings = ["-c", ROOT / "pyproject.toml", "--rootdir", folder, "-p", "no:cacheprovider", "--junit-xml", report]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, folder], capture_output=True, text=True, check=False
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    return {
        (case.get("classname"), case.get("name")): getattr(case.find("failure"), "text", None)
        for case in ElementTree.parse(report).iter("testcase")
    }


def test_a_true_notebook_passes(failures):
    assert [failures["good.ipynb", f"Cell {cell}"] for cell in range(len(GOOD))] == [None] * len(GOOD)


@pytest.mark.parametrize("name", BAD)
def test_an_untrue_notebook_fails_at_its_last_cell(failures, name):
    cells, reason = BAD[name]
    *before, last = [failures[f"{name}.ipynb", f"Cell {cell}"] for cell in range(len(cells))]
    assert before == [None] * len(before)
    assert reason in last
