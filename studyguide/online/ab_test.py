"""From the users of an experiment to a decision: check the split, estimate each effect, ship, hold or stop.

A frame has one row per unit of randomisation: if users were assigned, a row is a user, and what a user did many times
is summed or averaged first. A metric per request is the ratio of two sums (kind "ratio").
"""

from dataclasses import dataclass, replace

import pandas as pd
import torch
from scipy import stats

from studyguide.online.assignment import shares
from studyguide.online.effects import Metric, estimate_effect
from studyguide.probability.validation import check_finite, floating, open_fraction, vectors
from studyguide.statistics.hypothesis import HypothesisResult, adjust_p_values
from studyguide.statistics.intervals import elementwise
from studyguide.statistics.power import sample_size_means, sample_size_proportions

SRM_ALPHA = 0.001  # below this p the split is taken to be broken: one false alarm in a thousand sound experiments


@dataclass(frozen=True, eq=False)
class AbReport:
    """What `analyze_ab` found; printed it is a table and a sentence."""

    effects: dict  # {name of the metric: Effect}
    srm: HypothesisResult
    units: dict  # {variant: units}, the control first
    decision: str  # "ship", "hold" or "stop"
    reason: str

    def table(self):
        """A frame with a row per metric."""
        rows = {}
        for name, effect in self.effects.items():
            lift = effect.lift
            rows[name] = {
                "role": effect.metric.role,
                **dict(zip(self.units, (effect.control, effect.treatment), strict=True)),
                "difference": float(effect.difference.estimate),
                "low": float(effect.difference.low),
                "high": float(effect.difference.high),
                "lift": None if lift is None else float(lift.estimate),
                "p": effect.p_value,
                "adjusted p": effect.adjusted_p,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __str__(self):
        from studyguide.course.display import rounded

        units = ", ".join(f"{n} in {variant}" for variant, n in self.units.items())
        split = f"units: {units}; sample ratio p = {rounded(self.srm.p_value)}"
        table = self.table().map(lambda x: "-" if x is None or x != x else rounded(x))
        return f"{split}\n{table.to_string()}\n{self.decision}: {self.reason}"


def analyze_ab(users, metrics, variant="variant", control="A", weights=None, confidence=0.95):
    """Compare two variants on several metrics and decide: an `AbReport`.

    `users` is a frame with one row per unit of randomisation, `variant` the column that says what it saw: `control` or
    one other. `metrics` is a list of `Metric`, at least one of them primary. `weights` {variant: share} is what the
    assignment promised (equal shares).

    Means, ratios and whatever has a covariate are compared by Welch's t-test (ratios linearised by the delta method),
    proportions by the z-test with Newcombe's interval. A unit without a value (NaN) is left out of that metric, never
    counted as 0; `Effect.units` says how many remain. Compare these, too: if a variant changes who has a value, those
    who have one are no longer comparable. A ratio must have both numbers for every unit (0 and 0 for none).
    p-values are two-sided, corrected by Holm over the primary metrics, and over the secondary ones among themselves.
    Guardrails are not corrected: every one of them must pass, so that more of them cannot make it easier to ship.

    The decision, its first line that holds; "gain" is the difference, signed so that more is better:

    - hold: the split is not what the weights say (p below 0.001). No effect can then be trusted.
    - stop: the whole interval of a guardrail lies beyond the accepted harm, or a primary metric is significantly worse.
    - hold: the interval of a guardrail reaches beyond the accepted harm.
    - ship: a primary metric is significantly better, and its gain is at least `practical`.
    - stop: the intervals of all primary metrics end below `practical`.
    - hold: anything else.

    Errors: no or unknown columns, no primary metric, a name used twice, other than two variants, fewer than two units
    with a value in either, values that do not fit the kind, a covariate missing for all. All are a ValueError.
    Source: Kohavi, Tang and Xu (2020), Trustworthy Online Controlled Experiments, chapters 2 and 21; Fabijan et al.
    (2019), "Diagnosing sample ratio mismatch in online controlled experiments".

    >>> users = pd.DataFrame({"variant": ["A"] * 1000 + ["B"] * 1000, "liked": [1] * 450 + [0] * 550 + [1] * 520 + [0] * 480})
    >>> print(analyze_ab(users, [Metric("liked", "proportion", practical=0.02)]))
    units: 1000 in A, 1000 in B; sample ratio p = 1
              role     A     B difference     low    high    lift       p adjusted p
    liked  primary  0.45  0.52       0.07  0.0262  0.1134  0.1556  0.0017     0.0017
    ship: liked changes by 0.07 (0.0262 to 0.1134): significantly better, and by at least 0.02
    """
    confidence = open_fraction("confidence", confidence)
    if odd := [metric for metric in metrics if not isinstance(metric, Metric)]:
        raise TypeError(f"metrics holds {odd[0]!r}; expected Metric")
    if not isinstance(users, pd.DataFrame):
        raise TypeError(f"users is a {type(users).__name__}; expected a pandas DataFrame, a row per user")
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names) or not any(metric.role == "primary" for metric in metrics):
        raise ValueError(f"metrics are {names}; expected distinct names, and at least one primary metric")
    wanted = [variant, *(x for m in metrics for x in (m.name, m.denominator, m.covariate) if x is not None)]
    if missing := [name for name in wanted if name not in users]:
        raise ValueError(f"users has no column {missing[0]!r}; it has {list(users)}")
    arms = dict(tuple(users.groupby(variant, observed=True, dropna=False)))
    if len(arms) != 2 or control not in arms or users[variant].isna().any():
        raise ValueError(f"{variant} holds {list(arms)}; expected {control!r}, the control, and one other variant")
    frames = {control: arms.pop(control), **arms}
    srm = srm_check([len(frame) for frame in frames.values()], _in_order(weights, frames))
    effects = {metric.name: estimate_effect(metric, *frames.values(), confidence) for metric in metrics}
    for role in ("primary", "secondary"):
        if family := [effect for effect in effects.values() if effect.metric.role == role]:
            adjusted = adjust_p_values([effect.p_value for effect in family]).tolist()
            effects |= {e.metric.name: replace(e, adjusted_p=p) for e, p in zip(family, adjusted, strict=True)}
    units = {name: len(frame) for name, frame in frames.items()}
    return AbReport(effects, srm, units, *_decide(effects, srm, units, 1 - confidence))


def srm_check(counts, weights=None):
    """Whether variants got the units that were promised to them: Pearson's chi-square test of counts against weights.

    The estimate is the share of each variant less its weight. A small p-value is a fault, of assignment, logging or
    filtering, and not bad luck; it says nothing about which. `analyze_ab` calls it one below 0.001.

    Shapes: counts (..., k), weights (k) that sum to 1 (equal ones); estimate (..., k), the rest (...). Each weight times
    the total should be 5 or more. Errors: counts that are not whole or all 0; weights that are not above 0.
    Source: Fabijan et al. (2019), "Diagnosing sample ratio mismatch in online controlled experiments".

    >>> srm_check([450, 550]).p_value, srm_check([4500, 5500]).p_value
    (tensor(0.0016, dtype=torch.float64), tensor(1.5240e-23, dtype=torch.float64))
    """
    (counts,) = vectors(counts=counts)
    check_finite("counts", counts)
    counts, k = counts.double(), counts.shape[-1]
    total = counts.sum(-1, keepdim=True)
    if k < 2 or (counts != counts.round()).any() or counts.amin() < 0 or not (total > 0).all():
        raise ValueError(f"counts is {counts.tolist()}; expected whole numbers, 2 variants or more, at least one unit")
    weights = [1 / k] * k if weights is None else weights
    shares(dict(enumerate(weights)))
    (weights,) = floating(weights=weights)
    weights = weights.to(counts)
    if weights.shape != (k,) or weights.amin() <= 0:
        raise ValueError(f"weights are {weights.tolist()}; expected {k} shares above 0, one for each count")
    statistic = ((counts - total * weights) ** 2 / (total * weights)).sum(-1)
    df = torch.full_like(statistic, k - 1)
    p_value = elementwise(stats.chi2.sf, statistic, df)
    return HypothesisResult(counts / total - weights, None, statistic, p_value, df)


@dataclass(frozen=True, eq=False)
class Duration:
    """How long an experiment must run."""

    control: torch.Tensor  # units, rounded up
    treatment: torch.Tensor
    weeks: torch.Tensor  # unrounded


def required_duration(
    users_per_week, effect, *, baseline=None, deviation=None, split=0.5, triggered=1.0, alpha=0.05, power=0.8
):
    """How many units and weeks it takes to find an effect that is there with this power: a `Duration`.

    `effect` is the difference to be found, in the metric's unit: from 0.45, "5 % better" is 0.0225. Give the `baseline`
    of a proportion, or the standard `deviation` of a mean between units (of a ratio: of its `linearize`). `split` is the
    treatment's share. `triggered` is the share of users who meet the change; only they are analysed. Users per week are
    new ones: who comes back is not counted again.

    Shapes: numbers that broadcast. Errors: those of chapter 02's sample sizes; split and triggered outside 0 to 1.
    Convention: chapter 02's sizes for equal arms; a split s costs (1 / s + 1 / (1 - s)) / 4 times as many units in all,
    exactly so if both arms vary alike. 90/10 takes 2.78 times as many.

    >>> duration = required_duration(1000, 0.0225, baseline=0.45)
    >>> duration.control, duration.weeks
    (tensor(7705., dtype=torch.float64), tensor(15.4100, dtype=torch.float64))
    """
    if (baseline is None) == (deviation is None):
        raise ValueError(f"baseline is {baseline}, deviation {deviation}; expected one of them")
    weekly, effect, split, triggered = floating(
        users_per_week=users_per_week, effect=effect, split=split, triggered=triggered
    )
    check_finite("users_per_week", weekly)
    if weekly.amin() <= 0:
        raise ValueError(f"users_per_week goes down to {weekly.amin():g}; expected more than 0")
    for name, share, inside in (("split", split, split < 1), ("triggered", triggered, triggered <= 1)):
        if not ((share > 0) & inside).all():
            raise ValueError(
                f"{name} is {share.tolist()}; expected shares above 0 and {'below' if name == 'split' else 'at most'} 1"
            )
    if baseline is not None:
        (baseline,) = floating(baseline=baseline)
        size = sample_size_proportions(baseline, baseline + effect, alpha, power)
    else:
        (deviation,) = floating(deviation=deviation)
        if not (deviation > 0).all():
            raise ValueError(f"deviation is {deviation.tolist()}; expected more than 0")
        size = sample_size_means(effect / deviation, alpha, power)
    total = size * (1 / split + 1 / (1 - split)) / 2
    control, treatment = ((total * share - 1e-9).ceil() for share in (1 - split, split))
    return Duration(control, treatment, (control + treatment) / (weekly * triggered))


def _in_order(weights, frames):
    """The promised shares in the order of the arms; None for equal ones."""
    if weights is None:
        return None
    if set(shares(weights)) != set(frames):
        raise ValueError(f"weights has {list(weights)}; expected the variants of the users, {list(frames)}")
    return [weights[name] for name in frames]


def _decide(effects, srm, units, alpha):
    """The decision and its reason, as `analyze_ab` documents it."""
    from studyguide.course.display import rounded

    def because(effect, text):
        interval = effect.difference
        limits = f"{rounded(interval.low)} to {rounded(interval.high)}"
        text = text.format(least=f"{effect.metric.practical:g}")
        return f"{effect.metric.name} changes by {rounded(interval.estimate)} ({limits}): {text}"

    if srm.p_value < SRM_ALPHA:
        seen = " and ".join(map(str, units.values()))
        return "hold", f"the split is broken, {seen} units (p = {rounded(srm.p_value)}): find out why, trust no effect"
    primary, guardrails = (
        [effect for effect in effects.values() if effect.metric.role == role] for role in ("primary", "guardrail")
    )
    significant = [effect for effect in primary if effect.adjusted_p <= alpha]
    for effect in guardrails:
        if effect.gain[2] < -effect.metric.practical:
            return "stop", because(effect, "worse than the accepted {least}")
    for effect in significant:
        if effect.gain[0] < 0:
            return "stop", because(effect, "significantly worse")
    for effect in guardrails:
        if effect.gain[1] < -effect.metric.practical:
            return "hold", because(effect, "it may be worse than the accepted {least}")
    for effect in significant:
        if effect.gain[0] >= effect.metric.practical:
            by = ", and by at least {least}" if effect.metric.practical else ""
            return "ship", because(effect, "significantly better" + by)
    if all(effect.gain[2] < effect.metric.practical for effect in primary):
        return "stop", because(primary[0], "a gain of {least}, the least worth shipping, is ruled out")
    if significant:
        return "hold", because(significant[0], "significantly better, but by less than the {least} worth shipping")
    return "hold", because(primary[0], "not significant, and a gain is not ruled out")
