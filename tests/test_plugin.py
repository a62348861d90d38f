"""What tests/plugin.py promises to every test."""

import os
import socket

import pytest
import torch

from studyguide.course.notebooks import EXECUTION_ENV


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])  # addresses that the standards keep for examples
def test_other_machines_are_refused(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        for connect in (client.connect, client.connect_ex):
            with pytest.raises(pytest.fail.Exception, match=f"asked the network for {address}"):
                connect((address, 80))


def test_names_are_not_looked_up():
    with pytest.raises(pytest.fail.Exception, match="asked the network for example.org"):
        socket.create_connection(("example.org", 80))


def test_the_loopback_is_open():
    with socket.create_server(("localhost", 0)) as server, socket.create_connection(server.getsockname()) as client:
        served, _ = server.accept()
        with served:
            served.sendall(b"here")
            assert client.recv(4) == b"here"


def test_tests_run_in_the_environment_of_the_notebooks():
    expected = {name: value for name, value in EXECUTION_ENV.items() if name != "CUDA_VISIBLE_DEVICES"}
    assert {name: os.environ[name] for name in expected} == expected
    assert "STUDYGUIDE_LM" not in os.environ


def test_tests_never_touch_the_learners_progress():
    assert not os.environ["STUDYGUIDE_PROGRESS"].startswith(os.getcwd())


@pytest.mark.gpu
def test_the_gpu_marker_means_a_gpu():
    assert torch.cuda.is_available()
