"""Bandits: choose an arm, see its reward, choose better. Policies, their simulation, and what their data can still say.

A policy has `select(rng)`, which gives an arm, `update(arm, reward)`, and `probabilities()`: how likely each arm is to be
selected now, which is what a service logs beside the arm. Arms are numbered from 0. Rewards are numbers from 0 to 1.

Shapes: the state of a policy are float64 arrays, (arms,) for one service. `replicate` makes them (replications, arms); then
`select`, `update` and `probabilities` work on all replications at once, with arms and rewards of shape (replications,).
Convention: an arm without rewards so far is pulled before any other (`ThompsonSampling` and `Exp3` need no such rule), and
ties are broken at random. A `discount` below 1 multiplies all that was counted before, at each update: the memory is then
about 1 / (1 - discount) rewards long, for arms that change.
Randomness: `select` draws from the numpy Generator that it is given, and from nothing else.
Errors: an arm or a reward out of range or of another shape, and parameters out of range, are a ValueError; what is no number
of the kind, or no numpy Generator, a TypeError.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from studyguide.probability.validation import common_dtype, one_of, positive_integer, samples
from studyguide.statistics.intervals import Interval, moments, proportion_interval, t_interval

NODES = 200  # quantiles of each arm's posterior on which Thompson's probabilities are integrated


class EpsilonGreedy:
    """Any arm at random with probability `epsilon`, else the arm with the highest mean reward.

    `epsilon` is from 0 to 1 and constant, so that the regret grows for ever, by epsilon times the mean gap per step.
    Source: Sutton and Barto (2018), Reinforcement Learning, section 2.2.

    >>> policy, rng = EpsilonGreedy(3, epsilon=0.1), np.random.default_rng(0)
    >>> for reward in (1, 0, 1):
    ...     policy.update(policy.select(rng), reward)
    >>> policy.pulls, policy.sums, policy.probabilities().round(4)
    (array([1., 1., 1.]), array([0., 1., 1.]), array([0.0333, 0.4833, 0.4833]))
    """

    def __init__(self, arms, epsilon, discount=1.0):
        self.arms = positive_integer("arms", arms)
        self.epsilon = _fraction("epsilon", epsilon)
        self.discount = _fraction("discount", discount, above=0)
        self.pulls = np.zeros(self.arms)
        self.sums = np.zeros(self.arms)  # of rewards

    def probabilities(self):
        means = _means(self)
        epsilon = np.where(np.isinf(means.max(-1, keepdims=True)), 0, self.epsilon)
        return epsilon / self.arms + (1 - epsilon) * _shared_by_the_best(means)

    def select(self, rng):
        return _draw(self.probabilities(), rng)

    def update(self, arm, reward):
        _count(self, arm, reward)


class UCB1:
    """The arm with the highest upper limit: mean reward plus sqrt(2 ln(n) / pulls of the arm), with n pulls of all arms.

    Without ties no chance is involved: probabilities are 0 and 1, and the log supports no inverse-propensity estimate.
    Source: Auer, Cesa-Bianchi and Fischer (2002), "Finite-time analysis of the multiarmed bandit problem", figure 1; with
    a discount Garivier and Moulines (2011), "On upper-confidence bound policies for switching bandit problems", B = 1, ξ = 1/2.

    >>> policy = UCB1(2)
    >>> for arm, reward in ((0, 1), (1, 0), (0, 1), (0, 0)):
    ...     policy.update(arm, reward)
    >>> policy.limits().round(4), policy.probabilities()
    (array([1.628 , 1.6651]), array([0., 1.]))
    """

    def __init__(self, arms, discount=1.0):
        self.arms = positive_integer("arms", arms)
        self.discount = _fraction("discount", discount, above=0)
        self.pulls = np.zeros(self.arms)
        self.sums = np.zeros(self.arms)

    def limits(self):
        """The upper limit of each arm, infinite for an arm without rewards."""
        spread = 2 * np.log(self.pulls.sum(-1, keepdims=True).clip(min=1))
        return _means(self) + np.sqrt(_ratio(spread, self.pulls, 0))

    def probabilities(self):
        return _shared_by_the_best(self.limits())

    def select(self, rng):
        return _draw(self.probabilities(), rng)

    def update(self, arm, reward):
        _count(self, arm, reward)


class ThompsonSampling:
    """Each arm with the probability that it is the best, given its rewards and a uniform prior on each arm's rate.

    The posterior of an arm is Beta(1 + rewards, 1 + pulls - rewards). A reward between 0 and 1 counts as that share of a
    success; the posterior is then wider than it need be.
    Source: Thompson (1933); Chapelle and Li (2011), "An empirical evaluation of Thompson sampling".

    >>> policy = ThompsonSampling(2)
    >>> for arm, reward in ((0, 1), (1, 0), (0, 1), (0, 0)):
    ...     policy.update(arm, reward)
    >>> policy.probabilities().round(4)
    array([0.8, 0.2])
    """

    def __init__(self, arms, discount=1.0):
        self.arms = positive_integer("arms", arms)
        self.discount = _fraction("discount", discount, above=0)
        self.pulls = np.zeros(self.arms)
        self.sums = np.zeros(self.arms)

    def posterior(self):
        """The two parameters of each arm's Beta distribution."""
        return 1 + self.sums, 1 + (self.pulls - self.sums).clip(min=0)

    def probabilities(self):
        """Of each arm to be the best, by numerical integration, to 4 decimals. Slow: `select` does without it."""
        a, b = (parameter[..., None] for parameter in self.posterior())
        levels = (1 - np.cos(np.linspace(0, np.pi, NODES))) / 2  # closer together in the tails
        grid = np.sort(stats.beta.ppf(levels, a, b).reshape(*self.pulls.shape[:-1], 1, -1), -1)  # all arms' quantiles
        below = stats.beta.cdf(grid, a, b)  # (..., arms, points)
        others = np.stack([np.delete(below, arm, -2).prod(-2) for arm in range(self.arms)], -2)
        best = (np.diff(below) * (others[..., 1:] + others[..., :-1]) / 2).sum(-1)
        return best / best.sum(-1, keepdims=True)

    def select(self, rng):
        return _generator(rng).beta(*self.posterior()).argmax(-1)

    def update(self, arm, reward):
        _count(self, arm, reward)


class Exp3:
    """Arms by exponential weights, mixed with a share `gamma` of uniform exploration; sound whatever the rewards do.

    `gamma` is above 0 and at most 1; sqrt(arms ln(arms) / ((e - 1) horizon)) suits a known horizon. The regret against the
    best single arm is then at most 2.63 sqrt(horizon arms ln(arms)), also if an adversary chooses the rewards.
    Source: Auer, Cesa-Bianchi, Freund and Schapire (2002), "The nonstochastic multiarmed bandit problem", theorem 3.1.

    >>> policy = Exp3(2, gamma=0.2)
    >>> policy.update(0, 1)
    >>> policy.probabilities().round(4)
    array([0.5399, 0.4601])
    """

    def __init__(self, arms, gamma):
        self.arms = positive_integer("arms", arms)
        self.gamma = _fraction("gamma", gamma, above=0)
        self.log_weights = np.zeros(self.arms)  # the largest is 0

    def probabilities(self):
        weights = np.exp(self.log_weights)
        return (1 - self.gamma) * weights / weights.sum(-1, keepdims=True) + self.gamma / self.arms

    def select(self, rng):
        return _draw(self.probabilities(), rng)

    def update(self, arm, reward, propensity=None):
        """`propensity` is the arm's probability when it was selected; None takes that of now: no update came between."""
        arm, reward = _checked(arm, reward, self.log_weights)
        pulled = _one_hot(arm, self.arms)
        if propensity is None:
            propensity = (self.probabilities() * pulled).sum(-1)
        elif not ((np.asarray(propensity) > 0) & (np.asarray(propensity) <= 1)).all():
            raise ValueError(f"propensity is {propensity}; expected numbers above 0 and at most 1")
        gain = self.gamma / self.arms * reward / propensity
        grown = self.log_weights + pulled * gain[..., None]
        self.log_weights = grown - grown.max(-1, keepdims=True)


POLICIES = {policy.__name__: policy for policy in (EpsilonGreedy, UCB1, ThompsonSampling, Exp3)}


def replicate(policy, replications):
    """Independent copies of one service's policy in its present state, as one policy whose arrays have a leading axis.

    >>> replicate(UCB1(3), 1000).pulls.shape
    (1000, 3)
    """
    replications = positive_integer("replications", replications)
    copies = copy.copy(policy)
    for name, value in _state(policy).items():
        if value.ndim != 1:
            raise ValueError(
                f"policy has {name} of shape {value.shape}; expected that of one service, ({policy.arms},)"
            )
        setattr(copies, name, np.asfortranarray(np.repeat(value[None], replications, 0)))  # fast sums over arms
    return copies


def save_policy(policy):
    """A policy as a dict that JSON can hold, for a service that restarts; `load_policy` reads it.

    >>> save_policy(UCB1(2))
    {'policy': 'UCB1', 'arms': 2, 'discount': 1.0, 'pulls': [0.0, 0.0], 'sums': [0.0, 0.0]}
    """
    arrays = {name: value.tolist() for name, value in _state(policy).items()}
    return {"policy": type(policy).__name__} | vars(policy) | arrays


def load_policy(saved):
    """The policy that `save_policy` has saved. ValueError if a field is missing, unknown or does not fit.

    >>> load_policy(save_policy(Exp3(2, gamma=0.1))).probabilities()
    array([0.5, 0.5])
    """
    fields = dict(saved)
    kind = POLICIES[one_of("policy", fields.pop("policy", None), tuple(POLICIES))]
    try:
        arrays = {name: np.array(value, float) for name, value in fields.items() if isinstance(value, list)}
        policy = kind(**{name: value for name, value in fields.items() if name not in arrays})
    except (TypeError, ValueError) as error:
        raise ValueError(f"saved is not a saved {kind.__name__}: {error}") from error
    if set(arrays) != set(_state(policy)) or any(value.shape[-1:] != (policy.arms,) for value in arrays.values()):
        found = {name: value.shape for name, value in arrays.items()}
        raise ValueError(f"saved has the arrays {found}; expected {', '.join(_state(policy))} of {policy.arms} arms")
    vars(policy).update(arrays)
    return policy


@dataclass(frozen=True, eq=False)
class BanditSimulation:
    """What `simulate_bandit` found."""

    regret: Interval  # (horizon,) reward lost up to and with each step, mean over the replications
    shares: torch.Tensor  # (horizon, arms) the share of replications that pull each arm at each step
    pulls: torch.Tensor  # (replications, arms) how often each arm was pulled
    rewards: torch.Tensor  # (replications, arms) the sum of what each arm paid
    best: torch.Tensor  # (arms,) True for the arm, or arms, with the highest mean over the horizon

    @property
    def final_regret(self):
        """The regret at the end."""
        limits = (values[-1] for values in (self.regret.estimate, self.regret.low, self.regret.high))
        return Interval(*limits, self.regret.confidence)

    @property
    def found(self):
        """The share of replications in which the best arm got more than half of the pulls, with Wilson's interval."""
        majority = 2 * self.pulls[:, self.best].sum(-1) > self.pulls.sum(-1)
        return proportion_interval(majority.sum(), len(majority))

    @property
    def choices(self):
        """(replications,) the arm that was pulled most often, the first of several."""
        return self.pulls.argmax(-1)


def simulate_bandit(policy, means, horizon, replications, rng, confidence=0.95):
    """Run a policy many times on arms that pay 1 with the given probabilities, else 0: a `BanditSimulation`.

    Shapes: means (arms,), or (horizon, arms) for arms that change. The policy starts from its present state in every
    replication, and is left as it is. All replications advance together; only time is a loop.
    Convention: the regret of a step is the highest mean at this step less the mean of the arm pulled (the pseudo-regret:
    the luck of the draws is left out). Its interval is Student's over the replications, at each step on its own.
    Randomness: `rng` is an int seed or a numpy Generator. Errors: see the module; fewer than 2 replications.

    >>> result = simulate_bandit(ThompsonSampling(3), [0.6, 0.7, 0.8], 1000, replications=200, rng=0)
    >>> print(result.final_regret)
    14.0895 (95 % interval 12.9192 to 15.2598)
    >>> print(result.found)
    1 (95 % interval 0.9812 to 1)
    """
    horizon = positive_integer("horizon", horizon)
    if positive_integer("replications", replications) < 2:
        raise ValueError("replications is 1; expected at least 2, for an interval")
    means = _rates(means, horizon, policy)
    rng = _generator(np.random.default_rng(rng) if isinstance(rng, int | np.integer) else rng)
    policy, rows = replicate(policy, replications), np.arange(replications)
    pulls, rewards, shares = np.zeros((replications, policy.arms)), np.zeros((replications, policy.arms)), []
    lost, centre, error = np.zeros(replications), np.zeros(horizon), np.zeros(horizon)
    for step, rates in enumerate(means):
        arm = policy.select(rng)
        reward = (rng.random(replications) < rates[arm]).astype(float)
        policy.update(arm, reward)
        pulls[rows, arm] += 1
        rewards[rows, arm] += reward
        shares.append(np.bincount(arm, minlength=policy.arms) / replications)
        lost += (rates.max() - rates)[arm]
        centre[step] = lost.sum() / replications
        spread = lost - centre[step]
        error[step] = math.sqrt(spread @ spread / (replications - 1) / replications)
    total = means.sum(0)
    arrays = (centre, error, np.stack(shares), pulls, rewards, total >= total.max() * (1 - 1e-12))
    centre, error, *found = map(torch.from_numpy, arrays)
    return BanditSimulation(t_interval(centre, error, replications - 1, confidence), *found)


def inverse_propensity_estimate(rewards, arms, propensities, n_arms, method="ips", confidence=0.95):
    """Mean reward of each arm, from the log of a policy that chose its arms by what it had seen: an `Interval`.

    Shapes: rewards, arms and propensities (..., n), result (..., n_arms). `propensities` are the probabilities with which
    the arms were selected, as `probabilities()` gave them *before* the reward came; above 0, at most 1.
    Every arm must have had a probability above 0 at every step passed: leave out the opening, in which untried arms have
    all of it. The number of steps must not depend on the rewards.
    Convention: "ips" divides each reward by its propensity, and the sum by n; it is unbiased. "self-normalised" divides by the
    sum of 1 / propensity: slightly biased, seldom as variable, and within the range of the rewards. Intervals are
    Student's; with propensities near 0 they cover less often than stated, as the estimate hangs on few rewards.
    Errors: an arm that was never pulled; n below 2; see the module.
    Source: Horvitz and Thompson (1952); Swaminathan and Joachims (2015), "The self-normalized estimator for counterfactual
    learning"; on adaptive data Hadad et al. (2021), "Confidence intervals for policy evaluation in adaptive experiments".

    >>> print(inverse_propensity_estimate([1, 0, 1, 1], [0, 0, 1, 0], [0.8, 0.5, 0.5, 0.8], 2).estimate)
    tensor([0.6250, 0.5000], dtype=torch.float64)
    """
    one_of("method", method, ("ips", "self-normalised"))
    n_arms = positive_integer("n_arms", n_arms)
    rewards, propensities = samples(at_least=2, rewards=rewards, propensities=propensities)
    arms = torch.as_tensor(arms, device=rewards.device)
    if arms.is_floating_point() or arms.is_complex() or arms.dtype == torch.bool:
        raise TypeError(f"arms has dtype {arms.dtype}; expected whole numbers")
    if not rewards.shape == propensities.shape == arms.shape:
        shapes = [tuple(x.shape) for x in (rewards, arms, propensities)]
        raise ValueError(f"rewards, arms, propensities have shapes {shapes}; expected one shape")
    if not ((arms >= 0) & (arms < n_arms)).all():
        raise ValueError(f"arms go from {arms.min()} to {arms.max()}; expected 0 to {n_arms - 1}")
    if not ((propensities > 0) & (propensities <= 1)).all():
        wrong = propensities[(propensities <= 0) | (propensities > 1)][0]
        raise ValueError(f"propensities contains {wrong:g}; expected numbers above 0 and at most 1")
    pulled = arms.unsqueeze(-2) == torch.arange(n_arms, device=arms.device).unsqueeze(-1)  # (..., n_arms, n)
    if not (ever := pulled.any(-1).reshape(-1, n_arms).all(0)).all():
        raise ValueError(f"arm {int((~ever).nonzero()[0])} was never pulled; expected rewards of every arm")
    dtype = common_dtype(rewards, propensities)[0]
    rewards, weights = rewards.double().unsqueeze(-2), pulled / propensities.double().unsqueeze(-2)
    n = rewards.shape[-1]
    if method == "ips":
        estimate, variance = moments(weights * rewards)
        error = (variance / n).sqrt()
    else:
        total = weights.sum(-1)
        estimate = (weights * rewards).sum(-1) / total
        error = (weights * (rewards - estimate.unsqueeze(-1))).square().sum(-1).sqrt() / total
    return t_interval(estimate, error, n - 1, confidence, dtype)


# What policies are made of


def _means(policy):
    """The mean reward of each arm, infinite for those without rewards."""
    return _ratio(policy.sums, policy.pulls, np.inf)


def _ratio(part, whole, otherwise):
    """part / whole, and `otherwise` where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(whole, otherwise), where=whole > 0)


def _shared_by_the_best(scores):
    """1 for the arm with the highest score; shared, if it is tied."""
    best = scores == scores.max(-1, keepdims=True)
    return best / best.sum(-1, keepdims=True)


def _draw(probabilities, rng):
    """An arm per replication, one uniform number each."""
    drawn = _generator(rng).random(probabilities.shape[:-1])[..., None]
    return (drawn >= probabilities.cumsum(-1)[..., :-1]).sum(-1)


def _count(policy, arm, reward):
    arm, reward = _checked(arm, reward, policy.pulls)
    pulled = _one_hot(arm, policy.arms)
    policy.pulls = policy.discount * policy.pulls + pulled
    policy.sums = policy.discount * policy.sums + pulled * reward[..., None]


def _one_hot(arm, arms):
    """True for the arm pulled, (arms,) or (replications, arms)."""
    return np.equal.outer(np.arange(arms), arm).T


def _state(policy):
    return {name: value for name, value in vars(policy).items() if isinstance(value, np.ndarray)}


# Checks


def _checked(arm, reward, state):
    """Arms and rewards as arrays, one of each per replication of the state."""
    arm, reward, (*shape, arms) = np.asarray(arm), np.asarray(reward), state.shape
    if arm.dtype.kind not in "iu":
        raise TypeError(f"arm is {arm.dtype}; expected whole numbers from 0 to {arms - 1}")
    if reward.dtype.kind not in "biuf":
        raise TypeError(f"reward is {reward.dtype}; expected numbers from 0 to 1")
    if arm.shape != (shape := tuple(shape)) or reward.shape != shape:
        raise ValueError(f"arm has shape {arm.shape}, reward {reward.shape}; expected {shape}, one per replication")
    if arm.min() < 0 or arm.max() >= arms:
        raise ValueError(f"arm goes from {arm.min()} to {arm.max()}; expected 0 to {arms - 1}")
    if not (reward.min() >= 0 and reward.max() <= 1):  # or NaN
        raise ValueError(f"reward goes from {reward.min():g} to {reward.max():g}; expected 0 to 1")
    return arm, reward


def _rates(means, horizon, policy):
    """The probability of a reward, (horizon, arms)."""
    means = samples(means=means)[0].cpu().double().numpy()
    if means.shape not in ((policy.arms,), (horizon, policy.arms)):
        raise ValueError(f"means has shape {means.shape}; expected ({policy.arms},) or ({horizon}, {policy.arms})")
    if means.min() < 0 or means.max() > 1:
        raise ValueError(f"means go from {means.min():g} to {means.max():g}; expected probabilities")
    return np.broadcast_to(means, (horizon, policy.arms))


def _generator(rng):
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}; expected a numpy Generator, such as np.random.default_rng(0)")
    return rng


def _fraction(name, value, above=None):
    """A number from 0 to 1, or above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} is {value!r}; expected a number from 0 to 1")
    if not 0 <= value <= 1 or value == above:
        raise ValueError(
            f"{name} is {value}; expected a number {'above 0, at most 1' if above == 0 else 'from 0 to 1'}"
        )
    return float(value)
