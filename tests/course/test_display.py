import base64
import struct

import matplotlib.pyplot as plt
import pytest
import torch

from studyguide.course import display


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.314159, "0.3142"),
        (1.0, "1"),
        (-0.0, "0"),
        (-0.25, "-0.25"),
        (0.00001234, "1.23e-05"),
        (1234.56789, "1234.5679"),
        (7, "7"),
        (True, "True"),
        ("word", "word"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (torch.tensor(0.5), "0.5"),
        (torch.tensor([1, 2]), "[1, 2]"),
        ((0.12345, [1.0]), "[0.1235, [1]]"),
    ],
)
def test_rounded(value, text):
    assert display.rounded(value) == text


def test_show_prints_label_value_unit(capsys):
    display.show("entropy", torch.tensor(1.27987), "nats")
    display.show("count", 3)
    assert capsys.readouterr().out == "entropy: 1.2799 nats\ncount: 3\n"


def test_table_aligns_words_left_and_numbers_right(capsys):
    display.table({"w": ["a", "bcd"], "n": [1, 20]})
    assert capsys.readouterr().out == "w     n\na     1\nbcd  20\n"


def test_table_refuses_unequal_columns():
    with pytest.raises(ValueError, match="equal lengths; got {'a': 1, 'b': 2}"):
        display.table({"a": [1], "b": [1, 2]})


def test_figure_is_a_png_with_alternative_text_and_is_closed(monkeypatch):
    shown = {}
    monkeypatch.setattr(display, "display", lambda data, metadata, raw: shown.update(data=data, metadata=metadata))
    figure, _ = plt.subplots(figsize=(2, 1), dpi=50)
    alt = "An empty pair of axes, drawn only to be tested."
    display.show_figure(figure, alt=alt)
    png = base64.b64decode(shown["data"]["image/png"])
    assert png.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", png[16:24])) > 0
    assert b"Software" not in png, "a version in the file would change it with every matplotlib"
    assert shown["metadata"] == {"image/png": {"alt": alt}}
    assert shown["data"]["text/plain"] == f"Figure: {alt}"
    assert not plt.fignum_exists(figure.number)


def test_figure_without_real_alternative_text_is_refused():
    with pytest.raises(ValueError, match="alt must describe"):
        display.show_figure(plt.figure(), alt="plot")
    plt.close("all")
