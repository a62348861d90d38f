"""How a benchmark score is made, how far it can be trusted, and which differences between scores are real.

Multiple choice by log-likelihood, with our own few lines and with the lm-evaluation-harness; pass@k; a catalogue of
public benchmarks; and a comparison of two runs that knows about error.
"""

import contextlib
import copy
import io
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from studyguide.datasets import path as data_path
from studyguide.language.perplexity import token_log_likelihoods
from studyguide.statistics.hypothesis import adjust_p_values, compare_models, two_proportion_z_test
from studyguide.statistics.intervals import Interval, proportion_interval, trials

# One score


@dataclass(frozen=True, eq=False)
class Accuracy:
    """A share of right answers, and how far it can be trusted."""

    accuracy: torch.Tensor
    standard_error: torch.Tensor  # sqrt(p (1 - p) / n)
    interval: Interval  # Wilson's


def accuracy_with_error(correct, n, confidence=0.95):
    """The accuracy of `correct` right answers in `n` items, with its standard error and Wilson's interval.

    Shapes: correct and n broadcast to the results. Range: 0 to 1.
    Errors: counts that are not whole, below 0 or above n; n of 0.
    Convention: the items are taken for a random draw of all that could be asked, and independent. The standard error
    divides by n (the harness by n - 1); it is 0 where all items are right or all wrong, which the interval corrects.
    Source: Miller (2024), "Adding Error Bars to Evals"; Wilson (1927).

    >>> print(accuracy_with_error(148, 198).interval)
    0.7475 (95 % interval 0.6826 to 0.8029)
    """
    (k, size), dtype = trials(correct=correct, n=n)
    p = k / size
    interval = proportion_interval(correct, n, confidence)
    return Accuracy(interval.estimate, (p * (1 - p) / size).sqrt().to(dtype), interval)


def pass_at_k(n, c, k):
    """The chance that at least one of `k` programs passes, of `n` that were sampled and of which `c` pass.

    ``1 - C(n - c, k) / C(n, k)``: what drawing k of the n without replacement gives, on average. It is unbiased for
    ``1 - (1 - p)^k``; putting c / n for p there is not: it is too low on average.

    Shapes: n, c and k broadcast to the result. Range: 0 (c = 0) to 1 (fewer than k fail).
    Errors: counts that are not whole; c outside 0 to n; k outside 1 to n.
    Convention: a product of min(c, k) factors, summed in logarithms: no binomial coefficient is formed.
    Source: Chen et al. (2021), "Evaluating Large Language Models Trained on Code", section 2.1.

    >>> pass_at_k(20, 5, [1, 10])
    tensor([0.2500, 0.9837], dtype=torch.float64)
    """
    (c, n, k, _), dtype = trials(c=c, n=n, k=k, n_again=n)
    if (k < 1).any():
        raise ValueError(f"k goes down to {k.amin():g}; expected at least 1")
    fewer, more = torch.minimum(c, k)[..., None], torch.maximum(c, k)[..., None]
    step = torch.arange(int(fewer.amax()), device=n.device)
    ratio = (more / (n[..., None] - step)).clamp(max=1)
    return -torch.where(step < fewer, torch.log1p(-ratio), 0.0).sum(-1).expm1().to(dtype)


# Multiple choice


@dataclass(frozen=True, eq=False)
class MultipleChoice:
    """How a model answers multiple-choice items; tensors have one number per item."""

    log_likelihoods: tuple  # of one tensor per item: log p(option | prompt) in nats
    chosen: torch.Tensor  # the option of the highest log-likelihood
    chosen_norm: torch.Tensor  # that of the highest log-likelihood per character
    acc: torch.Tensor  # 1 where `chosen` is the answer
    acc_norm: torch.Tensor  # 1 where `chosen_norm` is


def multiple_choice(model, tokenizer, items, batch_size=32):
    """Let a language model answer multiple-choice items by the log-likelihood of each option after the prompt.

    Shapes: `items` are mappings with "prompt" (text), "choices" (texts) and "answer" (the index of the right one).
    Errors: no items, an item without one of the three, an empty prompt or option, an index out of range, and an item
    that is longer than the model's context.
    Convention: a blank between prompt and option. The tokens of an option are those of prompt and option together
    beyond the tokens of the prompt alone. "norm" divides by the option's characters without the blank. All three as
    in the lm-evaluation-harness (`acc`, `acc_norm`). Of equal options the first is chosen.
    Source: Gao et al., lm-evaluation-harness; Brown et al. (2020), section 2.4, on normalising by length.

    >>> from studyguide.models import load_causal_lm
    >>> item = {"prompt": "The capital of France is", "choices": ["Lyon.", "Paris."], "answer": 1}
    >>> multiple_choice(*load_causal_lm("tinyworld-gpt2"), [item]).acc
    tensor([1.], dtype=torch.float64)
    """
    items = _checked_items(items)
    pairs = [_encoded(tokenizer, model, item["prompt"], option) for item in items for option in item["choices"]]
    sums = torch.cat([_continuations(model, pairs[i : i + batch_size]) for i in range(0, len(pairs), batch_size)])
    per_item = sums.split([len(item["choices"]) for item in items])
    lengths = [torch.tensor([float(len(option)) for option in item["choices"]]).to(sums) for item in items]
    answers = torch.tensor([item["answer"] for item in items], device=sums.device)
    chosen = torch.stack([scores.argmax() for scores in per_item])
    chosen_norm = torch.stack([(scores / n).argmax() for scores, n in zip(per_item, lengths, strict=True)])
    return MultipleChoice(
        per_item, chosen, chosen_norm, (chosen == answers).double(), (chosen_norm == answers).double()
    )


def _checked_items(items):
    items = list(items)
    if not items:
        raise ValueError("items is empty; expected at least one")
    for i, item in enumerate(items):
        if missing := {"prompt", "choices", "answer"} - set(item):
            raise ValueError(f"items[{i}] has no {', '.join(sorted(missing))}; expected prompt, choices and answer")
        if not item["prompt"] or not item["choices"] or not all(item["choices"]):
            raise ValueError(f"items[{i}] has an empty prompt or option; expected text")
        if item["answer"] not in range(len(item["choices"])):
            raise ValueError(f"items[{i}] has answer {item['answer']!r}; expected 0 to {len(item['choices']) - 1}")
    return items


def _encoded(tokenizer, model, prompt, option):
    """Token ids of prompt and option, and how many of them are the prompt's."""
    prompt_ids, ids = tokenizer.encode(prompt), tokenizer.encode(f"{prompt} {option}")
    limit = model.config.max_position_embeddings + 1  # the last token is a target only
    if len(ids) > limit:
        raise ValueError(f"{prompt!r} with {option!r} has {len(ids)} tokens; the model can score {limit}")
    if not 0 < len(prompt_ids) < len(ids):
        raise ValueError(f"{option!r} adds no token of its own to {prompt!r}")
    return ids, len(prompt_ids)


def _continuations(model, pairs):
    """(pairs,) log-likelihood of what follows the prompt, for token ids of unequal length, padded on the right."""
    width = max(len(ids) for ids, _ in pairs)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in pairs], device=model.device)
    place = torch.arange(width, device=model.device)
    lengths, starts = (
        torch.tensor(x, device=model.device)[:, None] for x in ([len(i) for i, _ in pairs], [n for _, n in pairs])
    )
    log_p = token_log_likelihoods(model, ids, attention_mask=(place < lengths).long())
    return torch.where(place[1:] >= starts, log_p, 0.0).sum(-1)


# The lm-evaluation-harness


@dataclass(frozen=True, eq=False)
class HarnessRun:
    """What the lm-evaluation-harness found."""

    results: dict  # {task: {metric: mean over the items}}
    scores: dict  # {task: {metric: {item: score}}}, the input of `compare_to_baseline`
    samples: dict  # {task: the harness's own record of each item: document, arguments, responses, ...}
    warnings: tuple  # what it warned of, such as prompts that it cut to the model's context


def run_lm_eval(model, tokenizer, tasks, include_path=None, batch_size=16, limit=None):
    """Evaluate a model that is in memory with EleutherAI's lm-evaluation-harness.

    `tasks` are names of tasks whose YAML files lie in the folder `include_path` (default: the course's own, in
    ``data/benchmarks``); data files that they name are looked for beside them. Nothing is fetched, and nothing is left
    behind: the harness's copy of the data is kept in a temporary folder. A name that is not there is looked up among
    the harness's thousands of own tasks, whose data come from the hub. `limit` takes the first so many items only.

    Errors: KeyError for a name that is nowhere; what the harness raises for a faulty task.
    Convention: `evaluate`, the harness's inner call, so that no seed of the process is set and no report on the machine
    is made. A metric that is no number per item (a corpus F1) is in `samples` only.
    Source: Gao et al., lm-evaluation-harness, github.com/EleutherAI/lm-evaluation-harness.

    >>> from studyguide.models import load_causal_lm
    >>> run = run_lm_eval(*load_causal_lm("tinyworld-gpt2"), ["tinyworld_facts"], limit=4)
    >>> run.results
    {'tinyworld_facts': {'acc': 1.0, 'acc_norm': 1.0}}
    """
    import datasets
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # even a local file would be reported to a server
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, _quiet() as warnings:
        loaded = _load_tasks(tasks, Path(include_path or data_path("benchmarks")), Path(scratch))
        lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
        for task in loaded["tasks"].values():
            task.set_fewshot_seed(1234)  # the harness's default
        output = evaluate(lm, loaded, limit=limit, bootstrap_iters=0)
    scores = {task: _item_scores(samples) for task, samples in output["samples"].items()}
    results = {
        task: {metric: sum(items.values()) / len(items) for metric, items in metrics.items()}
        for task, metrics in scores.items()
    }
    return HarnessRun(results, scores, output["samples"], tuple(warnings))


def _load_tasks(names, folder, scratch):
    """The harness's tasks; each task of `folder` through a file that sets the paths of its data."""
    from lm_eval.tasks import TaskManager

    names = [names] if isinstance(names, str) else list(names)
    known = TaskManager(include_path=folder, include_defaults=False).task_index
    specs = []
    for name in names:
        entry = known.get(name)
        if entry is None or entry.yaml_path is None:
            specs.append(name)
            continue
        kwargs = entry.cfg.get("dataset_kwargs") or {}
        if "data_files" in kwargs:
            kwargs = kwargs | {"data_files": _absolute(kwargs["data_files"], entry.yaml_path.parent.resolve())}
        config = {"include": str(entry.yaml_path.resolve()), "dataset_kwargs": kwargs | {"cache_dir": str(scratch)}}
        specs.append(str(scratch / f"{name}.yaml"))
        Path(specs[-1]).write_text(yaml.safe_dump(config | {"task": name}), encoding="utf-8")
    manager = TaskManager(include_path=folder, include_defaults=any(spec in names for spec in specs))
    return manager.load(specs)


def _absolute(files, folder):
    """Paths of data files, as nested as they come, seen from the folder of the task."""
    if isinstance(files, Mapping):
        return {split: _absolute(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder) for value in files]
    return files if "://" in files else str(folder / files)


def _item_scores(samples):
    scores = {}
    for sample in samples:
        suffix = "" if sample["filter"] == "none" else f",{sample['filter']}"
        for metric in sample["metrics"]:
            if isinstance(sample[metric], int | float):
                item = f"{sample['doc_id']}:{sample['doc_hash'][:12]}"
                scores.setdefault(metric + suffix, {})[item] = float(sample[metric])
    return scores


@contextlib.contextmanager
def _quiet():
    """No progress bars and no log lines; gives a list that collects the warnings that concern the evaluation."""
    from transformers import logging as transformers_logging

    collected = []

    class Collector(logging.Handler):
        def emit(self, record):
            message = record.getMessage()
            if "already-initialized model" not in message and "not of type `str`" not in message:
                collected.append(message)

    logger, handler = logging.getLogger("lm_eval"), Collector(logging.WARNING)
    before = logger.propagate, logger.level
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it warns of the harness's padding, which stands after the text
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield collected
    finally:
        logger.removeHandler(handler)
        logger.propagate, logger.level = before
        transformers_logging.set_verbosity(verbosity)


# Two scores


@dataclass(frozen=True, eq=False)
class Change:
    """One metric of one task, now and in the baseline."""

    task: str
    metric: str
    baseline: torch.Tensor
    current: torch.Tensor
    difference: Interval  # current less baseline
    p_value: torch.Tensor  # adjusted for the number of changes that were looked at together
    paired: bool  # whether the same items were compared
    verdict: str  # "no change", "better", "worse", or "within the noise"


def compare_to_baseline(current, baseline, confidence=0.95):
    """What changed since the baseline: every metric of every task, each with an interval and a verdict.

    Both arguments are {task: {metric: scores}}, where scores are {item: score} (`HarnessRun.scores`) or the pair
    (correct, n). `baseline` may be the path of a JSON file of that form. `current` may be a function without
    arguments that makes the scores: it is called after the baseline has been read and checked, so that a missing file
    costs no evaluation.

    Result: a list of `Change`, in the order of the baseline.
    Errors: a missing file; tasks, metrics or items that only one side has.
    Convention: metrics are compared under their own names, never under one that is taken for granted. Scores of
    items are compared item by item: interval of `compare_models`, exact McNemar test (sign flips if a score is not 0 or
    1). A pair of counts on either side makes it a z-test of two proportions. p-values are adjusted by Holm over all
    changes, intervals are not. Equal scores are "no change"; a p-value of at least 1 - confidence is "within the
    noise"; higher is better.
    Source: Miller (2024), "Adding Error Bars to Evals"; Holm (1979).

    >>> now, then = {"gsm8k": {"exact_match": (923, 1319)}}, {"gsm8k": {"exact_match": (1187, 1319)}}
    >>> [change] = compare_to_baseline(now, then)
    >>> print(change.verdict, change.difference)
    worse -0.2002 (95 % interval -0.2296 to -0.1704)
    """
    if isinstance(baseline, str | Path):
        baseline = json.loads(Path(baseline).read_text(encoding="utf-8"))
    _check_mapping("baseline", "tasks", baseline)
    if not baseline:
        raise ValueError("baseline is empty; expected at least one task")
    if isinstance(current, Callable):
        current = current()
    _same_keys("tasks", current, baseline)
    for task in baseline:
        _same_keys(f"metrics of {task}", current[task], baseline[task])
    pairs = [(task, metric) for task, metrics in baseline.items() for metric in metrics]
    found = [_compare(f"{t}, {m}", current[t][m], baseline[t][m], confidence) for t, m in pairs]
    adjusted = adjust_p_values(torch.stack([p_value for *_, p_value, _ in found]))
    return [
        Change(*pair, then, now, difference, p, paired, _verdict(now - then, p, 1 - confidence))
        for pair, (then, now, difference, _, paired), p in zip(pairs, found, adjusted, strict=True)
    ]


def _same_keys(what, current, baseline):
    _check_mapping("current", what, current)
    _check_mapping("baseline", what, baseline)
    if set(current) != set(baseline):
        only = {"current": set(current) - set(baseline), "baseline": set(baseline) - set(current)}
        sides = "; ".join(f"only in {side}: {', '.join(sorted(names)[:3])}" for side, names in only.items() if names)
        raise ValueError(f"{what} differ: {sides}")


def _check_mapping(side, what, value):
    if not isinstance(value, Mapping):
        raise TypeError(f"{side} is {value!r:.60}; expected a mapping of {what}")


def _compare(name, current, baseline, confidence):
    """Baseline, current, the interval of the difference, the p-value, and whether it is paired."""
    if isinstance(current, Mapping) and isinstance(baseline, Mapping):
        _same_keys(f"items of {name}", current, baseline)
        then, now = (list(map(float, scores)) for scores in (baseline.values(), (current[i] for i in baseline)))
        result = compare_models(then, now, confidence=confidence, rng=0)
        p_value = result.p_value if result.mcnemar_p_value is None else result.mcnemar_p_value
        return result.mean_a, result.mean_b, result.difference, p_value, True
    (k, n), (k_before, n_before) = (_counted(name, scores) for scores in (current, baseline))
    result = two_proportion_z_test(k, n, k_before, n_before, confidence)
    return (
        torch.tensor(k_before / n_before).double(),
        torch.tensor(k / n).double(),
        result.interval,
        result.p_value,
        False,
    )


def _counted(name, scores):
    """(correct, n) of scores that are a pair already, or 0 and 1 for each item."""
    if isinstance(scores, Mapping):
        if set(scores.values()) - {0, 1}:
            raise ValueError(f"{name} has scores other than 0 and 1; expected those against a pair (correct, n)")
        return sum(scores.values()), len(scores)
    if len(scores) != 2:
        raise ValueError(f"{name} is {scores!r:.60}; expected {{item: score}} or a pair (correct, n)")
    return scores


def _verdict(change, p_value, alpha):
    if abs(change) < 1e-12:  # equal but for rounding
        return "no change"
    if p_value >= alpha:
        return "within the noise"
    return "better" if change > 0 else "worse"


# Public benchmarks


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark, as its papers describe it; None where they give no number."""

    id: str
    name: str
    items: int | None  # of the split that is usually scored
    split: str
    format: str
    metric: str
    random_baseline: float | None  # expected of an answerer that guesses
    human_baseline: float | None
    humans: str  # who they were, and how it was measured
    paper: str
    human_paper: str | None = None  # where another paper measured people


def catalog():
    """Public benchmarks by id: size, format, metric, baselines, and the paper that each number is from.

    The rows are ``data/benchmarks/catalog.yaml``. No model's scores are in it: they go stale within months, and
    belong beside the settings that gave them.

    >>> catalog()["gpqa_diamond"].items, catalog()["gpqa_main"].items
    (198, 448)
    """
    rows = yaml.safe_load(data_path("benchmarks/catalog.yaml").read_text(encoding="utf-8"))
    return {row["id"]: Benchmark(**row) for row in rows}
