"""The chapter's knowledge base, its questions and three systems' answers; and a reader for your own file of answers.

The card ``data/rag/README.md`` says how they were made. Everything is a file of JSON lines, read anew by every call and
checked by the models below; an error names each bad line.
"""

import codecs
import json
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from studyguide.datasets import path as data_path
from studyguide.datasets import verify

__all__ = [
    "Answer",
    "Claim",
    "Passage",
    "Question",
    "RagSample",
    "cases",
    "load_rag_dataset",
    "passages",
    "questions",
    "samples",
]

LISTED = 20  # problems that one error spells out; the rest are counted
ALIASES = {  # names that other tools give to our fields
    "ground_truth": "reference",
    "user_input": "question",
    "retrieved_contexts": "contexts",
    "response": "answer",
}

EXPECTED = {  # in our words, by pydantic's type of error
    "string_type": "expected text",
    "list_type": "expected a list",
    "too_short": "expected at least one item",
}


def _not_blank(text):
    if not text.strip():
        raise ValueError("expected text that is not blank")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
Texts = Annotated[list[Text], Field(min_length=1)]
Grade = Annotated[int, Field(ge=1, le=2)]
System = Literal["grounded", "hallucinating", "misled"]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Passage(_Row):
    """A passage of the knowledge base: 30 to 90 words on one matter."""

    id: Text
    title: Text
    text: Text
    source: Literal["course", "tinyworld", "guide"]


class Question(_Row):
    """A question with its reference answer (None: the passages hold none) and the graded passages.

    `relevance` maps a passage's id to 2 (it answers the question, or one part of it) or 1 (it helps); all others are 0.
    """

    id: Text
    question: Text
    reference: Text | None
    relevance: dict[str, Grade]
    topic: Text

    @model_validator(mode="after")
    def _answerable(self):
        if (self.reference is not None) != (2 in self.relevance.values()):
            raise ValueError("a reference needs a passage of grade 2, and such a passage a reference")
        return self


class Claim(_Row):
    """One statement of an answer, and what the contexts that were given say about it."""

    text: Text
    label: Literal["supported", "contradicted", "not in context"]


class Answer(_Row):
    """A system's answer as it ships; `samples` joins it with the texts that its ids stand for."""

    question: Text
    system: System
    context_ids: Texts
    answer: Text
    claims: list[Claim]


class RagSample(_Row):
    """A question, the contexts retrieved for it in the retriever's order, and the answer made from them.

    All else is optional. `claims` are labelled against the contexts; an answer that declines has none. `relevant_ids`
    are the passages judged relevant, retrieved or not.

    >>> sample = RagSample(question="Where is the salt museum?", contexts=["It is in Stenby."], answer="In Stenby.")
    >>> sample.reference is None
    True
    """

    question: Text
    contexts: Texts
    answer: Text
    reference: Text | None = None
    id: Text | None = None
    system: Text | None = None
    context_ids: list[Text] | None = None
    relevant_ids: list[Text] | None = None
    claims: list[Claim] | None = None

    @model_validator(mode="after")
    def _one_id_a_context(self):
        if self.context_ids is not None and len(self.context_ids) != len(self.contexts):
            raise ValueError(f"{len(self.context_ids)} context_ids for {len(self.contexts)} contexts; expected as many")
        return self


def passages():
    """The knowledge base: a list of Passage in the order of their ids.

    >>> len(passages()) >= 300
    True
    """
    return _shipped("passages", Passage)


def questions():
    """The questions about it: a list of Question; those with `reference` None have no answer in the passages.

    >>> any(question.reference is None for question in questions())
    True
    """
    return _shipped("questions", Question)


def samples(system=None):
    """The three systems' answers, joined with questions and contexts: a list of RagSample, of one `system` if named.

    "grounded" retrieves well and says only what it read. "hallucinating" got the same contexts and adds to them or
    contradicts them. "misled" got related passages that do not answer. `id` is the question's, so that systems can be
    compared pair by pair; `relevant_ids` are those of grade 2, then of grade 1. ValueError for another system.

    >>> sample = samples("grounded")[0]
    >>> {claim.label for claim in sample.claims}
    {'supported'}
    """
    if system not in (None, *get_args(System)):
        raise ValueError(f"system is {system!r}; expected one of {', '.join(get_args(System))}, or None for all")
    text = {passage.id: passage.text for passage in passages()}
    asked = {question.id: question for question in questions()}
    joined = []
    for answer in _shipped("answers", Answer):
        if system in (None, answer.system):
            question = asked[answer.question]
            joined.append(
                RagSample(
                    question=question.question,
                    contexts=[text[name] for name in answer.context_ids],
                    answer=answer.answer,
                    reference=question.reference,
                    id=question.id,
                    system=answer.system,
                    context_ids=answer.context_ids,
                    relevant_ids=sorted(question.relevance, key=question.relevance.get, reverse=True),
                    claims=answer.claims,
                )
            )
    return joined


def cases():
    """The guide's own examples, newly worded: a list of four RagSample.

    Both Paris cases have its base of five sentences as contexts; their `relevant_ids` are the sentences that answer.

    >>> [(case.id, len(case.contexts)) for case in cases()]
    [('ztna', 1), ('sase', 1), ('paris-capital', 5), ('paris-river', 5)]
    """
    return _shipped("cases", RagSample)


def load_rag_dataset(path):
    """Your own samples from a file of JSON lines in UTF-8: a list of RagSample.

    One object a line: "question", "contexts" (a list of at least one text) and "answer"; "reference" and the other
    fields of RagSample if you have them. Blank lines and a byte-order mark are skipped.
    ValueError names every bad line with its number, the field, what was expected and what came (the first 20 problems;
    the rest are counted), or says that the file holds no sample. Nothing is loaded from a file with a bad line.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mine = os.path.join(folder, "mine.jsonl")
    ...     _ = Path(mine).write_text('{"question": "Why?", "contexts": ["Because."], "ground_truth": "So."}')
    ...     load_rag_dataset(mine)
    Traceback (most recent call last):
    ValueError: mine.jsonl: 1 of 1 lines is bad
      line 1, answer: missing
      line 1, ground_truth: unknown field; call it reference
    """
    return read_rows(Path(path), RagSample)


def _shipped(name, model):
    folder = data_path("rag")
    if problems := verify(folder):
        raise ValueError("; ".join([*problems, "python data/rag/build.py checks an edit and writes the checksums"]))
    return read_rows(folder / f"{name}.jsonl", model)


def read_rows(file, model):
    """The rows of a file of JSON lines, each an instance of the model; one ValueError about all lines that are none."""
    rows, problems, bad = [], [], set()
    for number, line in enumerate(file.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(model.model_validate_json(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            bad.add(number)
            problems.append(f"line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1})")
        except ValidationError as error:
            bad.add(number)
            problems += [f"line {number}{_explain(each, model)}" for each in error.errors()]
    if problems:
        head = f"{file.name}: {len(bad)} of {len(bad) + len(rows)} lines {'is' if len(bad) == 1 else 'are'} bad"
        if (more := len(problems) - LISTED) > 0:
            problems[LISTED:] = [f"and {more} more problem{'s' * (more > 1)}, the last in line {max(bad)}"]
        raise ValueError("\n  ".join([head, *problems]))
    if not rows:
        raise ValueError(f"{file.name} is empty; expected a JSON object a line, each a {model.__name__}")
    return rows


def _explain(error, model):
    """Where in the line, what was expected there and what came, from one of pydantic's errors."""
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    where = f", {where[1:]}" if where else ""
    came = json.dumps(error["input"], ensure_ascii=False)
    came = came if len(came) <= 60 else f"{came[:56]} ..."
    match error["type"]:
        case "json_invalid":
            return f": not a JSON object ({error['ctx']['error'].replace('line 1 ', '')})"
        case "missing":
            return f"{where}: missing"
        case "extra_forbidden" if (name := error["loc"][-1]) in ALIASES:
            return f"{where}: unknown field; call it {ALIASES[name]}"
        case "extra_forbidden":
            fields = model.model_fields if len(error["loc"]) == 1 else Claim.model_fields
            return f"{where}: unknown field; expected {', '.join(fields)}"
        case "value_error":
            return f"{where}: {error['ctx']['error']}" + (f", came {came}" if where else "")
    expected = EXPECTED.get(error["type"]) or error["msg"].replace("Input should be", "expected")
    return f"{where}: {expected}, came {came}"
