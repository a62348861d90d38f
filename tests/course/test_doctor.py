import hashlib
import shutil
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version

import pytest

from studyguide.course import doctor

PROJECT = """
[project]
requires-python = ">=3.11,<3.14"
dependencies = ["numpy>=2.0"]
[dependency-groups]
dev = ["ruff>=0.9"]
"""
LOCK = "numpy==2.1.0\nruff==0.9.1\ntqdm==4.0\npywinpty==3.1 ; sys_platform == 'nowhere'\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "requirements.lock").write_text(LOCK)
    folder = tmp_path / "data" / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("A card")
    (folder / "weights").write_bytes(b"12345")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'12345').hexdigest()}  weights\n")
    return tmp_path


def installed(**versions):
    def find(name):
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return find


@pytest.mark.parametrize(
    ("number", "status"), [("3.10.9", "[FAIL]"), ("3.11.0", "[OK]"), ("3.13.5", "[OK]"), ("3.14.0", "[FAIL]")]
)
def test_python(root, number, status):
    assert doctor.python(root, number)[0] == status


def test_packages_as_locked(root):
    row = doctor.packages(root, installed(numpy="2.1.0", ruff="0.9.1", tqdm="4.0"))
    assert row == ("[OK]", "packages", "3 as in requirements.lock")


def test_packages_that_suit_but_are_not_the_locked_ones(root):
    status, _, detail = doctor.packages(root, installed(numpy="2.3.0", ruff="0.9.1", tqdm="4.0"))
    assert status == "[--]"
    assert "numpy is 2.3.0, locked is 2.1.0" in detail


def test_packages_missing_or_too_old(root):
    status, _, detail = doctor.packages(root, installed(numpy="1.26.4", ruff="0.9.1"))
    assert status == "[FAIL]"
    assert "numpy is 1.26.4, needed is >=2.0; tqdm is missing" in detail


def test_packages_of_this_environment_are_all_found():
    assert doctor.packages(doctor.ROOT, version)[0] != "[FAIL]"


def test_data(root):
    assert list(doctor.data(root)) == [("[OK]", "data/models/tiny", "as published (files: 1)")]


def test_a_corrupted_copy_fails(root):
    (root / "data/models/tiny/weights").write_bytes(b"12346")
    [(status, what, detail)] = doctor.data(root)
    assert (status, what) == ("[FAIL]", "data/models/tiny")
    assert "weights has sha256" in detail


def test_encoder(tmp_path):
    def damaged():
        raise ValueError("not the published weights")

    assert doctor.encoder(lambda: tmp_path)[0] == "[OK]"
    assert doctor.encoder(lambda: None)[0] == "[FAIL]"
    assert doctor.encoder(damaged) == ("[FAIL]", "sentence encoder", "not the published weights")


def test_encoder_kernel_and_gpu_of_this_environment():
    assert doctor.encoder()[0] == "[OK]"
    assert doctor.kernel()[0] == "[OK]"
    assert doctor.gpu()[0] in ("[OK]", "[--]")


def test_disk(root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    for free, status in [(2e9, "[OK]"), (0.5e9, "[FAIL]")]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(1e12, 0, free))
        assert doctor.disk(root)[0] == status


@pytest.mark.parametrize(("status", "code"), [("[OK]", 0), ("[--]", 0), ("[FAIL]", 1)])
def test_exit_status(monkeypatch, capsys, status, code):
    monkeypatch.setattr(doctor, "report", lambda: [("[OK]", "Python", "3.11"), (status, "a long name", "why")])
    assert doctor.main() == code
    assert capsys.readouterr().out == f"[OK]    Python       3.11\n{status:6}  a long name  why\n"
