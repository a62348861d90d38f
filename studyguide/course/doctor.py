"""`make doctor`: says what works on this machine, a row for each thing. Exit status 1 if anything needed does not."""

import importlib.metadata
import platform
import shutil
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from studyguide.datasets import DATA, verify

ROOT = DATA.parent
OK, ABSENT, FAIL = "[OK]", "[--]", "[FAIL]"
DISK_NEEDED = 1.0  # GB, for what the notebooks write and the caches of Jupyter and torch


def python(root, version=None):
    """The running Python against pyproject.toml."""
    version = version or platform.python_version()
    wanted = _project(root)["project"]["requires-python"]
    return OK if version in SpecifierSet(wanted) else FAIL, "Python", f"{version} (the course needs {wanted})"


def packages(root, installed=importlib.metadata.version):
    """Installed packages against requirements.lock; `installed` gives the version of a name."""
    lines = (Path(root) / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [
        requirement
        for requirement in map(Requirement, lines)
        if not requirement.marker or requirement.marker.evaluate()
    ]
    ranges = {requirement.name: requirement.specifier for requirement in requirements(root)}
    problems, other = [], []
    for pin in pins:
        try:
            version = installed(pin.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{pin.name} is missing")
            continue
        if version not in ranges.get(pin.name, SpecifierSet()):
            problems.append(f"{pin.name} is {version}, needed is {ranges[pin.name]}")
        elif version not in pin.specifier:
            other.append(f"{pin.name} is {version}, locked is {str(pin.specifier).strip('=')}")
    if problems:
        return FAIL, "packages", f"{'; '.join(problems)}. `make setup` installs what is missing"
    if other:
        return ABSENT, "packages", f"not those of the lock, so numbers may differ: {'; '.join(other)}"
    return OK, "packages", f"{len(pins)} as in requirements.lock"


def requirements(root):
    """What pyproject.toml requires: the dependencies and every group."""
    project = _project(root)
    lists = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    return [Requirement(line) for lines in lists for line in lines]


def gpu():
    """CUDA, which the course can use and does not need."""
    import torch

    if not torch.cuda.is_available():
        return ABSENT, "GPU", "none that torch can use; the course runs on the CPU"
    return OK, "GPU", torch.cuda.get_device_name()


def data(root):
    """A row for every data set and model that ships: its files against their checksums."""
    for card in sorted(Path(root, "data").rglob("README.md")):
        folder = card.parent
        problems = verify(folder)
        if problems:
            yield FAIL, folder.relative_to(root).as_posix(), "; ".join(problems)
        else:
            files = len((folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
            yield OK, folder.relative_to(root).as_posix(), f"as published (files: {files})"


def encoder(find=None):
    """The sentence encoder's weights, by checksum; `find` gives their folder or None."""
    if find is None:
        from studyguide.models import minilm_folder as find
    try:
        folder = find()
    except ValueError as error:
        return FAIL, "sentence encoder", str(error)
    if folder is None:
        return FAIL, "sentence encoder", "all-MiniLM-L6-v2 is not here; `make setup` installs it"
    return OK, "sentence encoder", f"all-MiniLM-L6-v2 as published, in {folder}"


def kernel():
    """The kernel that notebooks name, and whether it is this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return FAIL, "kernel", "Jupyter finds no kernel python3; `make setup` installs it"
    major, minor = sys.version_info[:2]
    if command not in ("python", f"python{major}", f"python{major}.{minor}", sys.executable):
        return FAIL, "kernel", f"Jupyter's python3 is {command}, not this Python: `jupyter kernelspec remove python3`"
    return OK, "kernel", f"python3 is {sys.executable}"


def disk(root, needed=DISK_NEEDED):
    """Free space where the course lies."""
    free = shutil.disk_usage(root).free / 1e9
    return OK if free >= needed else FAIL, "disk", f"{free:.1f} GB free (the course needs {needed:.0f})"


def report(root=ROOT):
    """All rows: (status, what, detail)."""
    return [python(root), packages(root), gpu(), *data(root), encoder(), kernel(), disk(root)]


def _project(root):
    return tomllib.loads((Path(root) / "pyproject.toml").read_text(encoding="utf-8"))


def main():
    rows = report()
    width = max(len(what) for _, what, _ in rows)
    for status, what, detail in rows:
        print(f"{status:6}  {what:{width}}  {detail}")
    return any(status == FAIL for status, _, _ in rows)


if __name__ == "__main__":
    sys.exit(main())
