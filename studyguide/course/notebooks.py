"""Keeps the notebooks true: runs them, writes what is generated in them, solves them.

python -m studyguide.course.notebooks sync      run all notebooks again and write them
python -m studyguide.course.notebooks solved    write and run solved copies in build/solved
python -m studyguide.course.notebooks readme    write the syllabus table of README.md
python -m studyguide.course.notebooks check     say what sync would change without running a cell
"""

import asyncio
import base64
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
from traitlets.config import Config

from studyguide.course.exercises import find
from studyguide.datasets import DATA

ROOT = DATA.parent

# What a notebook's kernel runs under, in sync, in tests and in solved, so that its outputs are the same everywhere.
EXECUTION_ENV = {
    "CUDA_VISIBLE_DEVICES": "",  # the committed outputs are the CPU's
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # names a live object of one session
FIGURE = ".github/figure.png"
IGNORED = "nbval-ignore-output"  # its output tells of one machine, so none is kept
LINKS = "links"
EXERCISE = "exercise"
TIMEOUT = 300  # seconds for a cell, and for a kernel to start
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SYLLABUS = re.compile(r"(?<=<!-- syllabus -->\n).*?(?=<!-- /syllabus -->)", re.DOTALL)


class NotebookError(Exception):
    """A notebook did not run, or a solution did not pass; the message says which notebook and cell."""


def kernel_env(scratch):
    """The environment of a kernel: the caller's, made the same everywhere, with `scratch` for what the kernel keeps."""
    inherited = {k: v for k, v in os.environ.items() if k != "MPLBACKEND" and not k.startswith("STUDYGUIDE_")}
    kept = {"IPYTHONDIR": str(Path(scratch, "ipython")), "STUDYGUIDE_PROGRESS": str(Path(scratch, "progress.json"))}
    return inherited | EXECUTION_ENV | kept


def kernel_sockets(scratch):
    """Where a kernel listens: sockets in `scratch`, its own folder. A free port can be taken before the kernel binds it."""
    return {"transport": "ipc", "ip": str(Path(scratch, "kernel"))}


def chapters(root=ROOT):
    """The chapters of the syllabus, in order: id, title, names of the notebooks."""
    return yaml.safe_load(Path(root, "data", "syllabus.yaml").read_text(encoding="utf-8"))["chapters"]


def course_notebooks(root=ROOT):
    """The notebooks that exist, in the order of the syllabus, the front door first."""
    folder = Path(root, "notebooks")
    files = [folder / chapter["id"] / f"{name}.ipynb" for chapter in chapters(root) for name in chapter["notebooks"]]
    return [file for file in [folder / "00_start_here.ipynb", *files] if file.exists()]


def read(file):
    return nbformat.read(file, as_version=4)


def written(nb):
    """The text of a notebook's file."""
    return nbformat.writes(nb) + "\n"


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def title(nb):
    """The heading of the first cell, such as "1.2 Divergences"."""
    return re.search(r"^# (.+)$", nb.cells[0].source, re.MULTILINE)[1].strip()


# Running


def execute(nb, file):
    """Run every cell in a fresh kernel, in the folder of `file`; the outputs are kept in `nb`."""
    running = 0

    def start(cell, cell_index):
        nonlocal running
        running = cell_index

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        client = NotebookClient(
            nb,
            kernel_name="python3",
            timeout=TIMEOUT,
            startup_timeout=TIMEOUT,
            store_widget_state=False,
            record_timing=False,
            resources={"metadata": {"path": str(Path(file).parent)}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            config=Config(KernelManager=kernel_sockets(scratch)),
            on_cell_start=start,
        )
        try:
            asyncio.run(client.async_execute(env=kernel_env(scratch)))
        except (CellExecutionError, CellControlSignal, DeadKernelError, RuntimeError) as error:
            cell = nb.cells[running]
            said = COLOUR.sub("", str(error))
            raise NotebookError(f"{file}, cell {running + 1} ({cell.get('id')}):\n{said}") from None
    return nb


def normalise(nb):
    """Drop what changes from run to run or from editor to editor; what is left depends on the notebook alone."""
    nb.nbformat, nb.nbformat_minor = 4, 5
    guide = nb.metadata.get("studyguide", {})
    nb.metadata = nbformat.from_dict(METADATA | {"studyguide": guide})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in ("studyguide", "tags") and v}
        )
        if cell.cell_type == "code":
            cell.outputs = [] if tagged(cell, IGNORED) else _normal_outputs(cell.outputs)
    return nb


def _normal_outputs(outputs):
    kept = []
    for output in outputs:
        if "data" in output:
            output.data.pop(WIDGET_VIEW, None)
            if not output.data:
                continue
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


# What is generated


def links(file, root=ROOT):
    """The text of a notebook's last cell: the previous notebook, the front door, the next notebook."""
    file = Path(file)
    files = course_notebooks(root)
    start, place = files[0], files.index(file)
    parts = []
    if place > 1:
        parts.append(f"[← {title(read(files[place - 1]))}]({_relative(files[place - 1], file)})")
    if place > 0:
        parts.append(f"[Start]({_relative(start, file)})")
    if place + 1 < len(files):
        parts.append(f"[{title(read(files[place + 1]))} →]({_relative(files[place + 1], file)})")
    return " | ".join(parts)


def _relative(target, file):
    return Path(os.path.relpath(target, file.parent)).as_posix()


def generate(nb, file, root=ROOT):
    """Write the stubs of the exercises and the links cell; an answer that somebody left in a stub is not overwritten."""
    for stub, exercise in exercises(nb):
        if "raise NotImplementedError" not in stub.source:
            raise NotebookError(
                f"{file}, cell {stub.id}: there is an answer in this exercise. It is left as it is; copy it elsewhere and "
                "bring the stub back (`git checkout` of the notebook), then sync again."
            )
        stub.source = exercise.stub
    if not tagged(nb.cells[-1], LINKS):
        cell = nbformat.v4.new_markdown_cell(metadata={"tags": [LINKS]})
        cell.id = LINKS
        nb.cells.append(cell)
    nb.cells[-1].source = links(file, root)
    return nb


def exercises(nb):
    """(stub cell, exercise) for every cell tagged `exercise`; the `check` cell that follows it names the exercise."""
    found = []
    for cell, following in zip(nb.cells, [*nb.cells[1:], None], strict=True):
        if tagged(cell, EXERCISE):
            name = following and re.match(r'check\("([^"]+)"', following.source)
            if not name:
                raise NotebookError(
                    f'{title(nb)}, cell {cell.id}: an exercise cell is followed by a cell with check("...")'
                )
            found.append((cell, find(name[1])))
    return found


def syllabus_table(root=ROOT):
    """The table of README.md: chapter, notebook, minutes, what you learn."""
    titles = {chapter["id"]: chapter["title"] for chapter in chapters(root)}
    lines = ["| chapter | notebook | minutes | you will be able to |", "|---|---|---:|---|"]
    named = set()
    for file in course_notebooks(root):
        nb = read(file)
        chapter = titles.get(file.parent.name, "")
        goal = re.search(r"^You will be able to.*?^[-*] (.+?)[;.,]?$", nb.cells[0].source, re.MULTILINE | re.DOTALL)[1]
        cells = (
            "" if chapter in named else chapter,
            f"[{title(nb)}]({file.relative_to(root).as_posix()})",
            str(nb.metadata.studyguide.minutes),
            goal.replace("|", r"\|"),
        )
        lines.append(f"| {' | '.join(cells)} |")
        named.add(chapter)
    return "\n".join(lines) + "\n"


def readme(root=ROOT):
    """README.md with its syllabus table written anew."""
    text = Path(root, "README.md").read_text(encoding="utf-8")
    if not SYLLABUS.search(text):
        raise NotebookError("README.md has no lines <!-- syllabus --> and <!-- /syllabus -->")
    return SYLLABUS.sub(lambda _: syllabus_table(root), text)


def figure(root=ROOT):
    """The picture of README.md: that of the cell with `"studyguide": {"readme": true}` in its metadata, as PNG bytes."""
    cells = [cell for file in course_notebooks(root) for cell in read(file).cells]
    marked = [cell.outputs for cell in cells if cell.metadata.get("studyguide", {}).get("readme")]
    pictures = [
        output.data["image/png"] for outputs in marked for output in outputs if "image/png" in output.get("data", {})
    ]
    return base64.b64decode(pictures[0]) if pictures else b""


# Commands


def check(root=ROOT):
    """What sync would change without running a cell, as a list of messages."""
    problems = []
    for file in course_notebooks(root):
        nb = normalise(generate(read(file), file, root))
        if written(nb) != file.read_text(encoding="utf-8"):
            problems.append(f"{file.relative_to(root)} is not as `make sync` writes it")
    if readme(root) != Path(root, "README.md").read_text(encoding="utf-8"):
        problems.append("the syllabus table of README.md is not as `make sync` writes it")
    picture = Path(root, FIGURE)
    if not picture.exists() or figure(root) != picture.read_bytes():
        problems.append(f"{FIGURE} is not the notebook's figure; `make sync` writes it")
    return problems


def sync(root=ROOT):
    """Run all notebooks again and write them and the syllabus table; a list of what did not run."""

    def one(file):
        nb = generate(read(file), file, root)
        _save(file, written(normalise(execute(nb, file))), root)

    problems = _two_at_a_time(one, course_notebooks(root))
    _save(Path(root, "README.md"), readme(root), root)
    Path(root, FIGURE).write_bytes(figure(root))
    return problems


def solve(file, target):
    """Write a copy of the notebook with every exercise solved to `target` and run it; every check must pass."""
    nb = read(file)
    solved = exercises(nb)
    for stub, exercise in solved:
        stub.source = exercise.source
    execute(nb, target)
    target.write_text(written(normalise(nb)), encoding="utf-8")
    for stub, exercise in solved:
        checked = nb.cells[nb.cells.index(stub) + 1]
        said = "".join(output.get("text", "") for output in checked.outputs)
        if not said.startswith("passed"):
            raise NotebookError(f"{file}, exercise {exercise.id}: its own solution does not pass: {said}")


def solved(root=ROOT):
    """Write and run a solved copy of every notebook; a list of what did not run or pass."""

    def one(file):
        target = Path(root, "build", "solved", file.relative_to(Path(root, "notebooks")))
        target.parent.mkdir(parents=True, exist_ok=True)
        solve(file, target)

    return _two_at_a_time(one, course_notebooks(root))


def _two_at_a_time(action, files):
    def guarded(file):
        start = time.monotonic()
        try:
            action(file)
        except NotebookError as error:
            return str(error)
        print(f"{file.name}: {time.monotonic() - start:.0f} s", flush=True)
        return None

    with ThreadPoolExecutor(2) as pool:
        return [problem for problem in pool.map(guarded, files) if problem]


def _save(file, text, root):
    if text != file.read_text(encoding="utf-8"):
        file.write_text(text, encoding="utf-8")
        print(f"wrote {file.relative_to(root)}", flush=True)


def main(command):
    """Run one command; None if all went well, else what did not."""
    if command == "readme":
        _save(ROOT / "README.md", readme(), ROOT)
        problems = []
    else:
        problems = {"sync": sync, "solved": solved, "check": check}[command]()
    return "\n\n".join(problems) or None


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("sync", "solved", "readme", "check"):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
