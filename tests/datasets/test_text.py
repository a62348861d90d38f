"""The course's texts: that they are what their card says, and that the ratings follow the model it states."""

import json
import re
import shutil
import unicodedata
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.stats import norm

from studyguide.datasets import path, text, verify

BUILD = "text/build.py"
SYSTEMS = ("good", "fair", "poor")
SUMMARIES = ("good", "extractive", "hallucinating", "off_topic")
SLIPS = {"adverb", "article", "word order", "idiom"}
FAULTS = {"number", "negation", "missing", "salad"}
NEGATION = re.compile(r"\b(?:not|no|never|nobody|nothing|neither|nor|cannot)\b|n't\b", re.IGNORECASE)
NUMBER = re.compile(
    r"\b(?:\d[\d.,:]*\d|\d|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    r"sixteen|seventeen|twenty|thirty|fifty|sixty|hundred|thousand)\b",
    re.IGNORECASE,
)


def words(sentence):
    return re.findall(r"\w+(?:['.,:]\w+)*", sentence.lower())


def overlap(a, b):
    """Share of the distinct words that both have."""
    a, b = set(words(a)), set(words(b))
    return len(a & b) / len(a | b)


def changed(before, after):
    """The words that come in and those that go, with their counts."""
    before, after = Counter(words(before)), Counter(words(after))
    return after - before, before - after


def strings(value):
    """Every text of an item but its labels."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in {"id", "kind", "slip", "fault", "error", "ratings"}:
                yield from strings(item)


@pytest.fixture(scope="module")
def marks():
    """Marks as an array: system, item, rater."""
    return np.array([[item["ratings"][system] for item in text.translations()] for system in SYSTEMS])


# The files


def test_the_files_are_as_the_script_writes_them(build):
    assert path("text/ratings.jsonl").read_text(encoding="utf-8") == build.ratings()
    assert path("text/SHA256SUMS").read_text(encoding="utf-8") == build.checksums()


def test_the_script_writes_the_same_bytes_again(build, tmp_path, monkeypatch):
    folder = shutil.copytree(path("text"), tmp_path / "text")
    (folder / "ratings.jsonl").unlink()
    (folder / "SHA256SUMS").unlink()
    monkeypatch.setattr(build, "HERE", folder)
    build.main()
    for name in ("ratings.jsonl", "SHA256SUMS"):
        assert (folder / name).read_bytes() == path(f"text/{name}").read_bytes()


def test_a_changed_file_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    folder = shutil.copytree(path("text"), tmp_path / "text")
    with (folder / "pairs.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    monkeypatch.setattr(text, "path", lambda name: folder)
    with pytest.raises(
        ValueError, match=r"pairs\.jsonl has sha256 .*; python data/text/build\.py writes the checksums"
    ):
        text.pairs()


def test_checksums_name_every_file():
    assert verify(path("text")) == []


@pytest.mark.parametrize("load", [text.translations, text.summaries, text.pairs, text.arabic])
def test_ids_are_unique_and_texts_are_clean(load):
    items = load()
    assert len({item["id"] for item in items}) == len(items)
    for found in strings(items):
        assert found == " ".join(found.split()), "one space between words"
        assert unicodedata.is_normalized("NFC", found)
        assert not re.search('["\u201c\u201d\u2018\u2019]', found), "straight apostrophes, no quotation marks"


@pytest.mark.parametrize("load", [text.translations, text.summaries, text.pairs, text.arabic])
def test_every_call_gives_its_own_items(load):
    first = load()
    first[0]["id"] = "changed"
    assert load()[0]["id"] != "changed"


# Translations


def test_translations_have_the_stated_form():
    items = text.translations()
    assert len(items) >= 60
    for item in items:
        assert set(item) == {"id", "source", "references", "systems", "slip", "fault", "ratings"}
        assert len(set(item["references"])) == 2
        assert tuple(item["systems"]) == tuple(item["ratings"]) == SYSTEMS
        assert 6 <= len(item["source"].split()) <= 30
        assert item["slip"] in SLIPS
        assert item["fault"] in FAULTS
        for rated in item["ratings"].values():
            assert len(rated) == 3
            assert all(type(mark) is int and 1 <= mark <= 5 for mark in rated)
    assert len({item["source"] for item in items}) == len(items)
    assert min(Counter(item["fault"] for item in items).values()) >= 15
    assert min(Counter(item["slip"] for item in items).values()) >= 12


def test_ratings_belong_to_their_items():
    lines = path("text/ratings.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [item["id"] for item in text.translations()]


def test_outputs_and_references_differ():
    items = text.translations()
    assert sum(item["systems"]["good"] in item["references"] for item in items) == 3
    for item in items:
        good, fair, poor = item["systems"].values()
        assert len({good, fair, poor}) == 3
        assert not {fair, poor} & set(item["references"])


def test_a_wrong_number_is_in_no_right_text():
    for item in text.translations():
        if item["fault"] == "number":
            right = [*item["references"], item["systems"]["good"]]
            wrong = set(NUMBER.findall(item["systems"]["poor"]))
            assert wrong - set().union(*(NUMBER.findall(found) for found in right)), item["id"]


def test_a_wrong_negation_has_one_more_or_fewer():
    for item in text.translations():
        if item["fault"] == "negation":
            counts = [len(NEGATION.findall(found)) for found in (item["references"][0], item["systems"]["poor"])]
            assert abs(counts[0] - counts[1]) == 1, item["id"]


def test_a_missing_half_is_missing():
    for item in text.translations():
        if item["fault"] == "missing":
            assert len(words(item["systems"]["poor"])) <= 0.6 * len(words(item["references"][0])), item["id"]


def test_word_salad_is_the_reference_in_another_order():
    for item in text.translations():
        if item["fault"] == "salad":
            salad, right = words(item["systems"]["poor"]), words(item["references"][0])
            assert sorted(salad) == sorted(right), item["id"]
            kept = set(pairwise(salad)) & set(pairwise(right))
            assert len(kept) <= 0.5 * len(right), item["id"]


# Ratings


def expected_mark(build, kind, severity):
    """1 + sum over k = 2..5 of P(mark >= k), of a normal variable rounded and clipped."""
    spread = np.hypot(build.OUTPUT_SD, build.NOISE_SD)
    return 1 + norm.sf(np.arange(1.5, 5), build.QUALITY[kind] - severity, spread).sum()


def test_the_script_draws_what_the_model_says(build):
    n, rng = 4000, np.random.default_rng(3)
    for slip, fault in zip(sorted(SLIPS), sorted(FAULTS), strict=True):
        drawn = [build.rate({"slip": slip, "fault": fault}, rng) for _ in range(n)]
        for system, kind in (("good", "good"), ("fair", slip), ("poor", fault)):
            marks = np.array([draw[system] for draw in drawn])
            exact = [expected_mark(build, kind, severity) for severity in build.SEVERITY]
            assert marks.mean(0) == pytest.approx(exact, abs=5 * 0.75 / n**0.5), kind


def test_raters_share_what_is_particular_to_an_output(build):
    rng = np.random.default_rng(4)
    marks = np.array([build.rate({"slip": "word order", "fault": "salad"}, rng)["fair"] for _ in range(8000)])
    covariance = np.cov(marks.T)
    assert covariance[np.triu_indices(3, 1)] == pytest.approx(build.OUTPUT_SD**2, abs=0.025)
    # Rounding to whole marks adds 1/12 to the variance (Sheppard's correction).
    assert np.diag(covariance) == pytest.approx(build.OUTPUT_SD**2 + build.NOISE_SD**2 + 1 / 12, abs=0.04)


def test_systems_are_ordered_for_every_rater(marks):
    means = marks.mean(1)
    assert (means[0] > means[1] + 0.5).all()
    assert (means[1] > means[2] + 0.5).all()


def test_shipped_means_are_the_models(build, marks):
    items = text.translations()
    kinds = [["good"] * len(items), [item["slip"] for item in items], [item["fault"] for item in items]]
    for system, rater in product(range(3), range(3)):
        exact = np.mean([expected_mark(build, kind, build.SEVERITY[rater]) for kind in kinds[system]])
        assert marks[system, :, rater].mean() == pytest.approx(exact, abs=4 * 0.75 / len(items) ** 0.5)


def test_severity_can_be_got_back_from_the_fair_system(build, marks):
    error = (2 * (build.NOISE_SD**2 + 1 / 12) / marks.shape[1]) ** 0.5
    assert round(error, 2) == 0.11  # as the card says
    fair = marks[1].mean(0)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert fair[a] - fair[b] == pytest.approx(build.SEVERITY[b] - build.SEVERITY[a], abs=2.5 * error)


def test_the_card_states_the_model_and_the_means(build, marks):
    card = path("text/README.md").read_text(encoding="utf-8")
    for kind, quality in build.QUALITY.items():
        assert f"| {quality} |" in card if kind == "good" else f"{kind} {quality}" in card
    assert f"N(0, {build.OUTPUT_SD}²)" in card
    assert f"N(0, {build.NOISE_SD}²)" in card
    assert "| severity | " + " | ".join(f"{severity:.1f}" for severity in build.SEVERITY) + " |" in card
    for system, means in zip(SYSTEMS, marks.mean(1), strict=True):
        assert f"| mean mark drawn, {system} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |" in card


def test_the_card_states_the_counts(build):
    card = path("text/README.md").read_text(encoding="utf-8")
    for load in (text.translations, text.summaries, text.pairs, text.arabic):
        assert re.search(rf"\| `{load.__name__}\.jsonl` \| {len(load())} \|", card)
    kinds = Counter(pair["kind"] for pair in text.pairs())
    assert "{paraphrase} paraphrases, {negation} negations, {unrelated} unrelated".format(**kinds) in card
    lengths = [len(item["article"].split()) for item in text.summaries()]
    assert f"an article ({min(lengths)} to {max(lengths)} words)" in card
    faults = Counter(item["fault"] for item in text.translations())
    assert "a wrong number ({number}), a wrong negation ({negation})".format(**faults) in card
    assert "missing ({missing}) or word salad ({salad})".format(**faults) in card


# Summaries


def test_summaries_have_the_stated_form():
    items = text.summaries()
    assert len(items) >= 30
    for item in items:
        assert set(item) == {"id", "article", "reference", "summaries", "error"}
        assert tuple(item["summaries"]) == SUMMARIES
        assert item["error"] in {"number", "entity", "negation"}
        assert 60 <= len(item["article"].split()) <= 120
        for found in (item["reference"], *(item["summaries"][name] for name in ("good", "hallucinating", "off_topic"))):
            assert 15 <= len(found.split()) <= 30
    found = list(strings(items))
    assert len(set(found)) == len(found)


def test_the_extractive_summary_is_the_first_sentence():
    for item in text.summaries():
        extractive = item["summaries"]["extractive"]
        assert item["article"].startswith(extractive + " ")
        assert extractive.endswith(".")
        assert ". " not in extractive


def test_a_hallucination_is_the_reference_but_for_one_fact():
    for item in text.summaries():
        wrong = item["summaries"]["hallucinating"]
        comes, goes = changed(item["reference"], wrong)
        assert 1 <= comes.total() + goes.total() <= 6, item["id"]
        assert overlap(item["reference"], wrong) > 0.75
        if item["error"] in {"number", "entity"}:
            [[new, _]] = comes.items()
            assert new not in words(item["article"]), item["id"]
            assert new not in words(item["summaries"]["good"]), item["id"]
            assert bool(NUMBER.fullmatch(new)) == (item["error"] == "number")


def test_a_good_summary_is_faithful_in_numbers_and_in_its_own_words():
    for item in text.summaries():
        good = item["summaries"]["good"]
        assert set(re.findall(r"\d[\d.,:]*", good)) <= set(re.findall(r"\d[\d.,:]*", item["article"])), item["id"]
        assert overlap(good, item["reference"]) < 0.5
        assert overlap(good, item["summaries"]["extractive"]) < 0.5


def test_off_topic_shares_no_name_and_few_words():
    for item in text.summaries():
        assert overlap(item["summaries"]["off_topic"], item["reference"]) < 0.25, item["id"]


# Pairs


def test_pairs_have_the_stated_form():
    items = text.pairs()
    assert all(set(item) == {"id", "kind", "a", "b"} for item in items)
    counts = Counter(item["kind"] for item in items)
    assert set(counts) == {"paraphrase", "negation", "unrelated"}
    assert min(counts.values()) >= 40
    found = list(strings(items))
    assert len(set(found)) == len(found)


def test_half_of_the_paraphrases_share_few_words():
    shares = [overlap(pair["a"], pair["b"]) for pair in text.pairs() if pair["kind"] == "paraphrase"]
    assert max(shares[:22]) < 0.15
    assert min(shares[22:]) > 0.25
    assert np.median(shares[22:]) > 0.6


def test_a_negation_denies_with_a_minimal_edit():
    for pair in text.pairs():
        if pair["kind"] == "negation":
            assert len(NEGATION.findall(pair["a"])) == 0, pair["id"]
            assert len(NEGATION.findall(pair["b"])) == 1, pair["id"]
            comes, goes = changed(pair["a"], pair["b"])
            assert comes.total() <= 3, pair["id"]
            assert goes.total() <= 1, pair["id"]


def test_unrelated_sentences_share_few_words():
    assert max(overlap(pair["a"], pair["b"]) for pair in text.pairs() if pair["kind"] == "unrelated") < 0.3


# Arabic


def test_arabic_has_the_stated_form():
    items = text.arabic()
    assert len(items) >= 20
    for item in items:
        assert set(item) == {"id", "reference", "good", "poor", "fault"}
        assert item["fault"] in FAULTS
        for found in strings(item):
            assert all(unicodedata.name(c).startswith("ARABIC") or c in " ." for c in found), item["id"]
    found = list(strings(items))
    assert len(set(found)) == len(found)


def test_arabic_with_vowel_signs_is_as_the_card_says():
    signs = re.compile("[\u064e\u064f\u0650]")  # a, u, i
    voweled = [item["id"] for item in text.arabic() if len(signs.findall(item["reference"])) >= 10]
    assert voweled == ["ar-04", "ar-05", "ar-14", "ar-21", "ar-25"]
    last = text.arabic()[-1]
    assert re.sub("[\u064b-\u0652]", "", last["reference"]) == last["good"]


def test_poor_arabic_is_wrong_in_the_stated_way():
    for item in text.arabic():
        poor, right = item["poor"].rstrip(".").split(), item["reference"].rstrip(".").split()
        if item["fault"] == "missing":
            assert len(poor) <= 0.6 * len(right), item["id"]
        elif item["fault"] == "salad":
            assert sorted(poor) == sorted(right), item["id"]
            assert poor != right
        else:
            assert 1 <= (Counter(poor) - Counter(right)).total() + (Counter(right) - Counter(poor)).total() <= 4
