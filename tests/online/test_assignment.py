"""Assignment against hashlib and shasum by hand; uniform, independent between experiments, and kept by overrides."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from studyguide.online import assignment
from studyguide.online.assignment import Overrides, assign, bucket

HALVES = {"A": 0.5, "B": 0.5}
USERS = [f"u{number:05}" for number in range(20_000)]


@pytest.mark.parametrize(
    ("experiment", "unit", "digest"),
    [  # the first 16 digits of: printf '9:new model6:u00001' | sha256sum
        ("new model", "u00001", "2e1c9565f06c99d6"),
        ("new model", "u00002", "d1909703b45bb565"),
        ("tone", "سارة", "5867917a9d4741a3"),  # 8 bytes in UTF-8
    ],
)
def test_buckets_are_those_of_sha256_by_hand(experiment, unit, digest):
    assert bucket(unit, experiment) == (int(digest, 16) >> 11) / 2**53
    assert bucket([unit, "x"], experiment).tolist() == [bucket(unit, experiment), bucket("x", experiment)]


def test_buckets_are_those_of_hashlib():
    for experiment in ("new model", "ü"):
        data = [f"{len(experiment.encode())}:{experiment}{len(unit)}:{unit}".encode() for unit in USERS[:200]]
        expected = [int.from_bytes(hashlib.sha256(each).digest()) / 2**256 for each in data]
        np.testing.assert_allclose(bucket(USERS[:200], experiment), expected, rtol=0, atol=2**-53)


def test_another_process_with_another_seed_of_python_s_hash_agrees():
    code = "from studyguide.online.assignment import assign; print(''.join(assign([f'u{i}' for i in range(500)], 'x', {'A': .5, 'B': .5})))"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "".join(assign([f"u{i}" for i in range(500)], "x", HALVES))


@settings(deadline=None)
@given(*[st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)] * 4)
def test_what_is_hashed_tells_every_pair_apart(experiment, unit, other_experiment, other_unit):
    def pair(*texts):
        return b"".join(assignment._framed("text", text) for text in texts)

    same = (experiment, unit) == (other_experiment, other_unit)
    assert (pair(experiment, unit) == pair(other_experiment, other_unit)) == same
    for cut in range(1, len(joined := experiment + unit)):
        if joined[:cut] != experiment:
            assert bucket(joined[cut:], joined[:cut]) != bucket(unit, experiment)


# Uniform and independent


def test_buckets_are_uniform():
    for experiment in ("x", "y"):
        places = bucket(USERS, experiment)
        assert places.min() >= 0
        assert places.max() < 1
        counts = np.bincount((places * 100).astype(int), minlength=100)
        assert stats.chisquare(counts).pvalue > 0.001
        assert stats.kstest(places, "uniform").pvalue > 0.001
        assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 4 / np.sqrt(len(places)), "neighbours are unrelated"


def test_experiments_are_independent_of_each_other():
    arms = [bucket(USERS[:2000], f"experiment {number}") < 0.5 for number in range(60)]
    p = [
        stats.chi2_contingency([[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]], False).pvalue
        for a, b in combinations(arms, 2)
    ]
    assert len(p) == 1770
    assert stats.kstest(p, "uniform").pvalue > 0.001
    excess = [np.mean(a & b) - np.mean(a) * np.mean(b) for a, b in combinations(arms, 2)]
    assert abs(np.mean(excess)) < 4 * 0.25 / np.sqrt(2000 * 1770)


def test_experiments_in_one_layer_exclude_each_other_and_do_not_bend_the_split():
    layer = bucket(USERS, "layer: prompts")
    first = [user for user, place in zip(USERS, layer, strict=True) if place < 0.3]
    second = [user for user, place in zip(USERS, layer, strict=True) if place >= 0.3]
    assert not set(first) & set(second)
    for users, experiment in ((first, "tone"), (second, "length")):
        count = assign(users, experiment, HALVES).count("A")
        assert stats.binomtest(count, len(users), 0.5).pvalue > 0.001


# Shares


@pytest.mark.parametrize(
    "weights",
    [
        {"A": 0.5, "B": 0.5},
        {"A": 0.9, "B": 0.1},
        {"A": 0.123, "B": 0.877},
        {"A": 0.999, "B": 0.001},
        {"A": 0.1, "B": 0.2, "C": 0.7},
        dict.fromkeys("ABCDEFG", 1 / 7),
    ],
)
def test_any_share_is_kept(weights):
    variants = assign(USERS, "shares", weights)
    counts = [variants.count(name) for name in weights]
    assert sum(counts) == len(USERS)
    assert stats.chisquare(counts, [share * len(USERS) for share in weights.values()]).pvalue > 0.001


def test_a_weight_of_0_or_1_is_exact():
    assert set(assign(USERS, "x", {"A": 0, "B": 1, "C": 0})) == {"B"}
    assert set(assign(USERS, "x", {"only": 1})) == {"only"}
    nobody = {"A": 0.1, "B": 0.0, "C": 0.2, "D": 0.7, "E": 0.0}
    assert set(assign(USERS, "x", nobody)) == {"A", "C", "D"}


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_change_of_two_weights_moves_the_difference_one_way(before, after):
    before, after = sorted((before, after), reverse=True)
    old, new = (assign(USERS[:2000], "ramp", {"A": share, "B": 1 - share}) for share in (before, after))
    moved = [f"{a}{b}" for a, b in zip(old, new, strict=True) if a != b]
    assert set(moved) <= {"AB"}
    places = bucket(USERS[:2000], "ramp")
    assert len(moved) == np.sum((places >= after) & (places < before))


def test_three_weights_can_move_units_between_the_others_as_documented():
    weights = {"A": 0.8, "B": 0.1, "C": 0.1}, {"A": 0.6, "B": 0.2, "C": 0.2}
    old, new = (assign(USERS, "ramp", each) for each in weights)
    assert {a + b for a, b in zip(old, new, strict=True) if a != b} == {"AB", "BC"}


def test_a_ramp_keeps_whom_it_had():
    few, many = (set(np.flatnonzero(bucket(USERS, "ramp") < share)) for share in (0.1, 0.5))
    assert few < many


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({"A": 0.6, "B": 0.6}, ValueError, "in all 1.2; expected shares of at least 0 that sum to 1"),
        ({"A": 50, "B": 50}, ValueError, "in all 100"),
        ({"A": 1.5, "B": -0.5}, ValueError, "expected shares of at least 0"),
        ({"A": float("nan"), "B": 0.5}, ValueError, "in all nan"),
        ({}, ValueError, "weights is empty"),
        ([0.5, 0.5], TypeError, "expected a dict"),
        ({"A": "half", "B": "half"}, TypeError, "weights holds 'half'"),
    ],
)
def test_bad_weights(weights, error, message):
    with pytest.raises(error, match=message):
        assign("u1", "x", weights)


@pytest.mark.parametrize(
    ("units", "experiment", "error"),
    [
        (["u1", 2], "x", TypeError),
        ([None], "x", TypeError),
        ("", "x", ValueError),
        ("u1", "", ValueError),
        ("u1", 3, TypeError),
    ],
)
def test_what_is_no_text(units, experiment, error):
    with pytest.raises(error, match="expected text|got an empty text"):
        assign(units, experiment, HALVES)


def test_no_units():
    assert assign([], "x", HALVES) == []
    assert bucket([], "x").shape == (0,)


# Overrides


@pytest.fixture
def overrides(tmp_path):
    return Overrides(tmp_path / "deeper" / "overrides.json")


def test_an_override_goes_before_the_hash_and_is_dropped(overrides):
    hashed = assign(USERS[:100], "x", HALVES)
    other = {"A": "B", "B": "A"}
    overrides.put("x", {"u00003": other[hashed[3]]})
    found = assign(USERS[:100], "x", HALVES, overrides)
    assert [i for i in range(100) if found[i] != hashed[i]] == [3]
    assert assign("u00003", "x", HALVES, overrides) == other[hashed[3]]
    assert assign("u00003", "another", HALVES, overrides) == assign("u00003", "another", HALVES)
    overrides.drop("x", "u00003")
    assert assign(USERS[:100], "x", HALVES, overrides) == hashed


def test_sticky_users_keep_what_they_had_in_a_new_process(overrides):
    before = assign(USERS[:500], "x", HALVES)
    overrides.put("x", dict(zip(USERS[:500], before, strict=True)))
    again = Overrides(str(overrides.path))
    turned = {"A": 0.01, "B": 0.99}
    assert assign(USERS[:500], "x", turned, again) == before
    assert assign(USERS[500:900], "x", turned, again) == assign(USERS[500:900], "x", turned)


def test_a_later_override_replaces_an_earlier_one_and_no_other(overrides):
    overrides.put("x", {"u1": "A", "سارة": "B"})
    overrides.put("y", {"u1": "B"})
    overrides.put("x", {"u1": "B"})
    assert overrides.get("x") == {"u1": "B", "سارة": "B"}
    assert overrides.get("y") == {"u1": "B"}
    assert overrides.get("z") == {}


def test_a_retired_variant_is_said(overrides):
    overrides.put("x", {"u1": "C"})
    with pytest.raises(ValueError, match="overrides has 'C' for 'u1'; expected one of"):
        assign(["u2", "u1"], "x", HALVES, overrides)


def test_nothing_is_lost_when_many_write_at_once(overrides):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Overrides(overrides.path).put("x", {f"u{i}": "A"}), range(40)))
    assert len(overrides.get("x")) == 40


def test_a_crash_leaves_the_old_file(overrides, monkeypatch):
    overrides.put("x", {"u1": "A"})

    def crash(*_):
        raise OSError("no power")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no power"):
        overrides.put("x", {"u1": "B"})
    assert overrides.get("x") == {"u1": "A"}


@pytest.mark.parametrize("text", ['{"x": {"u1"', "[1, 2]", '{"x": 3}', ""])
def test_a_damaged_file_is_an_error_and_stays(overrides, text):
    overrides.path.parent.mkdir()
    overrides.path.write_text(text)
    for use in (lambda: overrides.get("x"), lambda: overrides.put("x", {"u1": "A"})):
        with pytest.raises(ValueError, match="overrides.json"):
            use()
    assert overrides.path.read_text() == text


def test_bad_overrides_are_not_written(overrides):
    overrides.put("x", {"u1": "A"})
    for variants, error in (({"u2": 1}, TypeError), ({3: "A"}, TypeError), ({"": "A"}, ValueError)):
        with pytest.raises(error):
            overrides.put("x", variants)
    with pytest.raises(KeyError, match="u7"):
        overrides.drop("x", ["u1", "u7"])
    assert json.loads(overrides.path.read_text()) == {"x": {"u1": "A"}}
