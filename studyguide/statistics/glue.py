"""The metrics of GLUE: nine tasks, each with the metric that its authors chose for it."""

from studyguide.probability.validation import common_dtype, one_of, samples
from studyguide.statistics.classification import matthews_correlation, precision_recall_f1, tally

# What each task scores, and how many labels it has (0 up to one less); STS-B has grades from 0 to 5 instead.
TASKS = {
    "cola": (("matthews_correlation",), 2),
    "sst2": (("accuracy",), 2),
    "mrpc": (("accuracy", "f1"), 2),
    "qqp": (("accuracy", "f1"), 2),
    "stsb": (("pearson", "spearmanr"), None),
    "mnli_matched": (("accuracy",), 3),
    "mnli_mismatched": (("accuracy",), 3),
    "qnli": (("accuracy",), 2),
    "rte": (("accuracy",), 2),
    "wnli": (("accuracy",), 2),
}
LABEL_METRICS = {
    "accuracy": lambda references, predictions: precision_recall_f1(references, predictions, average="micro").f1,
    "f1": lambda references, predictions: precision_recall_f1(references, predictions, labels=[0, 1]).f1[1],
    "matthews_correlation": matthews_correlation,
}


def glue_metrics(task, predictions, references):
    """The official metrics of a GLUE task, {name: value}.

    cola: matthews_correlation. mrpc, qqp: accuracy, and f1 of class 1 (a paraphrase). stsb: pearson and spearmanr.
    sst2, mnli_matched, mnli_mismatched, qnli, rte, wnli: accuracy. Where a task has two, its GLUE score is their mean.

    Shapes: predictions and references (n,), values 0-d. Integer labels: 0 or 1, or 0 to 2 for MNLI. Grades of stsb:
    references from 0 to 5, predictions any finite numbers. Range: 0 to 1; correlations -1 to 1.
    Errors: an unknown task; "mnli", which has two test sets that are reported apart; other labels, such as the -1 that
    stands for GLUE's hidden ones; for stsb a constant side, with which nothing correlates.
    Convention: a constant prediction scores 0 on cola (`matthews_correlation`), and f1 0 if it is never 1.
    Source: Wang et al. (2019), "GLUE: A Multi-Task Benchmark and Analysis Platform", table 1. Names as in HF `evaluate`.

    >>> glue_metrics("mrpc", predictions=[1, 1, 0, 0], references=[1, 1, 1, 0])
    {'accuracy': tensor(0.7500, dtype=torch.float64), 'f1': tensor(0.8000, dtype=torch.float64)}
    """
    if task == "mnli":
        raise ValueError("task is 'mnli', which has two test sets; expected 'mnli_matched' or 'mnli_mismatched'")
    names, n_labels = TASKS[one_of("task", task, TASKS)]
    if n_labels is None:
        return _correlations(predictions, references)
    labels, counts = tally(references=references, predictions=predictions)
    for label, row in zip(labels, counts, strict=True):
        if label not in range(n_labels):
            side = "references" if row.any() else "predictions"
            raise ValueError(f"{side} contains {label!r}; the labels of {task} are 0 to {n_labels - 1}")
    return {name: LABEL_METRICS[name](references, predictions) for name in names}


def _correlations(predictions, references):
    predictions, references = samples(predictions=predictions, references=references)
    if predictions.ndim > 1 or predictions.shape != references.shape:
        shapes = f"predictions has shape {tuple(predictions.shape)}, references {tuple(references.shape)}"
        raise ValueError(f"{shapes}; expected (n,), a number for each item")
    if references.amin() < 0 or references.amax() > 5:
        odd = references[(references < 0) | (references > 5)][0]
        raise ValueError(f"references contains {odd:g}; the grades of stsb are 0 to 5")
    for name, side in (("predictions", predictions), ("references", references)):
        if (side == side[0]).all():
            raise ValueError(f"{name} are all {side[0]:g}; expected different values: a constant has no correlation")
    pearson = _pearson(predictions.double(), references.double())
    spearman = _pearson(_ranks(predictions), _ranks(references))
    dtype, _ = common_dtype(predictions, references)
    return {"pearson": pearson.to(dtype), "spearmanr": spearman.to(dtype)}


def _pearson(x, y):
    units = []
    for side in (x, y):
        scaled = side / side.abs().amax()  # so that no square overflows
        centred = scaled - scaled.mean()
        units.append(centred / centred.norm())
    return (units[0] * units[1]).sum().clamp(-1, 1)


def _ranks(x):
    """Ranks from 1, the mean rank for equal values."""
    _, place, counts = x.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[place]
