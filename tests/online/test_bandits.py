"""Bandits against a scalar re-implementation, exact enumeration, river, scipy and the theorems of their authors."""

import copy
import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from river import bandit as river
from scipy import integrate, stats
from statsmodels.stats.proportion import proportion_confint

from studyguide.online.bandits import (
    POLICIES,
    UCB1,
    EpsilonGreedy,
    Exp3,
    ThompsonSampling,
    inverse_propensity_estimate,
    load_policy,
    replicate,
    save_policy,
    simulate_bandit,
)

properties = settings(max_examples=25, deadline=None)
MAKE = {
    "EpsilonGreedy": lambda arms: EpsilonGreedy(arms, 0.1),
    "UCB1": UCB1,
    "ThompsonSampling": ThompsonSampling,
    "Exp3": lambda arms: Exp3(arms, 0.2),
}
each_policy = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
THREE = [0.65, 0.7, 0.75]
logs = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), max_size=30)


def fed(policy, log):
    for arm, reward in log:
        policy.update(arm, reward)
    return policy


def within(interval, truth, errors=4.5):
    """Whether the truth is within so many standard errors: one miss in 100,000."""
    half = (interval.high - interval.low) / 2 / 1.96
    return bool(((interval.estimate - truth).abs() <= errors * half + 1e-12).all())


# Scalar re-implementations: the probability of each arm, from the log alone


def scalar(name, log, k):
    rewards = [[reward for arm, reward in log if arm == i] for i in range(k)]
    if name == "Exp3":
        weights = [1.0] * k
        for arm, reward in log:
            p = [0.8 * w / sum(weights) + 0.2 / k for w in weights]
            weights[arm] *= math.exp(0.2 * reward / p[arm] / k)
        return [0.8 * w / sum(weights) + 0.2 / k for w in weights]
    if name == "ThompsonSampling":
        a = [1 + sum(r) for r in rewards]
        b = [1 + len(r) - sum(r) for r in rewards]

        def best(i):
            others = [j for j in range(k) if j != i]

            def density(x):
                return stats.beta.pdf(x, a[i], b[i]) * math.prod(stats.beta.cdf(x, a[j], b[j]) for j in others)

            return integrate.quad(density, 0, 1)[0]

        return [best(i) for i in range(k)]
    if untried := [i for i in range(k) if not rewards[i]]:
        return [(i in untried) / len(untried) for i in range(k)]
    score = [sum(r) / len(r) for r in rewards]
    if name == "UCB1":
        score = [s + math.sqrt(2 * math.log(len(log)) / len(r)) for s, r in zip(score, rewards, strict=True)]
    best = [s == max(score) for s in score]
    epsilon = 0.1 if name == "EpsilonGreedy" else 0
    return [epsilon / k + (1 - epsilon) * x / sum(best) for x in best]


@properties
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=25))
def test_probabilities_are_those_of_the_scalar_formulas(log):
    for name, make in MAKE.items():
        found = fed(make(3), log).probabilities()
        np.testing.assert_allclose(found, scalar(name, log, 3), atol=2e-5 if name == "ThompsonSampling" else 1e-12)


@each_policy
@pytest.mark.parametrize("log", [[], [(0, 1), (1, 0)], [(0, 1), (1, 0), (2, 1), (2, 0), (0, 1)]])
def test_arms_are_selected_with_the_probabilities(make, log):
    policy = fed(make(3), log)
    drawn = np.bincount(replicate(policy, 20_000).select(np.random.default_rng(0)), minlength=3) / 20_000
    p = policy.probabilities()
    assert (np.abs(drawn - p) <= 4.5 * np.sqrt(p * (1 - p) / 20_000) + 1e-5).all()


@properties
@given(logs)
def test_probabilities_sum_to_one_and_follow_relabelled_arms(log):
    turned = [((arm + 1) % 3, reward) for arm, reward in log]
    for make in MAKE.values():
        p, q = (fed(make(3), rows).probabilities() for rows in (log, turned))
        assert p.min() >= 0
        assert p.sum() == pytest.approx(1)
        np.testing.assert_allclose(np.roll(p, 1), q, atol=1e-9)


# Expected regret of short horizons, over every sequence of arms and rewards


def exact_regret(name, means, horizon):
    total = 0.0
    for path in product(product(range(len(means)), (0, 1)), repeat=horizon):
        chance, regret = 1.0, 0.0
        for step, (arm, reward) in enumerate(path):
            chance *= scalar(name, path[:step], len(means))[arm]
            chance *= means[arm] if reward else 1 - means[arm]
            regret += max(means) - means[arm]
            if not chance:
                break
        total += chance * regret
    return total


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("means", [(0.3, 0.8), (0.9, 0.5)])
def test_mean_regret_of_three_steps_is_that_of_all_their_paths(name, means):
    result = simulate_bandit(MAKE[name](2), means, 3, 40_000, rng=1)
    assert within(result.final_regret, exact_regret(name, means, 3))


def test_pull_each_once_by_hand():
    """UCB1 with two arms that always pay 1 and 0: 0.5 at step 1 on average, 0.5 more at step 2, none at step 3."""
    result = simulate_bandit(UCB1(2), [1.0, 0.0], 3, 1000, rng=0)
    assert result.regret.estimate[1:].tolist() == [1.0, 1.0]
    assert (result.pulls == torch.tensor([2.0, 1.0])).all()
    assert result.found.estimate == 1
    assert simulate_bandit(UCB1(2), [1.0, 0.0], 2, 1000, rng=0).found.estimate == 0, "half is no majority"
    low, high = proportion_confint(1000, 1000, method="wilson")
    assert (result.found.low.item(), result.found.high.item()) == pytest.approx((low, high))


# One at a time, and all at once


class Recorded(np.random.Generator):
    """A generator that hands out draws made before, to one replication or to all."""

    def __new__(cls, *_):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, steps, replication=None):
        super().__init__(np.random.PCG64(0))
        self.steps, self.replication = iter(steps), replication

    def random(self, shape):
        step = next(self.steps)
        return step if self.replication is None else step[self.replication]

    def beta(self, a, b):
        return stats.beta.ppf(self.random(np.shape(a)), a, b)


@each_policy
def test_replications_at_once_are_the_same_as_one_at_a_time(make):
    rng = np.random.default_rng(3)
    shape = (6, 3) if isinstance(make(3), ThompsonSampling) else (6,)
    draws, rewards = rng.random((50, *shape)), rng.random((50, 6, 3))
    together, chosen = replicate(make(3), 6), []
    source = Recorded(draws)
    for step in range(50):
        chosen.append(together.select(source))
        together.update(chosen[-1], rewards[step, np.arange(6), chosen[-1]])
    for replication in range(6):
        alone, source = make(3), Recorded(draws, replication)
        for step in range(50):
            arm = alone.select(source)
            assert arm == chosen[step][replication]
            alone.update(arm, rewards[step, replication, arm])
        np.testing.assert_allclose(alone.probabilities(), together.probabilities()[replication], atol=1e-12)


@each_policy
def test_a_simulation_starts_from_the_present_state_and_leaves_it(make):
    policy = fed(make(3), [(0, 0), (1, 1), (2, 0)] * 400)
    before = save_policy(policy)
    result = simulate_bandit(policy, [0.5, 0.5, 0.5], 20, 100, rng=0)
    assert save_policy(policy) == before
    assert result.shares[:, 1].min() > 0.7, "it knows the best arm from the start"
    assert result.shares.sum(1).tolist() == pytest.approx([1] * 20)
    assert (result.pulls.sum(1) == 20).all()


def test_the_same_seed_gives_the_same_simulation():
    a, b, c = (simulate_bandit(EpsilonGreedy(3, 0.2), THREE, 50, 20, rng=seed) for seed in (5, 5, 6))
    assert torch.equal(a.pulls, b.pulls)
    assert torch.equal(a.pulls, simulate_bandit(EpsilonGreedy(3, 0.2), THREE, 50, 20, np.random.default_rng(5)).pulls)
    assert not torch.equal(a.pulls, c.pulls)


# river


def test_river_has_the_same_upper_limits_and_weights():
    rng = np.random.default_rng(0)
    ucb, exp3 = UCB1(3), Exp3(3, 0.3)
    theirs, weights = river.UCB(delta=1, seed=1), river.Exp3(gamma=0.3, seed=1)
    for arm in range(3):
        theirs.update(arm, float(arm == 1))
        ucb.update(arm, float(arm == 1))
    for _ in range(300):
        if ucb.probabilities().max() == 1:  # no tie
            assert ucb.select(rng) == theirs.pull([0, 1, 2])
        arm, reward = int(ucb.select(rng)), float(rng.random())
        theirs.update(arm, reward)
        ucb.update(arm, reward)
        arm = weights.pull([0, 1, 2])
        np.testing.assert_allclose(exp3.probabilities(), list(weights._probabilities.values()), atol=1e-9)
        weights.update(arm, reward)
        exp3.update(arm, reward)


def test_river_has_the_same_regret_with_epsilon():
    means, rng, lost = (0.2, 0.9), np.random.default_rng(0), []
    for seed in range(150):
        policy, regret = river.EpsilonGreedy(epsilon=0.2, burn_in=1, seed=seed), 0.0
        for _ in range(100):
            arm = policy.pull([0, 1])
            policy.update(arm, float(rng.random() < means[arm]))
            regret += 0.9 - means[arm]
        lost.append(regret)
    ours = simulate_bandit(EpsilonGreedy(2, 0.2), means, 100, 4000, rng=0).final_regret
    assert abs(np.mean(lost) - ours.estimate) < 4.5 * np.std(lost, ddof=1) / math.sqrt(150) + 0.2


# Theorems


@pytest.mark.parametrize("means", [(0.65, 0.7, 0.75), (0.1, 0.9), (0.5, 0.45, 0.4, 0.35)])
def test_ucb1_keeps_the_bound_of_its_authors(means):
    """Theorem 1 of Auer et al. (2002): 8 sum(ln n / gap) + (1 + pi² / 3) sum(gap), at every n."""
    gaps = max(means) - np.array(means)
    result = simulate_bandit(UCB1(len(means)), means, 2000, 50, rng=0)
    n = np.arange(1, 2001)
    bound = 8 * np.log(n) * (1 / gaps[gaps > 0]).sum() + (1 + math.pi**2 / 3) * gaps.sum()
    assert (result.regret.high.numpy() <= bound).all()


def test_exp3_keeps_the_bound_of_its_authors_when_rewards_change():
    """Theorem 3.1 of Auer et al. (2002b): (e - 1) gamma G + K ln K / gamma, against the best single arm, whose gain is G."""
    horizon, gamma = 2000, 0.05
    means = np.full((horizon, 3), 0.5)
    means[: horizon // 2, 0], means[horizon // 2 :, 1] = 0.9, 1.0
    result = simulate_bandit(Exp3(3, gamma), means, horizon, 100, rng=0)
    best = means.sum(0).max()
    regret = best - (means.max(1).sum() - result.final_regret.estimate)
    assert 0 < regret <= (math.e - 1) * gamma * best + 3 * math.log(3) / gamma


def test_exp3_stays_finite_where_its_weights_would_overflow():
    policy = Exp3(2, gamma=1.0)
    for _ in range(3000):
        policy.update(0, 1)
    assert policy.log_weights.tolist() == [0, -3000]  # each reward adds gamma / arms / (1 / 2) = 1
    assert policy.probabilities().tolist() == [0.5, 0.5]  # gamma = 1: uniform, whatever the weights


def test_thompson_is_near_the_lower_bound_of_lai_and_robbins():
    means = np.array([0.2, 0.5])
    divergence = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    result = simulate_bandit(ThompsonSampling(2), means, 4000, 200, rng=0)
    early, late = result.regret.estimate[[499, 3999]].tolist()
    slope = (late - early) / math.log(4000 / 500)  # regret per unit of ln n
    assert 0.5 < slope / (0.3 / divergence) < 1.5


def test_epsilon_greedy_explores_for_ever():
    """Once the best arm is known, a step costs epsilon times the mean gap: 0.2 * (0.8 + 0.4 + 0) / 3 = 0.08."""
    result = simulate_bandit(EpsilonGreedy(3, 0.2), [0.1, 0.5, 0.9], 1500, 400, rng=0)
    slope = (result.regret.estimate[1499] - result.regret.estimate[499]) / 1000
    assert slope.item() == pytest.approx(0.08, abs=0.002)
    assert result.shares[500:, 2].mean().item() == pytest.approx(1 - 0.2 * 2 / 3, abs=0.01)


def test_the_interval_of_the_regret_covers_the_mean():
    """200 simulations of 20 replications each, against the mean of all: about 95 % of the intervals hold it."""
    results = [simulate_bandit(EpsilonGreedy(2, 0.5), [0.4, 0.6], 40, 20, rng).final_regret for rng in range(200)]
    truth = torch.stack([r.estimate for r in results]).mean()
    covered = sum(bool(r.low <= truth <= r.high) for r in results)
    assert 0.88 <= covered / 200 <= 0.99


# Symmetry and degenerate cases


@each_policy
def test_equal_arms_are_pulled_equally_and_cost_nothing(make):
    result = simulate_bandit(make(3), [0.5] * 3, 60, 2000, rng=0)
    assert result.regret.high.max() == 0
    assert result.best.all()
    assert result.found.estimate == 1
    share = result.pulls.mean(0) / 60
    spread = result.pulls.std(0) / 60 / math.sqrt(2000)
    assert ((share - 1 / 3).abs() < 4.5 * spread).all()


@each_policy
def test_relabelling_the_arms_changes_nothing_in_distribution(make):
    a = simulate_bandit(make(3), [0.2, 0.5, 0.9], 100, 1500, rng=0)
    b = simulate_bandit(make(3), [0.9, 0.2, 0.5], 100, 1500, rng=1)
    error = (a.pulls.std(0) + 0.1) / math.sqrt(1500)
    assert ((a.pulls.mean(0) - b.pulls.mean(0)[[1, 2, 0]]).abs() < 7 * error).all()


@each_policy
def test_one_arm_is_always_pulled(make):
    policy = make(1)
    assert policy.probabilities().tolist() == [1]
    result = simulate_bandit(policy, [0.3], 10, 5, rng=0)
    assert (result.pulls == 10).all()
    assert result.final_regret.estimate == 0


@each_policy
def test_certain_rewards_are_found_out(make):
    result = simulate_bandit(make(2), [1.0, 0.0], 1000, 50, rng=0)
    assert (result.rewards == torch.stack([result.pulls[:, 0], torch.zeros(50)], -1)).all()
    assert result.found.estimate == 1
    assert (result.choices == 0).all()


@pytest.mark.parametrize("make", [MAKE["EpsilonGreedy"], MAKE["UCB1"]], ids=["EpsilonGreedy", "UCB1"])
def test_each_arm_is_pulled_once_first(make):
    result = simulate_bandit(make(5), [0.9, 0.1, 0.1, 0.1, 0.1], 5, 200, rng=0)
    assert (result.pulls == 1).all()


def test_a_discount_forgets():
    for make in (lambda d: EpsilonGreedy(2, 0.1, d), lambda d: UCB1(2, d), lambda d: ThompsonSampling(2, d)):
        policy = fed(make(0.9), [(0, 1)] * 500 + [(1, 1)])
        np.testing.assert_allclose(policy.pulls, [0.9 * (1 - 0.9**500) / 0.1, 1])
    means = np.array([[0.9, 0.1]] * 500 + [[0.1, 0.9]] * 500)
    kept, forgot = (simulate_bandit(ThompsonSampling(2, d), means, 1000, 100, rng=0) for d in (1.0, 0.98))
    assert forgot.final_regret.high < kept.final_regret.low


def test_a_fraction_of_a_reward_is_a_share_of_a_success():
    policy = fed(ThompsonSampling(2), [(0, 0.25), (0, 0.5)])
    assert [parameter.tolist() for parameter in policy.posterior()] == [[1.75, 1], [2.25, 1]]


def test_a_late_reward_of_exp3_is_divided_by_the_probability_at_selection():
    early, late = Exp3(2, 0.5), Exp3(2, 0.5)
    early.update(0, 1)
    late.update(1, 1)  # comes between the selection of arm 0, at 1/2, and its reward
    late.update(0, 1, propensity=0.5)
    assert early.log_weights.tolist() == [0, -0.5]
    assert late.log_weights.tolist() == [0, 0]


# Restarting


@each_policy
@given(logs)
@settings(max_examples=10, deadline=None)
def test_a_saved_policy_goes_on_where_it_stood(make, log):
    policy = fed(make(3), log)
    back = load_policy(json.loads(json.dumps(save_policy(policy))))
    a, b = (np.random.default_rng(0) for _ in range(2))
    assert type(back) is type(policy)
    for _ in range(5):
        arm = policy.select(a)
        assert back.select(b) == arm
        for p in (policy, back):
            p.update(arm, 0.5)
    assert save_policy(back) == save_policy(policy)


def test_replicated_policies_can_be_saved_and_copies_are_independent():
    policy = replicate(UCB1(2), 3)
    assert load_policy(save_policy(policy)).pulls.shape == (3, 2)
    other = copy.copy(policy)
    other.update(np.array([0, 1, 0]), np.ones(3))
    assert policy.pulls.sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "Softmax"}, "policy is 'Softmax'"),
        ({"pulls": [0.0] * 3}, "expected pulls, sums of 2 arms"),
        ({"extra": [0.0] * 2}, "expected pulls, sums of 2 arms"),
        ({"epsilon": 0.1}, "not a saved UCB1"),
        ({"arms": 0}, "not a saved UCB1: arms is 0"),
    ],
)
def test_what_was_not_saved_here_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load_policy(save_policy(UCB1(2)) | change)


# The inverse-propensity estimate


def logged(policy, means, steps, replications, rng):
    """Rewards, arms and propensities, (replications, steps), after each arm was pulled once."""
    rng, policy, means = np.random.default_rng(rng), replicate(policy, replications), np.array(means)
    rows = []
    for step in range(steps + policy.arms):
        p = policy.probabilities()
        arm = policy.select(rng)
        reward = (rng.random(replications) < means[arm]).astype(float)
        policy.update(arm, reward)
        if step >= policy.arms:
            rows.append((reward, arm, p[np.arange(replications), arm]))
    rewards, arms, propensities = (np.stack(column, -1) for column in zip(*rows, strict=True))
    complete = np.array([len(set(row)) == policy.arms for row in arms])
    return rewards[complete], arms[complete], propensities[complete]


def test_the_plain_mean_is_biased_and_the_weighted_one_is_not():
    means = [0.4, 0.6]
    rewards, arms, p = logged(EpsilonGreedy(2, 0.2), means, 100, 8000, rng=0)
    n = len(rewards)
    assert n == 8000, "with 100 steps no arm is left out"
    plain = np.stack([(rewards * (arms == a)).sum(1) / (arms == a).sum(1) for a in range(2)], 1)
    assert plain[:, 0].mean() < 0.4 - 5 * plain[:, 0].std() / math.sqrt(n), "Nie et al. (2018): below the truth"
    for method, bias in (("ips", 0), ("self-normalised", 0.01)):
        found = inverse_propensity_estimate(rewards, arms, p, 2, method)
        errors = found.estimate.std(0) / math.sqrt(n)
        assert ((found.estimate.mean(0) - torch.tensor(means)).abs() < 4.5 * errors + bias).all(), method
        covered = ((found.low <= torch.tensor(means)) & (found.high >= torch.tensor(means))).double().mean(0)
        assert ((covered > 0.88) & (covered < 0.97)).all(), (method, covered)


def test_bias_of_the_plain_mean_by_exact_enumeration():
    """Two arms of rate 1/2, each pulled once, then the better one (a coin if tied): the mean of an arm expects 7/16."""
    rng = np.random.default_rng(0)
    policy = replicate(EpsilonGreedy(2, 0), 100_000)
    for _ in range(3):
        policy.update(policy.select(rng), rng.integers(0, 2, 100_000).astype(float))
    means = policy.sums / policy.pulls
    assert means.mean() == pytest.approx(7 / 16, abs=0.005)


def test_estimates_by_hand_and_by_weighted_averages():
    rewards, arms, p = [1, 0, 1, 1], [0, 0, 1, 0], [0.8, 0.5, 0.5, 0.8]
    weights = [1.25, 2, 0, 1.25]
    for method, expected in (("ips", [2.5 / 4, 2 / 4]), ("self-normalised", [np.average(rewards, weights=weights), 1])):
        found = inverse_propensity_estimate(rewards, arms, p, 2, method)
        assert found.estimate.tolist() == pytest.approx(expected)
    z = [1.25, 0, 0, 1.25]
    low, high = stats.t.interval(0.95, 3, np.mean(z), stats.sem(z))
    first = inverse_propensity_estimate(rewards, arms, p, 2)
    assert (first.low[0].item(), first.high[0].item()) == pytest.approx((low, high))


@properties
@given(st.integers(0, 2**32 - 1))
def test_equal_propensities_give_the_plain_means_when_self_normalised(seed):
    rng = np.random.default_rng(seed)
    rewards, arms = (
        rng.normal(size=(4, 30)),
        np.concatenate([np.tile([0, 1, 2], (4, 1)), rng.integers(0, 3, (4, 27))], 1),
    )
    found = inverse_propensity_estimate(rewards, arms, np.full((4, 30), 1 / 3), 3, "self-normalised").estimate
    expected = [[row[arm == a].mean() for a in range(3)] for row, arm in zip(rewards, arms, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    order = rng.permutation(30)
    shuffled = inverse_propensity_estimate(rewards[:, order], arms[:, order], np.full((4, 30), 1 / 3), 3).estimate
    plain = inverse_propensity_estimate(rewards, arms, np.full((4, 30), 1 / 3), 3).estimate
    np.testing.assert_allclose(shuffled, plain, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["ips", "self-normalised"])
def test_cuda_gives_the_same_estimate(cuda, method):
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(5, 200, generator=generator, dtype=torch.float64) * 0.9 + 0.1
    rewards, arms = torch.rand(5, 200, generator=generator), torch.randint(0, 3, (5, 200), generator=generator)
    ours = inverse_propensity_estimate(rewards, arms, p, 3, method)
    theirs = inverse_propensity_estimate(rewards.to(cuda), arms.to(cuda), p.to(cuda), 3, method)
    for name in ("estimate", "low", "high"):
        assert getattr(theirs, name).device.type == cuda.type
        torch.testing.assert_close(getattr(theirs, name).cpu(), getattr(ours, name))


# Bad input


@each_policy
@pytest.mark.parametrize(
    ("arm", "reward", "error", "message"),
    [
        (3, 1, ValueError, "arm goes from 3 to 3; expected 0 to 2"),
        (-1, 1, ValueError, "arm goes from -1"),
        (0, 1.5, ValueError, "reward goes from 1.5 to 1.5; expected 0 to 1"),
        (0, -0.1, ValueError, "reward goes from -0.1"),
        (0, math.nan, ValueError, "reward goes from nan"),
        ("gpt", 1, TypeError, "expected whole numbers from 0 to 2"),
        (0.0, 1, TypeError, "expected whole numbers from 0 to 2"),
        (0, None, TypeError, "expected numbers from 0 to 1"),
        ([0, 1], [1, 1], ValueError, "arm has shape (2,), reward (2,); expected ()"),
    ],
)
def test_bad_updates_are_refused_and_change_nothing(make, arm, reward, error, message):
    policy = make(3)
    before = save_policy(policy)
    with pytest.raises(error) as caught:
        policy.update(arm, reward)
    assert message in str(caught.value)
    assert save_policy(policy) == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EpsilonGreedy(0, 0.1), ValueError, "arms is 0"),
        (lambda: EpsilonGreedy(["a", "b"], 0.1), TypeError, "arms is ['a', 'b']; expected an integer"),
        (lambda: EpsilonGreedy(2, 1.1), ValueError, "epsilon is 1.1"),
        (lambda: EpsilonGreedy(2, "low"), TypeError, "epsilon is 'low'"),
        (lambda: EpsilonGreedy(2, math.nan), ValueError, "epsilon is nan"),
        (lambda: UCB1(2, discount=0), ValueError, "discount is 0; expected a number above 0, at most 1"),
        (lambda: Exp3(2, 0), ValueError, "gamma is 0"),
        (lambda: Exp3(2, 0.1).update(0, 1, propensity=0), ValueError, "propensity is 0"),
        (lambda: UCB1(2).select(0), TypeError, "rng is 0; expected a numpy Generator"),
        (lambda: simulate_bandit(UCB1(2), [0.5, 0.5], 10, 1, 0), ValueError, "replications is 1"),
        (lambda: simulate_bandit(UCB1(2), [0.5, 0.5], 0, 2, 0), ValueError, "horizon is 0"),
        (
            lambda: simulate_bandit(UCB1(2), [0.5] * 3, 10, 2, 0),
            ValueError,
            "means has shape (3,); expected (2,) or (10, 2)",
        ),
        (lambda: simulate_bandit(UCB1(2), [0.5, 1.5], 10, 2, 0), ValueError, "means go from 0.5 to 1.5"),
        (lambda: simulate_bandit(UCB1(2), [0.5, math.nan], 10, 2, 0), ValueError, "means contains nan"),
        (lambda: simulate_bandit(UCB1(2), [0.5, 0.5], 10, 2, "x"), TypeError, "rng is 'x'"),
        (
            lambda: simulate_bandit(replicate(UCB1(2), 4), [0.5] * 2, 10, 2, 0),
            ValueError,
            "policy has pulls of shape (4, 2); expected",
        ),
        (lambda: replicate(UCB1(2), 0), ValueError, "replications is 0"),
    ],
)
def test_bad_parameters_are_refused(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"propensities": [0.5, 0.5, 0.0]}, ValueError, "propensities contains 0"),
        ({"propensities": [0.5, 0.5, 1.5]}, ValueError, "propensities contains 1.5"),
        ({"propensities": [0.5, 0.5]}, ValueError, "expected one shape"),
        ({"arms": [0, 1, 2]}, ValueError, "arms go from 0 to 2; expected 0 to 1"),
        ({"arms": [0, 0, 0]}, ValueError, "arm 1 was never pulled"),
        ({"arms": [0.0, 1.0, 0.0]}, TypeError, "arms has dtype torch.float32; expected whole numbers"),
        ({"rewards": [1, 0, math.nan]}, ValueError, "rewards contains nan"),
        ({"rewards": [], "arms": [], "propensities": []}, ValueError, "rewards is empty"),
        ({"method": "doubly robust"}, ValueError, "method is 'doubly robust'"),
        ({"n_arms": 0}, ValueError, "n_arms is 0"),
        ({"confidence": 1}, ValueError, "confidence is 1"),
    ],
)
def test_bad_logs_are_refused(change, error, message):
    given = {"rewards": [1, 0, 1], "arms": [0, 1, 0], "propensities": [0.5] * 3, "n_arms": 2}
    with pytest.raises(error) as caught:
        inverse_propensity_estimate(**given | change)
    assert message in str(caught.value)


def test_every_policy_is_tested():
    assert set(MAKE) == set(POLICIES)
