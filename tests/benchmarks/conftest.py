"""One thread for every library; and, after the tables of pytest-benchmark, how many times faster than its peer ours ran."""

import random
from collections import defaultdict

import pytest
import torch

OURS = "studyguide"  # the value of extra_info["library"] that is not a peer


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The peers compute in one thread, so torch gets no more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_texts():
    """A function (pairs, words) -> (hypotheses, references): a vocabulary with rare words, three words in ten changed."""

    def make(pairs, words):
        rng = random.Random(0)
        vocabulary = ["".join(rng.choices("aeioulnrstdk", k=rng.randrange(2, 10))) for _ in range(3000)]
        weights = [1 / (rank + 5) for rank in range(len(vocabulary))]
        references = [rng.choices(vocabulary, weights, k=words) for _ in range(pairs)]
        hypotheses = [[w if rng.random() > 0.3 else rng.choices(vocabulary, weights)[0] for w in r] for r in references]
        return [" ".join(text) for text in hypotheses], [" ".join(text) for text in references]

    return make


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
