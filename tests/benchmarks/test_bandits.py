"""Simulated bandits against river's, one service at a time: the same pulls, the same kind of policy."""

import random

import pytest
from river import bandit as river
from river import proba

from studyguide.online.bandits import EpsilonGreedy, ThompsonSampling, simulate_bandit

MEANS, REPLICATIONS, HORIZON = (0.65, 0.7, 0.75), 1000, 1000
POLICIES = {
    "epsilon-greedy": (lambda: EpsilonGreedy(3, 0.1), lambda seed: river.EpsilonGreedy(0.1, burn_in=1, seed=seed)),
    "Thompson": (lambda: ThompsonSampling(3), lambda seed: river.ThompsonSampling(proba.Beta(), seed=seed)),
}


def by_river(make):
    rng, lost = random.Random(0), 0.0
    for seed in range(REPLICATIONS):
        policy = make(seed)
        for _ in range(HORIZON):
            arm = policy.pull([0, 1, 2])
            policy.update(arm, rng.random() < MEANS[arm])
            lost += max(MEANS) - MEANS[arm]
    return lost / REPLICATIONS


@pytest.mark.parametrize("library", ["studyguide", "river"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_thousand_services_of_a_thousand_steps(benchmark, name, library):
    ours, theirs = POLICIES[name]
    benchmark.group = f"{name}, 1,000 x 1,000 pulls"
    benchmark.extra_info["library"] = library
    if library == "river":
        lost = benchmark.pedantic(by_river, [theirs], rounds=1)
    else:
        result = benchmark.pedantic(simulate_bandit, [ours(), MEANS, HORIZON, REPLICATIONS, 0], rounds=3)
        lost = result.final_regret.estimate
    assert 15 < lost < 26  # the same task
