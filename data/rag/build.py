"""Checks the knowledge base, its questions and answers against each other and writes the checksums.

    python data/rag/build.py

The files are not derived from anything: edit `passages.jsonl`, `questions.jsonl`, `answers.jsonl` or `cases.jsonl`
and run this again. It changes none of them; if it finds a fault it names every one and writes nothing.
"""

import hashlib
import sys
from collections import Counter
from pathlib import Path

from studyguide.rag.datasets import Answer, Passage, Question, RagSample, read_rows

HERE = Path(__file__).parent
MODELS = {"passages": Passage, "questions": Question, "answers": Answer, "cases": RagSample}
SYSTEMS = ["grounded", "hallucinating", "misled"]


def problems(passages, questions, answers):
    """What is wrong with rows that are each well formed: a list of messages, empty if all is well."""
    found = []
    for what, rows in (("passage", passages), ("question", questions)):
        ids = [row.id for row in rows]
        texts = Counter(row.text if what == "passage" else row.question for row in rows)
        found += [f"{what}s: the ids are not in ascending order"] if ids != sorted(set(ids)) else []
        found += [f"{what}: {text!r} occurs {n} times" for text, n in texts.items() if n > 1]
    for passage in passages:
        if not 30 <= (n := len(passage.text.split())) <= 90:
            found.append(f"{passage.id} has {n} words; expected 30 to 90")
    known = {passage.id for passage in passages}
    for question in questions:
        found += [f"{question.id}: no passage {name}" for name in question.relevance if name not in known]
    asked = {question.id: question for question in questions}
    for answer in answers:
        where = f"{answer.question} {answer.system}"
        if answer.question not in asked:
            found.append(f"{where}: there is no such question")
            continue
        found += [f"{where}: no passage {name}" for name in answer.context_ids if name not in known]
        found += [f"{where}: {fault}" for fault in faults(answer, asked[answer.question])]
    order = [(answer.question, answer.system) for answer in answers]
    if order != [(name, system) for name in sorted({name for name, _ in order}) for system in SYSTEMS]:
        found.append(f"answers: expected {', '.join(SYSTEMS)} for each question, in the order of the questions")
    given = {(answer.question, answer.system): answer.context_ids for answer in answers}
    for name in sorted({name for name, _ in order}):
        if given.get((name, "hallucinating")) != given.get((name, "grounded")):
            found.append(f"{name}: the grounded and the hallucinating system have different contexts")
    return found


def faults(answer, question):
    """What an answer has that its system may not have."""
    labels = {claim.label for claim in answer.claims}
    answering = {name for name, grade in question.relevance.items() if grade == 2}
    if not 3 <= len(set(answer.context_ids)) == len(answer.context_ids) <= 5:
        yield f"contexts {', '.join(answer.context_ids)}; expected 3 to 5, each once"
    if len({claim.text for claim in answer.claims}) != len(answer.claims):
        yield "a claim occurs twice"
    if answer.system == "grounded":
        if labels - {"supported"}:
            yield "a claim that is not supported"
        if not answering & set(answer.context_ids) and answering:
            yield "no passage of grade 2 among the contexts"
        if bool(labels) != bool(answering):
            yield "claims without an answer in the passages" if labels else "no claims"
    elif answer.system == "hallucinating" and not labels - {"supported"}:
        yield "every claim is supported"
    elif answer.system == "misled" and answering & set(answer.context_ids):
        yield "a passage of grade 2 among the contexts"


def checksums():
    """The text of `SHA256SUMS`, of the files as they are."""
    shipped = [HERE / f"{name}.jsonl" for name in sorted(MODELS)]
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in shipped)


def main():
    rows = {name: read_rows(HERE / f"{name}.jsonl", model) for name, model in MODELS.items()}
    if found := problems(rows["passages"], rows["questions"], rows["answers"]):
        sys.exit("\n".join(found))
    (HERE / "SHA256SUMS").write_text(checksums(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
