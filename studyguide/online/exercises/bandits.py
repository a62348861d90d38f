"""Exercises of notebook 7.3, Bandits."""

import math

import numpy as np
from scipy import stats

from studyguide.course.exercises import Exercise, Wrong
from studyguide.online.bandits import ThompsonSampling, simulate_bandit


def my_next_shares(pulls, sums, epsilon):
    """The probability of each arm to get the next request, under epsilon-greedy.

    pulls and sums are lists: how often each arm was pulled, and the sum of its rewards. Returns a list that sums to 1.
    """
    untried = [n == 0 for n in pulls]
    if any(untried):
        return [new / sum(untried) for new in untried]
    means = [total / n for total, n in zip(sums, pulls, strict=True)]
    best = [mean == max(means) for mean in means]
    return [epsilon / len(pulls) + (1 - epsilon) * top / sum(best) for top in best]


def _shares_peer(pulls, sums, epsilon):
    pulls, sums = np.array(pulls, float), np.array(sums, float)
    means = np.where(pulls > 0, sums / np.maximum(pulls, 1), 2.0)
    first = stats.rankdata(-means, method="min") == 1
    explore = 0 if means.max() == 2 else epsilon
    return explore * np.full(len(pulls), 1 / len(pulls)) + (1 - explore) * first / first.sum()


def _shares(pulls, sums, epsilon, untried=2.0, forced=True, share=True, others=False, keep=True, mean=True):
    k = len(pulls)
    means = [(s / n if mean else s) if n else untried for s, n in zip(sums, pulls, strict=True)]
    if forced and 0 in pulls:
        epsilon = 0
    best = [x == max(means) for x in means]
    if not share:
        best = [place == best.index(True) for place in range(k)]
    if others:
        return [(1 - epsilon) * b / sum(best) + epsilon * (not b) / max(k - sum(best), 1) for b in best]
    return [epsilon / k * (keep or not b) + (1 - epsilon) * b / sum(best) for b in best]


SHARES = Exercise(
    id="epsilon-greedy-shares",
    title="Where the next request goes",
    prompt=(
        "Write `my_next_shares(pulls, sums, epsilon)`: the probability of each arm under epsilon-greedy. With probability `epsilon` any arm is drawn, the "
        "best one too; else it is the arm with the highest mean reward, and arms that are tied share. As long as some arms have never been pulled, they "
        "share everything."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "Settle the arms without pulls first: if there are any, each of them gets 1 / (their number), all others get 0.",
        "Then every arm gets epsilon / (number of arms), and the best ones share 1 - epsilon on top.",
    ),
    solution=my_next_shares,
    peer=_shares_peer,
    cases=(
        ([2, 3, 1], [1, 2, 0], 0.1),
        ([4, 4, 8], [3, 1, 6], 0.3),
        ([5, 0, 0, 2], [5, 0, 0, 1], 0.2),
        ([9, 2], [6, 2], 0.5),
        ([3, 3], [1, 1], 0.0),
        ([0, 0, 0], [0, 0, 0], 0.1),
    ),
    wrong=(
        Wrong(
            lambda n, s, e: _shares(n, s, e, untried=0.0, forced=False),
            "you take the mean of an arm without pulls to be 0. It then waits until it is drawn by chance: give it the request first.",
        ),
        Wrong(
            lambda n, s, e: _shares(n, s, e, keep=False),
            "your probabilities do not sum to 1. Exploring can draw the best arm as well: it gets its part of epsilon on top.",
        ),
        Wrong(
            lambda n, s, e: _shares(n, s, e, others=True),
            "you explore among the other arms only. Here epsilon is spread over all arms, the best one too.",
        ),
        Wrong(
            lambda n, s, e: _shares(n, s, e, share=False),
            "you give everything to the first of several tied arms. They share 1 - epsilon: the order of a list is no evidence.",
        ),
        Wrong(
            lambda n, s, e: _shares(n, s, e, forced=False),
            "right once every arm was pulled. Before that you still explore: the arms without pulls must share everything.",
        ),
        Wrong(
            lambda n, s, e: _shares(n, s, e, mean=False),
            "you compare the sums of the rewards. An arm that is pulled often then stays the best: divide by the pulls.",
        ),
    ),
)


def my_chance_to_beat(a, b):
    """The probability that the success rate of b is above that of a.

    a and b are (successes, failures); before any data, all rates from 0 to 1 were equally likely.
    """
    x = np.linspace(0, 1, 20_001)
    density = stats.beta.pdf(x, 1 + b[0], 1 + b[1])
    below = stats.beta.cdf(x, 1 + a[0], 1 + a[1])
    return float(np.trapezoid(density * below, x))


def _beats_peer(a, b):
    """Closed form for whole numbers: a sum of ratios of Beta functions."""

    def log_beta(p, q):
        return math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q)

    (p, q), (r, s) = ((1 + wins, 1 + losses) for wins, losses in (a, b))
    terms = (log_beta(p + i, q + s) - math.log(s + i) - log_beta(1 + i, s) - log_beta(p, q) for i in range(r))
    return sum(map(math.exp, terms))


def _beats(a, b):
    return stats.beta(*b).expect(lambda x: stats.beta.cdf(x, *a))


def _normal(a, b):
    (p, n), (q, m) = ((wins / (wins + losses), wins + losses) for wins, losses in (a, b))
    return stats.norm.cdf((q - p) / math.sqrt(p * (1 - p) / n + q * (1 - q) / m))


def _mean(side):
    return (1 + side[0]) / (2 + sum(side))


BEATS = Exercise(
    id="chance-to-be-better",
    title="How likely is B the better arm?",
    prompt=(
        "Write `my_chance_to_beat(a, b)`: the probability that arm b has the higher success rate, with a uniform prior on both. Each arm is given as "
        "(successes, failures). Use `stats.beta` and numerical integration over the rate: for each rate that b may have, how likely is a below it? It must be "
        "right to 4 digits, so random draws will not do."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "A uniform prior and the data of one arm give Beta(1 + successes, 1 + failures).",
        "The probability is the integral of (density of b at x) times (probability that a is below x). `np.linspace` makes the grid, `np.trapezoid` adds up.",
    ),
    solution=my_chance_to_beat,
    peer=_beats_peer,
    cases=(((1, 2), (2, 1)), ((6, 4), (9, 2)), ((30, 20), (25, 25)), ((3, 1), (2, 5)), ((5, 5), (5, 5))),
    wrong=(
        Wrong(
            _beats,
            "you use the counts as the parameters of the Beta distribution. The uniform prior is Beta(1, 1): add 1 to both counts.",
        ),
        Wrong(
            lambda a, b: _beats_peer(b, a),
            "this is the probability that a is better. The density is that of b, the distribution function that of a.",
        ),
        Wrong(
            lambda a, b: float(_mean(b) > _mean(a)),
            "you say which mean is higher, with 0 or 1. The question is how sure you may be.",
        ),
        Wrong(
            lambda a, b: _mean(b) / (_mean(a) + _mean(b)),
            "you divide one mean by the sum of both. That hardly moves with more data; the probability must go to 0 or 1.",
        ),
        Wrong(
            _normal,
            "this is the normal approximation. It is off with few data: integrate the Beta distributions.",
        ),
        Wrong(
            lambda a, b: _beats((1 + a[0], 1 + sum(a)), (1 + b[0], 1 + sum(b))),
            "your second parameter counts all pulls. It is 1 + failures.",
        ),
    ),
)


def my_weighted_mean(rewards, arms, propensities, arm):
    """Inverse-propensity estimate of the mean reward of one arm.

    rewards, arms and propensities are lists, one entry per request: what was paid, which arm was pulled, and how likely
    this arm was to be pulled then.
    """
    log = zip(rewards, arms, propensities, strict=True)
    return sum(reward / p for reward, pulled, p in log if pulled == arm) / len(rewards)


def _weighted_peer(rewards, arms, propensities, arm):
    weights = np.where(np.array(arms) == arm, 1 / np.array(propensities), 0)
    return float(np.dot(weights, rewards)) / len(weights)


def _own(rewards, arms, propensities, arm):
    return [(r, p) for r, a, p in zip(rewards, arms, propensities, strict=True) if a == arm]


WEIGHTED = Exercise(
    id="inverse-propensity-mean",
    title="A mean that is not biased",
    prompt=(
        "Write `my_weighted_mean(rewards, arms, propensities, arm)`: the inverse-propensity estimate of the mean reward of `arm`. Each reward of this arm counts "
        "for 1 / propensity requests; the sum is divided by the number of *all* requests in the log."
    ),
    difficulty=2,
    minutes=6,
    hints=(
        "Requests that went to other arms add 0, but they do count in the number of requests.",
        "`sum(reward / p for ... if pulled == arm)`, then divide by `len(rewards)`.",
    ),
    solution=my_weighted_mean,
    peer=_weighted_peer,
    cases=(
        ([1, 0, 1, 1], [0, 0, 1, 0], [0.8, 0.5, 0.5, 0.8], 0),
        ([1, 0, 1, 1], [0, 0, 1, 0], [0.8, 0.5, 0.5, 0.8], 1),
        ([1, 1, 0, 1, 0, 1], [2, 2, 1, 0, 2, 0], [0.9, 0.4, 0.1, 0.05, 0.6, 0.2], 2),
        ([0.5, 0.25, 1.0], [1, 1, 1], [0.3, 0.7, 0.9], 1),
    ),
    wrong=(
        Wrong(
            lambda r, a, p, arm: sum(x for x, _ in _own(r, a, p, arm)) / len(_own(r, a, p, arm)),
            "this is the plain mean of the arm, the one that is biased. Divide each reward by its propensity first.",
        ),
        Wrong(
            lambda r, a, p, arm: sum(x / q for x, q in _own(r, a, p, arm)) / len(_own(r, a, p, arm)),
            "you divide by the pulls of this arm. The weights have made up for the others already: divide by the number of all requests.",
        ),
        Wrong(
            lambda r, a, p, arm: sum(x / q for x, q in _own(r, a, p, arm)) / sum(1 / q for _, q in _own(r, a, p, arm)),
            "this is the self-normalised estimate, divided by the sum of the weights. A good choice, but slightly biased: divide by the number of requests.",
        ),
        Wrong(
            lambda r, a, p, arm: sum(x * q for x, q in _own(r, a, p, arm)) / len(r),
            "you multiply by the propensity. What was unlikely to be seen must count for more: divide.",
        ),
        Wrong(
            lambda r, a, p, arm: sum(x / q for x, q in zip(r, p, strict=True)) / len(r),
            "you add up the rewards of all arms. Keep those of the arm in question.",
        ),
    ),
)


def my_two_assistants():
    """Two assistants as {"honest": (solved, liked if solved, liked if not), "flattering": (the same three)}."""
    return {"honest": (0.8, 0.6, 0.2), "flattering": (0.5, 0.9, 0.6)}


def _verify_assistants(assistants):
    if not isinstance(assistants, dict) or set(assistants) != {"honest", "flattering"}:
        return 'return a dict with the keys "honest" and "flattering", three numbers each.'
    table = np.array([assistants["honest"], assistants["flattering"]], float)
    if table.shape != (2, 3) or not ((table >= 0) & (table <= 1)).all():
        return "each assistant has three shares from 0 to 1: solved, liked if solved, liked if not solved."
    solved, happy, unhappy = table.T
    if (happy - unhappy < 0.2 - 1e-9).any():
        return "for each assistant, a solved request must be liked more often than an unsolved one, by 0.2 or more: a like is evidence of success."
    if solved[0] - solved[1] < 0.2 - 1e-9:
        return "the honest assistant must solve more requests than the flattering one, by 0.2 or more."
    likes = solved * happy + (1 - solved) * unhappy
    late = simulate_bandit(ThompsonSampling(2), likes, 2000, 50, rng=0).shares[-500:, 1].mean()
    if late < 0.9:
        return (
            f"the honest assistant is liked in {likes[0]:.2f} of its requests, the flattering one in {likes[1]:.2f}: "
            "the bandit does not leave the honest one clearly enough. It follows the likes, and nothing else."
        )
    return None


ASSISTANTS = Exercise(
    id="break-reward",
    title="Liked more, solved less",
    prompt=(
        'Write `my_two_assistants()`: a dict with the keys "honest" and "flattering". Each assistant is three shares: of requests it solves, of solved '
        "requests that are liked, of unsolved requests that are liked. The honest one must solve at least 0.2 more. With both, a solved request must be liked more "
        "often than an unsolved one, by at least 0.2. And yet Thompson sampling, with likes as its reward, must send at least 90 % of requests 1,501 to 2,000 to "
        "the flattering one."
    ),
    difficulty=2,
    minutes=6,
    hints=(
        "The bandit sees one number per assistant: solved · liked if solved + (1 − solved) · liked if not.",
        "Nothing holds the two assistants to the same users' taste. Let the flattering one be liked more often in both cases.",
    ),
    solution=my_two_assistants,
    verify=_verify_assistants,
    wrong=(
        Wrong(
            lambda: {"honest": (0.8, 0.7, 0.3), "flattering": (0.5, 0.7, 0.3)},
            "the honest assistant is liked in 0.62 of its requests, the flattering one in 0.50: the bandit does not leave the honest one clearly enough. "
            "It follows the likes, and nothing else.",
        ),
        Wrong(
            lambda: {"honest": (0.8, 0.6, 0.2), "flattering": (0.5, 0.7, 0.34)},
            "the honest assistant is liked in 0.52 of its requests, the flattering one in 0.52: the bandit does not leave the honest one clearly enough. "
            "It follows the likes, and nothing else.",
        ),
        Wrong(
            lambda: {"honest": (0.8, 0.6, 0.2), "flattering": (0.5, 0.9, 0.9)},
            "for each assistant, a solved request must be liked more often than an unsolved one, by 0.2 or more: a like is evidence of success.",
        ),
        Wrong(
            lambda: {"honest": (0.6, 0.6, 0.2), "flattering": (0.6, 0.9, 0.6)},
            "the honest assistant must solve more requests than the flattering one, by 0.2 or more.",
        ),
        Wrong(
            lambda: {"honest": (80, 60, 20), "flattering": (50, 90, 60)},
            "each assistant has three shares from 0 to 1: solved, liked if solved, liked if not solved.",
        ),
        Wrong(
            lambda: [(0.8, 0.6, 0.2), (0.5, 0.9, 0.6)],
            'return a dict with the keys "honest" and "flattering", three numbers each.',
        ),
    ),
)

EXERCISES = (SHARES, BEATS, WEIGHTED, ASSISTANTS)
