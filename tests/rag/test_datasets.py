"""The shipped knowledge base, questions and answers are what their card says; a user's bad lines are all named."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from studyguide import datasets as data
from studyguide.datasets import path, tinyworld
from studyguide.rag.datasets import (
    LISTED,
    Answer,
    Claim,
    Passage,
    Question,
    RagSample,
    cases,
    load_rag_dataset,
    passages,
    questions,
    samples,
)

BUILD = "rag/build.py"
SYSTEMS = ("grounded", "hallucinating", "misled")
GOOD = {"question": "Why?", "contexts": ["Because.", "So."], "answer": "Because."}


@pytest.fixture(scope="module")
def answers(build):
    return build.read_rows(path("rag/answers.jsonl"), Answer)


def rows(name):
    return [json.loads(line) for line in path(f"rag/{name}.jsonl").read_text(encoding="utf-8").splitlines()]


# What ships


def test_there_is_as_much_as_promised():
    assert len(passages()) >= 300
    assert len(questions()) >= 120
    assert {passage.source for passage in passages()} == {"course", "tinyworld", "guide"}
    assert sum(question.reference is None for question in questions()) >= 16
    assert sum(list(question.relevance.values()).count(2) > 1 for question in questions()) >= 10
    for system in SYSTEMS:
        assert len(samples(system)) >= 95


def test_shipped_rows_have_exactly_the_stated_keys():
    assert all(set(row) == {"id", "title", "text", "source"} for row in rows("passages"))
    assert all(set(row) == {"id", "question", "reference", "relevance", "topic"} for row in rows("questions"))
    for row in rows("answers"):
        assert set(row) == {"question", "system", "context_ids", "answer", "claims"}
        assert all(set(claim) == {"text", "label"} for claim in row["claims"])


def test_ids_and_texts_are_unique_and_of_the_stated_length():
    for name, key in (("passages", "text"), ("questions", "question")):
        found = rows(name)
        ids = [row["id"] for row in found]
        assert ids == sorted(set(ids))
        assert all(re.fullmatch(f"{name[0]}[0-9]{{3}}", name_) for name_ in ids)
        assert len({row[key] for row in found}) == len(found)
    assert all(30 <= len(row["text"].split()) <= 90 for row in rows("passages"))


def test_build_finds_nothing_wrong(build, answers):
    assert build.problems(passages(), questions(), answers) == []


def test_build_writes_the_shipped_checksums(build):
    assert build.checksums() == path("rag/SHA256SUMS").read_text(encoding="utf-8")


def test_samples_join_answers_with_texts():
    text = {row["id"]: row["text"] for row in rows("passages")}
    asked = {row["id"]: row for row in rows("questions")}
    joined, raw = samples(), rows("answers")
    assert len(joined) == len(raw)
    for sample, row in zip(joined, raw, strict=True):
        question = asked[row["question"]]
        assert (sample.id, sample.system) == (row["question"], row["system"])
        assert (sample.question, sample.reference) == (question["question"], question["reference"])
        assert sample.contexts == [text[name] for name in row["context_ids"]]
        assert sample.context_ids == row["context_ids"]
        assert (sample.answer, [claim.model_dump() for claim in sample.claims]) == (row["answer"], row["claims"])
        grades = [question["relevance"][name] for name in sample.relevant_ids]
        assert sorted(sample.relevant_ids) == sorted(question["relevance"])
        assert grades == sorted(grades, reverse=True)


def test_samples_of_one_system_are_those_of_all_with_its_name():
    everything = samples()
    for system in SYSTEMS:
        assert samples(system) == [sample for sample in everything if sample.system == system]
    names = [[sample.id for sample in samples(system)] for system in SYSTEMS]
    assert names[0] == names[1] == names[2]


def test_an_unknown_system_is_an_error():
    with pytest.raises(ValueError, match="system is 'gold'; expected one of grounded, hallucinating, misled"):
        samples("gold")


def test_systems_do_what_their_names_say():
    relevance = {question.id: question.relevance for question in questions()}
    for sample in samples():
        labels = {claim.label for claim in sample.claims}
        answering = {name for name, grade in relevance[sample.id].items() if grade == 2}
        assert bool(answering & set(sample.context_ids)) == bool(answering and sample.system != "misled"), sample.id
        if sample.system == "grounded":
            assert labels == ({"supported"} if answering else set()), sample.id
        elif sample.system == "hallucinating":
            assert labels - {"supported"}, sample.id


def test_labels_are_all_in_use():
    labels = Counter(claim.label for sample in samples() for claim in sample.claims)
    assert set(labels) == {"supported", "contradicted", "not in context"}
    assert min(labels.values()) >= 60


def test_numbers_of_supported_claims_are_in_the_contexts():
    """But for those that have to be computed from them."""
    number = re.compile(r"\d+(?:[.,:]\d+)*")
    claims = missing = 0
    for sample in samples():
        known = set(number.findall(" ".join([sample.question, *sample.contexts])))
        for claim in sample.claims:
            found = set(number.findall(claim.text))
            if claim.label == "supported" and found:
                claims += 1
                missing += bool(found - known)
    assert claims > 100
    assert missing <= 0.08 * claims


def test_passages_agree_with_tinyworlds_grammar():
    text = {passage.title: passage.text for passage in passages()}
    france = tinyworld.next_word_distribution("The capital of France is")
    about = text["Tinyworld's sentence about France"]
    for city in ("Paris", "Lyon", "London"):
        assert f"{france[city]:.2f}" in re.search(rf"{city}\D*(0\.\d+)", about)[0]
    sky = tinyworld.next_word_distribution("The weather today is")
    percents = [f"{100 * sky[word]:.0f}" for word in ("sunny", "cloudy", "rainy", "snowy", "foggy")]
    assert re.findall(r"\d+", text["Tinyworld's sentence about the weather"])[:5] == percents
    capitals = " ".join(text[title] for title in text if title.startswith("Capitals: "))
    for country in re.findall(r"The capital of (\w+) is", path("tinyworld/grammar.txt").read_text(encoding="utf-8")):
        capital = max(p := tinyworld.next_word_distribution(f"The capital of {country} is"), key=p.get)
        if country != "France":
            assert country in capitals
            assert capital in capitals


def test_the_guides_cases_carry_its_facts():
    ztna, sase, capital, river = cases()
    assert "never trust, always verify" in ztna.contexts[0]
    assert "VPN" in ztna.reference
    assert all(part in sase.contexts[0] and part in sase.answer for part in ("SD-WAN", "SWG", "CASB", "FWaaS", "ZTNA"))
    assert capital.contexts == river.contexts
    assert [re.findall("Paris|Eiffel|Europe|London|Seine", text)[0] for text in river.contexts] == [
        "Paris",
        "Eiffel",
        "Europe",
        "London",
        "Seine",
    ]
    assert (capital.relevant_ids, river.relevant_ids) == (["paris-0"], ["paris-4"])


def test_the_card_states_the_counts():
    card = path("rag/README.md").read_text(encoding="utf-8")
    for name in ("passages", "questions", "answers", "cases"):
        assert re.search(rf"\| `{name}\.jsonl` \| {len(rows(name))} \|", card), name
    sources = Counter(passage.source for passage in passages())
    assert (
        "{course} on the course's subject, {tinyworld} on tinyworld, {guide} from the guide".format(**sources) in card
    )
    without = sum(question.reference is None for question in questions())
    assert f"{without} of the questions have no answer" in card
    labels = Counter(claim.label for sample in samples() for claim in sample.claims)
    for label, n in labels.items():
        assert f"{n} {label}" in card, label


def test_an_edited_file_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    shutil.copytree(path("rag"), tmp_path / "rag")
    monkeypatch.setattr(data, "DATA", tmp_path)
    assert len(passages()) >= 300
    with (tmp_path / "rag/passages.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(ValueError, match=r"passages\.jsonl has sha256 .*; python data/rag/build\.py checks an edit"):
        passages()


# What build.py refuses


def passage(name="p001", words=40, **change):
    return Passage(
        **{"id": name, "title": "A", "text": f"{name} word" + " word" * (words - 2), "source": "course"} | change
    )


@pytest.fixture
def small():
    """Five passages, two questions and their answers without a fault: lists to change."""
    base = [passage(f"p00{i}") for i in range(1, 6)]
    asked = [
        Question(id="q001", question="What?", reference="A.", relevance={"p001": 2, "p004": 1}, topic="t"),
        Question(id="q002", question="Who?", reference=None, relevance={}, topic="t"),
    ]
    right, wrong = Claim(text="a", label="supported"), Claim(text="b", label="contradicted")
    replies = [
        Answer(question=name, system=system, context_ids=names, answer="A.", claims=claims)
        for name, system, names, claims in (
            ("q001", "grounded", ["p001", "p002", "p003"], [right]),
            ("q001", "hallucinating", ["p001", "p002", "p003"], [right, wrong]),
            ("q001", "misled", ["p003", "p004", "p005"], []),
            ("q002", "grounded", ["p001", "p002", "p003"], []),
            ("q002", "hallucinating", ["p001", "p002", "p003"], [wrong]),
            ("q002", "misled", ["p001", "p002", "p005"], [right]),
        )
    ]
    return [base, asked, replies]


def test_build_accepts_what_has_no_fault(build, small):
    assert build.problems(*small) == []


@pytest.mark.parametrize(
    ("part", "index", "change", "message"),
    [
        (0, 0, {"id": "p009"}, "passages: the ids are not in ascending order"),
        (0, 1, {"text": "p001" + " word" * 39}, "occurs 2 times"),
        (0, 0, {"text": "too short"}, "p001 has 2 words; expected 30 to 90"),
        (0, 0, {"text": "long " * 91}, "p001 has 91 words"),
        (1, 1, {"id": "q001"}, "questions: the ids are not in ascending order"),
        (1, 1, {"question": "What?"}, "question: 'What?' occurs 2 times"),
        (1, 0, {"relevance": {"p001": 2, "p077": 1}}, "q001: no passage p077"),
        (2, 0, {"question": "q009"}, "q009 grounded: there is no such question"),
        (2, 2, {"context_ids": ["p003", "p004", "p077"]}, "q001 misled: no passage p077"),
        (2, 2, {"system": "grounded"}, "expected grounded, hallucinating, misled for each question"),
        (
            2,
            1,
            {"context_ids": ["p003", "p002", "p001"]},
            "q001: the grounded and the hallucinating system have different",
        ),
        (2, 2, {"context_ids": ["p003", "p004"]}, "q001 misled: contexts p003, p004; expected 3 to 5, each once"),
        (2, 2, {"context_ids": ["p003", "p004", "p004"]}, "expected 3 to 5, each once"),
        (2, 1, {"claims": [Claim(text="a", label="contradicted")] * 2}, "q001 hallucinating: a claim occurs twice"),
        (2, 0, {"claims": [Claim(text="a", label="contradicted")]}, "q001 grounded: a claim that is not supported"),
        (2, 0, {"context_ids": ["p002", "p003", "p004"]}, "q001 grounded: no passage of grade 2 among the contexts"),
        (2, 0, {"claims": []}, "q001 grounded: no claims"),
        (2, 3, {"claims": [Claim(text="a", label="supported")]}, "q002 grounded: claims without an answer"),
        (2, 1, {"claims": [Claim(text="a", label="supported")]}, "q001 hallucinating: every claim is supported"),
        (2, 2, {"context_ids": ["p001", "p002", "p003"]}, "q001 misled: a passage of grade 2 among the contexts"),
    ],
)
def test_build_names_each_fault(build, small, part, index, change, message):
    small[part][index] = small[part][index].model_copy(update=change)
    assert message in "\n".join(build.problems(*small))


# Models


def test_a_question_has_a_reference_exactly_if_a_passage_answers_it():
    known = {"id": "q1", "question": "What?", "topic": "t"}
    Question(**known, reference="A.", relevance={"p1": 2})
    Question(**known, reference=None, relevance={"p1": 1})
    for reference, relevance in (("A.", {}), ("A.", {"p1": 1}), (None, {"p1": 2})):
        with pytest.raises(ValidationError, match="a reference needs a passage of grade 2"):
            Question(**known, reference=reference, relevance=relevance)


@pytest.mark.parametrize("grade", [0, 3, 1.5, True, "2"])
def test_a_grade_is_1_or_2(grade):
    with pytest.raises(ValidationError):
        Question(id="q1", question="What?", topic="t", reference="A.", relevance={"p1": 2, "p2": grade})


def test_a_sample_cannot_be_changed_by_accident():
    with pytest.raises(ValidationError, match="frozen"):
        RagSample(**GOOD).answer = "Another."


# A user's own file


@pytest.fixture
def write(tmp_path):
    def written(content):
        file = tmp_path / "mine.jsonl"
        file.write_bytes(content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode())
        return file

    return written


def test_a_file_comes_back_as_it_was_written(write):
    full = GOOD | {"reference": "R.", "id": "7", "system": "ours", "context_ids": ["a", "b"], "relevant_ids": ["b"]}
    full |= {"claims": [{"text": "t", "label": "not in context"}]}
    plain, complete = load_rag_dataset(write([GOOD, full]))
    assert plain == RagSample(**GOOD)
    assert complete.model_dump() == full
    assert load_rag_dataset(str(write([GOOD]))) == [plain]


def test_fifty_questions_load(write):
    many = [GOOD | {"question": f"Why {i}?"} for i in range(50)]
    assert [sample.question for sample in load_rag_dataset(write(many))] == [row["question"] for row in many]


def test_shipped_samples_survive_a_round_trip(write):
    shipped = samples("misled")
    assert load_rag_dataset(write([sample.model_dump() for sample in shipped])) == shipped


def test_null_is_as_good_as_absent(write):
    assert load_rag_dataset(write([GOOD | {"reference": None, "claims": None}])) == [RagSample(**GOOD)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n\n", b"\n \t\n"])
def test_blank_lines_and_line_ends_do_not_matter(write, end):
    line = json.dumps(GOOD).encode()
    assert load_rag_dataset(write(end + line + end + line + end)) == [RagSample(**GOOD)] * 2


def test_a_line_separator_within_a_text_ends_no_line(write):
    row = GOOD | {"answer": "One\u2028two\x85three\x0cfour"}
    content = json.dumps(row, ensure_ascii=False).encode()
    assert load_rag_dataset(write(content))[0].answer == row["answer"]


def test_a_byte_order_mark_is_skipped(write):
    assert load_rag_dataset(write(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())) == [RagSample(**GOOD)]


def test_text_of_any_script_is_kept(write):
    row = GOOD | {"question": "ما عاصمة فرنسا؟", "answer": "باريس 🗼"}
    assert load_rag_dataset(write(json.dumps(row, ensure_ascii=False).encode()))[0].answer == row["answer"]


BAD = {
    "not JSON": ("Why?", "line 2: not a JSON object (expected value at column 1)"),
    "cut off": ('{"question": "Why?"', "line 2: not a JSON object (EOF while parsing an object at column 19)"),
    "two objects": (json.dumps(GOOD) * 2, "line 2: not a JSON object (trailing characters at column 76)"),
    "too deep": ("[" * 100_000, "line 2: not a JSON object (recursion limit exceeded at column"),
    "list": ('["Why?"]', 'line 2: expected an object, came ["Why?"]'),
    "null": ("null", "line 2: expected an object, came null"),
    "number": ({"answer": 5}, "line 2, answer: expected text, came 5"),
    "NaN": ('{"question": "Why?", "contexts": ["So."], "answer": NaN}', "line 2, answer: expected text, came NaN"),
    "no contexts": ({"contexts": []}, "line 2, contexts: expected at least one item, came []"),
    "text for a list": ({"contexts": "Because."}, 'line 2, contexts: expected a list, came "Because."'),
    "null context": ({"contexts": ["So.", None]}, "line 2, contexts[1]: expected text, came null"),
    "blank context": ({"contexts": ["So.", " "]}, 'line 2, contexts[1]: expected text that is not blank, came " "'),
    "blank answer": ({"answer": ""}, 'line 2, answer: expected text that is not blank, came ""'),
    "missing": ('{"question": "Why?", "answer": "So."}', "line 2, contexts: missing"),
    "unknown": ({"score": 1}, "line 2, score: unknown field; expected question, contexts, answer, reference, id,"),
    "ground truth": ({"ground_truth": "So."}, "line 2, ground_truth: unknown field; call it reference"),
    "user input": ({"user_input": "Why?"}, "line 2, user_input: unknown field; call it question"),
    "response": ({"response": "So."}, "line 2, response: unknown field; call it answer"),
    "retrieved": ({"retrieved_contexts": ["So."]}, "line 2, retrieved_contexts: unknown field; call it contexts"),
    "claim": (
        {"claims": [{"text": "t", "label": "supported"}, {"text": "t", "label": "yes"}]},
        "line 2, claims[1].label: expected 'supported', 'contradicted' or 'not in context', came \"yes\"",
    ),
    "claim's field": (
        {"claims": [{"text": "t", "label": "supported", "why": "w"}]},
        "line 2, claims[0].why: unknown field; expected text, label",
    ),
    "ids": ({"context_ids": ["a"]}, "line 2: 1 context_ids for 2 contexts; expected as many"),
    "long": ({"answer": ["x" * 1000]}, 'line 2, answer: expected text, came ["' + "x" * 54 + " ..."),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD)
def test_a_bad_line_is_named_with_its_fault(write, line, message):
    bad = line if isinstance(line, str) else json.dumps(GOOD | line)
    with pytest.raises(ValueError, match=r"^mine\.jsonl: 1 of 3 lines is bad\n") as error:
        load_rag_dataset(write("\n".join([json.dumps(GOOD), bad, json.dumps(GOOD)]).encode()))
    _, *problems = str(error.value).splitlines()
    assert [problem.strip().startswith(message) for problem in problems] == [True], problems


def test_what_is_not_utf_8_is_named(write):
    content = json.dumps(GOOD).encode() + b'\n{"question": "\xe4", "contexts": ["So."], "answer": "So."}'
    with pytest.raises(ValueError, match=r"line 2: not UTF-8 \(byte 0xe4 at column 15\)"):
        load_rag_dataset(write(content))
    with pytest.raises(ValueError, match=r"line 1: not UTF-8 \(byte 0xff at column 1\)"):
        load_rag_dataset(write(json.dumps(GOOD).encode("utf-16")))


def test_all_bad_lines_are_in_one_error_with_their_own_numbers(write):
    lines = ["", "nonsense", json.dumps(GOOD), "", json.dumps(GOOD | {"answer": 1, "contexts": []}), "[]"]
    with pytest.raises(ValueError, match=r"^mine\.jsonl: 3 of 4 lines are bad\n") as error:
        load_rag_dataset(write("\n".join(lines).encode()))
    assert re.findall(r"\n  line (\d+)", str(error.value)) == ["2", "5", "5", "6"]


@pytest.mark.parametrize(
    ("n", "more"),
    [
        (LISTED, []),
        (LISTED + 1, ["  and 1 more problem, the last in line 22"]),
        (99, ["  and 79 more problems, the last in line 100"]),
    ],
)
def test_a_long_list_is_cut_and_counted(write, n, more):
    with pytest.raises(ValueError, match=rf"^mine\.jsonl: {n} of {n + 1} lines are bad\n") as error:
        load_rag_dataset(write([GOOD, *[1] * n]))
    _, *problems = str(error.value).splitlines()
    assert len(problems) == LISTED + len(more)
    assert problems[LISTED:] == more


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\r\n\t", b"\xef\xbb\xbf"])
def test_a_file_without_samples_is_an_error(write, content):
    with pytest.raises(ValueError, match=r"mine\.jsonl is empty; expected a JSON object a line"):
        load_rag_dataset(write(content))


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mine\.jsonl"):
        load_rag_dataset(Path(tmp_path, "mine.jsonl"))
