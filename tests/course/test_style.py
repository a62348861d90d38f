"""The first call of every notebook."""

import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from transformers import logging

from studyguide.course import begin


@pytest.fixture(autouse=True)
def as_before():
    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    with plt.rc_context():
        yield
    torch.set_num_threads(threads)
    logging.set_verbosity(verbosity)


def test_it_starts_every_global_generator_anew():
    def draws():
        begin(seed=3)
        return random.random(), np.random.random(), torch.rand(1).item()

    assert draws() == draws()


def test_transformers_is_quiet_unless_you_say_otherwise(monkeypatch):
    logging.set_verbosity_warning()
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    begin()
    assert logging.get_verbosity() == logging.WARNING
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY")
    begin()
    assert logging.get_verbosity() == logging.ERROR
