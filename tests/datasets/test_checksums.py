import hashlib

import pytest

from studyguide.datasets import DATA, verify

CARDS = sorted(card.parent for card in DATA.rglob("README.md"))
NOT_DATA = {"README.md", "SHA256SUMS", "build.py"}


def test_there_are_cards():
    assert CARDS


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.relative_to(DATA).as_posix())
def test_every_shipped_file_has_its_checksum(folder):
    shipped = {file.name for file in folder.iterdir() if file.is_file()} - NOT_DATA
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert shipped == {line.partition("  ")[2] for line in lines}
    assert verify(folder) == []


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "words.txt").write_bytes(b"sunny\n")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'sunny' + bytes([10])).hexdigest()}  words.txt\n")
    return tmp_path


def test_verify_accepts_what_is_unchanged(folder):
    assert verify(folder) == []


def test_verify_names_a_changed_file(folder):
    (folder / "words.txt").write_bytes(b"rainy\n")
    [problem] = verify(folder)
    assert problem.startswith(f"{folder / 'words.txt'} has sha256 ")
    assert problem.endswith((folder / "SHA256SUMS").read_text().split()[0])


def test_verify_names_a_missing_file(folder):
    (folder / "words.txt").unlink()
    assert verify(folder) == [f"{folder / 'words.txt'} is missing"]


def test_verify_wants_checksums(tmp_path):
    assert verify(tmp_path) == [f"{tmp_path / 'SHA256SUMS'} is missing"]


def test_verify_rejects_a_line_that_is_no_checksum(folder):
    (folder / "SHA256SUMS").write_text("words.txt\n")
    [problem] = verify(folder)
    assert "'words.txt' is not a checksum" in problem
