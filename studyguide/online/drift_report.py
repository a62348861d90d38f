"""All columns of a frame against a reference, in one table: what drifted, by how much, and whether chance explains it."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from studyguide.online.drift import (
    category_counts,
    chi_square_of_counts,
    ks_of_sorted,
    p_text,
    pooled_rare,
    psi_of_counts,
    psi_of_sorted,
)
from studyguide.probability.validation import open_fraction
from studyguide.statistics.hypothesis import adjust_p_values, two_proportion_z_test

LEAST = 50  # values on either side that a column needs to be compared
LEVELS = 20  # numbers with no more distinct values than this are compared as categories


@dataclass(frozen=True, eq=False)
class DriftReport:
    """What `drift_report` found; printed, it is a table."""

    # A row per check, the largest effect first: column, check, effect, p, p_bh, drift, psi, change
    checks: pd.DataFrame
    parts: dict = field(repr=False)  # {column: frame of the shares of reference and current per bin or category}
    skipped: dict  # {column: why its values were not compared}
    verdict: str
    n_reference: int
    n_current: int

    @property
    def drifted(self):
        """The names of the columns of which a check says drift, the largest effect first."""
        return list(dict.fromkeys(self.checks.loc[self.checks["drift"], "column"]))

    def __str__(self):
        from studyguide.course.display import rounded

        texts = self.checks.assign(drift=np.where(self.checks["drift"], "yes", "-"))
        for name in ("effect", "psi"):
            texts[name] = [rounded(value) if np.isfinite(value) else "-" for value in texts[name]]
        for name in ("p", "p_bh"):
            texts[name] = texts[name].map(p_text)
        lines = [f"{self.n_current} rows against {self.n_reference}: {self.verdict}", texts.to_string(index=False)]
        return "\n".join(lines + [f"{column} was not compared: {why}" for column, why in self.skipped.items()])


def drift_report(reference, current, outcome=None, alpha=0.05, minimum_effect=0.0):
    """Compare two frames column by column: a `DriftReport`.

    Checks: "values" by `ks_drift` for numbers, by `chi_square_drift` for categories, booleans and numbers with at most 20
    distinct values; "missing", the share of missing values, where there are any; "outcome" for the column named by
    `outcome`, labels of 0 and 1 such as "was wrong", by their rate, those that have not come yet (missing) left out.
    Effects share a unit, a change of probability from 0 to 1: of an event "x <= t" for numbers, of a set of categories
    (total variation), of a missing value, of the outcome. So they can be compared between columns. PSI, in nats, stands
    beside (NaN for the other checks), and what changed in words.
    Drift is said where p_bh is at most `alpha` and the effect at least `minimum_effect`, which keeps a million rows from
    calling everything drift. p_bh is p corrected by Benjamini and Hochberg over all checks: among those called drift, at
    most a share alpha is false in the mean; if nothing has drifted, the chance of a single "yes" is at most alpha.
    Concept drift is an outcome that changed while no other column did. If both did, the report cannot tell whether the
    inputs have become harder or the same inputs are answered worse, and says so: compare within a category.
    Memory: one column at a time, sorted once per side; a million rows of 20 columns take seconds.
    Errors: frames of fewer than 50 rows, without columns or with other columns than each other, infinite values, an outcome
    that is not 0 and 1: a ValueError; columns of times or other types: a TypeError. A column with fewer than 50 values on a
    side is not compared, and the report says so.
    Source: Benjamini and Hochberg (1995); Rabanser, Günnemann and Lipton (2019), "Failing loudly".

    >>> reference = pd.DataFrame({"tokens": range(100), "topic": ["billing", "setup"] * 50})
    >>> current = pd.DataFrame({"tokens": range(100), "topic": ["billing", "recall"] * 50})
    >>> drift_report(reference, current).drifted
    ['topic']
    """
    open_fraction("alpha", alpha)
    if not 0 <= minimum_effect <= 1:
        raise ValueError(f"minimum_effect is {minimum_effect}; expected a change of probability, from 0 to 1")
    _check_frames(reference, current, outcome)
    rows, parts, skipped = [], {}, {}
    for column in reference.columns:
        if column == outcome:
            rows.append(_outcome(column, reference[column].dropna(), current[column].dropna()))
            continue
        sides, totals = (
            [_present(column, frame[column]) for frame in (reference, current)],
            [len(reference), len(current)],
        )
        gone = [total - len(side) for total, side in zip(totals, sides, strict=True)]
        if any(gone):
            rows.append(_rates(column, "missing", gone, totals))
        if (fewest := min(map(len, sides))) < LEAST:
            skipped[column] = f"{fewest} values on one side, fewer than {LEAST}"
            continue
        row, parts[column] = _values(column, *sides)
        rows.append(row)
    names = ["column", "check", "effect", "p", "psi", "change"]
    checks = pd.DataFrame(rows, columns=names)
    corrected = adjust_p_values(checks["p"].to_numpy(), "bh").numpy() if rows else np.zeros(0)
    checks.insert(4, "p_bh", corrected)
    checks.insert(5, "drift", (corrected <= alpha) & (checks["effect"] >= minimum_effect))
    checks = checks.sort_values(["drift", "effect"], ascending=False, kind="stable", ignore_index=True)
    return DriftReport(checks, parts, skipped, _verdict(checks), len(reference), len(current))


def plot_drift(report, column, ax=None):
    """Draw the shares of a column's bins or categories, reference against current; gives the axes.

    Errors: a column that the report has not compared.
    """
    import matplotlib.pyplot as plt

    from studyguide.course.style import GRAY, VERMILION

    if column not in report.parts:
        raise ValueError(f"column is {column!r}; expected one that was compared: {', '.join(map(str, report.parts))}")
    shares, ax = report.parts[column], ax or plt.subplots()[1]
    places, row = np.arange(len(shares)), report.checks.query("column == @column and check == 'values'").iloc[0]
    ax.bar(places - 0.2, shares["reference"], 0.4, color=GRAY, label="reference")
    ax.bar(places + 0.2, shares["current"], 0.4, color=VERMILION, hatch="//", edgecolor="white", label="current")
    ax.set_xticks(places, shares.index.astype(str), rotation=35, ha="right", fontsize=9)
    ax.set(ylabel="share of the rows", title=f"{column}: effect {row['effect']:.2f}, PSI {row['psi']:.2f}")
    ax.set_ylim(0, 1.25 * shares[["reference", "current"]].to_numpy().max())  # room for the legend
    ax.legend(frameon=False, loc="upper center", ncol=2)
    return ax


def _values(column, a, b):
    """The check of a column's values, and the shares of its bins or categories."""
    if isinstance(a, np.ndarray):
        counts = _levels(a, b)
        change = f"mean {_short(a.mean())} to {_short(b.mean())}"
        if counts is None:
            test, index = ks_of_sorted(a, b), psi_of_sorted(a, b)
            return (column, "values", test.effect, test.p_value, index.effect, change), index.parts
    else:
        counts, change = category_counts(a, b), None
    test, index = chi_square_of_counts(counts), psi_of_counts(pooled_rare(counts))
    if change is None:
        p, q = test.parts[["reference", "current"]].to_numpy().T
        most = np.abs(q - p).argmax()
        change = f"{test.parts.index[most]} {_short(p[most])} to {_short(q[most])}"
    return (column, "values", test.effect, test.p_value, index.effect, change), index.parts


def _short(value):
    """Four digits, four decimals at most."""
    return f"{round(value, 4):.4g}"


def _levels(a, b):
    """Counts of the distinct values of two sorted samples; None if there are too many."""
    if max(np.count_nonzero(x[1:] != x[:-1]) for x in (a, b)) >= LEVELS:
        return None
    levels = np.union1d(a, b)
    if len(levels) > LEVELS:
        return None
    counts = [np.diff(np.searchsorted(x, levels, "right"), prepend=0) for x in (a, b)]
    return pd.DataFrame({"reference": counts[0], "current": counts[1]}, index=[f"{level:.4g}" for level in levels])


def _outcome(column, a, b):
    for values in (a, b):
        if not len(values) or not values.isin([0, 1]).all():
            raise ValueError(
                f"outcome {column!r} must hold 0 and 1, missing where unknown, and one label a side or more"
            )
    return _rates(column, "outcome", [int((values == 1).sum()) for values in (a, b)], [len(a), len(b)])


def _rates(column, check, counts, totals):
    """The check of two rates; by Fisher's exact test where fewer than 5 are expected in a cell."""
    (k, j), (n, m) = counts, totals
    share = (k + j) / (n + m)
    if min(share, 1 - share) * min(n, m) < 5:
        p_value = stats.fisher_exact([[k, n - k], [j, m - j]]).pvalue
    else:
        p_value = two_proportion_z_test(j, m, k, n).p_value
    return column, check, abs(j / m - k / n), float(p_value), np.nan, f"share {_short(k / n)} to {_short(j / m)}"


def _present(column, values):
    """What is not missing: sorted float64 for numbers, a Series for categories."""
    dtype = values.dtype
    if (
        pd.api.types.is_bool_dtype(dtype)
        or isinstance(dtype, pd.CategoricalDtype)
        or pd.api.types.is_object_dtype(dtype)
    ):
        return values.dropna()
    if pd.api.types.is_string_dtype(dtype):
        return values.dropna()
    if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
        raise TypeError(
            f"column {column!r} has dtype {dtype}; expected numbers, booleans, strings or categories: drop it"
        )
    ordered = values.to_numpy(np.float64, na_value=np.nan, copy=True)
    ordered.sort()
    ordered = ordered[: len(ordered) - np.isnan(ordered).sum()]  # NaN is sorted to the end
    if len(ordered) and np.isinf(ordered[[0, -1]]).any():
        raise ValueError(f"column {column!r} contains infinite values; expected finite numbers, or missing ones")
    return ordered


def _check_frames(reference, current, outcome):
    for name, frame in {"reference": reference, "current": current}.items():
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"{name} is {type(frame).__name__}; expected a pandas DataFrame")
        if len(frame) < LEAST:
            raise ValueError(f"{name} has {len(frame)} rows; expected at least {LEAST}")
        if not frame.columns.is_unique or frame.columns.empty:
            raise ValueError(f"{name} has columns {list(frame.columns)}; expected at least one, and no name twice")
    if odd := set(reference.columns) ^ set(current.columns):
        raise ValueError(f"only one of the frames has {sorted(map(str, odd))}; expected the same columns in both")
    if outcome is not None and outcome not in reference.columns:
        raise ValueError(f"outcome is {outcome!r}; expected a column of the frames")


def _verdict(checks):
    found = checks[checks["drift"]]
    changed = found.loc[found["check"] == "outcome", "column"].tolist()
    inputs = ", ".join(dict.fromkeys(found.loc[found["check"] != "outcome", "column"].astype(str)))
    if changed and inputs:
        return f"{changed[0]} changed, and so did {inputs}: harder inputs or worse answers, this report cannot tell"
    if changed:
        return f"concept drift: {changed[0]} changed, and no other column did"
    return f"drift in {inputs}" if inputs else "no drift"
