"""One thread for every library; and, after the tables of pytest-benchmark, how many times faster than its peer ours ran."""

from collections import defaultdict

import pytest
import torch

OURS = "studyguide"  # the value of extra_info["library"] that is not a peer


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The peers compute in one thread, so torch gets no more."""
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter, config):
    """A benchmark takes part if it sets `benchmark.group` and `benchmark.extra_info["library"]`."""
    groups = defaultdict(dict)
    for run in config._benchmarksession.benchmarks:
        if "library" in run.extra_info and not run.has_error:
            groups[run.group][run.extra_info["library"]] = run.stats.min
    terminalreporter.section("peer time / studyguide time (fastest round of each; above 1, studyguide is faster)")
    for group, seconds in groups.items():
        for library in seconds.keys() - {OURS} if OURS in seconds else ():
            terminalreporter.write_line(
                f"{group:<30} {library:<12} {seconds[library]:8.3f} s   {OURS} {seconds[OURS]:8.3f} s"
                f"   ratio {seconds[library] / seconds[OURS]:6.2f}"
            )
