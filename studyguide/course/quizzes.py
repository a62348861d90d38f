"""The interview bank in notebooks: flash cards that unfold, and quizzes that explain every option."""

import html
import string

import ipywidgets as widgets
import yaml
from IPython.display import Markdown, display

from studyguide.datasets import path


def load_bank(chapter):
    """The entries of ``data/interview/<chapter>.yaml``, such as ``load_bank("01_probability")``."""
    return yaml.safe_load(path(f"interview/{chapter}.yaml").read_text(encoding="utf-8"))


def cards(chapter, section=None):
    """Show a chapter's interview questions as cards that unfold; `section` is a notebook, such as "02_divergences"."""
    entries = [e for e in load_bank(chapter) if "options" not in e and section in (None, e["section"])]
    if not entries:
        raise ValueError(f"section: no interview questions for {section!r} in {chapter!r}")
    display(Markdown("\n\n".join(map(_card, entries))))


def quiz(chapter, section=None):
    """Show a chapter's multiple-choice questions as a form; every option is explained once you have answered.

    It is worked with the keyboard alone: Tab to a question, arrow keys to choose, Tab and Space to answer.
    """
    entries = [e for e in load_bank(chapter) if "options" in e and section in (None, e["section"])]
    if not entries:
        raise ValueError(f"section: no quiz for {section!r} in {chapter!r}")
    form = widgets.VBox([_form(number, entry) for number, entry in enumerate(entries, 1)])
    view = {"version_major": 2, "version_minor": 0, "model_id": form.model_id}
    text = "\n\n".join(_text(number, entry) for number, entry in enumerate(entries, 1))
    display({"text/plain": text, "application/vnd.jupyter.widget-view+json": view}, raw=True)


def explain(entry, chosen):
    """What the quiz says to a chosen option: the verdict, then a line for every option, as (verdict, lines)."""
    correct = next(i for i, option in enumerate(entry["options"]) if option["correct"])
    verdict = "Right." if chosen == correct else f"Not quite: the answer is {_letter(correct)}."
    lines = []
    for i, option in enumerate(entry["options"]):
        mark = "right" if option["correct"] else "wrong"
        lines.append(f"{_letter(i)} is {mark}. {option['explanation']}")
    return verdict, lines


def _letter(i):
    return string.ascii_uppercase[i]


def _options(entry):
    return [f"{_letter(i)}. {option['text']}" for i, option in enumerate(entry["options"])]


def _text(number, entry):
    return "\n".join([f"Question {number}. {entry['question']}", *(f"  {line}" for line in _options(entry))])


def _form(number, entry):
    wide = widgets.Layout(width="auto")
    choice = widgets.RadioButtons(
        options=[(line, i) for i, line in enumerate(_options(entry))], value=None, layout=wide
    )
    button = widgets.Button(description=f"Answer question {number}", layout=widgets.Layout(width="12em"))
    reply = widgets.HTML()

    def answer(_):
        if choice.value is None:
            reply.value = "<p role='status'>Choose an option first.</p>"
            return
        verdict, lines = explain(entry, choice.value)
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        reply.value = f"<div role='status'><b>{html.escape(verdict)}</b><ul>{items}</ul></div>"

    button.on_click(answer)
    question = widgets.HTML(f"<b>Question {number}.</b> {html.escape(entry['question'])}")
    return widgets.VBox([question, choice, button, reply], layout=widgets.Layout(margin="0 0 1.2em 0"))


def _card(entry):
    follow_ups = "".join(f"\n- {question}" for question in entry["follow_ups"])
    chapter, notebook = int(entry["chapter"][:2]), int(entry["section"][:2])
    return (
        f"<details><summary><b>{entry['level']}</b>: {html.escape(entry['question'])}</summary>\n\n"
        f"{entry['answer'].strip()}\n\nExpect to be asked next:\n{follow_ups}\n\n"
        f"Shown in {chapter}.{notebook}, {entry['heading']}.\n\n</details>"
    )
