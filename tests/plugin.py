"""What every test and every notebook of the suite runs under. pyproject.toml loads it for all of pytest.

The environment of `make sync`; no network but the loopback; nbval made strict: cells run with history, a cell that was
never run or ran out of order fails, a figure must be drawn again, and a kernel that dies is noticed at once.
"""

import importlib.util
import ipaddress
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from queue import Empty

import nbval.plugin
import pytest
import torch
from jupyter_client.manager import KernelManager
from nbval.kernel import NbvalKernelspecManager, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile
from xdist.scheduler import LoadScopeScheduling

from studyguide.course.notebooks import EXECUTION_ENV, kernel_env, kernel_sockets
from studyguide.datasets import path

SCRATCH = tempfile.TemporaryDirectory(prefix="studyguide-", ignore_cleanup_errors=True)
os.environ |= {name: value for name, value in EXECUTION_ENV.items() if name != "CUDA_VISIBLE_DEVICES"}
os.environ |= {"MPLBACKEND": "Agg", "STUDYGUIDE_PROGRESS": str(Path(SCRATCH.name, "progress.json"))}
for name in ("STUDYGUIDE_LM", "STUDYGUIDE_ENCODER", "STUDYGUIDE_DEVICE"):
    os.environ.pop(name, None)

torch.set_num_threads(1)  # it was imported before OMP_NUM_THREADS was set

SHOWN = ("image/png", "image/jpeg", "image/svg+xml", "text/html")  # must be there again, may differ


# Tests


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Any socket to another machine fails the test, at the call that opens it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))
        yield


def _guarded(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_remote(address[0])
        return connect(self, address)

    return guarded


def _guarded_lookup(getaddrinfo):
    def guarded(host, *args, **kwargs):
        _refuse_remote(host)
        return getaddrinfo(host, *args, **kwargs)

    return guarded


def _refuse_remote(host):
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        if ipaddress.ip_address(name).is_loopback:
            return
    except ValueError:
        pass
    pytest.fail(f"a test asked the network for {name}; tests run offline")


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture
def cuda():
    """The device of the tests that compare CUDA with the CPU; they are marked `gpu`."""
    return torch.device("cuda", 0)


@pytest.fixture(scope="module")
def build(request):
    """The script that makes a folder of data, as a module; a test module names it: ``BUILD = "text/build.py"``."""
    spec = importlib.util.spec_from_file_location("build", path(request.module.BUILD))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Scheduling(LoadScopeScheduling):
    """A module's tests go to one worker, since they share fixtures; but each solved notebook is on its own."""

    def _split_scope(self, nodeid):
        return nodeid if "test_solved.py" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


# Notebooks


class Kernel(RunningKernel):
    """nbval's kernel in the environment of `make sync`, counting its cells, and noticed when it dies."""

    def __init__(self, kernel_name, cwd=None, startup_timeout=60):
        self.scratch = tempfile.TemporaryDirectory(prefix="studyguide-", ignore_cleanup_errors=True)
        self.execution_count = None
        scratch = self.scratch.name
        self.km = KernelManager(
            kernel_name=kernel_name, kernel_spec_manager=NbvalKernelspecManager(), **kernel_sockets(scratch)
        )
        self.km.start_kernel(stderr=subprocess.DEVNULL, cwd=cwd, env=kernel_env(scratch))
        self.kc = self.km.client()
        self.kc.start_channels()
        self.kc.wait_for_ready(timeout=startup_timeout)
        self._ensure_iopub_up()

    def execute_cell_input(self, cell_input, allow_stdin=None):
        return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)

    def await_reply(self, msg_id, timeout=None):
        end = time.monotonic() + timeout
        while True:
            try:
                message = self.get_message("shell", timeout=1)
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died while it ran this cell") from None
                if time.monotonic() > end:
                    raise
                continue
            if message["parent_header"].get("msg_id") == msg_id:
                self.execution_count = message["content"].get("execution_count")
                return

    def stop(self):
        super().stop()
        self.scratch.cleanup()


nbval.plugin.RunningKernel = Kernel
nbval.plugin.bcolors = nbval.plugin.nocolors  # it colours its reports even where they go to a file


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += SHOWN


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    committed = item.cell.execution_count
    if committed is None:
        item.raise_cell_error("This cell was never run. `make sync` runs all notebooks.")
    result = yield
    if item.parent.kernel.execution_count != committed:
        item.raise_cell_error(
            f"This cell is number {item.parent.kernel.execution_count} when all are run in order; the notebook says "
            f"{committed}. `make sync` runs all notebooks."
        )
    for kind in SHOWN:
        before, now = (
            sum(kind in output.get("data", {}) for output in of) for of in (item.cell.outputs, item.test_outputs)
        )
        if item.options["check"] and before != now:
            item.raise_cell_error(f"The notebook shows {before} {kind}; running the cell again shows {now}.")
    return result
