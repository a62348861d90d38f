"""Scores against exact fractions, statsmodels and the lm-evaluation-harness; the shipped tasks against the grammar."""

import copy
import itertools
import json
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint, proportions_ztest, test_proportions_2indep

from studyguide.datasets import path, tinyworld
from studyguide.language.benchmarks import (
    accuracy_with_error,
    catalog,
    compare_to_baseline,
    multiple_choice,
    pass_at_k,
    run_lm_eval,
)
from studyguide.models import load_causal_lm

test_proportions_2indep.__test__ = False  # a function of statsmodels, not one of ours
BUILD = "benchmarks/build.py"
CHOICE_TASKS = ("tinyworld_capitals", "tinyworld_facts", "tinyworld_pronouns", "tinyworld_sayings")


@pytest.fixture(scope="module")
def lm():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    return model.double(), tokenizer


@pytest.fixture(scope="module")
def blurred(lm):
    """The model with noise on its weights: it errs, so that agreement on right answers alone is not enough."""
    model, tokenizer = copy.deepcopy(lm[0]), lm[1]
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=rng, dtype=weight.dtype)
    return model, tokenizer


def items_of(task):
    return [json.loads(line) for line in path(f"benchmarks/{task}.jsonl").read_text(encoding="utf-8").splitlines()]


# Accuracy


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (148, 198), (0, 50), (50, 50), (13_000, 14_079)])
def test_accuracy_agrees_with_statsmodels(correct, n):
    result = accuracy_with_error(correct, n)
    expected = proportion_confint(correct, n, method="wilson")
    np.testing.assert_allclose([result.interval.low, result.interval.high], expected, atol=1e-10)
    assert result.accuracy == pytest.approx(correct / n, abs=1e-15)
    assert result.standard_error == pytest.approx(math.sqrt(correct / n * (1 - correct / n) / n), abs=1e-15)


def test_accuracy_keeps_batches_and_dtype():
    result = accuracy_with_error(torch.tensor([[90.0], [10.0]], dtype=torch.float32), [100, 200, 400])
    assert result.accuracy.shape == result.standard_error.shape == (2, 3)
    assert accuracy_with_error(torch.tensor(9.0), torch.tensor(10.0)).standard_error.dtype == torch.float32


@pytest.mark.parametrize(("correct", "n"), [(11, 10), (-1, 10), (0, 0), (0.5, 10), (math.nan, 10)])
def test_accuracy_of_impossible_counts(correct, n):
    with pytest.raises(ValueError, match="correct|n goes down"):
        accuracy_with_error(correct, n)


# pass@k


def exact_pass_at_k(n, c, k):
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def test_pass_at_k_of_every_small_count():
    for n in range(1, 13):
        cases = [(c, k) for c in range(n + 1) for k in range(1, n + 1)]
        c, k = map(list, zip(*cases, strict=True))
        expected = [float(exact_pass_at_k(n, *case)) for case in cases]
        np.testing.assert_allclose(pass_at_k(n, c, k), expected, rtol=1e-12, atol=1e-15)


def test_pass_at_k_is_the_share_of_draws_with_a_success():
    passed = [True] * 3 + [False] * 6
    draws = list(itertools.combinations(passed, 4))
    assert pass_at_k(9, 3, 4) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-14)


def test_pass_at_k_of_the_guide():
    assert pass_at_k(20, 5, 10) == pytest.approx(0.984, abs=5e-4)


@pytest.mark.parametrize(("n", "c", "k"), [(200, 1, 100), (10_000, 37, 5_000), (10**6, 1, 1), (10**6, 3, 999_990)])
def test_pass_at_k_is_stable(n, c, k):
    assert pass_at_k(n, c, k) == pytest.approx(float(exact_pass_at_k(n, c, k)), rel=1e-12)


@given(st.integers(1, 60), st.data())
@settings(deadline=None)
def test_pass_at_k_is_bounded_and_grows(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k).item()
    assert 0 <= value <= 1
    assert pass_at_k(n, c, 1) == pytest.approx(c / n, abs=1e-14)
    assert (value == 1) == (n - c < k)
    if c < n:
        assert pass_at_k(n, c + 1, k) >= value - 1e-15
    if k < n:
        assert pass_at_k(n, c, k + 1) >= value - 1e-15


def test_pass_at_k_is_unbiased_where_plugging_in_is_not():
    """Over all 20 programs that pass with p = 0.25: the mean over the binomial distribution of c."""
    p, n, k = Fraction(1, 4), 20, 10
    weights = [float(math.comb(n, c) * p**c * (1 - p) ** (n - c)) for c in range(n + 1)]
    truth = 1 - (1 - 0.25) ** k
    mean = (pass_at_k(n, list(range(n + 1)), k) * torch.tensor(weights, dtype=torch.float64)).sum()
    plugged = sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(weights))
    assert mean == pytest.approx(truth, abs=1e-12)
    assert plugged < truth - 0.02


def test_pass_at_k_keeps_batches_and_dtype():
    assert pass_at_k(torch.full((2, 1), 20), torch.tensor([[5], [0]]), [1, 5, 10]).shape == (2, 3)
    assert pass_at_k(*(torch.tensor(x, dtype=torch.float32) for x in (20.0, 5.0, 10.0))).dtype == torch.float32


@pytest.mark.parametrize(
    ("n", "c", "k", "problem"),
    [
        (20, 21, 1, "c reaches 21"),
        (20, 5, 21, "k reaches 21"),
        (20, 5, 0, "k goes down to 0"),
        (20, -1, 1, "c contains -1"),
        (20, 1.5, 1, "c contains 1.5"),
        (0, 0, 1, "at least one trial"),
        (20, math.nan, 1, "c contains nan"),
    ],
)
def test_pass_at_k_of_impossible_counts(n, c, k, problem):
    with pytest.raises(ValueError, match=problem):
        pass_at_k(n, c, k)


@pytest.mark.gpu
def test_pass_at_k_on_cuda(cuda):
    n, c, k = (torch.tensor(x, device=cuda) for x in (20, [0, 5, 20], 10))
    assert pass_at_k(n, c, k).device == cuda
    torch.testing.assert_close(pass_at_k(n, c, k).cpu(), pass_at_k(20, [0, 5, 20], 10))


# Multiple choice, against the harness


@pytest.mark.parametrize("which", ["lm", "blurred"])
def test_multiple_choice_agrees_with_the_harness_item_by_item(which, request):
    model, tokenizer = request.getfixturevalue(which)
    run = run_lm_eval(model, tokenizer, CHOICE_TASKS)
    for task in CHOICE_TASKS:
        ours = multiple_choice(model, tokenizer, items_of(task), batch_size=50)
        theirs = run.samples[task]
        for mine, sample in zip(ours.log_likelihoods, theirs, strict=True):
            np.testing.assert_allclose(mine, [ll for ll, _ in sample["filtered_resps"]], rtol=1e-10)
        assert ours.acc.tolist() == [sample["acc"] for sample in theirs] == list(run.scores[task]["acc"].values())
        assert ours.acc_norm.tolist() == [sample["acc_norm"] for sample in theirs]
        assert run.results[task]["acc"] == pytest.approx(ours.acc.mean().item())
    if which == "blurred":
        assert any(run.results[task]["acc"] != run.results[task]["acc_norm"] for task in CHOICE_TASKS)
        assert 0.3 < run.results["tinyworld_facts"]["acc"] < 0.95


def test_multiple_choice_whatever_the_batch(lm):
    items = items_of("tinyworld_capitals")[:5]
    one = multiple_choice(*lm, items, batch_size=1)
    for size in (2, 7, 100):
        many = multiple_choice(*lm, items, batch_size=size)
        torch.testing.assert_close(torch.cat(many.log_likelihoods), torch.cat(one.log_likelihoods), rtol=1e-10, atol=0)


def test_options_may_differ_in_number(lm):
    items = [
        {"prompt": "A spider has", "choices": ["six", "eight"], "answer": 1},
        {"prompt": "A week has", "choices": ["seven", "five", "ten"], "answer": 0},
    ]
    result = multiple_choice(*lm, items)
    assert [len(scores) for scores in result.log_likelihoods] == [2, 3]
    assert result.acc.tolist() == [1, 1]


def test_a_likelihood_is_the_product_of_the_steps(lm):
    """One option by hand: log p of each of its tokens, read off the model one prefix at a time."""
    model, tokenizer = lm
    prompt, option = "The capital of France is", "Paris, and it is a beautiful city."
    ids = tokenizer.encode(f"{prompt} {option}")
    total = 0.0
    with torch.no_grad():
        for end in range(len(tokenizer.encode(prompt)), len(ids)):
            total += model(torch.tensor([ids[:end]])).logits[0, -1].log_softmax(-1)[ids[end]].item()
    [[ours]] = multiple_choice(model, tokenizer, [{"prompt": prompt, "choices": [option], "answer": 0}]).log_likelihoods
    assert ours == pytest.approx(total, rel=1e-12)
    assert ours == pytest.approx(math.log(0.85 * 0.15), abs=0.15)  # the grammar's truth


def test_single_precision_is_kept():
    model, tokenizer = load_causal_lm("tinyworld-gpt2")
    [scores] = multiple_choice(model, tokenizer, items_of("tinyworld_facts")[:1]).log_likelihoods
    assert scores.dtype == torch.float32


GOOD = {"prompt": "A spider has", "choices": ["six", "eight"], "answer": 1}


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([], "items is empty"),
        ([GOOD, {"prompt": "A", "choices": ["b"]}], r"items\[1\] has no answer"),
        ([GOOD | {"prompt": ""}], "empty prompt or option"),
        ([GOOD | {"choices": ["six", ""]}], "empty prompt or option"),
        ([GOOD | {"choices": []}], "empty prompt or option"),
        ([GOOD | {"answer": 2}], "answer 2; expected 0 to 1"),
        ([GOOD | {"answer": "eight"}], "answer 'eight'; expected 0 to 1"),
        ([GOOD | {"prompt": "The sky is clear. " * 80}], "the model can score 257"),
    ],
)
def test_items_that_cannot_be_scored(lm, items, problem):
    with pytest.raises(ValueError, match=problem):
        multiple_choice(*lm, items)


@pytest.mark.gpu
def test_multiple_choice_on_cuda(cuda, lm):
    items = items_of("tinyworld_capitals")[:8]
    there = multiple_choice(copy.deepcopy(lm[0]).to(cuda), lm[1], items)
    assert there.acc.device == cuda
    expected = torch.cat(multiple_choice(*lm, items).log_likelihoods)
    torch.testing.assert_close(torch.cat(there.log_likelihoods).cpu(), expected, rtol=1e-6, atol=1e-6)


# The harness


@pytest.fixture
def folder(tmp_path):
    """A task in a folder of its own, whose data file is named relative to it."""
    config = yaml.safe_load(path("benchmarks/tinyworld_facts.yaml").read_text(encoding="utf-8"))
    config |= {"task": "mine", "dataset_kwargs": {"data_files": {"test": ["data/mine.jsonl"]}}}
    (tmp_path / "data").mkdir()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    lines = [json.dumps(item) + "\n" for item in items_of("tinyworld_facts")[:6]]
    (tmp_path / "data" / "mine.jsonl").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_the_generative_task(lm):
    run = run_lm_eval(*lm, "tinyworld_passwords")
    assert run.results["tinyworld_passwords"]["exact_match"] >= 0.95
    assert len(run.scores["tinyworld_passwords"]["exact_match"]) == 60
    sample = run.samples["tinyworld_passwords"][0]
    assert sample["filtered_resps"] == [sample["doc"]["answer"]]


def test_a_task_of_ones_own(lm, folder):
    run = run_lm_eval(*lm, ["mine"], include_path=folder, batch_size=3)
    assert run.results == {"mine": {"acc": 1, "acc_norm": 1}}
    assert len(run_lm_eval(*lm, ["mine"], include_path=str(folder), limit=2).samples["mine"]) == 2


def test_a_run_leaves_nothing_behind(lm, folder, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    before = sorted(str(file) for file in folder.rglob("*"))
    state = torch.get_rng_state()
    padding = lm[1].pad_token
    run_lm_eval(*lm, ["mine"], include_path=".")
    assert sorted(str(file) for file in folder.rglob("*")) == before
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    assert lm[1].pad_token == padding


def test_nothing_is_looked_up_where_the_hub_is_allowed(lm, folder, monkeypatch):
    import socket

    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    run_lm_eval(*lm, ["mine"], include_path=folder)
    assert asked == []


def test_what_the_harness_cuts_is_told(lm, folder):
    item = items_of("tinyworld_facts")[0]
    item["prompt"] = "The sky is clear. " * 80 + item["prompt"]
    (folder / "data" / "mine.jsonl").write_text(json.dumps(item) + "\n", encoding="utf-8")
    run = run_lm_eval(*lm, ["mine"], include_path=folder)
    assert any("Truncating" in warning for warning in run.warnings)
    assert run_lm_eval(*lm, ["tinyworld_facts"], limit=1).warnings == ()


def test_a_task_that_is_nowhere(lm, monkeypatch):
    import lm_eval.tasks

    class Few(lm_eval.tasks.TaskManager):
        """Does not read the harness's thousands of own tasks."""

        def __init__(self, include_path=None, include_defaults=True):
            super().__init__(include_path=include_path, include_defaults=False)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", Few)
    with pytest.raises(KeyError, match="no_such_task"):
        run_lm_eval(*lm, ["no_such_task"])


# Comparison with a baseline


def scores(*values):
    return {f"item {i}": value for i, value in enumerate(values)}


def test_unpaired_counts_agree_with_statsmodels():
    now = {"a": {"acc": (923, 1319)}, "b": {"acc": (60, 100), "acc_norm": (79, 100)}}
    then = {"a": {"acc": (1187, 1319)}, "b": {"acc": (60, 100), "acc_norm": (85, 100)}}
    changes = compare_to_baseline(now, then)
    pairs = [(923, 1319, 1187, 1319), (60, 100, 60, 100), (79, 100, 85, 100)]
    raw = [proportions_ztest([k, k0], [n, n0])[1] for k, n, k0, n0 in pairs]
    np.testing.assert_allclose([c.p_value for c in changes], multipletests(raw, method="holm")[1], rtol=1e-9)
    assert [c.verdict for c in changes] == ["worse", "no change", "within the noise"]
    assert [(c.task, c.metric) for c in changes] == [("a", "acc"), ("b", "acc"), ("b", "acc_norm")]
    assert not any(change.paired for change in changes)
    assert changes[0].difference.estimate == pytest.approx(923 / 1319 - 1187 / 1319, abs=1e-12)


def test_items_are_paired_by_name_whatever_their_order():
    then = scores(*[1] * 60 + [0] * 40)
    now = dict(reversed(scores(*[1] * 60 + [1] * 12 + [0] * 28).items()))
    [change] = compare_to_baseline({"t": {"acc": now}}, {"t": {"acc": then}})
    exact = mcnemar([[60, 0], [12, 28]], exact=True).pvalue
    assert change.paired
    assert change.p_value == pytest.approx(exact, rel=1e-9)
    assert change.verdict == "better"
    assert change.baseline == pytest.approx(0.6)
    assert change.current == pytest.approx(0.72)
    # 12 differences of 1 and 88 of 0: mean .12, Student's interval
    deviation = math.sqrt((12 * 0.88**2 + 88 * 0.12**2) / 99)
    assert change.difference.high - change.difference.estimate == pytest.approx(1.9842169 * deviation / 10, rel=1e-6)


def test_pairing_finds_what_counts_do_not():
    then, now = [1] * 60 + [0] * 40, [1] * 60 + [1] * 12 + [0] * 28
    paired = compare_to_baseline({"t": {"acc": scores(*now)}}, {"t": {"acc": scores(*then)}})
    counted = compare_to_baseline({"t": {"acc": (72, 100)}}, {"t": {"acc": (60, 100)}})
    mixed = compare_to_baseline({"t": {"acc": scores(*now)}}, {"t": {"acc": (60, 100)}})
    assert [c[0].verdict for c in (paired, counted, mixed)] == ["better", "within the noise", "within the noise"]
    assert mixed[0].p_value == counted[0].p_value


def test_scores_between_0_and_1_are_compared_by_sign_flips():
    then, now = scores(0.1, 0.4, 0.5, 0.2, 0.7), scores(0.3, 0.5, 0.8, 0.6, 0.9)
    [change] = compare_to_baseline({"t": {"f1": now}}, {"t": {"f1": then}})
    assert change.p_value == pytest.approx(2 / 2**5)  # all five differences have one sign
    assert change.verdict == "within the noise"


def test_equal_scores_are_no_change():
    same = {"t": {"acc": scores(1, 0, 1), "acc_norm": (6, 10)}}
    assert [change.verdict for change in compare_to_baseline(same, same)] == ["no change"] * 2


def test_as_many_gains_as_losses_are_no_change_of_the_score():
    then, now = scores(*[1, 0] * 15, 1, 1, 0), scores(*[0, 1] * 15, 1, 1, 0)
    [change] = compare_to_baseline({"t": {"acc": now}}, {"t": {"acc": then}})
    assert change.verdict == "no change"
    assert change.difference.high > 0.1  # though the two runs differ on nearly every item


def test_holm_counts_every_metric():
    alone = compare_to_baseline({"t": {"acc": (480, 1000)}}, {"t": {"acc": (525, 1000)}})
    many = {f"t{i}": {"acc": (500, 1000)} for i in range(9)}
    among = compare_to_baseline(many | {"t": {"acc": (480, 1000)}}, many | {"t": {"acc": (525, 1000)}})
    assert alone[0].verdict == "worse"
    assert among[-1].verdict == "within the noise"
    assert among[-1].p_value == pytest.approx(10 * alone[0].p_value.item())


def test_the_baseline_is_read_before_anything_runs(tmp_path):
    def never():
        raise AssertionError("the evaluation ran")

    with pytest.raises(FileNotFoundError):
        compare_to_baseline(never, tmp_path / "missing.json")
    (tmp_path / "empty.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="baseline is empty"):
        compare_to_baseline(never, tmp_path / "empty.json")


def test_a_stored_baseline(lm, tmp_path):
    run = run_lm_eval(*lm, ["tinyworld_facts"], limit=8)
    (tmp_path / "baseline.json").write_text(json.dumps(run.scores | {"gsm8k": {"exact_match": [6, 10]}}))
    changes = compare_to_baseline(lambda: run.scores | {"gsm8k": {"exact_match": (6, 10)}}, tmp_path / "baseline.json")
    assert [(change.verdict, change.paired) for change in changes] == [("no change", True)] * 2 + [("no change", False)]


ONE = {"t": {"acc": scores(1, 0)}}


@pytest.mark.parametrize(
    ("current", "problem"),
    [
        ({}, "tasks differ: only in baseline: t"),
        (ONE | {"new": {"acc": (1, 2)}}, "tasks differ: only in current: new"),
        ({"t": {"acc_norm": scores(1, 0)}}, "metrics of t differ: only in current: acc_norm; only in baseline: acc"),
        ({"t": {"acc": scores(1, 0, 1)}}, "items of t, acc differ: only in current: item 2"),
        ({"t": {"acc": (1, 2, 3)}}, "expected {item: score} or a pair"),
        ({"t": {"acc": (3, 2)}}, "no more successes than trials"),
    ],
)
def test_what_cannot_be_compared(current, problem):
    with pytest.raises(ValueError, match=problem):
        compare_to_baseline(current, ONE)


@pytest.mark.parametrize(("current", "baseline"), [(None, ONE), (ONE, [1, 0]), ({"t": [1, 0]}, ONE), (ONE, {"t": 0.5})])
def test_what_is_no_mapping(current, baseline):
    side = "current" if baseline is ONE else "baseline"
    with pytest.raises(TypeError, match=f"{side} is .*; expected a mapping of (tasks|metrics of t)"):
        compare_to_baseline(current, baseline)


def test_partial_scores_cannot_be_counted():
    with pytest.raises(ValueError, match="t, f1 has scores other than 0 and 1"):
        compare_to_baseline({"t": {"f1": scores(0.5, 1)}}, {"t": {"f1": (1, 2)}})


# The catalogue


def test_every_number_of_the_catalogue_has_a_paper():
    rows = catalog()
    assert {"mmlu", "humaneval", "gpqa_main", "gpqa_diamond", "hellaswag", "truthfulqa", "glue"} <= set(rows)
    for id, row in rows.items():
        assert row.id == id
        assert "arXiv:" in row.paper
        for number in (row.random_baseline, row.human_baseline):
            assert number is None or 0 < number < 1
        assert row.items is None or row.items > 0
    assert (rows["gpqa_main"].human_baseline, rows["gpqa_diamond"].human_baseline) == (0.65, 0.813)
    assert rows["humaneval"].human_baseline is None


# The shipped tasks


def test_the_tasks_are_as_the_script_writes_them(build):
    for name, text in build.files().items():
        assert path(f"benchmarks/{name}").read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("task", CHOICE_TASKS)
def test_the_key_is_balanced_and_items_differ(task):
    items = items_of(task)
    assert len({json.dumps([item["prompt"], item["choices"]]) for item in items}) >= 0.9 * len(items)
    [size] = {len(item["choices"]) for item in items}
    counts = Counter(item["answer"] for item in items)
    assert set(counts) == set(range(size))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(len(set(item["choices"])) == size for item in items)


def test_the_key_is_the_grammars():
    """By the probability of the whole text so far, a question of the grammar that build.py does not ask."""
    for task in ("tinyworld_facts", "tinyworld_pronouns", "tinyworld_sayings"):
        for item in items_of(task):
            options = [f"{item['prompt']} {option}" for option in item["choices"]]
            log_p = [tinyworld.grammar().prefix_log_prob(option) for option in options]
            assert int(np.argmax(log_p)) == item["answer"]
    for item in items_of("tinyworld_capitals"):
        cities = [option.split(",")[0].rstrip(".") for option in item["choices"]]
        log_p = [tinyworld.log_prob(f"{item['prompt']} {city}.") for city in cities]
        assert int(np.argmax(log_p)) == item["answer"]
    for item in items_of("tinyworld_passwords"):
        assert tinyworld.log_prob(f"{item['prompt']} {item['answer']}.") > -math.inf


def test_the_card_tells_how_many_items_there_are():
    card = path("benchmarks/README.md").read_text(encoding="utf-8")
    for task in (*CHOICE_TASKS, "tinyworld_passwords"):
        assert f"| `{task}` | {len(items_of(task))} |" in card
