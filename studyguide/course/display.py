"""How results are shown: numbers rounded one way, tables as text, figures with alternative text."""

import base64
import io
import math

import matplotlib.pyplot as plt
from IPython.display import display


def rounded(value):
    """A result as text: at most four decimals, and three significant digits below 0.001.

    >>> rounded(0.31418), rounded(2), rounded(3e-05), rounded([0.5, 0.25]), rounded(float("inf"))
    ('0.3142', '2', '3.00e-05', '[0.5, 0.25]', 'inf')
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(rounded, value)) + "]"
    if not isinstance(value, float):
        return str(value)
    if math.isfinite(value) and 0 < abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value + 0:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)


def show(label, value, unit=""):
    """Print one result: a label, the rounded value, its unit.

    >>> show("KL(p || q)", 0.31418, "nats")
    KL(p || q): 0.3142 nats
    """
    print(f"{label}: {rounded(value)} {unit}".rstrip())


def table(columns):
    """Print columns of equal length as a text table: {heading: values}; words to the left, numbers to the right.

    >>> table({"word": ["sunny", "rainy"], "p": [0.4, 0.2]})
    word     p
    sunny  0.4
    rainy  0.2
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns must have equal lengths; got {lengths}")
    cells = []
    for name, values in columns.items():
        texts = [rounded(value) for value in values]
        width = max(map(len, [name, *texts]))
        words = all(isinstance(value, str) for value in values)
        cells.append([text.ljust(width) if words else text.rjust(width) for text in (name, *texts)])
    for row in zip(*cells, strict=True):
        print("  ".join(row).rstrip())


def show_figure(figure, alt):
    """Show a matplotlib figure with its alternative text: what a reader who cannot see it must know."""
    if len(alt) < 30:
        raise ValueError(f"alt must describe the figure in 30 characters or more; got {alt!r}")
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    plt.close(figure)
    display(
        {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": f"Figure: {alt}"},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )
