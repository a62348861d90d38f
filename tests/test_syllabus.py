"""What the course owes: the ids in ``data/syllabus.yaml``, and the notebooks that must teach them."""

import copy
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from studyguide.datasets import path as data_path
from tests.notebooks.contract import notebook_files, read

FOLDER = Path(__file__).parents[1] / "notebooks"


@pytest.fixture(scope="module")
def syllabus():
    return yaml.safe_load(data_path("syllabus.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def claims():
    """{notebook: what its metadata say it teaches}."""
    names = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in notebook_files(FOLDER)}
    return {name: read(path)["metadata"]["studyguide"] for name, path in names.items()}


def notebooks_of(chapter):
    """The notebooks of a chapter; the front door is a notebook itself."""
    return [f"{chapter['id']}/{name}" for name in chapter["notebooks"]] or [chapter["id"]]


def problems(syllabus, claims):
    """What is missing or too much in the notebooks that exist, as far as whole chapters are built."""
    known = {kind: {entry["id"] for entry in syllabus[field]} for kind, field in KINDS.items()}
    shown = {erratum for claim in claims.values() for erratum in claim["errata"]}
    listed = [name for chapter in syllabus["chapters"] for name in notebooks_of(chapter)]
    found = [f"{name} is not in the syllabus" for name in claims if name not in listed]
    for name, claim in claims.items():
        for kind, ids in known.items():
            found += [f"{name} {kind} {unknown}, which nobody knows" for unknown in claim[kind] if unknown not in ids]
    for chapter in syllabus["chapters"]:
        names = notebooks_of(chapter)
        if all(name in claims for name in names):
            covered = {item for name in names for item in claims[name]["covers"]}
            for kind, done in (("covers", covered), ("errata", shown)):
                owed = [entry["id"] for entry in syllabus[KINDS[kind]] if entry["chapter"] == chapter["id"]]
                found += [
                    f"{chapter['id']} is built, but leaves out {missing}" for missing in owed if missing not in done
                ]
    return found


KINDS = {"covers": "items", "errata": "errata"}


# --- the file


def test_the_inventory_is_whole(syllabus):
    ids = [entry["id"] for entry in syllabus["items"]]
    assert len(ids) == len(set(ids)) == 333
    assert Counter(name.split("-")[0] for name in ids) == {"S0": 56, "S1": 66, "S2": 50, "S3": 112, "S4": 49}
    assert all(re.fullmatch(r"S[0-4]-[A-Z0-9][A-Z0-9_/-]*", name) for name in ids)


def test_the_errata_are_whole(syllabus):
    ids = [entry["id"] for entry in syllabus["errata"]]
    assert len(ids) == len(set(ids)) == 245
    assert all(re.fullmatch(r"E[0-4]-\d\d", name) for name in ids)
    assert Counter(entry["severity"] for entry in syllabus["errata"]) == {"H": 102, "M": 86, "L": 57}


@pytest.mark.parametrize("field", ["items", "errata"])
def test_every_id_has_a_chapter_and_words_of_its_own(syllabus, field):
    chapters = {chapter["id"] for chapter in syllabus["chapters"]}
    assert {entry["chapter"] for entry in syllabus[field]} <= chapters
    texts = Counter(entry["item"].strip().lower() for entry in syllabus[field])
    assert "" not in texts
    assert max(texts.values()) == 1


# --- the notebooks


def test_the_notebooks_teach_what_they_owe(syllabus, claims):
    assert problems(syllabus, claims) == []


def test_the_front_door_is_there(claims):
    assert "00_start_here" in claims


# --- the check itself

SMALL = {
    "chapters": [
        {"id": "00_start_here", "notebooks": []},
        {"id": "01_probability", "notebooks": ["01_a", "02_b"]},
        {"id": "02_statistics", "notebooks": ["01_c", "02_d"]},
    ],
    "items": [
        {"id": "S1-INTRO", "chapter": "00_start_here"},
        {"id": "S1-KL", "chapter": "01_probability"},
        {"id": "S1-HYP", "chapter": "02_statistics"},
    ],
    "errata": [{"id": "E1-01", "chapter": "01_probability"}, {"id": "E1-14", "chapter": "02_statistics"}],
}
KEPT = {
    "00_start_here": {"covers": ["S1-INTRO"], "errata": []},
    "01_probability/01_a": {"covers": [], "errata": ["E1-01"]},
    "01_probability/02_b": {"covers": ["S1-KL"], "errata": []},
    "02_statistics/01_c": {"covers": [], "errata": []},
}


def test_a_chapter_owes_nothing_before_it_is_built():
    assert problems(SMALL, KEPT) == []


@pytest.mark.parametrize(
    ("notebook", "claim", "problem"),
    [
        ("01_probability/02_b", {"covers": [], "errata": []}, "01_probability is built, but leaves out S1-KL"),
        ("01_probability/01_a", {"covers": [], "errata": []}, "01_probability is built, but leaves out E1-01"),
        ("00_start_here", {"covers": [], "errata": []}, "00_start_here is built, but leaves out S1-INTRO"),
        ("02_statistics/02_d", {"covers": ["S1-HYP"], "errata": []}, "02_statistics is built, but leaves out E1-14"),
        ("02_statistics/02_d", {"covers": [], "errata": ["E1-14"]}, "02_statistics is built, but leaves out S1-HYP"),
        (
            "02_statistics/01_c",
            {"covers": ["S1-ABC"], "errata": []},
            "02_statistics/01_c covers S1-ABC, which nobody knows",
        ),
        (
            "02_statistics/01_c",
            {"covers": [], "errata": ["E9-99"]},
            "02_statistics/01_c errata E9-99, which nobody knows",
        ),
        ("01_probability/03_new", {"covers": [], "errata": []}, "01_probability/03_new is not in the syllabus"),
    ],
)
def test_what_is_left_out_or_unknown_is_found(notebook, claim, problem):
    assert problems(SMALL, KEPT | {notebook: claim}) == [problem]


def test_an_item_taught_in_another_chapter_is_still_owed():
    claims = copy.deepcopy(KEPT)
    claims["01_probability/02_b"]["covers"] = []
    claims["02_statistics/01_c"]["covers"] = ["S1-KL"]
    assert problems(SMALL, claims) == ["01_probability is built, but leaves out S1-KL"]
