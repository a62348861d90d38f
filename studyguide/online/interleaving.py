"""Two rankings in one list: who is clicked tells which ranking the user prefers.

An A/B test gives each user one of two rankers and compares means over different people. Interleaving shows both to the
same person, mixed into one list, and credits clicks to the ranker that they came from.

A ranking is a sequence of documents, best first, named by anything hashable, none twice; the two may share documents
or not, and differ in length.

Errors: an empty ranking, a document twice, a click on what was not shown and counts that are not whole are a ValueError;
a ranking that is a string or cannot be hashed is a TypeError.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from studyguide.probability.validation import check_finite, common_dtype, floating, generator, one_of, positive_integer
from studyguide.statistics.hypothesis import mcnemar_test
from studyguide.statistics.intervals import Interval, proportion_interval

METHODS = ("balanced", "team draft")


@dataclass(frozen=True)
class Interleaving:
    """What is shown, and what it takes to credit a click."""

    documents: tuple  # best first
    teams: tuple | None  # team draft: "A" or "B" for each document; balanced: None
    a: tuple  # the rankings that were mixed
    b: tuple


class Credit(NamedTuple):
    """The clicks that each ranker gets."""

    a: int
    b: int

    @property
    def winner(self):
        """ "A", "B", or None for a tie."""
        return None if self.a == self.b else "A" if self.a > self.b else "B"


def balanced_interleave(a, b, k=None, *, rng):
    """Mix two rankings so that every prefix holds about as many of the best of one as of the other.

    A coin decides who begins. Then the ranker of which fewer documents have been read is asked for its next one; it is
    left out if it is in the list already. The list ends where one ranking does, or at `k` documents.

    Every prefix consists of the first i of `a` and the first j of `b`, with i and j equal or 1 apart. It is still not fair:
    see `credit`. Randomness: `rng` is an int seed, or a torch.Generator, which the call advances; give one generator to
    all calls, since a seed would toss the same coin each time.
    Source: Joachims (2002), "Optimizing search engines using clickthrough data", theorem 1.

    >>> balanced_interleave([1, 2, 3, 4], [2, 3, 4, 1], rng=0).documents
    (2, 1, 3, 4)
    """
    return _mixed("balanced", a, b, k, rng)


def team_draft_interleave(a, b, k=None, *, rng):
    """Mix two rankings as two captains pick teams: in each round both choose their best document that is left.

    A coin decides in each round who chooses first. Each document belongs to the team of the ranker that chose it. So in
    every prefix the sizes of the teams differ by 1 at most, and on average not at all.

    Convention: the list ends at `k` documents, or where not both can choose one whoever begins: a last document that both
    want goes to the one that begins, and what one ranking alone has left is not shown. (The paper ends as soon as one
    ranking is used up. For rankings of unequal length the teams are then not fair.)
    Randomness: see `balanced_interleave`.
    Source: Radlinski, Kurup and Joachims (2008), "How does clickthrough data reflect retrieval quality?", algorithm 2.

    >>> mixed = team_draft_interleave([1, 2, 3, 4], [2, 3, 4, 1], rng=0)
    >>> mixed.documents, mixed.teams
    ((2, 1, 3, 4), ('B', 'A', 'A', 'B'))
    """
    return _mixed("team draft", a, b, k, rng)


def interleaving_outcomes(a, b, method, k=None):
    """Every list that a method ("balanced" or "team draft") can make of two rankings: {Interleaving: probability}.

    With it the expected credit of any click behaviour is a sum, and needs no simulation. A team draft of k documents has
    up to 2^(k / 2) of them, rounded up.

    >>> for mixed, probability in interleaving_outcomes(["x", "y"], ["y", "z"], "team draft", k=2).items():
    ...     print(*mixed.documents, *mixed.teams, probability)
    x y A B 0.5
    y x B A 0.5
    """
    one_of("method", method, METHODS)
    a, b, k = _rankings(a, b, k)
    outcomes, tosses = {}, [()]
    while tosses:
        coins = tosses.pop()
        try:
            outcome = _mix(method, a, b, k, iter(coins))
        except StopIteration:  # it wants one more
            tosses += [(*coins, False), (*coins, True)]
        else:
            outcomes[outcome] = outcomes.get(outcome, 0.0) + 0.5 ** len(coins)
    return outcomes


def credit(interleaving, clicks):
    """How many of the clicked documents each ranker gets: a `Credit`, with its `winner`.

    `clicks` are the documents clicked in one impression; a second click on the same one counts once.

    Team draft: each click goes to the team of its document. Balanced: take the lowest document that was clicked, and its
    better rank r in the two rankings; a ranker gets the clicked documents among its first r (both can get the same one).
    The latter is biased where one ranking is the other but for a shift: of A = 1, 2, 3, 4 and B = 2, 3, 4, 1 a single click
    anywhere but on 1 is a win of B, so that clicks at random give B three wins in four.
    Source: Joachims (2002); Radlinski, Kurup and Joachims (2008); Radlinski and Craswell (2013), "Optimized interleaving for
    online retrieval evaluation", for the bias.

    >>> mixed = balanced_interleave([1, 2, 3, 4], [2, 3, 4, 1], rng=0)
    >>> [credit(mixed, [document]).winner for document in (1, 2, 3, 4)]
    ['A', 'B', 'B', 'B']
    """
    clicked = set(clicks)
    if unseen := clicked - set(interleaving.documents):
        shown = ", ".join(map(repr, interleaving.documents))
        raise ValueError(f"clicks contain {next(iter(unseen))!r}; expected documents that were shown: {shown}")
    if interleaving.teams is not None:
        teams = [
            team
            for document, team in zip(interleaving.documents, interleaving.teams, strict=True)
            if document in clicked
        ]
        return Credit(teams.count("A"), teams.count("B"))
    if not clicked:
        return Credit(0, 0)
    lowest = [document for document in interleaving.documents if document in clicked][-1]
    depth = min(ranking.index(lowest) for ranking in (interleaving.a, interleaving.b) if lowest in ranking) + 1
    return Credit(*(len(clicked.intersection(ranking[:depth])) for ranking in (interleaving.a, interleaving.b)))


@dataclass(frozen=True, eq=False)
class PreferenceResult:
    """What `preference_test` found; tensors of the shape of the counts."""

    share: Interval  # of A among the impressions that A or B won; Wilson's limits
    advantage: Interval  # (wins of A - wins of B) / all impressions, ties too
    p_value: torch.Tensor
    ties: torch.Tensor  # the share of all impressions that nobody won


def preference_test(wins_a, wins_b, ties=0, confidence=0.95):
    """Sign test of whether users prefer A or B: without a preference each win is the toss of a coin.

    The three counts are impressions, or better users, each counted once: ten clicks of one person are not ten votes.
    Shapes: they broadcast to the results.
    Convention: ties say nothing about the direction, so p is the exact binomial one of the wins alone, twice the smaller
    tail. But they do say how much is at stake: `advantage` counts them in the denominator, with the limits of Bonett and
    Price (see `mcnemar_test`, of which this is the case without concordant yes). Without any win p is 1 and the share
    1/2, between 0 and 1.
    Errors: counts that are not whole, or no impression at all.
    Source: Dixon and Mood (1946), "The statistical sign test"; Chapelle et al. (2012), "Large-scale validation and analysis
    of interleaved search evaluation", whose statistic is half of the advantage.

    >>> result = preference_test(220, 180)
    >>> result.p_value
    tensor(0.0510, dtype=torch.float64)
    >>> print(result.share)
    0.55 (95 % interval 0.501 to 0.598)
    """
    given = floating(wins_a=wins_a, wins_b=wins_b, ties=ties)
    try:
        wins_a, wins_b, ties = torch.broadcast_tensors(*(count.double() for count in given))
    except RuntimeError:
        shapes = ", ".join(str(tuple(count.shape)) for count in given)
        raise ValueError(f"shapes are {shapes}; expected counts that broadcast") from None
    for name, count in (("wins_a", wins_a), ("wins_b", wins_b), ("ties", ties)):
        check_finite(name, count)
        if (odd := (count != count.round()) | (count < 0)).any():
            raise ValueError(f"{name} contains {count[odd][0]:g}; expected whole numbers of at least 0")
    wins, dtype = wins_a + wins_b, common_dtype(*given)[0]
    if (wins + ties == 0).any():
        raise ValueError("wins_a, wins_b and ties are all 0; expected at least one impression")
    table = torch.stack([ties, wins_a, wins_b, torch.zeros_like(ties)], -1).unflatten(-1, (2, 2))
    tested = mcnemar_test(table.to(dtype), confidence=confidence)
    share = proportion_interval(wins_a, wins.clamp(min=1), confidence)
    parts = zip((share.estimate, share.low, share.high), (0.5, 0.0, 1.0), strict=True)
    share = Interval(*(torch.where(wins > 0, part, nothing).to(dtype) for part, nothing in parts), confidence)
    return PreferenceResult(share, tested.interval, tested.p_value, (ties / (wins + ties)).to(dtype))


def _mixed(method, a, b, k, rng):
    a, b, k = _rankings(a, b, k)
    coins = torch.randint(2, (1 if method == "balanced" else (k + 1) // 2,), generator=generator(rng))
    return _mix(method, a, b, k, iter(coins.bool().tolist()))


def _mix(method, a, b, k, coins):
    """One Interleaving; `coins` is an iterator, True if A begins."""
    if method == "team draft":
        chosen = _draft(a, b, k, coins)
        return Interleaving(tuple(chosen), tuple(chosen.values()), a, b)
    return Interleaving(tuple(_alternate(a, b, k, next(coins))), None, a, b)


def _alternate(a, b, k, a_begins):
    shown, i, j = [], 0, 0
    while i < len(a) and j < len(b) and len(shown) < k:
        if i < j or (i == j and a_begins):
            document, i = a[i], i + 1
        else:
            document, j = b[j], j + 1
        if document not in shown:
            shown.append(document)
    return shown


def _draft(a, b, k, coins):
    """{document: team}, in the order in which they were chosen."""
    chosen = {}
    while len(chosen) < k:
        left = {team: [d for d in ranking if d not in chosen] for team, ranking in (("A", a), ("B", b))}
        if not left["A"] or not left["B"]:
            break
        first, second = "AB" if next(coins) else "BA"
        contested = left["A"][0] == left["B"][0]
        chosen[left[first][0]] = first
        if contested and min(map(len, left.values())) == 1:
            break
        if len(chosen) < k:
            chosen[left[second][contested]] = second
    return chosen


def _rankings(a, b, k):
    rankings = []
    for name, ranking in (("a", a), ("b", b)):
        if isinstance(ranking, str) or not hasattr(ranking, "__iter__"):
            raise TypeError(f"{name} is {ranking!r}; expected a sequence of documents")
        ranking = tuple(ranking)
        try:
            distinct = set(ranking)
        except TypeError:
            raise TypeError(f"{name} holds documents that cannot be hashed; expected names or ids") from None
        if not ranking or len(distinct) < len(ranking):
            raise ValueError(f"{name} is {list(ranking)}; expected at least one document, and none twice")
        rankings.append(ranking)
    size = sum(map(len, rankings))
    return *rankings, size if k is None else min(size, positive_integer("k", k))
