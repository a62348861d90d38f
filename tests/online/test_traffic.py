"""The simulated traffic: that it follows the formulas of its card, that the effects and incidents are all they say."""

import re
import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal
from scipy import stats
from sklearn.decomposition import PCA

from studyguide.datasets import path
from studyguide.online import traffic
from studyguide.online.traffic import COLUMNS, EFFECTS, INCIDENTS, Incident, simulate_experiment, simulate_operations
from studyguide.online.workload import TOPICS

BUILD = "online/build.py"
EXPERIMENT = {"n_users": 20_000, "days": 7, "pre_days": 1}
MEASURES = ("rating", "completed", "latency", "cost", "toxicity", "error", "response_tokens", "prompt_tokens")


@pytest.fixture(scope="module")
def large():
    """An experiment of 20,000 users: (users, requests)."""
    return simulate_experiment(**EXPERIMENT, rng=1)


@pytest.fixture(scope="module")
def null():
    """The same without effects."""
    return simulate_experiment(**EXPERIMENT, effects=None, rng=1)


@pytest.fixture(scope="module")
def clean():
    """Four weeks of operations without incidents."""
    return simulate_operations(incidents=(), rng=1)


@pytest.fixture(scope="module")
def troubled():
    """The same four weeks with the shipped incidents."""
    return simulate_operations(rng=1)


@pytest.fixture(scope="module")
def shipped():
    """What ships: operations()."""
    return traffic.operations()


def mean_by_user(requests, column):
    """The mean of a column over requests, and its standard error with users as the units (ratio of sums, delta method)."""
    sums = requests.dropna(subset=column).groupby("user")[column].agg(["sum", "count"])
    mean = sums["sum"].sum() / sums["count"].sum()
    residual = (sums["sum"] - mean * sums["count"]) / sums["count"].mean()
    return mean, residual.std() / len(sums) ** 0.5


def compare(requests, column):
    """Mean of A, mean of B, standard errors of both."""
    (a, error_a), (b, error_b) = (mean_by_user(requests[requests["variant"] == name], column) for name in "AB")
    return a, b, error_a, error_b


def within(frame, incident):
    return (frame["day"] >= incident.start) & (frame["day"] < incident.end)


def names(incident):
    return f"{incident.kind} {incident.start:g}"


# What ships


def test_the_files_are_a_fresh_simulation(build):
    users, experiment = simulate_experiment(rng=build.SEED)
    assert_frame_equal(traffic.users(), users, check_exact=True)
    assert_frame_equal(traffic.experiment(), experiment, check_exact=True)
    assert_frame_equal(traffic.operations(), simulate_operations(rng=build.SEED), check_exact=True)


def test_the_script_writes_the_same_again(build, tmp_path, monkeypatch):
    folder = shutil.copytree(path("online"), tmp_path / "online")
    for name in ("users", "experiment", "operations"):
        (folder / f"{name}.parquet").unlink()
    monkeypatch.setattr(build, "HERE", folder)
    monkeypatch.delattr(build, "load_sentence_encoder")  # the embeddings of known texts are kept
    build.main()
    for file in path("online").glob("*.parquet"):
        assert_frame_equal(pd.read_parquet(folder / file.name), pd.read_parquet(file), check_exact=True)
    assert (folder / "SHA256SUMS").read_text(encoding="utf-8") == build.checksums()


@pytest.mark.parametrize("load", [traffic.users, traffic.experiment, traffic.operations, traffic.prompts])
def test_a_changed_file_is_an_error_that_says_what_to_do(load, tmp_path, monkeypatch):
    folder = shutil.copytree(path("online"), tmp_path / "online")
    file = folder / f"{load.__name__}.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(traffic, "path", lambda name: tmp_path / name)
    with pytest.raises(ValueError, match=rf"{load.__name__}\.parquet has another sha256.*python data/online/build\.py"):
        load()


def test_another_changed_file_is_none_of_the_readers_business(tmp_path, monkeypatch):
    folder = shutil.copytree(path("online"), tmp_path / "online")
    (folder / "prompts.yaml").write_text("changed: {}\n", encoding="utf-8")
    monkeypatch.setattr(traffic, "path", lambda name: tmp_path / name)
    assert len(traffic.prompts())


def test_the_folder_is_small():
    assert sum(file.stat().st_size for file in path("online").iterdir()) < 8e6


def test_the_card_states_the_sizes():
    card = path("online/README.md").read_text(encoding="utf-8")
    for load in (traffic.users, traffic.experiment, traffic.operations, traffic.prompts):
        assert re.search(rf"\| `{load.__name__}\.parquet` \| {len(load()):,} \|", card), load.__name__


def test_the_card_states_the_incidents_and_effects():
    card = path("online/README.md").read_text(encoding="utf-8")
    for incident in INCIDENTS:
        row = f"| {incident.kind} | {incident.start:.3f} | {incident.end:.3f} |"
        assert row in card, row
    for name, value in EFFECTS.items():
        assert f"| `{name}` | {value:.2f} |" in card


@pytest.mark.parametrize("load", [traffic.experiment, traffic.operations])
def test_requests_have_the_stated_columns_and_ranges(load):
    frame = load()
    extra = ["variant"] if load is traffic.experiment else []
    assert frame.columns.tolist() == [*COLUMNS, *extra]
    assert frame["time"].is_monotonic_increasing
    assert frame["request"].is_monotonic_increasing
    assert frame["request"].is_unique
    assert frame["day"].between(0, 28 if load is traffic.operations else 14, inclusive="left").all()
    assert_series_equal(
        (frame["time"] - frame["time"][0].normalize()) / pd.Timedelta("1D"), frame["day"], check_names=False
    )
    assert frame["time"][0].day_name() == "Monday"
    for column in ("confidence", "toxicity"):
        assert frame[column].between(0, 1).all()
    for column in ("completed", "error"):
        assert set(frame[column]) == {0, 1}
    assert set(frame["rating"].dropna()) == {1, 2, 3, 4, 5}
    assert (frame[["prompt_tokens", "response_tokens"]] > 0).all(axis=None)
    assert (frame["cost"] > 0).all()
    assert (frame["latency"].dropna() > 0).all()
    assert frame.drop(columns=["rating", "latency"]).notna().all(axis=None)
    assert (frame.groupby("session")["user"].nunique() == 1).all()
    prompts = traffic.prompts().set_index("prompt").loc[frame["prompt"]]
    for column in ("topic", "language"):
        assert (prompts[column].astype(str).to_numpy() == frame[column].astype(str).to_numpy()).all()


def test_experiment_and_users_fit_together():
    users, requests = traffic.users(), traffic.experiment()
    joined = requests.merge(users, on="user", suffixes=("", "_of_user"))
    assert len(joined) == len(requests)
    for column in ("variant", "language"):
        assert (joined[column].astype(str) == joined[f"{column}_of_user"].astype(str)).all()
    assert (requests["variant"] == requests["model"]).all()
    assert (users["pre_completion"].isna() == (users["pre_requests"] == 0)).all()
    assert users["pre_rating"].dropna().between(1, 5).all()
    assert users["user"].is_unique
    assert 0 < (~users["user"].isin(requests["user"])).sum() < 500  # some never come


def test_latencies_miss_in_their_gap_alone(shipped):
    gap = next(
        incident for incident in INCIDENTS if incident.columns == ("latency",) and incident.kind == "logging gap"
    )
    missing = shipped["latency"].isna()
    assert not missing[~within(shipped, gap)].any()
    assert missing[within(shipped, gap)].mean() == pytest.approx(0.5, abs=3 * 0.5 / within(shipped, gap).sum() ** 0.5)


def test_the_first_week_is_clean_and_windows_do_not_overlap():
    assert traffic.incidents() == list(INCIDENTS)
    assert {incident.kind for incident in INCIDENTS} == set(traffic.AFFECTED)
    edges = [edge for incident in INCIDENTS for edge in (incident.start, incident.end)]
    assert edges == sorted(edges)
    assert edges[0] >= 7
    assert edges[-1] <= 28


# Prompts


def test_prompts_are_those_of_the_templates(build):
    columns = ["prompt", "text", "topic", "language", "tokens"]
    assert_frame_equal(traffic.prompts()[columns], build.texts()[columns])


def test_prompts_are_clean_texts_in_one_block_per_topic_and_language():
    prompts = traffic.prompts()
    assert prompts["prompt"].tolist() == list(range(len(prompts)))
    assert prompts["text"].is_unique
    assert set(prompts["topic"]) == {*TOPICS, traffic.NEW_TOPIC}
    for text, language in zip(prompts["text"], prompts["language"], strict=True):
        assert unicodedata.normalize("NFC", text) == text == text.strip()
        assert text[-1] in ".?!؟"
        assert not set(text) & set("{}")
        assert any(unicodedata.name(c).startswith("ARABIC LETTER") for c in text) == (language == "ar")
    blocks = prompts.groupby(["topic", "language"], observed=True)["prompt"].agg(["min", "max", "size"])
    assert len(blocks) == 2 * 9
    assert (blocks["max"] - blocks["min"] + 1 == blocks["size"]).all()
    assert set(blocks.xs("en", level="language")["size"]) == {24}
    assert set(blocks.xs("ar", level="language")["size"]) == {8}


def test_embeddings_are_principal_components():
    values = traffic.prompts()[list(traffic.COMPONENTS)].to_numpy(np.float64)
    assert np.abs(values.mean(0)).max() < 1e-3  # rounded to 3 decimals
    variance = values.var(0)
    assert (np.diff(variance) < 1e-6).all()
    correlation = np.corrcoef(values.T)
    assert np.abs(correlation - np.eye(len(correlation))).max() < 2e-3


@pytest.mark.parametrize(("language", "share"), [("en", 0.94), ("ar", 0.65)])
def test_the_nearest_neighbours_are_as_the_card_says(language, share):
    prompts = traffic.prompts()
    values = prompts[list(traffic.COMPONENTS)].to_numpy(np.float64)
    distances = ((values[:, None] - values) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    topic, asked = prompts["topic"].to_numpy(), prompts["language"] == language
    assert (topic[distances.argmin(1)] == topic)[asked].mean() == pytest.approx(share, abs=0.02)
    assert f"{share:.0%}".replace("%", " %") in path("online/README.md").read_text(encoding="utf-8")
    assert abs(np.corrcoef(values[:, 0], asked)[0, 1]) > 0.95


def test_projection_agrees_with_scikit_learn(build):
    vectors = np.random.default_rng(1).normal(size=(50, 20)) * np.arange(20, 0, -1)
    expected = PCA(6, svd_solver="full").fit_transform(vectors)  # its signs follow the same convention
    np.testing.assert_allclose(build.project(vectors, 6), expected, atol=1e-10)


def test_embeddings_are_looked_up(shipped):
    rows = shipped.iloc[[5, 4, 5]]
    values = traffic.embeddings(rows)
    assert values.shape == (3, 16)
    assert values.dtype == np.float32
    table = traffic.prompts()
    np.testing.assert_array_equal(
        values[1], table.loc[shipped["prompt"][4], list(traffic.COMPONENTS)].astype(np.float32)
    )
    np.testing.assert_array_equal(values[0], values[2])


# The experiment


@pytest.mark.parametrize("column", ["rating", "completed"])
def test_differences_of_means_are_the_stated_effects(large, column):
    a, b, error_a, error_b = compare(large[1], column)
    assert b - a == pytest.approx(EFFECTS[column], abs=3 * np.hypot(error_a, error_b))


@pytest.mark.parametrize("column", ["latency", "cost"])
def test_factors_of_means_are_the_stated_effects(large, column):
    a, b, error_a, error_b = compare(large[1], column)
    assert np.log(b / a) == pytest.approx(np.log(EFFECTS[column]), abs=3 * np.hypot(error_a / a, error_b / b))


def test_no_other_effect(large):
    for column in ("toxicity", "error", "prompt_tokens", "response_tokens"):
        a, b, error_a, error_b = compare(large[1], column)
        assert a == pytest.approx(b, abs=3 * np.hypot(error_a, error_b))
    users, requests = large
    counts = requests.groupby("user").size().reindex(users["user"], fill_value=0).to_numpy()
    treated = (users["variant"] == "B").to_numpy()
    assert stats.ttest_ind(counts[treated], counts[~treated], equal_var=False).pvalue > 0.01


@pytest.mark.parametrize("column", MEASURES)
def test_an_a_a_test_has_no_effect(null, column):
    a, b, error_a, error_b = compare(null[1], column)
    assert a == pytest.approx(b, abs=3 * np.hypot(error_a, error_b))


def test_effects_change_their_columns_in_b_and_nothing_else():
    users, with_effects = simulate_experiment(n_users=1000, rng=2)
    same_users, without = simulate_experiment(n_users=1000, effects=None, rng=2)
    assert_frame_equal(users, same_users)  # the time before is the same
    a = with_effects["variant"] == "A"
    assert_frame_equal(with_effects[a], without[a])
    changed = ["latency", "cost", "confidence", "completed", "rating"]
    assert_frame_equal(with_effects.drop(columns=changed), without.drop(columns=changed))
    before, after = without[~a], with_effects[~a]
    np.testing.assert_allclose(after["cost"], EFFECTS["cost"] * before["cost"], atol=1.01e-6)  # of rounding
    np.testing.assert_allclose(after["confidence"] - before["confidence"], EFFECTS["completed"], atol=1.01e-4)
    assert (after["completed"] >= before["completed"]).all()
    assert (after["rating"].dropna() >= before["rating"].dropna()).all()


def test_one_effect_at_a_time():
    _, null = simulate_experiment(n_users=300, effects=None, rng=2)
    _, found = simulate_experiment(n_users=300, effects={"latency": 2}, rng=2)
    assert_frame_equal(found.drop(columns="latency"), null.drop(columns="latency"))
    factor = np.where(found["variant"] == "B", 2, 1)
    np.testing.assert_allclose(found["latency"], factor * null["latency"], atol=1.6e-3)
    _, found = simulate_experiment(n_users=300, effects={"completed": -2}, rng=2)  # further than a probability can go
    assert (found.loc[found["variant"] == "B", ["completed", "confidence"]] == 0).all(axis=None)


def test_the_tail_of_b_is_heavier(large):
    latency = large[1].groupby("variant", observed=True)["latency"]
    factors = [quantiles["B"] / quantiles["A"] for quantiles in map(latency.quantile, (0.5, 0.95, 0.99))]
    assert factors[0] < EFFECTS["latency"] < factors[1] < factors[2]


def test_the_variant_is_independent_of_what_was_before(large):
    users, _ = large
    counts = users["variant"].value_counts()
    assert stats.binomtest(int(counts["B"]), len(users), 0.5).pvalue > 0.01
    assert stats.chi2_contingency(pd.crosstab(users["variant"], users["language"])).pvalue > 0.01
    for column in ("pre_requests", "pre_completion", "pre_rating"):
        a, b = (users.loc[users["variant"] == name, column].dropna() for name in "AB")
        assert stats.ttest_ind(a, b, equal_var=False).pvalue > 0.01


def test_the_split_is_the_share_of_b():
    users, _ = simulate_experiment(n_users=5000, days=1, pre_days=1, split=0.1, rng=1)
    assert stats.binomtest(int((users["variant"] == "B").sum()), 5000, 0.1).pvalue > 0.01


def test_the_time_before_tells_of_the_time_in_it():
    users, requests = simulate_experiment(n_users=8000, effects=None, rng=3)
    after = requests.groupby("user").agg(completed=("completed", "mean"), rating=("rating", "mean"), n=("user", "size"))
    both = users.join(after, on="user")
    assert both["pre_completion"].corr(both["completed"]) == pytest.approx(0.5, abs=0.05)
    assert both["pre_rating"].corr(both["rating"]) == pytest.approx(0.5, abs=0.05)
    # Counts: sessions S | a ~ Poisson(5 a), a ~ Gamma(2) / 2, so Var S = 5 + 25 / 2 and the periods share 25 / 2. Turns
    # T ~ geometric, mean 2.4, variance 2.4 * 1.4: Var N = Var S * 2.4**2 + 5 * 2.4 * 1.4, shared 12.5 * 2.4**2.
    expected = 12.5 * 2.4**2 / (17.5 * 2.4**2 + 5 * 2.4 * 1.4)
    both["n"] = both["n"].fillna(0)
    assert both["pre_requests"].corr(both["n"]) == pytest.approx(expected, abs=0.04)
    assert both["n"].mean() == pytest.approx(12, abs=3 * (117.6 / 8000) ** 0.5 + 0.05)  # less what midnight cuts off


# The model of a request


def test_confidence_is_calibrated_in_both_models(large):
    _, requests = large
    for name in "AB":
        rows = requests[requests["variant"] == name]
        bins = rows.groupby(pd.qcut(rows["confidence"], 10), observed=True)
        n, found = bins.size(), bins["completed"].mean()
        error = (found * (1 - found) / n) ** 0.5
        assert ((found - bins["confidence"].mean()).abs() < 3 * error).all()


def test_completion_has_the_stated_level(clean):
    mean, error = mean_by_user(clean, "completed")
    assert mean == pytest.approx(0.78, abs=3 * error)
    assert (clean.loc[clean["error"] == 1, "completed"] == 0).all()
    assert stats.binomtest(int(clean["error"].sum()), len(clean), 0.005).pvalue > 0.01


def test_latency_is_lognormal_with_a_tail_that_grows_with_the_response(clean):
    tokens, latency = clean["response_tokens"], clean["latency"]
    sigma = np.minimum(0.2 + tokens / 2000, 0.8)
    noise = (np.log(latency / (0.35 + tokens / 90)) + sigma**2 / 2) / sigma
    assert stats.kstest(noise[::5], "norm").pvalue > 0.01
    short, long = (noise * sigma)[tokens < 100], (noise * sigma)[tokens > 400]
    assert long.std() > 1.5 * short.std()


def test_cost_is_of_the_tokens(clean):
    exact = 3e-6 * clean["prompt_tokens"] + 15e-6 * clean["response_tokens"]
    np.testing.assert_allclose(clean["cost"], exact, atol=0.51e-6)


def test_tokens_are_lognormal(clean):
    response = clean.loc[clean["topic"] == "billing", "response_tokens"]
    assert stats.kstest(np.log(response[::4] / 180) / 0.45, "norm").pvalue > 0.01
    pages = clean["prompt_tokens"] - traffic.prompts()["tokens"].to_numpy()[clean["prompt"]]
    assert stats.kstest(np.log(pages[::10] / 300) / 0.35, "norm").pvalue > 0.01
    medians = clean.groupby("topic", observed=True)["response_tokens"].median() / 180
    for topic, (_, _, length) in TOPICS.items():
        assert medians[topic] == pytest.approx(length, rel=0.04)


def test_toxicity_is_near_0_and_rarely_high(clean):
    high = clean["toxicity"] > 0.5
    assert stats.binomtest(int(high.sum()), len(clean), 0.004).pvalue > 0.01
    assert stats.kstest(clean.loc[~high, "toxicity"][::10], "beta", (1, 40)).pvalue > 0.01
    assert stats.kstest(clean.loc[high, "toxicity"], "uniform", (0.5, 0.5)).pvalue > 0.01


def test_ratings_follow_completion_and_are_given_by_chance(clean):
    rated = clean["rating"].notna()
    assert stats.binomtest(int(rated.sum()), len(clean), 0.3).pvalue > 0.01
    assert stats.chi2_contingency(pd.crosstab(rated, clean["completed"])).pvalue > 0.01
    means = clean.groupby("completed")["rating"].mean()
    assert means[1] - means[0] > 1.6  # and what the user's quality adds to both


def test_topics_languages_and_prompts_have_the_stated_shares(clean):
    counts = clean["topic"].value_counts()
    assert counts[traffic.NEW_TOPIC] == 0
    shares = pd.Series({topic: share for topic, (share, _, _) in TOPICS.items()})
    assert shares.sum() == pytest.approx(1)
    assert stats.chisquare(counts[shares.index], shares * len(clean)).pvalue > 0.01
    users = clean.drop_duplicates("user")["language"]
    assert stats.binomtest(int((users == "ar").sum()), len(users), 0.2).pvalue > 0.01
    prompt = clean.loc[(clean["topic"] == "billing") & (clean["language"] == "en"), "prompt"].value_counts()
    assert len(prompt) == 24
    assert stats.chisquare(prompt).pvalue > 0.01


def test_sessions_start_by_the_stated_rhythm(clean):
    start = clean.groupby("session")["day"].min()
    observed = np.bincount((24 * start).astype(int) % (7 * 24), minlength=7 * 24)
    hour = np.arange(7 * 24)
    load = (1 + 0.7 * np.cos(2 * np.pi * (hour % 24 + 0.5 - 15) / 24)) * np.where(hour < 5 * 24, 1, 0.65)
    assert stats.chisquare(observed, load / load.sum() * observed.sum()).pvalue > 0.01


def test_sessions_are_geometric_with_exponential_pauses(clean):
    early = clean[clean["session"] < clean["session"].max() - 200]  # the last ones are cut off
    turns = early.groupby("session").size()
    assert turns.mean() == pytest.approx(2.4, abs=3 * (2.4 * 1.4 / len(turns)) ** 0.5)
    assert (turns == 1).mean() == pytest.approx(1 / 2.4, abs=3 * (0.25 / len(turns)) ** 0.5)
    pauses = early.groupby("session")["day"].diff().dropna() * 86_400
    assert stats.kstest(pauses[::10], "expon", (0, 90)).pvalue > 0.01


def test_the_number_of_requests_is_the_one_asked_for(clean):
    # 3,000 users, S | a ~ Poisson(k a) sessions with k = 28 / 4.8: Var S = k + k**2 / 2; turns as above
    k = 28 / 4.8
    variance = 3000 * ((k + k**2 / 2) * 2.4**2 + k * 2.4 * 1.4)
    assert len(clean) == pytest.approx(28 * 1500, abs=3 * variance**0.5)


def test_without_incidents_nothing_drifts(clean):
    late = clean["day"] >= 14
    for column in ("latency", "cost", "response_tokens", "prompt_tokens", "toxicity"):
        assert stats.ks_2samp(clean.loc[late, column], clean.loc[~late, column]).pvalue > 0.01
    assert stats.chi2_contingency(pd.crosstab(late, clean["topic"].astype(str))).pvalue > 0.01
    for column in ("completed", "confidence", "rating"):  # which users share: compare each with himself
        by_user = clean.groupby(["user", late])[column].mean().unstack().dropna()
        assert stats.ttest_rel(by_user[True], by_user[False]).pvalue > 0.01


# Incidents


@pytest.fixture(scope="module")
def few():
    """Four weeks without incidents and few requests."""
    return simulate_operations(requests_per_day=200, incidents=(), rng=1)


@pytest.mark.parametrize("incident", INCIDENTS, ids=names)
def test_an_incident_changes_its_columns_in_its_window_and_nothing_else(few, incident):
    found = simulate_operations(requests_per_day=200, incidents=(incident,), rng=1)
    inside = within(few, incident)
    if not incident.columns:
        assert_frame_equal(found, few[~inside].reset_index(drop=True))
        return
    assert_frame_equal(found[~inside], few[~inside])
    assert_frame_equal(found.drop(columns=list(incident.columns)), few.drop(columns=list(incident.columns)))
    for column in incident.columns:
        assert (found.loc[inside, column].astype(object) != few.loc[inside, column].astype(object)).any()


def test_incidents_do_not_touch_each_other(few):
    pieces, calm = [], np.ones(len(few), dtype=bool)
    for incident in INCIDENTS:
        alone = simulate_operations(requests_per_day=200, incidents=(incident,), rng=1)
        pieces.append(alone[within(alone, incident)])
        calm &= ~within(few, incident)
    expected = pd.concat([few[calm], *pieces]).sort_values("request", ignore_index=True)
    assert_frame_equal(simulate_operations(requests_per_day=200, rng=1), expected)


@pytest.fixture(scope="module")
def effect_of(clean, troubled):
    """For a kind: the rows of its (first) window with and without it."""
    both = troubled.merge(clean, on="request", suffixes=("", "_clean"))

    def rows(kind):
        incident = next(incident for incident in INCIDENTS if incident.kind == kind and incident.columns)
        return both[within(both, incident)]

    return rows


def test_input_drift_is_a_new_topic(effect_of):
    rows = effect_of("input drift")
    new = rows["topic"] == traffic.NEW_TOPIC
    assert stats.binomtest(int(new.sum()), len(rows), 0.3).pvalue > 0.01
    assert (rows.loc[~new, "prompt"] == rows.loc[~new, "prompt_clean"]).all()
    exact = 3e-6 * rows["prompt_tokens"] + 15e-6 * rows["response_tokens"]
    np.testing.assert_allclose(rows["cost"], exact, atol=0.51e-6)
    assert stats.chisquare(rows.loc[new & (rows["language"] == "en"), "prompt"].value_counts()).pvalue > 0.01


def test_output_drift_is_longer_responses(effect_of):
    rows = effect_of("output drift")
    np.testing.assert_allclose(rows["response_tokens"], 1.5 * rows["response_tokens_clean"], atol=0.5)
    exact = 3e-6 * rows["prompt_tokens"] + 15e-6 * rows["response_tokens"]
    np.testing.assert_allclose(rows["cost"], exact, atol=0.51e-6)
    relative = rows["latency"] / (0.35 + rows["response_tokens"] / 90)
    assert relative.mean() == pytest.approx(1, abs=3 * relative.sem())


def test_concept_drift_is_seen_in_labels_alone(effect_of):
    rows = effect_of("concept drift")
    kept = rows.loc[rows["completed_clean"] == 1, "completed"]
    assert stats.binomtest(int(kept.sum()), len(kept), 0.60 / 0.78).pvalue > 0.01
    assert (rows["completed"] <= rows["completed_clean"]).all()
    assert rows["rating"].isna().equals(rows["rating_clean"].isna())
    same = rows["completed"] == rows["completed_clean"]
    assert_series_equal(rows.loc[same, "rating"], rows.loc[same, "rating_clean"], check_names=False)
    lost = (rows["rating"] - rows["rating_clean"])[~same].dropna()
    assert (lost <= 0).all()
    assert lost.mean() == pytest.approx(-1.6, abs=3 * lost.sem())


def test_a_latency_regression_hits_the_slowest_tenth(clean, effect_of):
    rows = effect_of("latency regression")
    slow = rows["latency_clean"] > np.quantile(clean["latency"], 0.9)
    np.testing.assert_allclose(rows.loc[slow, "latency"], 3 * rows.loc[slow, "latency_clean"], rtol=1e-12)
    assert (rows.loc[~slow, "latency"] == rows.loc[~slow, "latency_clean"]).all()
    assert rows["latency"].median() == rows["latency_clean"].median()
    assert stats.binomtest(int(slow.sum()), len(rows), 0.1).pvalue > 0.01


def test_a_toxic_burst_is_a_fifth(effect_of):
    rows = effect_of("toxic burst")
    changed = rows["toxicity"] != rows["toxicity_clean"]
    assert stats.binomtest(int(changed.sum()), len(rows), 0.2).pvalue > 0.01
    assert rows.loc[changed, "toxicity"].between(0.5, 1).all()


def test_an_empty_window_changes_nothing(clean):
    nothing = Incident("toxic burst", 3.0, 3.0 + 1e-9, ("toxicity",))
    assert_frame_equal(simulate_operations(incidents=[nothing], rng=1), clean)


# Randomness and bad input


def test_a_generator_goes_on_and_a_seed_repeats():
    source = np.random.default_rng(5)
    first, second = (simulate_operations(days=1, requests_per_day=200, incidents=(), rng=source) for _ in range(2))
    assert_frame_equal(first, simulate_operations(days=1, requests_per_day=200, incidents=(), rng=5))
    assert len(first) != len(second) or not first.equals(second)


def test_smallest_sizes():
    users, requests = simulate_experiment(n_users=1, days=1, pre_days=1, rng=0)
    assert len(users) == 1
    assert requests.columns.tolist() == [*COLUMNS, "variant"]
    nobody = simulate_operations(days=1, requests_per_day=1, incidents=(), rng=4)
    assert nobody.columns.tolist() == list(COLUMNS)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: simulate_experiment(n_users=0), ValueError, "n_users is 0; expected at least 1"),
        (lambda: simulate_experiment(n_users=2.5), TypeError, "n_users is 2.5; expected an integer"),
        (lambda: simulate_experiment(days=0), ValueError, "days is 0"),
        (lambda: simulate_experiment(pre_days=-1), ValueError, "pre_days is -1"),
        (lambda: simulate_experiment(split=1), ValueError, "split is 1; expected a number strictly between 0 and 1"),
        (lambda: simulate_experiment(effects=0.1), TypeError, "effects is 0.1; expected a mapping"),
        (lambda: simulate_experiment(effects={"speed": 1}), ValueError, "effects is 'speed'; expected one of 'rating'"),
        (
            lambda: simulate_experiment(effects={"cost": 0}),
            ValueError,
            "effect on cost is 0; expected a factor above 0",
        ),
        (
            lambda: simulate_experiment(effects={"rating": np.nan}),
            ValueError,
            "effect on rating is nan; expected a diff",
        ),
        (lambda: simulate_experiment(effects={"rating": "x"}), TypeError, "effect on rating is 'x'; expected a number"),
        (lambda: simulate_experiment(rng=None), TypeError, "rng is None; expected an int seed or a numpy Generator"),
        (lambda: simulate_operations(rng=True), TypeError, "rng is True"),
        (lambda: simulate_operations(requests_per_day=0), ValueError, "requests_per_day is 0"),
        (lambda: simulate_operations(days=20), ValueError, "concept drift ends on day 24.5; expected at most 20"),
        (lambda: simulate_operations(incidents=["toxic"]), TypeError, "incidents contains 'toxic'; expected Incidents"),
        (
            lambda: simulate_operations(incidents=[*INCIDENTS, Incident("logging gap", 9, 9.5, ())]),
            ValueError,
            "logging gap begins on day 9, before input drift ends on 10.0",
        ),
        (lambda: Incident("fire", 1, 2, ()), ValueError, "kind is 'fire'; expected one of 'input drift'"),
        (lambda: Incident("logging gap", 2, 2, ()), ValueError, "from day 2 to day 2; expected 0 <= start < end"),
        (lambda: Incident("logging gap", -1, 2, ()), ValueError, "from day -1"),
        (lambda: Incident("logging gap", 1, np.nan, ()), ValueError, "to day nan"),
        (
            lambda: Incident("toxic burst", 1, 2, ("cost",)),
            ValueError,
            "columns of a toxic burst are ('cost',); expected ('toxicity',)",
        ),
        (lambda: Incident("logging gap", 1, 2, ("cost",)), ValueError, "expected () or ('latency',)"),
    ],
)
def test_bad_arguments_say_what_was_expected(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
