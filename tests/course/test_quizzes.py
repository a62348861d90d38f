import html

import pytest

from studyguide.course import quizzes

ENTRY = {
    "chapter": "01_probability",
    "section": "02_divergences",
    "heading": "KL divergence",
    "level": "mid",
    "question": "Is 1 < 2?",
    "answer": "It is.",
    "follow_ups": ["And 2 < 1?"],
    "options": [
        {"text": "no", "correct": False, "explanation": "Count again."},
        {"text": "yes", "correct": True, "explanation": "Two comes later."},
    ],
}


def _walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)


def _parts(form):
    kinds = {type(widget).__name__: widget for widget in _walk(form)}
    return kinds["RadioButtons"], kinds["Button"], [w for w in _walk(form) if type(w).__name__ == "HTML"][-1]


@pytest.mark.parametrize(("choice", "verdict"), [(0, "Not quite: the answer is B."), (1, "Right.")])
def test_answering_explains_every_option(choice, verdict):
    radio, button, reply = _parts(quizzes._form(1, ENTRY))
    assert radio.value is None
    radio.value = choice
    button.click()
    assert html.escape(verdict) in reply.value
    assert "A is wrong. Count again." in reply.value
    assert "B is right. Two comes later." in reply.value


def test_answering_without_a_choice_asks_for_one():
    _, button, reply = _parts(quizzes._form(1, ENTRY))
    button.click()
    assert "Choose an option first" in reply.value


def test_quiz_has_a_fixed_text_representation(monkeypatch):
    shown = []
    monkeypatch.setattr(quizzes, "load_bank", lambda chapter: [ENTRY])
    monkeypatch.setattr(quizzes, "display", lambda data, raw: shown.append(data))
    quizzes.quiz("01_probability")
    quizzes.quiz("01_probability", section="02_divergences")
    assert shown[0]["text/plain"] == shown[1]["text/plain"] == "Question 1. Is 1 < 2?\n  A. no\n  B. yes"
    assert "application/vnd.jupyter.widget-view+json" in shown[0]


def test_a_card_unfolds_and_names_its_section():
    card = quizzes._card({key: value for key, value in ENTRY.items() if key != "options"})
    assert card.startswith("<details><summary><b>mid</b>: Is 1 &lt; 2?</summary>")
    assert card.endswith("</details>")
    assert "Shown in 1.2, KL divergence." in card
    assert "- And 2 < 1?" in card


def test_cards_leave_quiz_items_out(monkeypatch):
    monkeypatch.setattr(quizzes, "load_bank", lambda chapter: [ENTRY])
    with pytest.raises(ValueError, match="no interview questions for '02_divergences' in '01_probability'"):
        quizzes.cards("01_probability", section="02_divergences")
    with pytest.raises(ValueError, match="no quiz for 'elsewhere'"):
        quizzes.quiz("01_probability", section="elsewhere")
