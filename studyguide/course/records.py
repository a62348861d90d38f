"""The learner's saved work: a small local JSON file, never lost and never sent anywhere."""

import json
import os
import tempfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from studyguide.course.display import table

DEFAULT = Path(__file__).resolve().parents[2] / ".progress" / "progress.json"


def progress_file():
    """Where progress is kept: ``$STUDYGUIDE_PROGRESS``, else ``.progress/progress.json`` in the repository."""
    return Path(os.environ.get("STUDYGUIDE_PROGRESS") or DEFAULT)


def read():
    """{exercise id: {"passed": date or None, "attempts": int, "hints": int}}."""
    with _locked() as file:
        return _load(file)


@contextmanager
def update(exercise_id):
    """Change one exercise's record: the file is read, changed and replaced as a whole under a lock."""
    with _locked() as file:
        records = _load(file)
        record = records.setdefault(exercise_id, {"passed": None, "attempts": 0, "hints": 0})
        yield record
        _replace(file, json.dumps(records, indent=1, sort_keys=True))


def progress():
    """Print how many exercises of each chapter you have passed, and which comes next."""
    from studyguide.course.exercises import by_chapter

    records = read()
    rows = []
    for chapter, exercises in by_chapter().items():
        open_ids = [e.id for e in exercises if not records.get(e.id, {}).get("passed")]
        passed = len(exercises) - len(open_ids)
        rows.append((chapter, f"{passed} of {len(exercises)}", open_ids[0] if open_ids else "all done"))
    table(dict(zip(("chapter", "passed", "next exercise"), zip(*rows, strict=True), strict=True)))


@contextmanager
def _locked():
    file = progress_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield file


def _load(file):
    if not file.exists():
        return {}
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(record["attempts"] + record["hints"], int) for record in records.values()):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError):
        aside = file.with_name(f"{file.stem}.damaged-{datetime.now():%Y%m%d-%H%M%S-%f}{file.suffix}")
        file.rename(aside)
        print(f"Your progress file could not be read. It is kept as {aside}; a new one is begun.")
        return {}
    return records


def _replace(file, text):
    """Write beside the file and rename, so that a crash leaves the old file or the new one, never half of one."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".new", delete=False, encoding="utf-8") as new:
        new.write(text)
        new.flush()
        os.fsync(new.fileno())
    os.replace(new.name, file)
