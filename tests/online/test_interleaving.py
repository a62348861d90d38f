"""Interleaving against the literature's examples by exact enumeration, an independent draft, and scipy's sign test."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from studyguide.online.interleaving import (
    METHODS,
    Credit,
    Interleaving,
    balanced_interleave,
    credit,
    interleaving_outcomes,
    preference_test,
    team_draft_interleave,
)

A, SHIFTED = (1, 2, 3, 4), (2, 3, 4, 1)  # Radlinski and Craswell (2013): B is A but for its first document
MIX = {"balanced": balanced_interleave, "team draft": team_draft_interleave}
each_method = pytest.mark.parametrize("method", METHODS)
properties = settings(deadline=None, max_examples=80)
rankings = st.permutations(range(6)).flatmap(lambda order: st.integers(1, 6).map(lambda size: tuple(order[:size])))
cutoffs = st.none() | st.integers(1, 8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def lists(outcomes):
    """{(documents, teams): probability}"""
    return {(mixed.documents, mixed.teams and "".join(mixed.teams)): p for mixed, p in outcomes.items()}


def random_click(outcomes):
    """The probabilities that A and B win, if one of the documents shown is clicked whatever it is."""
    wins = Counter()
    for mixed, p in outcomes.items():
        for document in mixed.documents:
            wins[credit(mixed, [document]).winner] += p / len(mixed.documents)
    return wins["A"], wins["B"]


# The literature's examples


def test_the_shifted_lists_by_hand():
    """Balanced: whoever begins gives 1 or 2, then 2 or 1; from there both lists go on alike. Teams: four drafts."""
    assert lists(interleaving_outcomes(A, SHIFTED, "balanced")) == {
        ((1, 2, 3, 4), None): 0.5,
        ((2, 1, 3, 4), None): 0.5,
    }
    assert lists(interleaving_outcomes(A, SHIFTED, "team draft")) == {
        ((1, 2, 3, 4), "ABAB"): 0.25,
        ((1, 2, 3, 4), "ABBA"): 0.25,
        ((2, 1, 3, 4), "BAAB"): 0.25,
        ((2, 1, 3, 4), "BABA"): 0.25,
    }


def test_random_clicks_on_the_shifted_lists_favour_b_if_balanced_and_nobody_in_a_draft():
    assert random_click(interleaving_outcomes(A, SHIFTED, "balanced")) == (0.25, 0.75)
    assert random_click(interleaving_outcomes(A, SHIFTED, "team draft")) == (0.5, 0.5)


def test_a_draft_of_lists_without_a_common_document():
    found = lists(interleaving_outcomes(["a", "b"], ["x", "y"], "team draft"))
    assert found == {
        (("a", "x", "b", "y"), "ABAB"): 0.25,
        (("a", "x", "y", "b"), "ABBA"): 0.25,
        (("x", "a", "b", "y"), "BAAB"): 0.25,
        (("x", "a", "y", "b"), "BABA"): 0.25,
    }


def test_a_draft_is_not_blind_to_a_better_list_but_for_where_both_agree():
    """One relevant document, last in A and first in B, clicked wherever it stands: only its team counts."""
    better = (4, 1, 2, 3)
    wins = Counter()
    for mixed, p in interleaving_outcomes(A, better, "team draft").items():
        wins[credit(mixed, [4]).winner] += p
    assert wins == {"B": 1.0}


def test_both_lists_equal():
    for method in METHODS:
        outcomes = interleaving_outcomes(A, A, method)
        assert {mixed.documents for mixed in outcomes} == {A}
        wins = random_click(outcomes)
        assert wins[0] == wins[1]
    assert random_click(interleaving_outcomes(A, A, "balanced")) == (0, 0)  # both get every click: a tie


# Against an independent draft


def naive_draft(a, b, rng):
    """Algorithm 2 of Radlinski, Kurup and Joachims (2008), as printed, for rankings of the same documents."""
    shown, team_a, team_b = [], set(), set()
    while any(d not in shown for d in a) and any(d not in shown for d in b):
        if len(team_a) < len(team_b) or (len(team_a) == len(team_b) and rng.random() < 0.5):
            document = next(d for d in a if d not in shown)
            team_a.add(document)
        else:
            document = next(d for d in b if d not in shown)
            team_b.add(document)
        shown.append(document)
    return tuple(shown), "".join("A" if d in team_a else "B" for d in shown)


@pytest.mark.parametrize(("a", "b"), [(A, SHIFTED), ((1, 2, 3, 4, 5), (3, 1, 5, 4, 2)), ((1, 2, 3), (1, 2, 3))])
def test_drafts_have_the_distribution_of_the_papers_algorithm(a, b):
    rng = np.random.default_rng(0)
    seen = Counter(naive_draft(a, b, rng) for _ in range(8000))
    exact = lists(interleaving_outcomes(a, b, "team draft"))
    assert set(seen) == set(exact)
    assert stats.chisquare([seen[x] for x in exact], [8000 * exact[x] for x in exact]).pvalue > 0.001


@each_method
def test_what_is_drawn_has_the_distribution_of_the_outcomes(method):
    source = seeded()
    a, b = (1, 2, 3, 4, 5), (3, 1, 6, 2, 5)
    exact = interleaving_outcomes(a, b, method, k=4)
    seen = Counter(MIX[method](a, b, 4, rng=source) for _ in range(4000))
    assert set(seen) == set(exact)
    assert stats.chisquare([seen[x] for x in exact], [4000 * exact[x] for x in exact]).pvalue > 0.001


# Properties


@properties
@given(rankings, rankings, cutoffs)
def test_a_draft_is_fair(a, b, k):
    outcomes = interleaving_outcomes(a, b, "team draft", k)
    assert math.isclose(sum(outcomes.values()), 1)
    sizes = Counter()
    for mixed, p in outcomes.items():
        assert len(mixed.documents) == len(set(mixed.documents)) <= (k or 12)
        lead = np.cumsum([1 if team == "A" else -1 for team in mixed.teams])
        assert abs(lead).max() <= 1
        for team, ranking in (("A", a), ("B", b)):
            own = [d for d, of in zip(mixed.documents, mixed.teams, strict=True) if of == team]
            assert own == [d for d in ranking if d in own]
            sizes[team] += p * len(own)
    assert math.isclose(sizes["A"], sizes["B"])
    wins = random_click(outcomes)
    assert math.isclose(*wins)


@properties
@given(rankings, rankings, cutoffs)
def test_a_balanced_prefix_is_made_of_equally_deep_prefixes(a, b, k):
    outcomes = interleaving_outcomes(a, b, "balanced", k)
    assert math.isclose(sum(outcomes.values()), 1)
    for mixed in outcomes:
        for size in range(1, len(mixed.documents) + 1):
            prefix = set(mixed.documents[:size])
            deep = [(i, j) for i in range(len(a) + 1) for j in (i - 1, i, i + 1) if 0 <= j <= len(b)]
            assert any(prefix == {*a[:i], *b[:j]} for i, j in deep)


@each_method
@properties
@given(rankings, rankings, cutoffs)
def test_exchanging_the_rankers_exchanges_the_teams(method, a, b, k):
    def mirrored(teams):
        return teams and tuple("A" if team == "B" else "B" for team in teams)

    here = {(m.documents, m.teams): p for m, p in interleaving_outcomes(a, b, method, k).items()}
    there = {(m.documents, mirrored(m.teams)): p for m, p in interleaving_outcomes(b, a, method, k).items()}
    assert here == there


@each_method
@properties
@given(rankings, rankings, st.data())
def test_credit_is_bounded_and_mirrored(method, a, b, data):
    mixed = data.draw(st.sampled_from(list(interleaving_outcomes(a, b, method))))
    clicks = data.draw(st.lists(st.sampled_from(mixed.documents)))
    got = credit(mixed, clicks)
    count = len(set(clicks))
    assert min(got) >= 0
    assert max(got) <= count <= sum(got) or not count
    if method == "team draft":
        assert sum(got) == count
    assert credit(mixed, clicks + clicks) == got


@properties
@given(rankings, rankings)
def test_names_do_not_matter(a, b):
    def rename(ranking):
        return tuple(f"d{document}" for document in ranking)

    for method in METHODS:
        here = interleaving_outcomes(a, b, method)
        there = interleaving_outcomes(rename(a), rename(b), method)
        assert {(rename(m.documents), m.teams): p for m, p in here.items()} == {
            (m.documents, m.teams): p for m, p in there.items()
        }


# Credit by hand


@pytest.mark.parametrize(
    ("clicks", "expected", "winner"),
    [
        ([], (0, 0), None),
        ([1], (1, 0), "A"),  # 1 is first in A: only A's first document counts
        ([2], (0, 1), "B"),
        ([4], (0, 1), "B"),  # third in B: A's first three lack it
        ([2, 4], (1, 2), "B"),
        ([1, 2], (1, 1), None),  # 2 is first in B: depth 1
        ([1, 2, 3, 4], (3, 3), None),
        ([3, 3], (0, 1), "B"),
    ],
)
def test_balanced_credit_by_hand(clicks, expected, winner):
    mixed = Interleaving((1, 2, 3, 4), None, A, SHIFTED)
    assert credit(mixed, clicks) == Credit(*expected)
    assert credit(mixed, clicks).winner == winner


def test_a_document_of_one_ranking_only_counts_by_its_rank_there():
    mixed = Interleaving(("x", "y", "z"), None, ("x", "z"), ("y", "w"))
    assert credit(mixed, ["x", "y"]) == (1, 1)
    assert credit(mixed, ["x", "z"]) == (2, 0)


def test_a_click_on_what_was_not_shown_is_refused():
    for method in METHODS:
        mixed = MIX[method](A, SHIFTED, 2, rng=0)
        with pytest.raises(ValueError, match="clicks contain 4; expected documents that were shown"):
            credit(mixed, [4])


# How the list ends


@pytest.mark.parametrize(
    ("a", "b", "k", "expected"),
    [
        ((1, 2, 3), (2,), None, {((1, 2), "AB"), ((2, 1), "BA")}),
        ((3, 1), (3,), None, {((3,), "A"), ((3,), "B")}),
        ((1,), (1,), None, {((1,), "A"), ((1,), "B")}),
        (A, SHIFTED, 1, {((1,), "A"), ((2,), "B")}),
        (A, SHIFTED, 3, {((1, 2, 3), "ABA"), ((1, 2, 3), "ABB"), ((2, 1, 3), "BAA"), ((2, 1, 3), "BAB")}),
    ],
)
def test_a_draft_ends_where_it_would_become_unfair(a, b, k, expected):
    assert set(lists(interleaving_outcomes(a, b, "team draft", k))) == expected


@each_method
def test_one_generator_goes_on_and_a_seed_repeats(method):
    source = seeded()
    drawn = {MIX[method](A, SHIFTED, rng=source).documents for _ in range(40)}
    assert len(drawn) == 2
    assert MIX[method](A, SHIFTED, rng=3) == MIX[method](A, SHIFTED, rng=3) == MIX[method](A, SHIFTED, rng=seeded(3))


# The preference test


@pytest.mark.parametrize(("wins_a", "wins_b"), [(220, 180), (0, 7), (3, 3), (1, 0), (5000, 5200)])
def test_p_is_scipys_and_the_share_has_wilsons_limits(wins_a, wins_b):
    result = preference_test(wins_a, wins_b, ties=11)
    assert math.isclose(result.p_value, stats.binomtest(wins_a, wins_a + wins_b).pvalue, rel_tol=1e-9)
    limits = proportion_confint(wins_a, wins_a + wins_b, method="wilson")
    assert np.allclose([result.share.low, result.share.high], limits)
    total = wins_a + wins_b + 11
    assert math.isclose(result.advantage.estimate, (wins_a - wins_b) / total)
    assert math.isclose(result.ties, 11 / total)


def test_the_guides_400_comparisons():
    """E4-06: 55 % of 400 is no proof; p is .051."""
    assert round(float(preference_test(220, 180).p_value), 3) == 0.051


def test_the_test_keeps_its_level_and_ties_do_not_change_p():
    wins = torch.from_numpy(np.random.default_rng(0).multinomial(300, [0.2, 0.2, 0.6], size=20_000))
    result = preference_test(*wins.unbind(-1))
    rate = float((result.p_value <= 0.05).double().mean())
    assert 0.025 < rate <= 0.052  # a discrete test stays below
    covered = ((result.advantage.low <= 0) & (result.advantage.high >= 0)).double().mean()
    assert covered == pytest.approx(0.95, abs=0.006)
    assert torch.equal(preference_test(7, 2).p_value, preference_test(7, 2, 1000).p_value)


@properties
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_exchanging_a_and_b_turns_the_result(a, b, ties):
    assume(a + b + ties)
    here, there = preference_test(a, b, ties), preference_test(b, a, ties)
    assert here.p_value == there.p_value
    assert math.isclose(here.share.low, 1 - there.share.high, abs_tol=1e-12)
    assert math.isclose(here.advantage.high, -there.advantage.low, abs_tol=1e-12)


def test_nothing_but_ties_is_no_preference():
    result = preference_test(0, 0, 5)
    assert (result.p_value, result.ties) == (1, 1)
    assert [float(x) for x in (result.share.estimate, result.share.low, result.share.high)] == [0.5, 0, 1]


# Input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], [1]), ValueError, "a is []; expected at least one document"),
        (([1], [2, 2]), ValueError, "b is [2, 2]; expected at least one document, and none twice"),
        (("abc", ["a"]), TypeError, "a is 'abc'; expected a sequence of documents"),
        ((3, ["a"]), TypeError, "a is 3"),
        (([[1]], [2]), TypeError, "a holds documents that cannot be hashed"),
        (([1], [2], 0), ValueError, "k is 0"),
        (([1], [2], 1.5), TypeError, "k is 1.5"),
    ],
)
def test_bad_rankings_are_refused(arguments, error, message):
    for method in METHODS:
        with pytest.raises(error, match=re.escape(message)):
            MIX[method](*arguments, rng=0)
        with pytest.raises(error, match=re.escape(message)):
            interleaving_outcomes(*arguments[:2], method, *arguments[2:])


def test_unknown_methods_and_generators_are_refused():
    with pytest.raises(ValueError, match="method is 'optimized'"):
        interleaving_outcomes(A, A, "optimized")
    with pytest.raises(TypeError, match="rng is 'x'"):
        team_draft_interleave(A, A, rng="x")


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ((-1, 2), ValueError, "wins_a contains -1"),
        ((1, 2.5), ValueError, "wins_b contains 2.5"),
        ((1, 2, math.nan), ValueError, "ties contains nan"),
        ((0, 0, 0), ValueError, "all 0; expected at least one impression"),
        (([1, 2], [1, 2, 3]), ValueError, "expected counts that broadcast"),
        (("x", 1), TypeError, "wins_a cannot be read"),
    ],
)
def test_bad_counts_are_refused(counts, error, message):
    with pytest.raises(error, match=re.escape(message)):
        preference_test(*counts)


@pytest.mark.gpu
def test_the_gpu_gives_the_same(cuda):
    here, there = (preference_test(torch.tensor([5.0, 0], device=d), 9, 3) for d in ("cpu", cuda))
    assert there.p_value.device == cuda
    torch.testing.assert_close(there.p_value.cpu(), here.p_value)
    torch.testing.assert_close(there.share.low.cpu(), here.share.low)
