"""Every convention of the table is that of the library named beside it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyguide.course import table
from studyguide.text.conventions import compare_conventions

WORDS = ["the", "The", "cat", "cats", "sat", "on", "mat.", "3.5", "قطة", "猫"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=4, max_size=9).map(
    " ".join
)  # nltk's own conventions begin below 4 words
CORPORA = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=4)


@given(CORPORA)
@settings(max_examples=25, deadline=None)
def test_our_score_is_that_of_the_library(corpus):
    columns = compare_conventions(*zip(*corpus, strict=True))
    assert {len(column) for column in columns.values()} == {27}
    for *names, ours, library, theirs in zip(*columns.values(), strict=True):
        assert (library == "") == (theirs == "")
        if library:
            assert ours == pytest.approx(theirs, abs=1e-9), names


def test_it_is_a_table(capsys):
    table(compare_conventions(["the cat sat on the mat", ""], [["the cat sat on the mat"], ["a dog"]]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "convention", "score", "library", "its", "score"]
    assert sum("sacrebleu" in line for line in lines) == 9


def test_conventions_are_told_apart():
    columns = compare_conventions(["The cats were running quickly."], [["the cat was running quickly"]])
    rouge = {c: s for m, c, s in zip(*list(columns.values())[:3], strict=True) if m == "ROUGE-1"}
    assert rouge["rouge"] == pytest.approx(0.6)
    assert rouge["rouge, stems"] == pytest.approx(0.8)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="references"):
        compare_conventions(["a"], ["a"])
