"""The learner's saved work survives crashes, two notebooks at once, and damage."""

import json
import multiprocessing

import pytest

from studyguide.course import records


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDYGUIDE_PROGRESS", str(tmp_path / "deep" / "progress.json"))
    return records.progress_file()


def _count_up(path, times):
    import os

    os.environ["STUDYGUIDE_PROGRESS"] = path
    for _ in range(times):
        with records.update("shared") as record:
            record["attempts"] += 1


def test_nothing_saved_yet(file):
    assert records.read() == {}
    assert not file.exists()


def test_an_update_is_saved_and_read_back(file):
    with records.update("kl") as record:
        record.update(passed="2026-01-02", attempts=3)
    assert records.read() == {"kl": {"passed": "2026-01-02", "attempts": 3, "hints": 0}}


def test_an_exception_inside_an_update_changes_nothing(file):
    with records.update("kl") as record:
        record["attempts"] = 1
    with pytest.raises(RuntimeError), records.update("kl") as record:
        record["attempts"] = 99
        raise RuntimeError
    assert records.read()["kl"]["attempts"] == 1


def test_a_crash_while_writing_leaves_the_old_file(file, monkeypatch):
    with records.update("kl") as record:
        record["attempts"] = 1
    before = file.read_bytes()

    def crash(*_):
        raise OSError("power cut")

    monkeypatch.setattr(records.os, "replace", crash)
    with pytest.raises(OSError, match="power cut"), records.update("kl") as record:
        record["attempts"] = 2
    assert file.read_bytes() == before


def test_two_processes_at_once_lose_nothing(file):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count_up, args=(str(file), 25)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert records.read()["shared"]["attempts"] == 50


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"kl": 3}', '{"kl": {"attempts": "x"}}', "\x00\xff"])
def test_a_damaged_file_is_set_aside_whole_and_said_so(file, damage, capsys):
    file.parent.mkdir(parents=True)
    file.write_text(damage, encoding="latin-1")
    assert records.read() == {}
    kept = list(file.parent.glob("progress.damaged-*.json"))
    assert len(kept) == 1
    assert kept[0].read_text(encoding="latin-1") == damage
    assert str(kept[0]) in capsys.readouterr().out
    with records.update("kl") as record:
        record["attempts"] = 1
    assert json.loads(file.read_text())["kl"]["attempts"] == 1


def test_progress_counts_what_is_passed(file, capsys):
    with records.update("first-shares") as record:
        record["passed"] = "2026-01-02"
    records.progress()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["start", "here", "1", "of", "1", "all", "done"] in rows
    assert any(row[0] == "probability" and row[1] == "0" and row[-1] == "softmax-temperature" for row in rows[1:])
