"""What the toolchain promises: one set of requirements in three files, and commands that call what they say."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
GROUPS = PROJECT["dependency-groups"]
REQUIRED = [*PROJECT["project"]["dependencies"], *GROUPS["offline"], *GROUPS["benchmarks"], *GROUPS["dev"]]
PYTHONS = ["3.11", "3.12", "3.13"]
SYSTEMS = [("linux", "Linux", "x86_64"), ("darwin", "Darwin", "arm64")]


def test_conda_users_get_what_pyproject_requires():
    python, pip, packages = CONDA["dependencies"]
    assert CONDA["name"] == PROJECT["project"]["name"]
    assert python == f"python{PROJECT['project']['requires-python']}"
    assert pip == "pip"
    assert packages == {"pip": [*REQUIRED, "-e ."]}


def test_the_lock_holds_exact_versions_only():
    assert [line for line in LOCK if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.+!]+( ; [^:]+)?", line)] == []
    assert "--hash" not in " ".join(LOCK)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system[0])
def test_the_lock_satisfies_pyproject(python, system):
    sys_platform, platform_system, platform_machine = system
    place = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": platform_machine,
    }
    pins = [pin for pin in map(Requirement, LOCK) if not pin.marker or pin.marker.evaluate(place)]
    locked = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(locked) == len(pins)
    for wanted in map(Requirement, REQUIRED):
        assert locked[canonicalize_name(wanted.name)] in wanted.specifier, wanted


def test_ci_calls_make_test_and_nothing_else():
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8") == "#!/usr/bin/env bash\nmake test\n"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111 == 0o111


def recipes():
    """{target: its recipe} of the Makefile, with the names of its prerequisites as the first line."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([a-z]+):(.*?)(?: ##.*)?\n((?:\t.*\n)*)", text, re.MULTILINE)
    return {target: f"{needs.strip()}\n{recipe}" for target, needs, recipe in found}


@pytest.mark.parametrize(
    ("target", "calls"),
    [
        ("setup", "$(STAMP)"),
        ("lab", "-m jupyterlab"),
        ("test", "-m pytest -n 2 --dist loadscope"),
        ("lint", "-m ruff check ."),
        ("lint", "-m ruff format --check ."),
        ("lint", "lint-imports"),
        ("doctor", "-m studyguide.course.doctor"),
        ("sync", "-m studyguide.course.notebooks sync"),
        ("solved", "-m studyguide.course.notebooks solved"),
        ("bench", "-m pytest tests/benchmarks"),
        ("lock", "pip compile pyproject.toml"),
    ],
)
def test_make_targets_call_what_they_say(target, calls):
    assert calls in recipes()[target]


def test_make_test_sets_up_and_lints_first():
    assert recipes()["test"].startswith("lint\n")
    assert all(
        recipes()[target].startswith("setup\n") for target in ("lab", "lint", "doctor", "sync", "solved", "bench")
    )


@pytest.mark.parametrize("name", ["ci.yml", "weekly.yml"])
def test_workflows_run_make_test_with_read_rights_only(name):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": "make test"}
    assert set(job["strategy"]["matrix"]["os"]) == {"ubuntu-latest", "macos-latest"}
    used = {step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step}
    assert used == {"actions/checkout", "actions/setup-python"}


def test_ci_runs_every_python_the_course_supports():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
