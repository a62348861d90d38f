"""Finds every file in ``data/`` and verifies it against the checksums of its card's folder."""

import hashlib
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"


def path(name):
    """The path of a file in ``data/``, such as ``"tinyworld/grammar.txt"``; an error if it is not there.

    >>> path("tinyworld/grammar.txt").name
    'grammar.txt'
    """
    found = DATA / name
    if not found.exists():
        raise FileNotFoundError(f"{name} is not in {DATA}; the course runs from a full clone of its repository")
    return found


def sha256(file):
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def verify(folder):
    """What is wrong with a folder's files by its ``SHA256SUMS``: a list of messages, empty if all is well.

    ``SHA256SUMS`` is what ``sha256sum`` prints: a checksum, two spaces and a file name a line, relative to the folder.
    """
    sums = Path(folder) / "SHA256SUMS"
    if not sums.exists():
        return [f"{sums} is missing"]
    problems = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        file = sums.parent / name
        if not (len(expected) == 64 and name):
            problems.append(f"{sums}: {line!r} is not a checksum, two spaces and a file name")
        elif not file.exists():
            problems.append(f"{file} is missing")
        elif sha256(file) != expected:
            problems.append(f"{file} has sha256 {sha256(file)}, expected {expected}")
    return problems
