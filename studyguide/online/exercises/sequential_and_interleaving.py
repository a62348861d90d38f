"""Exercises of notebook 7.2, Sequential tests and interleaving."""

import math

from studyguide.course.exercises import Exercise, Wrong
from studyguide.online.sequential import crossing_probability


def my_always_valid_interval(n, mean, sd, tuned_to, alpha):
    """The always-valid interval of a mean after n observations: (low, high).

    sd is the standard deviation of one observation, tuned_to the n at which the interval is to be tightest, alpha 1 less
    the confidence.
    """
    least = -2 * math.log(alpha)
    v = n * (least + math.log(1 + least)) / tuned_to
    limit = math.sqrt((1 + 1 / v) * (math.log(1 + v) + least))
    return mean - limit * sd / math.sqrt(n), mean + limit * sd / math.sqrt(n)


def _interval_peer(n, mean, sd, tuned_to, alpha):
    """As the paper and gbstats write it."""
    import numpy as np

    rho2 = (-2 * np.log(alpha) + np.log(-2 * np.log(alpha) + 1)) / tuned_to
    width = sd * np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / alpha))
    return [mean - width, mean + width]


def _interval(n, mean, sd, tuned_to, alpha, factor=2.0, log=math.log, power=1.0, outer=lambda v: 1 + 1 / v, root=0.5):
    """The solution with one thing changed."""
    least = -factor * log(alpha)
    v = n * ((least + log(1 + least)) / tuned_to) ** power
    width = math.sqrt(outer(v) * (log(1 + v) + least)) * sd / n**root
    return mean - width, mean + width


def _single(n, mean, sd, tuned_to, alpha):
    from statistics import NormalDist

    width = NormalDist().inv_cdf(1 - alpha / 2) * sd / math.sqrt(n)
    return mean - width, mean + width


ALWAYS_VALID = Exercise(
    id="always-valid-interval",
    title="An interval for every look",
    prompt=(
        "Write `my_always_valid_interval(n, mean, sd, tuned_to, alpha)`: the pair of limits, mean minus and plus the limit of z times the standard error. "
        "The limit is the root of $(1 + 1/v)(\\log(1 + v) - 2 \\log \\alpha)$ with $v = n \\rho^2$, and $\\rho^2$ is $-2 \\log \\alpha + \\log(1 - 2 \\log \\alpha)$, "
        "divided by `tuned_to`."
    ),
    difficulty=2,
    minutes=8,
    hints=(
        "$-2 \\log \\alpha$ occurs three times: give it a name. It is 5.99 for alpha 0.05.",
        "The standard error of the mean is `sd / math.sqrt(n)`. For n = tuned_to = 1,000 and alpha 0.05 the limit of z is 3.04.",
    ),
    solution=my_always_valid_interval,
    peer=_interval_peer,
    cases=((1000, 0.1, 1.0, 1000, 0.05), (50, -2.0, 3.0, 400, 0.05), (20_000, 0.0, 0.5, 5000, 0.01)),
    wrong=(
        Wrong(
            _single,
            "this is the interval of a single look. It is too narrow for someone who looks again.",
        ),
        Wrong(
            lambda *given: _interval(*given, factor=1.0),
            "you took log alpha once. The formula has -2 log alpha, three times.",
        ),
        Wrong(
            lambda n, mean, sd, tuned_to, alpha: _interval(n, mean, sd, tuned_to, alpha / 2),
            "you halved alpha. This limit is for both sides already.",
        ),
        Wrong(
            lambda *given: _interval(*given, power=0.5),
            "v is n times rho squared; you took rho. What is divided by tuned_to is rho squared.",
        ),
        Wrong(
            lambda *given: _interval(*given, outer=lambda v: 1 + v),
            "the first bracket is 1 + 1 / v, not 1 + v.",
        ),
        Wrong(
            lambda *given: _interval(*given, root=0.0),
            "you multiplied the limit by sd. A mean has the standard error sd / sqrt(n).",
        ),
        Wrong(
            lambda *given: _interval(*given, root=1.0),
            "you divided by n. The standard error is sd divided by the root of n.",
        ),
        Wrong(
            lambda *given: _interval(*given, log=math.log10),
            "these are logarithms to base 10. Take natural ones, math.log.",
        ),
    ),
)


def my_preference_from_log(order, chosen):
    """The share of decided comparisons that A won, and the exact two-sided p of the sign test: [share, p].

    order is a list of "AB" or "BA": what stood at positions 0 and 1. chosen is the list of positions that the users chose,
    None where they chose neither. At least one comparison is decided.
    """
    winners = [shown[place] for shown, place in zip(order, chosen, strict=True) if place is not None]
    wins, n = winners.count("A"), len(winners)
    tail = sum(math.comb(n, k) for k in range(min(wins, n - wins) + 1)) / 2**n
    return [wins / n, min(1, 2 * tail)]


def _preference_peer(order, chosen):
    from scipy.stats import binomtest

    wins = sum(shown.index("A") == place for shown, place in zip(order, chosen, strict=True))
    decided = sum(place is not None for place in chosen)
    return [wins / decided, binomtest(wins, decided).pvalue]


def _counts(order, chosen):
    pairs = [(shown, place) for shown, place in zip(order, chosen, strict=True) if place is not None]
    return sum(shown[place] == "A" for shown, place in pairs), len(pairs)


def _tail(wins, n):
    return sum(math.comb(n, k) for k in range(min(wins, n - wins) + 1)) / 2**n


def _signs(wins, n, total=None):
    return [wins / (total or n), min(1, 2 * _tail(wins, n))]


def _normal_p(order, chosen):
    wins, n = _counts(order, chosen)
    return [wins / n, math.erfc(abs(wins - n / 2) / math.sqrt(n / 4) / math.sqrt(2))]


def _all_decided(order, chosen):
    """Ties as losses of A."""
    return _signs(_counts(order, chosen)[0], len(order))


FROM_LOG = Exercise(
    id="preference-from-a-log",
    title="A preference from a log of positions",
    prompt=(
        "Two answers were shown side by side, in random order. Write `my_preference_from_log(order, chosen)`. `order` lists what stood at positions 0 and 1 "
        'in each comparison, "AB" or "BA"; `chosen` the position that the user chose, or None for neither. Return a list of two numbers: the share of A among '
        "the decided comparisons, and the exact two-sided p-value of the sign test: twice the smaller tail of the binomial with probability 1/2, and at most 1."
    ),
    difficulty=2,
    minutes=10,
    hints=(
        '"AB"[0] is "A". Make a list of winners first, without the ties.',
        "The smaller tail is the sum of math.comb(n, k) / 2**n for k from 0 to the smaller number of wins.",
    ),
    solution=my_preference_from_log,
    peer=_preference_peer,
    cases=(
        (["AB", "BA", "BA", "AB", "BA", "AB", "BA", "BA"], [0, 1, 1, 0, 0, 0, None, 1]),
        (["AB", "AB", "BA", "BA"], [0, 1, 1, 0]),
        (["BA"] * 9 + ["AB"] * 3, [0] * 9 + [1, 1, None]),
    ),
    wrong=(
        Wrong(
            lambda order, chosen: _signs(sum(p == 0 for p in chosen), sum(p is not None for p in chosen)),
            "you counted how often position 0 was chosen. That measures the habit of taking the first; look up who stood there.",
        ),
        Wrong(
            _all_decided,
            "you counted the ties as losses of A. They say nothing about the direction: leave them out of share and p.",
        ),
        Wrong(
            lambda order, chosen: _signs(*_counts(order, chosen), total=len(order)),
            "your share divides by all comparisons. Divide by the decided ones.",
        ),
        Wrong(
            lambda order, chosen: [
                _counts(order, chosen)[0] / _counts(order, chosen)[1],
                _tail(*_counts(order, chosen)),
            ],
            "this is one tail. Nobody said beforehand who would win: double it.",
        ),
        Wrong(
            lambda order, chosen: [
                _counts(order, chosen)[0] / _counts(order, chosen)[1],
                2 * _tail(*_counts(order, chosen)),
            ],
            "twice the tail can exceed 1, where both have won as often. A p-value is at most 1.",
        ),
        Wrong(
            _normal_p,
            "this is the normal approximation. With a few comparisons it is far off: add up the binomial.",
        ),
        Wrong(
            lambda order, chosen: [
                1 - _counts(order, chosen)[0] / _counts(order, chosen)[1],
                _signs(*_counts(order, chosen))[1],
            ],
            "this is the share of B.",
        ),
    ),
)


def my_team_draft(a, b, coins):
    """The team draft of two rankings of the same documents: a list of [document, team], team 0 for A and 1 for B.

    coins holds one entry for each round, True if A chooses first. The list ends after the last coin, or when all
    documents are placed.
    """
    drafted = []
    for a_first in coins:
        for team in (0, 1) if a_first else (1, 0):
            left = [document for document in (a, b)[team] if document not in [taken for taken, _ in drafted]]
            if left:
                drafted.append([left[0], team])
    return drafted


def _draft_peer(a, b, coins):
    """By popping from copies of both lists."""
    rest, drafted = {0: list(a), 1: list(b)}, []
    turns = [team for coin in coins for team in ([0, 1] if coin else [1, 0])]
    for team in turns[: len(a)]:
        document = rest[team].pop(0)
        rest[1 - team].remove(document)
        drafted.append([document, team])
    return drafted


def _turns(a, b, turns):
    drafted = {}
    for team in turns:
        left = [document for document in (a, b)[team] if document not in drafted]
        if left:
            drafted[left[0]] = team
    return [[document, team] for document, team in drafted.items()]


def _rounds(coins):
    return [team for coin in coins for team in ((0, 1) if coin else (1, 0))]


def _without_check(a, b, coins):
    place, drafted = {0: 0, 1: 0}, []
    for team in _rounds(coins):
        if place[team] < len(a):
            drafted.append([(a, b)[team][place[team]], team])
            place[team] += 1
    return drafted


def _pass_on_taken(a, b, coins):
    """Whoever's next document is taken loses its turn."""
    drafted = {}
    for number, team in enumerate(_rounds(coins)):
        document = (a, b)[team][min(number // 2, len(a) - 1)]
        drafted.setdefault(document, team)
    return [[document, team] for document, team in drafted.items()]


DRAFT = Exercise(
    id="team-draft",
    title="Picking teams",
    prompt=(
        "Write `my_team_draft(a, b, coins)` for two rankings of the same documents (numbers, best first). In each round both rankers choose the best document of "
        "their ranking that is still free; `coins` says for each round whether A chooses first. Return the list as shown, each entry [document, team] with team 0 "
        "for A and 1 for B. It ends after the last round, or when no document is left."
    ),
    difficulty=3,
    minutes=12,
    hints=(
        "A round is two turns: teams (0, 1) if the coin says True, else (1, 0). Write the turn first.",
        "A turn: from that team's ranking, keep the documents that nobody has chosen; if there are any, append the first with the team.",
    ),
    solution=my_team_draft,
    peer=_draft_peer,
    cases=(
        ([1, 2, 3, 4], [2, 3, 4, 1], [True, True]),
        ([1, 2, 3, 4], [2, 3, 4, 1], [False, True]),
        ([1, 2, 3, 4, 5], [3, 1, 5, 4, 2], [True, False, False]),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [False, False]),
    ),
    wrong=(
        Wrong(
            lambda a, b, coins: _turns(a, b, _rounds([True] * len(coins))),
            "A begins every round. The coin decides, or A gets the better places and with them the clicks.",
        ),
        Wrong(
            lambda a, b, coins: _turns(a, b, _rounds([not coin for coin in coins])),
            "you read the coins the wrong way round. True means that A chooses first.",
        ),
        Wrong(
            lambda a, b, coins: _turns(a, b, _rounds([coins[0]] * len(coins))),
            "you used the first coin for all rounds. Each round has its own.",
        ),
        Wrong(
            lambda a, b, coins: _turns(a, b, [0 if coin else 1 for coin in coins]),
            "one document for each coin: in a round both choose. Otherwise one team can grow larger than the other.",
        ),
        Wrong(
            _without_check,
            "a document stands there twice. A ranker chooses its best document that is still free.",
        ),
        Wrong(
            _pass_on_taken,
            "a ranker whose document was taken lost its turn. It goes down its ranking to the next free one.",
        ),
        Wrong(
            lambda a, b, coins: [[d, int(a.index(d) > b.index(d))] for d, _ in _turns(a, b, _rounds(coins))],
            "you gave each document to the ranker that has it higher up. Its team is the ranker that chose it in this draft.",
        ),
    ),
)


def my_looks():
    """Twelve sample sizes or fewer at which to look at an A/A test: whole numbers that grow, from 10 to 100,000."""
    return [round(10 * 10_000 ** (look / 11)) for look in range(12)]


def _verify_looks(looks):
    looks = list(looks)
    if not looks or len(looks) > 12:
        return f"you look {len(looks)} times. One to twelve looks are allowed."
    if not all(isinstance(n, int) and 10 <= n <= 100_000 for n in looks) or sorted(set(looks)) != looks:
        return "the looks are whole numbers that grow, from 10 to 100,000."
    rate = float(crossing_probability([n / looks[-1] for n in looks], 1.959964)[-1])
    if rate <= 1 / 3:
        return (
            f"{100 * rate:.1f} % of all A/A tests are called a win with {len(looks)} looks from {looks[0]:,} to {looks[-1]:,}; more than a third is wanted. "
            "How much of the data is shared by one look and the next?"
        )
    return None


LOOKS = Exercise(
    id="break-the-fixed-test",
    title="An A/A test that wins",
    prompt=(
        "Two equal models, a test at 5 %, and someone who stops at the first p below 0.05. Write `my_looks()`: at most twelve sample sizes, growing, from 10 to "
        "100,000, at which to look. More than a third of all A/A tests must be called a win. Twelve looks equally far apart give about a fifth."
    ),
    difficulty=3,
    minutes=10,
    hints=(
        "Two looks at nearly the same data nearly always agree. What counts is the *ratio* of the sample sizes of one look and the next.",
        "Use the whole range: from 10 to 100,000 with a constant ratio.",
    ),
    solution=my_looks,
    verify=_verify_looks,
    wrong=(
        Wrong(
            lambda: [round(100_000 * look / 12) for look in range(1, 13)],
            "20.8 % of all A/A tests are called a win with 12 looks from 8,333 to 100,000; more than a third is wanted. How much of the data is shared by one look and the next?",
        ),
        Wrong(
            lambda: [10 * look for look in range(1, 13)],
            "20.8 % of all A/A tests are called a win with 12 looks from 10 to 120; more than a third is wanted. How much of the data is shared by one look and the next?",
        ),
        Wrong(
            lambda: [10, 100, 1_000, 10_000, 100_000],
            "21.7 % of all A/A tests are called a win with 5 looks from 10 to 100,000; more than a third is wanted. How much of the data is shared by one look and the next?",
        ),
        Wrong(lambda: list(range(10, 100_001, 1_000)), "you look 100 times. One to twelve looks are allowed."),
        Wrong(lambda: [1, 10, 100, 1_000], "the looks are whole numbers that grow, from 10 to 100,000."),
    ),
)

EXERCISES = (ALWAYS_VALID, FROM_LOG, DRAFT, LOOKS)
