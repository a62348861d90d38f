"""GLUE's metrics against scikit-learn and scipy, and what is refused."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from studyguide.statistics.glue import TASKS, glue_metrics

NINE = ["cola", "sst2", "mrpc", "qqp", "stsb", "qnli", "rte", "wnli"]  # and MNLI, in two parts
ACCURACY_ALONE = ["sst2", "mnli_matched", "mnli_mismatched", "qnli", "rte", "wnli"]
LABELLED = [task for task in TASKS if task != "stsb"]
grades = st.lists(st.tuples(st.integers(-20, 60), st.integers(0, 25)), min_size=2, max_size=25)


def close(actual, expected, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


def random_labels(task, n, seed):
    rng = np.random.default_rng(seed)
    k = 3 if task.startswith("mnli") else 2
    return rng.integers(0, k, n), rng.integers(0, k, n)


def test_all_nine_tasks_are_there():
    assert set(TASKS) == {*NINE, "mnli_matched", "mnli_mismatched"}


@pytest.mark.parametrize("task", LABELLED)
@pytest.mark.parametrize("n", [2, 5, 1000])
def test_labels_agree_with_scikit_learn(task, n):
    for seed in range(5):
        predictions, references = random_labels(task, n, seed)
        expected = {"accuracy": metrics.accuracy_score(references, predictions)}
        if task in ("mrpc", "qqp"):
            expected["f1"] = metrics.f1_score(references, predictions, zero_division=0)
        if task == "cola":
            expected = {"matthews_correlation": metrics.matthews_corrcoef([*references, 0], [*predictions, 1])}
            predictions, references = [*predictions, 1], [*references, 0]
        ours = glue_metrics(task, predictions, references)
        assert list(ours) == list(expected)
        for name, value in ours.items():
            close(value, expected[name])


def test_by_hand():
    # paraphrases: two found of three, one of four wrong
    mrpc = glue_metrics("mrpc", predictions=[1, 1, 0, 0], references=[1, 1, 1, 0])
    close(mrpc["accuracy"], 3 / 4)
    close(mrpc["f1"], 2 * 2 / (2 * 2 + 0 + 1))
    close(glue_metrics("mnli_matched", [0, 1, 2, 2], [0, 1, 2, 0])["accuracy"], 3 / 4)
    # 60 acceptable, 40 not, of which 50 and 20 are found
    predictions, references = [1] * 50 + [0] * 10 + [1] * 20 + [0] * 20, [1] * 60 + [0] * 40
    close(
        glue_metrics("cola", predictions, references)["matthews_correlation"],
        (50 * 20 - 20 * 10) / math.sqrt(70 * 60 * 30 * 40),
    )
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
    close(glue_metrics("stsb", [1, 2, 2, 5], [0, 1, 2, 3])["spearmanr"], 4.5 / math.sqrt(4.5 * 5))


def test_constant_predictions_have_defined_values():
    references = [1] * 7 + [0] * 3
    assert glue_metrics("cola", [1] * 10, references)["matthews_correlation"] == 0
    close(glue_metrics("sst2", [1] * 10, references)["accuracy"], 0.7)
    never = glue_metrics("qqp", [0] * 10, references)
    assert never["f1"] == 0
    close(never["accuracy"], 0.3)
    assert glue_metrics("mrpc", [0, 0], [0, 0])["f1"] == 0  # scikit-learn's zero_division=0: no paraphrase anywhere
    assert glue_metrics("wnli", [1], [1])["accuracy"] == 1


@settings(deadline=None, max_examples=100)
@given(grades)
def test_grades_agree_with_scipy(items):
    predictions, references = (np.array(side) / 5 for side in zip(*items, strict=True))
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        with pytest.raises(ValueError, match="expected different values: a constant has no correlation"):
            glue_metrics("stsb", predictions, references)
        return
    ours = glue_metrics("stsb", predictions, references)
    close(ours["pearson"], stats.pearsonr(predictions, references).statistic)
    close(ours["spearmanr"], stats.spearmanr(predictions, references).statistic)
    assert all(-1 <= value <= 1 for value in ours.values())
    close(glue_metrics("stsb", 3 * predictions + 1, references)["pearson"], ours["pearson"].item())


def test_grades_that_overflow_when_squared():
    ours = glue_metrics("stsb", [1e200, 2e200, 4e200], [1, 2, 4])
    close(ours["pearson"], 1.0)
    tiny = glue_metrics("stsb", [1e-310, 2e-310, 4e-310], [1, 2, 4])
    close(tiny["pearson"], 1.0, rtol=1e-9)
    close(glue_metrics("stsb", [1, 2], [5, 0])["spearmanr"], -1.0)


def test_float32_is_kept():
    ours = glue_metrics("stsb", torch.tensor([0.5, 2.0, 3.0]), torch.tensor([1.0, 2.0, 5.0]))
    assert {value.dtype for value in ours.values()} == {torch.float32}


@pytest.mark.parametrize("task", ["imdb", "CoLA", "", None, "ax"])
def test_an_unknown_task_lists_the_known_ones(task):
    with pytest.raises(ValueError, match=f"task is {re.escape(repr(task))}; expected one of 'cola', 'sst2', .*'wnli'"):
        glue_metrics(task, [0], [0])


def test_mnli_must_say_which_test_set():
    with pytest.raises(ValueError, match="expected 'mnli_matched' or 'mnli_mismatched'"):
        glue_metrics("mnli", [0], [0])


@pytest.mark.parametrize(
    ("task", "predictions", "references", "error", "message"),
    [
        ("qqp", [0, 2], [0, 1], ValueError, "predictions contains 2; the labels of qqp are 0 to 1"),
        ("rte", [0, 1], [-1, -1], ValueError, "references contains -1; the labels of rte are 0 to 1"),
        ("mnli_matched", [0, 3], [0, 1], ValueError, "predictions contains 3; the labels of mnli_matched are 0 to 2"),
        ("sst2", ["good"], ["bad"], ValueError, "references contains 'bad'; the labels of sst2 are 0 to 1"),
        ("cola", [0, 1], [0], ValueError, "references has 1 labels, predictions 2; expected as many"),
        ("cola", [], [], ValueError, r"references has shape \(0,\)"),
        ("cola", [0.2], [0], TypeError, "predictions has dtype torch.float64; expected labels"),
        ("stsb", [1, 2], [1, 2, 3], ValueError, r"predictions has shape \(2,\), references \(3,\); expected \(n,\)"),
        ("stsb", [[1, 2]], [[1, 2]], ValueError, r"predictions has shape \(1, 2\)"),
        ("stsb", [1, 2], [1, 5.1], ValueError, "references contains 5.1; the grades of stsb are 0 to 5"),
        ("stsb", [1, 2], [-1, 5], ValueError, "references contains -1; the grades of stsb are 0 to 5"),
        ("stsb", [2.5, 2.5], [1, 2], ValueError, "predictions are all 2.5; expected different values"),
        ("stsb", [1, 2], [3, 3], ValueError, "references are all 3; expected different values"),
        ("stsb", [1], [3], ValueError, "predictions are all 1; expected different values"),
        ("stsb", [1, math.nan], [3, 4], ValueError, "predictions contains nan"),
        ("stsb", [], [], ValueError, "predictions is empty"),
    ],
)
def test_errors_name_the_argument(task, predictions, references, error, message):
    with pytest.raises(error, match=message):
        glue_metrics(task, predictions, references)


@pytest.mark.gpu
@pytest.mark.parametrize("task", TASKS)
def test_cuda_agrees_with_cpu(task):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    predictions, references = (torch.tensor(side) for side in random_labels(task, 500, seed=0))
    on_gpu = glue_metrics(task, predictions.cuda(), references.cuda())
    for name, value in glue_metrics(task, predictions, references).items():
        assert on_gpu[name].is_cuda
        close(on_gpu[name].cpu(), value.item())
