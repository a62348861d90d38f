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
